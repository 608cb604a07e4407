//! What the terminal shows.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one module that writes to the terminal")]

use std::io::Write;
use std::time::Duration;

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;
use shiftgate::verdict::ByChance;
use shiftgate_lab::codedeploy::{self, Creator, EventStatus};
use shiftgate_lab::ecs::EcsHappening;
use shiftgate_lab::underway::Happening;
use shiftgate_lab::world::Progress;
use tokio::time::Instant;

use crate::panel::{MARGIN, Panel, wrapped};

/// Prints a line.
pub fn line(text: &str) {
    // Whoever reads may have seen enough, as `head` has.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a paragraph; on a terminal its lines are made anew.
pub fn paragraph(text: &str) {
    if console::user_attended() {
        prose(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    } else {
        line(text.trim());
    }
}

/// Prints paragraphs; on a terminal no word is broken, except in tables.
pub fn prose(text: &str) {
    let is_terminal = console::user_attended();
    for paragraph in text.lines() {
        if is_terminal && !paragraph.starts_with('|') {
            line(&wrapped(paragraph, console::Term::stdout().size().1.into(), 0));
        } else {
            line(paragraph);
        }
    }
}

/// Prints an error.
pub fn error(text: &str) {
    eprintln!("{text}");
}

/// How far something is that may be over at once: a line a second, from the first second on.
pub struct Slow {
    next: Instant,
}

impl Slow {
    /// Begins now.
    pub fn new() -> Self {
        Self { next: Instant::now() + Duration::from_secs(1) }
    }

    /// Shows how far it is, unless that was shown within the last second.
    pub fn say(&mut self, text: &str) {
        let now = Instant::now();
        if now >= self.next {
            eprintln!("{text}");
            self.next = now + Duration::from_secs(1);
        }
    }
}

/// How far something is that may be over at once: a spinner, from the first second on, where there is a terminal.
pub struct Spinner {
    from: Instant,
    bar: Option<ProgressBar>,
}

impl Spinner {
    /// Begins now.
    pub fn new() -> Self {
        Self { from: Instant::now() + Duration::from_secs(1), bar: None }
    }

    /// Shows how far it is.
    pub fn say(&mut self, text: &str) {
        if Instant::now() >= self.from {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::new_spinner();
                bar.enable_steady_tick(Duration::from_millis(100));
                bar
            });
            bar.set_message(text.to_owned());
        }
    }

    /// Prints a line above it.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| line(text)),
            None => line(text),
        }
    }

    /// Takes the spinner away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How far a benchmark is.
pub struct Cells {
    bar: ProgressBar,
}

impl Cells {
    /// Starts the view of so many cells.
    pub fn new(number: usize) -> Self {
        let bar = ProgressBar::new(number as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}, {eta} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// One more is done.
    pub fn done(&self, name: &str) {
        self.bar.set_message(name.to_owned());
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Takes the bar away and says how long so many rollouts took.
    pub fn finish(&self, rollouts: usize) {
        self.clear();
        let seconds = self.bar.elapsed().as_secs_f64();
        let per = 1000.0 * seconds / rollouts as f64;
        line(&format!("{rollouts} rollouts in {seconds:.0} s, {per:.2} s per 1,000"));
    }
}

/// The live view of a deployment: what happened, and below it on a terminal how it stands. Elsewhere nothing is redrawn.
pub struct Live {
    /// Where how it stands is drawn, if anywhere.
    bar: Option<ProgressBar>,
    panel: Panel,
    started: Instant,
    /// What the last look saw; the same again is not worth a line.
    last_look: String,
    /// Why green was held last; to go on holding it is not worth a line.
    last_held: String,
}

impl Live {
    /// Starts the view.
    pub fn new() -> Self {
        // Lines are written over, not taken away first, which flickers.
        let place = MultiProgress::new();
        place.set_move_cursor(true);
        let bar = place.add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        // It is drawn on standard error; what happens is printed on standard output.
        let bar = (console::user_attended() && !bar.is_hidden()).then_some(bar);
        Self {
            bar,
            panel: Panel::default(),
            started: Instant::now(),
            last_look: String::new(),
            last_held: String::new(),
        }
    }

    /// Shows what has happened.
    pub fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Happening(happening) => self.happening(happening),
            Progress::Log(line) => self.log(line),
            Progress::Users(stats) => self.panel.users(self.seconds(), *stats),
        }
    }

    /// Draws anew how it stands, where that is shown; to be called often, whether something happened or not.
    pub fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message(self.panel.lines(self.seconds(), columns()).join("\n"));
        }
    }

    /// Leaves it as it stood in the end.
    pub fn finish(&mut self) {
        self.panel.is_over = true;
        self.draw();
        if let Some(bar) = &self.bar {
            bar.abandon();
            eprintln!();
        }
    }

    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn happening(&mut self, happening: &Happening) {
        match happening {
            Happening::CodeDeploy(happening) => self.of_codedeploy(happening),
            Happening::Ecs(happening) => self.of_ecs(happening),
        }
    }

    fn of_ecs(&mut self, happening: &EcsHappening) {
        match happening {
            EcsHappening::Stage { stage, ended: false, .. } => {
                stage.as_str().clone_into(&mut self.panel.stage);
            }
            EcsHappening::Weight { test: false, green, .. } => self.weight(*green),
            EcsHappening::Started { deployment } => {
                self.say(&format!("ECS starts service deployment {}", last_part(deployment)));
            }
            EcsHappening::RollingBack { reason, .. } => self.say(&format!("ECS rolls back: {reason}")),
            EcsHappening::Ended { deployment, status, .. } => {
                let status = status.as_str();
                self.say(&format!("ECS ends service deployment {}: {status}", last_part(deployment)));
            }
            EcsHappening::Stage { .. } | EcsHappening::Weight { .. } | EcsHappening::HookAnswered { .. } => {}
        }
    }

    fn weight(&mut self, green: f64) {
        self.panel.green = green;
        self.say(&format!("traffic   {} {:>3} % green", weight_bar(green), green.round()));
    }

    fn of_codedeploy(&mut self, happening: &codedeploy::Happening) {
        use codedeploy::Happening;
        match happening {
            Happening::Event { event, status: EventStatus::InProgress, .. } => {
                (*event).clone_into(&mut self.panel.stage);
            }
            Happening::Weight { green, .. } => self.weight(*green),
            Happening::Started { deployment, creator: Creator::Rollback } => {
                self.say(&format!("CodeDeploy rolls back with deployment {deployment}"));
            }
            Happening::Started { deployment, .. } => {
                self.say(&format!("CodeDeploy starts deployment {deployment}"));
            }
            Happening::Ended { deployment, status, error } => {
                let why = error.as_ref().map(|(code, _)| format!(" ({code})")).unwrap_or_default();
                self.say(&format!("CodeDeploy ends deployment {deployment}: {}{why}", status.as_str()));
            }
            Happening::Event { .. } => {}
        }
    }

    fn log(&mut self, line: &Value) {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let stage = format!("{:<28}", text("stage"));
        match text("message") {
            "verdict" => {
                let answer = text("answer");
                let shown =
                    if answer == "Failed" { style(answer).red().bold() } else { style(answer).green() };
                self.say(&format!("{stage} {shown}: {}", text("reason")));
            }
            "look" => {
                self.panel.look(line);
                let seen = look(line);
                if seen != self.last_look {
                    self.say(&format!("{stage} {}", style(&seen).dim()));
                    self.last_look = seen;
                }
            }
            "held" => {
                // The time that is left changes with every look.
                let why = text("why").split(", ").next().unwrap_or_default().to_owned();
                let held = format!("{stage} holds: {why}");
                if held != self.last_held {
                    self.say(&held);
                    self.last_held = held;
                }
            }
            "failed" => self.say(&format!("{stage} {}: {}", style("could not").yellow(), text("what"))),
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        let text = format!("{:6.1} s  {text}", self.seconds());
        match &self.bar {
            // In one go with how it stands, so that nothing flickers.
            Some(bar) => bar.println(wrapped(&text, columns(), MARGIN)),
            None => line(&text),
        }
    }
}

/// How wide the terminal is.
fn columns() -> usize {
    console::Term::stderr().size().1.into()
}

/// An ARN's last part.
pub fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// A weight as twenty characters.
fn weight_bar(percent: f64) -> String {
    let full = (percent / 5.0).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(20_usize.saturating_sub(full)))
}

/// What a look saw, on one line.
pub fn look(line: &Value) -> String {
    let periods = line["periods"].as_u64().unwrap_or(0);
    let readings: Vec<String> = line["readings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|reading| {
            let value = reading["value"].as_str()?;
            let check = reading["check"].as_str()?;
            let by_chance = &reading["by_chance"];
            let against = match (by_chance["chance"].as_f64(), by_chance["allowed"].as_f64()) {
                (Some(chance), _) if chance > 0.5 => String::new(),
                (Some(chance), Some(allowed)) => format!(": {}", ByChance { chance, allowed }),
                _ => format!(" (limit {})", reading["limit"].as_str().unwrap_or("none")),
            };
            (check != "outage").then(|| format!("{check} {value}{against}"))
        })
        .collect();
    if readings.is_empty() {
        return "looks: nothing to judge yet, metrics need their time to come in".to_owned();
    }
    let s = if periods == 1 { "" } else { "s" };
    format!("looks: {periods} complete period{s}; {}", readings.join(", "))
}
