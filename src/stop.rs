//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

const SIGNALS: [i32; 2] = [SIGTERM, SIGINT];

/// The signals that stop the broker. As soon as they are armed none of them is lost, one that comes during the start
/// included.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Takes the signals over from the system. To be called once, before the broker starts.
    pub fn arm() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in SIGNALS {
            // In this order: the first signal finds the flag down, and raises it; the next one finds it up. The exit
            // status is the one shells give to a process that a signal ended.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stopping))?;
            flag::register(signal, Arc::clone(&stopping))?;
        }
        Signals::new(SIGNALS).map(StopSignals)
    }

    /// Blocks until the first signal has come, and says which. From then on the next one ends the process, with status
    /// 143 for SIGTERM and 130 for SIGINT, however far an orderly stop has got.
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

    /// Signals belong to the process: this test runs itself again in one of its own, to be ended there.
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
