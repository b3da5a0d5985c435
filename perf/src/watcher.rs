//! A program that watches the broker while a window is measured: a profiler, or a tracer.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::failure::Failure;

/// How long it may take to get hold of the broker.
const ATTACH: Duration = Duration::from_millis(500);

/// How long it may take to write down what it saw.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command for the shell, in which `{pid}` is replaced.
#[derive(Clone, Debug)]
pub struct Watcher {
    command: String,
}

/// A watcher at work.
#[derive(Debug)]
pub struct Watching(Child);

impl Watcher {
    /// The watcher with this command for the process `pid`.
    pub fn new(command: &str, pid: u32) -> Self {
        Watcher { command: command.replace("{pid}", &pid.to_string()) }
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// If there is no shell, or it ends at once.
    pub fn start(&self) -> Result<Watching, Failure> {
        // Where SIGINT is ignored, as in the background of a shell, the command could not be interrupted.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "sh", "-c"]).arg(&self.command).stdin(Stdio::null()).process_group(0);
        let mut watching = Watching(command.spawn().map_err(Failure::system("sh"))?);
        thread::sleep(ATTACH);
        match watching.0.try_wait() {
            Ok(None) => Ok(watching),
            _ => Err(Failure::System(format!("`{}` ended before the window began", self.command))),
        }
    }
}

impl Watching {
    /// Interrupts it, as Ctrl-C would, and waits until it has ended.
    pub fn stop(mut self) {
        // An error means that there is nobody left.
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGINT);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_who_to_watch_and_ends_when_interrupted() {
        let file = std::env::temp_dir().join(format!("moormq-watcher-{}", std::process::id()));
        let command = format!("trap 'echo {{pid}} > {}; exit' INT; while :; do sleep 0.05; done", file.display());
        Watcher::new(&command, 4711).start().unwrap().stop();
        let said = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(said.trim(), "4711");
    }

    #[test]
    fn one_that_ends_at_once_is_a_failure() {
        assert!(Watcher::new("exit 1", 1).start().is_err());
    }
}
