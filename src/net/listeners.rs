//! The listening sockets of one shard: when their accepts are armed, and when they pause.
//!
//! Owns the listening sockets. Accepting pauses while the shard is full and, for a moment, when the system has no
//! descriptors or memory left; clients then wait in the kernel's backlog.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use super::ring::Ring;
use crate::time::Time;

/// How long a listener that could not accept waits, unless a connection closes before.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listening TCP socket for one of several shards, each of which opens its own for the same address; the kernel spreads
/// the connections over them. `backlog` connections may wait to be accepted. An IPv6 address takes IPv6 only.
///
/// Accepted sockets inherit TCP_NODELAY from it, so that setting it costs no system call per connection.
///
/// # Errors
///
/// When the address cannot be listened on: taken by another program, not of this machine, a port that is not permitted.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Makes sure that nobody listens on `address`. [`listen`] would not notice another program of the same user that shares
/// its address too, a second broker above all: each of them would get some of the clients.
///
/// # Errors
///
/// As for [`listen`].
pub fn check_free(address: SocketAddr) -> io::Result<()> {
    tcp_socket(address)?.bind(&address.into())
}

/// A socket that does not mind what connections of earlier programs have left behind at `address`.
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
    /// It is being cancelled.
    cancelling: bool,
    /// Not to be armed before.
    rest_until: Time,
    /// It could not accept, and that has been logged.
    failing: bool,
}

/// The listeners of a shard, by number.
pub(super) struct Listeners {
    all: Vec<Listener>,
    closing: bool,
}

impl Listeners {
    /// Listeners over these sockets, which must block.
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        let rest_until = Time::ZERO;
        let listener = |socket| Listener { socket, armed: false, cancelling: false, rest_until, failing: false };
        Listeners { all: sockets.into_iter().map(listener).collect(), closing: false }
    }

    /// Arms the accepts that may be, as long as there is `room` for connections, or cancels those that are armed.
    pub fn steer<P: AsRef<[u8]>>(&mut self, ring: &mut Ring<P>, room: bool, now: Time) {
        let accepting = room && !self.closing;
        for (number, listener) in self.all.iter_mut().enumerate() {
            if accepting && !listener.armed && now >= listener.rest_until {
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

    /// Stops accepting for good. The sockets are closed when their accepts are over.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// A connection closed: what a listener lacked may be there again.
    pub fn relieve(&mut self) {
        for listener in &mut self.all {
            listener.rest_until = Time::ZERO;
        }
    }

    /// Takes note that an accept is over, unless `more` follow, and how it went.
    pub fn accepted(&mut self, number: usize, error: Option<&io::Error>, more: bool, now: Time) {
        let Some(listener) = self.all.get_mut(number) else { return };
        if !more {
            (listener.armed, listener.cancelling) = (false, false);
        }
        match error.map(|error| (error, error.raw_os_error())) {
            None => listener.failing = false,
            // Our own doing, or one client that came and went.
            Some((_, Some(libc::ECANCELED | libc::ECONNABORTED | libc::EPROTO | libc::EINTR))) => {}
            Some((error, _)) => {
                listener.rest_until = now + ACCEPT_RETRY;
                if !listener.failing {
                    tracing::warn!(listener = number, %error, "cannot accept connections; trying again until it works");
                }
                listener.failing = true;
            }
        }
    }

    /// When a resting listener is to be armed again.
    pub fn next_deadline(&self) -> Time {
        let resting = self.all.iter().filter(|listener| !listener.armed && listener.rest_until > Time::ZERO);
        resting.map(|listener| listener.rest_until).min().unwrap_or(Time::NEVER)
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
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 16).unwrap();
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
    fn without_descriptors_a_listener_rests_until_a_connection_closes() {
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
    fn a_client_that_came_and_went_is_no_reason_to_rest() {
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
