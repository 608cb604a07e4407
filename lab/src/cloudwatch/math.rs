//! Metric math: expressions over series, evaluated timestamp by timestamp.
//!
//! Known are numbers, the ids of other queries, `+ - * /`, comparisons, parentheses, `FILL(series, value)`,
//! `IF(condition, then, else)`, and `SUM`, `AVG`, `MIN`, `MAX` over an array such as `[m1, m2]`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use evalexpr::{
    Context, ContextWithMutableFunctions, ContextWithMutableVariables, EvalexprError, EvalexprResult,
    Function, HashMapContext, Node, Operator, Value, build_operator_tree,
};

use super::invalid;
use super::metric_data::MOST_DATAPOINTS;
use super::store::Grid;
use crate::api::ApiError;

/// Datapoints by timestamp in epoch seconds, and what grid they lie on.
pub(super) struct Series {
    pub grid: Grid,
    pub points: BTreeMap<i64, f64>,
}

/// An expression that is free of syntax errors and calls only known functions.
pub(super) struct Expression {
    text: String,
    tree: Node,
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let in_expression = |problem: String| invalid(format!("Error in expression '{text}': {problem}"));
        // An array is a list like any other to the evaluator.
        let round = text.replace('[', "(").replace(']', ")");
        let mut tree: Node = build_operator_tree(&round).map_err(|error| in_expression(error.to_string()))?;
        make_constants_float(&mut tree);

        let unknown =
            tree.iter_function_identifiers().find(|name| !FUNCTIONS.iter().any(|(known, _)| known == name));
        match unknown.map(str::to_owned) {
            Some(name) => Err(in_expression(format!("the lab does not know the function {name}"))),
            None => Ok(Self { text: text.to_owned(), tree }),
        }
    }

    /// The ids that it refers to.
    pub fn ids(&self) -> BTreeSet<&str> {
        self.tree.iter_variable_identifiers().collect()
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
        if !self.tree.iter_function_identifiers().any(|name| name == "FILL") {
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
        context: &mut HashMapContext,
    ) -> Result<Option<f64>, ApiError> {
        context.clear_variables();
        let mut complete = true;
        for (id, series) in series {
            let point = series.points.get(&at);
            complete &= point.is_some();
            let value = point.map_or(Value::Empty, |value| Value::Float(*value));
            context.set_value((*id).to_owned(), value).map_err(|error| self.error(error))?;
        }
        match self.tree.eval_with_context(context) {
            Ok(value) => Ok(number(&value).filter(|number| number.is_finite())),
            Err(error) if complete => Err(self.error(error)),
            // Arithmetic on a missing point.
            Err(_) => Ok(None),
        }
    }

    fn error(&self, problem: impl std::fmt::Display) -> ApiError {
        invalid(format!("Error in expression '{}': {problem}", self.text))
    }
}

/// Metric math has floats only: 1/2 is a half.
fn make_constants_float(tree: &mut Node) {
    for operator in tree.iter_operators_mut() {
        if let Operator::Const { value } = operator
            && let Value::Int(whole) = *value
        {
            *value = Value::Float(whole as f64);
        }
    }
}

type Implementation = fn(&[Value]) -> EvalexprResult<Value>;

const FUNCTIONS: [(&str, Implementation); 6] = [
    ("FILL", fill),
    ("IF", choose),
    ("SUM", |values| over(values, |numbers| numbers.iter().sum())),
    ("AVG", |values| over(values, |numbers| numbers.iter().sum::<f64>() / numbers.len() as f64)),
    ("MIN", |values| over(values, |numbers| numbers.iter().copied().fold(f64::INFINITY, f64::min))),
    ("MAX", |values| over(values, |numbers| numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max))),
];

fn context() -> Result<HashMapContext, EvalexprError> {
    let mut context = HashMapContext::new();
    context.set_builtin_functions_disabled(true)?;
    for (name, implementation) in FUNCTIONS {
        let function = Function::new(move |argument| implementation(&arguments(argument)));
        context.set_function(name.to_owned(), function)?;
    }
    Ok(context)
}

/// The evaluator passes one argument as it is and several as a tuple.
fn arguments(argument: &Value) -> Vec<Value> {
    match argument {
        Value::Tuple(values) => values.clone(),
        value => vec![value.clone()],
    }
}

/// `FILL(series, value)`: a value where the series has none.
fn fill(arguments: &[Value]) -> EvalexprResult<Value> {
    match arguments {
        [Value::Empty, filler] => Ok(filler.clone()),
        [value, _] => Ok(value.clone()),
        _ => Err(EvalexprError::CustomMessage("FILL takes a series and a value".to_owned())),
    }
}

/// `IF(condition, then, else)`; a number is true unless zero.
fn choose(arguments: &[Value]) -> EvalexprResult<Value> {
    match arguments {
        [Value::Empty, _, _] => Ok(Value::Empty),
        [condition, then, otherwise] => match number(condition) {
            Some(0.0) => Ok(otherwise.clone()),
            Some(_) => Ok(then.clone()),
            None => Err(EvalexprError::expected_number(condition.clone())),
        },
        _ => Err(EvalexprError::CustomMessage("IF takes a condition and two values".to_owned())),
    }
}

/// Condenses the points of several series at one timestamp; those that are missing do not count.
fn over(values: &[Value], condense: impl Fn(&[f64]) -> f64) -> EvalexprResult<Value> {
    if values.len() < 2 {
        let problem = "the lab knows SUM, AVG, MIN and MAX over arrays of two or more series only";
        return Err(EvalexprError::CustomMessage(problem.to_owned()));
    }
    let numbers: Vec<f64> = values.iter().filter_map(number).collect();
    Ok(if numbers.is_empty() { Value::Empty } else { Value::Float(condense(&numbers)) })
}

/// Comparisons count as 1 and 0.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Boolean(truth) => Some(f64::from(u8::from(*truth))),
        _ => None,
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
        let expected: [(&str, &[(i64, f64)]); 14] = [
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
        ] {
            let error = evaluate(text).unwrap_err();
            assert_eq!(error.code, "ValidationError", "{text}");
            assert!(error.message.contains(text), "{text}: {}", error.message);
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
