//! What CloudWatch tells of a service's past.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use shiftgate::aws::Aws;
use shiftgate::fault::Fault;
use shiftgate::judge::median;
use shiftgate::judge::series::Past;
use shiftgate::metrics::{self, Query, Side, Window};
use shiftgate::policy::defaults;
use shiftgate::policy::gates::{Events, Gate, Metric, Rule};
use shiftgate::rollout::schedule::Step;
use shiftgate::rollout::{Front, Rollout};

use crate::past;

/// Periods of what is called an hour: as many as the judge learns from.
pub const HOUR: usize = shiftgate::traffic::HISTORY;
/// Length of the periods whose percentiles are read: in a minute there may be too few requests for one.
const OF_PERCENTILES: Duration = Duration::from_hours(1);

/// A service's past, in numbers.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The periods that were asked for.
    pub window: Window,
    /// What CloudWatch can tell of the two versions.
    pub front: Front,
    /// How the next release is to shift.
    pub schedule: Vec<Step>,
    /// What the built-in comparisons count, in their order; nothing where nothing counts requests.
    pub counted: Vec<Counted>,
    /// How long requests take; none where nobody knows.
    pub times: Option<Times>,
}

/// What one comparison counts, in each period of the window.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Name of the gate.
    pub gate: String,
    /// The counts.
    pub past: Vec<Past>,
}

/// Percentiles of the response time in seconds, each the median of the hours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// The 95th.
    pub p95: f64,
    /// The 99th.
    pub p99: f64,
}

impl Times {
    /// What is called slow, in milliseconds: the 99th percentile, rounded up to two digits.
    pub fn slow_ms(&self) -> u64 {
        let ms = (self.p99 * 1000.0).max(1.0);
        let digit = 10_f64.powf(ms.log10().floor() - 1.0).max(1.0);
        // The last bits of a product must not make 12 of 11.
        ((ms / digit - 1e-9).ceil() * digit) as u64
    }
}

/// Sixty minutes, or all that is known where that is less.
#[derive(Debug, Clone, PartialEq)]
pub struct Hour {
    /// Its periods in the window.
    pub periods: Range<usize>,
    /// Requests of a period, on average.
    pub requests: f64,
}

/// Two of the hours that are known, by their requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    /// The one in the middle.
    pub usual: Hour,
    /// The one that a tenth of them lies below.
    pub quiet: Hour,
    /// How many there are.
    pub number: usize,
}

impl Measured {
    /// The periods from the first one with requests on; none without any.
    pub fn known(&self) -> Option<Range<usize>> {
        let past = &self.counted.first()?.past;
        Some(past.iter().position(|past| past.total.is_some())?..past.len())
    }

    /// Whether there were requests in an hour's minutes at least. What fewer say is chance.
    pub fn is_enough(&self) -> bool {
        let with_requests =
            |counted: &Counted| counted.past.iter().filter(|past| past.total.is_some()).count();
        self.counted.first().is_some_and(|counted| with_requests(counted) >= HOUR)
    }

    /// The usual and the quiet hour; none without requests.
    pub fn hours(&self) -> Option<Hours> {
        let known = self.known()?;
        let past = &self.counted.first()?.past;
        let requests = |periods: &Range<usize>| -> f64 {
            past[periods.clone()].iter().filter_map(|past| past.total).map(|total| total.of).sum()
        };
        let whole = known.len() / HOUR;
        let length = if whole > 0 { HOUR } else { known.len() };
        // From the end: what came first may be less than an hour.
        let mut hours: Vec<Hour> = (1..=whole.max(1))
            .map(|back| known.end - back * length..known.end - (back - 1) * length)
            .map(|periods| Hour { requests: requests(&periods) / length as f64, periods })
            .collect();
        hours.sort_by(|one, other| one.requests.total_cmp(&other.requests));
        let (usual, quiet) = (hours.len() / 2, (hours.len() - 1) / 10);
        Some(Hours { usual: hours[usual].clone(), quiet: hours[quiet].clone(), number: hours.len() })
    }

    /// The bad events of a comparison per event, over all that is known; none without events.
    pub fn ratio(counted: &Counted) -> Option<f64> {
        let totals = || counted.past.iter().filter_map(|past| past.total);
        let of: f64 = totals().map(|total| total.of).sum();
        (of > 0.0).then(|| totals().map(|total| total.bad).sum::<f64>() / of)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let hours = self.hours();
        let requests = hours.as_ref().map(|hours| {
            json!({"usual_hour": hours.usual.requests, "quiet_hour": hours.quiet.requests, "hours": hours.number})
        });
        let bad: serde_json::Map<String, Value> =
            self.counted.iter().map(|counted| (counted.gate.clone(), json!(Self::ratio(counted)))).collect();
        json!({
            "from": self.window.start,
            "until": self.window.end(),
            "minutes_known": self.known().map_or(0, |known| known.len()),
            "requests_per_minute": requests,
            "bad": bad,
            "p95_seconds": self.times.map(|times| times.p95),
            "p99_seconds": self.times.map(|times| times.p99),
        })
    }
}

/// Reads the past of what the next release will deploy, from `from` on. And what CloudWatch said beside it.
pub async fn read(
    aws: &Aws,
    rollout: &Rollout,
    from: Timestamp,
    now: Timestamp,
    say: &mut impl FnMut(&str),
) -> Result<(Measured, Vec<String>), Fault> {
    let window = Window::complete(from, Timestamp::MAX, now, &defaults::SAMPLING);
    let front = rollout.front();
    say("reading response times");
    let (names, events): (Vec<String>, Vec<Events>) =
        defaults::gates(front).into_iter().filter_map(compared).unzip();
    // CloudWatch counts the milliseconds of a function, and the seconds of a load balancer.
    let units = if front == Front::Function { 1000.0 } else { 1.0 };
    let times = times(aws, &events, rollout, &window, units).await?;
    let slow = times.map(|times| times.slow_ms() as f64 / 1000.0 * units);
    let (counted, messages) = past::counts(aws, &events, slow, rollout, &window, say).await?;
    let counted =
        names.into_iter().zip(counted).filter_map(|(gate, past)| Some(Counted { gate, past: past? }));
    let schedule = rollout.schedule.clone();
    Ok((Measured { window, front, schedule, counted: counted.collect(), times }, messages))
}

fn compared(gate: Gate) -> Option<(String, Events)> {
    match gate.rule {
        Rule::Compared(compared) => Some((gate.name, compared.events)),
        _ => None,
    }
}

async fn times(
    aws: &Aws,
    events: &[Events],
    rollout: &Rollout,
    window: &Window,
    units: f64,
) -> Result<Option<Times>, Fault> {
    let slow = events.iter().find_map(|events| match events {
        Events::Slow { metric, .. } => Some(metric),
        Events::Counts { .. } => None,
    });
    let Some(metric) = slow else { return Ok(None) };
    let window = of_percentiles(window);
    let queries = ["p95", "p99"].map(|statistic| of_both(metric, statistic, rollout));
    let set = metrics::read(aws, queries.as_flattened(), &window).await?;
    let usual = |queries: &[Query; 2]| {
        median(queries.iter().flat_map(|query| set.get(query, &window)).flatten()).map(|value| value / units)
    };
    Ok(usual(&queries[0]).zip(usual(&queries[1])).map(|(p95, p99)| Times { p95, p99 }))
}

fn of_both(metric: &Metric, statistic: &str, rollout: &Rollout) -> [Query; 2] {
    [Side::Blue, Side::Green].map(|side| metrics::query(metric, statistic, rollout, side))
}

/// The same time in hours of the clock, begun ones too.
fn of_percentiles(window: &Window) -> Window {
    let seconds = OF_PERCENTILES.as_secs().cast_signed();
    let first = window.start.as_second().div_euclid(seconds);
    let last = window.end().as_second().div_euclid(seconds) + 1;
    Window {
        start: Timestamp::from_second(first * seconds).unwrap_or(window.start),
        periods: usize::try_from(last - first).unwrap_or(0),
        period: OF_PERCENTILES,
    }
}

#[cfg(test)]
pub mod tests {
    use shiftgate::judge::series::Count;

    use super::*;

    /// A service with so many requests in each minute of each hour, one in a hundred of which is a server error, and one slow.
    pub fn service(hours: &[f64]) -> Measured {
        let past = |ratio: f64| -> Vec<Past> {
            let (mut sum, mut told) = (0.0, 0.0);
            let mut minute = |of: f64| {
                sum += of * ratio;
                let bad = (sum - told).floor();
                told += bad;
                Past { total: (of > 0.0).then_some(Count { of, bad }), zones: Vec::new() }
            };
            hours.iter().flat_map(|of| std::iter::repeat_n(*of, HOUR)).map(&mut minute).collect()
        };
        let counted = [("server errors", 0.01), ("connection errors", 0.0), ("slow requests", 0.01)];
        Measured {
            window: Window {
                start: "2026-11-22T10:00:00Z".parse().unwrap(),
                periods: hours.len() * HOUR,
                period: defaults::SAMPLING.period,
            },
            front: Front::Application,
            schedule: vec![Step { share: 0.1, lasts: Duration::from_mins(15) }],
            counted: counted.map(|(gate, bad)| Counted { gate: gate.to_owned(), past: past(bad) }).into(),
            times: Some(Times { p95: 0.12, p99: 0.3361 }),
        }
    }

    #[test]
    fn hours_are_ranked_by_their_requests_from_the_first_that_is_known() {
        let hours: Vec<f64> = (0..=20).map(f64::from).collect();
        let measured = service(&hours);
        assert_eq!(measured.known(), Some(60..21 * 60));
        let Hours { usual, quiet, number } = measured.hours().unwrap();
        assert_eq!((usual.requests, quiet.requests, number), (11.0, 2.0, 20));
        assert_eq!(usual.periods, 660..720);
        let Hours { usual, quiet, number } = service(&[4.0, 6.0]).hours().unwrap();
        assert_eq!((usual.requests, quiet.requests, number), (6.0, 4.0, 2));
        assert_eq!(service(&[0.0, 0.0]).hours(), None);
    }

    #[test]
    fn less_than_an_hour_is_taken_as_it_is_and_what_is_left_over_is_left_out() {
        let mut measured = service(&[6.0, 8.0]);
        let known = |measured: &mut Measured, from: usize| {
            measured.counted[0].past[..from].fill(Past::default());
            measured.hours().unwrap()
        };
        // 90 minutes: the latest hour.
        let hours = known(&mut measured, 30);
        assert_eq!((hours.usual.periods.clone(), hours.number), (60..120, 1));
        assert_eq!(hours.usual, hours.quiet);
        let hours = known(&mut measured, 113);
        assert_eq!((hours.usual.periods, hours.usual.requests), (113..120, 8.0));
    }

    #[test]
    fn what_is_slow_is_rounded_up_to_two_digits() {
        let slow = |p99| Times { p95: 0.0, p99 }.slow_ms();
        let seen = [0.000_2, 0.004_1, 0.011, 0.336_1, 0.34, 12.01].map(slow);
        assert_eq!(seen, [1, 5, 11, 340, 340, 13_000]);
    }

    #[test]
    fn percentiles_are_read_in_hours_of_the_clock_with_the_one_that_has_begun() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let window =
            Window { start: at("2026-11-22T10:40:00Z"), periods: 30, period: Duration::from_mins(1) };
        let hours = of_percentiles(&window);
        assert_eq!((hours.start, hours.end()), (at("2026-11-22T10:00:00Z"), at("2026-11-22T12:00:00Z")));
    }
}
