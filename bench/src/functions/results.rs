//! What was measured.

use std::fmt;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

use super::statistics::Spread;

/// Whose function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Shiftgate's.
    Ours,
    /// The smallest Rust function that makes the same calls, one after the other, and looks at nothing.
    Floor,
    /// Node with AWS's SDK.
    Node,
    /// Python with boto3.
    Python,
}

impl Subject {
    /// All, ours first.
    pub const ALL: [Self; 4] = [Self::Ours, Self::Floor, Self::Node, Self::Python];
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours => "ours",
            Self::Floor => "floor",
            Self::Node => "Node",
            Self::Python => "Python",
        })
    }
}

/// One process, from its start through its first invocation to a few more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Run {
    /// From the start of the process to its first request for an event, ms.
    pub init_ms: f64,
    /// From the start of the process to the end of its first report, ms.
    pub cold_ms: f64,
    /// From an event to the end of its report, of a process that has served one before, ms: the median of its later events.
    pub warm_ms: f64,
    /// Time on a processor from the start to the first answer, ms; where the operating system tells.
    pub cpu_ms: Option<f64>,
    /// The most resident memory, kB; where the operating system tells.
    pub peak_kb: Option<u64>,
}

/// The runs of one subject's function where each call of AWS takes the same time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The function.
    pub function: String,
    /// Whose.
    pub subject: Subject,
    /// What a call of AWS takes, ms.
    pub latency_ms: u64,
    /// The runs.
    pub runs: Vec<Run>,
}

impl Cell {
    /// How a figure of its runs is spread; nothing where no run has it.
    pub fn spread(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(figure).collect())
    }
}

/// One subject's function as it is deployed, and the way that it goes to its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// The function.
    pub function: String,
    /// Whose.
    pub subject: Subject,
    /// What is deployed, bytes: the binary, or the sources of a peer, whose runtime has the SDK.
    pub bytes: usize,
    /// The same deflated, bytes: near to the size of its zip file.
    pub zip_bytes: usize,
    /// Its calls of AWS.
    pub path: Path,
}

/// The calls of AWS that a function makes before it reports (or, where it reports nothing, before it answers).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Path {
    /// What was called, such as `ecs-lifecycle, PRE_SCALE_UP`.
    pub name: String,
    /// IAM actions in the order in which they began.
    pub calls: Vec<String>,
    /// How many of them followed one another at least.
    pub round_trips: usize,
    /// How many may.
    pub limit: usize,
}

/// All that was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Results {
    /// Times and memory.
    pub cells: Vec<Cell>,
    /// Sizes and calls of what was timed.
    pub programs: Vec<Program>,
    /// The calls of the functions of ours that were not timed.
    pub others: Vec<Path>,
}

impl Results {
    /// The cell of a subject's function.
    pub fn cell(&self, function: &str, subject: Subject, latency_ms: u64) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            cell.function == function && cell.subject == subject && cell.latency_ms == latency_ms
        })
    }

    /// The functions that were timed.
    pub fn functions(&self) -> Vec<&str> {
        let mut functions: Vec<&str> = self.cells.iter().map(|cell| cell.function.as_str()).collect();
        functions.sort_unstable();
        functions.dedup();
        functions
    }
}

/// The size of these bytes once deflated as zip files are.
pub fn deflated(bytes: &[u8]) -> io::Result<usize> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}
