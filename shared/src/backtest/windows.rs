//! A/A windows: stretches of time without a release, cut from histories. One availability zone is taken for green and the
//! others for blue, so whatever the judge finds between them is a false alarm. The noise between colours is real.

use std::fmt;
use std::num::NonZeroU32;

use super::{FalseRollback, Named};
use crate::policy::plan::Plan;
use crate::recording::{
    self, Before, Counts, Minute, OfTraffic, Recording, Tally, Traffic, Verdict, Version,
};
use crate::traffic::HISTORY;

/// A stretch of time without a release, as a rollout in which green is a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Name of the recording that it was cut from.
    pub recording: String,
    /// Where it begins: an index into that recording's history, from 0.
    pub begins_at: usize,
    /// The zone that is taken for green: an index into the zones, from 0.
    pub zone: usize,
    /// The rollout that it makes.
    pub rollout: Recording,
}

/// Why there are no A/A windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWindows {
    /// No history is long enough. In periods: what is needed, and the longest.
    TooShort {
        /// Periods that the shortest useful history has.
        needed: usize,
        /// Periods of the longest history.
        longest: usize,
    },
    /// Long histories have fewer than two availability zones.
    NoZones,
    /// There were hardly any requests in all of the time.
    NoRequests,
}

impl fmt::Display for NoWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { needed, longest } => write!(
                f,
                "they are cut from histories of {needed} minutes and more, and the longest here has {longest}"
            ),
            Self::NoZones => f.write_str(
                "one availability zone is taken for green and the others for blue, and the histories have no zones",
            ),
            Self::NoRequests => f.write_str("hardly any zone had requests"),
        }
    }
}

/// Cuts every history into windows of so many periods, one behind the other, each with the usual history before it. The
/// zones take turns as green, and no minute is in two windows: windows that share minutes would agree with each other,
/// and an interval over them would be too narrow.
pub fn windows(recordings: &[Named], periods: NonZeroU32) -> Result<Vec<Window>, NoWindows> {
    let length = periods.get() as usize;
    let histories = || {
        recordings.iter().filter_map(|named| match &named.recording {
            Recording::Traffic(traffic) => Some((named.name.as_str(), traffic)),
            Recording::Change(_) => None,
        })
    };
    let longest = histories().map(|(_, traffic)| traffic.history.len()).max().unwrap_or(0);
    let needed = HISTORY + length;
    if longest < needed {
        return Err(NoWindows::TooShort { needed, longest });
    }
    let long = || histories().filter(|(_, traffic)| traffic.history.len() >= needed);
    if long().all(|(_, traffic)| zones(traffic) < 2) {
        return Err(NoWindows::NoZones);
    }
    let mut windows = Vec::new();
    for (name, traffic) in long().filter(|(_, traffic)| zones(traffic) >= 2) {
        let starts = (HISTORY..=traffic.history.len() - length).step_by(length);
        windows.extend(
            starts.enumerate().filter_map(|(turn, begins_at)| {
                cut(name, traffic, begins_at, turn % zones(traffic), periods)
            }),
        );
    }
    if windows.is_empty() { Err(NoWindows::NoRequests) } else { Ok(windows) }
}

fn zones(traffic: &Traffic) -> usize {
    traffic.history.iter().map(|before| before.zones.len()).max().unwrap_or(0)
}

/// `None` where the zones' requests are known in fewer than half of the periods: nothing could be found there.
fn cut(name: &str, traffic: &Traffic, begins_at: usize, zone: usize, periods: NonZeroU32) -> Option<Window> {
    let zones = zones(traffic);
    let window = &traffic.history[begins_at..begins_at + periods.get() as usize];
    let minutes: Vec<Minute> = window.iter().map(|before| minute(before, zone, zones)).collect();
    let served = |counts: &Option<Counts>| {
        counts.as_ref().is_some_and(|counts| matches!(counts.requests, Tally::Of(of) if of > 0.0))
    };
    let known = minutes.iter().filter(|minute| served(&minute.blue) && served(&minute.green)).count();
    (2 * known >= minutes.len()).then(|| Window {
        recording: name.to_owned(),
        begins_at,
        zone,
        rollout: Recording::Traffic(Traffic {
            version: Version,
            kind: OfTraffic::Traffic,
            period_seconds: traffic.period_seconds,
            minutes_planned: Some(periods),
            history: traffic.history[begins_at - HISTORY..begins_at].to_vec(),
            minutes,
        }),
    })
}

/// A period with one zone as green and the others as blue. Where a zone is missing nobody knows which, so there is no
/// data.
fn minute(before: &Before, zone: usize, zones: usize) -> Minute {
    if before.zones.len() != zones {
        return Minute::default();
    }
    let others = before.zones.iter().enumerate().filter(|(index, _)| *index != zone);
    Minute {
        blue: others.map(|(_, counts)| counts.clone()).reduce(|one, other| both(&one, &other)),
        green: before.zones.get(zone).cloned(),
    }
}

fn both(one: &Counts, other: &Counts) -> Counts {
    Counts {
        requests: sum(one.requests, other.requests),
        server_errors: sum(one.server_errors, other.server_errors),
        connection_errors: sum(one.connection_errors, other.connection_errors),
        slow_requests: sum(one.slow_requests, other.slow_requests),
    }
}

/// What is not known in one is not known of both.
fn sum(one: Tally, other: Tally) -> Tally {
    match (one, other) {
        (Tally::Of(one), Tally::Of(other)) => Tally::Of(one + other),
        (Tally::NoData, _) | (_, Tally::NoData) => Tally::NoData,
        (Tally::Absent, known) | (known, Tally::Absent) => known,
    }
}

impl Window {
    /// The rollback that the judge would have made of it, if any.
    pub(super) fn false_rollback(&self, plan: &Plan) -> Option<FalseRollback> {
        let answer = recording::judge(&self.rollout, plan);
        (answer.verdict == Verdict::RollBack).then(|| FalseRollback {
            recording: self.recording.clone(),
            begins_at: self.begins_at,
            zone: self.zone,
            gate: answer.gate,
            minute: answer.minute,
        })
    }
}
