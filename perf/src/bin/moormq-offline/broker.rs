//! The brokers, and what the kernel knows of them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use moormq_perf_shared::store::size_of;
use moormq_perf_shared::under_test::{Failure, UnderTest};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::args::{Args, Kind};

/// How the folder and, in the folder, the store are called.
const MEASUREMENT: &str = "moormq-offline";
const STORE: &str = "store";

/// It writes nothing any more if it wrote less than this within that time.
const LITTLE: u64 = 1 << 20;
const QUIET: Duration = Duration::from_secs(2);

/// A running broker.
pub struct Broker(UnderTest);

/// What a broker has taken by some time.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub at: Instant,
    /// Processor time, user and system, of all threads.
    pub cpu: Duration,
    /// Resident memory, in KiB.
    pub resident: u64,
    /// Bytes that it had the disk write, by the kernel's account.
    pub written: u64,
    /// Bytes that the files of its store have.
    pub stored: u64,
}

impl Broker {
    /// Starts one, which is told to use these cores.
    pub fn start(kind: Kind, args: &Args, program: &Path) -> Result<Broker, Failure> {
        let broker = match kind {
            Kind::Mosquitto => UnderTest::start_with(MEASUREMENT, Command::new("mosquitto"), "-c", |port, folder| {
                fs::create_dir_all(folder.join(STORE))?;
                Ok(mosquitto(port, &folder.join(STORE)))
            }),
            Kind::Memory | Kind::Stored => UnderTest::start(MEASUREMENT, Command::new(program), |port, folder| {
                Ok(moormq(args, port, (kind == Kind::Stored).then(|| folder.join(STORE)).as_deref()))
            }),
        };
        Ok(Broker(broker?))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Waits until it has the disk write nothing any more: journals are filled in advance.
    pub fn settle(&self) -> Result<(), Failure> {
        let mut before = self.usage()?.written;
        loop {
            thread::sleep(QUIET);
            let written = self.usage()?.written;
            if written - before < LITTLE {
                return Ok(());
            }
            before = written;
        }
    }

    /// What it has taken so far.
    pub fn usage(&self) -> Result<Usage, Failure> {
        let pid = self.0.pid();
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))?.now()?;
        Ok(Usage {
            at: Instant::now(),
            cpu: clock.into(),
            resident: self.0.memory("VmRSS:"),
            written: written.ok_or("the kernel does not count what processes write")?,
            stored: size_of(&self.0.folder().join(STORE)),
        })
    }

    /// Warnings and errors in its log.
    pub fn warnings(&self) -> Vec<String> {
        let log = fs::read_to_string(self.0.folder().join("log")).unwrap_or_default();
        let is_one = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("Error:");
        log.lines().filter(is_one).map(str::to_owned).collect()
    }
}

fn moormq(args: &Args, port: u16, store: Option<&Path>) -> String {
    let (shards, cpus) = (args.broker_cores.len(), args.broker_cores.iter().map(usize::to_string));
    let most = args.keep.filter(|_| store.is_none()).map_or("\"unlimited\"".to_owned(), |keep| keep.to_string());
    format!(
        r#"shards = {shards}
cpus = "{}"
allow_anonymous = true

[log]
filter = "warn,moormq=info"

[listeners.default]
address = "127.0.0.1:{port}"

[limits]
receive_maximum = 65535
max_inflight_messages = 65535

[queue]
max_online_messages = "unlimited"
max_offline_messages = {most}
max_queue_bytes = "unlimited"

{}
[sys]
interval = "0s"
"#,
        cpus.collect::<Vec<_>>().join(","),
        store.map(|store| args.store.section(store)).unwrap_or_default(),
    )
}

fn mosquitto(port: u16, store: &Path) -> String {
    format!(
        "listener {port} 127.0.0.1\nuser root\nallow_anonymous true\npersistence true\npersistence_location {}/\nautosave_interval 60\n\
         max_queued_messages 0\nmax_inflight_messages 0\nlog_type error\nlog_type warning\n",
        store.display()
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_broker_accepts_its_configuration() {
        let args = Args::parse_from(["moormq-offline", "--gather", "64MiB", "--keep", "10"]);
        let config = |store| moormq::config::Config::from_toml(&moormq(&args, 1883, store), "test").unwrap();
        assert_eq!((config(None).shards, config(None).storage.path.as_deref()), (Some(2), None));
        assert_eq!(config(Some(Path::new("/s"))).storage.path.as_deref(), Some("/s"));
    }
}
