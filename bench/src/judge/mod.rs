//! The judge on simulated rollouts, beside the rules of other tools and beside oracles.
//!
//! `world` says what a rollout is made of, `cells` which ones are measured and why, `simulate` makes them, `ours`,
//! `peers` and `oracle` judge them, `measure` counts, `checks` says what must hold, `tables` and `chart` show it.

mod cells;
mod chart;
mod checks;
mod measure;
mod oracle;
mod ours;
mod peers;
mod ranks;
mod simulate;
mod tables;
mod world;

pub use cells::cells;
pub use chart::chart;
pub use checks::{Check, checks};
pub use measure::{Beside, Judge, Row, Tally, measure};
pub use peers::Peer;
pub use tables::{bad_requests, caught, false_rollbacks};
pub use world::{Cell, Metric, Mode, Noise, Onset, Release, Setting, Split};

/// The chance of rolling back a good release that the operator accepts for the whole rollout.
pub const ALPHA: f64 = 0.01;
