//! Why a measurement came to nothing.

use std::{fmt, io};

/// Why a measurement came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// Somebody pressed Ctrl-C, or asked the process to end.
    Interrupted,
    /// The broker did something that makes the figures worthless, or could not be run.
    Broker(String),
    /// The machine refused something.
    System(String),
}

impl Failure {
    /// A failure of the machine while doing `what`.
    pub fn system(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::System(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Interrupted => f.write_str("interrupted"),
            Failure::Broker(what) | Failure::System(what) => f.write_str(what),
        }
    }
}
