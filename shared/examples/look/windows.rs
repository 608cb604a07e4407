//! Windows of a service that serves the same with both versions, for what measures the judge: the same for a seed, on
//! every machine.

use rand::SeedableRng;
use rand_distr::{Distribution, Poisson};
use rand_pcg::Pcg64;
use shiftgate::judge::series::{Count, Pair, Past, Series};
use shiftgate::judge::{self, Evidence, Reading, Trial};
use shiftgate::policy::Plan;
use shiftgate::policy::chances::Chances;
use shiftgate::policy::gates::{Gate, Rule};
use shiftgate::rollout::Front;
use shiftgate::verdict::Finding;

/// Availability zones of the history.
const ZONES: usize = 3;
/// Green's share of the requests: a canary's.
const GREEN: f64 = 0.1;
/// Bad events per request, of each gate in turn: server errors, failed connections, slow requests.
const RATES: [f64; 3] = [0.002, 0.0002, 0.01];

/// A plan with gates, and what they look at.
pub struct Look {
    /// The built-in policy, with as many comparisons as are asked for.
    pub plan: Plan,
    /// The counts of each comparison, in the plan's order.
    pub series: Vec<Series>,
    /// What limits and the outage lane look at.
    pub evidence: Evidence,
}

impl Look {
    /// A window of so many minutes in which the service has `requests` a minute. `comparisons` is the number of gates that
    /// compare green with blue; `None` leaves the built-in gates as they are.
    pub fn new(minutes: usize, requests: f64, comparisons: Option<usize>) -> Self {
        let mut plan = Plan::default().fitted(Front::Application);
        if let Some(comparisons) = comparisons {
            let built_in: Vec<Gate> = plan.traffic.iter().filter(|gate| compares(gate)).cloned().collect();
            plan.traffic = built_in.iter().cycle().take(comparisons).cloned().collect();
            for (index, gate) in plan.traffic.iter_mut().enumerate() {
                gate.name = format!("{} {index}", gate.name);
            }
        }
        let comparisons = plan.traffic.iter().filter(|gate| compares(gate)).count();
        let mut random = Pcg64::seed_from_u64(48);
        let series = (0..comparisons)
            .map(|gate| series(minutes, requests, RATES[gate % RATES.len()], &mut random))
            .collect();
        let good =
            |share: f64| vec![Some(Reading { value: 0.002, samples: Some(requests * share) }); minutes];
        Self { plan, series, evidence: Evidence { green: good(GREEN), blue: good(1.0 - GREEN), first: 0 } }
    }

    /// Judges all gates and the outage lane, as a look does with what CloudWatch told.
    pub fn judged(&self) -> Vec<Finding> {
        let chances = Chances::new(&self.plan);
        let mut series = self.series.iter();
        let of_gates = self.plan.traffic.iter().filter_map(|gate| match &gate.rule {
            Rule::Compared(compared) => Some(
                Trial {
                    gate: &gate.name,
                    series: series.next()?.clone(),
                    comparison: compared.comparison,
                    chance: chances.of(compared),
                }
                .finding(),
            ),
            Rule::Threshold(threshold) => Some(judge::threshold(&gate.name, threshold, &self.evidence)),
            Rule::Changed(_) => None,
        });
        [judge::outage(&self.plan.outage, &self.evidence)].into_iter().chain(of_gates).collect()
    }
}

fn compares(gate: &Gate) -> bool {
    matches!(gate.rule, Rule::Compared(_))
}

/// An hour of history, and the window.
fn series(minutes: usize, requests: f64, rate: f64, random: &mut Pcg64) -> Series {
    let mut count = |share: f64| {
        let of = poisson(requests * share, random);
        Count { of, bad: poisson(of * rate, random) }
    };
    let history = (0..60)
        .map(|_| {
            let zones = [(); ZONES].map(|()| count(1.0 / ZONES as f64));
            let sum = |of: fn(&Count) -> f64| zones.iter().map(of).sum();
            Past {
                total: Some(Count { of: sum(|count| count.of), bad: sum(|count| count.bad) }),
                zones: zones.into(),
            }
        })
        .collect();
    let pair = |_| Pair { blue: present(count(1.0 - GREEN)), green: present(count(GREEN)) };
    Series { history, window: (0..minutes).map(pair).collect(), planned: minutes }
}

/// A load balancer has no data on a minute without requests.
fn present(count: Count) -> Option<Count> {
    (count.of > 0.0).then_some(count)
}

fn poisson(mean: f64, random: &mut Pcg64) -> f64 {
    Poisson::new(mean).map_or(0.0, |law| law.sample(random))
}
