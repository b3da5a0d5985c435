//! SIGHUP: the files of the hooks are read again.

use std::io;
use std::thread;

use moormq::control::stock_files::Reloader;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

/// The signal that asks for files to be read again. From the moment it is armed it no longer ends the process.
pub struct Hangup(Signals);

impl Hangup {
    /// Takes the signal over from the system. To be called once.
    pub fn arm() -> io::Result<Self> {
        Signals::new([SIGHUP]).map(Hangup)
    }

    /// Passes every such signal on, one that came since [`Hangup::arm`] included, as long as the process lives.
    pub fn pass_on(mut self, reloader: Reloader) -> io::Result<()> {
        let pass_on = move || self.0.forever().for_each(|_| reloader.reload());
        thread::Builder::new().name("moormq-hangup".to_owned()).spawn(pass_on).map(drop)
    }
}
