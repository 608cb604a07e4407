//! Which gates need a number of requests in a period, and whether green will have so many in a rollout. Pure.

use std::time::Duration;

use crate::judge::quantile;
use crate::policy::gates::{Bound, Gate, Measure, Metric, Rule, Threshold};
use crate::policy::plan::Plan;
use crate::rollout::Front;
use crate::rollout::schedule::Step;
use crate::traffic::all_requests;
use crate::verdict::{Caveat, Finding, Outcome, Quantity, Unit};

/// A gate, or the outage lane, that leaves out periods with fewer requests than it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Need<'a> {
    gate: &'a str,
    kind: Kind,
    /// Requests that a period needs.
    least: u64,
    /// What counts them, of one colour.
    counted: Counted,
    /// Whether it is judged while traffic shifts.
    in_shift: bool,
    /// Whether it is judged in the bake.
    in_bake: bool,
}

/// What needs the requests, as far as the advice depends on it.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Outage,
    /// A limit on a ratio.
    Share,
    /// A limit on a percentile; `slower_than` is its value where a comparison could take it.
    Percentile {
        slower_than: Option<String>,
    },
    /// A limit on anything else, whose policy asks for requests.
    Statistic,
    /// Slow requests that CloudWatch does not count, told by percentiles.
    Uncounted,
}

/// What counts the requests of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The metric; with the same dimensions for either colour where a policy names green's.
    pub metric: Metric,
    /// `Sum` of what counts requests, `SampleCount` of what measures them.
    pub statistic: &'static str,
}

/// The usual traffic of what a gate looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// Requests of both colours in a period.
    pub requests: f64,
    /// Whether the metric tells the colours apart, so that green has its share of them only.
    pub is_shared_out: bool,
}

/// How a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course<'a> {
    /// The steps before all traffic is green's.
    pub schedule: &'a [Step],
    /// Length of a period.
    pub period: Duration,
    /// Length of the bake.
    pub bake: Duration,
}

/// When a gate has its requests while traffic shifts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum InShift {
    /// At each step, or there is no step that it would be judged at.
    Always,
    /// From a step on, so long after the shift began.
    From(Step, Duration),
    /// Not even at the largest share.
    Never(f64),
}

/// The gates of a plan that need requests, the outage lane first. One that is judged in the shift and in the bake is one.
pub fn needs(plan: &Plan, front: Front) -> Vec<Need<'_>> {
    let of_shift = plan.traffic.iter().filter_map(|gate| of_gate(gate, plan));
    let of_bake = plan.bake.iter().filter(|gate| !plan.traffic.contains(gate));
    of_outage(plan, front)
        .into_iter()
        .chain(of_shift)
        .chain(of_bake.filter_map(|gate| of_gate(gate, plan)))
        .filter(|need| need.in_shift || need.in_bake)
        .collect()
}

/// That of the outage lane; none where nothing counts requests.
pub fn of_outage(plan: &Plan, front: Front) -> Option<Need<'static>> {
    Some(Need {
        gate: "outage",
        kind: Kind::Outage,
        least: plan.outage.min_requests,
        counted: Counted { metric: all_requests(front)?, statistic: "Sum" },
        in_shift: true,
        in_bake: bakes(plan),
    })
}

/// That of a comparison of slow requests, where CloudWatch does not count them.
pub fn of_uncounted<'a>(gate: &'a Gate, metric: &Metric, plan: &Plan) -> Need<'a> {
    let counted = Counted { metric: metric.clone(), statistic: "SampleCount" };
    of(gate, plan, Kind::Uncounted, quantile::LEAST_SAMPLES, counted)
}

fn of_gate<'a>(gate: &'a Gate, plan: &Plan) -> Option<Need<'a>> {
    let Rule::Threshold(threshold) = &gate.rule else { return None };
    let (metric, statistic) = match &threshold.measure {
        Measure::Share { of, .. } => (of, "Sum"),
        Measure::Statistic { metric, .. } => (metric, "SampleCount"),
    };
    let counted = Counted { metric: of_either(metric), statistic };
    (threshold.min_requests > 0).then(|| of(gate, plan, kind(threshold), threshold.min_requests, counted))
}

fn of<'a>(gate: &'a Gate, plan: &Plan, kind: Kind, least: u64, counted: Counted) -> Need<'a> {
    let in_bake = bakes(plan) && plan.bake.contains(gate);
    Need { gate: &gate.name, kind, least, counted, in_shift: plan.traffic.contains(gate), in_bake }
}

fn bakes(plan: &Plan) -> bool {
    plan.bake_for > Duration::ZERO
}

fn kind(threshold: &Threshold) -> Kind {
    match &threshold.measure {
        Measure::Share { .. } => Kind::Share,
        Measure::Statistic { statistic, .. } if statistic.starts_with('p') => {
            Kind::Percentile { slower_than: slower_than(threshold.bound) }
        }
        Measure::Statistic { .. } => Kind::Statistic,
    }
}

/// A limit on a time as `slower_than` takes it, such as `800ms`.
fn slower_than(bound: Bound) -> Option<String> {
    match bound {
        Bound::AtMost { limit, .. } if limit.unit == Unit::Seconds => {
            Some(limit.to_string().replace(' ', ""))
        }
        _ => None,
    }
}

/// Colours swap with every deployment, so the past of the one that is green now is only half of the past.
fn of_either(metric: &Metric) -> Metric {
    let either = |value: &str| value.replace("{green.", "{");
    let dimensions = metric.dimensions.iter().map(|(name, value)| (name.clone(), either(value))).collect();
    Metric { dimensions, ..metric.clone() }
}

impl Usual {
    /// From both colours' counts of each period, which are one where the metric does not tell them apart. The periods before
    /// anything was counted are not its time.
    pub fn of(colours: &[Vec<Option<f64>>]) -> Self {
        let periods = colours.iter().map(Vec::len).max().unwrap_or(0);
        let at = |period: usize| colours.iter().filter_map(move |colour| colour.get(period).copied()?);
        let first = (0..periods).find(|period| at(*period).next().is_some()).unwrap_or(periods);
        // The sum of nothing would be -0.
        let sum = (first..periods).flat_map(at).fold(0.0, |sum, requests| sum + requests);
        Self { requests: sum / (periods - first).max(1) as f64, is_shared_out: colours.len() > 1 }
    }

    /// What a gate finds of it where green has this share of the traffic, 0 to 1.
    fn at(self, share: f64) -> f64 {
        if self.is_shared_out { self.requests * share } else { self.requests }
    }
}

impl Need<'_> {
    /// What counts its requests.
    pub fn counted(&self) -> &Counted {
        &self.counted
    }

    /// What the reader should know of it before the shift; nothing where every period has enough. It never fails a release:
    /// what could not be judged is told after the shift, by what was there.
    pub fn told(&self, usual: Usual, course: &Course) -> Option<Finding> {
        let is_blind_in_bake = self.in_bake && !self.has_enough(usual.at(1.0));
        let summary = match (self.in_shift(usual, course.schedule), is_blind_in_bake) {
            (InShift::Always, false) => return None,
            (InShift::From(step, after), _) => return Some(self.from(step, after, course.period)),
            (InShift::Never(share), false) => format!(
                "{} while traffic shifts: {}{}",
                self.cannot(),
                self.too_few(usual, share, course.period),
                if self.in_bake { "; only the bake has so many" } else { "" }
            ),
            (InShift::Always, true) => {
                format!("{} in the bake: {}", self.cannot(), self.too_few(usual, 1.0, course.period))
            }
            (InShift::Never(share), true) => {
                let few = self.too_few(usual, share, course.period);
                format!("{} in this rollout, nor with all of the traffic: {few}", self.cannot())
            }
        };
        let instead = self.instead(usual, course);
        let told = Finding::new(self.check(), Outcome::Pass, summary);
        Some(told.but(Caveat::TooFewToJudge { instead }))
    }

    fn check(&self) -> String {
        format!("{}, outlook", self.gate)
    }

    fn has_enough(&self, requests: f64) -> bool {
        requests >= self.least as f64
    }

    fn in_shift(&self, usual: Usual, schedule: &[Step]) -> InShift {
        let steps = || schedule.iter().filter(|step| step.share < 1.0);
        let Some(largest) = steps().map(|step| step.share).reduce(f64::max).filter(|_| self.in_shift) else {
            return InShift::Always;
        };
        match steps().position(|step| self.has_enough(usual.at(step.share))) {
            None => InShift::Never(largest),
            Some(0) => InShift::Always,
            Some(first) => {
                let after = steps().take(first).map(|step| step.lasts).sum();
                steps().nth(first).map_or(InShift::Never(largest), |step| InShift::From(*step, after))
            }
        }
    }

    /// A later step suffices. Until then the gate is blind, but the rollout is not without it.
    fn from(&self, step: Step, after: Duration, period: Duration) -> Finding {
        let is = if self.kind == Kind::Outage { "an outage is seen" } else { "is judged" };
        let minutes = Quantity::plain(after.as_secs_f64() / 60.0);
        let summary = format!(
            "{is} from the step of {} on, {minutes} minutes after the shift begins: before, green has fewer than the {} {} {} that it needs",
            Quantity::share(step.share),
            self.least,
            self.unit(),
            each(period)
        );
        Finding::new(self.check(), Outcome::Pass, summary)
    }

    fn cannot(&self) -> &'static str {
        if self.kind == Kind::Outage { "no outage can be seen" } else { "cannot be judged" }
    }

    /// "green gets about 18 requests a minute at 10 %, and it needs 100".
    fn too_few(&self, usual: Usual, share: f64, period: Duration) -> String {
        let requests = about(usual.at(share));
        let (unit, each) = (self.unit(), each(period));
        let gets = if usual.is_shared_out {
            format!("green gets about {requests} {unit} {each} at {}", Quantity::share(share))
        } else {
            format!("there are about {requests} {unit} {each}")
        };
        format!("{gets}, and it needs {}", self.least)
    }

    fn unit(&self) -> &'static str {
        if self.counted.metric.namespace.starts_with("AWS/") { "requests" } else { "samples" }
    }

    /// What would judge instead.
    fn instead(&self, usual: Usual, course: &Course) -> String {
        let other = match &self.kind {
            Kind::Outage => "smoke checks see one without users' requests".to_owned(),
            Kind::Share => "without its `limit` it compares events of the whole rollout with blue's, and needs no number in a period".to_owned(),
            Kind::Percentile { slower_than: Some(limit) } => format!(
                "`slower_than: {limit}` compares slow requests of the whole rollout with blue's, and needs no number in a period"
            ),
            Kind::Percentile { slower_than: None } | Kind::Statistic => {
                "a lower `min_requests` judges it by fewer".to_owned()
            }
            Kind::Uncounted => "CloudWatch does not count slow samples of this metric, and percentiles need more of them".to_owned(),
        };
        let step = self.step_that_would_do(usual).map(|share| format!("a step of {share} would do"));
        let can_bake = course.bake > Duration::ZERO && !self.in_bake && self.has_enough(usual.at(1.0));
        let in_bake = can_bake.then(|| "`bake.gates` can judge it at 100 %".to_owned());
        let all: Vec<String> = [Some(other), step, in_bake].into_iter().flatten().collect();
        all.join("; ")
    }

    /// The smallest share in whole percent at which green has enough; none that would give green most of the traffic.
    fn step_that_would_do(&self, usual: Usual) -> Option<Quantity> {
        let percent = (self.least as f64 / usual.requests * 100.0).ceil();
        (self.in_shift && usual.is_shared_out && percent <= 50.0).then(|| Quantity::share(percent / 100.0))
    }
}

/// A number of requests as people say it.
fn about(requests: f64) -> Quantity {
    Quantity::plain(if requests < 10.0 { requests } else { requests.round() })
}

/// "a minute", or the seconds of another period.
fn each(period: Duration) -> String {
    if period == Duration::from_mins(1) {
        "a minute".to_owned()
    } else {
        format!("in {}", Quantity::seconds(period.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::schedule::{canary, linear};

    const P99: &str =
        "traffic: [{name: p99 latency, metric: TargetResponseTime, statistic: p99, limit: 800ms}]";

    /// What is told of a policy's gates with so many requests a minute: the finding and its advice.
    fn told(policy: &str, requests: f64, schedule: &[Step]) -> Vec<(String, Option<String>)> {
        let plan = crate::policy::parse(policy).unwrap();
        let usual = Usual { requests, is_shared_out: true };
        let course = Course { schedule, period: plan.sampling.period, bake: plan.bake_for };
        let told = needs(&plan, Front::Application).into_iter().filter_map(|need| need.told(usual, &course));
        told.map(|finding| {
            // An outlook never fails a release, whatever the policy says of what is unclear.
            assert_eq!(finding.outcome, Outcome::Pass, "{finding:?}");
            let instead = finding.caveats.iter().find_map(|caveat| match caveat {
                Caveat::TooFewToJudge { instead } => Some(instead.clone()),
                _ => None,
            });
            (format!("{}: {}", finding.check, finding.summary), instead)
        })
        .collect()
    }

    fn check(policy: &str, requests: f64, schedule: &[Step], expect: &[(&str, Option<&str>)]) {
        let told = told(policy, requests, schedule);
        let told: Vec<(&str, Option<&str>)> =
            told.iter().map(|(line, instead)| (line.as_str(), instead.as_deref())).collect();
        assert_eq!(told, expect);
    }

    fn tenth() -> Vec<Step> {
        canary(10.0, Duration::from_mins(15))
    }

    #[test]
    fn a_percentile_that_green_has_too_few_requests_for_is_told() {
        check(
            &format!("{P99}\nbake: {{gates: [{{slower_than: 800ms}}]}}"),
            201.0,
            &tenth(),
            &[(
                "p99 latency, outlook: cannot be judged while traffic shifts: green gets about 20 requests a minute at 10 %, and it needs 100",
                Some(
                    "`slower_than: 800ms` compares slow requests of the whole rollout with blue's, and needs no number in a period; a step of 50 % would do; `bake.gates` can judge it at 100 %",
                ),
            )],
        );
        // The bake has the gates of the shift where the policy names none.
        let told = told(P99, 201.0, &tenth());
        assert!(told[0].0.ends_with("and it needs 100; only the bake has so many"), "{told:?}");
        assert!(!told[0].1.as_ref().unwrap().contains("bake.gates"), "{told:?}");
    }

    #[test]
    fn what_has_its_requests_is_not_told() {
        check(P99, 1000.0, &tenth(), &[]);
        check(P99, 999.0, &canary(99.0, Duration::from_mins(5)), &[]);
        // All at once: nothing is judged while traffic shifts.
        check(P99, 100.0, &[], &[]);
        // Comparisons need no number, nor does a limit that asks for none.
        check("version: 1", 200.0, &tenth(), &[]);
    }

    #[test]
    fn of_a_linear_shift_the_step_is_told_from_which_on_it_suffices() {
        let steps = linear(10.0, Duration::from_mins(3));
        check(
            P99,
            201.0,
            &steps,
            &[(
                "p99 latency, outlook: is judged from the step of 50 % on, 12 minutes after the shift begins: before, green has fewer than the 100 requests a minute that it needs",
                None,
            )],
        );
        let told = told(P99, 105.0, &steps);
        assert!(told[1].0.contains("green gets about 95 requests a minute at 90 %"), "{told:?}");
        // A step that gives green most of the traffic is no advice.
        assert!(!told[1].1.as_ref().unwrap().contains("would do"), "{told:?}");
        assert!(
            told[0]
                .0
                .starts_with("outage, outlook: an outage is seen from the step of 20 % on, 3 minutes after"),
            "{told:?}"
        );
    }

    #[test]
    fn the_outage_lane_needs_requests_too() {
        check(
            "version: 1",
            183.0,
            &tenth(),
            &[(
                "outage, outlook: no outage can be seen while traffic shifts: green gets about 18 requests a minute at 10 %, and it needs 20; only the bake has so many",
                Some("smoke checks see one without users' requests; a step of 11 % would do"),
            )],
        );
        check(
            "version: 1",
            3.0,
            &tenth(),
            &[(
                "outage, outlook: no outage can be seen in this rollout, nor with all of the traffic: green gets about 0.3 requests a minute at 10 %, and it needs 20",
                Some("smoke checks see one without users' requests"),
            )],
        );
        let told = told("version: 1", 0.0, &tenth());
        assert!(told[0].0.contains("about 0 requests a minute at 10 %"), "{told:?}");
    }

    #[test]
    fn a_gate_of_the_bake_has_all_of_the_traffic() {
        let policy = "traffic: [{slower_than: auto}]\nbake: {gates: [{name: errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount, limit: 5%, min_requests: 300}]}";
        check(policy, 300.0, &tenth(), &[]);
        check(
            policy,
            299.0,
            &tenth(),
            &[(
                "errors, outlook: cannot be judged in the bake: green gets about 299 requests a minute at 100 %, and it needs 300",
                Some(
                    "without its `limit` it compares events of the whole rollout with blue's, and needs no number in a period",
                ),
            )],
        );
        // Without a bake nobody judges it.
        check(&policy.replace("bake: {", "bake: {for: 0s, "), 299.0, &tenth(), &[]);
    }

    #[test]
    fn what_does_not_tell_the_colours_apart_has_all_requests_at_every_step() {
        let policy = "traffic: [{name: orders, metric: Time, statistic: p90, limit: 5, namespace: Shop, dimensions: {S: x}}]\nbake: {for: 0s}";
        let plan = crate::policy::parse(policy).unwrap();
        let steps = tenth();
        let course = Course { schedule: &steps, period: plan.sampling.period, bake: plan.bake_for };
        let needs = needs(&plan, Front::None);
        let told = |colours: &[Vec<Option<f64>>]| needs[0].told(Usual::of(colours), &course);
        assert_eq!(needs.len(), 1);
        assert_eq!(told(&[vec![None, Some(150.0), Some(50.0)]]), None);
        let few = told(&[vec![None, Some(150.0), None]]).unwrap();
        assert_eq!(
            few.summary,
            "cannot be judged while traffic shifts: there are about 75 samples a minute, and it needs 100"
        );
        assert!(told(&[vec![Some(150.0)], vec![None]]).is_some());
    }

    #[test]
    fn the_past_of_both_colours_is_counted_whatever_colour_a_policy_names() {
        let metric = Metric {
            namespace: "Shop".to_owned(),
            name: "Time".to_owned(),
            dimensions: vec![("Group".to_owned(), "{green.target_group}".to_owned())],
        };
        assert_eq!(of_either(&metric).dimensions[0].1, "{target_group}");
        let counts = [vec![None, Some(1.0), None, Some(4.0)], vec![None, None, Some(2.0), Some(5.0)]];
        assert_eq!(Usual::of(&counts), Usual { requests: 4.0, is_shared_out: true });
        assert_eq!(Usual::of(&[Vec::new(), Vec::new()]).requests.to_bits(), 0.0_f64.to_bits());
    }
}
