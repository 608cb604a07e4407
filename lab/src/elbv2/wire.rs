//! What goes over the wire. Field names are those of the service model, API version 2015-12-01.

use std::sync::Arc;
use std::time::Duration;

use quick_xml::Writer;
use quick_xml::events::BytesText;
use quick_xml::se::SeError;
use serde::Serialize;
use uuid::Uuid;

use super::condition::{ConditionDescription, condition};
use super::form::AskedTarget;
use crate::api::{ApiError, REGION};
use crate::load_balancer::{self, Listener, LoadBalancer, Rule, TargetGroup};

const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";
/// The pretended network; nothing looks at it.
const VPC: &str = "vpc-0c0ffee0c0ffee000";
/// The hosted zone of load balancers in eu-west-1.
const HOSTED_ZONE: &str = "Z32O12XQLNTSW2";

/// A list as the query protocol writes it: every item in an element `member`.
#[derive(Serialize)]
pub(super) struct List<T> {
    member: Vec<T>,
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self { member: items.into_iter().collect() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeLoadBalancers {
    pub(super) load_balancers: List<LoadBalancerDescription>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LoadBalancerDescription {
    load_balancer_arn: String,
    #[serde(rename = "DNSName")]
    dns_name: String,
    canonical_hosted_zone_id: &'static str,
    created_time: String,
    load_balancer_name: String,
    scheme: &'static str,
    vpc_id: &'static str,
    state: State,
    r#type: &'static str,
    availability_zones: List<AvailabilityZone>,
    ip_address_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    code: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AvailabilityZone {
    zone_name: String,
}

pub(super) fn load_balancer(balancer: &LoadBalancer) -> LoadBalancerDescription {
    LoadBalancerDescription {
        load_balancer_arn: balancer.arn.clone(),
        dns_name: balancer.production_address().ip().to_string(),
        canonical_hosted_zone_id: HOSTED_ZONE,
        created_time: balancer.created.to_string(),
        load_balancer_name: balancer.name.clone(),
        scheme: if balancer.is_internal() { "internal" } else { "internet-facing" },
        vpc_id: VPC,
        state: State { code: "active" },
        r#type: "application",
        availability_zones: ["a", "b", "c"]
            .map(|zone| AvailabilityZone { zone_name: format!("{REGION}{zone}") })
            .into_iter()
            .collect(),
        ip_address_type: "ipv4",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeListeners {
    pub(super) listeners: List<ListenerDescription>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListenerDescription {
    listener_arn: String,
    load_balancer_arn: String,
    port: u16,
    protocol: &'static str,
    default_actions: List<Action>,
}

/// A forward action.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Action {
    r#type: &'static str,
    /// Only there when the action forwards to a single group.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_group_arn: Option<String>,
    forward_config: ForwardConfig,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ForwardConfig {
    target_groups: List<WeightedTargetGroup>,
    target_group_stickiness_config: Stickiness,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WeightedTargetGroup {
    target_group_arn: String,
    weight: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stickiness {
    enabled: bool,
}

pub(super) fn listener(balancer: &LoadBalancer, listener: &Listener) -> ListenerDescription {
    ListenerDescription {
        listener_arn: listener.arn.clone(),
        load_balancer_arn: balancer.arn.clone(),
        port: listener.address.port(),
        protocol: "HTTP",
        default_actions: std::iter::once(forward(&listener.forwards())).collect(),
    }
}

fn forward(forwards: &[(Arc<TargetGroup>, u32)]) -> Action {
    let target_group_arn = match forwards {
        [(group, _)] => Some(group.arn.clone()),
        _ => None,
    };
    let weighted = |(group, weight): &(Arc<TargetGroup>, u32)| WeightedTargetGroup {
        target_group_arn: group.arn.clone(),
        weight: *weight,
    };
    let forward_config = ForwardConfig {
        target_groups: forwards.iter().map(weighted).collect(),
        target_group_stickiness_config: Stickiness { enabled: false },
    };
    Action { r#type: "forward", target_group_arn, forward_config }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeRules {
    pub(super) rules: List<RuleDescription>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RuleDescription {
    rule_arn: String,
    priority: String,
    conditions: List<ConditionDescription>,
    actions: List<Action>,
    is_default: bool,
}

pub(super) fn default_rule(listener: &Listener) -> RuleDescription {
    RuleDescription {
        rule_arn: listener.rule_arn.clone(),
        priority: "default".to_owned(),
        conditions: std::iter::empty().collect(),
        actions: std::iter::once(forward(&listener.forwards())).collect(),
        is_default: true,
    }
}

pub(super) fn rule(rule: &Rule) -> RuleDescription {
    RuleDescription {
        rule_arn: rule.arn.clone(),
        priority: rule.spec.priority.to_string(),
        conditions: rule.spec.conditions.iter().map(condition).collect(),
        actions: std::iter::once(forward(&rule.forwards())).collect(),
        is_default: false,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeTargetGroups {
    pub(super) target_groups: List<TargetGroupDescription>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TargetGroupDescription {
    target_group_arn: String,
    target_group_name: String,
    protocol: &'static str,
    port: u16,
    vpc_id: &'static str,
    health_check_protocol: &'static str,
    health_check_port: &'static str,
    health_check_enabled: bool,
    health_check_interval_seconds: u64,
    health_check_timeout_seconds: u64,
    healthy_threshold_count: u32,
    unhealthy_threshold_count: u32,
    health_check_path: String,
    matcher: Matcher,
    load_balancer_arns: List<String>,
    target_type: &'static str,
    protocol_version: &'static str,
    ip_address_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Matcher {
    http_code: String,
}

pub(super) fn target_group(balancer: &LoadBalancer, group: &TargetGroup) -> TargetGroupDescription {
    let check = &group.health_check;
    TargetGroupDescription {
        target_group_arn: group.arn.clone(),
        target_group_name: group.name.clone(),
        protocol: "HTTP",
        port: 80,
        vpc_id: VPC,
        health_check_protocol: "HTTP",
        health_check_port: "traffic-port",
        health_check_enabled: true,
        health_check_interval_seconds: whole_seconds(check.interval),
        health_check_timeout_seconds: whole_seconds(check.timeout),
        healthy_threshold_count: check.healthy_threshold,
        unhealthy_threshold_count: check.unhealthy_threshold,
        health_check_path: check.path.clone(),
        matcher: Matcher { http_code: check.matcher.to_string() },
        load_balancer_arns: group.in_use().then(|| balancer.arn.clone()).into_iter().collect(),
        target_type: "ip",
        protocol_version: "HTTP1",
        ip_address_type: "ipv4",
    }
}

/// Rounded up: the API has no fractions, and the lab's checks may be faster than those of AWS.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs_f64().ceil() as u64
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeTargetHealth {
    pub(super) target_health_descriptions: List<TargetHealthDescription>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TargetHealthDescription {
    target: TargetDescription,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check_port: Option<String>,
    target_health: TargetHealth,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TargetDescription {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone: Option<String>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TargetHealth {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl TargetHealthDescription {
    /// Whether it is the target that was asked for; without a port, any with that id is.
    pub(super) fn is(&self, asked: &AskedTarget) -> bool {
        self.target.id == asked.id && (asked.port.is_none() || self.target.port == asked.port)
    }
}

pub(super) fn target_health(health: load_balancer::TargetHealth) -> TargetHealthDescription {
    let port = health.target.address.port();
    let (reason, description) = health.reason.unzip();
    TargetHealthDescription {
        target: TargetDescription {
            id: health.target.id,
            port: Some(port),
            availability_zone: Some(health.target.zone),
        },
        health_check_port: Some(port.to_string()),
        target_health: TargetHealth { state: health.state.as_str(), reason, description },
    }
}

pub(super) fn not_registered(asked: &AskedTarget) -> TargetHealthDescription {
    TargetHealthDescription {
        target: TargetDescription { id: asked.id.clone(), port: asked.port, availability_zone: None },
        health_check_port: None,
        target_health: TargetHealth {
            state: "unused",
            reason: Some("Target.NotRegistered"),
            description: Some("Target is not registered to the target group".to_owned()),
        },
    }
}

/// The envelope of a good answer: `<{action}Response><{action}Result>...`.
pub(super) fn response(action: &str, result: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let written = write_response(action, result);
    written.map_err(|error| ApiError {
        status: 500,
        code: "InternalFailure".to_owned(),
        message: error.to_string(),
    })
}

fn write_response(action: &str, result: &impl Serialize) -> Result<Vec<u8>, SeError> {
    let mut writer = Writer::new(Vec::new());
    let mut serialized = Ok(());
    writer
        .create_element(format!("{action}Response"))
        .with_attribute(("xmlns", NAMESPACE))
        .write_inner_content(|writer| {
            serialized = writer.write_serializable(&format!("{action}Result"), result);
            writer.create_element("ResponseMetadata").write_inner_content(write_request_id)?;
            Ok(())
        })?;
    serialized.map(|()| writer.into_inner())
}

/// An error as the query protocol writes it; the HTTP status is the error's.
pub fn error_response(error: &ApiError) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    // Writing to memory does not fail.
    let _ = write_error(&mut writer, error);
    writer.into_inner()
}

fn write_error(writer: &mut Writer<Vec<u8>>, error: &ApiError) -> std::io::Result<()> {
    let fault = if error.status < 500 { "Sender" } else { "Receiver" };
    writer.create_element("ErrorResponse").with_attribute(("xmlns", NAMESPACE)).write_inner_content(
        |writer| {
            writer.create_element("Error").write_inner_content(|writer| {
                writer.create_element("Type").write_text_content(BytesText::new(fault))?;
                writer.create_element("Code").write_text_content(BytesText::new(&error.code))?;
                writer.create_element("Message").write_text_content(BytesText::new(&error.message))?;
                Ok(())
            })?;
            write_request_id(writer)
        },
    )?;
    Ok(())
}

fn write_request_id(writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
    let id = Uuid::new_v4().to_string();
    writer.create_element("RequestId").write_text_content(BytesText::new(&id))?;
    Ok(())
}
