//! The event loop: all connections on one thread, one read per connection and turn, one write for all its output.

use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::client::{Client, Event};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::stamp::Stamp;

/// What one read takes at most, in bytes.
const READ: usize = 256 * 1024;

/// What is kept of a packet that has not arrived whole, in bytes: more than the largest packet.
const PARTIAL: usize = 1024 * 1024;

/// Connections served in one turn at most.
const EVENTS: usize = 1024;

/// How long all clients may take to get ready.
const OPENING_TIMEOUT: Duration = Duration::from_secs(120);

/// The event loop and its connections.
pub struct Engine {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    /// Connections with something to send, each once.
    listed: Vec<usize>,
    /// How long each connection took to get ready, in the order in which they did.
    answers: Vec<Duration>,
    interrupt: Interrupt,
}

impl Engine {
    /// An event loop without connections, which ends when it is interrupted.
    ///
    /// # Errors
    ///
    /// If the kernel has no epoll instance to spare.
    pub fn new(interrupt: &Interrupt) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| system("epoll_create", errno))?;
        Ok(Engine {
            epoll,
            events: vec![EpollEvent::empty(); EVENTS],
            buffer: vec![0; PARTIAL + READ],
            connections: Vec::new(),
            listed: Vec::new(),
            answers: Vec::new(),
            interrupt: interrupt.clone(),
        })
    }

    /// Connects clients to the broker at `address`, `at_a_time` of them between CONNECT and ready, and returns when all are ready. They
    /// are numbered in the order in which they are given.
    ///
    /// # Errors
    ///
    /// If one of them is refused, or all of them take longer than two minutes.
    pub fn open(
        &mut self,
        clients: impl IntoIterator<Item = Client>,
        address: SocketAddr,
        at_a_time: usize,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + OPENING_TIMEOUT;
        let mut clients = clients.into_iter();
        let mut ready = self.connections.len();
        loop {
            while self.connections.len() - ready < at_a_time {
                let Some(client) = clients.next() else { break };
                self.add(client, address)?;
            }
            if ready == self.connections.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let waiting = self.connections.len() - ready;
                return Err(Failure::Broker(format!("{waiting} clients get no answer, {ready} got one")));
            }
            self.flush()?;
            self.turn(Some(Duration::from_millis(100)), |_, event| ready += usize::from(event == Event::Ready))?;
        }
    }

    fn add(&mut self, client: Client, address: SocketAddr) -> Result<(), Failure> {
        let index = self.connections.len();
        if let Some(old) = client.takes_over() {
            self.connections[old].retire();
        }
        let mut connection = Connection::open(client, index, address)?;
        self.epoll
            .add(connection.stream(), EpollEvent::new(EpollFlags::EPOLLIN, index as u64))
            .map_err(|errno| system("epoll_ctl", errno))?;
        connection.listed = true;
        self.connections.push(connection);
        self.listed.push(index);
        Ok(())
    }

    /// Takes in what arrived, and waits for it at most `timeout`; none polls without a wait. Calls `report` for each event, with the number
    /// of its client. What the clients answer is sent by the next [`flush`](Engine::flush).
    ///
    /// # Errors
    ///
    /// What a broker did wrong; an interruption.
    pub fn turn(&mut self, timeout: Option<Duration>, mut report: impl FnMut(usize, Event<'_>)) -> Result<(), Failure> {
        self.interrupt.check()?;
        let timeout = match timeout {
            // Rounded up: a wait that ends just before a deadline would have to be repeated.
            Some(timeout) => EpollTimeout::from((timeout.as_millis() + 1).min(1000) as u16),
            None => EpollTimeout::ZERO,
        };
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(system("epoll_wait", errno)),
        };
        for at in 0..count {
            let (index, flags) = (self.events[at].data() as usize, self.events[at].events());
            let connection = &mut self.connections[index];
            if flags != EpollFlags::EPOLLOUT {
                let mut ready = false;
                connection.receive(&mut self.buffer, READ, |event| {
                    ready |= event == Event::Ready;
                    report(index, event);
                })?;
                if ready {
                    self.answers.push(connection.opened.elapsed());
                }
                if connection.ended || ready && connection.client().is_stuck() {
                    self.epoll.delete(connection.stream()).map_err(|errno| system("epoll_ctl", errno))?;
                }
                if connection.ended {
                    // Our end is closed too, so that the port is free. The far end is gone: nothing can fail that matters.
                    let _ = connection.stream().shutdown(Shutdown::Both);
                    continue;
                }
            }
            let wants_to_send =
                connection.has_output() && (!connection.blocked || flags.contains(EpollFlags::EPOLLOUT));
            if wants_to_send && !connection.listed {
                connection.listed = true;
                self.listed.push(index);
            }
        }
        Ok(())
    }

    /// Publishes a message of client number `index`. False if that has to wait for an acknowledgement.
    #[inline]
    pub fn publish(&mut self, index: usize, stamp: Stamp) -> bool {
        let connection = &mut self.connections[index];
        let published = connection.publish(stamp);
        if published && !connection.listed && !connection.blocked {
            connection.listed = true;
            self.listed.push(index);
        }
        published
    }

    /// Pings for client number `index`.
    pub fn ping(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.ping();
        if !connection.listed && !connection.blocked {
            connection.listed = true;
            self.listed.push(index);
        }
    }

    /// Sends the output of clients, one write for each.
    ///
    /// # Errors
    ///
    /// If a connection broke.
    pub fn flush(&mut self) -> Result<(), Failure> {
        for index in self.listed.drain(..) {
            let connection = &mut self.connections[index];
            connection.listed = false;
            if connection.ended {
                continue;
            }
            let was_blocked = connection.blocked;
            connection.send()?;
            if connection.blocked != was_blocked {
                let flags = match connection.blocked {
                    true => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
                    false => EpollFlags::EPOLLIN,
                };
                self.epoll
                    .modify(connection.stream(), &mut EpollEvent::new(flags, index as u64))
                    .map_err(|errno| system("epoll_ctl", errno))?;
            }
        }
        Ok(())
    }

    /// How long each connection took from connect until it was ready, in the order in which they were.
    pub fn answers(&self) -> &[Duration] {
        &self.answers
    }

    /// How many connections were to end because others took their sessions over, and have not ended.
    pub fn lingering(&self) -> usize {
        self.connections.iter().filter(|connection| connection.client().is_retired() && !connection.ended).count()
    }

    /// How many messages of all clients are not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        self.connections.iter().map(|connection| connection.client().in_flight()).sum()
    }

    /// Sends DISCONNECT for every client and closes the connections. Does not wait for the broker.
    pub fn close(mut self) {
        for connection in &mut self.connections {
            connection.disconnect();
            // The broker may be gone already, which makes no difference now.
            let _ = connection.send();
        }
    }
}

fn system(what: &str, errno: Errno) -> Failure {
    Failure::System(format!("{what}: {errno}"))
}
