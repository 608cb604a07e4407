//! Recordings of rollouts, and what the judge makes of them.

use shiftgate::policy::Plan;
use shiftgate::recording::{self, Recording, Replay};

/// Longer recordings are read, but not judged: one input must not take the time of a thousand.
const MOST_PERIODS: usize = 40;

/// Reads a recording, writes it again, and judges it twice.
pub fn recordings(data: &[u8]) {
    let recording = match Recording::parse(data) {
        Ok(recording) => recording,
        Err(invalid) => return assert!(!invalid.what.is_empty()),
    };
    let written = serde_json::to_vec(&recording).unwrap_or_default();
    assert_eq!(Recording::parse(&written).as_ref(), Ok(&recording));
    if periods(&recording) > MOST_PERIODS {
        return;
    }
    let plan = Plan::default();
    let replayed = recording::replay(&recording, &plan);
    assert_eq!(recording::replay(&recording, &plan), replayed, "the same recording, another answer");
    assert_eq!(recording::judge(&recording, &plan).verdict, replayed.answer.verdict);
    holds(&recording, &replayed);
}

fn periods(recording: &Recording) -> usize {
    match recording {
        Recording::Change(change) => change.values.len(),
        Recording::Traffic(traffic) => {
            let zones: usize = traffic.history.iter().map(|before| before.zones.len()).sum();
            traffic.history.len() + traffic.minutes.len() + zones
        }
    }
}

fn holds(recording: &Recording, replayed: &Replay) {
    let answer = &replayed.answer;
    let known = match recording {
        Recording::Change(change) => change.values.len() - change.change_at,
        Recording::Traffic(traffic) => traffic.minutes.len(),
    };
    assert!(answer.minute.is_none_or(|minute| (1..=known).contains(&minute)), "{answer:?}");
    let chances = replayed.gates.iter().flat_map(|gate| gate.evidence.iter().flatten());
    for chance in answer.chance.iter().chain(chances) {
        assert!((0.0..=1.0).contains(chance), "a chance of {chance}");
    }
    let text = serde_json::to_string(replayed).unwrap_or_default();
    assert!(!text.is_empty(), "an answer that cannot be written");
}
