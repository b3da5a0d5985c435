//! The cores of the shards and the sockets of the listeners: the part of the configuration that depends on the machine.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use crate::config::{Config, ConfigErrors, CpuSet, ListenerConfig};
use crate::control::socket::SocketError;
use crate::net::descriptors::{make_room, raise_limit};
use crate::net::listeners::{check_free, listen};
use crate::net::memory::max_memory;
use crate::net::places::REFUSED_AT_A_TIME;
use crate::net::probe::StartError as SystemError;
use crate::net::ring::RingSize;
use crate::net::sockets::SocketLimits;
use crate::net::worker::WorkerLimits;
use crate::sharding::MAX_SHARDS;
use crate::storage::StorageError;

/// Descriptors that each shard needs beside those of its sockets: rings, eventfds, pipes.
const OF_SHARD: usize = 24;
/// Descriptors for operators, files that are read again, and what else comes and goes.
const RESERVE: usize = 32;
/// With fewer connections than this the broker does not start.
const FEWEST_SOCKETS: usize = 16;

/// The reason why a broker did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has a fault.
    Config(ConfigErrors),
    /// A listener's address cannot be listened on.
    Listen {
        /// The name of the listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// The control socket cannot be opened.
    Control(SocketError),
    /// The store cannot be used.
    Storage(StorageError),
    /// The system lacks something that is needed.
    System(SystemError),
    /// The system has no thread, memory or file descriptor left.
    Resources(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Listen { name, address, error } => {
                write!(f, "listener {name}: cannot listen on {address}: {error}{}", remedy(error.kind()))
            }
            StartError::Control(error) => error.fmt(f),
            StartError::Storage(error) => error.fmt(f),
            StartError::System(error) => error.fmt(f),
            StartError::Resources(error) => write!(f, "the system is out of resources: {error}"),
        }
    }
}

/// Advice for an error of listening on an address, as the end of a sentence.
pub(super) fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => ". Another program listens there: stop it, or set another address",
        io::ErrorKind::PermissionDenied => {
            ". A port below 1024 takes CAP_NET_BIND_SERVICE: grant it, or set another port"
        }
        io::ErrorKind::AddrNotAvailable => ". This machine does not have the address: `ip address` shows those it has",
        _ => "",
    }
}

impl std::error::Error for StartError {}

/// The assignment of shards to cores, and the limits of a shard.
pub(super) struct Layout {
    /// The core of each shard.
    pub cpus: Vec<usize>,
    pub limits: WorkerLimits,
    /// The sockets that the process has descriptors for, all shards together.
    pub sockets: usize,
}

impl Layout {
    /// The layout that `config` asks for on this machine.
    pub fn of(config: &Config) -> Result<Self, StartError> {
        let allowed = allowed_cpus().map_err(StartError::Resources)?;
        let cores = config.cpus.as_ref().unwrap_or(&allowed).cores();
        if let Some(&cpu) = cores.iter().find(|cpu| !allowed.cores().contains(cpu)) {
            let reason = format!("this process may use cores {allowed} only");
            return Err(StartError::System(SystemError::Core { cpu, reason }));
        }
        let shards = shards_of(config).map_err(StartError::Resources)?;
        let runtime = &config.runtime;
        let descriptors = raise_limit().map_err(StartError::Resources)?;
        let reserve = open_descriptors() + RESERVE + shards * (OF_SHARD + config.listeners.len());
        let sockets = descriptors.saturating_sub(reserve);
        if sockets < FEWEST_SOCKETS {
            let reason = format!(
                "the limit on open files (`ulimit -n`) is {descriptors}, and {reserve} are needed beside those of clients"
            );
            return Err(StartError::Resources(io::Error::other(reason)));
        }
        if let Some(wanted) = config.limits.max_connections.filter(|wanted| *wanted > sockets) {
            tracing::warn!(
                wanted,
                sockets,
                "limits.max_connections is more than the limit on open files leaves room for"
            );
        }
        let used =
            config.limits.max_connections.map_or(descriptors, |most| most.saturating_add(reserve + REFUSED_AT_A_TIME));
        make_room(used.min(descriptors));
        Ok(Layout {
            cpus: (0..shards).map(|shard| cores[shard % cores.len()]).collect(),
            limits: WorkerLimits {
                max_memory: max_memory(&config.limits),
                sockets: SocketLimits { ring: ring_size(config), ..SocketLimits::default() },
                spin: runtime.spin,
                shutdown_timeout: runtime.shutdown_timeout,
            },
            sockets,
        })
    }
}

/// The size of each shard's ring.
pub(super) fn ring_size(config: &Config) -> RingSize {
    let runtime = &config.runtime;
    RingSize {
        submissions: runtime.ring_entries as u32,
        completions: runtime.ring_entries as u32 * 8,
        buffers: runtime.receive_buffers as u16,
        buffer_bytes: runtime.receive_buffer_size as u32,
    }
}

/// The descriptors that this process has open.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// How many shards a broker with this configuration has on this machine.
///
/// # Errors
///
/// The system does not tell which cores the process may use.
pub fn shards_of(config: &Config) -> io::Result<usize> {
    let cores = match &config.cpus {
        Some(cpus) => cpus.cores().len(),
        None => allowed_cpus()?.cores().len(),
    };
    Ok(config.shards.unwrap_or(cores).min(MAX_SHARDS))
}

/// The cores that this process may run on.
pub(super) fn allowed_cpus() -> io::Result<CpuSet> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let unreadable = || io::Error::other("/proc/self/status does not tell which cores may be used");
    list.and_then(|list| list.trim().parse().ok()).ok_or_else(unreadable)
}

/// The number of attempts to bind an address that is in use.
const ATTEMPTS: usize = 50;
/// The time between two attempts: one second in all.
const PAUSE: Duration = Duration::from_millis(20);

/// The listeners of a broker.
pub(super) struct Listening {
    /// By shard: a socket for each listener.
    pub sockets: Vec<Vec<OwnedFd>>,
    /// The names and addresses of the listeners.
    pub addresses: Vec<(String, SocketAddr)>,
}

/// Opens every listener once for each shard.
pub(super) fn open_listeners(config: &Config, shards: usize) -> Result<Listening, StartError> {
    let mut sockets: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let failed = |listener: &ListenerConfig, address, error| {
        let name = listener.name.clone();
        StartError::Listen { name, address, error }
    };
    for listener in &config.listeners {
        let free = retry_while_in_use(|| check_free(listener.address), PAUSE);
        free.map_err(|error| failed(listener, listener.address, error))?;
    }
    for listener in &config.listeners {
        let mut address = listener.address;
        for shard in &mut sockets {
            let socket = listen(address, config.runtime.listen_backlog, listener.tcp_keep_alive);
            let socket = socket.map_err(|error| failed(listener, address, error))?;
            // Port 0 is chosen by the system once, for all shards.
            address = local_address(&socket).map_err(|error| failed(listener, address, error))?;
            shard.push(socket);
        }
        addresses.push((listener.name.clone(), address));
    }
    Ok(Listening { sockets, addresses })
}

/// Repeats `attempt` while the address is in use, up to [`ATTEMPTS`] times. Reason: after a broker was killed, the
/// kernel closes the sockets of its rings a moment after the process has ended. A broker that is started at once may
/// find them in use.
fn retry_while_in_use(mut attempt: impl FnMut() -> io::Result<()>, pause: Duration) -> io::Result<()> {
    for tries in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if tries == 1 {
                    tracing::info!("an address to listen on is in use: waiting for it, a second at most");
                }
                thread::sleep(pause);
            }
            outcome => return outcome,
        }
    }
    attempt()
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = socket2::SockRef::from(socket).local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::other("a listener has no IP address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome, and the number of attempts, for an address that is in use `in_use` times and then fails with
    /// `then`.
    fn tried(mut in_use: usize, then: Option<io::ErrorKind>) -> (Option<io::ErrorKind>, usize) {
        let mut tries = 0;
        let outcome = retry_while_in_use(
            || {
                tries += 1;
                match (in_use.checked_sub(1), then) {
                    (Some(left), _) => {
                        in_use = left;
                        Err(io::ErrorKind::AddrInUse.into())
                    }
                    (None, Some(kind)) => Err(kind.into()),
                    (None, None) => Ok(()),
                }
            },
            Duration::ZERO,
        );
        (outcome.err().map(|error| error.kind()), tries)
    }

    #[test]
    fn an_address_that_is_in_use_is_tried_again_for_a_while() {
        assert_eq!(tried(0, None), (None, 1));
        assert_eq!(tried(3, None), (None, 4));
        assert_eq!(tried(ATTEMPTS - 1, None), (None, ATTEMPTS));
        assert_eq!(tried(ATTEMPTS, None), (Some(io::ErrorKind::AddrInUse), ATTEMPTS));
        assert_eq!(tried(1, Some(io::ErrorKind::PermissionDenied)), (Some(io::ErrorKind::PermissionDenied), 2));
    }
}
