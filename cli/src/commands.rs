//! The commands, one file each.

pub mod backtest;
pub mod bench;
mod browser;
pub mod cost;
pub mod doctor;
pub mod doubts;
pub mod explain;
pub mod faults;
pub mod fleet;
pub mod functions_bench;
pub mod init;
pub mod manual;
pub mod matrix;
pub mod policy;
pub mod replay;
pub mod report;
pub mod scenarios;
pub mod serve;
pub mod soak;
pub mod trial;
pub mod verdicts;
pub mod watch;
