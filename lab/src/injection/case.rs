//! What is played: a function, a release, and what goes wrong.

use std::fmt;
use std::ops::Range;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use shiftgate::event::{LifecycleStage, Stage};

use crate::fault::Fault;
use crate::template::Template;

/// The function that gates, at its hook, in its loop, or at a stage of ECS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject(pub Stage);

impl Subject {
    /// The functions, ECS's at the stage that does most.
    pub const ALL: [Self; 7] = [
        Self(Stage::BeforeInstall),
        Self(Stage::AfterInstall),
        Self(Stage::AfterAllowTestTraffic),
        Self(Stage::BeforeAllowTraffic),
        Self(Stage::Watch),
        Self(Stage::AfterAllowTraffic),
        Self(Stage::Ecs(LifecycleStage::ProductionTrafficShift)),
    ];

    /// Name of the binary.
    pub fn function(self) -> &'static str {
        self.0.function()
    }
}

/// Whether the release deserves to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Nothing is wrong with it.
    Good,
    /// Something is, which the function finds when nothing hinders it.
    Bad,
}

/// A fault of some calls of the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFault {
    /// IAM action.
    pub action: String,
    /// What happens.
    pub fault: Fault,
    /// To which of the calls, from 0.
    pub calls: Range<u32>,
}

impl CallFault {
    /// Whether every call meets it until somebody mends something.
    pub fn is_lasting(&self) -> bool {
        self.calls.end == u32::MAX
    }
}

/// What befalls the function itself, or its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The process is killed, so many times.
    Killed {
        /// Milliseconds after it got the event.
        after_ms: u64,
        /// In how many invocations.
        times: u32,
    },
    /// The process needs more memory than it has, once.
    OutOfMemory,
    /// A new process takes long to start.
    SlowStart {
        /// Milliseconds.
        ms: u64,
    },
    /// The event is delivered again after its first delivery was served.
    Twice,
    /// The event is delivered twice at once.
    TwiceAtOnce,
    /// The event of an older deployment comes first.
    OutOfOrder,
    /// Somebody has stopped the deployment before the event comes; as with one that comes too late.
    Over,
}

/// One play.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// By which it can be played again.
    pub seed: u64,
    /// Who gates.
    pub subject: Subject,
    /// What is released.
    pub quality: Quality,
    /// Whether the policy lets a release go on when it could not be checked.
    pub proceeds_on_fault: bool,
    /// What happens to calls.
    pub faults: Vec<CallFault>,
    /// What happens to the function.
    pub mishap: Option<Mishap>,
}

/// Every call of every function with every fault, for a good and a bad release: short faults, which retries must get
/// over, and lasting ones.
pub fn matrix(template: &Template) -> Vec<Case> {
    let mut cases = Vec::new();
    for subject in Subject::ALL {
        let Some(function) = template.function(subject.function()) else { continue };
        let every_call = |fault: &Fault| fault.is_of_clocks();
        let actions = function.actions();
        for action in actions.iter().map(String::as_str).chain(["*"]) {
            for fault in Fault::ALL.into_iter().filter(|fault| every_call(fault) == (action == "*")) {
                for (quality, calls) in
                    [(Quality::Good, 0..2), (Quality::Good, 0..u32::MAX), (Quality::Bad, 0..u32::MAX)]
                {
                    let faults = vec![CallFault { action: action.to_owned(), fault, calls }];
                    let seed = cases.len() as u64;
                    cases.push(Case {
                        seed,
                        subject,
                        quality,
                        proceeds_on_fault: false,
                        faults,
                        mishap: None,
                    });
                }
            }
        }
        for mishap in mishaps() {
            for quality in [Quality::Good, Quality::Bad] {
                let seed = cases.len() as u64;
                cases.push(Case { seed, mishap: Some(mishap), ..Case::undisturbed(subject, quality) });
            }
        }
    }
    cases
}

fn mishaps() -> Vec<Mishap> {
    let kills = [(0, 1), (30, 1), (100, 1), (250, 1), (60, 2)];
    let mut all: Vec<Mishap> =
        kills.into_iter().map(|(after_ms, times)| Mishap::Killed { after_ms, times }).collect();
    all.extend([
        Mishap::OutOfMemory,
        Mishap::SlowStart { ms: 2500 },
        Mishap::Twice,
        Mishap::TwiceAtOnce,
        Mishap::OutOfOrder,
        Mishap::Over,
    ]);
    all
}

impl Case {
    /// A release with which nothing goes wrong on the way.
    pub fn undisturbed(subject: Subject, quality: Quality) -> Self {
        Self { seed: 0, subject, quality, proceeds_on_fault: false, faults: Vec::new(), mishap: None }
    }

    /// Some things at once that go wrong, all of them from the seed.
    pub fn random(template: &Template, seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let subject = Subject::ALL.choose(&mut random).copied().unwrap_or(Subject::ALL[0]);
        let subject = match subject.0 {
            Stage::Ecs(_) => {
                let stage = LifecycleStage::ALL.choose(&mut random).copied();
                Subject(Stage::Ecs(stage.unwrap_or(LifecycleStage::PreScaleUp)))
            }
            _ => subject,
        };
        let actions: Vec<String> = template
            .function(subject.function())
            .map(|function| function.actions().into_iter().collect())
            .unwrap_or_default();
        let faults = (0..random.random_range(0..4))
            .filter_map(|_| {
                let action = actions.choose(&mut random)?.clone();
                let fault = *Fault::ALL.choose(&mut random)?;
                if fault.is_of_clocks() {
                    // There is one clock on either side, whatever is called.
                    return Some(CallFault { action: "*".to_owned(), fault, calls: 0..u32::MAX });
                }
                let begin = random.random_range(0..2);
                let lasting = random.random_bool(0.3);
                let end = if lasting { u32::MAX } else { begin + random.random_range(1..4) };
                Some(CallFault { action, fault, calls: begin..end })
            })
            .collect();
        let mishap = random.random_bool(0.4).then(|| mishap(&mut random));
        Self {
            seed,
            subject,
            quality: if random.random_bool(0.4) { Quality::Bad } else { Quality::Good },
            proceeds_on_fault: random.random_bool(0.2),
            faults,
            mishap,
        }
    }

    /// Whether every attempt of this call fails.
    pub fn never_succeeds(&self, action: &str) -> bool {
        let hopeless = |fault: &CallFault| {
            // A call whose answer alone is lost has been carried out, and the next try hears of that.
            let ends = fault.fault.refusal("", "", &[]).is_some() || fault.fault == Fault::Hang;
            fault.is_lasting() && ends && fault.action == action
        };
        self.faults.iter().any(hopeless)
    }

    /// Whether a fault or a mishap may keep the function from finding out what it should.
    pub fn is_hindered(&self) -> bool {
        !self.faults.is_empty() || self.mishap.is_some()
    }
}

fn mishap(random: &mut Pcg64Mcg) -> Mishap {
    match random.random_range(0..7) {
        0 | 1 => Mishap::Killed { after_ms: random.random_range(0..600), times: random.random_range(1..3) },
        2 => Mishap::OutOfMemory,
        3 => Mishap::SlowStart { ms: random.random_range(100..3000) },
        4 => [Mishap::Twice, Mishap::TwiceAtOnce][random.random_range(0..2)],
        5 => Mishap::OutOfOrder,
        _ => Mishap::Over,
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quality = if self.quality == Quality::Good { "good" } else { "bad" };
        write!(f, "seed {}: {}", self.seed, self.subject.function())?;
        if let Stage::Ecs(stage) = self.subject.0 {
            write!(f, " at {}", stage.as_str())?;
        }
        write!(f, ", {quality} release")?;
        if self.proceeds_on_fault {
            f.write_str(", on_fault: proceed")?;
        }
        for CallFault { action, fault, calls } in &self.faults {
            write!(f, "; {action} {fault}")?;
            match (calls.start, calls.end) {
                (0, u32::MAX) => {}
                (start, u32::MAX) => write!(f, " from call {}", start + 1)?,
                (start, end) => write!(f, " calls {} to {end}", start + 1)?,
            }
        }
        match self.mishap {
            None => Ok(()),
            Some(Mishap::Killed { after_ms, times }) => {
                write!(f, "; killed after {after_ms} ms, {times} times")
            }
            Some(Mishap::OutOfMemory) => f.write_str("; out of memory once"),
            Some(Mishap::SlowStart { ms }) => write!(f, "; starts in {ms} ms"),
            Some(Mishap::Twice) => f.write_str("; event delivered twice"),
            Some(Mishap::TwiceAtOnce) => f.write_str("; event delivered twice at once"),
            Some(Mishap::OutOfOrder) => f.write_str("; after the event of an older deployment"),
            Some(Mishap::Over) => f.write_str("; the deployment is over"),
        }
    }
}
