//! What the statistical judge looks at: counts per period, of both colours, and what was before.

/// Bad events and the events they are among, in one period of one colour. Bad events may be more than requests (a
/// retry of the load balancer counts twice); neither is negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// All events, such as requests.
    pub of: f64,
    /// The bad ones among them.
    pub bad: f64,
}

/// One period before the shift, when blue (or both colours' target groups together) served everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Past {
    /// The whole service; `None` is no data.
    pub total: Option<Count>,
    /// The same per availability zone, where it is known. At least two, or it says nothing.
    pub zones: Vec<Count>,
}

/// One period of the window. `None` is no data, which is not the same as no bad events.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pair {
    /// The old version.
    pub blue: Option<Count>,
    /// The new version.
    pub green: Option<Count>,
}

/// Everything that one comparison looks at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// The service before the shift, oldest first; may be empty.
    pub history: Vec<Past>,
    /// Both colours since the shift began, oldest first.
    pub window: Vec<Pair>,
    /// Periods that the window is expected to have when it is over.
    pub planned: usize,
}
