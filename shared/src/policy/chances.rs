//! How the chance of a false rollback is shared among what may cause one. Pure.

use std::time::Duration;

use super::defaults;
use super::gates::{Compared, Rule};
use super::plan::Plan;

/// The chance that the comparisons of a plan may spend, and its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chances {
    /// Of all comparisons together, 0 to 1.
    all: f64,
    /// Sum of their weights.
    weights: f64,
}

impl Chances {
    /// Shares the plan's `false_rollback_rate` among its comparisons, by their weights. One that is made in the shift and in
    /// the bake is one, since its evidence goes on. The order of the gates does not matter, to the last bit.
    pub fn new(plan: &Plan) -> Self {
        let later = if plan.bake_for > Duration::ZERO { plan.bake.as_slice() } else { &[] };
        let mut comparisons: Vec<&Compared> = Vec::new();
        for gate in plan.traffic.iter().chain(later) {
            if let Rule::Compared(compared) = &gate.rule
                && !comparisons.contains(&compared)
            {
                comparisons.push(compared);
            }
        }
        let mut weights: Vec<f64> = comparisons.iter().map(|compared| compared.weight).collect();
        weights.sort_by(f64::total_cmp);
        Self { all: plan.false_rollback_rate * defaults::SHARE_OF_COMPARISONS, weights: weights.iter().sum() }
    }

    /// What one of the comparisons may spend.
    pub fn of(&self, compared: &Compared) -> f64 {
        self.all * compared.weight / self.weights
    }

    /// What is left of `false_rollback_rate` for changes that are judged after the shift: all of it, where a plan compares
    /// nothing.
    pub fn of_changes(plan: &Plan) -> f64 {
        let spent = if Self::new(plan).weights > 0.0 { defaults::SHARE_OF_COMPARISONS } else { 0.0 };
        plan.false_rollback_rate * (1.0 - spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comparisons_of_a_rollout_together_spend_what_they_may() {
        let errors = "{name: server errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount, weight: 6}";
        let refused = "{name: refused, bad: TargetConnectionErrorCount, of: RequestCount, weight: 2}";
        let slow = "{name: slow, slower_than: 300ms, weight: 4}";
        let spent = |bake: &str| {
            let text = format!("version: 1\ntraffic: [{errors}, {refused}]\nbake: {bake}");
            let plan = crate::policy::parse(&text).unwrap();
            let chances = Chances::new(&plan);
            let each = plan.traffic.iter().chain(&plan.bake).filter_map(|gate| match &gate.rule {
                Rule::Compared(compared) => Some(chances.of(compared)),
                _ => None,
            });
            each.collect::<Vec<f64>>()
        };
        let check = |bake: &str, expect: &[f64]| {
            let spent = spent(bake);
            assert_eq!(spent.len(), expect.len(), "{spent:?}");
            for (spent, expect) in spent.iter().zip(expect) {
                assert!((spent - expect * 0.0075).abs() < 1e-15, "{bake}: {spent}, not {expect} of 0.0075");
            }
        };
        // The bake has those of the shift, or others beside them, or none of its own.
        check("{for: 5m}", &[0.75, 0.25, 0.75, 0.25]);
        check(&format!("{{for: 5m, gates: [{errors}, {slow}]}}"), &[0.5, 1.0 / 6.0, 0.5, 1.0 / 3.0]);
        check(&format!("{{for: 0s, gates: [{slow}]}}"), &[0.75, 0.25, 0.5]);
    }
}
