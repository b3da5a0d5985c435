//! Ctrl-C, and the signal that asks the process to end: brokers that were started have to be stopped before it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::Failure;

/// Whether somebody wants the process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches the signals from now on.
    ///
    /// # Errors
    ///
    /// If the kernel does not allow it.
    pub fn arm() -> Result<Self, Failure> {
        let interrupt = Interrupt::default();
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0)).map_err(Failure::system("signals"))?;
        }
        Ok(interrupt)
    }

    /// An error if there was such a signal.
    ///
    /// # Errors
    ///
    /// [`Failure::Interrupted`].
    #[inline]
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }
}
