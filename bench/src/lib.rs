//! Measures Shiftgate. `judge` is the statistical judge on simulated rollouts, beside the rules that other tools use and
//! beside oracles that know what no judge can know.

pub mod judge;
