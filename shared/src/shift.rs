//! One look while both versions serve: does green run, does it answer, and are its metrics as good as blue's?

use jiff::Timestamp;

use crate::beside::beside;
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
    // Alone: what is timed must not wait for what is worked out.
    let smoke = smoke::still_answers(release).await;
    let span = Span { shift: began, from: began, until: Timestamp::MAX };
    let gates = &release.plan.traffic;
    let (findings, read) = {
        let release = &*release;
        // An outage is acted on even while metrics cannot be read.
        let is_enough = |findings: &Findings| findings.end_it(rules);
        let at_this_moment = async { at_this_moment(release, patience).await.and("smoke", smoke) };
        beside(at_this_moment, is_enough, traffic::read(release, &[(gates, span)], now)).await
    };
    let Some(read) = read.filter(|_| !findings.end_it(rules)) else {
        return Ok(Look { findings, ends: true });
    };
    let read = read?;
    let seen = traffic::judge(release, gates, span, now, &read).await?;
    read.leave(&mut release.usually_slow);
    report::looked(about, release, &seen.findings, seen.window.periods);
    let findings = findings.and("traffic", Ok(seen.findings));
    let ends = findings.end_it(rules);
    if ends {
        release.recording = seen.recording;
    }
    Ok(Look { findings, ends })
}

/// What shows without metrics: whether green runs, and whether an alarm rings.
async fn at_this_moment(release: &Release, patience: Patience) -> Findings {
    let (runs, alarms) =
        tokio::join!(readiness::green_still_runs(release, patience), preflight::alarms_of_policy(release),);
    Findings::new().and("readiness", runs).and("alarms", alarms)
}
