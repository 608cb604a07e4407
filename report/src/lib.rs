//! The report that people open: evidence as one HTML page, without scripts and without anything to fetch.

mod charts;
mod links;
mod page;

pub use links::{Link, console, links};
pub use page::page;
