//! Statistics: how the samples of one period become one value.

use super::store::Sample;

/// A statistic, as `Stat`, `Statistics` and `ExtendedStatistics` name it.
///
/// A percentile is the *nearest rank*: the smallest sample that at least `percent` per cent of all samples do not
/// exceed. It is always a value that was really seen, never interpolated.
///
/// `TM` (mean), `TC` (count) and `TS` (sum) look only at the samples inside their [`Range`]; `WM` is the mean with
/// the samples outside moved to its bounds; `PR` is the percentage of samples inside.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statistic {
    SampleCount,
    Sum,
    Average,
    Minimum,
    Maximum,
    Percentile(f64),
    TrimmedMean(Range),
    TrimmedCount(Range),
    TrimmedSum(Range),
    WinsorizedMean(Range),
    PercentileRank(Range),
}

/// Which samples count. The lower bound is exclusive, the upper one inclusive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Range {
    /// Bounds in the metric's unit; infinite where left out.
    Values { low: f64, high: f64 },
    /// Bounds in percent of the samples in ascending order; 0 and 100 where left out.
    Percent { low: f64, high: f64 },
}

impl Statistic {
    /// Reads a name such as `Sum`, `p99.9`, `TC(0.5:)`, `TM(5%:95%)`, `tm99` or `PR(:0.3)`; none when there is no
    /// such statistic.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "SampleCount" => Self::SampleCount,
            "Sum" => Self::Sum,
            "Average" => Self::Average,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            "IQM" => Self::TrimmedMean(Range::Percent { low: 25.0, high: 75.0 }),
            _ => match name.strip_prefix('p') {
                Some(digits) => Self::Percentile(percent(digits)?),
                None => Self::parse_ranged(name)?,
            },
        })
    }

    fn parse_ranged(name: &str) -> Option<Self> {
        let (kind, rest) = name.split_at_checked(2)?;
        let range = match rest.strip_prefix('(') {
            Some(rest) => Range::parse(rest.strip_suffix(')')?)?,
            None => Range::Percent { low: 0.0, high: percent(rest)? },
        };
        match (kind.to_ascii_uppercase().as_str(), range) {
            ("TM", _) => Some(Self::TrimmedMean(range)),
            ("TC", _) => Some(Self::TrimmedCount(range)),
            ("TS", _) => Some(Self::TrimmedSum(range)),
            ("WM", _) => Some(Self::WinsorizedMean(range)),
            ("PR", Range::Values { .. }) => Some(Self::PercentileRank(range)),
            _ => None,
        }
    }

    /// The statistic's value; none without samples, or when a mean has no sample left.
    pub fn of(&self, mut samples: Vec<Sample>) -> Option<f64> {
        samples.first()?;
        // Sums are asked for most, and need no order.
        if !matches!(self, Self::SampleCount | Self::Sum | Self::Average) {
            samples.sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
        }
        Some(match self {
            Self::SampleCount => count(&samples),
            Self::Sum => sum(&samples),
            Self::Average => mean(&samples)?,
            Self::Minimum => samples.first()?.value,
            Self::Maximum => samples.last()?.value,
            Self::Percentile(percent) => percentile(&samples, *percent)?,
            Self::TrimmedMean(range) => mean(&range.trim(&samples))?,
            Self::TrimmedCount(range) => count(&range.trim(&samples)),
            Self::TrimmedSum(range) => sum(&range.trim(&samples)),
            Self::WinsorizedMean(range) => mean(&range.winsorize(&samples)?)?,
            Self::PercentileRank(range) => 100.0 * count(&range.trim(&samples)) / count(&samples),
        })
    }
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (low, high) = text.split_once(':')?;
        let range = if text.contains('%') {
            let read = |side: &str| percent(side.strip_suffix('%')?);
            Self::Percent { low: bound(low, 0.0, read)?, high: bound(high, 100.0, read)? }
        } else {
            Self::Values {
                low: bound(low, f64::NEG_INFINITY, finite)?,
                high: bound(high, f64::INFINITY, finite)?,
            }
        };
        let (Self::Values { low, high } | Self::Percent { low, high }) = range;
        (low <= high && text != ":").then_some(range)
    }

    /// The samples inside. A run of equal samples that a percentage cuts through is counted in part.
    fn trim(self, ascending: &[Sample]) -> Vec<Sample> {
        match self {
            Self::Values { low, high } => ascending
                .iter()
                .filter(|sample| sample.value > low && sample.value <= high)
                .copied()
                .collect(),
            Self::Percent { low, high } => {
                let total = count(ascending);
                let (from, to) = (low * total / 100.0, high * total / 100.0);
                let part = |(begin, end): (f64, f64)| (end.min(to) - begin.max(from)).max(0.0);
                let parts = ascending.iter().zip(ranks(ascending));
                parts.map(|(sample, ranks)| Sample { count: part(ranks), ..*sample }).collect()
            }
        }
    }

    /// All samples, those outside moved to the bound that they exceed.
    fn winsorize(self, ascending: &[Sample]) -> Option<Vec<Sample>> {
        let (low, high) = match self {
            Self::Values { low, high } => (low, high),
            Self::Percent { low, high } => (percentile(ascending, low)?, percentile(ascending, high)?),
        };
        let moved = |sample: &Sample| Sample { value: sample.value.clamp(low, high), ..*sample };
        Some(ascending.iter().map(moved).collect())
    }
}

/// One side of a range; `otherwise` when left out.
fn bound(text: &str, otherwise: f64, read: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    if text.is_empty() { Some(otherwise) } else { read(text) }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn percent(text: &str) -> Option<f64> {
    finite(text).filter(|percent| (0.0..=100.0).contains(percent))
}

fn count(samples: &[Sample]) -> f64 {
    samples.iter().map(|sample| sample.count).sum()
}

fn sum(samples: &[Sample]) -> f64 {
    samples.iter().map(|sample| sample.value * sample.count).sum()
}

fn mean(samples: &[Sample]) -> Option<f64> {
    let count = count(samples);
    (count > 0.0).then(|| sum(samples) / count)
}

fn percentile(ascending: &[Sample], percent: f64) -> Option<f64> {
    let rank = percent * count(ascending) / 100.0;
    let reached = ascending.iter().zip(ranks(ascending)).find(|(_, (_, end))| *end >= rank);
    reached.map(|(sample, _)| sample.value)
}

/// For every sample the number of samples before it, and that number with it.
fn ranks(ascending: &[Sample]) -> impl Iterator<Item = (f64, f64)> {
    ascending.iter().scan(0.0, |seen, sample| {
        let begin = *seen;
        *seen += sample.count;
        Some((begin, *seen))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(values: impl IntoIterator<Item = f64>) -> Vec<Sample> {
        values.into_iter().map(|value| Sample { value, count: 1.0 }).collect()
    }

    /// The statistic of the samples 1, 2, .. 100.
    fn of_hundred(name: &str) -> Option<f64> {
        Statistic::parse(name).unwrap_or_else(|| panic!("{name}")).of(samples((1..=100).map(f64::from)))
    }

    #[test]
    fn statistics_of_one_to_hundred() {
        let expected = [
            ("SampleCount", 100.0),
            ("Sum", 5050.0),
            ("Average", 50.5),
            ("Minimum", 1.0),
            ("Maximum", 100.0),
            ("p0", 1.0),
            ("p50", 50.0),
            ("p99", 99.0),
            ("p99.9", 100.0),
            ("p100", 100.0),
            ("TC(90:)", 10.0),
            ("TC(:90)", 90.0),
            ("TC(1000:)", 0.0),
            ("TC(10%:30%)", 20.0),
            ("TS(98:)", 199.0),
            ("TM(10:20)", 15.5),
            ("TM(10%:90%)", 50.5),
            ("tm10", 5.5),
            ("IQM", 50.5),
            ("WM(50:)", (50.0 * 50.0 + 3775.0) / 100.0),
            ("WM(:90%)", (4095.0 + 10.0 * 90.0) / 100.0),
            ("PR(:30)", 30.0),
            ("PR(10:30)", 20.0),
        ];
        for (name, value) in expected {
            assert_eq!(of_hundred(name), Some(value), "{name}");
        }
    }

    #[test]
    fn a_mean_of_nothing_is_no_datapoint() {
        assert_eq!(of_hundred("TM(1000:)"), None);
        assert_eq!(Statistic::Sum.of(Vec::new()), None);
    }

    #[test]
    fn names_that_are_no_statistics() {
        let names = [
            "",
            "sum",
            "Min",
            "p",
            "p101",
            "p-1",
            "pinf",
            "TC",
            "TC(1)",
            "TC(:)",
            "TC(2:1)",
            "TC(1:2",
            "TC(1%:2)",
            "PR(1%:2%)",
            "PR90",
            "XX(1:2)",
            "TM(:101%)",
            "é(1:2)",
        ];
        for name in names {
            assert_eq!(Statistic::parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_run_counts_as_its_samples_one_by_one(
            runs in prop::collection::vec((0_u8..20, 1_u8..5), 1..20),
            name in prop::sample::select(vec!["SampleCount", "Sum", "p50", "p90", "TM(10%:90%)", "TC(5:)", "WM(5%:95%)", "PR(:7)"]),
        ) {
            let run = |(value, count): &(u8, u8)| Sample { value: f64::from(*value), count: f64::from(*count) };
            let single = |(value, count): &(u8, u8)| vec![f64::from(*value); usize::from(*count)];
            let statistic = Statistic::parse(name).unwrap();
            let in_runs = statistic.of(runs.iter().map(run).collect()).unwrap();
            let one_by_one = statistic.of(samples(runs.iter().flat_map(single))).unwrap();
            prop_assert!((in_runs - one_by_one).abs() < 1e-9, "{in_runs} {one_by_one}");
        }

        #[test]
        fn a_percentile_is_the_smallest_sample_that_enough_samples_do_not_exceed(
            values in prop::collection::vec(-1000_i16..1000, 1..200),
            percent in 0_u8..=100,
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let percentile = Statistic::Percentile(f64::from(percent)).of(samples(values.clone())).unwrap();
            let enough = f64::from(percent) * values.len() as f64 / 100.0;
            let up_to = values.iter().filter(|value| **value <= percentile).count() as f64;
            let below = values.iter().filter(|value| **value < percentile).count() as f64;
            prop_assert!(values.contains(&percentile));
            prop_assert!(up_to >= enough && (below < enough || below == 0.0));
        }

        #[test]
        fn every_sample_is_on_one_side_of_a_bound(values in prop::collection::vec(0_u8..50, 1..100), bound in 0_u8..50) {
            let values = samples(values.into_iter().map(f64::from));
            let count = |name: String| Statistic::parse(&name).unwrap().of(values.clone()).unwrap();
            let both = count(format!("TC({bound}:)")) + count(format!("TC(:{bound})"));
            prop_assert_eq!(both as usize, values.len());
        }
    }
}
