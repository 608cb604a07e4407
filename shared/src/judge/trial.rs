//! One comparison of green with blue, told as a finding.

use super::compare::{Comparison, Decision, Evidence, compare, decide};
use super::noise;
use super::power::{self, Findable, Traffic};
use super::series::{Count, Series};
use crate::rollout::Front;
use crate::verdict::{ByChance, Caveat, Finding, Outcome, Quantity};

/// A ratio to a rate that is next to nothing says nothing; from here on it is not told.
const UNTOLD: f64 = 100.0;

/// A comparison with all that it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial<'a> {
    /// Name of the gate.
    pub gate: &'a str,
    /// The counts.
    pub series: Series,
    /// What is tolerated, and what does not matter.
    pub comparison: Comparison,
    /// The chance of a false rollback that it may spend, 0 to 1.
    pub chance: f64,
}

impl Trial<'_> {
    /// Judges the comparison and tells what was seen.
    pub fn finding(&self) -> Finding {
        let evidence = compare(&self.series, &self.comparison);
        let decision = decide(&evidence, self.chance);
        let seen = Seen::until(&self.series, decision);
        let Some(green) = seen.green else {
            return Finding {
                periods: Some(0),
                ..self.told(Outcome::Inconclusive, "not enough data to judge green")
            }
            .but(Caveat::NoData);
        };
        let levels = match seen.blue {
            Some(blue) => format!("green {} beside blue's {}", share(green), share(blue)),
            None => format!("green {}, and no blue beside it", share(green)),
        };
        let known = evidence[..seen.until].iter().map(Evidence::for_rollback);
        let by_chance = ByChance::of_evidence(known, self.chance);
        let finding = match decision {
            Decision::RollBack(_) => {
                self.told(Outcome::Fail, format!("{levels}: {by_chance} if green were as good as blue"))
            }
            Decision::Pass(_) => {
                self.told(Outcome::Pass, format!("{levels}: shown to have {}", self.passing()))
            }
            Decision::Unclear => {
                self.told(Outcome::Inconclusive, format!("{levels}: no regression seen; {}", self.visible()))
            }
        };
        let finding = Finding {
            value: Some(Quantity::share(green.bad / green.of)),
            blue: seen.blue.map(|blue| Quantity::share(blue.bad / blue.of)),
            samples: Some(green.of as u64),
            periods: Some(seen.periods),
            by_chance: Some(by_chance),
            ..finding
        };
        self.with_caveats(finding)
    }

    fn told(&self, outcome: Outcome, summary: impl Into<String>) -> Finding {
        Finding::new(self.gate, outcome, summary)
    }

    /// What green must be shown to stay below.
    fn passing(&self) -> String {
        let Comparison { pass_below, ignore_below, .. } = self.comparison;
        let times = format!("less than {pass_below} times blue's");
        if ignore_below > 0.0 {
            format!("{times}, or less than {}", Quantity::share(ignore_below))
        } else {
            times
        }
    }

    /// What this rollout could have shown.
    fn visible(&self) -> String {
        let traffic: Vec<Traffic> = self
            .series
            .window
            .iter()
            .map(|pair| Traffic {
                blue: pair.blue.map_or(0.0, |count| count.of),
                green: pair.green.map_or(0.0, |count| count.of),
            })
            .collect();
        let found = power::smallest_found(&self.series.history, &traffic, &self.comparison, self.chance);
        match found {
            Some(Findable { ratio, share }) => {
                let usual = format!(" ({} times the usual)", Quantity::plain(ratio));
                let usual = if ratio < UNTOLD { usual.as_str() } else { "" };
                format!(
                    "one of {}{usual} or more would be found 4 times in 5; too little traffic to show that green has {}",
                    Quantity::share(share),
                    self.passing()
                )
            }
            None => "there is too little traffic to see any".to_owned(),
        }
    }

    fn with_caveats(&self, mut finding: Finding) -> Finding {
        let learned = noise::learn(&self.series.history);
        if !learned.enough {
            finding = finding.but(Caveat::ShortHistory { periods: self.series.history.len() });
        }
        finding
    }
}

/// The counts up to a decision.
struct Seen {
    /// Periods up to it.
    until: usize,
    green: Option<Count>,
    blue: Option<Count>,
    /// Those in which green had data.
    periods: usize,
}

impl Seen {
    fn until(series: &Series, decision: Decision) -> Self {
        let until = match decision {
            Decision::RollBack(period) => period + 1,
            Decision::Pass(_) | Decision::Unclear => series.window.len(),
        };
        let window = &series.window[..until];
        let sum = |counts: &mut dyn Iterator<Item = Count>| {
            counts
                .reduce(|sum, count| Count { of: sum.of + count.of, bad: sum.bad + count.bad })
                .filter(|sum| sum.of > 0.0)
        };
        Self {
            until,
            green: sum(&mut window.iter().filter_map(|pair| pair.green)),
            blue: sum(&mut window.iter().filter_map(|pair| pair.blue)),
            periods: window.iter().filter(|pair| pair.green.is_some_and(|green| green.of > 0.0)).count(),
        }
    }
}

/// A comparison of slow samples that cannot be made: nothing was measured before the shift, so nothing is slow.
pub fn nothing_usual(gate: &str) -> Finding {
    Finding::new(
        gate,
        Outcome::Inconclusive,
        "nothing was measured before the shift, so it is not known what is slow",
    )
    .but(Caveat::NoData)
}

/// The finding of a look that has nothing to look at: no load balancer or a shared target group, and no gate that could be
/// judged there.
pub fn nothing_tells(front: Front) -> Finding {
    let why = if front == Front::Shared {
        "nothing was judged: both versions share a target group, and no gate of the policy can be judged there"
    } else {
        "nothing tells green from blue: the service has no load balancer, and its policy no gate on metrics of its own"
    };
    Finding::new("traffic", Outcome::Inconclusive, why)
}

fn share(count: Count) -> String {
    format!("{} ({} of {})", Quantity::share(count.bad / count.of), count.bad, count.of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pass_must_show_names_the_floor_only_if_there_is_one() {
        let told = |ignore_below| {
            let comparison = Comparison { tolerate: 1.25, ignore_below, pass_below: 3.0 };
            Trial { gate: "errors", series: Series::default(), comparison, chance: 0.01 }.passing()
        };
        assert_eq!(told(0.0), "less than 3 times blue's");
        assert_eq!(told(0.001), "less than 3 times blue's, or less than 0.1 %");
    }
}
