//! Where a report lies in the bucket.

use jiff::tz::TimeZone;
use shiftgate::report::Evidence;
use shiftgate::report::verdict_event::Page;
use shiftgate_report::console;

/// `reports/APPLICATION/GROUP/DEPLOYMENT/TIME-STAGE`, to which `.html` and `.json` are added. By time, since ECS passes some
/// stages again when it rolls back. Told twice, a verdict has the same key.
pub fn key(evidence: &Evidence) -> String {
    let name = |name: &Option<String>| name.as_deref().map_or_else(|| "unknown".to_owned(), safe);
    let deployment = evidence.deployment_id.rsplit('/').next().unwrap_or_default();
    format!(
        "reports/{}/{}/{}/{}-{}",
        name(&evidence.application),
        name(&evidence.deployment_group),
        safe(deployment),
        evidence.at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H-%M-%S.%3fZ"),
        safe(&evidence.stage),
    )
}

/// Letters, digits and a few signs that need no care in keys and addresses; names of applications may hold others.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

/// The page under a key, as people find it.
pub fn page(bucket: &str, key: &str, region: Option<&str>) -> Page {
    let key = format!("{key}.html");
    let url = region.map_or_else(
        || format!("s3://{bucket}/{key}"),
        |region| format!("{}/s3/object/{bucket}?region={region}&prefix={key}", console(region)),
    );
    Page { bucket: bucket.to_owned(), key, url }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::failed;

    #[test]
    fn a_report_lies_with_its_deployment_by_time() {
        assert_eq!(key(&failed()), "reports/shop/orders/d-0B7YUA91L/2026-11-24T10-07-00.000Z-watch");
        let odd = Evidence {
            application: None,
            deployment_group: Some("a b/ü".to_owned()),
            deployment_id: "arn:aws:ecs:eu-west-1:123456789012:service-deployment/main/orders/abc".to_owned(),
            ..failed()
        };
        assert_eq!(key(&odd), "reports/unknown/a_b__/abc/2026-11-24T10-07-00.000Z-watch");
    }

    #[test]
    fn a_page_has_an_address_in_the_console_of_its_partition() {
        let of = |region| page("reports-1", "reports/a", region).url;
        assert_eq!(
            of(Some("cn-north-1")),
            "https://cn-north-1.console.amazonaws.cn/s3/object/reports-1?region=cn-north-1&prefix=reports/a.html"
        );
        assert_eq!(of(None), "s3://reports-1/reports/a.html");
    }
}
