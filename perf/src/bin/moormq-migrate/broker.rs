//! The broker under test: the real program, two shards, its control socket.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use moormq::control::client::ask;
use moormq::control::protocol::{Answer, ClientName, Command};
use moormq::control::status::{Berth, Moved};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::failure::Failure;

/// How long the broker may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a move may take, in seconds.
const MOVE_TIMEOUT: f64 = 600.0;
/// Clients that are looked up with one command.
const BATCH: usize = 4000;

/// A running broker; it is killed when this is dropped.
pub struct Broker {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

/// A move that is under way or done.
pub struct Move {
    begun: Instant,
    cpu_before: Duration,
    ended: Receiver<(Instant, Result<Moved, Failure>)>,
}

/// What a move came to.
#[derive(Clone, Copy)]
pub struct MoveFigures {
    /// From the command until the answer that all is there.
    pub took: Duration,
    /// Processor time of the broker meanwhile.
    pub cpu: Duration,
    /// Sessions that moved.
    pub sessions: u64,
}

impl Broker {
    /// Starts `program` on a free port, and waits until it listens.
    pub fn start(program: &Path) -> Result<Broker, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("moormq-migrate-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("moormq.toml");
        fs::write(&config, configuration(port, &folder.join("control")))?;
        let log = File::create(folder.join("log"))?;
        let mut command = Program::new(program);
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut broker = Broker { child, folder, address: (Ipv4Addr::LOCALHOST, port).into() };
        broker.wait_until_ready()?;
        Ok(broker)
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() || !self.socket().exists() {
            let ended = self.child.try_wait()?.map(|status| format!("ended with {status}"));
            let late = (start.elapsed() > START_TIMEOUT).then(|| "does not listen".to_owned());
            if let Some(problem) = ended.or(late) {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("the broker {problem}: {log}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("control")
    }

    /// The processor time that it took so far, all its threads together.
    fn cpu(&self) -> Result<Duration, Failure> {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.child.id() as i32))?;
        Ok(clock.now()?.into())
    }

    /// Ids of `count` clients that share a slot, and that slot: found by asking for many.
    pub fn ids_in_one_slot(&self, count: usize) -> Result<(u16, Vec<String>), Failure> {
        let mut slot = None;
        let mut ids = Vec::with_capacity(count);
        for batch in 0.. {
            let names = (batch * BATCH..(batch + 1) * BATCH).map(|number| format!("m{number}"));
            let clients = names.map(|client_id| ClientName { mountpoint: String::new(), client_id }).collect();
            let Answer::Berths(berths) = ask(&self.socket(), Command::Find(clients), &mut |_| ())? else {
                return Err("the broker does not find clients".into());
            };
            for Berth { client_id, slot: own, .. } in berths {
                if *slot.get_or_insert(own) == own {
                    ids.push(client_id);
                }
            }
            if ids.len() >= count {
                break;
            }
        }
        ids.truncate(count);
        Ok((slot.unwrap_or_default(), ids))
    }

    /// Has `slot` move to shard `to`, while this thread goes on.
    pub fn begin_move(&self, slot: u16, to: usize) -> Result<Move, Failure> {
        let (end, ended) = channel();
        let socket = self.socket();
        let cpu_before = self.cpu()?;
        let begun = Instant::now();
        thread::spawn(move || {
            let command = Command::Move { slots: vec![slot], clients: Vec::new(), to, timeout: MOVE_TIMEOUT };
            let outcome = match ask(&socket, command, &mut |_| ()) {
                Ok(Answer::Moved(moved)) => Ok(moved),
                Ok(other) => Err(format!("the slot did not move: {other:?}").into()),
                Err(error) => Err(error.into()),
            };
            // Nobody listens if the measurement has failed meanwhile.
            let _ = end.send((Instant::now(), outcome));
        });
        Ok(Move { begun, cpu_before, ended })
    }

    /// What the move came to; none as long as it is under way.
    pub fn outcome(&self, of: &Move) -> Result<Option<MoveFigures>, Failure> {
        let Ok((end, outcome)) = of.ended.try_recv() else { return Ok(None) };
        let cpu = self.cpu()?.saturating_sub(of.cpu_before);
        Ok(Some(MoveFigures { took: end - of.begun, cpu, sessions: outcome?.sessions }))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What the program says about its version.
pub fn version(program: &Path) -> String {
    let output = Program::new(program).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn configuration(port: u16, socket: &Path) -> String {
    format!(
        r#"shards = 2
allow_anonymous = true

[log]
filter = "error"

[listeners.default]
address = "127.0.0.1:{port}"

[limits]
max_inflight_messages = 65535

[queue]
max_online_messages = -1
max_offline_messages = -1
max_queue_bytes = -1
max_waiting_output_bytes = "1GiB"

[sys]
interval = "0s"

[control]
socket = "{}"
"#,
        socket.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_accepts_its_configuration() {
        let config = moormq::config::Config::from_toml(&configuration(1883, Path::new("/tmp/x")), "test").unwrap();
        assert_eq!((config.shards, config.control.socket.as_deref()), (Some(2), Some("/tmp/x")));
    }
}
