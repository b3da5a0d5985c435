//! The program under test, started on a free port and stopped in an orderly way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::process::{Lines, Process};

/// A listener that lets everybody in on a free port, and does not mind if the machine is busy.
const LISTENER: &str =
    "[listeners.default]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\nconnect_timeout = \"10m\"\n";

/// A running broker.
///
/// Dropping it asks it to stop, as SIGTERM does, and fails the test if it does not end with exit code 0, or if it
/// logged an error.
pub struct Broker {
    process: Process,
    directory: PathBuf,
    stopped: bool,
}

impl Broker {
    /// A broker with `shards` shards, one listener, and defaults.
    pub fn start(shards: usize) -> Broker {
        Broker::with(shards, "")
    }

    /// Likewise, with further sections of the configuration file.
    pub fn with(shards: usize, sections: &str) -> Broker {
        Broker::of(env!("CARGO_BIN_EXE_moormq").as_ref(), shards, sections)
    }

    /// Likewise, of another program that takes `--config`.
    pub fn of(program: &Path, shards: usize, sections: &str) -> Broker {
        Broker::run(program, &format!("shards = {shards}\n{LISTENER}{sections}"))
    }

    /// A broker with this configuration file. Its listeners should have port 0.
    pub fn configured(file: &str) -> Broker {
        Broker::run(env!("CARGO_BIN_EXE_moormq").as_ref(), file)
    }

    fn run(program: &Path, file: &str) -> Broker {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("broker-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory below the target directory can be made");
        let config = directory.join("moormq.toml");
        fs::write(&config, file).expect("a file can be written");
        let process = Process::spawn_to_order(Command::new(program).arg("--config").arg(&config));
        let broker = Broker { process, directory, stopped: false };
        for name in file.lines().filter_map(|line| line.strip_prefix("[listeners.")?.strip_suffix(']')) {
            broker.port_of(name);
        }
        broker
    }

    /// The port of its only listener.
    pub fn port(&self) -> u16 {
        self.port_of("default")
    }

    /// The port of a listener; waits until it listens.
    pub fn port_of(&self, listener: &str) -> u16 {
        let listening = format!("listener=\"{listener}\" address=127.0.0.1:");
        self.process.stderr().find(&listening, |line| {
            let (_, rest) = line.split_once(&listening)?;
            rest.split(' ').next()?.parse().ok()
        })
    }

    /// What the program writes to standard output.
    pub fn stdout(&self) -> &Lines {
        self.process.stdout()
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it with SIGTERM and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.ended()
    }

    /// Waits for the end that something else has brought about.
    pub fn ended(&mut self) -> ExitStatus {
        self.stopped = true;
        self.process.wait()
    }

    fn check_log(&self) {
        self.process.stderr().wait_for_end();
        let log = self.process.stderr().all();
        let fault = log.iter().find(|line| line.contains(" ERROR ") || line.contains("panicked"));
        assert!(fault.is_none(), "the broker logged a fault:\n{}", log.join("\n"));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the broker's log:\n{}", self.process.transcript());
        } else {
            if !self.stopped {
                let status = self.stop();
                assert!(status.success(), "the broker ended with {status}:\n{}", self.process.transcript());
            }
            self.check_log();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
