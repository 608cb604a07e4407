//! template.yaml as the lab reads it: the functions with their environment, timeout, memory and IAM actions, so that
//! what runs here has exactly what it will have on AWS.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use shiftgate::yaml::Document;

use crate::api::{ACCOUNT, REGION};
use crate::lambda::function_arn;

/// Name of the pretended stack.
pub const STACK: &str = "lab";

/// A function of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its binary, such as `before-install`.
    pub binary: String,
    /// Its name, such as `CodeDeployHook_lab_before-install`.
    pub name: String,
    /// Its timeout.
    pub timeout: Duration,
    /// Its memory in MB.
    pub memory_mb: u64,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// The IAM actions that its role allows.
    pub actions: BTreeSet<String>,
    /// The events that it is invoked for.
    pub events: Vec<EventRule>,
}

/// An `EventBridge` rule, of which the lab knows the most common form: which values a field may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRule {
    pattern: Value,
}

impl EventRule {
    fn new(pattern: &Value) -> Result<Self> {
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

/// Fields, down to lists of plain values.
fn is_understood(pattern: &Value) -> bool {
    match pattern {
        Value::Object(fields) => fields.values().all(is_understood),
        Value::Array(values) => values.iter().all(|value| !value.is_object() && !value.is_array()),
        _ => false,
    }
}

fn matches(pattern: &Value, event: &Value) -> bool {
    match (pattern, event) {
        (Value::Object(fields), _) => fields.iter().all(|(name, pattern)| matches(pattern, &event[name])),
        // Of a list in the event, one value is enough.
        (Value::Array(values), Value::Array(seen)) => seen.iter().any(|value| values.contains(value)),
        (Value::Array(values), seen) => values.contains(seen),
        _ => false,
    }
}

/// What the lab needs of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The functions.
    pub functions: Vec<Function>,
    /// Name of the watch's state machine.
    pub state_machine: String,
}

impl Template {
    /// Reads a template's text as it is deployed with these parameters (name and value), and all others at their defaults.
    pub fn read(text: &str, parameters: &[(&str, &str)]) -> Result<Self> {
        let document =
            Document::parse(text).map_err(|problem| anyhow::anyhow!("template.yaml: {problem}"))?;
        let root = &document.value;
        let unknown = parameters.iter().find(|(name, _)| root["Parameters"].get(name).is_none());
        if let Some((name, _)) = unknown {
            bail!("template.yaml has no parameter {name}");
        }
        Reader { root, parameters }.template()
    }

    /// The function of a binary.
    pub fn function(&self, binary: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.binary == binary)
    }
}

struct Reader<'a> {
    root: &'a Value,
    parameters: &'a [(&'a str, &'a str)],
}

impl Reader<'_> {
    fn template(&self) -> Result<Template> {
        let resources = self.root["Resources"].as_object().context("template.yaml has no Resources")?;
        let of_type =
            |kind: &'static str| resources.iter().filter(move |(_, resource)| resource["Type"] == kind);
        let functions = of_type("AWS::Serverless::Function")
            .map(|(id, resource)| self.function(resource).with_context(|| format!("template.yaml, {id}")))
            .collect::<Result<_>>()?;
        let machine =
            of_type("AWS::Serverless::StateMachine").next().context("template.yaml has no state machine")?;
        Ok(Template { functions, state_machine: self.text(&machine.1["Properties"]["Name"])? })
    }

    fn function(&self, resource: &Value) -> Result<Function> {
        let properties = &resource["Properties"];
        let globals = &self.root["Globals"]["Function"];
        let number = |key: &str| {
            properties[key]
                .as_u64()
                .or_else(|| globals[key].as_u64())
                .with_context(|| format!("{key} is not set"))
        };
        let variables = properties["Environment"]["Variables"].as_object();
        let environment = variables
            .into_iter()
            .flatten()
            .map(|(name, value)| Ok((name.clone(), self.text(value)?)))
            .collect::<Result<_>>()?;
        let policies = properties["Policies"].as_array().context("no Policies")?;
        let mut actions = BTreeSet::new();
        for policy in policies {
            self.actions(policy, &mut actions)?;
        }
        let events = properties["Events"].as_object();
        let events = events
            .into_iter()
            .flatten()
            .filter(|(_, event)| event["Type"] == "EventBridgeRule")
            .map(|(_, event)| EventRule::new(&event["Properties"]["Pattern"]))
            .collect::<Result<_>>()?;
        Ok(Function {
            binary: resource["Metadata"]["BuildProperties"]["Binary"]
                .as_str()
                .context("no Binary")?
                .to_owned(),
            name: self.text(&properties["FunctionName"])?,
            timeout: Duration::from_secs(number("Timeout")?),
            memory_mb: number("MemorySize")?,
            environment,
            actions,
            events,
        })
    }

    /// Collects the actions of a policy: one that is referred to, or statements in place.
    fn actions(&self, policy: &Value, actions: &mut BTreeSet<String>) -> Result<()> {
        if let Some(id) = policy["Ref"].as_str() {
            let document = &self.root["Resources"][id]["Properties"]["PolicyDocument"];
            return self.actions(document, actions);
        }
        for statement in policy["Statement"].as_array().context("a policy has no Statement")? {
            let Some(statement) = self.chosen(statement)? else { continue };
            match &statement["Action"] {
                Value::String(action) => drop(actions.insert(action.clone())),
                Value::Array(list) => {
                    actions.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                _ => bail!("a statement has no Action"),
            }
        }
        Ok(())
    }

    /// A value, or the one that its condition chooses; `None` where that is no value.
    fn chosen<'v>(&self, value: &'v Value) -> Result<Option<&'v Value>> {
        let Some(choice) = value.get("Fn::If") else { return Ok(Some(value)) };
        let condition = choice[0].as_str().context("Fn::If without a condition")?;
        let holds = self.holds(&self.root["Conditions"][condition])?;
        let chosen = &choice[if holds { 1 } else { 2 }];
        Ok((chosen["Ref"] != "AWS::NoValue").then_some(chosen))
    }

    /// Whether a condition holds: that two texts are the same, or not.
    fn holds(&self, condition: &Value) -> Result<bool> {
        if let Some(other) = condition.get("Fn::Not") {
            return Ok(!self.holds(&other[0])?);
        }
        let [one, other] = condition["Fn::Equals"]
            .as_array()
            .map(Vec::as_slice)
            .context("a condition without Fn::Equals")?
        else {
            bail!("Fn::Equals compares two values")
        };
        Ok(self.text(one)? == self.text(other)?)
    }

    /// A value as text, with `CloudFormation`'s functions resolved.
    fn text(&self, value: &Value) -> Result<String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Object(map) => match map.iter().next() {
                Some((function, argument)) if function == "Ref" => {
                    self.reference(argument.as_str().unwrap_or_default())
                }
                Some((function, argument)) if function == "Fn::Sub" => {
                    self.substitute(argument.as_str().unwrap_or_default())
                }
                Some((function, argument)) if function == "Fn::GetAtt" => self.attribute(argument),
                _ => bail!("the lab does not understand {value}"),
            },
            _ => bail!("the lab does not understand {value}"),
        }
    }

    fn substitute(&self, text: &str) -> Result<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}').context("an unclosed ${")?;
            result.push_str(before);
            result.push_str(&self.reference(name)?);
            rest = behind;
        }
        result.push_str(rest);
        Ok(result)
    }

    fn reference(&self, name: &str) -> Result<String> {
        match name {
            "AWS::StackName" => return Ok(STACK.to_owned()),
            "AWS::Region" => return Ok(REGION.to_owned()),
            "AWS::AccountId" => return Ok(ACCOUNT.to_owned()),
            "AWS::Partition" => return Ok("aws".to_owned()),
            _ => {}
        }
        if let Some((_, value)) = self.parameters.iter().find(|(parameter, _)| *parameter == name) {
            return Ok((*value).to_owned());
        }
        if let Some(parameter) = self.root["Parameters"].get(name) {
            return self.text(&parameter["Default"]);
        }
        let resource = &self.root["Resources"][name];
        match resource["Type"].as_str() {
            Some("AWS::Serverless::Function") => self.text(&resource["Properties"]["FunctionName"]),
            Some("AWS::Serverless::StateMachine") => Ok(format!(
                "arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{}",
                self.text(&resource["Properties"]["Name"])?
            )),
            _ => bail!("the lab does not understand the reference to {name}"),
        }
    }

    fn attribute(&self, argument: &Value) -> Result<String> {
        let (resource, attribute) = match argument {
            Value::String(text) => text.split_once('.').context("GetAtt without an attribute")?,
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(resource), Value::String(attribute)] => {
                    (resource.as_str(), attribute.as_str())
                }
                _ => bail!("GetAtt needs a resource and an attribute"),
            },
            _ => bail!("GetAtt needs a resource and an attribute"),
        };
        if attribute == "Arn" {
            Ok(function_arn(&self.reference(resource)?))
        } else {
            bail!("unknown attribute {attribute}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_project_s_template_is_understood() {
        let template = Template::read(include_str!("../../template.yaml"), &[]).unwrap();
        let names: Vec<&str> = template.functions.iter().map(|function| function.binary.as_str()).collect();
        assert_eq!(
            names,
            [
                "after-allow-test-traffic",
                "after-allow-traffic",
                "after-install",
                "before-allow-traffic",
                "before-install",
                "ecs-lifecycle",
                "watch"
            ]
        );
        let watch = template.function("watch").unwrap();
        assert_eq!(watch.name, "CodeDeployHook_lab_watch");
        assert!(watch.actions.contains("codedeploy:StopDeployment"));
        assert!(watch.actions.contains("codedeploy:GetDeployment"));
        let starts = template.function("before-allow-traffic").unwrap();
        assert_eq!(
            starts.environment["SHIFTGATE_STATE_MACHINE_ARN"],
            "arn:aws:states:eu-west-1:123456789012:stateMachine:shiftgate-watch-lab"
        );
        assert!(
            template.function("before-install").unwrap().environment["SHIFTGATE_SIBLINGS"]
                .contains("watch=CodeDeployHook_lab_watch")
        );
    }

    #[test]
    fn parameters_decide_what_the_functions_get() {
        let read = |parameters| Template::read(include_str!("../../template.yaml"), parameters).unwrap();
        let smoking = ["after-allow-test-traffic", "before-allow-traffic", "ecs-lifecycle", "watch"];
        let with = |template: &Template, action: &str| -> Vec<String> {
            let functions = template.functions.iter().filter(|function| function.actions.contains(action));
            functions.map(|function| function.binary.clone()).collect()
        };
        let plain = read(&[]);
        assert_eq!(with(&plain, "kms:Decrypt"), [""; 0]);
        assert_eq!(with(&plain, "secretsmanager:GetSecretValue"), [""; 0]);
        let own = read(&[
            ("SecretsKeyArn", "arn:aws:kms:x"),
            ("ManagedSecrets", "shop/*"),
            ("AllowedHosts", "a,b"),
        ]);
        assert_eq!(with(&own, "kms:Decrypt"), smoking);
        assert_eq!(with(&own, "secretsmanager:GetSecretValue"), smoking);
        for function in smoking {
            let hosts = |template: &Template| {
                template.function(function).unwrap().environment["SHIFTGATE_ALLOWED_HOSTS"].clone()
            };
            assert_eq!((hosts(&plain).as_str(), hosts(&own).as_str()), ("", "a,b"), "{function}");
        }
        assert!(Template::read(include_str!("../../template.yaml"), &[("Nothing", "")]).is_err());
    }

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
        assert!(EventRule::new(&json!({"source": [{"prefix": "aws."}]})).is_err());
        assert!(EventRule::new(&Value::Null).is_err());
    }

    #[test]
    fn a_function_s_event_rules_are_read() {
        let events = "Events: {Begun: {Type: EventBridgeRule, Properties: {Pattern: {source: [aws.ecs]}}}}";
        let text = include_str!("../../template.yaml").replacen(
            "      Policies:\n",
            &format!("      {events}\n      Policies:\n"),
            1,
        );
        let template = Template::read(&text, &[]).unwrap();
        let begun = json!({"source": "aws.ecs"});
        let rules = || template.functions.iter().flat_map(|function| &function.events);
        assert!(rules().any(|rule| rule.matches(&begun)), "{:?}", rules().collect::<Vec<_>>());
    }
}
