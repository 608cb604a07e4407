//! The Mann-Whitney test: whether one set of numbers tends to be higher than another. By the normal law, corrected for
//! ties; Mann and Whitney 1947, and the interval of Hodges and Lehmann 1963.

use statrs::distribution::{ContinuousCDF, Normal};

/// Probability that numbers from one law would show `high` so much higher than `low`; with the correction for
/// continuity. 1 where all numbers are equal or a side has none.
pub fn one_sided(high: &[f64], low: &[f64]) -> f64 {
    let normal = Normal::standard();
    standardised(high, low, 0.0, |above| above - 0.5).map_or(1.0, |z| normal.sf(z))
}

/// How much higher `high` is: the median of all differences. `None` where a side has no numbers.
pub fn shift(high: &[f64], low: &[f64]) -> Option<f64> {
    let mut differences: Vec<f64> =
        high.iter().flat_map(|high| low.iter().map(move |low| high - low)).collect();
    differences.sort_by(f64::total_cmp);
    let (middle, last) = (differences.len() / 2, differences.len().checked_sub(1)?);
    Some(f64::midpoint(differences[last / 2], differences[middle]))
}

/// The lower end of the two-sided interval of this confidence around [`shift`]. `None` where all numbers are equal or a
/// side has none.
pub fn shift_at_least(high: &[f64], low: &[f64], confidence: f64) -> Option<f64> {
    standardised(high, low, 0.0, |above| above)?;
    let limit = Normal::standard().inverse_cdf(f64::midpoint(1.0, confidence));
    let end = |values: &[f64], pick: fn(f64, f64) -> f64, from: f64| values.iter().copied().fold(from, pick);
    let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut below = end(high, f64::min, least) - end(low, f64::max, most);
    let mut above = end(high, f64::max, most) - end(low, f64::min, least);
    // The statistic falls as `high` is shifted down. Where it crosses the limit the interval begins.
    let towards_none = |above: f64| above - 0.5 * above.signum();
    let is_high = |by: f64| standardised(high, low, by, towards_none).is_some_and(|z| z > limit);
    for _ in 0..60 {
        let middle = f64::midpoint(below, above);
        if is_high(middle) { below = middle } else { above = middle }
    }
    Some(below)
}

/// By how many standard deviations more pairs than half have `high`, shifted down by `by`, above `low`; `corrected`
/// is given how many more. `None` where there is no deviation.
fn standardised(high: &[f64], low: &[f64], by: f64, corrected: impl Fn(f64) -> f64) -> Option<f64> {
    let pairs = (high.len() * low.len()) as f64;
    let wins: f64 = high
        .iter()
        .flat_map(|high| low.iter().map(move |low| (high - by).total_cmp(low)))
        .map(|order| match order {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .sum();
    let mut all: Vec<f64> = high.iter().map(|high| high - by).chain(low.iter().copied()).collect();
    all.sort_by(f64::total_cmp);
    let number = all.len() as f64;
    let ties: f64 = all
        .chunk_by(|a, b| a.total_cmp(b).is_eq())
        .map(|tied| tied.len() as f64)
        .map(|tied| tied * tied * tied - tied)
        .sum();
    let variance = pairs / 12.0 * (number + 1.0 - ties / (number * (number - 1.0)));
    (variance > 0.0).then(|| corrected(wins - pairs / 2.0) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expect: f64) {
        assert!((value - expect).abs() < 5e-4, "{value} instead of {expect}");
    }

    #[test]
    fn five_above_five_is_as_rare_as_the_tables_say() {
        let low = [1.0, 2.0, 3.0, 4.0, 5.0];
        // U = 25, mean 12.5, deviation sqrt(25 * 11 / 12) = 4.787: z = 12 / 4.787 = 2.507.
        near(one_sided(&[6.0, 7.0, 8.0, 9.0, 10.0], &low), 0.0061);
        near(one_sided(&low, &[6.0, 7.0, 8.0, 9.0, 10.0]), 0.9967); // z = -13 / 4.787 = -2.716
        near(one_sided(&[1.0; 5], &[1.0; 5]), 1.0);
        near(one_sided(&[], &low), 1.0);
    }

    #[test]
    fn ties_make_the_deviation_smaller() {
        // U = 4 + 4 * 0.5 + ... : (1, 1, 0) over (0, 0, 0): wins 6 + 1.5 = 7.5, mean 4.5. Ties of 4 and 2: 60 + 6 = 66.
        // Variance 9 / 12 * (7 - 66 / 30) = 3.6: z = 2.5 / 1.897 = 1.318.
        near(one_sided(&[1.0, 1.0, 0.0], &[0.0, 0.0, 0.0]), 0.0938);
    }

    #[test]
    fn the_shift_is_the_median_difference() {
        assert_eq!(shift(&[3.0, 5.0], &[1.0, 2.0]), Some(2.5)); // 1, 2, 3, 4
        assert_eq!(shift(&[4.0], &[1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(shift(&[], &[1.0]), None);
    }

    #[test]
    fn the_interval_begins_where_the_statistic_crosses_the_limit() {
        let low: Vec<f64> = (0..10).map(f64::from).collect();
        let high: Vec<f64> = low.iter().map(|value| value + 20.0).collect();
        // Deviation sqrt(100 * 21 / 12) = 13.23, limit 2.326: |U - 50| - 0.5 > 30.77, so 82 of 100 differences must
        // stay above. Differences 20 + (i - j): 15 of them lie below 15.5, 21 below 16.5.
        let least = shift_at_least(&high, &low, 0.98).unwrap();
        assert!((15.0..=16.0).contains(&least), "{least}");
        assert_eq!(shift_at_least(&[1.0; 4], &[1.0; 4], 0.98), None);
    }
}
