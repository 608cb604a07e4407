//! Scenario files: a service, what befalls it, its policy, and the outcome that the deployment must have.

mod way;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shiftgate::policy::values::Span;
use shiftgate::yaml::{Document, Problem};

use crate::application::Behaviour;
use crate::codedeploy::{Platform, Shift};
use crate::doubts::{Choice, Doubts};
use crate::ecs::Strategy;
use crate::fault::Fault;
use crate::site::PAST;
pub use way::Way;

/// One world, as its file has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What happens, and what should come of it, in prose.
    pub about: String,
    /// The service.
    pub service: ServiceSpec,
    /// How traffic shifts; a canary of 10 % for five minutes without it.
    pub shift: ShiftSpec,
    /// Who carries the deployment out; CodeDeploy without it.
    pub controller: Controller,
    /// The only controller with which it can be played, if it is about something that the other one does not have.
    pub only: Option<Controller>,
    /// Whether it is about a hook before the shift, which a rolling update does not have.
    pub needs_hooks: bool,
    /// Whether it is about both versions serving at once, which they do not where all traffic shifts at once.
    pub needs_both: bool,
    /// What nobody has confirmed of AWS, other than the lab's defaults.
    pub doubts: Doubts,
    /// Length of CodeDeploy's minute: 6 s without it.
    pub minute: Option<Span>,
    /// The old version.
    pub blue: Behaviour,
    /// The new version.
    pub green: Behaviour,
    /// What happens on the way.
    pub events: Vec<Event>,
    /// CloudWatch alarms, with whether they ring from the start.
    pub alarms: BTreeMap<String, bool>,
    /// The policy; the built-in defaults without it.
    pub policy: Option<serde_json::Value>,
    /// Functions whose binary is killed: so long after it got its event, once.
    pub kill: BTreeMap<String, Span>,
    /// What must come of it.
    pub expect: Option<Expect>,
    /// What must come of it instead under another setting of a doubt, by `NAME=SETTING`.
    pub under: BTreeMap<String, Expect>,
}

/// The service of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSpec {
    /// Tasks of each version.
    pub tasks: usize,
    /// Requests per second of its users.
    pub requests_per_second: f64,
    /// Whether the deployment group has a test listener.
    pub test_listener: bool,
    /// Whether a rule of the production listener takes all requests, and the default action none.
    pub rule: bool,
    /// Whether this is its first deployment.
    pub first_deployment: bool,
    /// How far back CloudWatch knows it.
    pub past: Span,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            tasks: 2,
            requests_per_second: 200.0,
            test_listener: true,
            rule: false,
            first_deployment: false,
            past: Span(PAST),
        }
    }
}

/// How traffic shifts; at most one key. Percentages are green's, times are CodeDeploy's minutes.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShiftSpec {
    /// One step, then the rest.
    pub canary: Option<Step>,
    /// Equal steps.
    pub linear: Option<Step>,
    /// At once.
    pub all_at_once: bool,
    /// Task after task; only ECS itself does that.
    pub rolling: bool,
}

/// Who carries a deployment out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// CodeDeploy.
    #[default]
    CodeDeploy,
    /// ECS itself.
    Ecs,
    /// CodeDeploy, and what it deploys is a Lambda function behind an alias.
    Lambda,
}

/// A step of a shift.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Percent.
    pub percent: f64,
    /// Minutes until the next step.
    pub minutes: f64,
}

impl ShiftSpec {
    /// The shift as ECS knows it.
    pub fn strategy(&self) -> Strategy {
        match (self.canary, self.linear) {
            (Some(Step { percent, minutes }), _) => Strategy::Canary { percent, bake_minutes: minutes },
            (None, Some(Step { percent, minutes })) => {
                Strategy::Linear { step_percent: percent, step_bake_minutes: minutes }
            }
            (None, None) if self.rolling => {
                Strategy::Rolling { minimum_healthy_percent: 50, maximum_percent: 150 }
            }
            (None, None) if self.all_at_once => Strategy::BlueGreen,
            (None, None) => Strategy::Canary { percent: 10.0, bake_minutes: 5.0 },
        }
    }

    /// The shift as CodeDeploy knows it.
    pub fn shift(&self) -> Shift {
        match (self.canary, self.linear) {
            (Some(Step { percent, minutes }), _) => Shift::Canary { percent, minutes },
            (None, Some(Step { percent, minutes })) => Shift::Linear { percent, minutes },
            (None, None) if self.all_at_once => Shift::AllAtOnce,
            (None, None) => Shift::Canary { percent: 10.0, minutes: 5.0 },
        }
    }
}

/// Something that happens on the way.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Event {
    /// When it begins.
    pub when: When,
    /// How long it lasts; to the end without it.
    pub lasting: Option<Span>,
    /// The old version's behaviour from then on.
    pub blue: Option<Behaviour>,
    /// The new version's behaviour from then on.
    pub green: Option<Behaviour>,
    /// A fault of AWS.
    pub aws: Option<AwsFault>,
    /// Whether somebody stops the watch's execution.
    pub abort_watch: bool,
}

/// A moment of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// When this lifecycle event begins.
    pub stage: Option<String>,
    /// When green's weight reaches this many percent.
    pub weight: Option<f64>,
    /// So much later.
    pub after: Option<Span>,
}

/// A fault of AWS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsFault {
    /// IAM action, or `*`.
    pub action: String,
    /// What happens to the calls.
    pub fault: Fault,
    /// The function whose calls are hit; all without it.
    #[serde(default)]
    pub caller: Option<String>,
}

/// How the deployment must end.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// `Succeeded`, `Failed` or `Stopped`.
    pub status: String,
    /// Whether traffic must have been given back to blue by a rollback deployment.
    pub rolled_back: bool,
    /// The function that must have decided against the release.
    pub by: Option<String>,
    /// Text that its reason must contain.
    pub reason: Option<String>,
    /// Text that some report must contain, a caveat for example.
    pub report: Option<String>,
    /// Whether nothing counts but whether the release goes through.
    #[serde(skip)]
    pub only_the_outcome: bool,
}

impl Expect {
    /// Whether the release must go through.
    pub fn is_release(&self) -> bool {
        self.status == "Succeeded"
    }
}

impl Scenario {
    /// Reads a scenario, or tells all faults of its file. A scenario without prose or without an expected outcome is
    /// not one.
    pub fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let document = Document::parse(text).map_err(|problem| vec![problem])?;
        let (scenario, mut problems) = document.read::<Self>();
        let mut missing = |key: &str, what: &str| {
            problems.push(Problem { line: 1, key: key.to_owned(), what: what.to_owned() });
        };
        if scenario.about.trim().is_empty() {
            missing("about", "say in prose what happens and what should come of it");
        }
        if scenario.expect.is_none() {
            missing("expect", "a scenario needs an expected outcome");
        }
        for expect in scenario.expect.iter().chain(scenario.under.values()) {
            if !["Succeeded", "Failed", "Stopped"].contains(&expect.status.as_str()) {
                missing("expect.status", "one of Succeeded, Failed, Stopped");
            }
        }
        for written in scenario.under.keys() {
            if let Err(why) = written.parse::<Choice>() {
                missing(&format!("under.{written}"), &why);
            }
        }
        if scenario.controller == Controller::Lambda {
            problems.extend(scenario.unknown_to_functions());
        }
        if problems.is_empty() { Ok(scenario) } else { Err(problems) }
    }

    /// What the scenario of a function says that only a service has.
    fn unknown_to_functions(&self) -> Vec<Problem> {
        let said = [
            (self.shift.rolling, "shift.rolling", "functions have no tasks to replace one after the other"),
            (
                self.only.is_some_and(|only| only != Controller::Lambda),
                "only",
                "this controller deploys no functions",
            ),
            (
                [&self.blue, &self.green].into_iter().any(|version| !version.healthy),
                "healthy",
                "nobody checks the health of a function; give it errors",
            ),
        ];
        let stages = self.events.iter().filter_map(|event| event.when.stage.as_deref());
        let unknown = stages.filter(|stage| !Platform::Lambda.events().contains(stage)).map(|stage| {
            let events = Platform::Lambda.events().join(", ");
            ("events.when.stage", format!("{stage} is none of a function's lifecycle events: {events}"))
        });
        said.into_iter()
            .filter(|(said, ..)| *said)
            .map(|(_, key, what)| (key, what.to_owned()))
            .chain(unknown)
            .map(|(key, what)| Problem { line: 1, key: key.to_owned(), what })
            .collect()
    }

    /// The same in a world that answers one question differently, with the outcome expected there.
    #[must_use]
    pub fn in_doubt(&self, choice: Choice) -> Self {
        let expect = self.under.get(&choice.to_string()).or(self.expect.as_ref()).cloned();
        Self { doubts: self.doubts.with(choice), expect, ..self.clone() }
    }

    /// Length of CodeDeploy's minute.
    pub fn minute(&self) -> Duration {
        self.minute.map_or(Duration::from_secs(6), |span| span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_needs_prose_and_an_outcome() {
        let keys: Vec<String> = Scenario::read("green: {erors: 1}\n")
            .unwrap_err()
            .into_iter()
            .map(|problem| problem.key)
            .collect();
        assert_eq!(keys, ["green.erors", "about", "expect"]);
        assert!(Scenario::read("about: x\nexpect: {status: Succeeded}\n").is_ok());
        assert_eq!(Scenario::read("about: x\nexpect: {status: fine}\n").unwrap_err()[0].key, "expect.status");
    }

    #[test]
    fn a_function_is_played_in_its_own_way_only() {
        let text = "about: x\ncontroller: lambda\nexpect: {status: Succeeded}\n";
        let scenario = Scenario::read(text).unwrap();
        assert_eq!(scenario.controller, Controller::Lambda);
        assert!(Way::ALL.into_iter().all(|way| scenario.in_way(way).is_none()));

        let text = format!(
            "{text}shift: {{rolling: true}}\nonly: ecs\ngreen: {{healthy: false}}\nevents: [{{when: {{stage: Install}}}}]\n"
        );
        let keys: Vec<String> =
            Scenario::read(&text).unwrap_err().into_iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["shift.rolling", "only", "healthy", "events.when.stage"]);
    }
}
