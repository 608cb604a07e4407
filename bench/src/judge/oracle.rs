//! Wald's sequential probability ratio test, told in advance what no judge can know. The limits that delays are
//! measured against.
//!
//! Both oracles know how bad the release is and from which minute on; they ask whether green is as bad as that, or only
//! as bad as is tolerated. The *concurrent* one compares colours: given the bad events of both, green's are binomial.
//! The *informed* one also knows the true level of each minute, so it needs no blue: green's are Poisson (and blue's
//! say nothing). Neither knows of a colour's own noise, so where there is some they are no limit: they roll back good
//! releases there.

use super::ALPHA;
use super::simulate::Minute;
use super::world::Cell;

/// The minute (from 1) after which the concurrent oracle is sure.
pub fn concurrent(cell: &Cell, window: &[Minute], tolerate: f64) -> Option<usize> {
    sure(cell, window, tolerate, |ratio, Minute { blue, green, .. }| {
        if blue.of <= 0.0 || green.of <= 0.0 {
            return 0.0;
        }
        let share = |ratio: f64| ratio * green.of / (ratio * green.of + blue.of);
        let (bad, tolerated) = (share(ratio), share(tolerate));
        green.bad * (bad / tolerated).ln() + blue.bad * ((1.0 - bad) / (1.0 - tolerated)).ln()
    })
}

/// The minute (from 1) after which the informed oracle is sure.
pub fn informed(cell: &Cell, window: &[Minute], tolerate: f64) -> Option<usize> {
    sure(cell, window, tolerate, |ratio, Minute { green, level, .. }| {
        green.bad * (ratio / tolerate).ln() - green.of * level * (ratio - tolerate)
    })
}

/// Adds up evidence from the minutes in which the release is worse than is tolerated.
fn sure(
    cell: &Cell,
    window: &[Minute],
    tolerate: f64,
    evidence: impl Fn(f64, &Minute) -> f64,
) -> Option<usize> {
    let mut total = 0.0;
    let found = window.iter().enumerate().position(|(index, minute)| {
        let ratio = cell.ratio(index);
        if ratio > tolerate {
            total += evidence(ratio, minute);
        }
        total >= -ALPHA.ln()
    });
    found.map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use shiftgate::judge::series::Count;

    use super::super::world::{Metric, Noise, Onset, Release, Setting, Split, WINDOW};
    use super::*;

    fn cell(onset: Onset) -> Cell {
        let setting = Setting {
            metric: Metric::Errors,
            traffic: 2_000,
            base: 0.01,
            split: Split::Constant,
            noise: Noise::Clean,
            window: WINDOW,
        };
        Cell { setting, release: Release::Worse(4.0), onset }
    }

    fn minute(blue: f64, green: f64) -> Minute {
        let count = |bad: f64| Count { of: 1000.0, bad };
        Minute { blue: count(blue), green: count(green), level: 0.01 }
    }

    #[test]
    fn the_concurrent_oracle_is_sure_as_soon_as_walds_formula_is() {
        // Shares 0.8 and 1.25 / 2.25: a bad event on green is worth ln 1.44, one on blue ln 0.45. ln 100 = 4.605.
        let check = |window: &[Minute], expect: Option<usize>| {
            assert_eq!(concurrent(&cell(Onset::AtOnce), window, 1.25), expect);
        };
        check(&[minute(0.0, 12.0), minute(0.0, 1.0)], Some(2)); // 4.376, 4.740
        check(&[minute(1.0, 13.0), minute(0.0, 1.0)], None); // 3.942, 4.306
        check(&[minute(1.0, 13.0), minute(0.0, 2.0)], Some(2)); // 3.942, 4.671
        check(&[minute(0.0, 13.0)], Some(1));
    }

    #[test]
    fn the_informed_oracle_counts_green_alone() {
        // A bad event is worth ln 3.2 = 1.163; 1,000 requests cost 10 x 2.75 = 27.5.
        let check = |window: &[Minute], expect: Option<usize>| {
            assert_eq!(informed(&cell(Onset::AtOnce), window, 1.25), expect);
        };
        check(&[minute(0.0, 28.0)], Some(1)); // 32.6 - 27.5 = 5.07
        check(&[minute(40.0, 28.0)], Some(1));
        check(&[minute(0.0, 27.0), minute(0.0, 27.0)], Some(2)); // 3.9, 7.8
    }

    #[test]
    fn what_is_before_the_onset_says_nothing() {
        let window = [minute(30.0, 0.0); 5].into_iter().chain([minute(0.0, 13.0)]).collect::<Vec<_>>();
        assert_eq!(concurrent(&cell(Onset::Late), &window, 1.25), Some(6));
        assert_eq!(concurrent(&cell(Onset::AtOnce), &window, 1.25), None);
    }
}
