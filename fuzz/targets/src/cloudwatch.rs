//! Answers of CloudWatch, from their bytes to a verdict.

use std::cell::LazyCell;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use ciborium::Value;
use jiff::Timestamp;
use shiftgate::judge::series::{Count, Series};
use shiftgate::judge::{self, Trial};
use shiftgate::metrics::{self, CountQueries, Query, Side, Window};
use shiftgate::policy::Plan;
use shiftgate::policy::chances::Chances;
use shiftgate::policy::gates::{Compared, Gate, Rule};
use shiftgate::recording::{self, Bad, Recording};
use shiftgate::rollout::{Colour, Entrance, Listener, LoadBalancer, Rollout, TargetGroup};
use shiftgate::verdict::Finding;

use crate::answers::{Answer, with_answers};

/// Periods before the shift, and since.
const PERIODS: (usize, usize) = (6, 5);
/// A minute since the epoch at which the window begins.
const START: i64 = 30_000_000 * 60;
/// One input in so many is judged: that takes a hundred times as long as reading it, and recordings are judged in a target of
/// their own.
const JUDGED: u8 = 128;

/// The first byte says whether the rest is an answer as it is, or what to make answers of; all bytes together whether it is
/// judged, since mutations leave most first bytes as they are.
pub fn cloudwatch(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let pages = if how % 2 == 0 { super::parts(rest).map(<[u8]>::to_vec).collect() } else { pages(rest) };
    let answers = pages
        .into_iter()
        .map(|body| Answer { status: 200, content_type: "application/cbor", body })
        .collect();
    let sum = data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    look(answers, sum % JUDGED == 0);
}

/// A page of an answer.
#[derive(Debug, Arbitrary)]
struct Page {
    results: Vec<Found>,
    message: Option<(String, Option<String>)>,
    more: Option<u8>,
}

/// A result: of which query, when and what.
#[derive(Debug, Arbitrary)]
struct Found {
    query: u8,
    status: Status,
    points: Vec<(At, Number)>,
    /// Times without a value, or values without a time.
    odd: Option<Number>,
}

#[derive(Debug, Arbitrary)]
enum Status {
    Complete,
    PartialData,
    Forbidden,
    InternalError,
    Other(String),
}

#[derive(Debug, Arbitrary)]
enum At {
    Minute(u8),
    Any(f64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Number {
    Small(u8),
    Large(u32),
    Any(f64),
}

impl Number {
    fn value(self) -> f64 {
        match self {
            Self::Small(number) => number.into(),
            Self::Large(number) => number.into(),
            Self::Any(number) => number,
        }
    }
}

fn pages(data: &[u8]) -> Vec<Vec<u8>> {
    let pages = Vec::<Page>::arbitrary_take_rest(Unstructured::new(data)).unwrap_or_default();
    pages.iter().map(written).collect()
}

fn written(page: &Page) -> Vec<u8> {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut members = vec![(
        text("MetricDataResults"),
        Value::Array(page.results.iter().map(|found| Value::Map(members(found))).collect()),
    )];
    if let Some((code, value)) = &page.message {
        let value = value.as_deref().map_or(Value::Null, text);
        let message = Value::Map(vec![(text("Code"), text(code)), (text("Value"), value)]);
        members.push((text("Messages"), Value::Array(vec![message])));
    }
    members.extend(page.more.map(|token| (text("NextToken"), text(&token.to_string()))));
    let mut body = Vec::new();
    ciborium::into_writer(&Value::Map(members), &mut body).unwrap_or_else(|error| panic!("{error}"));
    body
}

fn members(found: &Found) -> Vec<(Value, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let at = |at: &At| match at {
        At::Minute(minute) => (START + 60 * i64::from(*minute)) as f64,
        At::Any(seconds) => *seconds,
    };
    let times = found.points.iter().map(|point| Value::Tag(1, Box::new(Value::Float(at(&point.0)))));
    let values = found.points.iter().map(|point| point.1).chain(found.odd);
    let status = match &found.status {
        Status::Complete => "Complete",
        Status::PartialData => "PartialData",
        Status::Forbidden => "Forbidden",
        Status::InternalError => "InternalError",
        Status::Other(other) => other,
    };
    vec![
        (text("Id"), text(&format!("q{}", found.query))),
        (text("StatusCode"), text(status)),
        (text("Timestamps"), Value::Array(times.collect())),
        (text("Values"), Value::Array(values.map(|number| Value::Float(number.value())).collect())),
    ]
}

thread_local! {
    static ASKED: LazyCell<Asked> = LazyCell::new(Asked::new);
}

/// What is asked of every input: the built-in gates of one rollout.
struct Asked {
    plan: Plan,
    chances: Chances,
    window: Window,
    shift: Timestamp,
    compared: Vec<(Gate, Compared, CountQueries)>,
    limited: Vec<(Gate, metrics::GateQueries, metrics::GateQueries)>,
    queries: Vec<Query>,
}

impl Asked {
    fn new() -> Self {
        let plan = Plan::default();
        let rollout = rollout();
        let (mut compared, mut limited) = (Vec::new(), Vec::new());
        for gate in &plan.traffic {
            match &gate.rule {
                Rule::Compared(rule) => {
                    let queries = CountQueries::new(&rule.events, Some(0.5), &rollout);
                    compared.extend(queries.map(|queries| (gate.clone(), rule.clone(), queries)));
                }
                Rule::Threshold(rule) => {
                    let queries = |side| metrics::gate_queries(rule, &rollout, side);
                    limited.push((gate.clone(), queries(Side::Green), queries(Side::Blue)));
                }
                Rule::Changed(_) => {}
            }
        }
        let of_limits = limited.iter().flat_map(|(_, green, blue)| [green.value.clone(), blue.value.clone()]);
        let queries = compared.iter().flat_map(|(.., queries)| queries.all().cloned()).chain(of_limits);
        let start = at(START);
        Self {
            chances: Chances::new(&plan),
            window: Window { start, periods: PERIODS.0 + PERIODS.1, period: Duration::from_mins(1) },
            shift: at(START + 60 * PERIODS.0 as i64),
            queries: queries.collect(),
            plan,
            compared,
            limited,
        }
    }
}

fn look(answers: Vec<Answer>, judged: bool) {
    ASKED.with(|asked| {
        let read = with_answers(answers, async |aws| metrics::read(aws, &asked.queries, &asked.window).await);
        let set = match read {
            Ok(set) => set,
            Err(fault) => return assert!(!fault.chain().is_empty() && !fault.hint.is_empty()),
        };
        let mut recorded: Vec<(Bad, Series)> = Vec::new();
        for (gate, compared, queries) in &asked.compared {
            let series = queries.series(&set, &asked.window, asked.shift, 15);
            counts_hold(&series);
            recorded.extend(Bad::of(&compared.events).map(|bad| (bad, series.clone())));
            if judged {
                let comparison = compared.comparison;
                let chance = asked.chances.of(compared);
                finding_holds(&Trial { gate: &gate.name, series, comparison, chance }.finding());
            }
        }
        for (gate, green, blue) in &asked.limited {
            let Rule::Threshold(threshold) = &gate.rule else { continue };
            let readings = |of: &metrics::GateQueries| {
                judge::readings(&threshold.measure, &set.get(&of.value, &asked.window), None)
            };
            let evidence = judge::Evidence { green: readings(green), blue: readings(blue), first: PERIODS.0 };
            finding_holds(&judge::threshold(&gate.name, threshold, &evidence));
            finding_holds(&judge::outage(&asked.plan.outage, &evidence));
        }
        can_be_replayed(&recorded);
    });
}

fn counts_hold(series: &Series) {
    assert_eq!((series.history.len(), series.window.len()), PERIODS);
    let past = series.history.iter().flat_map(|past| past.total.iter().chain(&past.zones));
    let seen = series.window.iter().flat_map(|pair| [&pair.blue, &pair.green]).flatten();
    for Count { of, bad } in past.chain(seen) {
        assert!(of.is_finite() && *of > 0.0, "{of} events");
        assert!(bad.is_finite() && *bad >= 0.0, "{bad} bad events");
    }
}

fn finding_holds(finding: &Finding) {
    assert!(!finding.summary.is_empty());
    for quantity in [finding.value, finding.blue, finding.limit].into_iter().flatten() {
        assert!(quantity.value.is_finite(), "{finding:?}");
    }
    if let Some(by_chance) = finding.by_chance {
        assert!((0.0..=1.0).contains(&by_chance.chance), "{finding:?}");
        assert!(by_chance.allowed > 0.0 && by_chance.allowed < 1.0, "{finding:?}");
    }
}

/// What the log keeps of a look is a recording that can be read again.
fn can_be_replayed(recorded: &[(Bad, Series)]) {
    if let Some(taken) = recording::Traffic::taken(Duration::from_mins(1), recorded) {
        let written = serde_json::to_vec(&taken).unwrap_or_default();
        let again = Recording::parse(&written);
        assert!(again.is_ok(), "{again:?}: {}", String::from_utf8_lossy(&written));
    }
}

fn rollout() -> Rollout {
    let colour = |name: &str| Colour {
        target_group: Some(TargetGroup {
            name: name.to_owned(),
            arn: format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{name}/1"),
            dimension: format!("targetgroup/{name}/1"),
            health_path: None,
            health_statuses: None,
        }),
        ..Colour::default()
    };
    Rollout {
        cluster: "lab".to_owned(),
        service: "shop".to_owned(),
        function: None,
        schedule: Vec::new(),
        blue: colour("blue"),
        green: colour("green"),
        entrance: Some(Entrance {
            load_balancer: LoadBalancer {
                dns_name: "shop.example".to_owned(),
                dimension: "app/shop/1".to_owned(),
                zones: vec!["eu-west-1a".to_owned(), "eu-west-1b".to_owned()],
            },
            production: Listener {
                arn: "listener".to_owned(),
                port: 80,
                protocol: "HTTP".to_owned(),
                conditions: Vec::new(),
            },
            test: None,
        }),
        alarms: Vec::new(),
        events: Vec::new(),
        last_successful: None,
        served: None,
        test_header: None,
        is_first: false,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
