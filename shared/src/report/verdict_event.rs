//! The event on the bus: what rules match, and what their targets are given.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

use super::Evidence;

/// Source of all events of Shiftgate.
pub const SOURCE: &str = "shiftgate";
/// Their one detail type.
pub const DETAIL_TYPE: &str = "Shiftgate Verdict";
/// Bytes that a detail may have. `EventBridge` takes entries of 256 KiB, with everything that is in them.
const LONGEST: usize = 250_000;

/// The `detail` of an event: the evidence of a verdict without the recording, and the same in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictEvent {
    /// What happened, in a few words, such as "rolled back" or "would have been rolled back".
    pub headline: String,
    /// One line for people: what, where, why.
    pub text: String,
    /// The report, where the stack stores reports; null otherwise, and when it could not be stored.
    pub page: Option<Page>,
    /// The evidence.
    #[serde(flatten)]
    pub evidence: Evidence,
}

/// A stored report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The bucket.
    pub bucket: String,
    /// Key of the page in it; the evidence is beside it, with `.json` instead of `.html`.
    pub key: String,
    /// The page in the AWS console, for whoever may read the bucket.
    pub url: String,
}

/// The JSON Schema of the detail.
pub fn schema() -> Schema {
    schema_for!(VerdictEvent)
}

/// An entry for the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When the verdict was drawn.
    pub at: Timestamp,
    /// ARNs of what it is about.
    pub resources: Vec<String>,
    /// The detail, JSON.
    pub detail: String,
}

impl Entry {
    /// The entry of a verdict. `owner` is the ARN of the function that tells of it, which knows the account.
    pub fn new(evidence: &Evidence, page: Option<Page>, owner: &str) -> serde_json::Result<Self> {
        let mut event = VerdictEvent {
            headline: evidence.headline().to_owned(),
            text: evidence.line(),
            page,
            evidence: evidence.clone(),
        };
        if let Some(rollout) = event.evidence.rollout.as_mut() {
            rollout.recording = None;
        }
        let mut detail = serde_json::to_string(&event)?;
        if detail.len() > LONGEST {
            event.evidence.rollout = None;
            detail = serde_json::to_string(&event)?;
        }
        Ok(Self { at: evidence.at, resources: resources(evidence, owner), detail })
    }
}

/// The service deployment and its service, or the deployment group. CodeDeploy's deployments have no ARN.
fn resources(evidence: &Evidence, owner: &str) -> Vec<String> {
    if evidence.controller == "ecs" {
        let deployment = evidence.deployment_id.clone();
        let service = deployment
            .rsplit_once('/')
            .map(|(rest, _)| rest.replacen(":service-deployment/", ":service/", 1));
        return std::iter::once(deployment).chain(service).collect();
    }
    // arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME
    let mut parts = owner.split(':').skip(1);
    let (partition, _, region, account) = (parts.next(), parts.next(), parts.next(), parts.next());
    let group = evidence.application.as_ref().zip(evidence.deployment_group.as_ref());
    match (partition, region, account, group) {
        (Some(partition), Some(region), Some(account), Some((application, group))) => {
            vec![format!(
                "arn:{partition}:codedeploy:{region}:{account}:deploymentgroup:{application}/{group}"
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    /// The evidence of a release that the watch rolled back.
    fn failed() -> Evidence {
        let mut event: Value =
            serde_json::from_str(include_str!("../../../docs/verdict-event.json")).unwrap();
        Evidence::from_log(event["detail"].take(), None).unwrap()
    }

    const OWNER: &str = "arn:aws:lambda:eu-west-1:123456789012:function:shiftgate-shiftgate-publish";

    fn page() -> Page {
        Page { bucket: "reports".to_owned(), key: "a.html".to_owned(), url: "https://example.com".to_owned() }
    }

    #[test]
    fn rules_can_match_what_the_verdict_was() {
        let entry = Entry::new(&failed(), Some(page()), OWNER).unwrap();
        let detail: Value = serde_json::from_str(&entry.detail).unwrap();
        assert_eq!(detail["answer"], "Failed");
        assert_eq!(detail["would_have_rolled_back"], false);
        assert_eq!(detail["application"], "shop");
        assert_eq!(detail["headline"], "rolled back");
        assert_eq!(detail["page"]["key"], "a.html");
        assert_eq!(
            detail["rollout"]["recording"],
            Value::Null,
            "it may be long, and is in the stored evidence"
        );
        assert_eq!(
            entry.resources,
            ["arn:aws:codedeploy:eu-west-1:123456789012:deploymentgroup:shop/orders"]
        );
    }

    #[test]
    fn of_ecs_the_deployment_and_its_service_are_named() {
        let deployment = "arn:aws:ecs:eu-west-1:123456789012:service-deployment/main/orders/abc";
        let evidence =
            Evidence { controller: "ecs".to_owned(), deployment_id: deployment.to_owned(), ..failed() };
        let service = "arn:aws:ecs:eu-west-1:123456789012:service/main/orders";
        assert_eq!(Entry::new(&evidence, None, OWNER).unwrap().resources, [deployment, service]);
    }

    #[test]
    fn what_is_too_long_for_the_bus_is_left_out() {
        let mut evidence = failed();
        evidence.rollout.as_mut().unwrap().plan = vec!["x".repeat(LONGEST)];
        let detail: VerdictEvent =
            serde_json::from_str(&Entry::new(&evidence, None, OWNER).unwrap().detail).unwrap();
        assert_eq!(detail.evidence, Evidence { rollout: None, ..evidence });
    }

    #[test]
    fn the_checked_in_schema_is_the_one_that_is_generated() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verdict-event.schema.json");
        let checked_in: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(
            checked_in,
            serde_json::to_value(schema()).unwrap(),
            "write it anew: cargo run -- report --event-schema > docs/verdict-event.schema.json"
        );
    }
}
