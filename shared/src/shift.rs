//! One look while both versions serve: does green run, does it answer, and are its metrics as good as blue's?

use jiff::Timestamp;

use crate::event::Stage;
use crate::fault::Fault;
use crate::hook::Release;
use crate::preflight;
use crate::readiness::{self, Patience};
use crate::report::{self, About};
use crate::smoke;
use crate::traffic::{self, Span};
use crate::verdict::Findings;

/// What a look found.
#[derive(Debug)]
pub struct Look {
    /// Everything.
    pub findings: Findings,
    /// Whether the release must end now.
    pub ends: bool,
}

/// Looks at all complete periods since the shift began.
pub async fn look(
    release: &mut Release,
    about: &About,
    began: Timestamp,
    now: Timestamp,
) -> Result<Look, Fault> {
    let rules = release.plan.rules;
    // The watch looks again in a minute. ECS acts on what one call finds.
    let patience = if about.stage == Stage::Watch { Patience::InPassing } else { Patience::Full };
    let runs = readiness::green_still_runs(release, patience).await;
    let mut findings = Findings::new().and("readiness", runs);
    if !release.plan.alarms.is_empty() {
        findings = findings.and("alarms", preflight::alarms(release).await);
    }
    findings = findings.and("smoke", smoke::still_answers(release).await);
    // An outage is acted on even while metrics cannot be read.
    if findings.end_it(rules) {
        return Ok(Look { findings, ends: true });
    }
    let span = Span { shift: began, from: began, until: Timestamp::MAX };
    let seen = traffic::look(release, &release.plan.traffic, span, now).await?;
    report::looked(about, release, &seen.findings, seen.window.periods);
    findings = findings.and("traffic", Ok(seen.findings));
    let ends = findings.end_it(rules);
    if ends {
        release.recording = seen.recording;
    }
    Ok(Look { findings, ends })
}
