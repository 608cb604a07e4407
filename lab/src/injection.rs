//! Fault injection: one release is gated while something goes wrong on purpose, and what comes of it is held against what
//! must always be true. `matrix` is every call with every fault in every function, `Case::random` several things at once.

mod arena;
mod case;
mod oracle;

pub use arena::Arena;
pub use case::{CallFault, Case, Mishap, Quality, Subject, matrix};
pub use oracle::{Observed, Violation, could_not_report, judge};
