//! The evidence of a verdict: one document, from which every report is made. Versioned; the JSON Schema is checked in as
//! docs/evidence.schema.json.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::About;
use crate::hook::Release;
use crate::policy::explained::explained;
use crate::policy::plan::Mode;
use crate::recording::{Recording, Traffic, replay};
use crate::rollout::{LifecycleEvent, Phase};
use crate::verdict::{Answer, Caveat, Finding, Outcome, Verdict};

/// The one version of this format.
pub const VERSION: u32 = 1;

/// What was seen, what it came to, and what was known when it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Version of this format: 1.
    pub version: u32,
    /// When the verdict was drawn.
    pub at: Timestamp,
    /// The stage: the function's name, or the lifecycle stage of ECS.
    pub stage: String,
    /// The deployment: an id of CodeDeploy, or the ARN of a service deployment of ECS.
    pub deployment_id: String,
    /// `codedeploy` or `ecs`.
    pub controller: String,
    /// AWS region.
    pub region: Option<String>,
    /// CodeDeploy application, or the cluster; null when it could not be read.
    pub application: Option<String>,
    /// Deployment group, or the service.
    pub deployment_group: Option<String>,
    /// Deployment configuration, or the strategy.
    pub configuration: Option<String>,
    /// Where the policy came from; null when it was not read.
    pub policy: Option<String>,
    /// The worst of the findings.
    pub outcome: Outcome,
    /// What the controller was told.
    pub answer: Answer,
    /// Whether it would have been told `Failed` if the policy did not say `mode: observe`.
    pub would_have_rolled_back: bool,
    /// The sentence that explains the answer.
    pub reason: String,
    /// What to do now.
    pub next_step: String,
    /// Everything seen, in the order in which it was checked.
    pub findings: Vec<Finding>,
    /// Why the verdict as a whole may mislead.
    pub caveats: Vec<Caveat>,
    /// What was known of the rollout; null when it could not be read.
    pub rollout: Option<Background>,
    /// Log group of the function.
    pub log_group: Option<String>,
    /// Milliseconds that the function took.
    pub duration_ms: u64,
}

/// What is known of a rollout beside the findings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Background {
    /// The ECS service or Lambda function.
    pub service: String,
    /// The policy's mode: `enforce` or `observe`.
    pub mode: String,
    /// Lifecycle events so far; ECS tells none.
    pub lifecycle: Vec<Event>,
    /// Green's share of production traffic in percent.
    pub weight: Option<f64>,
    /// How the shift goes on, step by step, below 100 %.
    pub steps: Vec<Step>,
    /// The policy in force, in words.
    pub plan: Vec<String>,
    /// What the comparisons looked at; null before the shift.
    pub recording: Option<Traffic>,
    /// How the evidence of each comparison grew.
    pub comparisons: Vec<Comparison>,
}

/// A lifecycle event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Name, such as `AllowTraffic`.
    pub name: String,
    /// `pending`, `in progress`, `succeeded` or `over`.
    pub status: String,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// A step of the shift.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Green's share of the traffic, 0 to 1.
    pub share: f64,
    /// Seconds until the next.
    pub seconds: u64,
}

/// One gate that compares green with blue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Its name in the policy.
    pub name: String,
    /// It fails when the chance is at most this, 0 to 1.
    pub limit: f64,
    /// After each minute of the recording: how often a release as good as blue would look as bad, 0 to 1.
    pub chances: Vec<Option<f64>>,
}

/// The JSON Schema of evidence.
pub fn schema() -> Schema {
    schema_for!(Evidence)
}

impl Evidence {
    /// All that there is to say of a verdict.
    pub fn new(about: &About, verdict: &Verdict, at: Timestamp, duration_ms: u64) -> Self {
        let deployment = about.deployment.as_ref();
        let is_of_ecs = about.deployment_id.service_deployment().is_some();
        Self {
            version: VERSION,
            at,
            stage: about.stage.name().to_owned(),
            deployment_id: about.deployment_id.to_string(),
            controller: if is_of_ecs { "ecs" } else { "codedeploy" }.to_owned(),
            region: about.region.clone(),
            application: deployment.map(|deployment| deployment.application.clone()),
            deployment_group: deployment.map(|deployment| deployment.group.clone()),
            configuration: deployment.map(|deployment| deployment.configuration.clone()),
            policy: about.source.as_ref().map(ToString::to_string),
            outcome: verdict.outcome,
            answer: verdict.answer,
            would_have_rolled_back: verdict.would_have_rolled_back,
            reason: verdict.reason.clone(),
            next_step: next_step(about, verdict),
            findings: verdict.findings.clone(),
            caveats: verdict.caveats.clone(),
            rollout: about.background.clone(),
            log_group: about.log_group.clone(),
            duration_ms,
        }
    }

    /// From what the log of a function has: the line of the verdict, and that of the recording before it, if there is one.
    pub fn from_log(mut verdict: Value, recording: Option<&Value>) -> Result<Self, serde_json::Error> {
        if let (Some(rollout), Some(recording)) = (verdict["rollout"].as_object_mut(), recording) {
            rollout.insert("recording".to_owned(), recording.clone());
        }
        Self::deserialize(verdict)
    }

    /// The same of one of the lines of a log: the verdict there, with the recording that its function wrote before it.
    pub fn on_line(lines: &[&Value], at: usize) -> Result<Self, serde_json::Error> {
        let verdict = lines[at];
        let of_the_same = |line: &&&Value| {
            line["message"] == "recording" && line["deployment_id"] == verdict["deployment_id"]
        };
        let recording = lines[..at].iter().rfind(of_the_same).map(|line| &line["recording"]);
        Self::from_log(verdict.clone(), recording)
    }

    /// Whether it stopped the release, or would have if the policy did not say `mode: observe`.
    pub fn is_bad(&self) -> bool {
        self.answer == Answer::Failed || self.would_have_rolled_back
    }

    /// What happened, in a few words.
    pub fn headline(&self) -> &'static str {
        let is_last = matches!(self.stage.as_str(), "after-allow-traffic" | "POST_PRODUCTION_TRAFFIC_SHIFT");
        let has_traffic = is_last || matches!(self.stage.as_str(), "watch" | "PRODUCTION_TRAFFIC_SHIFT");
        match (self.answer, self.would_have_rolled_back) {
            (Answer::Failed, _) if has_traffic => "rolled back",
            (Answer::Failed, _) => "stopped before it took traffic",
            (Answer::Succeeded, true) if has_traffic => "would have been rolled back",
            (Answer::Succeeded, true) => "would have been stopped before it took traffic",
            (Answer::Succeeded, false) if is_last && self.outcome == Outcome::Pass => "released",
            (Answer::Succeeded, false) if is_last => "released, though not everything could be told",
            (Answer::Succeeded, false) => "goes on",
        }
    }

    /// `APPLICATION/GROUP`, as far as it is known.
    pub fn name(&self) -> String {
        match (&self.application, &self.deployment_group) {
            (Some(application), Some(group)) => format!("{application}/{group}"),
            _ => self.deployment_id.clone(),
        }
    }

    /// One line for a chat.
    pub fn line(&self) -> String {
        let reason = self.reason.replace('\n', " ");
        format!("{} {} ({}, {}): {reason}", self.name(), self.headline(), self.stage, self.deployment_id)
    }
}

impl Background {
    /// What a release knows by now.
    pub fn of(release: &Release) -> Self {
        let rollout = &release.rollout;
        let function = rollout.function.as_ref().map(|function| function.name.clone());
        Self {
            service: function.unwrap_or_else(|| rollout.service.clone()),
            mode: if release.plan.rules.mode == Mode::Observe { "observe" } else { "enforce" }.to_owned(),
            lifecycle: rollout.events.iter().map(Event::from).collect(),
            weight: rollout.green.tasks.map(|tasks| tasks.weight),
            steps: rollout
                .schedule
                .iter()
                .map(|step| Step { share: step.share, seconds: step.lasts.as_secs() })
                .collect(),
            plan: explained(&release.plan),
            comparisons: release.recording.as_ref().map_or_else(Vec::new, |recording| {
                let judged = replay(&Recording::Traffic(recording.clone()), &release.plan).gates;
                let of = |gate: crate::recording::Judged| Comparison {
                    name: gate.name,
                    limit: gate.limit,
                    chances: gate.evidence,
                };
                judged.into_iter().map(of).collect()
            }),
            recording: release.recording.clone(),
        }
    }
}

impl From<&LifecycleEvent> for Event {
    fn from(event: &LifecycleEvent) -> Self {
        let status = match event.status {
            Phase::Pending => "pending",
            Phase::InProgress => "in progress",
            Phase::Succeeded => "succeeded",
            Phase::Over => "over",
        };
        Self { name: event.name.clone(), status: status.to_owned(), began: event.started, ended: event.ended }
    }
}

/// What whoever is on call does first.
fn next_step(about: &About, verdict: &Verdict) -> String {
    let bad = verdict.answer == Answer::Failed || verdict.would_have_rolled_back;
    if !bad {
        let unclear = verdict.outcome == Outcome::Inconclusive;
        return if unclear {
            "Nothing stops the release. What could not be told is below; look at it before you call the release good."
        } else {
            "Nothing to do."
        }
        .to_owned();
    }
    let failed = verdict.findings.iter().any(|finding| finding.outcome == Outcome::Fail);
    let fault = verdict.findings.iter().find_map(|finding| finding.fault.as_ref());
    match fault.filter(|_| !failed) {
        Some(fault) => format!("It could not be checked: {}.", fault.hint.trim_end_matches('.')),
        None if verdict.would_have_rolled_back => {
            "Nothing was stopped, since the policy says `mode: observe`: users meet this version. Look at the logs of the new tasks for what the reason counts, and decide whether to roll back.".to_owned()
        }
        None => advice(about).to_owned(),
    }
}

/// Where the cause of a failure at this stage is found.
fn advice(about: &About) -> &'static str {
    match about.stage.name() {
        "before-install" | "PRE_SCALE_UP" | "RECONCILE_SERVICE" => {
            "Nothing of the new version was started. Mend what the reason names, and deploy again."
        }
        "after-install" | "POST_SCALE_UP" => {
            "Users met nothing of it. Look at the events of the service and the logs of the new tasks: why do they not run, or why are their targets not healthy?"
        }
        "after-allow-test-traffic"
        | "before-allow-traffic"
        | "TEST_TRAFFIC_SHIFT"
        | "POST_TEST_TRAFFIC_SHIFT"
        | "PRE_PRODUCTION_TRAFFIC_SHIFT" => {
            "Users met nothing of it. Send the request that failed to the test listener, and look at the logs of the new tasks."
        }
        _ => {
            "Traffic goes back to the old version. Look at the logs of the new tasks in the minutes of the shift for what the reason counts, mend it, and deploy again."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::event::{DeploymentId, Stage};
    use crate::fault::{Fault, FaultKind};
    use crate::policy::plan::Choice;
    use crate::verdict::{Rules, conclude};

    fn evidence(stage: Stage, mode: Mode, findings: Vec<Finding>) -> Evidence {
        let about = About::new(stage, DeploymentId::new("d-0B7YUA91L").unwrap(), &Environment::default());
        let rules = Rules { mode, on_inconclusive: Choice::Proceed, on_fault: Choice::Fail };
        Evidence::new(&about, &conclude(findings, rules), Timestamp::UNIX_EPOCH, 40)
    }

    fn found(outcome: Outcome) -> Vec<Finding> {
        vec![Finding::new("gate", outcome, "seen")]
    }

    #[test]
    fn the_headline_says_what_became_of_the_release() {
        let told = |stage, mode, outcome| evidence(stage, mode, found(outcome)).headline();
        let (enforce, observe) = (Mode::Enforce, Mode::Observe);
        assert_eq!(told(Stage::Watch, enforce, Outcome::Fail), "rolled back");
        assert_eq!(told(Stage::Watch, observe, Outcome::Fail), "would have been rolled back");
        assert_eq!(told(Stage::AfterInstall, enforce, Outcome::Fail), "stopped before it took traffic");
        assert_eq!(told(Stage::AfterInstall, enforce, Outcome::Pass), "goes on");
        assert_eq!(told(Stage::AfterAllowTraffic, enforce, Outcome::Pass), "released");
        let unclear = told(Stage::AfterAllowTraffic, observe, Outcome::Inconclusive);
        assert_eq!(unclear, "released, though not everything could be told");
    }

    #[test]
    fn who_is_on_call_is_told_what_to_do() {
        let step = |mode, findings| evidence(Stage::Watch, mode, findings).next_step;
        assert_eq!(step(Mode::Enforce, found(Outcome::Pass)), "Nothing to do.");
        assert!(
            step(Mode::Enforce, found(Outcome::Fail)).starts_with("Traffic goes back to the old version.")
        );
        // Whoever only observes must not be told that traffic goes back.
        assert!(step(Mode::Observe, found(Outcome::Fail)).starts_with("Nothing was stopped"));
        let fault = Fault::new(FaultKind::Denied, "denied", "allow ssm:GetParameters.");
        let not_checked = vec![Finding::from_fault("policy", &fault)];
        assert_eq!(step(Mode::Enforce, not_checked), "It could not be checked: allow ssm:GetParameters.");
    }

    #[test]
    fn the_log_has_all_of_it() {
        let written = evidence(Stage::Watch, Mode::Enforce, found(Outcome::Fail));
        let line = serde_json::to_value(&written).unwrap();
        assert_eq!(Evidence::from_log(line, None).unwrap(), written);
    }
}
