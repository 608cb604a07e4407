//! Permissions as IAM judges them: what a role's statements cover, which resources a call touches, and how far the two
//! agree.

mod compare;
mod resources;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use compare::{Use, by_lambda, differences};
pub(crate) use resources::{facts_of_call, of_call};

/// What a call brings along that conditions look at, by the condition key.
pub type Facts = BTreeMap<String, String>;

/// Operators of conditions that the lab knows. All of them compare with wildcards here, since what the exact ones are
/// compared with has none.
const OPERATORS: [&str; 4] = ["StringEquals", "StringLike", "ArnEquals", "ArnLike"];

/// A statement of a policy, with everything in it resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whether it allows; else it denies.
    pub allows: bool,
    /// Services that a statement of trust is about; empty in a statement of permissions.
    pub services: Vec<String>,
    /// Its actions; patterns with `*`.
    pub actions: Vec<String>,
    /// Its resources; patterns with `*`. Empty in a statement of trust.
    pub resources: Vec<String>,
    /// What must be so, as condition key and the patterns of which one must fit.
    pub conditions: BTreeMap<String, Vec<String>>,
}

impl Statement {
    /// Reads a statement.
    pub fn read(statement: &Value) -> Result<Self> {
        let allows = match statement["Effect"].as_str() {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => bail!("a statement has no Effect: {statement}"),
        };
        Ok(Self {
            allows,
            services: texts(&statement["Principal"]["Service"])?,
            actions: texts(&statement["Action"])?,
            resources: texts(&statement["Resource"])?,
            conditions: conditions(&statement["Condition"])?,
        })
    }

    /// Whether it is about this action, on this resource, under these circumstances.
    pub fn covers(&self, action: &str, resource: &str, facts: &Facts) -> bool {
        let one_of = |patterns: &[String], text: &str| patterns.iter().any(|pattern| is_like(text, pattern));
        let holds =
            |(key, wanted): (&String, &Vec<String>)| facts.get(key).is_some_and(|told| one_of(wanted, told));
        one_of(&self.actions, action)
            && one_of(&self.resources, resource)
            && self.conditions.iter().all(holds)
    }
}

fn texts(value: &Value) -> Result<Vec<String>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(list) => list.iter().map(text).collect(),
        other => bail!("{other} is no text and no list of texts"),
    }
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"))
}

fn conditions(value: &Value) -> Result<BTreeMap<String, Vec<String>>> {
    let mut conditions = BTreeMap::new();
    for (operator, wanted) in value.as_object().into_iter().flatten() {
        if !OPERATORS.contains(&operator.as_str()) {
            bail!("the lab does not know the condition {operator}");
        }
        for (key, wanted) in wanted.as_object().into_iter().flatten() {
            conditions.insert(key.clone(), texts(wanted)?);
        }
    }
    Ok(conditions)
}

/// IAM's wildcard match: `*` stands for any number of characters, also of `:` and `/`.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    // A pattern with a `*` has a part behind it, if only an empty one.
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}

/// A role of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its logical id.
    pub id: String,
    /// Who may assume it.
    pub trust: Vec<Statement>,
    /// What it allows and denies, with its managed policies.
    pub statements: Vec<Statement>,
}

impl Role {
    /// The first of these resources on which the action is not allowed. What touches no known resource is refused only
    /// when the action is nowhere allowed.
    pub fn refuses<'a>(&self, action: &str, resources: &'a [String], facts: &Facts) -> Option<&'a str> {
        if resources.is_empty() {
            let known =
                self.allowing().any(|statement| statement.actions.iter().any(|one| is_like(action, one)));
            return (!known).then_some("*");
        }
        resources.iter().map(String::as_str).find(|resource| {
            let denied = self
                .statements
                .iter()
                .any(|statement| !statement.allows && statement.covers(action, resource, facts));
            denied || !self.allowing().any(|statement| statement.covers(action, resource, facts))
        })
    }

    /// The statements that allow something.
    pub fn allowing(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(|statement| statement.allows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn role(statements: &Value) -> Role {
        let statements = statements.as_array().unwrap().iter().map(|one| Statement::read(one).unwrap());
        Role { id: "Test".to_owned(), trust: Vec::new(), statements: statements.collect() }
    }

    fn refused<'a>(role: &Role, action: &str, resource: &'a str) -> Option<&'a str> {
        role.refuses(action, &[resource.to_owned()], &Facts::new()).map(|_| resource)
    }

    #[test]
    fn an_action_is_allowed_on_the_statement_s_resources_only() {
        let role = role(&json!([
            {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": "arn:aws:ssm:r:a:parameter/shop/*"},
            {"Effect": "Allow", "Action": ["a:One", "a:Two"], "Resource": "*"},
        ]));
        assert_eq!(refused(&role, "ssm:GetParameter", "arn:aws:ssm:r:a:parameter/shop/token"), None);
        assert!(refused(&role, "ssm:GetParameter", "arn:aws:ssm:r:a:parameter/other").is_some());
        assert!(refused(&role, "ssm:GetParameters", "arn:aws:ssm:r:a:parameter/shop/token").is_some());
        assert_eq!(refused(&role, "a:Two", "*"), None);
        // What knows no resources is asked for on all, and no ARN is that.
        assert!(refused(&role, "ssm:GetParameter", "*").is_some());
        assert_eq!(role.refuses("a:One", &[], &Facts::new()), None);
        assert_eq!(role.refuses("a:Three", &[], &Facts::new()), Some("*"));
    }

    #[test]
    fn each_resource_of_a_call_must_be_covered() {
        let role =
            role(&json!([{"Effect": "Allow", "Action": "ecs:Stop", "Resource": "service-deployment/*"}]));
        let both = ["service-deployment/a/b/c".to_owned(), "service/a/b".to_owned()];
        assert_eq!(role.refuses("ecs:Stop", &both, &Facts::new()), Some("service/a/b"));
    }

    #[test]
    fn a_denial_and_an_unmet_condition_count() {
        let role = role(&json!([
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "ec2:*", "Resource": "*",
             "Condition": {"ArnLike": {"lambda:SourceFunctionArn": "arn:aws:lambda:r:a:function:*"}}},
        ]));
        let of_a_function = Facts::from([(
            "lambda:SourceFunctionArn".to_owned(),
            "arn:aws:lambda:r:a:function:watch".to_owned(),
        )]);
        let anything = ["*".to_owned()];
        assert_eq!(role.refuses("ec2:Create", &anything, &Facts::new()), None);
        assert_eq!(role.refuses("ec2:Create", &anything, &of_a_function), Some("*"));
        assert_eq!(role.refuses("ecs:Create", &anything, &of_a_function), None);
        let odd = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"x": "y"}}});
        assert!(Statement::read(&odd).is_err(), "a condition that nobody looks at must not pass");
    }

    #[test]
    fn patterns_match_as_on_aws() {
        for (pattern, matching, other) in [
            ("*", "anything", None),
            ("a:b", "a:b", Some("a:b:c")),
            ("a:*", "a:b/c:d", Some("b:a:")),
            ("a*c", "abc", Some("abd")),
            ("a*b*c", "a-b-b-c", Some("a-c-b")),
            ("ab*b", "abb", Some("ab")),
            ("log-group:/x:*", "log-group:/x:log-stream:y", Some("log-group:/xy:log-stream:z")),
        ] {
            assert!(is_like(matching, pattern), "{pattern} {matching}");
            assert!(other.is_none_or(|other| !is_like(other, pattern)), "{pattern} {other:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_like_itself_with_any_part_hidden(text in "[a-c:/]{0,12}", from in 0_usize..12, to in 0_usize..12) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let (from, to) = (from.min(to), from.max(to));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(is_like(&text, &pattern));
        }
    }
}
