//! SIGHUP: it has the files of the stock hooks read again. The configuration holds until the next start; what has changed in it
//! is said. And signals that mean something to other brokers, and nothing here.

use std::io;

use moormq::config::Config;
use moormq::control::stock_files::Reloader;
use moormq::threads;
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::cli::RunArgs;

/// The signals SIGHUP, SIGUSR1 and SIGUSR2. After [`arm`](Self::arm) they no longer end the process.
pub struct Hangup(Signals);

impl Hangup {
    /// Installs the handlers of the signals. Call it once.
    pub fn arm() -> io::Result<Self> {
        Signals::new([SIGHUP, SIGUSR1, SIGUSR2]).map(Hangup)
    }

    /// Starts a thread that has the files read again at every SIGHUP, including one since [`Hangup::arm`], and says what of the
    /// configuration has changed meanwhile: a broker that was started with `args` runs as `running` until its end. The thread
    /// runs as long as the process.
    pub fn pass_on(mut self, reloader: Reloader, args: RunArgs, running: Config) -> io::Result<()> {
        let pass_on = move || {
            for signal in self.0.forever() {
                match signal {
                    SIGHUP => {
                        reloader.reload();
                        say_what_is_not_taken(&args, &running);
                    }
                    // Of Mosquitto: to save its database, and to print its subscriptions.
                    SIGUSR1 => tracing::info!("SIGUSR1 does nothing here"),
                    _ => tracing::info!("SIGUSR2 does nothing here"),
                }
            }
        };
        threads::start("moormq-hangup", pass_on).map(drop)
    }
}

/// Logs what the configuration would change if the broker were started again.
fn say_what_is_not_taken(args: &RunArgs, running: &Config) {
    let Some(file) = args.file() else { return };
    let file = file.display();
    match args.overridden() {
        Err(errors) => {
            errors.iter().for_each(|error| tracing::error!("{error}"));
            tracing::error!(%file, "the configuration has errors: a broker would not start with it, this one goes on as it is");
        }
        Ok(config) => match &running.differences(&config)[..] {
            [] => tracing::info!(%file, "nothing in the configuration has changed since the start"),
            changed => {
                let changed = changed.join(", ");
                tracing::warn!(%file, changed, "these settings have changed, and hold from the next start on");
            }
        },
    }
}
