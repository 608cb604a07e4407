//! A long time of a service's metrics, read a day after the other.

use std::time::Duration;

use shiftgate::aws::Aws;
use shiftgate::fault::Fault;
use shiftgate::judge::series::{Count, Past};
use shiftgate::metrics::{self, CountQueries, Query, Window};
use shiftgate::policy::gates::Events;
use shiftgate::rollout::Rollout;

/// How long CloudWatch keeps the minutes of a metric.
pub const KEPT: Duration = Duration::from_hours(15 * 24);
/// How far back it is asked for them: more may be gone when the answer comes, and the first rollout has an hour before.
pub const ASKED: Duration = Duration::from_hours(15 * 24 - 1);
/// What is read at once: a day of minutes of all counts is less than an answer of CloudWatch holds.
const AT_ONCE: Duration = Duration::from_hours(24);

/// The counts of the whole service in every period of a window, for each of `events` and in their order; none for what cannot
/// be counted, since `usual`, the limit of what is slow, is not known. And what CloudWatch said beside it.
pub async fn counts(
    aws: &Aws,
    events: &[Events],
    usual: Option<f64>,
    rollout: &Rollout,
    window: &Window,
    say: &mut impl FnMut(&str),
) -> Result<(Vec<Option<Vec<Past>>>, Vec<String>), Fault> {
    // Either target group was blue at some time, and the zones are blue's.
    let colours = [rollout.clone(), swapped(rollout)];
    let times = if is_one(rollout) { 2.0 } else { 1.0 };
    let queries = |events: &Events| {
        let [one, other] = colours.each_ref().map(|rollout| CountQueries::new(events, usual, rollout));
        Some([one?, other?])
    };
    let asked: Vec<Option<[CountQueries; 2]>> = events.iter().map(queries).collect();
    let all: Vec<Query> = asked.iter().flatten().flatten().flat_map(CountQueries::all).cloned().collect();
    let mut counted: Vec<Option<Vec<Past>>> =
        asked.iter().map(|queries| queries.as_ref().map(|_| Vec::new())).collect();
    let (parts, mut messages) = (parts(window), Vec::new());
    for (index, part) in parts.iter().enumerate() {
        say(&format!("reading the metrics of day {} of {}", index + 1, parts.len()));
        let set = metrics::read(aws, &all, part).await?;
        for (queries, past) in asked.iter().zip(&mut counted) {
            let (Some(queries), Some(past)) = (queries, past) else { continue };
            let [one, other] =
                queries.each_ref().map(|queries| queries.series(&set, part, part.end(), 0).history);
            past.extend(one.into_iter().zip(other).map(|(one, other)| merged(one, other, times)));
        }
        messages.extend(set.messages);
    }
    Ok((counted, messages))
}

fn swapped(rollout: &Rollout) -> Rollout {
    Rollout { blue: rollout.green.clone(), green: rollout.blue.clone(), ..rollout.clone() }
}

/// Whether both colours are one to CloudWatch: one target group, or one version of a function. It is counted for each.
fn is_one(rollout: &Rollout) -> bool {
    let Rollout { blue, green, .. } = rollout;
    (&blue.target_group, &blue.version) == (&green.target_group, &green.version)
}

/// A period as both colours show it: the same requests, counted so many times, by the zones of whichever served.
fn merged(one: Past, other: Past, times: f64) -> Past {
    let total = one.total.map(|Count { of, bad }| Count { of: of / times, bad: bad / times });
    Past { total, zones: if one.zones.is_empty() { other.zones } else { one.zones } }
}

/// A window in parts that are read one after the other.
fn parts(window: &Window) -> Vec<Window> {
    let length = AT_ONCE.div_duration_f64(window.period) as usize;
    (0..window.periods)
        .step_by(length)
        .map(|begin| Window {
            start: window.with_periods(begin).end(),
            periods: length.min(window.periods - begin),
            ..*window
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    #[test]
    fn a_long_time_is_read_in_parts_that_leave_nothing_out() {
        let window = Window { start: at(7), periods: 3000, period: Duration::from_mins(1) };
        let parts = parts(&window);
        let told: Vec<(Timestamp, usize)> = parts.iter().map(|part| (part.start, part.periods)).collect();
        assert_eq!(told, [(at(7), 1440), (at(1447), 1440), (at(2887), 120)]);
    }

    #[test]
    fn requests_that_were_counted_for_each_colour_are_counted_once() {
        let past = |zones: Vec<Count>| Past { total: Some(Count { of: 40.0, bad: 2.0 }), zones };
        let zone = Count { of: 20.0, bad: 1.0 };
        let of = |times| merged(past(Vec::new()), past(vec![zone]), times);
        assert_eq!(of(1.0), past(vec![zone]));
        assert_eq!(of(2.0).total, Some(Count { of: 20.0, bad: 1.0 }));
    }
}
