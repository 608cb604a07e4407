//! What a simulated rollout is made of: traffic, noise, release, and what the judge is told of the past.

use std::fmt;

use serde::Serialize;

/// Minutes for which both colours serve, where a setting has no reason for others.
pub const WINDOW: usize = 15;
/// Minutes of blue's history before the shift.
pub const HISTORY: usize = 60;
/// Availability zones of the history.
pub const ZONES: usize = 3;
/// The first bad minute of a release that goes bad late, counted from 1.
pub const LATE: usize = 6;
/// Minutes until a release that goes bad slowly is as bad as it gets.
pub const RAMP: usize = 5;
/// The share of green's requests that an outage makes bad.
pub const OUTAGE: f64 = 0.6;

/// What a cell is about; the others of the three gates see a good release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Requests that a target answered with a server error.
    Errors,
    /// Requests slower than a limit that was frozen before the shift.
    Slow,
}

/// How traffic is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Green gets 10 % throughout.
    Canary,
    /// Green gets 50 % throughout.
    Constant,
    /// Green gets the same step more every minute; blue has nothing in the last.
    Linear,
}

impl Split {
    /// Green's share of the requests of a minute (counted from 0) of a window.
    pub fn green(self, minute: usize, window: usize) -> f64 {
        match self {
            Self::Canary => 0.1,
            Self::Constant => 0.5,
            Self::Linear => (minute + 1) as f64 / window as f64,
        }
    }
}

/// What moves the rate of bad events beside chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noise {
    /// Nothing.
    Clean,
    /// The level of both colours, drawn anew every minute: log-normal with a coefficient of variation of 1.
    Shared,
    /// The level of both colours, which remembers the minute before: AR(1) of the logarithm, 0.9, with a coefficient of
    /// variation of 0.5.
    Autocorrelated,
    /// The level of both colours in a slow wave: between half and double, in two hours, beginning anywhere.
    Drift,
    /// An incident of both colours: 25 times the level from minute 5 to minute 8.
    Incident,
    /// Each colour on its own, and each zone of the history on its own: log-normal with this coefficient of variation.
    PerArm(f64),
    /// Each colour on its own, with all its zones alike, so that zones do not show it.
    Colour(f64),
}

impl Noise {
    /// Whether false rollbacks are promised to stay within what the operator accepts. Noise that no zone and no minute
    /// shows is not.
    pub fn promised(self) -> bool {
        !matches!(self, Self::Colour(_))
    }
}

/// What the new version does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// The same as the old one.
    Good,
    /// Makes this many times as many events bad.
    Worse(f64),
    /// Fails [`OUTAGE`] of its requests.
    Outage,
}

/// When a bad release becomes bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Onset {
    /// With its first request.
    AtOnce,
    /// In minute [`LATE`].
    Late,
    /// More with every minute until [`RAMP`].
    Ramp,
}

impl Onset {
    /// Minutes before anything is wrong.
    pub fn before(self) -> usize {
        if self == Self::Late { LATE - 1 } else { 0 }
    }

    /// How much of the release's fault there is in a minute (counted from 0), from 0 to 1.
    pub fn share(self, minute: usize) -> f64 {
        match self {
            Self::AtOnce => 1.0,
            Self::Late => f64::from(u8::from(minute >= self.before())),
            Self::Ramp => ((minute + 1) as f64 / RAMP as f64).min(1.0),
        }
    }
}

/// What the judge is told of the time before the shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// An hour, per zone.
    Zones,
    /// An hour of the whole service.
    NoZones,
    /// Nothing.
    NoHistory,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zones, Self::NoZones, Self::NoHistory];
}

/// A service and the way in which its traffic shifts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Setting {
    /// What the cell is about.
    pub metric: Metric,
    /// Requests per minute, both colours together, on average.
    pub traffic: u32,
    /// Bad events per request, when all is well.
    pub base: f64,
    /// How traffic is shared.
    pub split: Split,
    /// What moves the rate of bad events.
    pub noise: Noise,
    /// Minutes for which both colours serve.
    pub window: usize,
}

/// One line of the benchmark: a release in a setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cell {
    /// The service and its shift.
    pub setting: Setting,
    /// The new version.
    pub release: Release,
    /// When it becomes bad.
    pub onset: Onset,
}

impl Cell {
    /// The rate of green's bad events in a minute (counted from 0), where blue's is `level`.
    pub fn green_rate(&self, level: f64, minute: usize) -> f64 {
        let share = self.onset.share(minute);
        match self.release {
            Release::Good => level,
            Release::Worse(times) => level * (1.0 + (times - 1.0) * share),
            Release::Outage => level + (OUTAGE - level) * share,
        }
    }

    /// How many times as high green's rate is as blue's in a minute (counted from 0), at the usual level.
    pub fn ratio(&self, minute: usize) -> f64 {
        self.green_rate(self.setting.base, minute) / self.setting.base
    }

    /// Whether there is nothing to find.
    pub fn is_good(&self) -> bool {
        self.release == Release::Good
    }

    /// What the tables call it.
    pub fn name(&self) -> String {
        let onset = match self.onset {
            Onset::AtOnce => "",
            Onset::Late => " late",
            Onset::Ramp => " ramp",
        };
        format!("{} {}{onset}", self.setting, self.release)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, traffic, base, split, noise, window } = self;
        let slow = if *metric == Metric::Slow { " slow" } else { "" };
        // 0.0008 * 100 is not quite 0.08.
        let percent = (base * 1e6).round() / 1e4;
        write!(f, "{traffic}/min {split} {percent} %{slow} {noise}")?;
        if *window == WINDOW { Ok(()) } else { write!(f, " {window} min") }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Canary => "canary",
            Self::Constant => "constant",
            Self::Linear => "linear",
        })
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("clean"),
            Self::Shared => f.write_str("shared"),
            Self::Autocorrelated => f.write_str("autocorrelated"),
            Self::Drift => f.write_str("drift"),
            Self::Incident => f.write_str("incident"),
            Self::PerArm(cv) => write!(f, "per-arm-{cv}"),
            Self::Colour(cv) => write!(f, "colour-{cv}"),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Worse(times) => write!(f, "x{times}"),
            Self::Outage => f.write_str("outage"),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zones => "zones",
            Self::NoZones => "no zones",
            Self::NoHistory => "no history",
        })
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are exact")]
mod tests {
    use super::*;

    fn cell(release: Release, onset: Onset) -> Cell {
        let setting = Setting {
            metric: Metric::Errors,
            traffic: 12_000,
            base: 0.0008,
            split: Split::Linear,
            noise: Noise::PerArm(0.5),
            window: WINDOW,
        };
        Cell { setting, release, onset }
    }

    #[test]
    fn a_name_tells_the_whole_cell() {
        let name = cell(Release::Worse(4.0), Onset::Late).name();
        assert_eq!(name, "12000/min linear 0.08 % per-arm-0.5 x4 late");
        let mut long = cell(Release::Good, Onset::AtOnce);
        long.setting.window = 30;
        assert_eq!(long.name(), "12000/min linear 0.08 % per-arm-0.5 30 min good");
    }

    #[test]
    fn a_release_goes_bad_at_once_late_or_slowly() {
        let ratios = |onset: Onset| {
            [0, 1, 4, 5].map(|minute| cell(Release::Worse(6.0), onset).ratio(minute).round() as u32)
        };
        assert_eq!(ratios(Onset::AtOnce), [6, 6, 6, 6]);
        assert_eq!(ratios(Onset::Late), [1, 1, 1, 6]);
        assert_eq!(ratios(Onset::Ramp), [2, 3, 6, 6]);
        assert_eq!(cell(Release::Outage, Onset::AtOnce).green_rate(0.02, 3), OUTAGE);
        assert_eq!(cell(Release::Good, Onset::AtOnce).ratio(3), 1.0);
    }

    #[test]
    fn a_linear_shift_ends_with_green_alone() {
        assert_eq!(Split::Linear.green(29, 30), 1.0);
        assert!((Split::Linear.green(0, 30) * 30.0 - 1.0).abs() < 1e-12);
    }
}
