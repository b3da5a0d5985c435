//! Why the measurement ends early.

use std::error::Error;

/// Any failure; it ends the measurement.
pub type Failure = Box<dyn Error + Send + Sync>;
