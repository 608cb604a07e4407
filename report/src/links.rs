//! Where the AWS console shows more.

use shiftgate::report::Evidence;

/// A page of the console.
pub struct Link {
    /// What is there.
    pub name: &'static str,
    /// Where.
    pub url: String,
}

/// The deployment, the function's log and the metrics; none when the region is not known.
pub fn links(evidence: &Evidence) -> Vec<Link> {
    let Some(region) = evidence.region.as_deref() else { return Vec::new() };
    let console = console(region);
    let mut links = vec![Link { name: "The deployment", url: deployment(evidence, &console, region) }];
    if let Some(group) = &evidence.log_group {
        let group = twice_encoded(group);
        let url = format!("{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}");
        links.push(Link { name: "The log of this function", url });
    }
    if evidence.rollout.as_ref().is_some_and(|rollout| rollout.recording.is_some()) {
        let url = format!(
            "{console}/cloudwatch/home?region={region}#metricsV2:graph=~();namespace=~'AWS*2fApplicationELB"
        );
        links.push(Link { name: "The load balancer's metrics", url });
    }
    links
}

/// The address of the console of a region, without a slash at its end.
pub fn console(region: &str) -> String {
    format!("https://{region}.{}", domain(region))
}

fn deployment(evidence: &Evidence, console: &str, region: &str) -> String {
    let id = &evidence.deployment_id;
    match (evidence.controller.as_str(), &evidence.application, &evidence.deployment_group) {
        ("ecs", Some(cluster), Some(service)) => {
            format!("{console}/ecs/v2/clusters/{cluster}/services/{service}/deployments?region={region}")
        }
        ("ecs", ..) => format!("{console}/ecs/v2/clusters?region={region}"),
        _ => format!("{console}/codesuite/codedeploy/deployments/{id}?region={region}"),
    }
}

/// The console of a partition.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "console.amazonaws.cn"
    } else if region.starts_with("us-gov-") {
        "console.amazonaws-us-gov.com"
    } else if region.starts_with("eusc-") {
        "console.amazonaws-eusc.eu"
    } else {
        "console.aws.amazon.com"
    }
}

/// As the console writes names within the fragment of its addresses: percent encoded, and the percent signs as `$25`.
fn twice_encoded(name: &str) -> String {
    name.replace('/', "$252F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_a_console_of_its_own() {
        assert_eq!(domain("eu-west-1"), "console.aws.amazon.com");
        assert_eq!(domain("cn-north-1"), "console.amazonaws.cn");
        assert_eq!(domain("us-gov-west-1"), "console.amazonaws-us-gov.com");
        assert_eq!(domain("eusc-de-east-1"), "console.amazonaws-eusc.eu");
    }

    #[test]
    fn slashes_of_a_log_group_are_encoded_twice() {
        assert_eq!(twice_encoded("/aws/lambda/f"), "$252Faws$252Flambda$252Ff");
    }
}
