//! What one could have instead: hook functions of one's own in another language, and a canary of CloudWatch Synthetics.

use std::time::Duration;

use shiftgate_lab::world::Bill;

use super::prices::{CANARY_RUN, HOURS_OF_A_MONTH, Usd};
use super::{Assumptions, Cost, of_function};

/// A language in which teams write hooks. The hooks make the same calls and wait as long; there is no watch, and nobody hears of
/// verdicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hooks {
    /// Its name.
    pub language: &'static str,
    /// Memory in MB.
    pub memory_mb: f64,
    /// Starting a process, which AWS bills since August 2025 for these languages, too.
    pub init: Duration,
}

/// Ours alone, without the watch and `publish`, and two others. Memory and starts of the others are assumed, not measured.
pub const HOOKS: [Hooks; 4] = [
    Hooks { language: "Rust, these", memory_mb: 256.0, init: Duration::from_millis(100) },
    Hooks { language: "Node", memory_mb: 256.0, init: Duration::from_millis(400) },
    Hooks { language: "Node", memory_mb: 128.0, init: Duration::from_millis(600) },
    Hooks { language: "Python", memory_mb: 128.0, init: Duration::from_millis(400) },
];

/// Functions that hooks alone do not have.
const NOT_HOOKS: [&str; 2] = ["watch", "publish"];

impl Hooks {
    /// What they cost in a rollout for which Shiftgate has this bill.
    pub fn cost(&self, bill: &Bill, assumed: &Assumptions) -> Cost {
        let assumed = Assumptions { memory_gb: self.memory_mb / 1024.0, init: self.init, ..*assumed };
        let hooks = bill.functions.iter().filter(|(name, _)| !NOT_HOOKS.contains(&name.as_str()));
        hooks.map(|(_, hook)| of_function(hook, &assumed)).fold(Cost::default(), std::ops::Add::add)
    }
}

/// A canary that runs every minute, for so many minutes.
pub fn canary(minutes: f64) -> Usd {
    CANARY_RUN.of(minutes)
}

/// The same for a month.
pub fn canary_month() -> Usd {
    canary(60.0 * HOURS_OF_A_MONTH)
}

#[cfg(test)]
mod tests {
    use shiftgate_lab::world::Used;

    use super::*;

    #[test]
    fn hooks_alone_cost_neither_the_watch_nor_transitions() {
        let hook = Used { invocations: 1, cold_starts: 1, waited_seconds: 100.0, ..Used::default() };
        let functions = ["after-install", "watch", "publish"].map(|name| (name.to_owned(), hook.clone()));
        let bill = Bill { functions: functions.into(), transitions: 50, ..Bill::default() };
        let node = Hooks { language: "Node", memory_mb: 512.0, init: Duration::from_secs(2) };
        let cost = node.cost(&bill, &Assumptions::default());
        assert!((cost.waiting.0 - 50.0 * 0.000_013_333_4).abs() < 1e-12);
        assert!((cost.working.0 - 1.0 * 0.000_013_333_4).abs() < 1e-12);
        assert!(cost.transitions == Usd::default());
    }

    #[test]
    fn a_canary_a_minute_is_43800_runs_a_month() {
        assert!((canary_month().0 - 52.56).abs() < 1e-9);
        assert!((canary(25.0).0 - 0.03).abs() < 1e-12);
    }
}
