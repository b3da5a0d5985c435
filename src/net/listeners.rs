//! The listening sockets of one shard, and their accept operations.
//!
//! Owns the listening sockets. Accepting pauses while the shard is full, and for [`ACCEPT_RETRY`] when the system has
//! no descriptors or memory left. Clients then wait in the kernel's backlog.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, TcpKeepalive, Type};

use super::ring::Ring;
use crate::time::Time;

/// The pause of a listener that could not accept, unless a connection closes before.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often the kernel asks for a silent peer before it gives up.
const PROBES: u32 = 5;

/// A listening TCP socket of one shard. Each shard opens one for the same address, and the kernel spreads connections
/// over them. At most `backlog` connections wait to be accepted. An IPv6 address takes IPv6 only.
///
/// Accepted sockets inherit TCP_NODELAY and SO_KEEPALIVE from it, which saves system calls per connection. With `keep_alive`
/// the kernel asks for a peer that has been silent for that long, and ends the connection when it has asked
/// five times in vain, a tenth of that time apart.
///
/// # Errors
///
/// The address is used by another program or is not one of this machine, or the port needs a permission.
pub fn listen(address: SocketAddr, backlog: u32, keep_alive: Option<Duration>) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(idle) = keep_alive {
        let interval = (idle / 10).max(Duration::from_secs(1));
        let probing = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(PROBES);
        socket.set_tcp_keepalive(&probing)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Checks that no program listens on `address`. [`listen`] does not notice another program of the same user that shares
/// its address in the same way, such as a second broker: each of them would get a part of the clients.
///
/// # Errors
///
/// As for [`listen`].
pub fn check_free(address: SocketAddr) -> io::Result<()> {
    tcp_socket(address)?.bind(&address.into())
}

/// A socket that can be bound although connections of an earlier program linger at `address` (SO_REUSEADDR).
fn tcp_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

struct Listener {
    socket: OwnedFd,
    /// An accept is outstanding.
    armed: bool,
    /// The accept is being cancelled.
    cancelling: bool,
    /// The earliest time of the next accept.
    paused_until: Time,
    /// The last accept failed, and that has been logged.
    failing: bool,
}

/// The listeners of a shard, by number.
pub(super) struct Listeners {
    all: Vec<Listener>,
    closing: bool,
}

impl Listeners {
    /// Listeners with these sockets, which must be blocking ones.
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        let paused_until = Time::ZERO;
        let listener = |socket| Listener { socket, armed: false, cancelling: false, paused_until, failing: false };
        Listeners { all: sockets.into_iter().map(listener).collect(), closing: false }
    }

    /// Arms accepts while there is `room` for connections; cancels them while there is none.
    pub fn steer<P: AsRef<[u8]>>(&mut self, ring: &mut Ring<P>, room: bool, now: Time) {
        let accepting = room && !self.closing;
        for (number, listener) in self.all.iter_mut().enumerate() {
            if accepting && !listener.armed && now >= listener.paused_until {
                ring.accept(number, listener.socket.as_fd());
                listener.armed = true;
            } else if !accepting && listener.armed && !listener.cancelling {
                ring.cancel_accept(number);
                listener.cancelling = true;
            }
        }
        if self.closing && self.all.iter().all(|listener| !listener.armed) {
            self.all.clear();
        }
    }

    /// Stops accepting for good. The sockets are closed when their accepts have ended.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Ends the pauses: a connection has closed, so there may be descriptors and memory again.
    pub fn relieve(&mut self) {
        for listener in &mut self.all {
            listener.paused_until = Time::ZERO;
        }
    }

    /// Records the completion of an accept. The accept has ended unless `more` follow.
    pub fn accepted(&mut self, number: usize, error: Option<&io::Error>, more: bool, now: Time) {
        let Some(listener) = self.all.get_mut(number) else { return };
        if !more {
            (listener.armed, listener.cancelling) = (false, false);
        }
        match error.map(|error| (error, error.raw_os_error())) {
            None => listener.failing = false,
            // The accept was cancelled, or the client has closed the connection already.
            Some((_, Some(libc::ECANCELED | libc::ECONNABORTED | libc::EPROTO | libc::EINTR))) => {}
            Some((error, _)) => {
                listener.paused_until = now + ACCEPT_RETRY;
                if !listener.failing {
                    tracing::warn!(listener = number, %error, "cannot accept connections; trying again until it works");
                }
                listener.failing = true;
            }
        }
    }

    /// The end of the first pause.
    pub fn next_deadline(&self) -> Time {
        let pausing = self.all.iter().filter(|listener| !listener.armed && listener.paused_until > Time::ZERO);
        pausing.map(|listener| listener.paused_until).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ring::{Completion, RingSize};
    use crate::net::ring_wakeup::Eventfd;
    use socket2::SockRef;
    use std::net::TcpStream;

    const NOW: Time = Time::from_millis(1000);

    fn listener() -> (Listeners, SocketAddr, Ring<Vec<u8>>) {
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 16, Some(Duration::from_secs(60))).unwrap();
        let address = SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap();
        let size = RingSize { submissions: 8, completions: 8, buffers: 1, buffer_bytes: 64 };
        (Listeners::new(vec![socket]), address, Ring::new(size, Eventfd::new().unwrap().as_fd()).unwrap())
    }

    /// Waits for the next accept to complete, and hands it in.
    fn accept(listeners: &mut Listeners, ring: &mut Ring<Vec<u8>>) -> bool {
        loop {
            ring.wait(None).unwrap();
            if let Some(Completion::Accepted { listener, result, more }) = ring.next_completion() {
                listeners.accepted(listener, result.as_ref().err(), more, NOW);
                return result.is_ok();
            }
        }
    }

    #[test]
    fn accepted_sockets_are_kept_alive() {
        let (mut listeners, address, mut ring) = listener();
        listeners.steer(&mut ring, true, NOW);
        let _client = TcpStream::connect(address).unwrap();
        let accepted = loop {
            ring.wait(None).unwrap();
            if let Some(Completion::Accepted { result, .. }) = ring.next_completion() {
                break result.unwrap();
            }
        };
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap() && accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(6));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), PROBES);
    }

    #[test]
    fn accepting_pauses_without_room_and_goes_on_with_some() {
        let (mut listeners, address, mut ring) = listener();
        listeners.steer(&mut ring, true, NOW);
        let _first = TcpStream::connect(address).unwrap();
        assert!(accept(&mut listeners, &mut ring));
        listeners.steer(&mut ring, false, NOW);
        assert!(!accept(&mut listeners, &mut ring), "cancelled");
        assert!(!listeners.all[0].armed && listeners.next_deadline() == Time::NEVER);
        let _second = TcpStream::connect(address).unwrap();
        listeners.steer(&mut ring, true, NOW);
        assert!(accept(&mut listeners, &mut ring));
    }

    #[test]
    fn without_descriptors_a_listener_pauses_until_a_connection_closes() {
        let (mut listeners, _, mut ring) = listener();
        let exhausted = io::Error::from_raw_os_error(libc::EMFILE);
        listeners.steer(&mut ring, true, NOW);
        listeners.accepted(0, Some(&exhausted), false, NOW);
        assert_eq!(listeners.next_deadline(), NOW + ACCEPT_RETRY);
        listeners.steer(&mut ring, true, NOW);
        assert!(!listeners.all[0].armed);
        listeners.relieve();
        listeners.steer(&mut ring, true, NOW);
        assert!(listeners.all[0].armed);
        listeners.accepted(0, Some(&exhausted), false, NOW);
        listeners.steer(&mut ring, true, NOW + ACCEPT_RETRY);
        assert!(listeners.all[0].armed);
    }

    #[test]
    fn a_client_that_came_and_went_is_no_reason_to_pause() {
        let (mut listeners, _, mut ring) = listener();
        listeners.steer(&mut ring, true, NOW);
        listeners.accepted(0, Some(&io::Error::from_raw_os_error(libc::ECONNABORTED)), false, NOW);
        assert_eq!(listeners.next_deadline(), Time::NEVER);
        listeners.steer(&mut ring, true, NOW);
        assert!(listeners.all[0].armed);
    }

    #[test]
    fn a_closed_listener_is_gone_when_its_accept_is_over() {
        let (mut listeners, address, mut ring) = listener();
        listeners.steer(&mut ring, true, NOW);
        listeners.close();
        listeners.steer(&mut ring, true, NOW);
        assert!(!accept(&mut listeners, &mut ring));
        listeners.steer(&mut ring, true, NOW);
        assert!(TcpStream::connect(address).is_err());
    }
}
