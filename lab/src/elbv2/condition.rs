//! A rule's conditions over the wire.

use serde::Serialize;

use super::wire::List;
use crate::load_balancer::Condition;

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConditionDescription {
    field: &'static str,
    /// Repeats what the configuration of a path or host says; the other kinds have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<List<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_pattern_config: Option<Values<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_header_config: Option<Values<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_header_config: Option<HeaderConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_string_config: Option<Values<QueryPair>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Values<T> {
    values: List<T>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HeaderConfig {
    http_header_name: String,
    values: List<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct QueryPair {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    value: String,
}

pub(super) fn condition(condition: &Condition) -> ConditionDescription {
    let list = |values: &[String]| values.iter().cloned().collect::<List<String>>();
    let default = ConditionDescription::default();
    match condition {
        Condition::Path(values) => ConditionDescription {
            field: "path-pattern",
            values: Some(list(values)),
            path_pattern_config: Some(Values { values: list(values) }),
            ..default
        },
        Condition::Host(values) => ConditionDescription {
            field: "host-header",
            values: Some(list(values)),
            host_header_config: Some(Values { values: list(values) }),
            ..default
        },
        Condition::Header { name, values } => ConditionDescription {
            field: "http-header",
            http_header_config: Some(HeaderConfig { http_header_name: name.clone(), values: list(values) }),
            ..default
        },
        Condition::Query(pairs) => ConditionDescription {
            field: "query-string",
            query_string_config: Some(Values {
                values: pairs
                    .iter()
                    .map(|(key, value)| QueryPair { key: key.clone(), value: value.clone() })
                    .collect(),
            }),
            ..default
        },
    }
}
