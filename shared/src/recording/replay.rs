//! Judging a recording: the gates of a plan, minute by minute, as they would have been judged while traffic shifted.
//!
//! What is told after a minute depends on that minute and those before it, never on a later one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Before, Change, Counts, Minute, Recording, Tally, Traffic};
use crate::judge::compare::{self, Evidence, PASSED_BY_CHANCE, Process};
use crate::judge::noise::{self, Learned};
use crate::judge::placebo::{self, placebo};
use crate::judge::series::{Count, Pair, Past};
use crate::judge::{self, Reading};
use crate::policy::chances::Chances;
use crate::policy::defaults;
use crate::policy::gates::{Compared, Events, Gate, Measure, Rule};
use crate::policy::plan::Plan;
use crate::verdict::Caveat;

/// Name of the outage lane in answers.
const OUTAGE: &str = "outage";
/// No chance is told to be smaller: floating point numbers end there.
const LEAST_CHANCE: f64 = 1e-300;

/// What a recording comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Green is worse than blue: traffic goes back.
    RollBack,
    /// Green is shown not to be worse than what a pass allows, by every gate.
    Pass,
    /// Neither.
    Inconclusive,
}

impl Verdict {
    /// The word that answers use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RollBack => "roll_back",
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The judge's answer to a recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What it comes to.
    pub verdict: Verdict,
    /// When that was clear, from 1 = the first period of the window.
    pub minute: Option<usize>,
    /// What rolled back: `server_errors`, `connection_errors`, `slow_requests`, `outage`, or a metric's name.
    pub gate: Option<String>,
    /// How often a release as good as blue would look as bad, 0 to 1. None for an outage, which is beyond chance.
    pub chance: Option<f64>,
    /// Why the answer may mislead, and what it did not cover.
    pub caveats: Vec<String>,
}

/// The answer, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// The answer.
    #[serde(flatten)] // only ever written
    pub answer: Answer,
    /// The gates that compare, in the plan's order; the outage lane is none of them.
    pub gates: Vec<Judged>,
    /// For a metric that changed: what it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Seen>,
}

/// What a metric was before and after a change, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Seen {
    /// Typical value of the hour before.
    pub before: f64,
    /// What its past lets expect after it.
    pub expected: f64,
    /// Typical value after it.
    pub after: f64,
    /// Earlier times that it was compared with.
    pub times: usize,
    /// The metric may be so many times worse.
    pub tolerate: f64,
    /// It rolls back when the chance is at most this, 0 to 1.
    pub limit: f64,
}

/// What one gate made of a recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What it counts.
    pub gate: Bad,
    /// Its name in the plan.
    pub name: String,
    /// It rolls back when the chance is at most this, 0 to 1.
    pub limit: f64,
    /// After each minute: how often a release as good as blue would look as bad, 0 to 1. Null where green has no data.
    pub evidence: Vec<Option<f64>>,
    /// The first minute, from 1, at which green was shown not to be worse than what a pass allows.
    pub passed: Option<usize>,
}

/// Judges a recording by a plan. The same recording and plan give the same answer, bit for bit.
pub fn judge(recording: &Recording, plan: &Plan) -> Answer {
    match recording {
        Recording::Traffic(traffic) => watch(traffic, plan, Until::Decided).answer,
        Recording::Change(change) => judge_change(change, plan).answer,
    }
}

/// The same with the evidence of every gate after every minute, also after the decision.
pub fn replay(recording: &Recording, plan: &Plan) -> Replay {
    match recording {
        Recording::Traffic(traffic) => watch(traffic, plan, Until::TheEnd),
        Recording::Change(change) => judge_change(change, plan),
    }
}

/// Judges a change after the shift, as the bake does: rolls back at the first minute at which its chance is at most what
/// the plan leaves for changes.
fn judge_change(change: &Change, plan: &Plan) -> Replay {
    let limit = Chances::of_changes(plan);
    let tolerate = tolerated(change, plan);
    let planned = change.values.len() - change.change_at;
    let mut last = None;
    for minute in 1..=planned {
        let judged = placebo(&placebo::Change {
            values: &change.values[..change.change_at + minute],
            change_at: change.change_at,
            planned,
            period_seconds: u64::from(change.period_seconds.get()),
            direction: change.direction,
            tolerate,
        });
        let decided = matches!(&judged, Ok(seen) if seen.chance <= limit);
        last = Some((minute, judged));
        if decided {
            break;
        }
    }
    let name = &change.metric;
    let (verdict, minute, caveat) = match &last {
        Some((minute, Ok(seen))) if seen.chance <= limit => (Verdict::RollBack, Some(*minute), None),
        Some((minute, Ok(seen))) if seen.smallest <= limit => (Verdict::Pass, Some(*minute), None),
        Some((_, Ok(seen))) => {
            let short = format!(
                "{name}: the history shows no chance below {:.2e}, and {limit} is asked for",
                seen.smallest
            );
            (Verdict::Inconclusive, None, Some(short))
        }
        Some((_, Err(why))) => (Verdict::Inconclusive, None, Some(format!("{name}: {why}"))),
        None => (Verdict::Inconclusive, None, Some(format!("{name}: no value after the change"))),
    };
    let seen = last.and_then(|(_, judged)| judged.ok());
    let answer = Answer {
        verdict,
        minute,
        gate: (verdict == Verdict::RollBack).then(|| name.clone()),
        chance: seen.map(|seen| seen.chance),
        caveats: caveat.into_iter().collect(),
    };
    let change = seen.map(|seen| Seen {
        before: seen.before,
        expected: seen.expected,
        after: seen.after,
        times: seen.times,
        tolerate,
        limit,
    });
    Replay { answer, gates: Vec::new(), change }
}

/// What the plan tolerates of the metric, by the gate's name or the metric's; else the default.
fn tolerated(change: &Change, plan: &Plan) -> f64 {
    let of_gate = |gate: &Gate| {
        let Rule::Changed(changed) = &gate.rule else { return None };
        let (Measure::Statistic { metric, .. } | Measure::Share { bad: metric, .. }) = &changed.measure;
        (gate.name == change.metric || metric.name == change.metric).then_some(changed.tolerate)
    };
    plan.bake.iter().find_map(of_gate).unwrap_or(defaults::CHANGE_TOLERATED)
}

/// How far a recording is read.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    Decided,
    TheEnd,
}

fn watch(traffic: &Traffic, plan: &Plan, until: Until) -> Replay {
    let chances = Chances::new(plan);
    let mut lanes: Vec<Lane> =
        plan.traffic.iter().filter_map(|gate| Lane::new(traffic, gate, &chances)).collect();
    let down = judge::down_since(&plan.outage, &errors(&traffic.minutes));
    let mut rollback: Option<Rollback> = None;
    for (minute, seen) in traffic.minutes.iter().enumerate() {
        for lane in &mut lanes {
            lane.see(minute, seen);
        }
        if rollback.is_none() {
            let by_chance = lanes.iter().find_map(|lane| lane.rolls_back(minute));
            let outage = Rollback { minute, gate: OUTAGE, chance: None };
            rollback = by_chance.or((down == Some(minute)).then_some(outage));
        }
        if rollback.is_some() && until == Until::Decided {
            break;
        }
    }
    let caveats = Caveats::gathered(traffic, plan, &lanes, rollback.map(|rollback| rollback.minute));
    let passed: Option<Vec<usize>> = lanes.iter().map(|lane| lane.passed).collect();
    let answer = match (rollback, passed.unwrap_or_default().into_iter().max()) {
        (Some(Rollback { minute, gate, chance }), _) => Answer {
            verdict: Verdict::RollBack,
            minute: Some(minute + 1),
            gate: Some(gate.to_owned()),
            chance,
            caveats,
        },
        (None, last) => Answer {
            verdict: if last.is_some() { Verdict::Pass } else { Verdict::Inconclusive },
            minute: last.map(|minute| minute + 1),
            gate: None,
            chance: None,
            caveats,
        },
    };
    Replay { answer, gates: lanes.into_iter().map(Lane::judged).collect(), change: None }
}

/// Why, and when (an index into the minutes).
#[derive(Clone, Copy)]
struct Rollback {
    minute: usize,
    gate: &'static str,
    chance: Option<f64>,
}

/// What the gates of a recording count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bad {
    /// Answers with a status from 500 on.
    ServerErrors,
    /// Connections that failed.
    ConnectionErrors,
    /// Answers later than what is slow.
    SlowRequests,
}

impl Bad {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ServerErrors, Self::ConnectionErrors, Self::SlowRequests];

    /// What stands for the metrics of a gate that compares; `None` for other gates and other metrics.
    pub fn compared_by(gate: &Gate) -> Option<Self> {
        compared(gate).map(|(_, bad)| bad)
    }

    /// What stands for a gate's metrics in a recording.
    pub fn of(events: &Events) -> Option<Self> {
        match events {
            Events::Counts { bad, of } if of.name == "RequestCount" => match bad.name.as_str() {
                "HTTPCode_Target_5XX_Count" => Some(Self::ServerErrors),
                "TargetConnectionErrorCount" => Some(Self::ConnectionErrors),
                _ => None,
            },
            Events::Slow { metric, .. } if metric.name == "TargetResponseTime" => Some(Self::SlowRequests),
            _ => None,
        }
    }

    /// Its name in recordings and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerErrors => "server_errors",
            Self::ConnectionErrors => "connection_errors",
            Self::SlowRequests => "slow_requests",
        }
    }

    /// What was counted of it.
    pub fn tally(self, counts: &Counts) -> Tally {
        match self {
            Self::ServerErrors => counts.server_errors,
            Self::ConnectionErrors => counts.connection_errors,
            Self::SlowRequests => counts.slow_requests,
        }
    }

    /// The same, to be changed.
    pub(crate) fn tally_mut(self, counts: &mut Counts) -> &mut Tally {
        match self {
            Self::ServerErrors => &mut counts.server_errors,
            Self::ConnectionErrors => &mut counts.connection_errors,
            Self::SlowRequests => &mut counts.slow_requests,
        }
    }

    /// The bad events with the requests that they are among. No requests is no data.
    pub fn count(self, counts: &Counts) -> Option<Count> {
        Some(Count { of: requests(counts)?, bad: number(self.tally(counts))? })
    }

    /// The first minute by which the recording is known to have this count: the first of all if the history has it.
    pub fn known_from(self, traffic: &Traffic) -> Option<usize> {
        let has = |counts: &Counts| matches!(self.tally(counts), Tally::Of(_));
        if traffic.history.iter().any(|before| has(&before.total())) {
            return Some(0);
        }
        let mut minutes = traffic.minutes.iter();
        minutes.position(|minute| [&minute.blue, &minute.green].into_iter().flatten().any(has))
    }
}

/// Requests, where there are any.
fn requests(counts: &Counts) -> Option<f64> {
    number(counts.requests).filter(|requests| *requests > 0.0)
}

/// An absent count is 0.
fn number(tally: Tally) -> Option<f64> {
    match tally {
        Tally::Absent => Some(0.0),
        Tally::NoData => None,
        Tally::Of(count) => Some(count),
    }
}

/// One gate that compares, as it goes through a recording.
struct Lane<'a> {
    name: &'a str,
    bad: Bad,
    limit: f64,
    process: Process,
    learned: Learned,
    /// The first minute in which it may decide.
    known_from: usize,
    /// The evidence after each minute; `None` where green has no data.
    evidence: Vec<Option<Evidence>>,
    passed: Option<usize>,
}

impl<'a> Lane<'a> {
    /// `None` when the gate does not compare, or the recording has nothing of what it counts.
    fn new(traffic: &Traffic, gate: &'a Gate, chances: &Chances) -> Option<Self> {
        let (compared, bad) = compared(gate)?;
        let known_from = bad.known_from(traffic)?;
        let past = |before: &Before| Past {
            total: bad.count(&before.total()),
            zones: before.zones.iter().filter_map(|zone| bad.count(zone)).collect(),
        };
        let history: Vec<Past> = traffic.history.iter().map(past).collect();
        let planned =
            traffic.minutes_planned.map_or(defaults::USUAL_PERIODS, |minutes| minutes.get() as usize);
        Some(Self {
            name: &gate.name,
            bad,
            limit: chances.of(compared),
            process: Process::new(&history, planned, &compared.comparison),
            learned: noise::learn(&history),
            known_from,
            evidence: Vec::with_capacity(traffic.minutes.len()),
            passed: None,
        })
    }

    fn see(&mut self, minute: usize, seen: &Minute) {
        let [blue, green] = [&seen.blue, &seen.green].map(|counts| self.bad.count(counts.as_ref()?));
        let evidence = self.process.next(Pair { blue, green });
        let evidence = green.filter(|_| minute >= self.known_from).map(|_| evidence);
        self.evidence.push(evidence);
        let passes = evidence.is_some_and(|evidence| evidence.for_pass >= -PASSED_BY_CHANCE.ln());
        self.passed = self.passed.or(passes.then_some(minute));
    }

    fn rolls_back(&self, minute: usize) -> Option<Rollback> {
        let evidence = self.evidence.get(minute).copied().flatten()?;
        (evidence.for_rollback() >= -self.limit.ln()).then(|| Rollback {
            minute,
            gate: self.bad.name(),
            chance: Some(chance(&evidence)),
        })
    }

    fn judged(self) -> Judged {
        Judged {
            gate: self.bad,
            name: self.name.to_owned(),
            limit: self.limit,
            evidence: self.evidence.iter().map(|evidence| evidence.as_ref().map(chance)).collect(),
            passed: self.passed.map(|minute| minute + 1),
        }
    }
}

fn compared(gate: &Gate) -> Option<(&Compared, Bad)> {
    match &gate.rule {
        Rule::Compared(compared) => Bad::of(&compared.events).map(|bad| (compared, bad)),
        Rule::Threshold(_) | Rule::Changed(_) => None,
    }
}

/// How often a release as good as blue would look as bad.
fn chance(evidence: &compare::Evidence) -> f64 {
    (-evidence.for_rollback()).exp().clamp(LEAST_CHANCE, 1.0)
}

/// What the outage lane looks at: server and connection errors together, as shares of the requests. Where one of the two
/// has no data, the other is what is known.
fn errors(minutes: &[Minute]) -> judge::Evidence {
    let reading = |counts: &Option<Counts>| {
        let counts = counts.as_ref()?;
        let requests = requests(counts)?;
        let known = [counts.server_errors, counts.connection_errors].map(number);
        let bad = known.into_iter().flatten().reduce(|one, other| one + other)?;
        Some(Reading { value: bad / requests, samples: Some(requests) })
    };
    judge::Evidence {
        green: minutes.iter().map(|minute| reading(&minute.green)).collect(),
        blue: minutes.iter().map(|minute| reading(&minute.blue)).collect(),
        first: 0,
    }
}

/// Why an answer may mislead. What holds for several gates is said once.
#[derive(Default)]
struct Caveats<'a> {
    general: Vec<String>,
    of_gates: BTreeMap<String, Vec<&'a str>>,
}

impl<'a> Caveats<'a> {
    /// `decided` is the minute (an index) of the rollback: what comes after it is not looked at.
    fn gathered(traffic: &Traffic, plan: &'a Plan, lanes: &[Lane], decided: Option<usize>) -> Vec<String> {
        let mut caveats = Self::default();
        let minutes = &traffic.minutes[..decided.map_or(traffic.minutes.len(), |minute| minute + 1)];
        caveats.of_data(traffic, minutes);
        for lane in lanes.iter().filter(|lane| lane.known_from < minutes.len()) {
            caveats.of_lane(lane, traffic.history.len(), minutes, decided.is_some());
        }
        caveats.of_gates_left_out(plan, lanes, minutes.len());
        caveats.told()
    }

    fn of_data(&mut self, traffic: &Traffic, minutes: &[Minute]) {
        let served = |counts: &Option<Counts>| counts.as_ref().and_then(requests).is_some();
        if !minutes.iter().any(|minute| served(&minute.green)) {
            self.general.push(Caveat::NoData.to_string());
        } else if !minutes.iter().any(|minute| served(&minute.blue)) {
            let known = traffic.history.iter().any(|before| requests(&before.total()).is_some());
            let caveat = if known { Caveat::BlueFromBefore } else { Caveat::NoBlue };
            self.general.push(caveat.to_string());
        }
        let impossible = |counts: &Option<Counts>| counts.as_ref().is_some_and(more_bad_than_requests);
        let strange =
            minutes.iter().filter(|minute| impossible(&minute.green) || impossible(&minute.blue)).count();
        if strange > 0 {
            self.general.push(format!("more bad events than requests, in the rollout: {strange} times"));
        }
        let odd = traffic.history.iter().filter(|before| !adds_up(before)).count();
        if odd > 0 {
            self.general.push(format!("zones that do not add up to the whole, in the history: {odd} times"));
        }
    }

    fn of_lane(&mut self, lane: &Lane, history: usize, minutes: &[Minute], decided: bool) {
        let gate = lane.bad.name();
        let mut say = |what: String| self.of_gates.entry(what).or_default().push(gate);
        if !lane.learned.enough {
            say(Caveat::ShortHistory { periods: history }.to_string());
        }
        if lane.learned.ambiguous() {
            say("the history is noisy and has no zones, so a colour's own noise cannot be told from what both share; a regression takes longer to be told from noise".to_owned());
        }
        let (mut missing, mut seen) = (0, 0);
        for minute in minutes {
            let green = minute.green.as_ref().and_then(|counts| lane.bad.count(counts));
            *(if green.is_some() { &mut seen } else { &mut missing }) += 1;
        }
        match (seen, missing) {
            (0, _) => say("no counts of green; not judged".to_owned()),
            (_, 0) => {}
            (_, 1) => say("one minute without counts of green was left out".to_owned()),
            (_, missing) => say(format!("{missing} minutes without counts of green were left out")),
        }
        if seen > 0 && lane.passed.is_none() && !decided {
            say("neither a regression nor its absence was shown".to_owned());
        }
    }

    /// Gates of the plan that were not judged.
    fn of_gates_left_out(&mut self, plan: &'a Plan, lanes: &[Lane], minutes: usize) {
        let usual = defaults::gates(crate::rollout::Front::Application);
        for gate in &plan.traffic {
            match compared(gate) {
                Some((_, bad)) => {
                    let known = lanes.iter().any(|lane| lane.bad == bad && lane.known_from < minutes);
                    if !known {
                        let what = "not in the recording; not judged".to_owned();
                        self.of_gates.entry(what).or_default().push(bad.name());
                    }
                }
                // Everybody has the built-in limits; they are no news.
                None if usual.contains(gate) => {}
                None => {
                    let what = "a replay judges comparisons with blue, not this gate".to_owned();
                    self.of_gates.entry(what).or_default().push(&gate.name);
                }
            }
        }
    }

    fn told(self) -> Vec<String> {
        let of_gates = self.of_gates.into_iter().map(|(what, mut gates)| {
            gates.dedup();
            format!("{}: {what}", gates.join(", "))
        });
        self.general.into_iter().chain(of_gates).collect()
    }
}

/// Whether some bad events are more than the requests. One or two may be, at the end of a period; more are a mistake.
fn more_bad_than_requests(counts: &Counts) -> bool {
    let Some(requests) = requests(counts) else { return false };
    let most = 1.1 * requests + 2.0;
    Bad::ALL.into_iter().any(|bad| number(bad.tally(counts)).is_some_and(|bad| bad > most))
}

/// Whether the zones of a period, where there are any, add up to its whole.
fn adds_up(before: &Before) -> bool {
    let same = |whole: Tally, of_zone: &dyn Fn(&Counts) -> Tally| {
        let sum: Option<f64> = before.zones.iter().map(|zone| number(of_zone(zone))).sum();
        match (whole, sum) {
            (Tally::Of(whole), Some(sum)) => (whole - sum).abs() <= 0.5 + whole * 1e-6,
            _ => true,
        }
    };
    before.zones.is_empty()
        || (same(before.requests, &|zone| zone.requests)
            && same(before.server_errors, &|zone| zone.server_errors)
            && same(before.connection_errors, &|zone| zone.connection_errors)
            && same(before.slow_requests, &|zone| zone.slow_requests))
}
