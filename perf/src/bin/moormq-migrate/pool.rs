//! All connections, on one epoll: one read per connection and turn, one write for all it has to say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::{Connection, Event};
use moormq_perf_shared::under_test::Failure;

/// What one read takes at most, in bytes.
const READ: usize = 256 * 1024;
/// Connections served in one turn at most.
const EVENTS: usize = 1024;
/// Clients that are between CONNECT and ready at a time, where many are made ready.
const AT_A_TIME: usize = 64;
/// How long may pass without anything happening that should.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The connections.
pub struct Pool {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    connections: Vec<Option<Connection>>,
    /// Those with something to send, each once.
    listed: Vec<usize>,
    address: SocketAddr,
}

impl Pool {
    /// None yet, to a broker at `address`.
    pub fn new(address: SocketAddr) -> Result<Pool, Failure> {
        Ok(Pool {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); EVENTS],
            buffer: vec![0; READ],
            connections: Vec::new(),
            listed: Vec::new(),
            address,
        })
    }

    /// Connects a client; gives its number.
    pub fn open(&mut self, id: &str, clean: bool) -> Result<usize, Failure> {
        let connection = Connection::open(id, clean, self.address)?;
        let number = self.connections.len();
        self.epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        self.connections.push(Some(connection));
        self.list(number);
        Ok(number)
    }

    /// Connects clients, subscribes each to its filter if it has one, and waits until all that is done. Messages that come
    /// meanwhile go to `report`. Gives the number of the first; the others follow it.
    pub fn open_all(
        &mut self,
        clients: &[(&str, Option<String>)],
        clean: bool,
        mut report: impl FnMut(usize, Event<'_>),
    ) -> Result<usize, Failure> {
        let first = self.connections.len();
        let (mut opened, mut ready) = (0, 0);
        let mut last = Instant::now();
        while ready < clients.len() {
            while opened < clients.len() && opened - ready < AT_A_TIME {
                self.open(clients[opened].0, clean)?;
                opened += 1;
            }
            let mut connected = Vec::new();
            self.turn(Duration::from_millis(100), |number, event| match event {
                Event::Connected { .. } => connected.push(number),
                Event::Subscribed => ready += 1,
                Event::Message { .. } => report(number, event),
            })?;
            for number in connected {
                last = Instant::now();
                match &clients[number - first].1 {
                    Some(filter) => self.with_client(number, |connection| connection.subscribe(filter)),
                    None => ready += 1,
                }
            }
            if last.elapsed() > PATIENCE {
                return Err(format!("{} clients get no answer", opened - ready).into());
            }
        }
        Ok(first)
    }

    /// Has a client say something, if it is connected.
    pub fn with_client(&mut self, number: usize, what: impl FnOnce(&mut Connection)) {
        if let Some(connection) = &mut self.connections[number] {
            what(connection);
            self.list(number);
        }
    }

    fn list(&mut self, number: usize) {
        if let Some(connection) = &mut self.connections[number]
            && !connection.listed
            && !connection.blocked
        {
            connection.listed = true;
            self.listed.push(number);
        }
    }

    /// Messages of a client that are not acknowledged.
    pub fn in_flight(&self, number: usize) -> usize {
        self.connections[number].as_ref().map_or(0, |connection| connection.in_flight)
    }

    /// Sends what there is to say, waits at most `timeout` for something to come, and takes it in.
    pub fn turn(&mut self, timeout: Duration, mut report: impl FnMut(usize, Event<'_>)) -> Result<(), Failure> {
        self.flush()?;
        let count = self.epoll.wait(&mut self.events, EpollTimeout::try_from(timeout)?)?;
        for at in 0..count {
            let (number, flags) = (self.events[at].data() as usize, self.events[at].events());
            let Some(connection) = &mut self.connections[number] else { continue };
            if flags != EpollFlags::EPOLLOUT {
                connection.receive(&mut self.buffer, |event| report(number, event))?;
            }
            if flags.contains(EpollFlags::EPOLLOUT) {
                connection.blocked = false;
            }
            if connection.has_output() {
                self.list(number);
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        for number in std::mem::take(&mut self.listed) {
            let Some(connection) = &mut self.connections[number] else { continue };
            connection.listed = false;
            connection.send()?;
            let wanted =
                if connection.blocked { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            if connection.blocked != connection.waits {
                connection.waits = connection.blocked;
                self.epoll.modify(&connection.stream, &mut EpollEvent::new(wanted, number as u64))?;
            }
        }
        Ok(())
    }

    /// Says DISCONNECT for a client and closes its connection.
    pub fn close(&mut self, number: usize) -> Result<(), Failure> {
        self.with_client(number, Connection::disconnect);
        self.flush()?;
        self.connections[number] = None;
        Ok(())
    }
}
