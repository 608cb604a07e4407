//! `watch`: a rollout while it goes on, from its controller and from the log, until it ends. Only calls that read.

use std::time::Duration;

use anyhow::Result;
use shiftgate::event::DeploymentId;

use super::explain::{self, Moment, Story};
use crate::account::{Account, told};
use crate::show::{self, Spinner};

/// Which rollout.
#[derive(clap::Args)]
pub struct Arguments {
    /// Id of a deployment of CodeDeploy (d-...), or ARN of a service deployment of ECS
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
    /// Only the log of this stack of Shiftgate; of all that the account has without it
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    every: u64,
}

/// Follows it to its end; false when it did not go through.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let id = DeploymentId::new(&arguments.deployment).map_err(told)?;
    let account = Account::from_environment().await;
    let mut spinner = Spinner::new();
    let mut shown = Shown::default();
    // The log takes some seconds to have the last words.
    let mut was_over = false;
    loop {
        let story = explain::read(&account, &id, arguments.stack.as_deref(), &mut spinner).await?;
        for line in shown.new_of(&story) {
            spinner.line(&line);
        }
        if story.is_over && was_over {
            spinner.finish();
            show::line(&format!("\n{}", explain::summary(&story)));
            return Ok(story.error.is_none() && story.undone.is_none());
        }
        was_over = story.is_over;
        let weight = story.weight.map(|weight| format!(", {weight} % green")).unwrap_or_default();
        spinner.say(&format!("{} {}{weight}", story.of, story.status));
        tokio::time::sleep(Duration::from_secs(arguments.every)).await;
    }
}

/// What was shown of a rollout.
#[derive(Default)]
struct Shown {
    /// Each lifecycle event with its status.
    events: Vec<(String, String)>,
    /// How many moments of the log; it only grows, but what is written late may stand before what was shown.
    moments: Vec<Moment>,
    weight: Option<f64>,
    status: String,
    notes: Vec<String>,
}

impl Shown {
    /// The lines that are new.
    fn new_of(&mut self, story: &Story) -> Vec<String> {
        let mut lines = Vec::new();
        if self.status != story.status {
            lines.push(format!("{:<28} {}", story.controller, story.status));
            self.status.clone_from(&story.status);
        }
        for event in &story.events {
            let now = (event.name.clone(), event.status.clone());
            if event.status != "Pending" && !self.events.contains(&now) {
                lines.push(format!("{:<28} {}", event.name, event.status));
                self.events.push(now);
            }
        }
        if let Some(weight) = story.weight.filter(|weight| self.weight != Some(*weight)) {
            lines.push(format!("{:<28} {weight} % green", "traffic"));
            self.weight = Some(weight);
        }
        for moment in &story.moments {
            if !self.moments.contains(moment) {
                lines.push(format!("{:<28} {}", moment.stage, moment.text));
                self.moments.push(moment.clone());
            }
        }
        for note in &story.notes {
            if !self.notes.contains(note) {
                lines.push(format!("note: {note}"));
                self.notes.push(note.clone());
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::explain::Event;
    use super::*;

    #[test]
    fn everything_is_shown_once() {
        let event = |name: &str, status: &str| Event {
            name: name.to_owned(),
            status: status.to_owned(),
            began: None,
            ended: None,
            message: None,
        };
        let moment = |second: i64, text: &str| Moment {
            at: Timestamp::from_second(second).unwrap(),
            stage: "watch".to_owned(),
            kind: "look".to_owned(),
            text: text.to_owned(),
        };
        let mut story = Story {
            controller: "CodeDeploy",
            status: "InProgress".to_owned(),
            events: vec![
                event("Install", "Succeeded"),
                event("AllowTraffic", "InProgress"),
                event("x", "Pending"),
            ],
            moments: vec![moment(10, "looks: nothing")],
            weight: Some(10.0),
            ..Story::default()
        };
        let mut shown = Shown::default();
        assert_eq!(shown.new_of(&story).len(), 5);
        assert_eq!(shown.new_of(&story), [""; 0]);
        // Written earlier, and seen later.
        story.moments.insert(0, moment(9, "looks: at first"));
        story.weight = Some(100.0);
        story.events[1].status = "Succeeded".to_owned();
        let lines = shown.new_of(&story);
        assert_eq!(
            lines
                .iter()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>(),
            ["AllowTraffic Succeeded", "traffic 100 % green", "watch looks: at first"]
        );
    }
}
