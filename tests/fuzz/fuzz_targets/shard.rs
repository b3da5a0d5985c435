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
use moormq::connection::Output;
use moormq::hooks::NoHooks;
use moormq::shard::{Effect, Held, Place, Shard};
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
    /// What each client has sent on this connection, as long as that is no whole packet.
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
        let place = Place { id: 0, shards: 1, seed: 1, version: "fuzzed" };
        Fuzzed {
            shard: Shard::new(place, Arc::new(config), NoHooks, Time::ZERO),
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
        self.shard.accepted(id, 0, peer, SystemTime::UNIX_EPOCH, 1, self.now);
        id
    }

    fn hang_up(&mut self, client: usize) {
        if let Some(id) = self.clients[client].take() {
            self.shard.closed(id, self.now);
        }
        self.settle();
    }

    /// The first packet says in which version the client must be answered.
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
        self.shard.received(id, bytes, self.now);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.shard.tick(self.now);
        self.settle();
    }

    /// Everybody leaves, and sessions expire. The wheel keeps entries for a while, and some for ever; what was retained stays.
    fn end(mut self) {
        (0..CLIENTS).for_each(|client| self.hang_up(client));
        assert_eq!(self.shard.held().connections, 0);
        // A session is looked at once a minute, and a publisher's patience ends at once.
        (0..3).for_each(|_| self.pass(EXPIRY));
        let Held { retained, deadlines, .. } = self.shard.held();
        assert_eq!(self.shard.held(), Held { retained, deadlines, ..Held::default() });
        assert_eq!((self.shard.counters().connected, self.shard.counters().subscriptions), (0, 0));
    }

    fn settle(&mut self) {
        let (mut dirty, mut effects) = (Vec::new(), Vec::new());
        loop {
            self.shard.take_dirty(&mut dirty);
            self.shard.take_effects(&mut effects);
            if dirty.is_empty() && effects.is_empty() {
                return;
            }
            for id in dirty.drain(..) {
                if let Some(output) = self.shard.take_output(id) {
                    self.deliver(id, output);
                    self.shard.sent(id, Vec::new(), self.now);
                }
            }
            for effect in effects.drain(..) {
                if let Effect::Close { connection, last, .. } = effect {
                    if let Some(output) = last {
                        self.deliver(connection, output);
                    }
                    if self.clients[connection.index()] == Some(connection) {
                        self.clients[connection.index()] = None;
                    }
                }
            }
        }
    }

    /// The first packet may be the answer to a CONNECT that could not be read, in whatever version; all others are of the
    /// version that was agreed on.
    fn deliver(&mut self, id: ConnectionId, output: Output) {
        let client = id.index();
        let mut at = 0;
        for splice in &output.splices {
            self.sent[client].extend_from_slice(&output.bytes[at..splice.at]);
            self.sent[client].extend_from_slice(splice.message.payload());
            at = splice.at;
        }
        self.sent[client].extend_from_slice(&output.bytes[at..]);
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
