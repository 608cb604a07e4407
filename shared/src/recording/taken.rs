//! Recording what the judge looked at, so that the same can be looked at again offline.

use std::num::NonZeroU32;
use std::time::Duration;

use super::replay::Bad;
use super::{Before, Counts, Minute, OfTraffic, Tally, Traffic, Version};
use crate::judge::series::{Count, Series};

impl Traffic {
    /// The series of the comparisons of one look, as one recording. They are of the same periods, each as long as
    /// `period`. `None` when there is nothing that a recording can hold.
    ///
    /// A recording knows one number of requests for all that it counts. Slow requests are counted among answers, which
    /// are fewer than requests where connections fail; so a replay may find their evidence a little weaker.
    pub fn taken(period: Duration, compared: &[(Bad, Series)]) -> Option<Self> {
        let series =
            |(_, series): &(Bad, Series)| (series.history.len(), series.window.len(), series.planned);
        let (history, minutes, planned) = compared.first().map(series)?;
        let each = |count: &dyn Fn(&Series) -> Option<Count>| -> Vec<(Bad, Option<Count>)> {
            compared.iter().map(|(bad, series)| (*bad, count(series))).collect()
        };
        Some(Self {
            version: Version,
            kind: OfTraffic::Traffic,
            period_seconds: NonZeroU32::new(u32::try_from(period.as_secs()).ok()?)?,
            minutes_planned: NonZeroU32::new(u32::try_from(planned).ok()?),
            history: (0..history)
                .map(|period| {
                    let total = counts(&each(&|series| series.history.get(period)?.total));
                    let zones = compared.iter().map(|(_, series)| series.history[period].zones.len()).max();
                    Before {
                        zones: (0..zones.unwrap_or_default())
                            .map(|zone| counts(&each(&|series| in_zone(series, period, zone, zones))))
                            .collect(),
                        requests: total.requests,
                        server_errors: total.server_errors,
                        connection_errors: total.connection_errors,
                        slow_requests: total.slow_requests,
                    }
                })
                .collect(),
            minutes: (0..minutes)
                .map(|minute| Minute {
                    blue: seen(&each(&|series| series.window.get(minute)?.blue)),
                    green: seen(&each(&|series| series.window.get(minute)?.green)),
                })
                .collect(),
        })
    }
}

/// What was counted in a zone. Zones without data are left out of a series, so with fewer of them it is not known which
/// is which.
fn in_zone(series: &Series, period: usize, zone: usize, zones: Option<usize>) -> Option<Count> {
    let known = &series.history.get(period)?.zones;
    known.get(zone).filter(|_| Some(known.len()) == zones).copied()
}

fn seen(counted: &[(Bad, Option<Count>)]) -> Option<Counts> {
    counted.iter().any(|(_, count)| count.is_some()).then(|| counts(counted))
}

fn counts(counted: &[(Bad, Option<Count>)]) -> Counts {
    let mut counts = Counts::default();
    for (bad, count) in counted {
        let tally = count.map_or(Tally::NoData, |count| Tally::Of(count.bad));
        match bad {
            Bad::ServerErrors => counts.server_errors = tally,
            Bad::ConnectionErrors => counts.connection_errors = tally,
            Bad::SlowRequests => counts.slow_requests = tally,
        }
    }
    let of = |slow: bool| {
        let mut of_kind = counted.iter().filter(|(bad, _)| slow == (*bad == Bad::SlowRequests));
        of_kind.find_map(|(_, count)| Some(count.as_ref()?.of))
    };
    counts.requests = of(false).or(of(true)).map_or(Tally::NoData, Tally::Of);
    counts
}
