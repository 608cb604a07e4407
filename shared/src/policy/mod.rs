//! What the user wants: a YAML or JSON document, every key optional.
//!
//! One direction: text -> [`raw::Policy`] (a dumb shape) -> [`plan::Plan`] (validated, defaults filled in).

pub mod chances;
pub mod defaults;
pub mod explained;
mod expression;
pub mod gates;
pub mod load;
pub mod plan;
pub mod raw;
pub mod values;

pub use load::{Source, parse};
pub use plan::Plan;
