//! What was counted: bench/counts.json, which `bench cost --count` writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shiftgate_lab::world::Bill;

/// Where they are, in the project.
pub const FILE: &str = "bench/counts.json";

/// The counts of all ways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// How many times as fast as on AWS they were played.
    pub speed: u32,
    /// By the name of the way.
    pub ways: BTreeMap<String, Bill>,
}

impl Counts {
    /// Those of a file, in JSON.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The counts of a way; an empty bill, which costs nothing and shows, if it was not counted.
    pub fn of(&self, way: &str) -> Bill {
        self.ways.get(way).cloned().unwrap_or_default()
    }
}
