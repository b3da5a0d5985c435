//! SIGHUP: it has the files of the stock hooks read again.

use std::io;
use std::thread;

use moormq::control::stock_files::Reloader;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

/// The signal SIGHUP. After [`arm`](Self::arm) it no longer ends the process.
pub struct Hangup(Signals);

impl Hangup {
    /// Installs the handler of the signal. Call it once.
    pub fn arm() -> io::Result<Self> {
        Signals::new([SIGHUP]).map(Hangup)
    }

    /// Starts a thread that has the files read again at every signal, including one since [`Hangup::arm`]. It runs as
    /// long as the process.
    pub fn pass_on(mut self, reloader: Reloader) -> io::Result<()> {
        let pass_on = move || self.0.forever().for_each(|_| reloader.reload());
        thread::Builder::new().name("moormq-hangup".to_owned()).spawn(pass_on).map(drop)
    }
}
