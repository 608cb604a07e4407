//! Paths and payload templates: how a state picks from its data and puts into it.

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_json_path::JsonPath;

use super::TaskError;

/// What a path can see.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The state's data, `$`.
    pub data: &'a Value,
    /// The context object, `$$`.
    pub context: &'a Value,
}

/// A path such as `$.deployment_id`, or `$$.Execution.Name` into the context object.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Path {
    text: String,
    query: JsonPath,
    of_context: bool,
    /// Whether the path can find more than one value, so that its result is an array.
    finds_many: bool,
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let of_context = text.starts_with("$$");
        let query = if of_context { &text[1..] } else { text.as_str() };
        let query = JsonPath::parse(query).map_err(|error| format!("the path {text:?}: {error}"))?;
        let mut outside_quotes = text.split('\'').step_by(2);
        let finds_many =
            outside_quotes.any(|part| part.contains(['*', '?', ',', ':']) || part.contains(".."));
        Ok(Self { text, query, of_context, finds_many })
    }
}

impl Path {
    /// What the path finds: nothing, or one value, which is an array where the path can find many.
    pub fn find(&self, scope: Scope<'_>) -> Option<Value> {
        let found = self.query.query(if self.of_context { scope.context } else { scope.data }).all();
        if self.finds_many {
            return Some(found.into_iter().cloned().collect());
        }
        found.first().map(|value| (*value).clone())
    }

    /// What the path finds; `error` is the name of the failure if that is nothing.
    pub fn read(&self, scope: Scope<'_>, error: &str) -> Result<Value, TaskError> {
        self.find(scope).ok_or_else(|| {
            TaskError::new(error, format!("Invalid path '{}': nothing there in {}", self.text, scope.data))
        })
    }
}

/// `InputPath` or `OutputPath`: the part of the data that goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Option<String>")]
pub(super) enum Selection {
    /// Absent: all of it.
    #[default]
    All,
    /// What the path finds.
    At(Path),
    /// `null`: an empty object.
    Nothing,
}

impl TryFrom<Option<String>> for Selection {
    type Error = String;

    fn try_from(path: Option<String>) -> Result<Self, String> {
        path.map_or(Ok(Self::Nothing), |path| Path::try_from(path).map(Self::At))
    }
}

impl Selection {
    pub fn of(&self, data: Value, context: &Value) -> Result<Value, TaskError> {
        match self {
            Self::All => Ok(data),
            Self::At(path) => path.read(Scope { data: &data, context }, "States.Runtime"),
            Self::Nothing => Ok(Value::Object(Map::new())),
        }
    }
}

/// `ResultPath`: where a result goes in the state's input.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Option<String>")]
pub(super) enum ResultPath {
    /// Into the field that these names lead to; with no name, in place of the input.
    At(Vec<String>),
    /// `null`: nowhere, the input goes on.
    Discard,
}

impl Default for ResultPath {
    fn default() -> Self {
        Self::At(Vec::new())
    }
}

impl TryFrom<Option<String>> for ResultPath {
    type Error = String;

    fn try_from(path: Option<String>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self::Discard) };
        let names = path.strip_prefix('$').map(|names| names.split('.').map(str::to_owned));
        let mut names = names.ok_or_else(|| format!("the ResultPath {path:?} does not start with $"))?;
        let root = names.next();
        let names: Vec<String> = names.collect();
        let plain =
            |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
        if root.is_none_or(|root| root.is_empty()) && names.iter().all(plain) {
            Ok(Self::At(names))
        } else {
            Err(format!("the ResultPath {path:?} is not of the form $.name.name"))
        }
    }
}

impl ResultPath {
    pub fn put(&self, mut input: Value, result: Value) -> Result<Value, TaskError> {
        let Self::At(names) = self else { return Ok(input) };
        let mut place = &mut input;
        for name in names {
            let Value::Object(fields) = place else {
                let cause = format!("there is no room for the field {name:?} in {place}");
                return Err(TaskError::new("States.ResultPathMatchFailure", cause));
            };
            place = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
        }
        *place = result;
        Ok(input)
    }
}

/// `Parameters` or `ResultSelector`: JSON in which a field `name.$` is filled from a path.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum Template {
    Literal(Value),
    Path(Path),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
}

impl TryFrom<Value> for Template {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => {
                items.into_iter().map(Self::try_from).collect::<Result<_, _>>().map(Self::Array)
            }
            Value::Object(fields) => {
                fields.into_iter().map(field).collect::<Result<_, _>>().map(Self::Object)
            }
            literal => Ok(Self::Literal(literal)),
        }
    }
}

fn field((name, value): (String, Value)) -> Result<(String, Template), String> {
    match (name.strip_suffix(".$"), value) {
        (Some(name), Value::String(path)) => Ok((name.to_owned(), Template::Path(path.try_into()?))),
        (Some(_), value) => Err(format!("the field {name:?} needs a path, not {value}")),
        (None, value) => Ok((name, value.try_into()?)),
    }
}

impl Template {
    pub fn fill(&self, scope: Scope<'_>) -> Result<Value, TaskError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Path(path) => path.read(scope, "States.ParameterPathFailure"),
            Self::Array(items) => items.iter().map(|item| item.fill(scope)).collect(),
            Self::Object(fields) => {
                fields.iter().map(|(name, field)| Ok((name.clone(), field.fill(scope)?))).collect()
            }
        }
    }

    /// Names of the fields, for checks when the definition is loaded.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        let fields = if let Self::Object(fields) = self { fields.as_slice() } else { &[] };
        fields.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(path: &str, data: &Value) -> Option<Value> {
        Path::try_from(path.to_owned())
            .unwrap()
            .find(Scope { data, context: &json!({"Execution": {"Name": "one"}}) })
    }

    #[test]
    fn a_path_finds_one_value_an_array_or_nothing() {
        let data = json!({"a": {"b": 1}, "list": [{"n": 1}, {"n": 2}], "nothing": null, "x:y": 3});
        for (path, expected) in [
            ("$", Some(data.clone())),
            ("$.a.b", Some(json!(1))),
            ("$['a']['b']", Some(json!(1))),
            ("$['x:y']", Some(json!(3))),
            ("$.list[1].n", Some(json!(2))),
            ("$.list[*].n", Some(json!([1, 2]))),
            ("$.list[?@.n > 5]", Some(json!([]))),
            ("$.nothing", Some(Value::Null)),
            ("$.missing", None),
            ("$$.Execution.Name", Some(json!("one"))),
        ] {
            assert_eq!(find(path, &data), expected, "{path}");
        }
    }

    #[test]
    fn a_result_goes_where_its_path_says() {
        let put =
            |path: &str, input| ResultPath::try_from(Some(path.to_owned())).unwrap().put(input, json!("new"));
        assert_eq!(put("$", json!({"a": 1})).unwrap(), json!("new"));
        assert_eq!(put("$.b", json!({"a": 1})).unwrap(), json!({"a": 1, "b": "new"}));
        assert_eq!(put("$.b.c", json!({"b": {"d": 2}})).unwrap(), json!({"b": {"c": "new", "d": 2}}));
        assert_eq!(put("$.b.c", json!({})).unwrap(), json!({"b": {"c": "new"}}));
        assert_eq!(put("$.b", json!([1])).unwrap_err().error, "States.ResultPathMatchFailure");
        assert_eq!(ResultPath::Discard.put(json!({"a": 1}), json!("new")).unwrap(), json!({"a": 1}));
        for no_reference in ["b", "$b", "$.", "$.a[0]", "$..a", "$.*"] {
            ResultPath::try_from(Some(no_reference.to_owned())).unwrap_err();
        }
    }

    #[test]
    fn a_template_is_filled_at_every_depth() {
        let template = json!({"fixed": 1, "all.$": "$", "deep": [{"name.$": "$$.Execution.Name"}, 2]});
        let template = Template::try_from(template).unwrap();
        let context = json!({"Execution": {"Name": "one"}});
        let filled = template.fill(Scope { data: &json!({"x": 1}), context: &context }).unwrap();
        assert_eq!(filled, json!({"fixed": 1, "all": {"x": 1}, "deep": [{"name": "one"}, 2]}));

        let missing = Template::try_from(json!({"a.$": "$.missing"})).unwrap();
        let error = missing.fill(Scope { data: &json!({}), context: &context }).unwrap_err();
        assert_eq!(error.error, "States.ParameterPathFailure");
        Template::try_from(json!({"a.$": 1})).unwrap_err();
        Template::try_from(json!({"a.$": "States.Format('intrinsic')"})).unwrap_err();
    }

    proptest! {
        #[test]
        fn what_a_result_path_puts_the_same_path_finds(
            names in prop::collection::vec("[a-z_][a-z0-9_]{0,5}", 0..4),
            result in any::<i64>(),
        ) {
            let path = names.iter().fold("$".to_owned(), |path, name| format!("{path}.{name}"));
            let put = ResultPath::try_from(Some(path.clone())).unwrap().put(json!({}), json!(result)).unwrap();
            prop_assert_eq!(find(&path, &put), Some(json!(result)));
        }
    }
}
