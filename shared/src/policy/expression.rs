//! JMESPath expressions that a policy may ask with: none that takes the whole stack, memory or time of a function. Pure.

use jmespath::Expression;
use jmespath::ast::Ast;

/// Longer expressions are not compiled: with every part the interpreter takes more of the stack.
const LONGEST: usize = 500;
/// What nests, and so takes most of the stack, in the compiler and after it. They are counted wherever they stand.
const NESTS: [char; 8] = ['(', '[', '{', '!', '&', '*', '.', '|'];
const MOST_NESTED: usize = 50;
/// So many times as much as there is of an answer an expression may make of it, at most. `[@, @] | [@, @]` makes four
/// times as much, and so on without end.
const MOST: f64 = 100.0;
/// What `to_string` makes of a control character.
const ESCAPED: f64 = 6.0;

/// The expression, or why it cannot be used.
pub(super) fn compile(text: &str) -> Result<Expression<'static>, String> {
    if text.len() > LONGEST {
        return Err(format!("an expression has at most {LONGEST} bytes, and this has {}", text.len()));
    }
    if text.matches(NESTS).count() > MOST_NESTED {
        return Err(format!(
            "an expression has at most {MOST_NESTED} brackets, dots, `|`, `!`, `&` and `*` together"
        ));
    }
    let expression =
        jmespath::compile(text).map_err(|error| format!("not a JMESPath expression: {}", error.reason))?;
    let most = Growth::of(expression.as_ast()).most;
    if most > MOST {
        return Err(format!(
            "it may make {most:.0} times as much of an answer as there is of it, and at most {MOST} times is allowed; name fewer parts of it twice"
        ));
    }
    Ok(expression)
}

/// How large something is beside what it is made of, at most.
#[derive(Debug, Clone, Copy)]
struct Growth {
    /// The result.
    result: f64,
    /// The largest of all that is made on the way to it.
    most: f64,
}

impl Growth {
    /// What is taken from the input, or small whatever the input is.
    const NONE: Self = Self { result: 1.0, most: 1.0 };

    fn of(ast: &Ast) -> Self {
        match ast {
            Ast::Identity { .. }
            | Ast::Field { .. }
            | Ast::Index { .. }
            | Ast::Slice { .. }
            | Ast::Literal { .. } => Self::NONE,
            Ast::Expref { ast: node, .. } | Ast::Flatten { node, .. } | Ast::ObjectValues { node, .. } => {
                Self::of(node)
            }
            Ast::Not { node, .. } => Self { result: 1.0, ..Self::of(node) },
            Ast::Comparison { lhs, rhs, .. } => Self { result: 1.0, ..Self::of(lhs).beside(Self::of(rhs)) },
            Ast::And { lhs, rhs, .. } | Ast::Or { lhs, rhs, .. } => Self::of(lhs).beside(Self::of(rhs)),
            Ast::Condition { predicate, then, .. } => {
                let then = Self::of(then);
                Self { result: then.result, ..Self::of(predicate).beside(then) }
            }
            Ast::Projection { lhs, rhs, .. } | Ast::Subexpr { lhs, rhs, .. } => {
                Self::of(lhs).then(Self::of(rhs))
            }
            Ast::MultiList { elements, .. } => Self::all(elements.iter()),
            Ast::MultiHash { elements, .. } => Self::all(elements.iter().map(|pair| &pair.value)),
            Ast::Function { name, args, .. } => Self::of_function(name, args),
        }
    }

    fn of_function(name: &str, args: &[Ast]) -> Self {
        // An expression is applied to what the other arguments are.
        let (applied, plain): (Vec<&Ast>, Vec<&Ast>) =
            args.iter().partition(|arg| matches!(arg, Ast::Expref { .. }));
        let of_args = applied.into_iter().map(Self::of).fold(Self::all(plain.into_iter()), Self::then);
        of_args.then(Self::NONE.times(match (name, args) {
            ("to_string", _) => ESCAPED,
            // The first argument stands between all the others.
            ("join", [Ast::Literal { value, .. }, ..]) => value.to_string().len() as f64,
            ("join", _) => f64::INFINITY,
            _ => 1.0,
        }))
    }

    /// One or the other.
    fn beside(self, other: Self) -> Self {
        Self { result: self.result.max(other.result), most: self.most.max(other.most) }
    }

    /// The other is made of what this makes.
    fn then(self, other: Self) -> Self {
        Self { result: self.result * other.result, most: self.most.max(self.result * other.most) }
    }

    /// All of them together.
    fn all<'a>(parts: impl Iterator<Item = &'a Ast>) -> Self {
        let add = |sum: Self, part: Self| {
            let result = sum.result + part.result;
            Self { result, most: sum.most.max(part.most).max(result) }
        };
        parts.map(Self::of).reduce(add).unwrap_or(Self::NONE)
    }

    fn times(self, times: f64) -> Self {
        Self { result: self.result * times, most: self.most.max(self.result * times) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(text: &str) -> f64 {
        Growth::of(jmespath::compile(text).unwrap().as_ast()).most
    }

    #[test]
    fn what_people_ask_is_compiled() {
        for text in [
            "version == '2'",
            "length(parts[?n > `1` && state == 'up'].n) > `0` && !missing",
            "services[?name == 'db'] | [?healthy].latency_ms | max(@) < `100`",
            "join(', ', sort(keys(checks))) == 'cache, db'",
            "{name: name, all: [a, b, c]} | all[0]",
            "sort_by(parts, &n)[0].n == `1`",
        ] {
            assert!(compile(text).is_ok(), "{text}: {:?}", compile(text).err());
        }
    }

    #[test]
    fn growth_is_that_of_the_largest_part() {
        for (text, expect) in [
            ("a.b[*].c", 1.0),
            ("[@, @]", 2.0),
            ("[@, @] | [@, @, @]", 6.0),
            ("[@[], @[]][] | [0]", 2.0),
            ("a[*].[b, c]", 2.0),
            ("map(&[@, @], [@, @])", 4.0),
            ("([@, @] | [@, @]) == `1`", 4.0),
            ("([@, @] == `1`) | [@, @]", 2.0),
            ("a[?[@, @]].b", 2.0),
            ("to_string(to_string(@))", 36.0),
            ("join('abc', @)", 10.0),
        ] {
            assert_eq!(most(text).to_bits(), f64::to_bits(expect), "{text}: {}", most(text));
        }
    }

    #[test]
    fn what_would_take_all_memory_is_refused() {
        let fault = |text: &str| compile(text).unwrap_err();
        for step in ["[@, @]", "[@[], @[]][]", "{a: @, b: @}", "map(&[@, @], @)"] {
            let doubled = [step; 10].join(" | ");
            assert!(fault(&doubled).contains("1024 times"), "{}", fault(&doubled));
        }
        assert!(fault("join(separator, parts)").contains("inf times"));
        assert!(fault(&"(".repeat(501)).contains("at most 500 bytes"));
        assert!(fault(&"[".repeat(51)).contains("at most 50 brackets"));
        // At the limits, what is compiled is evaluated, and nothing is the end of the stack.
        for nested in [
            "(".repeat(50),
            "!".repeat(50) + "a",
            "a[*].".repeat(25) + "b",
            "*.".repeat(50) + "b",
            "a.".repeat(249) + "b",
        ] {
            let found =
                compile(&nested).map(|expression| expression.search(serde_json::json!({"a": 1})).is_ok());
            assert_ne!(found, Ok(false), "{nested}");
        }
    }
}
