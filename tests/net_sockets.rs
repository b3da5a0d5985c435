//! Sockets over real loopback connections, driven by an echo server.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use moormq::client::ConnectionId;
use moormq::config::Limit;
use moormq::net::clock::Clock;
use moormq::net::output::{Splice, WireBuffer};
use moormq::net::ring::{Completion, Ring, RingSize};
use moormq::net::ring_wakeup::Eventfd;
use moormq::net::sockets::{DetachedSocket, Event, SocketLimits, Sockets, listen};
use moormq::sharding::Quota;
use socket2::SockRef;

type Payload = Arc<[u8]>;

const MINUTE: Duration = Duration::from_secs(60);

/// A fresh executor, because that is where a shard lives; and a panic of the test is a panic here.
fn in_executor(test: impl FnOnce() + Send + 'static) {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(0).spawn(move || async move { test() });
    executor.unwrap().join().unwrap();
}

fn limits() -> SocketLimits {
    let ring = RingSize { submissions: 64, completions: 256, buffers: 16, buffer_bytes: 4096 };
    SocketLimits { ring, max_connections: 10_000, flush_timeout: MINUTE, linger: MINUTE }
}

/// Echoes, and keeps what does not go out yet in one outbox per connection, as a core would.
struct Echo {
    sockets: Sockets<Payload>,
    clock: Clock,
    outboxes: HashMap<ConnectionId, Vec<u8>>,
    /// Connections that were accepted or adopted and have not ended.
    open: Vec<ConnectionId>,
    closed: usize,
    /// Payloads of at least this many bytes go out spliced, from where they are.
    splice_from: usize,
    /// It has connections open that their peers have closed.
    keeps_closed: bool,
    _bell: Eventfd,
}

impl Echo {
    fn new(limits: SocketLimits, listeners: Vec<OwnedFd>) -> Echo {
        let bell = Eventfd::new().unwrap();
        let sockets = Sockets::new(limits, listeners, bell.as_fd()).unwrap();
        let (outboxes, open) = (HashMap::new(), Vec::new());
        Echo {
            sockets,
            clock: Clock::start(),
            outboxes,
            open,
            closed: 0,
            splice_from: usize::MAX,
            keeps_closed: false,
            _bell: bell,
        }
    }

    /// One turn. Events that the echo has no answer to are returned.
    fn turn(&mut self) -> Vec<Event> {
        let now = self.clock.now();
        if self.sockets.has_work() {
            self.sockets.submit(now).unwrap();
        } else {
            self.sockets.wait(Some(Duration::from_millis(20)), now).unwrap();
        }
        let mut others = Vec::new();
        let mut dirty = Vec::new();
        while let Some(event) = self.sockets.next_event(now) {
            match event {
                Event::Accepted { conn, .. } => self.open.push(conn),
                Event::Received { conn, buffer } => {
                    let outbox = self.outboxes.entry(conn).or_default();
                    outbox.extend_from_slice(self.sockets.bytes(&buffer));
                    self.sockets.give_back(buffer);
                    dirty.push(conn);
                }
                Event::Sent { conn, emptied } => {
                    assert!(emptied.is_empty());
                    dirty.push(conn);
                }
                Event::Closed { conn } if !self.keeps_closed => {
                    self.sockets.close(conn, WireBuffer::default(), now);
                    self.open.retain(|open| *open != conn);
                    self.outboxes.remove(&conn);
                    self.closed += 1;
                }
                other => others.push(other),
            }
        }
        for conn in dirty {
            self.flush(conn);
        }
        others
    }

    fn flush(&mut self, conn: ConnectionId) {
        if self.sockets.is_sending(conn) || self.outboxes.get(&conn).is_none_or(Vec::is_empty) {
            return;
        }
        let bytes = std::mem::take(self.outboxes.get_mut(&conn).unwrap());
        let output = if bytes.len() < self.splice_from { WireBuffer::from(bytes) } else { spliced(&bytes) };
        self.sockets.send(conn, output);
    }

    /// Turns until `done`; the test hangs, and its runner says so, if that never comes.
    fn run_until(&mut self, mut done: impl FnMut(&mut Echo) -> bool) {
        while !done(self) {
            assert!(self.turn().is_empty(), "an event that nobody asked for");
        }
    }
}

/// The same bytes, cut into own bytes and payloads in turn.
fn spliced(bytes: &[u8]) -> WireBuffer<Payload> {
    let mut output = WireBuffer::default();
    for (number, piece) in bytes.chunks(1000).enumerate() {
        if number % 2 == 0 {
            output.bytes.extend_from_slice(piece);
        } else {
            output.splices.push(Splice { at: output.bytes.len(), payload: Arc::from(piece) });
        }
    }
    output
}

fn listener() -> (OwnedFd, SocketAddr) {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1024, None).unwrap();
    let address = SockRef::from(&listener).local_addr().unwrap().as_socket().unwrap();
    (listener, address)
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8).collect()
}

/// Sends `bytes` and reads them back, at the same time.
fn exchange(stream: &TcpStream, bytes: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = stream;
            stream.write_all(bytes).unwrap();
        });
        let mut back = vec![0; bytes.len()];
        let mut stream = stream;
        stream.read_exact(&mut back).unwrap();
        assert!(back == bytes, "other bytes came back");
    });
}

/// Runs `client` on a thread beside the echo until it is done.
fn with_client(echo: &mut Echo, client: impl FnOnce() + Send + 'static) {
    let client = thread::spawn(client);
    echo.run_until(|_| client.is_finished());
    client.join().unwrap();
}

#[test]
fn many_connections_share_few_buffers() {
    in_executor(|| {
        let (listener, address) = listener();
        let ring = RingSize { submissions: 8, completions: 16, buffers: 2, buffer_bytes: 64 };
        let mut echo = Echo::new(SocketLimits { ring, ..limits() }, vec![listener]);
        with_client(&mut echo, move || {
            let streams: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
            for round in 0..3 {
                for (number, mut stream) in streams.iter().enumerate() {
                    stream.write_all(&pattern(500, number + round)).unwrap();
                }
                for (number, mut stream) in streams.iter().enumerate() {
                    let mut back = vec![0; 500];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(back, pattern(500, number + round));
                }
            }
        });
        echo.run_until(|echo| echo.closed == 200 && echo.sockets.is_empty());
    });
}

#[test]
fn continuous_receives_survive_a_want_of_buffers() {
    in_executor(|| {
        let (listener, address) = listener();
        let ring = RingSize { submissions: 8, completions: 16, buffers: 4, buffer_bytes: 256 };
        let mut echo = Echo::new(SocketLimits { ring, ..limits() }, vec![listener]);
        let clients: Vec<_> = (0..20)
            .map(|seed| thread::spawn(move || exchange(&TcpStream::connect(address).unwrap(), &pattern(100_000, seed))))
            .collect();
        echo.run_until(|echo| echo.open.len() + echo.closed == 20);
        for conn in echo.open.clone() {
            echo.sockets.read_continuously(conn);
        }
        echo.run_until(|_| clients.iter().all(|client| client.is_finished()));
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

#[test]
fn short_sends_go_on_where_they_stopped() {
    in_executor(|| {
        let (listener, address) = listener();
        // Inherited by accepted sockets: the least the kernel allows, some 4 KiB.
        SockRef::from(&listener).set_send_buffer_size(1).unwrap();
        let mut echo = Echo::new(limits(), vec![listener]);
        for splice_from in [usize::MAX, 0] {
            echo.splice_from = splice_from;
            with_client(&mut echo, move || {
                exchange(&TcpStream::connect(address).unwrap(), &pattern(3_000_000, splice_from));
            });
        }
    });
}

#[test]
fn an_output_of_more_segments_than_one_send_takes_leaves_whole() {
    in_executor(|| {
        let (listener, address) = listener();
        let mut echo = Echo::new(limits(), vec![listener]);
        let client = thread::spawn(move || {
            let mut all = Vec::new();
            TcpStream::connect(address).unwrap().read_to_end(&mut all).unwrap();
            all
        });
        echo.run_until(|echo| echo.open.len() == 1);
        let conn = echo.open[0];
        let sent = pattern(5_000_000, 9);
        let now = echo.clock.now();
        echo.sockets.send(conn, spliced(&sent[..4_000_000]));
        echo.sockets.close(conn, spliced(&sent[4_000_000..]), now);
        echo.run_until(|_| client.is_finished());
        assert!(client.join().unwrap() == sent);
        echo.run_until(|echo| echo.sockets.is_empty());
        assert_eq!(echo.closed, 0, "a connection that was closed here brings no event");
    });
}

#[test]
fn accepted_sockets_do_not_delay() {
    in_executor(|| {
        let (listener, address) = listener();
        let mut echo = Echo::new(limits(), vec![listener]);
        let _client = TcpStream::connect(address).unwrap();
        echo.run_until(|echo| echo.open.len() == 1);
        echo.sockets.detach(echo.open[0]);
        let socket = detached(&mut echo);
        assert!(SockRef::from(&socket.fd).tcp_nodelay().unwrap());
    });
}

/// Turns until a connection is detached, which is the next event that the echo has no answer to.
fn detached(echo: &mut Echo) -> DetachedSocket {
    loop {
        if let Some(event) = echo.turn().into_iter().next() {
            let Event::Detached { socket, .. } = event else { panic!("unexpected {event:?}") };
            return socket;
        }
    }
}

#[test]
fn a_connection_moves_to_another_shard_with_what_it_has_not_read() {
    in_executor(|| {
        let (listener, address) = listener();
        let mut first = Echo::new(limits(), vec![listener]);
        let mut second = Echo::new(limits(), Vec::new());
        for continuously in [false, true] {
            let mut client = TcpStream::connect(address).unwrap();
            first.run_until(|first| first.open.len() == 1);
            let conn = first.open.pop().unwrap();
            if continuously {
                first.sockets.read_continuously(conn);
            }
            client.write_all(b"before").unwrap();
            first.run_until(|first| {
                first.outboxes.get(&conn).is_some_and(Vec::is_empty) && !first.sockets.is_sending(conn)
            });
            let mut back = [0; 6];
            client.read_exact(&mut back).unwrap();
            client.write_all(b"during").unwrap();
            first.sockets.detach(conn);
            let socket = detached(&mut first);
            assert!(first.sockets.is_empty());
            let (conn, unread) = second.sockets.adopt(socket).unwrap();
            second.outboxes.insert(conn, unread);
            second.flush(conn);
            second.sockets.read_continuously(conn);
            client.write_all(b"after!").unwrap();
            let mut back = [0; 12];
            let client = thread::spawn(move || {
                client.read_exact(&mut back).unwrap();
                back
            });
            second.run_until(|_| client.is_finished());
            assert_eq!(&client.join().unwrap(), b"duringafter!");
            second.run_until(|second| second.sockets.is_empty());
        }
    });
}

/// What it sent before is the core's to serve, on whichever shard it is then.
#[test]
fn a_connection_that_its_peer_has_closed_moves_and_its_end_is_found_again() {
    in_executor(|| {
        let mut second = Echo::new(limits(), Vec::new());
        // Closed before it leaves, and before that was found; closed in order, and reset.
        for (is_found, is_reset) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut first, mut client, conn) = one_that_is_read();
            client.write_all(b"last").unwrap();
            first.run_until(|first| first.outboxes.contains_key(&conn) && !first.sockets.is_sending(conn));
            if is_reset {
                SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            if is_found {
                first.keeps_closed = true;
                while first.turn().is_empty() {}
                first.keeps_closed = false;
            }
            first.sockets.detach(conn);
            let socket = detached(&mut first);
            assert!(first.sockets.is_empty());
            let closed = second.closed;
            let (conn, _) = second.sockets.adopt(socket).unwrap();
            second.sockets.resume(conn);
            second.run_until(|second| second.closed == closed + 1);
            second.run_until(|second| second.sockets.is_empty());
        }
    });
}

/// A peer that does not read cannot keep its connection from being detached: the unsent output goes along.
#[test]
fn a_connection_moves_with_what_its_peer_has_not_taken() {
    in_executor(|| {
        let (listener, address) = listener();
        SockRef::from(&listener).set_send_buffer_size(1).unwrap();
        let mut first = Echo::new(limits(), vec![listener]);
        let mut second = Echo::new(limits(), Vec::new());
        let sent = pattern(5_000_000, 9);
        for output in [WireBuffer::from(sent.clone()), spliced(&sent)] {
            let mut client = TcpStream::connect(address).unwrap();
            first.run_until(|first| first.open.len() == 1);
            let conn = first.open.pop().unwrap();
            first.sockets.read_continuously(conn);
            first.sockets.send(conn, output);
            client.set_nonblocking(true).unwrap();
            while !matches!(client.peek(&mut [0]), Ok(1)) {
                first.turn();
            }
            client.set_nonblocking(false).unwrap();
            first.sockets.detach(conn);
            let socket = detached(&mut first);
            assert!(first.sockets.is_empty() && !socket.unsent.is_empty() && socket.unsent.len() < sent.len());
            let (conn, _) = second.sockets.adopt(socket).unwrap();
            assert!(second.sockets.is_sending(conn));
            let expected = sent.len();
            let client = thread::spawn(move || {
                let mut all = vec![0; expected];
                client.read_exact(&mut all).unwrap();
                all
            });
            second.run_until(|second| client.is_finished() && !second.sockets.is_sending(conn));
            assert!(client.join().unwrap() == sent);
        }
    });
}

/// So many connections, and what was sent to each of them at once.
fn sent_to_many(many: usize, bytes: usize) -> (Echo, Vec<TcpStream>, Vec<u8>) {
    let (listener, address) = listener();
    let mut echo = Echo::new(limits(), vec![listener]);
    let mut clients = Vec::new();
    while clients.len() < many {
        clients.push(TcpStream::connect(address).unwrap());
        echo.run_until(|echo| echo.open.len() == clients.len());
    }
    let sent = pattern(bytes, 3);
    for conn in echo.open.clone() {
        echo.sockets.send(conn, WireBuffer::from(sent.clone()));
    }
    (echo, clients, sent)
}

fn are_sending(echo: &Echo) -> usize {
    echo.open.iter().filter(|conn| echo.sockets.is_sending(**conn)).count()
}

fn read_all(clients: Vec<TcpStream>, sent: &[u8]) {
    for mut client in clients {
        let mut all = vec![0; sent.len()];
        client.read_exact(&mut all).unwrap();
        assert!(all == sent);
    }
}

/// The kernel sends there and then: other events must not wait for more than a part of it.
#[test]
fn much_output_is_sent_a_part_at_a_time() {
    in_executor(|| {
        for (many, bytes) in [(200, 20_000), (60, 200_000)] {
            let (mut echo, clients, sent) = sent_to_many(many, bytes);
            let mut left = vec![many];
            while *left.last().unwrap() > 0 {
                echo.turn();
                left.push(are_sending(&echo));
            }
            assert!(left.windows(2).all(|pair| pair[0] - pair[1] < many / 2), "{left:?}");
            read_all(clients, &sent);
        }
    });
}

/// However much there is to be sent to others, what is little goes with the next submission.
#[test]
fn small_output_goes_past_large_output() {
    in_executor(|| {
        let (mut echo, mut clients, sent) = sent_to_many(100, 200_000);
        let last = *echo.open.last().unwrap();
        echo.turn();
        assert!(echo.sockets.is_sending(last), "it waits behind others");
        while are_sending(&echo) > 50 {
            echo.turn();
        }
        let first = echo.open[0];
        assert!(!echo.sockets.is_sending(first) && echo.sockets.is_sending(last));
        echo.sockets.send(first, WireBuffer::from(b"little".to_vec()));
        while echo.sockets.is_sending(first) {
            echo.turn();
        }
        assert!(echo.sockets.is_sending(last), "it still waits");
        while are_sending(&echo) > 0 {
            echo.turn();
        }
        let mut got = vec![0; sent.len() + 6];
        clients.remove(0).read_exact(&mut got).unwrap();
        assert_eq!(&got[sent.len()..], b"little");
        read_all(clients, &sent);
    });
}

/// Also those whose sends have not begun.
#[test]
fn connections_move_while_much_output_is_sent() {
    in_executor(|| {
        let many = 200;
        let (mut echo, clients, sent) = sent_to_many(many, 20_000);
        let mut second = Echo::new(limits(), Vec::new());
        echo.turn();
        assert!(are_sending(&echo) > many / 2);
        for conn in std::mem::take(&mut echo.open) {
            echo.sockets.detach(conn);
        }
        while second.open.len() < many {
            for event in echo.turn() {
                let Event::Detached { socket, .. } = event else { panic!("unexpected {event:?}") };
                second.open.push(second.sockets.adopt(socket).unwrap().0);
            }
        }
        assert!(echo.sockets.is_empty());
        second.run_until(|second| are_sending(second) == 0);
        read_all(clients, &sent);
    });
}

/// A ring may end before they have begun.
#[test]
fn sends_that_wait_end_with_the_ring() {
    in_executor(|| {
        let (mut echo, clients, _) = sent_to_many(400, 20_000);
        echo.turn();
        drop(echo);
        let is_short = |mut client: TcpStream| client.read_to_end(&mut Vec::new()).is_ok_and(|bytes| bytes < 20_000);
        assert!(clients.into_iter().map(is_short).filter(|is_short| *is_short).count() > 100);
    });
}

/// A client whose connection is read continuously.
fn one_that_is_read() -> (Echo, TcpStream, ConnectionId) {
    let (listener, address) = listener();
    let mut echo = Echo::new(limits(), vec![listener]);
    let client = TcpStream::connect(address).unwrap();
    echo.run_until(|echo| echo.open.len() == 1);
    let conn = echo.open[0];
    echo.sockets.read_continuously(conn);
    echo.turn();
    (echo, client, conn)
}

/// Pauses a connection, and waits until the cancelled receive is over: then nothing is left to submit and nothing completes.
fn pause(echo: &mut Echo, conn: ConnectionId) {
    echo.sockets.pause(conn);
    while echo.sockets.has_work() {
        echo.turn();
    }
    echo.turn();
}

#[test]
fn a_paused_connection_is_not_read_until_it_is_resumed() {
    in_executor(|| {
        let (mut echo, mut client, conn) = one_that_is_read();
        pause(&mut echo, conn);
        client.write_all(b"wait").unwrap();
        for _ in 0..5 {
            assert!(echo.turn().is_empty());
            assert!(echo.outboxes.is_empty(), "a paused connection was read");
        }
        echo.sockets.resume(conn);
        with_client(&mut echo, move || {
            let mut back = [0; 4];
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"wait");
        });
    });
}

/// What its client sent before it connected again is wanted at once, though nobody reads the old connection.
#[test]
fn what_the_kernel_has_of_a_paused_connection_is_read_when_it_is_asked_for() {
    in_executor(|| {
        let (mut echo, mut client, conn) = one_that_is_read();
        client.write_all(b"first").unwrap();
        assert_eq!(echo.sockets.read_now(conn), None, "the ring reads it");
        echo.run_until(|echo| echo.outboxes.contains_key(&conn));
        pause(&mut echo, conn);
        client.write_all(b"last words").unwrap();
        let mut read = Vec::new();
        echo.run_until(|echo| {
            read.extend(echo.sockets.read_now(conn).unwrap_or_default());
            read.len() >= 10
        });
        assert_eq!(read, b"last words");
        assert_eq!(echo.sockets.read_now(conn), None, "and nothing is waited for");
    });
}

#[test]
fn accepting_pauses_while_the_shard_is_full() {
    in_executor(|| {
        let (listener, address) = listener();
        let mut echo = Echo::new(SocketLimits { max_connections: 3, ..limits() }, vec![listener]);
        let mut first: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        echo.run_until(|echo| echo.open.len() == 3);
        // The accept is cancelled, and then nothing is left to do.
        while echo.sockets.has_work() {
            echo.turn();
        }
        let waiting = TcpStream::connect(address).unwrap();
        for _ in 0..5 {
            echo.turn();
            assert_eq!(echo.sockets.len(), 3);
        }
        first.pop();
        with_client(&mut echo, move || exchange(&waiting, b"my turn"));
    });
}

/// A fleet drops and is back at once: the places of its old sockets are there as soon as one is needed, not when all have been closed.
#[test]
fn sockets_that_wait_to_be_closed_make_room_for_those_that_come() {
    in_executor(|| {
        const MANY: usize = 150;
        let (listener, address) = listener();
        let mut echo = Echo::new(limits(), vec![listener]);
        echo.sockets.share_places(Arc::new(Quota::new(Limit::at_most(MANY), 1)), 0);
        let connect = || (0..MANY).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>();
        let first = connect();
        echo.run_until(|echo| echo.open.len() == MANY);
        drop(first);
        echo.run_until(|echo| echo.closed == MANY);
        let again = connect();
        // None is turned away, which would be an event that nobody asked for.
        echo.run_until(|echo| echo.open.len() == MANY);
        let one_more = TcpStream::connect(address).unwrap();
        let others = (0..).map(|_| echo.turn()).find(|others| !others.is_empty());
        assert!(matches!(others.as_deref(), Some([Event::TurnedAway { .. }])), "{others:?}");
        drop((again, one_more));
    });
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off_at_the_deadline() {
    in_executor(|| {
        let (listener, address) = listener();
        let limits = SocketLimits { flush_timeout: Duration::from_millis(50), ..limits() };
        let mut echo = Echo::new(limits, vec![listener]);
        let mut client = TcpStream::connect(address).unwrap();
        echo.run_until(|echo| echo.open.len() == 1);
        let now = echo.clock.now();
        echo.sockets.close(echo.open[0], WireBuffer::from(vec![0; 30_000_000]), now);
        echo.run_until(|echo| echo.sockets.is_empty() && !echo.sockets.has_work());
        let mut taken = Vec::new();
        let error = client.read_to_end(&mut taken).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_final_output_arrives_although_the_peer_talks_on() {
    in_executor(|| {
        let (listener, address) = listener();
        let mut echo = Echo::new(limits(), vec![listener]);
        let mut client = TcpStream::connect(address).unwrap();
        echo.run_until(|echo| echo.open.len() == 1);
        let conn = echo.open[0];
        let now = echo.clock.now();
        client.write_all(&pattern(100_000, 0)).unwrap();
        echo.sockets.close(conn, WireBuffer::from(b"goodbye".to_vec()), now);
        with_client(&mut echo, move || {
            client.write_all(&pattern(100_000, 1)).unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"goodbye");
        });
        echo.run_until(|echo| echo.sockets.is_empty());
    });
}

#[test]
fn a_peer_that_does_not_close_its_side_is_closed_after_a_while() {
    in_executor(|| {
        let (listener, address) = listener();
        let limits = SocketLimits { linger: Duration::from_millis(50), ..limits() };
        let mut echo = Echo::new(limits, vec![listener]);
        let mut client = TcpStream::connect(address).unwrap();
        echo.run_until(|echo| echo.open.len() == 1);
        let now = echo.clock.now();
        echo.sockets.close(echo.open[0], WireBuffer::from(b"goodbye".to_vec()), now);
        echo.run_until(|echo| echo.sockets.is_empty() && !echo.sockets.has_work());
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"goodbye");
    });
}

#[test]
fn thousands_come_and_go_and_leave_nothing_behind() {
    in_executor(|| {
        let (listener, address) = listener();
        let mut echo = Echo::new(limits(), vec![listener]);
        let mut highest = 0;
        for round in 0..30 {
            let client = thread::spawn(move || {
                let streams: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
                for (number, mut stream) in streams.iter().enumerate() {
                    match (number + round) % 4 {
                        // Closes without sending, after sending, at once with a reset, or is served.
                        0 => {}
                        1 => stream.write_all(b"and away").unwrap(),
                        2 => SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap(),
                        _ => exchange(stream, b"hello"),
                    }
                }
            });
            echo.run_until(|echo| {
                highest = echo.open.iter().map(|conn| conn.index()).max().unwrap_or(0).max(highest);
                client.is_finished()
            });
            client.join().unwrap();
            echo.run_until(|echo| echo.sockets.is_empty());
        }
        assert!(highest < 200, "places are not reused: {highest}");
        // Some may have come and gone and wait to be accepted all the same. In the end only the listener is left.
        echo.run_until(|_| sockets_of_port(address.port()) == 1);
    });
}

/// Sockets at a local port that some process still has a descriptor of.
fn sockets_of_port(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let columns = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns.filter(|columns| columns[1].ends_with(&port) && columns[9] != "0").count()
}

#[test]
fn a_dropped_ring_takes_its_operations_back() {
    in_executor(|| {
        let (listener, address) = listener();
        let mut echo = Echo::new(limits(), vec![listener]);
        let _clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        echo.run_until(|echo| echo.open.len() == 10);
        let payload: Payload = vec![7; 30_000_000].into();
        for conn in echo.open.clone() {
            let splices = vec![Splice { at: 1, payload: Arc::clone(&payload) }];
            echo.sockets.read_continuously(conn);
            echo.sockets.send(conn, WireBuffer { bytes: vec![0; 2], splices });
        }
        echo.turn();
        assert_eq!(Arc::strong_count(&payload), 11);
        drop(echo);
        assert_eq!(Arc::strong_count(&payload), 1, "the ring leaked its sends");
    });
}

/// The kernel looks at some of the sockets of which it was told something with each call, most of them for nothing here. While there are more, what
/// comes does not raise the bell: whoever sleeps by it does so when there are none, or sleeps through what comes.
#[test]
fn what_comes_behind_much_that_is_nothing_raises_the_bell() {
    in_executor(|| {
        let bell = Eventfd::new().unwrap();
        let mut ring = Ring::<Payload>::new(limits().ring, bell.as_fd()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let pairs: Vec<_> = (0..150)
            .map(|index| {
                let client = TcpStream::connect(address).unwrap();
                let (server, _) = listener.accept().unwrap();
                ring.receive_many(ConnectionId::new(index, 1), server.as_fd());
                (client, server)
            })
            .collect();
        ring.submit().unwrap();
        assert!(ring.next_completion().is_none());
        // Each of them is told that its half is closed, which is nothing to be received.
        let shut = |range: std::ops::Range<usize>| {
            pairs[range].iter().for_each(|(_, server)| server.shutdown(Shutdown::Write).unwrap());
        };
        shut(0..120);
        ring.submit().unwrap();
        shut(120..149);
        ring.ring_bell(true);
        ring.submit().unwrap();
        let (rung, rings) = channel();
        let waiting = File::from(bell.as_fd().try_clone_to_owned().unwrap());
        thread::spawn(move || while rung.send((&waiting).read(&mut [0; 8]).unwrap()).is_ok() {});
        let (mut calls, mut is_sent) = (0, false);
        let received = loop {
            ring.submit().unwrap();
            calls += 1;
            if let Some(completion) = ring.next_completion() {
                break completion;
            }
            if !ring.has_work() {
                // The peers answer that they heard of it, some of them late: the bell may ring for nothing.
                if !mem::replace(&mut is_sent, true) {
                    (&pairs[149].0).write_all(b"x").unwrap();
                }
                assert_eq!(rings.recv_timeout(MINUTE), Ok(8), "the bell is raised");
            }
        };
        println!("{calls} calls");
        assert!(is_sent && matches!(received, Completion::Received { result: Ok(Some(_)), .. }));
    });
}
