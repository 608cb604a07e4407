//! Measures Shiftgate. `judge` is the statistical judge on simulated rollouts, beside the rules that other tools use and
//! beside oracles that know what no judge can know; `placebo` is the after-shift judge on simulated metrics; `fleet` is many
//! rollouts in one account with AWS's quotas; `cost` is what a rollout costs on AWS; `functions` is the hook functions beside
//! other ways to write them.

pub mod cost;
pub mod fleet;
pub mod functions;
pub mod judge;
pub mod placebo;
