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
        samples.sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
        let (first, last) = (samples.first()?.value, samples.last()?.value);
        Some(match self {
            Self::SampleCount => count(&samples),
            Self::Sum => sum(&samples),
            Self::Average => mean(&samples)?,
            Self::Minimum => first,
            Self::Maximum => last,
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
