//! Many seeds on some threads: until all are done, or one is found that breaks a rule.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::history::History;
use crate::links::PLANNED;
use crate::play::play;
use crate::shrink::shrink;
use crate::violation::Violation;

/// Which seeds are to be run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    pub from: u64,
    pub seeds: u64,
    pub threads: usize,
    /// Whether the progress is printed every few seconds.
    pub shows_progress: bool,
    /// Only histories with a store are played.
    pub is_stored: bool,
}

/// A seed that breaks a rule.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub violation: Violation,
}

thread_local! {
    static PLAYING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that belong to histories, and those that are findings, off the terminal.
pub fn silence_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let planned = info.payload().downcast_ref::<String>().is_some_and(|text| text == PLANNED)
            || info.payload().downcast_ref::<&str>().is_some_and(|text| *text == PLANNED);
        if !planned && !PLAYING.get() {
            usual(info);
        }
    }));
}

/// Plays `history` and returns the rule that it breaks. A panic of the core is one.
pub fn judge(history: &History) -> Option<Violation> {
    let playing = PLAYING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| play(history, false).0));
    PLAYING.set(playing);
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)");
        Some(Violation { rule: "core: it never panics", detail: text.to_owned() })
    })
}

impl Campaign {
    /// Runs the seeds until the first failure. Returns how many were run, and the failure.
    pub fn run(&self) -> (u64, Option<Failure>) {
        let next = AtomicU64::new(0);
        let failure: Mutex<Option<Failure>> = Mutex::new(None);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..self.threads {
                let (next, failure) = (&next, &failure);
                scope.spawn(move || {
                    let mut shown = Instant::now();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= self.seeds {
                            return;
                        }
                        let seed = self.from + at;
                        let history = History::of(seed);
                        if self.is_stored && !history.setup.is_stored() {
                            continue;
                        }
                        if let Some(violation) = judge(&history) {
                            next.store(self.seeds, Ordering::Relaxed);
                            let mut failure = failure.lock().expect("no thread panics");
                            if failure.as_ref().is_none_or(|other| other.seed > seed) {
                                *failure = Some(Failure { seed, violation });
                            }
                            return;
                        }
                        if self.shows_progress && thread == 0 && shown.elapsed() > Duration::from_secs(5) {
                            shown = Instant::now();
                            let rate = at as f64 / began.elapsed().as_secs_f64();
                            println!("{at} of {} seeds, {rate:.0} per second", self.seeds);
                        }
                    }
                });
            }
        });
        let failure = failure.into_inner().expect("no thread panics");
        let run = match &failure {
            Some(failure) => failure.seed - self.from + 1,
            None => self.seeds,
        };
        (run, failure)
    }
}

/// A text about a failure: its shortest history, and how to play it again.
pub fn report(failure: &Failure) -> String {
    let (history, violation) = shrink(&History::of(failure.seed), failure.violation.clone());
    let mut text = format!("seed {} breaks a rule\n  {}\n\n{:?}\n", failure.seed, failure.violation, history.setup);
    for step in &history.steps {
        text.push_str(&format!("  {step:?}\n"));
    }
    text.push_str(&format!("  -> {violation}\n\n"));
    if std::env::var_os("MOORMQ_SIM_TRACE").is_some() {
        let lines = catch_unwind(AssertUnwindSafe(|| play(&history, true).1)).unwrap_or_default();
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text.push_str(&format!("again: tests/simulate --seed {}\n", failure.seed));
    text
}
