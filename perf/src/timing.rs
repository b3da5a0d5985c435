//! How long a round takes.

use std::time::Duration;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Messages flow, but are not measured yet.
    pub warm_up: Duration,
    /// The window.
    pub window: Duration,
}
