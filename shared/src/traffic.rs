//! One look at the metrics: read both colours over the same window, then judge.

use jiff::Timestamp;

use crate::fault::Fault;
use crate::hook::Release;
use crate::judge::{self, Evidence};
use crate::metrics::{self, GateQueries, Query, SeriesSet, Side, Window};
use crate::policy::defaults;
use crate::policy::plan::{Bound, Gate, Measure, Metric};
use crate::verdict::{Caveat, Finding, Quantity};

/// Periods of blue before the window, for the gates that compare with blue when it has no traffic beside green.
const HISTORY: usize = 10;

/// What a look found, and over which window.
#[derive(Debug)]
pub struct Seen {
    /// A finding per gate, the outage lane first.
    pub findings: Vec<Finding>,
    /// The complete periods that were judged.
    pub window: Window,
}

/// Judges `gates` and the outage lane over the complete periods from `from` until `until`, as far as they are in.
pub async fn look(
    release: &Release,
    gates: &[Gate],
    from: Timestamp,
    until: Timestamp,
    now: Timestamp,
) -> Result<Seen, Fault> {
    let window = Window::complete(from, until, now, &release.plan.sampling);
    let read = if window.periods == 0 { window } else { window.with_history(HISTORY) };
    let errors = [all_errors("HTTPCode_Target_5XX_Count"), all_errors("TargetConnectionErrorCount")];
    let asked: Vec<Asked> = gates.iter().chain(&errors).map(|gate| Asked::new(gate, release)).collect();
    let queries: Vec<Query> = asked.iter().flat_map(Asked::queries).collect();
    let set = metrics::read(&release.aws, &queries, &read).await?;
    let first = read.periods - window.periods;
    let evidence: Vec<Evidence> = asked.iter().map(|asked| asked.evidence(&set, &read, first)).collect();
    let (of_gates, of_errors) = evidence.split_at(gates.len());
    let mut findings = vec![judge::outage(&release.plan.outage, &sum(of_errors))];
    findings.extend(gates.iter().zip(of_gates).map(|(gate, evidence)| judge::threshold(gate, evidence)));
    for message in &set.messages {
        if let Some(finding) = findings.first_mut() {
            finding.caveats.push(Caveat::PartialData { message: message.clone() });
        }
    }
    Ok(Seen { findings, window })
}

/// The outage lane's series: a share of all requests without a limit of its own.
fn all_errors(metric: &str) -> Gate {
    Gate {
        name: metric.to_owned(),
        measure: Measure::Share {
            bad: Metric::of_target_group(metric),
            of: Metric::of_target_group("RequestCount"),
        },
        bound: Bound::AtMost { limit: Quantity::share(1.0), tolerate: None },
        min_requests: defaults::MIN_REQUESTS_FOR_SHARE,
        worst_of: None,
    }
}

/// Adds up the shares of the two kinds of bad requests; they have the same requests.
fn sum(evidence: &[Evidence]) -> Evidence {
    let [server, connection] = evidence else { return Evidence::default() };
    let add = |a: &[Option<judge::Reading>], b: &[Option<judge::Reading>]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.map(|a| judge::Reading { value: a.value + b.map_or(0.0, |b| b.value), ..a }))
            .collect()
    };
    Evidence {
        green: add(&server.green, &connection.green),
        blue: add(&server.blue, &connection.blue),
        first: server.first,
    }
}

/// A gate with its queries for both colours.
struct Asked<'a> {
    gate: &'a Gate,
    green: GateQueries,
    blue: GateQueries,
}

impl<'a> Asked<'a> {
    fn new(gate: &'a Gate, release: &Release) -> Self {
        Self {
            gate,
            green: metrics::gate_queries(gate, &release.rollout, Side::Green),
            blue: metrics::gate_queries(gate, &release.rollout, Side::Blue),
        }
    }

    fn queries(&self) -> impl Iterator<Item = Query> {
        [&self.green, &self.blue]
            .into_iter()
            .flat_map(|side| [Some(&side.value), side.samples.as_ref()])
            .flatten()
            .cloned()
    }

    fn evidence(&self, set: &SeriesSet, window: &Window, first: usize) -> Evidence {
        let readings = |side: &GateQueries| {
            let samples = side.samples.as_ref().map(|query| set.get(query, window));
            judge::readings(&self.gate.measure, &set.get(&side.value, window), samples.as_ref())
        };
        Evidence { green: readings(&self.green), blue: readings(&self.blue), first }
    }
}
