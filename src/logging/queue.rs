//! The lines that wait to be written, and the thread that writes them.
//!
//! Whoever logs puts a line into the queue and never waits: a line that does not fit is left out, and counted. The
//! writer trusts nothing of standard error: it may be closed, full, or read by nobody.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use moormq::threads;
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

use super::OWN_TARGET;
use super::line::bounded;
use super::rate::RateLimit;

/// How often the writer looks for lines that were left out, and tries again a standard error that would block.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before a standard error that is not to be waited for is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// What a line costs beside its bytes.
const LINE_OVERHEAD: usize = 64;

/// The queue, for any thread.
pub struct Queue {
    lines: Sender<Entry>,
    waiting: Arc<Waiting>,
}

/// What the writer takes.
enum Entry {
    Line(Vec<u8>),
    /// Somebody wants to know when all lines before are written.
    Flush(Sender<()>),
}

/// What threads that log and the writer count.
struct Waiting {
    /// The bytes of the lines in the queue.
    bytes: AtomicUsize,
    most: usize,
    /// Lines that did not fit, or could not be written, since the start.
    left_out: AtomicU64,
}

impl Queue {
    /// Starts the thread that writes to `output`. At most `most` bytes wait. It also tells what `rate` has left out.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn start(most: usize, output: impl AsFd + Send + 'static, rate: RateLimit) -> io::Result<Self> {
        let (lines, entries) = channel::unbounded();
        let waiting = Arc::new(Waiting { bytes: AtomicUsize::new(0), most, left_out: AtomicU64::new(0) });
        let writer = Writer { waiting: Arc::clone(&waiting), rate, output, told: 0, torn: false };
        threads::start("moormq-log", move || writer.run(&entries))?;
        Ok(Queue { lines, waiting })
    }

    /// Queues a line, with its end; one that does not fit is left out.
    fn push(&self, line: Vec<u8>) {
        let cost = line.len() + LINE_OVERHEAD;
        if self.waiting.bytes.fetch_add(cost, Ordering::Relaxed) + cost > self.waiting.most {
            self.waiting.bytes.fetch_sub(cost, Ordering::Relaxed);
            self.waiting.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.send(line);
    }

    /// Queues a line even if the queue is full: the last words of the process. Returns false if there is no writer any more.
    pub fn push_last(&self, line: Vec<u8>) -> bool {
        self.waiting.bytes.fetch_add(line.len() + LINE_OVERHEAD, Ordering::Relaxed);
        self.send(line)
    }

    fn send(&self, line: Vec<u8>) -> bool {
        self.lines.send(Entry::Line(line)).is_ok()
    }

    /// Waits until all lines so far are written, at most for `timeout`.
    pub fn flush(&self, timeout: Duration) {
        let (written, is_written) = channel::bounded(1);
        if self.lines.send(Entry::Flush(written)).is_ok() {
            let _ = is_written.recv_timeout(timeout);
        }
    }
}

/// The writer of one line: an event is formatted first and comes as a whole.
pub struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(bounded(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl<'a> MakeWriter<'a> for &'static Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// The thread that writes.
struct Writer<F> {
    waiting: Arc<Waiting>,
    rate: RateLimit,
    output: F,
    /// How many of the lines that were left out it has told of.
    told: u64,
    /// Part of a line was written, and the rest could not be.
    torn: bool,
}

impl<F: AsFd> Writer<F> {
    fn run(mut self, entries: &Receiver<Entry>) {
        let mut next_look = Instant::now() + LOOK;
        loop {
            match entries.recv_deadline(next_look) {
                Ok(Entry::Line(line)) => {
                    let written = self.write(&line);
                    self.waiting.bytes.fetch_sub(line.len() + LINE_OVERHEAD, Ordering::Relaxed);
                    if !written {
                        self.waiting.left_out.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(Entry::Flush(done)) => {
                    if self.tell(true) {
                        // Behind the lines about what was left out.
                        self.drain(entries);
                    }
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next_look {
                self.tell(false);
                next_look = Instant::now() + LOOK;
            }
        }
    }

    /// Writes the lines that are there.
    fn drain(&mut self, entries: &Receiver<Entry>) {
        for entry in entries.try_iter().take(entries.len()) {
            match entry {
                Entry::Line(line) => {
                    self.write(&line);
                    self.waiting.bytes.fetch_sub(line.len() + LINE_OVERHEAD, Ordering::Relaxed);
                }
                Entry::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    /// Queues lines about what was left out, at the `end` also of the present second. Returns whether there were any.
    fn tell(&mut self, end: bool) -> bool {
        let kinds = self.rate.left_out(Instant::now(), end);
        for left_out in &kinds {
            let (lines, kind) = (left_out.lines, left_out.target);
            tracing::warn!(target: OWN_TARGET, lines, kind, "lines left out, there were too many like: {}", left_out.message);
        }
        let left_out = self.waiting.left_out.load(Ordering::Relaxed);
        let lines = left_out - std::mem::replace(&mut self.told, left_out);
        if lines > 0 {
            tracing::warn!(target: OWN_TARGET, lines, "lines left out, standard error did not take them");
        }
        lines > 0 || !kinds.is_empty()
    }

    /// Writes a line. Returns false if it could not be.
    fn write(&mut self, line: &[u8]) -> bool {
        if self.torn {
            self.torn = !self.write_all(b"\n");
        }
        !self.torn && self.write_all(line)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> bool {
        let whole = bytes.len();
        while !bytes.is_empty() {
            // Not by the standard library, which holds a lock meanwhile: whoever else writes there would wait, too.
            match rustix::io::write(&self.output, bytes) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::AGAIN) => thread::sleep(RETRY),
                Err(_) => {
                    self.torn |= bytes.len() < whole;
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_words;
    use std::fs::File;
    use std::io::{BufRead, BufReader, pipe};
    use std::os::fd::BorrowedFd;
    use std::process::Stdio;

    const LONG: Duration = Duration::from_secs(120);

    fn queue(most: usize, output: impl AsFd + Send + 'static) -> Queue {
        Queue::start(most, output, RateLimit::new(0)).expect("there are threads")
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number:099}\n").into_bytes()
    }

    /// The reader is stopped: whoever logs goes on, and what waits is bounded.
    #[test]
    fn nobody_waits_for_a_reader_and_what_waits_is_bounded() {
        let (reader, writer) = pipe().expect("a pipe");
        let queue = queue(64 * 1024, writer);
        // More than pipe and queue hold together: the pipe has 64 KiB, or less.
        (0..10_000).for_each(|number| queue.push(line(number)));
        let waiting = &queue.waiting;
        assert!(waiting.bytes.load(Ordering::Relaxed) <= 64 * 1024);
        let left_out = waiting.left_out.load(Ordering::Relaxed);
        assert!(left_out > 5_000, "{left_out}");
        // It is read again: the lines come whole and in order.
        let mut lines = BufReader::new(reader).lines().map(|line| line.expect("it can be read").parse::<u64>());
        let numbers = (0..10_000 - left_out).map(|_| lines.next().expect("no end").expect("a number"));
        assert!(numbers.collect::<Vec<_>>().is_sorted());
    }

    #[test]
    fn a_full_disk_and_a_closed_pipe_fail_nobody() {
        let full = || File::options().write(true).open("/dev/full").expect("Linux has it");
        let closed = || pipe().expect("a pipe").1;
        let waiting = || Arc::new(Waiting { bytes: AtomicUsize::new(0), most: 0, left_out: AtomicU64::new(0) });
        let mut to_full = Writer { waiting: waiting(), rate: RateLimit::new(0), output: full(), told: 0, torn: false };
        let mut to_closed =
            Writer { waiting: waiting(), rate: RateLimit::new(0), output: closed(), told: 0, torn: false };
        assert!(!to_full.write(&line(1)) && !to_closed.write(&line(1)));
        for queue in [queue(64 * 1024, full()), queue(64 * 1024, closed())] {
            (0..10_000).for_each(|number| queue.push(line(number)));
            queue.flush(LONG);
            assert_eq!(queue.waiting.bytes.load(Ordering::Relaxed), 0, "it goes on");
        }
    }

    /// A line of which a part was written is ended before the next one.
    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let (reader, output) = pipe().expect("a pipe");
        let waiting = Arc::new(Waiting { bytes: AtomicUsize::new(0), most: 0, left_out: AtomicU64::new(0) });
        let mut writer = Writer { waiting, rate: RateLimit::new(0), output, told: 0, torn: true };
        assert!(writer.write(b"whole\n"));
        drop(writer);
        assert_eq!(BufReader::new(reader).lines().map_while(Result::ok).collect::<Vec<_>>(), ["", "whole"]);
    }

    #[test]
    fn a_flush_waits_for_what_was_before_and_not_for_ever() {
        let (reader, writer) = pipe().expect("a pipe");
        let queue = queue(1024 * 1024, writer);
        queue.push(line(7));
        queue.flush(LONG);
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().expect("a line").expect("it can be read").parse(), Ok(7));
        (0..5_000).for_each(|number| queue.push(line(number)));
        queue.flush(Duration::from_millis(1));
    }

    /// An output that the writer cannot even look at.
    struct Broken;

    impl AsFd for Broken {
        fn as_fd(&self) -> BorrowedFd<'_> {
            panic!("as the test wants it")
        }
    }

    #[test]
    fn without_a_writer_last_words_are_not_taken() {
        let queue = queue(1024, Broken);
        queue.push(line(1));
        let start = Instant::now();
        while queue.push_last(line(2)) {
            assert!(start.elapsed() < LONG, "its end is noticed");
            thread::yield_now();
        }
        queue.flush(LONG);
        assert!(start.elapsed() < LONG, "nobody is waited for");
    }

    /// A broker without a log is one with a part missing, as without any other of its threads.
    #[test]
    fn the_death_of_the_writer_ends_the_process() {
        let ended = last_words::tests::ended_by(
            "logging::queue::tests::the_death_of_the_writer_ends_the_process",
            Stdio::piped(),
            || {
                let queue = queue(1024, Broken);
                queue.push(line(1));
                thread::sleep(LONG);
            },
        );
        let said = String::from_utf8_lossy(&ended.stderr);
        let last = "moormq: thread moormq-log died: it panicked; the process ends, with exit status 101";
        assert_eq!((ended.status.code(), said.lines().last()), (Some(101), Some(last)), "{said}");
    }
}
