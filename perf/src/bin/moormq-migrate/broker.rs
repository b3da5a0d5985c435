//! The broker under test: the real program, two shards, its control socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use moormq::control::client::ask;
use moormq::control::protocol::{Answer, ClientName, Command};
use moormq::control::status::{Berth, Moved};
use nix::time::ClockId;
use nix::unistd::Pid;

use moormq_perf_shared::under_test::{Failure, UnderTest};

/// The control socket, in the folder of the broker.
const SOCKET: &str = "control";
/// How long a move may take, in seconds.
const MOVE_TIMEOUT: f64 = 600.0;
/// Clients that are looked up with one command.
const BATCH: usize = 4000;

/// A running broker.
pub struct Broker(UnderTest);

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
    /// Starts `program`, and waits until it takes commands.
    pub fn start(program: &Path) -> Result<Broker, Failure> {
        let configure = |port, folder: &Path| Ok(configuration(port, &folder.join(SOCKET)));
        let mut broker = UnderTest::start("moormq-migrate", Program::new(program), configure)?;
        broker.wait_until(|folder| folder.join(SOCKET).exists())?;
        Ok(Broker(broker))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    fn socket(&self) -> PathBuf {
        self.0.folder().join(SOCKET)
    }

    /// The processor time that it took so far, all its threads together.
    fn cpu(&self) -> Result<Duration, Failure> {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.0.pid() as i32))?;
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
max_online_messages = "unlimited"
max_offline_messages = "unlimited"
max_queue_bytes = "unlimited"
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
