//! template.yaml as the lab reads it: the functions with their environment, timeout, memory and role, and the alarms, so
//! that what runs here has exactly what it will have on AWS.

mod event_rule;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use shiftgate::yaml::Document;

pub use self::event_rule::EventRule;
use self::values::Values;
use crate::iam::{self, Role, Statement};
use crate::logs::Pattern;

/// Name of the pretended stack.
pub const STACK: &str = "lab";

/// A function of the template.
#[derive(Debug, Clone, PartialEq)]
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
    /// What it may do.
    pub role: Role,
    /// Name of the log group that it writes to.
    pub log_group: String,
    /// Who is told of events that it could not handle.
    pub failures: Option<Failures>,
    /// The events that it is invoked for.
    pub events: Vec<EventRule>,
    /// The logs that it is handed.
    pub subscriptions: Vec<Subscription>,
}

/// Lines of a log that a function is handed.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// Name of the log group.
    pub log_group: String,
    /// Which of its lines.
    pub(crate) pattern: Pattern,
}

impl Function {
    /// The IAM actions that its own code calls: without those of Lambda, which writes its log and tells of failures.
    pub fn actions(&self) -> BTreeSet<String> {
        let by_lambda: BTreeSet<String> = iam::by_lambda(self).into_iter().map(|one| one.action).collect();
        let allowed = self.role.allowing().flat_map(|statement| statement.actions.clone());
        allowed.filter(|action| !by_lambda.contains(action)).collect()
    }
}

/// Where Lambda tells of events that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// ARN of the SNS topic.
    pub topic: String,
    /// ARN of the KMS key that encrypts it.
    pub key: String,
}

/// A metric that an alarm looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlarmMetric {
    /// Name of the alarm.
    pub alarm: String,
    /// Namespace of the metric.
    pub namespace: String,
    /// Name of the metric.
    pub metric: String,
    /// Its dimensions.
    pub dimensions: BTreeMap<String, String>,
}

/// What the lab needs of the template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// The functions.
    pub functions: Vec<Function>,
    /// Name of the watch's state machine.
    pub state_machine: String,
    /// What the state machine may do.
    pub state_machine_role: Role,
    /// Under which ECS calls the lifecycle function.
    pub ecs_hook_role: Role,
    /// Days that each log group keeps its logs, by its name.
    pub log_groups: BTreeMap<String, u64>,
    /// The metrics of all alarms.
    pub alarms: Vec<AlarmMetric>,
    /// ARNs of the topics.
    pub topics: Vec<String>,
    /// Names of the buckets.
    pub buckets: Vec<String>,
}

impl Template {
    /// Reads a template's text, with every parameter at its default but these.
    pub fn read(text: &str, parameters: &BTreeMap<String, String>) -> Result<Self> {
        let document =
            Document::parse(text).map_err(|problem| anyhow::anyhow!("template.yaml: {problem}"))?;
        Reader { root: &document.value, values: Values { root: &document.value, parameters } }.template()
    }

    /// The function of a binary.
    pub fn function(&self, binary: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.binary == binary)
    }
}

struct Reader<'a> {
    root: &'a Value,
    values: Values<'a>,
}

impl Reader<'_> {
    fn template(&self) -> Result<Template> {
        let functions = self
            .of_type("AWS::Serverless::Function")?
            .into_iter()
            .map(|(id, resource)| self.function(resource).with_context(|| format!("template.yaml, {id}")))
            .collect::<Result<_>>()?;
        let machines = self.of_type("AWS::Serverless::StateMachine")?;
        let (_, machine) = machines.first().context("template.yaml has no state machine")?;
        let groups = self.of_type("AWS::Logs::LogGroup")?.into_iter().map(|(_, group)| {
            let properties = &group["Properties"];
            let days = self.values.text(&properties["RetentionInDays"])?.parse()?;
            Ok((self.values.text(&properties["LogGroupName"])?, days))
        });
        let alarms = self.of_type("AWS::CloudWatch::Alarm")?.into_iter().map(|(_, alarm)| self.alarm(alarm));
        Ok(Template {
            functions,
            state_machine: self.values.text(&machine["Properties"]["Name"])?,
            state_machine_role: self.role_of(machine)?,
            ecs_hook_role: self.role("EcsHookRole")?,
            log_groups: groups.collect::<Result<_>>()?,
            alarms: alarms.collect::<Result<Vec<_>>>()?.concat(),
            topics: self.names("AWS::SNS::Topic")?,
            buckets: self.names("AWS::S3::Bucket")?,
        })
    }

    /// What a reference to each resource of a type stands for.
    fn names(&self, kind: &str) -> Result<Vec<String>> {
        let name = |(id, _): (&String, &Value)| self.values.text(&serde_json::json!({"Ref": id}));
        self.of_type(kind)?.into_iter().map(name).collect()
    }

    /// The resources of a type that are made, with their ids.
    fn of_type(&self, kind: &str) -> Result<Vec<(&String, &Value)>> {
        let resources = self.root["Resources"].as_object().context("template.yaml has no Resources")?;
        let mut found = Vec::new();
        for (id, resource) in resources.iter().filter(|(_, resource)| resource["Type"] == kind) {
            if self.values.is_made(resource)? {
                found.push((id, resource));
            }
        }
        Ok(found)
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
        let variables = |of: &Value| of["Environment"]["Variables"].as_object().cloned().unwrap_or_default();
        let environment = variables(globals).into_iter().chain(variables(properties));
        let events = properties["Events"].as_object();
        let of_type = |kind: &'static str| {
            let of_that = move |event: &&Value| event["Type"] == kind;
            events
                .into_iter()
                .flat_map(|events| events.values())
                .filter(of_that)
                .map(|event| &event["Properties"])
        };
        let rules = of_type("EventBridgeRule")
            .map(|event| EventRule::new(&self.values.resolve(&event["Pattern"])?.unwrap_or_default()))
            .collect::<Result<_>>()?;
        let subscriptions =
            of_type("CloudWatchLogs").map(|event| self.subscription(event)).collect::<Result<_>>()?;
        Ok(Function {
            binary: resource["Metadata"]["BuildProperties"]["Binary"]
                .as_str()
                .context("no Binary")?
                .to_owned(),
            name: self.values.text(&properties["FunctionName"])?,
            timeout: Duration::from_secs(number("Timeout")?),
            memory_mb: number("MemorySize")?,
            environment: environment
                .map(|(name, value)| Ok((name, self.values.text(&value)?)))
                .collect::<Result<_>>()?,
            role: self.role_of(resource)?,
            log_group: self.values.text(&properties["LoggingConfig"]["LogGroup"])?,
            failures: self.failures(&properties["EventInvokeConfig"]["DestinationConfig"]["OnFailure"])?,
            events: rules,
            subscriptions,
        })
    }

    fn subscription(&self, event: &Value) -> Result<Subscription> {
        let pattern = self.values.text(&event["FilterPattern"])?;
        let pattern = Pattern::read(&pattern).map_err(|why| anyhow::anyhow!("{pattern}: {why}"))?;
        Ok(Subscription { log_group: self.values.text(&event["LogGroupName"])?, pattern })
    }

    fn failures(&self, destination: &Value) -> Result<Option<Failures>> {
        let topic = &destination["Destination"];
        let Some(id) = topic["Ref"].as_str() else { return Ok(None) };
        let key = self.root["Resources"][id]["Properties"]["KmsMasterKeyId"]["Ref"].as_str();
        let key = key.with_context(|| format!("{id} is not encrypted with a key of this template"))?;
        let key = self.values.text(&serde_json::json!({"Fn::GetAtt": [key, "Arn"]}))?;
        Ok(Some(Failures { topic: self.values.text(topic)?, key }))
    }

    /// The role that a resource names.
    fn role_of(&self, resource: &Value) -> Result<Role> {
        let arn = self.values.text(&resource["Properties"]["Role"]).context("it has no role of its own")?;
        self.role(arn.rsplit('/').next().unwrap_or_default())
    }

    fn role(&self, id: &str) -> Result<Role> {
        let properties = &self.root["Resources"][id]["Properties"];
        let policies = self.documents(properties).with_context(|| format!("role {id}"))?;
        let mut statements = Vec::new();
        for policy in &policies {
            statements.extend(self.statements(policy).with_context(|| format!("role {id}"))?);
        }
        Ok(Role {
            id: id.to_owned(),
            trust: self.statements(&properties["AssumeRolePolicyDocument"])?,
            statements,
        })
    }

    /// The policy documents of a role: managed ones of this template, and its own.
    fn documents(&self, role: &Value) -> Result<Vec<Value>> {
        let managed = self.values.resolve(&role["ManagedPolicyArns"])?.unwrap_or_default();
        let managed = managed.as_array().into_iter().flatten().map(|arn| {
            let (_, id) =
                arn.as_str().and_then(|arn| arn.rsplit_once('/')).context("a policy without a name")?;
            let policy = &self.root["Resources"][id]["Properties"]["PolicyDocument"];
            anyhow::ensure!(policy.is_object(), "{id} is no policy of this template");
            Ok(policy.clone())
        });
        let own = role["Policies"].as_array().into_iter().flatten();
        managed.chain(own.map(|policy| Ok(policy["PolicyDocument"].clone()))).collect()
    }

    fn statements(&self, policy: &Value) -> Result<Vec<Statement>> {
        let statements = self.values.resolve(&policy["Statement"])?.unwrap_or_default();
        statements.as_array().context("a policy has no Statement")?.iter().map(Statement::read).collect()
    }

    /// The metrics of an alarm, by itself or added up.
    fn alarm(&self, alarm: &Value) -> Result<Vec<AlarmMetric>> {
        let properties = self.values.resolve(&alarm["Properties"])?.unwrap_or_default();
        let name = properties["AlarmName"].as_str().context("an alarm has no name")?;
        let several = properties["Metrics"].as_array().into_iter().flatten();
        let several = several.filter_map(|metric| metric["MetricStat"].get("Metric"));
        let metrics = several.chain([&properties]).filter(|metric| metric["MetricName"].is_string());
        Ok(metrics.map(|metric| AlarmMetric::read(name, metric)).collect())
    }
}

impl AlarmMetric {
    fn read(alarm: &str, metric: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let dimensions = metric["Dimensions"].as_array().into_iter().flatten();
        Self {
            alarm: alarm.to_owned(),
            namespace: text(&metric["Namespace"]),
            metric: text(&metric["MetricName"]),
            dimensions: dimensions.map(|one| (text(&one["Name"]), text(&one["Value"]))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = include_str!("../../template.yaml");

    fn read(text: &str) -> Template {
        Template::read(text, &BTreeMap::new()).unwrap()
    }

    fn actions(role: &Role) -> Vec<&str> {
        role.allowing().flat_map(|statement| &statement.actions).map(String::as_str).collect()
    }

    #[test]
    fn the_project_s_template_is_understood() {
        let template = read(TEXT);
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
                "publish",
                "watch"
            ]
        );
        let watch = template.function("watch").unwrap();
        assert_eq!(watch.name, "CodeDeployHook_lab_watch");
        assert!(actions(&watch.role).contains(&"codedeploy:StopDeployment"), "its own");
        assert!(actions(&watch.role).contains(&"codedeploy:GetDeployment"), "of a managed policy");
        let starts = template.function("before-allow-traffic").unwrap();
        assert_eq!(
            starts.environment["SHIFTGATE_STATE_MACHINE_ARN"],
            "arn:aws:states:eu-west-1:123456789012:stateMachine:shiftgate-watch-lab"
        );
        assert_eq!(starts.environment["SHIFTGATE_STACK"], "lab", "of Globals");
        assert!(
            template.function("before-install").unwrap().environment["SHIFTGATE_SIBLINGS"]
                .contains("watch=CodeDeployHook_lab_watch")
        );
    }

    #[test]
    fn parameters_and_conditions_decide_what_is_in_a_role() {
        let own_key = BTreeMap::from([
            ("SecretsKeyArn".to_owned(), "arn:aws:kms:eu-west-1:123456789012:key/secrets".to_owned()),
            ("DeploymentGroups".to_owned(), "shop/*".to_owned()),
            ("SubnetIds".to_owned(), "subnet-1,subnet-2".to_owned()),
        ]);
        let given = Template::read(TEXT, &own_key).unwrap();
        let role = |template: &Template| template.function("watch").unwrap().role.clone();
        let (given, plain) = (role(&given), role(&read(TEXT)));
        assert!(actions(&given).contains(&"kms:Decrypt") && !actions(&plain).contains(&"kms:Decrypt"));
        assert!(actions(&given).contains(&"ec2:CreateNetworkInterface"));
        assert!(!actions(&plain).contains(&"ec2:CreateNetworkInterface"));
        let resources =
            |role: &Role| role.allowing().flat_map(|one| one.resources.clone()).collect::<Vec<_>>();
        let group = |name: &str| format!("arn:aws:codedeploy:eu-west-1:123456789012:deploymentgroup:{name}");
        assert!(resources(&given).contains(&group("shop/*")) && resources(&plain).contains(&group("*/*")));
    }

    #[test]
    fn a_function_s_event_rules_are_read() {
        let events = "Events: {Begun: {Type: EventBridgeRule, Properties: {Pattern: {source: [aws.ecs]}}}}";
        let text = TEXT.replacen("      Timeout: 300\n", &format!("      {events}\n      Timeout: 300\n"), 1);
        let template = read(&text);
        let begun = json!({"source": "aws.ecs"});
        let rules = || template.functions.iter().flat_map(|function| &function.events);
        assert!(rules().any(|rule| rule.matches(&begun)), "{:?}", rules().collect::<Vec<_>>());
    }
}
