//! The broker that is killed, its configuration, its log and its store.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// As long as a start or a stop may take.
const LONG: Duration = Duration::from_secs(120);

/// A store, and how brokers run on it.
pub struct Place {
    directory: PathBuf,
    config: PathBuf,
    /// The control socket of the broker that runs.
    pub socket: PathBuf,
    /// The same for all brokers, so that clients find them again.
    pub port: u16,
}

/// A running broker. Dropping it kills it.
pub struct Broker {
    child: Child,
    log: PathBuf,
    pub address: SocketAddr,
}

impl Place {
    /// A new one in this directory, with further settings of queues and storage; the store is below `disk`.
    pub fn new(directory: PathBuf, disk: &Path, shards: usize, settings: [&str; 2]) -> Self {
        let ([queue, storage], port) = (settings, free_port());
        let (config, socket) = (directory.join("moormq.toml"), directory.join("control"));
        let path = disk.join("store");
        let text = format!(
            "shards = {shards}\nallow_anonymous = true\nsys.interval = \"1s\"\nlog.max_lines_per_second = \"unlimited\"\n\
             [listeners.default]\naddress = \"127.0.0.1:{port}\"\nconnect_timeout = \"10m\"\n\
             [limits]\nmax_packet_size = \"1MiB\"\n\
             [control]\nsocket = \"{}\"\n\
             [queue]\nmax_offline_messages = \"unlimited\"\nmax_queue_bytes = \"unlimited\"\n{queue}\
             [storage]\npath = \"{}\"\n{storage}",
            socket.display(),
            path.display()
        );
        fs::write(&config, text).expect("a file can be written");
        Place { directory, config, socket, port }
    }

    /// Keeps a text beside the logs.
    pub fn note(&self, name: &str, text: &str) {
        fs::write(self.directory.join(name), text).expect("a file can be written");
    }

    pub fn spawn(&self, name: &str) -> Starting {
        let log = self.directory.join(format!("{name}.log"));
        let file = File::create(&log).expect("a file can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_moormq"));
        command.arg("--config").arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        command.env("RUST_BACKTRACE", "1");
        Starting { child: command.spawn().expect("the program can be run"), log }
    }
}

/// A broker that may not listen yet.
pub struct Starting {
    child: Child,
    log: PathBuf,
}

impl Starting {
    /// Waits until it listens; what it has logged if it does not.
    pub fn listening(mut self) -> Result<Broker, String> {
        let began = Instant::now();
        loop {
            let log = read(&self.log);
            let address = log.split("address=127.0.0.1:").nth(1).and_then(|rest| rest.split_once(' '));
            if let Some(port) = address.and_then(|(port, _)| port.trim().parse().ok()) {
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                return Ok(Broker { child: self.child, log: self.log, address });
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the broker has ended: {status}\n{log}"));
            }
            if began.elapsed() > LONG {
                // It may end meanwhile.
                let _ = self.child.kill();
                return Err(format!("the broker does not listen\n{log}"));
            }
            sleep(Duration::from_millis(2));
        }
    }

    pub fn kill(mut self) -> String {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        read(&self.log)
    }
}

impl Broker {
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to stop.
    pub fn stop(&mut self) -> Result<(), String> {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill can be run");
        assert!(status.success());
        let began = Instant::now();
        while began.elapsed() < LONG {
            match self.child.try_wait().expect("it is a child") {
                Some(status) if ExitStatus::success(&status) => return Ok(()),
                Some(status) => return Err(format!("it stopped with {status}")),
                None => sleep(Duration::from_millis(5)),
            }
        }
        self.kill();
        Err("it does not stop".to_owned())
    }

    /// What its threads wait for, for who looks at a broker that hangs.
    pub fn threads(&self) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let lines = tasks.map(|task| {
            let [name, waits, stack] = ["comm", "wchan", "stack"].map(|file| read(task.path().join(file)));
            format!("{name}: {waits}\n{stack}\n")
        });
        lines.collect()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody uses, and the kernel gives to nobody.
fn free_port() -> u16 {
    let tries = std::iter::repeat_with(|| fastrand::u16(15_000..30_000));
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    tries.take(1000).find(is_free).expect("there are free ports")
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// Lines of a log that are of no good broker, and warnings, with digits left out of the latter.
pub fn complaints(log: &str) -> (Vec<String>, Vec<String>) {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for line in log.lines() {
        if line.contains("ERROR") || line.contains("panicked") {
            errors.push(line.to_owned());
        } else if line.contains("WARN") {
            let line = line.split_once("WARN").map_or(line, |(_, rest)| rest);
            warnings.push(line.chars().map(|one| if one.is_ascii_digit() { '9' } else { one }).collect());
        }
    }
    (errors, warnings)
}
