//! What was measured.

use std::time::Duration;

/// What a restart came to.
pub struct Restart {
    /// From the start until CONNACK, and until the first message.
    pub connack: Duration,
    pub first: Duration,
    /// Memory of the broker at that time, and the most that it ever had, in KiB.
    pub resident: u64,
    pub peak: u64,
}

/// All that was measured.
pub struct Outcome {
    /// How long it took to make the sessions, and to fill them.
    pub making: Duration,
    pub filling: Duration,
    /// Memory of the broker before it was killed, in KiB.
    pub before: u64,
    /// What the store takes on the disk, in bytes.
    pub stored: u64,
    pub restarts: Vec<Restart>,
}
