//! `CloudFormation`'s functions: a template's values with its parameters, conditions and references filled in.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::STACK;
use crate::api::{ACCOUNT, REGION};
use crate::lambda::function_arn;

/// Stands for a value that is not there.
const NO_VALUE: &str = "AWS::NoValue";

/// A template whose values can be asked for.
pub(super) struct Values<'a> {
    pub root: &'a Value,
    /// Parameters that are not at their default.
    pub parameters: &'a BTreeMap<String, String>,
}

impl Values<'_> {
    /// A value with everything in it resolved; none where the template leaves it out.
    pub fn resolve(&self, value: &Value) -> Result<Option<Value>> {
        Ok(Some(match value {
            Value::Object(map) => match map.iter().next() {
                Some((function, argument)) if map.len() == 1 && is_function(function) => {
                    return self.call(function, argument);
                }
                _ => Value::Object(self.fields(map)?),
            },
            Value::Array(list) => {
                let items = list.iter().filter_map(|item| self.resolve(item).transpose());
                Value::Array(items.collect::<Result<_>>()?)
            }
            plain => plain.clone(),
        }))
    }

    /// A value that must be there, as text.
    pub fn text(&self, value: &Value) -> Result<String> {
        match self.resolve(value)? {
            Some(Value::String(text)) => Ok(text),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => bail!("{value} is no text"),
        }
    }

    /// Whether a resource is made, by its condition.
    pub fn is_made(&self, resource: &Value) -> Result<bool> {
        resource["Condition"].as_str().map_or(Ok(true), |name| self.condition(name))
    }

    fn fields(&self, map: &Map<String, Value>) -> Result<Map<String, Value>> {
        let fields =
            map.iter().map(|(name, value)| Ok(self.resolve(value)?.map(|value| (name.clone(), value))));
        fields.filter_map(Result::transpose).collect()
    }

    fn call(&self, function: &str, argument: &Value) -> Result<Option<Value>> {
        let text = match (function, argument) {
            ("Ref", Value::String(name)) if name == NO_VALUE => return Ok(None),
            ("Ref", Value::String(name)) => self.reference(name)?,
            ("Fn::Sub", Value::String(text)) => self.substitute(text)?,
            ("Fn::GetAtt", argument) => self.attribute(argument)?,
            ("Fn::Join", Value::Array(parts)) => self.join(parts)?,
            ("Fn::If", Value::Array(parts)) => return self.choose(parts),
            _ => bail!("the lab does not understand {function} {argument}"),
        };
        Ok(Some(Value::String(text)))
    }

    fn choose(&self, parts: &[Value]) -> Result<Option<Value>> {
        let [Value::String(condition), yes, no] = parts else {
            bail!("Fn::If needs a condition and two values")
        };
        self.resolve(if self.condition(condition)? { yes } else { no })
    }

    fn condition(&self, name: &str) -> Result<bool> {
        let condition = &self.root["Conditions"][name];
        self.holds(condition).with_context(|| format!("condition {name}"))
    }

    fn holds(&self, condition: &Value) -> Result<bool> {
        if let Some([negated]) = condition["Fn::Not"].as_array().map(Vec::as_slice) {
            return Ok(!self.holds(negated)?);
        }
        if let Some(name) = condition["Condition"].as_str() {
            return self.condition(name);
        }
        if let Some(all) = condition["Fn::And"].as_array() {
            return all.iter().try_fold(true, |so_far, one| Ok(so_far && self.holds(one)?));
        }
        match condition["Fn::Equals"].as_array().map(Vec::as_slice) {
            Some([one, other]) => Ok(self.resolve(one)? == self.resolve(other)?),
            _ => bail!("the lab does not understand {condition}"),
        }
    }

    fn join(&self, parts: &[Value]) -> Result<String> {
        let [Value::String(between), list] = parts else { bail!("Fn::Join needs a text and a list") };
        match self.resolve(list)? {
            // A list parameter is its items with commas.
            Some(Value::String(items)) => Ok(items.replace(',', between)),
            Some(Value::Array(items)) => {
                Ok(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(between))
            }
            _ => bail!("{list} is no list"),
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
        // In Fn::Sub an attribute may stand, too.
        if let Some(attribute) = name.split_once('.') {
            return self.attribute_of(attribute.0, attribute.1);
        }
        match name {
            "AWS::StackName" => return Ok(STACK.to_owned()),
            "AWS::Region" => return Ok(REGION.to_owned()),
            "AWS::AccountId" => return Ok(ACCOUNT.to_owned()),
            "AWS::Partition" => return Ok("aws".to_owned()),
            "AWS::URLSuffix" => return Ok("amazonaws.com".to_owned()),
            _ => {}
        }
        if let Some(given) = self.parameters.get(name) {
            return Ok(given.clone());
        }
        if let Some(parameter) = self.root["Parameters"].get(name) {
            return self.text(&parameter["Default"]);
        }
        let (kind, properties) = self.resource(name);
        match kind {
            Some("AWS::Serverless::Function") => self.text(&properties["FunctionName"]),
            Some("AWS::Serverless::StateMachine") => {
                Ok(arn("states", &format!("stateMachine:{}", self.text(&properties["Name"])?)))
            }
            Some("AWS::Logs::LogGroup") => self.text(&properties["LogGroupName"]),
            Some("AWS::IAM::ManagedPolicy") => Ok(format!("arn:aws:iam::{ACCOUNT}:policy/{name}")),
            Some("AWS::SNS::Topic") => Ok(arn("sns", &format!("{STACK}-{name}"))),
            Some("AWS::KMS::Key") => Ok(name.to_owned()),
            Some("AWS::S3::Bucket") => Ok(format!("{STACK}-{}", name.to_lowercase())),
            _ => bail!("the lab does not understand the reference to {name}"),
        }
    }

    fn attribute(&self, argument: &Value) -> Result<String> {
        let (name, attribute) = match argument {
            Value::String(text) => text.split_once('.').context("GetAtt without an attribute")?,
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(resource), Value::String(attribute)] => {
                    (resource.as_str(), attribute.as_str())
                }
                _ => bail!("GetAtt needs a resource and an attribute"),
            },
            _ => bail!("GetAtt needs a resource and an attribute"),
        };
        self.attribute_of(name, attribute)
    }

    fn attribute_of(&self, name: &str, attribute: &str) -> Result<String> {
        match (self.resource(name).0, attribute) {
            (Some("AWS::S3::Bucket"), "Arn") => Ok(format!("arn:aws:s3:::{}", self.reference(name)?)),
            (Some("AWS::Serverless::Function"), "Arn") => Ok(function_arn(&self.reference(name)?)),
            // With the `:*` that CloudFormation puts behind it.
            (Some("AWS::Logs::LogGroup"), "Arn") => {
                Ok(arn("logs", &format!("log-group:{}:*", self.reference(name)?)))
            }
            (Some("AWS::IAM::Role"), "Arn") => Ok(format!("arn:aws:iam::{ACCOUNT}:role/{name}")),
            (Some("AWS::KMS::Key"), "Arn") => Ok(arn("kms", &format!("key/{name}"))),
            _ => bail!("the lab does not understand the attribute {name}.{attribute}"),
        }
    }

    fn resource(&self, name: &str) -> (Option<&str>, &Value) {
        let resource = &self.root["Resources"][name];
        (resource["Type"].as_str(), &resource["Properties"])
    }
}

fn is_function(name: &str) -> bool {
    name == "Ref" || name.starts_with("Fn::")
}

fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}
