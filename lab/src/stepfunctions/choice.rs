//! The rules of a Choice state.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    TaskError,
    path::{Path, Scope},
};

/// A condition, and the state to go on with where it holds.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub(super) struct Rule {
    pub condition: Condition,
    pub next: String,
}

/// A test of the state's data.
#[derive(Debug)]
pub(super) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    IsPresent(Path, bool),
    Compare(Path, Comparison),
}

/// A test of one value; a value of another type passes none.
#[derive(Debug)]
pub(super) enum Comparison {
    StringEquals(String),
    BooleanEquals(bool),
    NumericEquals(f64),
    NumericGreaterThan(f64),
    NumericGreaterThanEquals(f64),
    NumericLessThan(f64),
    NumericLessThanEquals(f64),
}

impl TryFrom<Map<String, Value>> for Rule {
    type Error = String;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
        fields.remove("Comment");
        let next = fields.remove("Next").ok_or("a rule without Next")?;
        Ok(Self { next: operand("Next", next)?, condition: condition(fields)? })
    }
}

fn condition(mut fields: Map<String, Value>) -> Result<Condition, String> {
    let variable = fields.remove("Variable").map(|path| operand::<Path>("Variable", path)).transpose()?;
    let mut operators = fields.into_iter();
    let (Some((operator, value)), None) = (operators.next(), operators.next()) else {
        return Err("a condition needs exactly one operator".to_owned());
    };
    match (operator.as_str(), variable) {
        ("And", None) => Ok(Condition::And(conditions(value)?)),
        ("Or", None) => Ok(Condition::Or(conditions(value)?)),
        ("Not", None) => Ok(Condition::Not(Box::new(condition(operand("Not", value)?)?))),
        ("IsPresent", Some(path)) => Ok(Condition::IsPresent(path, operand("IsPresent", value)?)),
        (_, Some(path)) => Ok(Condition::Compare(path, comparison(&operator, value)?)),
        (_, None) => Err(format!("{operator} needs a Variable, or is unknown")),
    }
}

fn conditions(value: Value) -> Result<Vec<Condition>, String> {
    let all: Vec<Map<String, Value>> = operand("And, Or", value)?;
    all.into_iter().map(condition).collect()
}

fn comparison(operator: &str, value: Value) -> Result<Comparison, String> {
    Ok(match operator {
        "StringEquals" => Comparison::StringEquals(operand(operator, value)?),
        "BooleanEquals" => Comparison::BooleanEquals(operand(operator, value)?),
        "NumericEquals" => Comparison::NumericEquals(operand(operator, value)?),
        "NumericGreaterThan" => Comparison::NumericGreaterThan(operand(operator, value)?),
        "NumericGreaterThanEquals" => Comparison::NumericGreaterThanEquals(operand(operator, value)?),
        "NumericLessThan" => Comparison::NumericLessThan(operand(operator, value)?),
        "NumericLessThanEquals" => Comparison::NumericLessThanEquals(operand(operator, value)?),
        unknown => return Err(format!("the lab does not know the comparison {unknown}")),
    })
}

fn operand<T: serde::de::DeserializeOwned>(operator: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("{operator}: {error}"))
}

impl Condition {
    /// Whether the condition holds. A comparison with a value that is not there is an error, as on AWS.
    pub fn holds(&self, scope: Scope<'_>) -> Result<bool, TaskError> {
        match self {
            Self::And(all) => fold(all, scope, true),
            Self::Or(any) => fold(any, scope, false),
            Self::Not(condition) => Ok(!condition.holds(scope)?),
            Self::IsPresent(path, expected) => Ok(path.find(scope).is_some() == *expected),
            Self::Compare(path, comparison) => Ok(comparison.holds(&path.read(scope, "States.Runtime")?)),
        }
    }
}

/// Looks until a condition is not as `all` says, so that an `IsPresent` can guard what follows it.
fn fold(conditions: &[Condition], scope: Scope<'_>, all: bool) -> Result<bool, TaskError> {
    for condition in conditions {
        if condition.holds(scope)? != all {
            return Ok(!all);
        }
    }
    Ok(all)
}

impl Comparison {
    fn holds(&self, value: &Value) -> bool {
        let number = |test: &dyn Fn(f64) -> bool| value.as_f64().is_some_and(test);
        match self {
            Self::StringEquals(text) => value.as_str() == Some(text),
            Self::BooleanEquals(expected) => value.as_bool() == Some(*expected),
            #[expect(clippy::float_cmp, reason = "equal means equal to the author of a definition")]
            Self::NumericEquals(limit) => number(&|value| value == *limit),
            Self::NumericGreaterThan(limit) => number(&|value| value > *limit),
            Self::NumericGreaterThanEquals(limit) => number(&|value| value >= *limit),
            Self::NumericLessThan(limit) => number(&|value| value < *limit),
            Self::NumericLessThanEquals(limit) => number(&|value| value <= *limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(condition: Value, data: &Value) -> Result<bool, TaskError> {
        let mut rule = condition;
        rule["Next"] = json!("Next");
        let rule: Rule = serde_json::from_value(rule).unwrap();
        rule.condition.holds(Scope { data, context: &Value::Null })
    }

    #[test]
    fn conditions_hold_as_the_language_says() {
        let data = json!({"text": "a", "number": 5, "yes": true, "nothing": null});
        let text = |text: &str| json!({"Variable": "$.text", "StringEquals": text});
        let number = |operator: &str, limit: f64| json!({"Variable": "$.number", operator: limit});
        for (condition, expected) in [
            (text("a"), true),
            (text("b"), false),
            (json!({"Variable": "$.number", "StringEquals": "5"}), false),
            (json!({"Variable": "$.yes", "BooleanEquals": true}), true),
            (number("NumericEquals", 5.0), true),
            (number("NumericGreaterThan", 5.0), false),
            (number("NumericGreaterThanEquals", 5.0), true),
            (number("NumericLessThan", 5.0), false),
            (number("NumericLessThanEquals", 5.0), true),
            (json!({"Variable": "$.nothing", "IsPresent": true}), true),
            (json!({"Variable": "$.missing", "IsPresent": false}), true),
            (json!({"And": [text("a"), number("NumericLessThan", 6.0)]}), true),
            (json!({"And": [text("a"), text("b")]}), false),
            (json!({"Or": [text("b"), text("a")]}), true),
            (json!({"Or": [text("b"), text("c")]}), false),
            (json!({"Not": text("b")}), true),
        ] {
            assert_eq!(holds(condition.clone(), &data), Ok(expected), "{condition}");
        }
    }

    #[test]
    fn a_missing_variable_is_an_error_unless_guarded() {
        let missing = json!({"Variable": "$.missing", "StringEquals": "a"});
        assert_eq!(holds(missing.clone(), &json!({})).unwrap_err().error, "States.Runtime");
        let guarded = json!({"And": [{"Variable": "$.missing", "IsPresent": true}, missing]});
        assert_eq!(holds(guarded, &json!({})), Ok(false));
    }

    #[test]
    fn unknown_rules_do_not_load() {
        for rule in [
            json!({"Variable": "$.a", "StringEquals": "a"}),
            json!({"Variable": "$.a", "Next": "N"}),
            json!({"Variable": "$.a", "StringMatches": "a*", "Next": "N"}),
            json!({"Variable": "$.a", "StringEquals": "a", "IsPresent": true, "Next": "N"}),
            json!({"Variable": "$.a", "NumericEquals": "5", "Next": "N"}),
            json!({"StringEquals": "a", "Next": "N"}),
            json!({"And": [{"Variable": "$.a"}], "Next": "N"}),
        ] {
            let result: Result<Rule, _> = serde_json::from_value(rule.clone());
            assert!(result.is_err(), "{rule}");
        }
    }
}
