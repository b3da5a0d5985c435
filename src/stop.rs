//! SIGTERM and SIGINT: the first of them starts an orderly stop, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

const SIGNALS: [i32; 2] = [SIGTERM, SIGINT];

/// The signals that stop the broker. After [`arm`](Self::arm) no signal is lost, not even one that comes during the
/// start.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Installs the handlers of the signals. Call it once, before the broker starts.
    pub fn arm() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in SIGNALS {
            // The order matters: the first signal finds the flag unset and sets it, the second finds it set. The exit
            // status is the one that shells give to a process that a signal ended.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stopping))?;
            flag::register(signal, Arc::clone(&stopping))?;
        }
        Signals::new(SIGNALS).map(StopSignals)
    }

    /// Blocks until the first signal, and returns its name. The next signal ends the process, with status 143 for
    /// SIGTERM and 130 for SIGINT, even during an orderly stop.
    pub fn wait(mut self) -> &'static str {
        match self.0.forever().next() {
            Some(SIGINT) => "SIGINT",
            _ => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;
    use std::process::Command;

    /// Signals belong to a process, so this test runs itself again in a child process, which the second signal ends.
    #[test]
    fn the_first_signal_is_reported_and_the_second_ends_the_process() {
        const CHILD: &str = "MOORMQ_TEST_SIGNALLED";
        if let Ok(second) = std::env::var(CHILD) {
            let signals = StopSignals::arm().expect("signals can be handled");
            raise(SIGINT).expect("a process may signal itself");
            assert_eq!(signals.wait(), "SIGINT");
            raise(second.parse().expect("a signal number")).expect("a process may signal itself");
            return;
        }
        for (signal, status) in [(SIGTERM, 143), (SIGINT, 130)] {
            let child = Command::new(std::env::current_exe().expect("a test knows its file"))
                .args(["--exact", "stop::tests::the_first_signal_is_reported_and_the_second_ends_the_process"])
                .env(CHILD, signal.to_string())
                .output()
                .expect("a test can be started again");
            assert_eq!(child.status.code(), Some(status), "{child:?}");
        }
    }
}
