//! What the functions of Shiftgate share, in the order in which data flows.
//!
//! | module | what it is for |
//! |---|---|
//! | [`event`] | who calls: a CodeDeploy hook, a look of the watch, a question about permissions |
//! | [`hook`] | the protocol around every hook: parse, budget, run, conclude, one report |
//! | [`budget`] | the time left, with a reserve for the report (pure) |
//! | [`policy`] | what the user wants: read ([`policy::raw`]), validated ([`policy::plan`]), found ([`policy::load`]) |
//! | [`rollout`] | what is deployed: colours, target groups, listeners, weights, phase |
//! | [`preflight`], [`permissions`] | may this release start, and may we do what later stages need |
//! | [`readiness`] | does green run, and can its targets be healthy |
//! | [`smoke`] | requests to green, and what their answers must look like |
//! | [`metrics`] | CloudWatch queries and the series that come back |
//! | [`judge`] | from series to findings (pure) |
//! | [`recording`] | recordings of rollouts, judged offline by the same judge (pure) |
//! | [`backtest`] | what the judge would have made of past rollouts and of quiet time (pure) |
//! | [`outlook`] | before the shift: what this rollout will be able to find |
//! | [`traffic`], [`shift`] | one look at the metrics: read, then judge; with it, whether green runs and answers |
//! | [`verdict`] | findings and faults to one answer (pure) |
//! | [`carry`] | wait in place while the budget lasts, else hand over to the state machine |
//! | [`change`] | after the shift: a metric against its own past |
//! | [`bake`] | after the shift: judged at 100 % |
//! | [`ecs`] | deployments that ECS carries out itself: its hooks, the gate between steps, rolling updates |
//! | [`watch`], [`watched`] | one stateless look, and the rollback in mid-shift; whether anybody looked, asked afterwards |
//! | [`report`] | the one report to CodeDeploy, the log line, the Markdown, the counters |
//! | [`aws`], [`telemetry`], [`clock`], [`environment`], [`fault`], [`yaml`], `beside` | what all of them stand on |

pub mod aws;
pub mod backtest;
pub mod bake;
mod beside;
pub mod budget;
pub mod carry;
pub mod change;
pub mod clock;
pub mod ecs;
pub mod environment;
pub mod event;
pub mod fault;
pub mod hook;
pub mod judge;
pub mod metrics;
pub mod outlook;
pub mod permissions;
pub mod policy;
pub mod preflight;
pub mod readiness;
pub mod recording;
pub mod report;
pub mod rollout;
pub mod shift;
pub mod slower;
pub mod smoke;
pub mod telemetry;
pub mod traffic;
pub mod verdict;
pub mod watch;
pub mod watched;
pub mod yaml;

/// Version of Shiftgate, as reports and the smoke client's User-Agent name it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
