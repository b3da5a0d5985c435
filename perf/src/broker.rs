//! The brokers that are measured: how each is found, configured, started and stopped.
//!
//! All run without persistence unless a scenario is about that, without a log, and on one core unless a scenario is about two. How they are configured is in
//! [`configuration`](crate::configuration).

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::client::Client;
use crate::configuration::{embedded, moormq, mosquitto, saving_mosquitto};
use crate::cores::Cores;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::process::{ProcessTree, pin};
use crate::scenario::{CoreLayout, Limits, Links, ShardPlacement, Variant};
use crate::target::{ClientShards, Target};

/// How long a broker may take until it accepts a client.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A broker that has written nothing for so long has prepared what it needs.
const QUIET: Duration = Duration::from_millis(700);

/// A broker to measure.
#[derive(Clone, Debug)]
pub struct Broker {
    /// What reports call it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What a broker is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// moormq, the program at this path.
    Moormq(PathBuf),
    /// Mosquitto, the program at this path.
    Mosquitto(PathBuf),
    /// moormq as a program embeds it: the program `moormq-embedded` at this path, in this variant.
    Embedded(PathBuf, Variant),
    /// No broker, but its socket operations: the program `moormq-floor` at this path.
    Floor(PathBuf),
    /// Mosquitto, the program at this path, which saves what it has every so many seconds.
    SavingMosquitto(PathBuf, u32),
    /// No broker, but the writes of the one that was measured before it in the round: the program `moormq-disk-floor` at this path.
    DiskFloor(PathBuf),
    /// Any other: a command for the shell, in which `{port}`, `{core}` and `{dir}` (an empty folder) are replaced.
    Command(String),
}

/// A broker that is running; it is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    address: SocketAddr,
    dir: PathBuf,
    placement: Option<ShardPlacement>,
}

/// The file, in a broker's folder, with the shard of each client.
const CLIENT_SHARDS: &str = "client-shards";

/// The folder, in a broker's folder, in which it stores what it keeps.
const STORE: &str = "store";

impl Broker {
    /// The broker `name=command` of the command line.
    ///
    /// # Errors
    ///
    /// If there is no name or no command.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !command.is_empty() => {
                Ok(Broker { name: name.to_owned(), kind: Kind::Command(command.to_owned()) })
            }
            _ => Err("must be NAME=COMMAND".to_owned()),
        }
    }

    /// What it says about its version; of a command, the command.
    pub fn version(&self) -> String {
        let (program, argument) = match &self.kind {
            Kind::Moormq(program) | Kind::Embedded(program, _) | Kind::Floor(program) | Kind::DiskFloor(program) => {
                (program, "--version")
            }
            Kind::Mosquitto(program) | Kind::SavingMosquitto(program, _) => (program, "-h"),
            Kind::Command(command) => return format!("`{command}`"),
        };
        let output = Command::new(program).arg(argument).output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        said.lines().next().unwrap_or("unknown version").to_owned()
    }

    /// The configuration it runs with, for reports; none for a command.
    pub fn configuration(&self) -> Option<String> {
        match &self.kind {
            Kind::Moormq(_) | Kind::Embedded(..) => Some(moormq(1883, Limits::Lifted)),
            Kind::Mosquitto(_) | Kind::SavingMosquitto(..) => Some(mosquitto(1883, Limits::Lifted)),
            Kind::Floor(_) | Kind::DiskFloor(_) | Kind::Command(_) => None,
        }
    }

    /// Where it runs.
    fn layout(&self) -> CoreLayout {
        match &self.kind {
            Kind::Embedded(_, variant) => variant.layout,
            _ => CoreLayout::Own,
        }
    }

    /// Starts it on a free port, on its cores and with these limits, and waits until it accepts a client. The limits of a broker that is
    /// described by a command are its own.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or accepts nobody within a minute.
    pub fn start(&self, cores: &Cores, limits: Limits, interrupt: &Interrupt) -> Result<Running, Failure> {
        let cores = cores.of(self.layout());
        let port = free_port().map_err(Failure::system("no free port"))?;
        let dir = std::env::temp_dir().join(format!("moormq-perf-{}-{port}", std::process::id()));
        let spawn = || {
            fs::create_dir_all(&dir)?;
            let log = File::create(dir.join("log"))?;
            let mut command = self.command(port, &cores, limits, &dir)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
            Ok(command)
        };
        let command = spawn().map_err(Failure::system(format_args!("{} in {}", self.name, dir.display())))?;
        let child = spawn_on(cores.clone(), command).inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        let placement = match &self.kind {
            Kind::Embedded(_, variant) if variant.links == Links::ClientShards => Some(variant.placement),
            _ => None,
        };
        let mut running = Running { child, address: (Ipv4Addr::LOCALHOST, port).into(), dir, placement };
        running.wait_until_ready(&self.name, interrupt)?;
        running.wait_until_prepared(interrupt)?;
        Ok(running)
    }

    fn command(&self, port: u16, cores: &[usize], limits: Limits, dir: &Path) -> io::Result<Command> {
        let list = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let file = dir.join("configuration");
        let store = dir.join(STORE).to_string_lossy().into_owned();
        let mut command;
        match &self.kind {
            Kind::Moormq(program) => {
                fs::write(&file, moormq(port, limits))?;
                command = Command::new(program);
                command.arg("--config").arg(file).args(["--shards", "1", "--cpus", &list]);
            }
            Kind::Embedded(program, variant) => {
                fs::write(&file, embedded(port, limits, variant.layout.shards(), variant.storage, &store))?;
                command = Command::new(program);
                command.arg("--config").arg(file);
                match variant.links {
                    Links::None => {}
                    Links::Three => drop(command.args(["--links", "3"])),
                    Links::ClientShards => drop(command.arg("--client-shards").arg(dir.join(CLIENT_SHARDS))),
                }
            }
            Kind::Mosquitto(program) => {
                fs::write(&file, mosquitto(port, limits))?;
                command = Command::new(program);
                command.arg("-c").arg(file);
            }
            Kind::SavingMosquitto(program, seconds) => {
                fs::create_dir_all(&store)?;
                fs::write(&file, saving_mosquitto(port, limits, &store, *seconds))?;
                command = Command::new(program);
                command.arg("-c").arg(file);
            }
            Kind::DiskFloor(program) => {
                command = Command::new(program);
            }
            Kind::Floor(program) => {
                command = Command::new(program);
                command.arg("--listen").arg(format!("127.0.0.1:{port}"));
            }
            Kind::Command(template) => {
                let line = template
                    .replace("{port}", &port.to_string())
                    .replace("{core}", &list)
                    .replace("{dir}", &dir.to_string_lossy());
                command = Command::new("sh");
                command.arg("-c").arg(line);
            }
        }
        Ok(command)
    }
}

impl Running {
    /// What to measure.
    ///
    /// # Errors
    ///
    /// If its processes cannot be looked at.
    pub fn target(&self) -> Result<Target, Failure> {
        let client_shards =
            self.placement.map(|placement| ClientShards { file: self.dir.join(CLIENT_SHARDS), placement });
        let store = Some(self.dir.join(STORE)).filter(|store| store.exists());
        let processes = ProcessTree::of(self.child.id())?;
        Ok(Target { address: self.address, processes, client_shards, watcher: None, store })
    }

    fn wait_until_ready(&mut self, name: &str, interrupt: &Interrupt) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            interrupt.check()?;
            let Err(refusal) = self.try_connect(interrupt) else {
                return Ok(());
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::Broker(format!("{name} ended ({status}): {}", self.end_of_log())));
            }
            if Instant::now() > deadline {
                return Err(Failure::Broker(format!("{name} accepts nobody ({refusal}): {}", self.end_of_log())));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has written what it writes in advance, if it has a store: until it writes nothing.
    fn wait_until_prepared(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        if !self.dir.join(STORE).exists() {
            return Ok(());
        }
        let (processes, deadline) = (ProcessTree::of(self.child.id())?, Instant::now() + START_TIMEOUT);
        let mut before = None;
        loop {
            let written = Some(processes.written()?);
            if written == before || Instant::now() > deadline {
                return Ok(());
            }
            before = written;
            interrupt.check()?;
            thread::sleep(QUIET);
        }
    }

    fn try_connect(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        let mut engine = Engine::new(interrupt)?;
        engine.open([Client::idle("perf-probe".to_owned())], self.address, 1)?;
        engine.close();
        Ok(())
    }

    /// The last lines that the broker printed.
    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.reverse();
        lines.join(" / ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It leads a process group of its own, with all it started. An error means that there is nobody left to kill.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Starts a command on these cores: a process inherits those of the thread that starts it.
fn spawn_on(cores: Vec<usize>, mut command: Command) -> Result<Child, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let thread = thread::spawn(move || {
        pin(&cores)?;
        command.spawn().map_err(Failure::system(program))
    });
    thread.join().map_err(|_| Failure::System("the thread that starts brokers panicked".to_owned()))?
}

/// A port that nobody listens on now.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_a_name() {
        assert_eq!(Broker::parse("other=run --x=1 {port}").unwrap().name, "other");
        assert!(Broker::parse("=x").is_err() && Broker::parse("other").is_err());
    }

    #[test]
    fn a_command_that_ends_is_reported_with_the_end_of_its_log() {
        let broker = Broker::parse("other=test -d {dir} && echo port {port}; exit 3").unwrap();
        let core = crate::process::cores().unwrap()[0];
        let cores = Cores { broker: core, second: core, generator: core };
        let failure = broker.start(&cores, Limits::Lifted, &Interrupt::default()).unwrap_err().to_string();
        assert!(failure.starts_with("other ended (exit status: 3): port "), "{failure}");
    }
}
