//! SIGHUP, which has the files of the stock hooks read again; and signals that mean something to other brokers, and nothing here.

use std::io;

use moormq::control::stock_files::Reloader;
use moormq::threads;
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// The signals SIGHUP, SIGUSR1 and SIGUSR2. After [`arm`](Self::arm) they no longer end the process.
pub struct Hangup(Signals);

impl Hangup {
    /// Installs the handlers of the signals. Call it once.
    pub fn arm() -> io::Result<Self> {
        Signals::new([SIGHUP, SIGUSR1, SIGUSR2]).map(Hangup)
    }

    /// Starts a thread that has the files read again at every SIGHUP, including one since [`Hangup::arm`]. It runs as
    /// long as the process.
    pub fn pass_on(mut self, reloader: Reloader) -> io::Result<()> {
        let pass_on = move || {
            for signal in self.0.forever() {
                match signal {
                    SIGHUP => reloader.reload(),
                    // Of Mosquitto: to save its database, and to print its subscriptions.
                    SIGUSR1 => tracing::info!("SIGUSR1 does nothing here"),
                    _ => tracing::info!("SIGUSR2 does nothing here"),
                }
            }
        };
        threads::start("moormq-hangup", pass_on).map(drop)
    }
}
