//! Which events a function is invoked for.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::iam::is_like;

/// An `EventBridge` rule, of which the lab knows the most common forms: which values a field may have, exactly or as
/// `{"wildcard": ...}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRule {
    pattern: Value,
}

impl EventRule {
    pub(super) fn new(pattern: &Value) -> Result<Self> {
        if is_understood(pattern) {
            Ok(Self { pattern: pattern.clone() })
        } else {
            bail!("the lab does not understand the event pattern {pattern}")
        }
    }

    /// Whether an event is one of the rule's.
    pub fn matches(&self, event: &Value) -> bool {
        matches(&self.pattern, event)
    }
}

/// Fields, down to lists of plain values and wildcards.
fn is_understood(pattern: &Value) -> bool {
    match pattern {
        Value::Object(fields) => fields.values().all(is_understood),
        Value::Array(values) => values.iter().all(|value| match value {
            Value::Object(_) => wildcard(value).is_some(),
            plain => !plain.is_array(),
        }),
        _ => false,
    }
}

fn matches(pattern: &Value, event: &Value) -> bool {
    match (pattern, event) {
        (Value::Object(fields), _) => fields.iter().all(|(name, pattern)| matches(pattern, &event[name])),
        // Of a list in the event, one value is enough.
        (Value::Array(_), Value::Array(seen)) => seen.iter().any(|value| matches(pattern, value)),
        (Value::Array(values), seen) => values.iter().any(|value| is_value(value, seen)),
        _ => false,
    }
}

fn is_value(wanted: &Value, seen: &Value) -> bool {
    match (wildcard(wanted), seen.as_str()) {
        (Some(pattern), Some(text)) => is_like(text, pattern),
        _ => wanted == seen,
    }
}

fn wildcard(value: &Value) -> Option<&str> {
    value.as_object().filter(|fields| fields.len() == 1)?.get("wildcard")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_takes_the_events_of_its_pattern() {
        let pattern = json!({
            "source": ["aws.ecs"],
            "detail-type": ["ECS Deployment State Change"],
            "detail": {"eventName": ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_FAILED"]},
        });
        let rule = EventRule::new(&pattern).unwrap();
        let event = |source: &str, name: &str| {
            json!({
                "source": source,
                "detail-type": "ECS Deployment State Change",
                "resources": ["arn:one"],
                "detail": {"eventName": name, "reason": "any"},
            })
        };
        assert!(rule.matches(&event("aws.ecs", "SERVICE_DEPLOYMENT_FAILED")));
        assert!(!rule.matches(&event("aws.ecs", "SERVICE_DEPLOYMENT_COMPLETED")));
        assert!(!rule.matches(&event("aws.ec2", "SERVICE_DEPLOYMENT_FAILED")));
        assert!(!rule.matches(&json!({"source": "aws.ecs"})));
        let of_one = EventRule::new(&json!({"resources": ["arn:one"]})).unwrap();
        assert!(of_one.matches(&event("aws.ecs", "x")) && !of_one.matches(&json!({"resources": []})));
        let of_a_cluster =
            EventRule::new(&json!({"resources": [{"wildcard": "arn:*:service/shop/*"}]})).unwrap();
        assert!(of_a_cluster.matches(&json!({"resources": ["arn:aws:ecs:r:a:service/shop/orders"]})));
        assert!(!of_a_cluster.matches(&json!({"resources": ["arn:aws:ecs:r:a:service/other/orders"]})));
        assert!(EventRule::new(&json!({"source": [{"prefix": "aws."}]})).is_err());
        assert!(EventRule::new(&Value::Null).is_err());
    }
}
