//! A program that runs beside the test: its lines are kept and can be waited for, and it never outlives the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::DEADLINE;

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// What a program has written so far, line by line.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    /// Lines up to here were taken by [`Lines::next`].
    taken: usize,
    ended: bool,
}

impl Process {
    /// Starts `command` with nothing on its standard input.
    ///
    /// Panics if there is no such program, with a hint where to get it.
    pub fn spawn(command: &mut Command) -> Process {
        Process::start(command.stdin(Stdio::null()))
    }

    /// Likewise, with what [`Process::order`] says on its standard input.
    pub fn spawn_to_order(command: &mut Command) -> Process {
        Process::start(command.stdin(Stdio::piped()))
    }

    fn start(command: &mut Command) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot run {name} (tests/run installs it): {error}"));
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        let stderr = Lines::of(child.stderr.take().expect("it is piped"));
        Process { name, child, stdout, stderr }
    }

    /// Writes a line to its standard input.
    pub fn order(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("it was started to be given orders");
        writeln!(input, "{line}").expect("it reads them");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it writes to standard output.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// What it writes to standard error.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// Sends it a signal, such as "TERM".
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("sh can be run");
        assert!(status.success(), "{kill}: {status}");
    }

    /// The memory that it has of the system's, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "{} does not end:\n{}", self.name, self.transcript());
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until it ends, which it has to do without a fault.
    pub fn succeed(&mut self) {
        let status = self.wait();
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        assert!(status.success(), "{}: {status}\n{}", self.name, self.transcript());
    }

    /// Everything it has written.
    pub fn transcript(&self) -> String {
        format!("{}\n{}", self.stdout.all().join("\n"), self.stderr.all().join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let writer = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                writer.change(|written| written.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            writer.change(|written| written.ended = true);
        });
        lines
    }

    /// Waits for the next line that was not taken yet, and takes it.
    pub fn next(&self) -> String {
        self.wait_until("a line", |written| {
            let line = written.lines.get(written.taken)?.clone();
            written.taken += 1;
            Some(line)
        })
    }

    /// Waits until `pick` takes something of the lines there are.
    pub fn pick<T>(&self, what: &str, pick: impl Fn(&[String]) -> Option<T>) -> T {
        self.wait_until(what, |written| pick(&written.lines))
    }

    /// Waits for a line, old or new, in which `find` finds something.
    pub fn find<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_until(what, |written| written.lines.iter().find_map(|line| find(line)))
    }

    /// Waits until nothing more can come.
    pub fn wait_for_end(&self) {
        self.wait_until("the end of the output", |written| written.ended.then_some(()));
    }

    /// All lines so far, taken or not.
    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().expect("no panic while it is held").lines.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Written)) {
        change(&mut self.0.0.lock().expect("no panic while it is held"));
        self.0.1.notify_all();
    }

    fn wait_until<T>(&self, what: &str, mut find: impl FnMut(&mut Written) -> Option<T>) -> T {
        let start = Instant::now();
        let (written, changed) = &*self.0;
        let mut written = written.lock().expect("no panic while it is held");
        loop {
            if let Some(found) = find(&mut written) {
                return found;
            }
            let left = DEADLINE.checked_sub(start.elapsed());
            let Some(left) = left.filter(|_| !written.ended) else {
                let lines = written.lines.join("\n");
                drop(written);
                panic!("waited for {what} in vain; the program wrote:\n{lines}");
            };
            written = changed.wait_timeout(written, left).expect("no panic while it is held").0;
        }
    }
}
