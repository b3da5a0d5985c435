//! When messages and sessions end by themselves, as hooks say it.

use std::time::Duration;

/// When something that may expire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// So long after it begins; counted in whole seconds, rounded up. Of a session: zero ends it with its connection.
    After(Duration),
    /// It does not.
    Never,
}
