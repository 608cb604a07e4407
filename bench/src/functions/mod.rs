//! The hook functions beside other ways to write them: what their runs come to, what must hold of it, and how it is shown. The
//! runs themselves are the CLI's.

mod chart;
mod checks;
mod results;
mod statistics;
mod tables;

pub use chart::chart;
pub use checks::{checks, in_sequence};
pub use results::{Cell, Path, Program, Results, Run, Subject, deflated};
pub use statistics::{Interval, Spread, round_trips};
pub use tables::{calls, programs, runs};
