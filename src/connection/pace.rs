//! How a client takes what it is sent.

/// The pace of a client for which something waits, compared with that of what is published to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// There is room in its output for what waits.
    Keeping,
    /// There is none: what comes is queued, and whoever publishes it waits, if it is too much.
    Full,
    /// There is none, and nobody waits for it any more: QoS 0 is dropped.
    Lost,
}
