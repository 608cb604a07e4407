//! Answers to smoke requests, held against expectations.

use std::time::Duration;

use shiftgate::policy;
use shiftgate::smoke::expect::{Response, faults};

/// The first part is the `expect` of a check, the second the body, whose first byte also makes the status.
pub fn smoke(data: &[u8]) {
    let mut parts = super::parts(data);
    let (Some(Ok(expect)), Some(body)) = (parts.next().map(std::str::from_utf8), parts.next()) else {
        return;
    };
    let indented = expect.replace('\n', "\n        ");
    let text = format!("smoke:\n  checks:\n    - get: /\n      expect:\n        {indented}\n");
    let Ok(plan) = policy::parse(&text) else { return };
    let response = Response {
        cut: false,
        status: 100 + 2 * u16::from(body.first().copied().unwrap_or(b'2')),
        headers: [("content-type", "application/json")]
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .collect(),
        body: body.to_vec(),
        took: Duration::from_millis(u64::try_from(body.len()).unwrap_or(u64::MAX)),
    };
    for check in plan.smoke.checks.iter().flatten() {
        let found = faults(&check.expect, &response);
        assert_eq!(faults(&check.expect, &response), found, "the same answer, other faults");
        for fault in found {
            // Nothing of the body is told but the names of keys that the policy has.
            assert!(fault.len() <= 8 * text.len() + 200, "{} bytes of fault: {fault}", fault.len());
        }
    }
}
