//! The cells that are measured. Not every combination of everything, which would take days, but:
//!
//! - every noise at 12,000/min and 1,200/min with 10 % on green, and at 1,200/min with a linear shift, where blue is
//!   small in the end; with a good release in each, and with x4 and x12 at 12,000/min, x12 at 1,200/min and x4 in the
//!   linear shift for the noises that a service is known to have;
//! - late and slowly growing regressions and outages, where there is little else to distract;
//! - from 30 to 300,000 requests a minute, from 0.01 % to 2 % of bad ones, and all splits at least twice, each with the
//!   smallest regression that is of interest there (x1.5 where counts are large, an outage where they are tiny);
//! - twice the window, at 3,000/min, where rules that test again and again have more occasion to err;
//! - slow requests: the whole distribution shifted (x4 beyond the limit), and the tail alone (x2).
//!
//! Every setting has a good release, so that a rule that finds much can be asked what it costs.

use super::world::{Cell, Metric, Noise, Onset, Release, Setting, Split, WINDOW};
use Onset::{AtOnce, Late, Ramp};
use Release::{Outage, Worse};

/// All noises.
const NOISES: [Noise; 8] = [
    Noise::Clean,
    Noise::Shared,
    Noise::Autocorrelated,
    Noise::Drift,
    Noise::Incident,
    Noise::PerArm(0.5),
    Noise::PerArm(1.0),
    Noise::Colour(0.5),
];

/// The cells whose name contains a text, with the good releases that belong to them; all without one.
pub fn cells(only: Option<&str>) -> Vec<Cell> {
    let all = all();
    let Some(only) = only else { return all };
    let named: Vec<Cell> = all.iter().filter(|cell| cell.name().contains(only)).copied().collect();
    let belongs = |cell: &Cell| cell.is_good() && named.iter().any(|named| named.setting == cell.setting);
    all.into_iter().filter(|cell| named.contains(cell) || belongs(cell)).collect()
}

fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |traffic: u32, split: Split, base: f64, noise: Noise, releases: &[(Release, Onset)]| {
        let setting = Setting { metric: Metric::Errors, traffic, base, split, noise, window: WINDOW };
        cells.extend(with_good(setting, releases));
    };
    for noise in NOISES {
        let few: &[_] = match noise {
            Noise::Clean => &[(Worse(12.0), AtOnce), (Outage, AtOnce)],
            Noise::Drift | Noise::Colour(_) => &[],
            _ => &[(Worse(12.0), AtOnce)],
        };
        add(1_200, Split::Canary, 0.0008, noise, few);
    }
    for noise in NOISES {
        let many: &[_] = match noise {
            Noise::Clean => &[
                (Worse(4.0), AtOnce),
                (Worse(4.0), Late),
                (Worse(12.0), AtOnce),
                (Worse(12.0), Late),
                (Worse(12.0), Ramp),
                (Outage, AtOnce),
            ],
            Noise::Shared => &[(Worse(4.0), AtOnce), (Worse(12.0), AtOnce), (Worse(12.0), Ramp)],
            Noise::Colour(_) => &[],
            _ => &[(Worse(4.0), AtOnce), (Worse(12.0), AtOnce)],
        };
        add(12_000, Split::Canary, 0.0008, noise, many);
    }
    for noise in NOISES {
        let found = !matches!(noise, Noise::Drift | Noise::Incident | Noise::Colour(_));
        let small: &[_] = if found { &[(Worse(4.0), AtOnce)] } else { &[] };
        add(1_200, Split::Linear, 0.0008, noise, small);
    }
    add(30, Split::Canary, 0.02, Noise::Clean, &[(Outage, AtOnce)]);
    add(300, Split::Constant, 0.002, Noise::Shared, &[(Worse(10.0), AtOnce)]);
    for noise in [Noise::Clean, Noise::Shared, Noise::PerArm(1.0)] {
        add(3_000, Split::Canary, 0.002, noise, &[(Worse(3.0), AtOnce), (Worse(10.0), AtOnce)]);
    }
    for noise in [Noise::Autocorrelated, Noise::PerArm(0.5)] {
        add(30_000, Split::Canary, 0.002, noise, &[(Worse(2.0), AtOnce)]);
    }
    add(30_000, Split::Linear, 0.02, Noise::PerArm(0.5), &[(Worse(2.0), AtOnce)]);
    add(300_000, Split::Linear, 0.002, Noise::Clean, &[(Worse(1.5), AtOnce)]);
    add(300_000, Split::Constant, 0.0001, Noise::Shared, &[(Worse(2.0), AtOnce)]);
    for (traffic, noise) in [(1_200, Noise::Clean), (12_000, Noise::Autocorrelated)] {
        let setting = Setting {
            metric: Metric::Slow,
            traffic,
            base: 0.01,
            split: Split::Canary,
            noise,
            window: WINDOW,
        };
        cells.extend(with_good(setting, &[(Worse(2.0), AtOnce), (Worse(4.0), AtOnce)]));
    }
    for noise in [Noise::Clean, Noise::Shared] {
        let (metric, split) = (Metric::Errors, Split::Canary);
        let setting = Setting { metric, traffic: 3_000, base: 0.002, split, noise, window: 2 * WINDOW };
        cells.extend(with_good(setting, &[(Worse(3.0), AtOnce)]));
    }
    cells
}

fn with_good(setting: Setting, releases: &[(Release, Onset)]) -> impl Iterator<Item = Cell> {
    let good = [(Release::Good, AtOnce)];
    let releases: Vec<_> = good.iter().chain(releases).copied().collect();
    releases.into_iter().map(move |(release, onset)| Cell { setting, release, onset })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cell_has_a_name_of_its_own_and_a_good_release_beside_it() {
        let cells = cells(None);
        assert!((60..=90).contains(&cells.len()), "{}", cells.len());
        let names: HashSet<String> = cells.iter().map(Cell::name).collect();
        assert_eq!(names.len(), cells.len());
        for cell in &cells {
            assert!(
                cells.iter().any(|good| good.is_good() && good.setting == cell.setting),
                "{}",
                cell.name()
            );
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the same literals")]
    fn every_dimension_is_covered() {
        let cells = cells(None);
        let some = |is: &dyn Fn(&Cell) -> bool| cells.iter().any(is);
        for traffic in [30, 300, 1_200, 3_000, 12_000, 30_000, 300_000] {
            assert!(some(&|cell| cell.setting.traffic == traffic && !cell.is_good()), "{traffic}");
        }
        for base in [0.0001, 0.0008, 0.002, 0.02] {
            assert!(some(&|cell| cell.setting.base == base), "{base}");
        }
        for split in [Split::Canary, Split::Constant, Split::Linear] {
            for noise in NOISES {
                let is = |cell: &Cell| cell.setting.split == split && cell.setting.noise == noise;
                assert!(split == Split::Constant || some(&is), "{split} {noise}");
            }
            assert!(some(&|cell| cell.setting.split == split && !cell.is_good()), "{split}");
        }
        for times in [1.5, 2.0, 3.0, 4.0, 10.0, 12.0] {
            assert!(some(&|cell| cell.release == Worse(times)), "{times}");
        }
        for onset in [AtOnce, Late, Ramp] {
            assert!(some(&|cell| cell.onset == onset), "{onset:?}");
        }
    }

    #[test]
    fn a_filter_keeps_the_good_release_for_comparison() {
        let names: Vec<String> =
            cells(Some("12000/min canary 0.08 % shared x4")).iter().map(Cell::name).collect();
        assert_eq!(names, ["12000/min canary 0.08 % shared good", "12000/min canary 0.08 % shared x4"]);
        assert!(cells(Some("nothing of this name")).is_empty());
    }
}
