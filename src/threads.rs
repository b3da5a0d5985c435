//! The threads of the broker: each has a name, and the program is told of one that dies.
//!
//! A thread that panicked leaves a part of the broker undone: clients of its shard, commands, files that change. A broker
//! like that is worse than none, so the program is expected to end, for a supervisor to start it again.

use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::thread::{self, Builder, JoinHandle};

/// The death of a thread that the broker needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// The name of the thread, such as `shard-0`.
    pub thread: String,
    /// What ended it.
    pub reason: String,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} died: {}", self.thread, self.reason)
    }
}

static ON_DEATH: OnceLock<fn(&Death)> = OnceLock::new();

/// Has `tell` called by any thread of any broker of this process that dies, as its last act. The program of this crate ends
/// the process then. The first call counts; without one, a death is logged as an error and nothing else happens.
///
/// ```
/// moormq::threads::on_death(|death| {
///     eprintln!("{death}");
///     std::process::exit(101);
/// });
/// ```
pub fn on_death(tell: fn(&Death)) {
    let _ = ON_DEATH.set(tell);
}

/// Starts a thread. If it panics, that is told as its death.
///
/// # Errors
///
/// The system has no more threads.
#[doc(hidden)]
pub fn start<T: Send + 'static>(
    name: impl Into<String>,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(move || {
        let _watch = Watch;
        body()
    })
}

/// Does something with each item on a thread of its own, and waits for all: what came of them, in order. A panic of one goes on here.
///
/// # Errors
///
/// The system has no more threads. Those that were started have ended.
pub(crate) fn at_once<T: Send, R: Send>(
    name: &str,
    items: impl IntoIterator<Item = T>,
    act: impl Fn(T) -> R + Sync,
) -> io::Result<Vec<R>> {
    let act = &act;
    thread::scope(|scope| {
        let start = |(number, item): (usize, T)| {
            Builder::new().name(format!("{name}-{number}")).spawn_scoped(scope, move || act(item))
        };
        let threads: Vec<_> = items.into_iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| Ok(thread?.join().unwrap_or_else(|panic| resume_unwind(panic)))).collect()
    })
}

/// Tells of the death of this thread, which is about to end for `reason`.
#[doc(hidden)]
pub fn die(reason: impl fmt::Display) {
    let thread = thread::current().name().unwrap_or("without a name").to_owned();
    let death = Death { thread, reason: reason.to_string() };
    match ON_DEATH.get() {
        Some(tell) => tell(&death),
        None => tracing::error!("{death}"),
    }
}

/// Stands at the bottom of a thread: what unwinds to it, nobody has caught.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            die("it panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use std::sync::Mutex;

    static DEATHS: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn a_panic_that_nobody_catches_is_told_and_an_end_is_not() {
        on_death(|death| DEATHS.lock().expect("no panic while it is held").push(death.to_string()));
        start("lives", || drop(catch_unwind(|| panic!("a panic of this test"))))
            .expect("there are threads")
            .join()
            .ok();
        start("dies", || panic!("a panic of this test")).expect("there are threads").join().unwrap_err();
        start("fails", || die("no ring")).expect("there are threads").join().ok();
        let deaths = DEATHS.lock().expect("no panic while it is held");
        let of_this_test = |death: &&String| ["dies", "fails", "lives"].iter().any(|name| death.contains(name));
        assert_eq!(
            deaths.iter().filter(of_this_test).collect::<Vec<_>>(),
            ["thread dies died: it panicked", "thread fails died: no ring"]
        );
    }
}
