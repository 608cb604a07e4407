//! Metric math: expressions over series, evaluated timestamp by timestamp.
//!
//! Known are numbers, the ids of other queries, `+ - * /`, comparisons, `&& || !`, parentheses,
//! `FILL(series, value)`, `IF(condition, then, else)`, and `SUM`, `AVG`, `MIN`, `MAX` over an array such as
//! `[m1, m2]`. That is a part of the Common Expression Language, but for the functions, so a CEL library parses
//! and evaluates it; what else CEL knows is refused. An id here must not be a reserved word of CEL, such as `for`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::parser::PrattParser;
use cel::{Context, DeclarationError, ExecutionError, IdedExpr, Value};

use super::invalid;
use super::metric_data::MOST_DATAPOINTS;
use super::store::Grid;
use crate::api::ApiError;

/// Datapoints by timestamp in epoch seconds, and what grid they lie on.
pub(super) struct Series {
    pub grid: Grid,
    pub points: BTreeMap<i64, f64>,
}

/// An expression that is free of syntax errors and contains only what the lab knows.
pub(super) struct Expression {
    text: String,
    tree: IdedExpr,
    ids: BTreeSet<String>,
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let in_expression = |problem: String| invalid(format!("Error in expression '{text}': {problem}"));
        if text.len() > MOST_CHARACTERS {
            return Err(in_expression(format!("it is longer than {MOST_CHARACTERS} characters")));
        }
        let parser = PrattParser::new().max_recursion_depth(MOST_NESTED);
        let mut tree = parser.parse(text).map_err(|error| {
            let problems: Vec<_> = error.errors.iter().map(|error| error.msg.as_str()).collect();
            in_expression(problems.join("; "))
        })?;
        restrict(&mut tree, MOST_NESTED).map_err(in_expression)?;
        let ids = tree.references().variables().into_iter().map(str::to_owned).collect();
        Ok(Self { text: text.to_owned(), tree, ids })
    }

    /// The ids that it refers to.
    pub fn ids(&self) -> BTreeSet<&str> {
        self.ids.iter().map(String::as_str).collect()
    }

    /// The expression's own series; all ids that it refers to must be in `known`.
    ///
    /// A timestamp at which a series that matters has no point, or at which a division by zero occurs, yields none.
    /// `FILL` fills all timestamps of the request, in the future too, and also those of a series without any point.
    pub fn evaluate(&self, known: &HashMap<&str, Series>) -> Result<Series, ApiError> {
        let series: Vec<_> = self.ids().into_iter().filter_map(|id| Some((id, known.get(id)?))).collect();
        let Some(grid) = series.first().map(|(_, first)| first.grid) else {
            return Err(self.error("it refers to no metric"));
        };
        if series.iter().any(|(_, other)| other.grid != grid) {
            return Err(self.error("all metrics in an expression must have the same period"));
        }

        let mut points = BTreeMap::new();
        let mut context = context().map_err(|error| self.error(error))?;
        for at in self.timestamps(&series, grid)? {
            if let Some(value) = self.evaluate_at(at, &series, &mut context)? {
                points.insert(at, value);
            }
        }
        Ok(Series { grid, points })
    }

    /// Where a point is possible at all.
    fn timestamps(&self, series: &[(&str, &Series)], grid: Grid) -> Result<BTreeSet<i64>, ApiError> {
        if !self.tree.references().has_function(FILL) {
            return Ok(series.iter().flat_map(|(_, series)| series.points.keys().copied()).collect());
        }
        if grid.len() as usize > MOST_DATAPOINTS {
            return Err(self.error("FILL over so many datapoints"));
        }
        Ok(grid.timestamps().collect())
    }

    fn evaluate_at(
        &self,
        at: i64,
        series: &[(&str, &Series)],
        context: &mut Context,
    ) -> Result<Option<f64>, ApiError> {
        let mut complete = true;
        for (id, series) in series {
            let point = series.points.get(&at);
            complete &= point.is_some();
            context.add_variable_from_value(*id, point.map_or(Value::Null, |value| Value::Float(*value)));
        }
        match context.resolve(&self.tree) {
            Ok(value) => Ok(number(&value).filter(|number| number.is_finite())),
            Err(error) if complete && !is_about_nan(&error) => Err(self.error(error)),
            // Arithmetic on a missing point, or a comparison with zero divided by zero.
            Err(_) => Ok(None),
        }
    }

    fn error(&self, problem: impl std::fmt::Display) -> ApiError {
        invalid(format!("Error in expression '{}': {problem}", self.text))
    }
}

/// As in CloudWatch.
const MOST_CHARACTERS: usize = 2048;

/// How deep operators and calls may nest; `a + b + c` nests two deep. The evaluator needs much stack for each.
const MOST_NESTED: u16 = 40;

const FILL: &str = "FILL";
const IF: &str = "IF";

type Condense = fn(&[f64]) -> f64;

const CONDENSING: [(&str, Condense); 4] = [
    ("SUM", |numbers| numbers.iter().sum()),
    ("AVG", |numbers| numbers.iter().sum::<f64>() / numbers.len() as f64),
    ("MIN", |numbers| numbers.iter().copied().fold(f64::INFINITY, f64::min)),
    ("MAX", |numbers| numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
];

const ORDERING: [&str; 4] =
    [operators::LESS, operators::LESS_EQUALS, operators::GREATER, operators::GREATER_EQUALS];

const OTHER_OPERATORS: [&str; 10] = [
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::NEGATE,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
];

/// Refuses what is CEL but not metric math, and makes all numbers floats: 1/2 is a half.
fn restrict(tree: &mut IdedExpr, deepest: u16) -> Result<(), String> {
    match &mut tree.expr {
        Expr::Ident(_) | Expr::Literal(LiteralValue::Double(_)) => Ok(()),
        Expr::Literal(LiteralValue::Int(whole)) => {
            let float = *whole.inner() as f64;
            tree.expr = Expr::Literal(LiteralValue::Double(float.into()));
            Ok(())
        }
        Expr::Call(CallExpr { func_name, target: None, args }) => {
            let deepest = deepest.checked_sub(1).ok_or("it has too many operators and functions")?;
            restrict_arguments(func_name, args)?
                .iter_mut()
                .try_for_each(|argument| restrict(argument, deepest))
        }
        _ => {
            Err("the lab knows only numbers, ids, operators, functions, and arrays as their argument"
                .to_owned())
        }
    }
}

/// The expressions that a function or operator is applied to.
fn restrict_arguments<'a>(name: &str, arguments: &'a mut [IdedExpr]) -> Result<&'a mut [IdedExpr], String> {
    if CONDENSING.iter().any(|(known, _)| *known == name) {
        return match arguments {
            [IdedExpr { expr: Expr::List(list), .. }] if list.elements.len() >= 2 => Ok(&mut list.elements),
            _ => Err(format!("the lab knows {name} over an array of two or more series only")),
        };
    }
    match (name, arguments.len()) {
        (FILL, 2) | (IF, 3) => Ok(arguments),
        (FILL, _) => Err("FILL takes a series and a value".to_owned()),
        (IF, _) => Err("IF takes a condition and two values".to_owned()),
        _ if ORDERING.contains(&name) || OTHER_OPERATORS.contains(&name) => Ok(arguments),
        // CEL names its operators like `_%_`.
        _ => Err(format!("the lab does not know the function or operator {}", name.trim_matches('_'))),
    }
}

fn context() -> Result<Context<'static, 'static>, DeclarationError> {
    let mut context = Context::empty();
    context.add_function(FILL, fill)?;
    context.add_function(IF, choose)?;
    for (name, condense) in CONDENSING {
        context.add_function(name, move |values: Arc<Vec<Value>>| over(&values, condense))?;
    }
    Ok(context)
}

/// `FILL(series, value)`: a value where the series has none.
fn fill(value: Value, filler: Value) -> Value {
    if value == Value::Null { filler } else { value }
}

/// `IF(condition, then, else)`; a number is true unless zero.
#[allow(clippy::needless_pass_by_value, reason = "the evaluator passes arguments by value")]
fn choose(condition: Value, then: Value, otherwise: Value) -> Value {
    match number(&condition) {
        None => Value::Null,
        Some(0.0) => otherwise,
        Some(_) => then,
    }
}

/// Condenses the points of several series at one timestamp; those that are missing do not count.
fn over(values: &[Value], condense: Condense) -> Value {
    let numbers: Vec<f64> = values.iter().filter_map(number).collect();
    if numbers.is_empty() { Value::Null } else { Value::Float(condense(&numbers)) }
}

/// Comparisons count as 1 and 0.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        _ => None,
    }
}

/// CEL can order any two floats, unless one is NaN.
fn is_about_nan(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::NoSuchOverload(overload) => {
            ORDERING.contains(&overload.function())
                && overload.argument_types().iter().all(|argument| argument == "double")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { start: 0, end: 240, period: 60 };

    fn series(points: &[(i64, f64)]) -> Series {
        Series { grid: GRID, points: points.iter().copied().collect() }
    }

    /// Four minutes: requests in all but the last, errors only in the second.
    fn known() -> HashMap<&'static str, Series> {
        HashMap::from([
            ("requests", series(&[(0, 10.0), (60, 20.0), (120, 0.0)])),
            ("errors", series(&[(60, 5.0)])),
            ("none", series(&[])),
        ])
    }

    fn evaluate(text: &str) -> Result<Vec<(i64, f64)>, ApiError> {
        Ok(Expression::parse(text)?.evaluate(&known())?.points.into_iter().collect())
    }

    #[test]
    fn expressions() {
        let expected: [(&str, &[(i64, f64)]); 18] = [
            ("errors", &[(60, 5.0)]),
            ("100 * errors / requests", &[(60, 25.0)]),
            ("errors * (1 / 2)", &[(60, 2.5)]),
            ("-(errors + 1) - 2", &[(60, -8.0)]),
            ("requests / requests", &[(0, 1.0), (60, 1.0)]),
            ("FILL(errors, 0) / requests", &[(0, 0.0), (60, 0.25)]),
            ("FILL(errors, 0)", &[(0, 0.0), (60, 5.0), (120, 0.0), (180, 0.0)]),
            ("FILL(none, 1)", &[(0, 1.0), (60, 1.0), (120, 1.0), (180, 1.0)]),
            ("FILL(errors, requests)", &[(0, 10.0), (60, 5.0), (120, 0.0)]),
            ("IF(requests > 0, requests, 1)", &[(0, 10.0), (60, 20.0), (120, 1.0)]),
            ("IF(errors, errors, 1)", &[(60, 5.0)]),
            ("IF(requests / requests >= 1, 1, 0)", &[(0, 1.0), (60, 1.0)]),
            ("requests > 5 && errors > 1", &[(60, 1.0), (120, 0.0)]),
            ("!(requests > 5) || errors > 1", &[(60, 1.0), (120, 1.0)]),
            ("requests != 10", &[(0, 0.0), (60, 1.0), (120, 1.0)]),
            ("SUM([requests, errors])", &[(0, 10.0), (60, 25.0), (120, 0.0)]),
            ("MAX([requests, errors]) + MIN([requests, errors])", &[(0, 20.0), (60, 25.0), (120, 0.0)]),
            ("AVG([FILL(errors, 1), requests])", &[(0, 5.5), (60, 12.5), (120, 0.5), (180, 1.0)]),
        ];
        for (text, points) in expected {
            assert_eq!(evaluate(text).as_deref(), Ok(points), "{text}");
        }
    }

    #[test]
    fn errors_name_the_expression() {
        for text in [
            "errors +",
            "((errors)",
            "errors / nothing(1)",
            "min(errors, 1)",
            "1 + 1",
            "SUM(errors)",
            "FILL(errors)",
            "IF(errors, 1)",
            "FILL([errors, requests], 0)",
            "errors % 2",
            "errors ^ 2",
            "errors > 1 ? 1 : 2",
            "errors + 'one'",
            "size([errors, requests])",
            "[errors].all(e, e > 1)",
            "errors.requests",
            "(errors > 1) + 1",
            "for + errors",
            "",
        ] {
            let error = evaluate(text).unwrap_err();
            assert_eq!(error.code, "ValidationError", "{text}");
            assert!(error.message.contains(text), "{text}: {}", error.message);
        }
    }

    #[test]
    fn expressions_that_would_overflow_the_stack_are_refused() {
        let sum = |more: usize| format!("errors{}", " + 1".repeat(more));
        assert_eq!(evaluate(&sum(40)).as_deref(), Ok(&[(60, 45.0)][..]));
        for text in [sum(41), "(".repeat(2000), format!("errors{}", " ".repeat(2048))] {
            assert_eq!(evaluate(&text).unwrap_err().code, "ValidationError", "{text}");
        }
    }

    #[test]
    fn series_of_different_periods_do_not_mix() {
        let mut known = known();
        known.insert("hourly", Series { grid: Grid { period: 3600, ..GRID }, points: BTreeMap::new() });
        let error = Expression::parse("errors / hourly").unwrap().evaluate(&known).err().unwrap();
        assert!(error.message.contains("same period"), "{}", error.message);
    }
}
