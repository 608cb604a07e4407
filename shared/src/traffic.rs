//! One look at the metrics: read both colours and the time before the shift, then judge.

use jiff::Timestamp;

use crate::aws::Aws;
use crate::fault::{Fault, FaultKind};
use crate::hook::Release;
use crate::judge::series::Series;
use crate::judge::{self, Evidence, Trial};
use crate::metrics::{self, CountQueries, GateQueries, Query, SeriesSet, Side, Window};
use crate::policy::chances::Chances;
use crate::policy::defaults;
use crate::policy::gates::{Bound, Compared, Events, Gate, Measure, Metric, Rule, SlowerThan, Threshold};
use crate::recording::{self, Bad};
use crate::rollout::schedule::green_shares;
use crate::rollout::{Front, Rollout};
use crate::slower;
use crate::verdict::{Caveat, Finding, Quantity};

/// Periods before the shift from which the judge learns how noisy the service is: an hour of minutes.
pub const HISTORY: usize = 60;
/// Statistic of a metric above which a sample is slow, when the policy leaves it to the service.
const USUALLY_SLOW: &str = "p99";

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// When the shift began. Comparisons gather evidence from here on.
    pub shift: Timestamp,
    /// From where on limits hold.
    pub from: Timestamp,
    /// Where the look ends, at the latest.
    pub until: Timestamp,
}

/// What a look found, and over which window.
#[derive(Debug)]
pub struct Seen {
    /// A finding per gate, the outage lane first.
    pub findings: Vec<Finding>,
    /// The complete periods in which limits hold.
    pub window: Window,
    /// What the comparisons looked at; `None` when nothing of it can be recorded.
    pub recording: Option<recording::Traffic>,
}

/// Judges `gates` and the outage lane over the complete periods of `span`, as far as they are in.
pub async fn look(release: &Release, gates: &[Gate], span: Span, now: Timestamp) -> Result<Seen, Fault> {
    let read = read(release, &[(gates, span)], now).await?;
    judge(release, gates, span, now, &read).await
}

/// What CloudWatch told about the gates of one look.
pub struct Read {
    set: SeriesSet,
    usual: Usual,
}

/// What is slow, in the metric's unit, for each metric of which a comparison leaves that to the service.
pub type UsuallySlow = Vec<(Metric, f64)>;

/// The same, as one look found it.
#[derive(Default)]
struct Usual {
    slow: UsuallySlow,
    /// Whether CloudWatch told all that it has.
    is_whole: bool,
}

impl Read {
    /// Leaves what was slow before the shift to later looks: it does not change any more.
    pub fn leave(self, known: &mut UsuallySlow) {
        if self.usual.is_whole {
            *known = self.usual.slow;
        }
    }
}

/// Reads what all gates of a look need, each series once and over the longest of the spans, which begin with one shift.
pub async fn read(release: &Release, asked: &[(&[Gate], Span)], now: Timestamp) -> Result<Read, Fault> {
    let longest = asked.iter().map(|(_, span)| span.compared(release, now)).max_by_key(|shift| shift.periods);
    let Some(longest) = longest.filter(|shift| shift.periods > 0) else {
        return Ok(Read { set: SeriesSet::default(), usual: Usual::default() });
    };
    let gates: Vec<Gate> = asked.iter().flat_map(|(gates, _)| gates.iter().cloned()).collect();
    let usual = usually_slow(release, &gates, &longest).await?;
    let errors = all_errors(release.rollout.front());
    let queries = Rules::new(release, &gates, &errors, &usual.slow).queries();
    let set = read_counts(release, &queries, &longest.with_history(HISTORY)).await?;
    Ok(Read { set, usual })
}

/// Judges one of the spans that were read.
pub async fn judge(
    release: &Release,
    gates: &[Gate],
    span: Span,
    now: Timestamp,
    read: &Read,
) -> Result<Seen, Fault> {
    let sampling = &release.plan.sampling;
    let limited = Window::complete(span.from, span.until, now, sampling);
    let compared = span.compared(release, now);
    let window = if compared.periods == 0 { compared } else { compared.with_history(HISTORY) };
    let errors = all_errors(release.rollout.front());
    // Before the first period of the shift nothing was read.
    let usually_slow = if compared.periods == 0 { &[] } else { read.usual.slow.as_slice() };
    let Rules { down, rules } = Rules::new(release, gates, &errors, usually_slow);
    let answer = Answer {
        set: &read.set,
        read: window,
        shift: span.shift,
        first: window.periods - limited.periods,
        planned: green_shares(&release.rollout.schedule, sampling.period, release.plan.bake_for).len(),
    };
    let of_errors: Vec<Evidence> = down.iter().map(|limited| limited.evidence(&answer)).collect();
    let mut findings: Vec<Finding> = sum(&of_errors, release.rollout.front())
        .iter()
        .map(|errors| judge::outage(&release.plan.outage, errors))
        .collect();
    let chances = Chances::new(&release.plan);
    let mut recorded: Vec<(Bad, Series)> = Vec::new();
    for asked in &rules {
        let (finding, counts) = match asked.uncounted(&answer) {
            Some((gate, rule, metric)) => {
                let chance = chances.of(rule);
                (slower::look(release, gate, metric, &compared, chance).await?, None)
            }
            None => asked.judge(&answer, &chances),
        };
        findings.push(finding);
        recorded.extend(counts);
    }
    let front = release.rollout.front();
    if gates.is_empty() && matches!(front, Front::None | Front::Shared) {
        findings.push(judge::nothing_tells(front));
    }
    for message in &read.set.messages {
        if let Some(finding) = findings.first_mut() {
            finding.caveats.push(Caveat::PartialData { message: message.clone() });
        }
    }
    let recording = recording::Traffic::taken(sampling.period, &recorded);
    Ok(Seen { findings, window: limited, recording })
}

impl Span {
    /// The complete periods since the shift began: what comparisons gather evidence from.
    fn compared(&self, release: &Release, now: Timestamp) -> Window {
        Window::complete(self.shift, self.until, now, &release.plan.sampling)
    }
}

/// The outage lane and the gates, with their queries.
struct Rules<'a> {
    down: Vec<Limited<'a>>,
    rules: Vec<Asked<'a>>,
}

impl<'a> Rules<'a> {
    fn new(
        release: &Release,
        gates: &'a [Gate],
        errors: &'a [(&'static str, Threshold)],
        usually_slow: &[(Metric, f64)],
    ) -> Self {
        Self {
            down: errors.iter().map(|(name, limit)| Limited::new(name, limit, release)).collect(),
            rules: gates.iter().filter_map(|gate| Asked::new(gate, usually_slow, release)).collect(),
        }
    }

    fn queries(&self) -> Vec<Query> {
        let of_gates = self.rules.iter().flat_map(Asked::queries);
        self.down.iter().flat_map(Limited::queries).chain(of_gates).collect()
    }
}

/// What CloudWatch answered, when the shift began, and which period is the first in which limits hold.
struct Answer<'a> {
    set: &'a SeriesSet,
    read: Window,
    shift: Timestamp,
    first: usize,
    /// Periods of the whole rollout. The same in the shift and in the bake, so that evidence goes on.
    planned: usize,
}

/// Reads all counts. Where CloudWatch refuses the statistic that counts slow samples, it refuses the whole call; the other
/// gates must not be blind for that.
pub(crate) async fn read_counts(
    release: &Release,
    queries: &[Query],
    window: &Window,
) -> Result<SeriesSet, Fault> {
    let read = metrics::read(&release.aws, queries, window).await;
    let refused = matches!(&read, Err(fault) if fault.kind == FaultKind::Rejected);
    if !refused || !queries.iter().any(Query::is_trimmed_count) {
        return read;
    }
    let others: Vec<Query> = queries.iter().filter(|query| !query.is_trimmed_count()).cloned().collect();
    metrics::read(&release.aws, &others, window).await
}

/// When production traffic began to shift, as the requests of both versions show it: in the first period since `since` in
/// which green had half of its first step's share (0 to 1). Smoke checks are too few for that, as a rule. `None` when
/// there is no such period yet, or nothing that counts requests. The instant is within the period before, which is
/// neither history nor judged, since the shift may have begun in it.
pub async fn began(
    release: &Release,
    since: Timestamp,
    first_share: f64,
    now: Timestamp,
) -> Result<Option<Timestamp>, Fault> {
    let sampling = &release.plan.sampling;
    let window = Window::complete(since, Timestamp::MAX, now, sampling);
    if release.rollout.front() != Front::Application {
        return Ok(None);
    }
    let requests = Metric::of_target_group("RequestCount");
    let queries =
        [Side::Green, Side::Blue].map(|side| metrics::query(&requests, "Sum", &release.rollout, side));
    let set = metrics::read(&release.aws, &queries, &window).await?;
    let [green, blue] = queries.each_ref().map(|query| set.get(query, &window));
    let first = green.iter().zip(&blue).position(|(green, blue)| {
        let (green, blue) = (green.unwrap_or(0.0), blue.unwrap_or(0.0));
        green > 0.0 && green >= first_share / 2.0 * (green + blue)
    });
    Ok(first.and_then(|periods| {
        let begins = window.with_periods(periods).end();
        begins.checked_sub(sampling.period / 2).ok()
    }))
}

/// The usual 99th percentile before the shift, for the comparisons that leave it to the service which samples are slow.
async fn usually_slow(release: &Release, gates: &[Gate], shift: &Window) -> Result<Usual, Fault> {
    let before = Window { periods: HISTORY, ..shift.with_history(HISTORY) };
    let mut slow = release.usually_slow.clone();
    let is_known = |metric: &Metric| release.usually_slow.iter().any(|(known, _)| known == metric);
    let mut asked: Vec<&Metric> =
        gates.iter().filter_map(left_open).filter(|metric| !is_known(metric)).collect();
    asked.sort();
    asked.dedup();
    if asked.is_empty() {
        return Ok(Usual { slow, is_whole: true });
    }
    let of_sides = |metric: &Metric| slowest_queries(metric, &release.rollout);
    let queries: Vec<Query> = asked.iter().copied().flat_map(of_sides).collect();
    let set = metrics::read(&release.aws, &queries, &before).await?;
    let usual = |metric: &Metric| {
        let median = |query: &Query| judge::median(set.get(query, &before).into_iter().flatten());
        of_sides(metric).iter().find_map(median)
    };
    slow.extend(asked.into_iter().filter_map(|metric| Some((metric.clone(), usual(metric)?))));
    Ok(Usual { slow, is_whole: set.messages.is_empty() })
}

/// What is slow in each period, of blue and of green, in the metric's unit: its 99th percentile. Nothing where no
/// comparison leaves it to the service.
pub async fn slowest(
    aws: &Aws,
    rollout: &Rollout,
    gates: &[Gate],
    window: &Window,
) -> Result<Vec<metrics::Series>, Fault> {
    let Some(metric) = gates.iter().find_map(left_open) else { return Ok(Vec::new()) };
    let queries = slowest_queries(metric, rollout);
    let set = metrics::read(aws, &queries, window).await?;
    Ok(queries.iter().map(|query| set.get(query, window)).collect())
}

fn slowest_queries(metric: &Metric, rollout: &Rollout) -> [Query; 2] {
    [Side::Blue, Side::Green].map(|side| metrics::query(metric, USUALLY_SLOW, rollout, side))
}

/// The metric of a comparison that leaves it to the service what is slow.
fn left_open(gate: &Gate) -> Option<&Metric> {
    match &gate.rule {
        Rule::Compared(Compared { events: Events::Slow { metric, than: SlowerThan::Usual }, .. }) => {
            Some(metric)
        }
        _ => None,
    }
}

/// A gate with its queries.
enum Asked<'a> {
    Limited(Limited<'a>),
    Compared {
        gate: &'a str,
        compared: &'a Compared,
        queries: CountQueries,
    },
    /// Nothing to compare with: it is not known what is slow.
    NothingUsual(&'a str),
}

impl<'a> Asked<'a> {
    fn new(gate: &'a Gate, usually_slow: &[(Metric, f64)], release: &Release) -> Option<Self> {
        let usual = left_open(gate).and_then(|metric| {
            usually_slow.iter().find(|(known, _)| known == metric).map(|(_, value)| *value)
        });
        match &gate.rule {
            Rule::Threshold(threshold) => Some(Self::Limited(Limited::new(&gate.name, threshold, release))),
            Rule::Compared(compared) => {
                let queries = CountQueries::new(&compared.events, usual, &release.rollout);
                Some(queries.map_or(Self::NothingUsual(&gate.name), |queries| Self::Compared {
                    gate: &gate.name,
                    compared,
                    queries,
                }))
            }
            // Judged after the shift, by its own reading.
            Rule::Changed(_) => None,
        }
    }

    fn queries(&self) -> Vec<Query> {
        match self {
            Self::Limited(limited) => limited.queries().collect(),
            Self::Compared { queries, .. } => queries.all().cloned().collect(),
            Self::NothingUsual(_) => Vec::new(),
        }
    }

    /// A gate whose slow samples CloudWatch does not count, and the metric.
    fn uncounted(&self, answer: &Answer) -> Option<(&'a str, &'a Compared, &'a Metric)> {
        let Self::Compared { gate, compared, queries } = self else { return None };
        let Events::Slow { metric, .. } = &compared.events else { return None };
        (!queries.are_counted(answer.set, &answer.read)).then_some((*gate, *compared, metric))
    }

    /// What the gate found, and the counts behind it if a recording can hold them.
    fn judge(&self, answer: &Answer, chances: &Chances) -> (Finding, Option<(Bad, Series)>) {
        match self {
            Self::Limited(limited) => {
                (judge::threshold(limited.name, limited.threshold, &limited.evidence(answer)), None)
            }
            Self::Compared { gate, compared, queries } => {
                let trial = Trial {
                    gate,
                    series: queries.series(answer.set, &answer.read, answer.shift, answer.planned),
                    comparison: compared.comparison,
                    chance: chances.of(compared),
                };
                (trial.finding(), Bad::of(&compared.events).map(|bad| (bad, trial.series)))
            }
            Self::NothingUsual(gate) => (judge::nothing_usual(gate), None),
        }
    }
}

/// A limit with its queries for both colours.
struct Limited<'a> {
    name: &'a str,
    threshold: &'a Threshold,
    green: GateQueries,
    blue: GateQueries,
}

impl<'a> Limited<'a> {
    fn new(name: &'a str, threshold: &'a Threshold, release: &Release) -> Self {
        Self {
            name,
            threshold,
            green: metrics::gate_queries(threshold, &release.rollout, Side::Green),
            blue: metrics::gate_queries(threshold, &release.rollout, Side::Blue),
        }
    }

    fn queries(&self) -> impl Iterator<Item = Query> {
        [&self.green, &self.blue]
            .into_iter()
            .flat_map(|side| [Some(&side.value), side.samples.as_ref()])
            .flatten()
            .cloned()
    }

    fn evidence(&self, answer: &Answer) -> Evidence {
        let readings = |side: &GateQueries| {
            let samples = side.samples.as_ref().map(|query| answer.set.get(query, &answer.read));
            judge::readings(
                &self.threshold.measure,
                &answer.set.get(&side.value, &answer.read),
                samples.as_ref(),
            )
        };
        Evidence { green: readings(&self.green), blue: readings(&self.blue), first: answer.first }
    }
}

/// The outage lane's series: shares of all requests without limits of their own, of which a request can be in one only.
/// None where CloudWatch knows no errors of a version.
fn all_errors(front: Front) -> Vec<(&'static str, Threshold)> {
    let share = |bad, bad_requests: Metric, all: Metric| {
        let bound = Bound::AtMost { limit: Quantity::share(1.0), tolerate: None };
        let measure = Measure::Share { bad: bad_requests, of: all };
        let min_requests = defaults::MIN_REQUESTS_FOR_SHARE;
        (bad, Threshold { measure, bound, min_requests, worst_of: None })
    };
    match front {
        Front::Application | Front::Shared => {
            let of_requests =
                |bad| share(bad, Metric::of_target_group(bad), Metric::of_target_group("RequestCount"));
            vec![of_requests("HTTPCode_Target_5XX_Count"), of_requests("TargetConnectionErrorCount")]
        }
        Front::Function => {
            vec![share("Errors", Metric::of_version("Errors"), Metric::of_version("Invocations"))]
        }
        Front::Network | Front::None => Vec::new(),
    }
}

/// What counts all requests of a version in the outage lane.
pub(crate) fn all_requests(front: Front) -> Option<Metric> {
    all_errors(front).into_iter().find_map(|(_, threshold)| match threshold.measure {
        Measure::Share { of, .. } => Some(of),
        Measure::Statistic { .. } => None,
    })
}

/// Adds up the shares of several kinds of bad requests; they have the same requests. Where both versions share a target
/// group nobody knows what blue alone does.
fn sum(evidence: &[Evidence], front: Front) -> Option<Evidence> {
    let add = |a: &[Option<judge::Reading>], b: &[Option<judge::Reading>]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.map(|a| judge::Reading { value: a.value + b.map_or(0.0, |b| b.value), ..a }))
            .collect()
    };
    let sum = evidence.iter().cloned().reduce(|one, other| Evidence {
        green: add(&one.green, &other.green),
        blue: add(&one.blue, &other.blue),
        first: one.first,
    })?;
    Some(if front == Front::Shared { Evidence { blue: Vec::new(), ..sum } } else { sum })
}
