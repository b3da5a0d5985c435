//! A whole shard, fed with the bytes of several clients: it never panics, what it sends is legal, and when all clients are
//! gone and their sessions have expired nothing is left of them but retained messages.
//!
//! `tests/fuzz/run shard`

#![no_main]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use moormq::client::ConnectionId;
use moormq::codec::{MAX_PACKET_SIZE, ProtocolVersion, Sender, Split, decode, split};
use moormq::config::Config;
use moormq::hooks::NoHooks;
use moormq::shard::{Admission, Input, Output, ResourceCounts, Setup, Shard, TurnLimits};
use moormq::sharding::Quotas;
use moormq::time::Time;

/// How many clients there are at a time.
const CLIENTS: usize = 4;
/// How long sessions are kept at most.
const EXPIRY: Duration = Duration::from_secs(60);

struct Fuzzed {
    shard: Shard<NoHooks>,
    now: Time,
    generation: u32,
    clients: [Option<ConnectionId>; CLIENTS],
    /// What each client has sent on this connection, as long as its CONNECT is not complete.
    begun: [Vec<u8>; CLIENTS],
    /// What each client was sent on this connection, behind the last whole packet.
    sent: [Vec<u8>; CLIENTS],
    versions: [Option<ProtocolVersion>; CLIENTS],
}

impl Fuzzed {
    fn new() -> Self {
        let mut config = Config { allow_anonymous: true, ..Config::default() };
        config.session.persistent_session_expiry = Some(EXPIRY);
        config.session.max_session_expiry = Some(EXPIRY);
        // Now and then, lest most of the time goes there.
        config.sys.interval = 20 * EXPIRY;
        // So little that clients often have to wait for their next share.
        let turn = TurnLimits { share: 40, turn: 100, at_once: 2, portion: 2, under_way: 8 };
        let quotas = Quotas::new(&config, 1);
        let setup = Setup { id: 0, shards: 1, seed: 1, turn, version: "fuzzed", config: Arc::new(config), quotas };
        Fuzzed {
            shard: Shard::new(setup, NoHooks, Time::ZERO),
            now: Time::ZERO,
            generation: 0,
            clients: [None; CLIENTS],
            begun: Default::default(),
            sent: Default::default(),
            versions: [None; CLIENTS],
        }
    }

    fn connect(&mut self, client: usize) -> ConnectionId {
        self.generation += 1;
        let id = ConnectionId::new(client as u32, self.generation);
        self.clients[client] = Some(id);
        self.begun[client].clear();
        self.sent[client].clear();
        self.versions[client] = None;
        let peer = SocketAddr::from(([127, 0, 0, 1], client as u16));
        let connected_at = SystemTime::UNIX_EPOCH;
        let input = Input::Accepted { connection: id, listener: 0, peer, connected_at, admission: Admission::Admitted };
        self.shard.handle(input, self.now);
        id
    }

    fn hang_up(&mut self, client: usize) {
        if let Some(id) = self.clients[client].take() {
            self.shard.handle(Input::Closed { connection: id }, self.now);
        }
        self.settle();
    }

    /// The CONNECT decides the version of all answers.
    fn note_version(&mut self, client: usize, bytes: &[u8]) {
        if self.versions[client].is_some() {
            return;
        }
        self.begun[client].extend_from_slice(bytes);
        if let Ok(Split::Frame(frame)) = split(&self.begun[client], MAX_PACKET_SIZE)
            && let Ok(moormq::codec::Packet::Connect(connect)) = decode(frame, ProtocolVersion::V5, Sender::Client)
        {
            self.versions[client] = Some(connect.version);
        }
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        let id = self.clients[client].unwrap_or_else(|| self.connect(client));
        self.note_version(client, bytes);
        self.shard.handle(Input::Received { connection: id, bytes }, self.now);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.shard.handle(Input::Tick, self.now);
        self.settle();
    }

    /// Everybody leaves, and sessions expire. The wheel keeps entries for a while, and some for ever; what was retained stays.
    fn end(mut self) {
        (0..CLIENTS).for_each(|client| self.hang_up(client));
        assert_eq!(self.shard.resource_counts().connections, 0);
        // A session is looked at once a minute, and a publisher's patience ends at once.
        (0..3).for_each(|_| self.pass(EXPIRY));
        let ResourceCounts { retained, deadlines, .. } = self.shard.resource_counts();
        assert_eq!(self.shard.resource_counts(), ResourceCounts { retained, deadlines, ..ResourceCounts::default() });
        assert_eq!((self.shard.counters().connected, self.shard.counters().subscriptions), (0, 0));
    }

    fn settle(&mut self) {
        loop {
            let Some(output) = self.shard.next_output() else {
                if !self.shard.is_behind() {
                    return;
                }
                self.shard.handle(Input::Tick, self.now);
                continue;
            };
            match output {
                Output::Send { connection, buffer } => {
                    self.deliver(connection, &buffer.into_bytes());
                    self.shard.handle(Input::Sent { connection, emptied: Vec::new() }, self.now);
                }
                Output::Close { connection, last, .. } => {
                    if let Some(buffer) = last {
                        self.deliver(connection, &buffer.into_bytes());
                    }
                    if self.clients[connection.index()] == Some(connection) {
                        self.clients[connection.index()] = None;
                    }
                }
                _ => {}
            }
        }
    }

    /// The first packet may be the answer to a CONNECT that could not be read, in whatever version; all others are of the
    /// version that was agreed on.
    fn deliver(&mut self, id: ConnectionId, bytes: &[u8]) {
        let client = id.index();
        self.sent[client].extend_from_slice(bytes);
        let mut rest = self.sent[client].as_slice();
        while let Ok(Split::Frame(frame)) = split(rest, MAX_PACKET_SIZE) {
            let length = frame.length;
            let is_connack = frame.first == 0x20;
            let version = self.versions[client].unwrap_or(ProtocolVersion::V311);
            let packet = decode(frame, version, Sender::Server);
            assert!(is_connack || packet.is_ok(), "{packet:?}");
            rest = &rest[length..];
        }
        let whole = self.sent[client].len() - rest.len();
        self.sent[client].drain(..whole);
    }
}

// Pieces of client, length and bytes; a length of zero hangs up, and client 7 lets time pass.
fuzz_target!(|input: &[u8]| {
    let mut fuzzed = Fuzzed::new();
    let mut rest = input;
    while let [choice, length, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        match choice & 7 {
            7 => fuzzed.pass(Duration::from_secs(u64::from(*length))),
            client if piece.is_empty() => fuzzed.hang_up(usize::from(client) % CLIENTS),
            client => fuzzed.send(usize::from(client) % CLIENTS, piece),
        }
        rest = tail;
    }
    fuzzed.end();
});
