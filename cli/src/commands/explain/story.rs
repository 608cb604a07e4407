//! A rollout from begin to end, and how it is told.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};
use shiftgate::report::Evidence;

use super::summary::summary;
use crate::ledger::Verdict;

/// All that is known of a rollout.
#[derive(Debug, Default)]
pub struct Story {
    /// Id or ARN.
    pub deployment: String,
    /// `CodeDeploy` or `ECS`.
    pub controller: &'static str,
    /// Application and group, or cluster and service.
    pub of: String,
    /// Deployment configuration, or strategy.
    pub configuration: String,
    /// Status in AWS's words.
    pub status: String,
    /// Whether it has ended.
    pub is_over: bool,
    /// When it was made.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What AWS says went wrong: code and message.
    pub error: Option<(String, String)>,
    /// How it was undone, in words.
    pub undone: Option<String>,
    /// The deployment that this one undoes.
    pub undoes: Option<String>,
    /// Green's share of production traffic in percent, where it is told.
    pub weight: Option<f64>,
    /// The controller's events.
    pub events: Vec<Event>,
    /// What Shiftgate logged, in the order of time.
    pub moments: Vec<Moment>,
    /// Shiftgate's verdicts, in the order of time.
    pub verdicts: Vec<Verdict>,
    /// The evidence of the verdict that ended the rollout, or else of the last.
    pub evidence: Option<Evidence>,
    /// What could not be done, as the log has it.
    pub failures: Vec<Failure>,
    /// What a reader should know of how this was read.
    pub notes: Vec<String>,
}

/// A lifecycle event of the controller.
#[derive(Debug)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: String,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What AWS says of it.
    pub message: Option<String>,
}

/// Something that Shiftgate logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// Which hook or stage.
    pub stage: String,
    /// Which kind of line: `verdict`, `look`, `held`, `failed` and others.
    pub kind: String,
    /// What it says.
    pub text: String,
}

/// Something that Shiftgate could not do.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl Story {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text.trim_end().to_owned()
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { deployment, controller, of, configuration, status, .. } = self;
        writeln!(text, "Deployment {deployment} of {of} by {controller} ({configuration}): {status}")?;
        if let Some(began) = self.began {
            let took = self.ended.map(|ended| format!(", ended {}", told(ended))).unwrap_or_default();
            writeln!(text, "began {}{took} (UTC)", told(began))?;
        }
        if let Some((code, message)) = &self.error {
            writeln!(text, "{controller} says: {code}: {message}")?;
        }
        for line in
            [&self.undone, &self.undoes.as_ref().map(|of| format!("undoes {of}"))].into_iter().flatten()
        {
            writeln!(text, "{line}")?;
        }
        if !self.events.is_empty() {
            writeln!(text, "\nLifecycle events")?;
        }
        for Event { name, status, began, ended, message } in &self.events {
            let time =
                began.map_or_else(|| "       -".to_owned(), |began| began.strftime("%H:%M:%S").to_string());
            let took = began
                .zip(*ended)
                .map(|(began, ended)| format!(", {} s", ended.duration_since(began).as_secs()));
            let why = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            writeln!(text, "  {time}  {name:<22} {status}{}{why}", took.unwrap_or_default())?;
        }
        if !self.moments.is_empty() {
            writeln!(text, "\nShiftgate")?;
        }
        for Moment { at, stage, text: said, .. } in &self.moments {
            writeln!(text, "  {}  {stage:<28} {said}", at.strftime("%H:%M:%S"))?;
        }
        writeln!(text, "\n{}", summary(self))?;
        self.notes.iter().try_for_each(|note| writeln!(text, "\nNote: {note}"))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|event| {
                json!({
                    "event": event.name, "status": event.status, "began": time(event.began),
                    "ended": time(event.ended), "message": event.message,
                })
            })
            .collect();
        let moments: Vec<Value> = self
            .moments
            .iter()
            .map(|one| json!({"at": one.at.to_string(), "stage": one.stage, "kind": one.kind, "text": one.text}))
            .collect();
        json!({
            "deployment_id": self.deployment,
            "controller": self.controller.to_lowercase(),
            "of": self.of,
            "configuration": self.configuration,
            "status": self.status,
            "is_over": self.is_over,
            "began": time(self.began),
            "ended": time(self.ended),
            "error": self.error.as_ref().map(|(code, message)| json!({"code": code, "message": message})),
            "undone": self.undone,
            "undoes": self.undoes,
            "events": events,
            "log": moments,
            "verdicts": self.verdicts.iter().map(Verdict::json).collect::<Vec<_>>(),
            "summary": summary(self),
            "notes": self.notes,
        })
    }
}

fn told(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
