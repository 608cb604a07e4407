//! How the chance of a false rollback is shared among what may cause one. Pure.

use super::defaults;
use super::gates::{Compared, Gate, Rule};

/// The chance that the comparisons of a list may spend, and its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chances {
    /// Of all comparisons together, 0 to 1.
    all: f64,
    /// Sum of their weights.
    weights: f64,
}

impl Chances {
    /// Shares `false_rollback_rate` (0 to 1) among the comparisons in `gates`, by their weights. The order of the gates
    /// does not matter, to the last bit.
    pub fn new(gates: &[Gate], false_rollback_rate: f64) -> Self {
        let mut weights: Vec<f64> = gates
            .iter()
            .filter_map(|gate| match &gate.rule {
                Rule::Compared(compared) => Some(compared.weight),
                _ => None,
            })
            .collect();
        weights.sort_by(f64::total_cmp);
        Self { all: false_rollback_rate * defaults::SHARE_OF_COMPARISONS, weights: weights.iter().sum() }
    }

    /// What one of the comparisons may spend.
    pub fn of(&self, compared: &Compared) -> f64 {
        self.all * compared.weight / self.weights
    }

    /// What is left of `false_rollback_rate` for changes that are judged after the shift.
    pub fn of_changes(false_rollback_rate: f64) -> f64 {
        false_rollback_rate * (1.0 - defaults::SHARE_OF_COMPARISONS)
    }
}
