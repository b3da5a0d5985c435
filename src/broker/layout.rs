//! Where shards run and where they listen: configuration, as far as it depends on the machine.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use crate::config::{Config, ConfigError, CpuSet, ListenerConfig};
use crate::control::socket::SocketError;
use crate::net::descriptors::{make_room, raise_limit};
use crate::net::listeners::{check_free, listen};
use crate::net::probe::StartError as SystemError;
use crate::net::ring::RingSize;
use crate::net::sockets::SocketLimits;
use crate::net::worker::WorkerLimits;
use crate::shard::MAX_SHARDS;

/// Descriptors for anything but connections: rings, listeners, files.
const NOT_CONNECTIONS: usize = 256;

/// Why a broker did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is not possible.
    Config(ConfigError),
    /// A listener's address cannot be listened on.
    Listen {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The control socket cannot be had.
    Control(SocketError),
    /// The system lacks something that is needed.
    System(SystemError),
    /// A thread, queue or file descriptor could not be had.
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
            StartError::System(error) => error.fmt(f),
            StartError::Resources(error) => write!(f, "the system is out of resources: {error}"),
        }
    }
}

/// What can be done about an address on which the system does not let the broker listen, as the end of a sentence.
fn remedy(kind: io::ErrorKind) -> &'static str {
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

/// How shards are laid out on cores.
pub(super) struct Layout {
    /// The core of each shard.
    pub cpus: Vec<usize>,
    pub limits: WorkerLimits,
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
        let shards = config.shards.unwrap_or(cores.len()).min(MAX_SHARDS);
        let runtime = &config.runtime;
        let descriptors = raise_limit().map_err(StartError::Resources)?;
        let used = config.limits.max_connections.map_or(descriptors, |most| most.saturating_add(NOT_CONNECTIONS));
        make_room(used.min(descriptors));
        let per_shard = config.limits.max_connections.map_or(descriptors, |most| most.div_ceil(shards));
        Ok(Layout {
            cpus: (0..shards).map(|shard| cores[shard % cores.len()]).collect(),
            limits: WorkerLimits {
                sockets: SocketLimits {
                    ring: RingSize {
                        submissions: runtime.ring_entries as u32,
                        completions: runtime.ring_entries as u32 * 8,
                        buffers: runtime.receive_buffers as u16,
                        buffer_bytes: runtime.receive_buffer_size as u32,
                    },
                    max_connections: per_shard.min(SocketLimits::default().max_connections),
                    ..SocketLimits::default()
                },
                spin: runtime.spin,
                shutdown_timeout: runtime.shutdown_timeout,
            },
        })
    }
}

/// The cores that this process may run on.
fn allowed_cpus() -> io::Result<CpuSet> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let unreadable = || io::Error::other("/proc/self/status does not tell which cores may be used");
    list.and_then(|list| list.trim().parse().ok()).ok_or_else(unreadable)
}

/// How often an address is tried that is in use, and how long after each other: one second in all.
const ATTEMPTS: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The listeners of a broker.
pub(super) struct Listening {
    /// For each shard, a socket for each listener.
    pub sockets: Vec<Vec<OwnedFd>>,
    /// Their names, and where they listen.
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
        let free = patiently(|| check_free(listener.address), PAUSE);
        free.map_err(|error| failed(listener, listener.address, error))?;
    }
    for listener in &config.listeners {
        let mut address = listener.address;
        for shard in &mut sockets {
            let socket = listen(address, config.runtime.listen_backlog);
            let socket = socket.map_err(|error| failed(listener, address, error))?;
            // Port 0 is chosen by the system once, for all shards.
            address = local_address(&socket).map_err(|error| failed(listener, address, error))?;
            shard.push(socket);
        }
        addresses.push((listener.name.clone(), address));
    }
    Ok(Listening { sockets, addresses })
}

/// Tries again for a while as long as the address is in use: of a broker that was killed, the kernel closes what its rings had
/// in hand a moment after the process is gone, and whoever starts it again does so at once.
fn patiently(mut attempt: impl FnMut() -> io::Result<()>, pause: Duration) -> io::Result<()> {
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

    /// What comes of addresses that are in use so many times, or fail for another reason, and how often they are tried.
    fn tried(mut in_use: usize, then: Option<io::ErrorKind>) -> (Option<io::ErrorKind>, usize) {
        let mut tries = 0;
        let outcome = patiently(
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
