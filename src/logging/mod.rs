//! Logs: lines on standard error, for systemd or the container that runs the broker.
//!
//! Lines are bounded in length, number and bytes before they are written. Lines of one kind (one place in the code) are limited in [`rate`], so
//! that clients cannot fill a disk. The lines that wait to be written are limited in bytes, in [`queue`]; a thread of
//! its own writes them, so that nobody waits for a standard error that takes nothing. What is left out is counted, and a
//! line says how much it was. Names that are too long for a [`line`] are cut in it.

mod line;
mod queue;
mod rate;

use std::io::{IsTerminal, Write, stderr};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crossbeam::channel;
use moormq::config::{LogConfig, LogFormat};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use queue::Queue;
use rate::RateLimit;

/// The target of lines about lines that were left out.
const OWN_TARGET: &str = "moormq::log";
/// How long the end of the process waits for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue of this process: there is one standard error.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The end of the log: a drop waits until its lines are written, for a second at most.
pub struct Log(());

impl Drop for Log {
    fn drop(&mut self) {
        flush();
    }
}

/// Sends the log of all threads to standard error from now on, and panics to the log. Call it once.
pub fn init(config: &LogConfig) -> std::io::Result<Log> {
    let rate = RateLimit::new(config.max_lines_per_second);
    let queue = Queue::start(config.max_waiting_bytes, stderr(), rate.clone())?;
    let queue = QUEUE.get_or_init(|| queue);
    // An internal error would be told on standard error, by a call that may wait or panic.
    let lines = fmt::layer().with_writer(queue).log_internal_errors(false);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // It fails if there is a subscriber already, which then gets the events.
    let _ = tracing_subscriber::registry().with(EnvFilter::new(&config.filter)).with(rate).with(lines).try_init();
    Ok(Log(()))
}

/// Writes a line that belongs to no event, as the last line of a process that ends for a fault. Before [`init`], and when the
/// writer of the log has died, it goes to standard error directly. It never fails, and waits for a second at most then.
pub fn say(line: &str) {
    let line = format!("{line}\n").into_bytes();
    match QUEUE.get() {
        Some(queue) if queue.push_last(line.clone()) => {}
        Some(_) => {
            let (written, is_written) = channel::bounded(1);
            let writer = thread::Builder::new().spawn(move || {
                write(&line);
                let _ = written.try_send(());
            });
            if writer.is_ok() {
                let _ = is_written.recv_timeout(FLUSH_TIMEOUT);
            }
        }
        None => write(&line),
    }
}

fn write(line: &[u8]) {
    let _ = stderr().write_all(line);
}

/// Waits until all lines so far are written, for a second at most.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_TIMEOUT);
    }
}
