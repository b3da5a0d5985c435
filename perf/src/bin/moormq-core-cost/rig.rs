//! Shards and clients without sockets: what a worker does in its turns, in the same order every time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moormq::client::{ConnectionId, SubscriberId};
use moormq::codec::{
    Connect, PacketId, ProtocolVersion, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use moormq::config::Config;
use moormq::hooks::Chain;
use moormq::shard::{Admission, Input, Output, Setup, Shard, ShardMessage, TurnLimits};
use moormq::sharding::{Quotas, owner_of};
use moormq::time::Time;

use crate::responder::Responder;
use crate::store::{Disk, store};

/// Messages that a publisher sends with one write.
pub const BATCH: u16 = 10;

/// The seed of the shards' hashes: the same in every run, so that everything is.
const SEED: u64 = 42;

/// Bytes of payload in each message.
const PAYLOAD: usize = 64;

/// Shards and clients.
pub struct Rig<C: Chain> {
    shards: Vec<Shard<C>>,
    now: Time,
    /// By shard, the clients on it: the index of a connection is the place of its client.
    clients: Vec<Vec<Client>>,
    /// Shards and places of the publishers.
    publishers: Vec<(usize, usize)>,
    /// Messages between shards that were sent and have not come: from, to, what.
    messages: Vec<(usize, usize, Vec<ShardMessage>)>,
    /// By shard; none without stores.
    disks: Vec<Disk>,
}

/// A client and its connection.
struct Client {
    id: ConnectionId,
    responder: Responder,
    /// The bytes that it sends in each turn.
    batch: Vec<u8>,
}

impl<C: Chain> Rig<C> {
    /// Shards without clients, which let everybody do everything.
    pub fn new(shards: usize, chain: impl Fn() -> C) -> Self {
        let config = Arc::new(Config { allow_anonymous: true, ..Config::default() });
        let (turn, quotas) = (TurnLimits::default(), Quotas::new(&config, shards));
        let setup = |id| Setup {
            id,
            shards,
            seed: SEED,
            turn,
            version: "cost",
            config: config.clone(),
            quotas: quotas.clone(),
        };
        Rig {
            shards: (0..shards).map(|id| Shard::new(setup(id), chain(), Time::ZERO)).collect(),
            now: Time::ZERO,
            clients: (0..shards).map(|_| Vec::new()).collect(),
            publishers: Vec::new(),
            messages: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// Has all sessions and messages stored.
    pub fn store(&mut self) {
        for (id, shard) in self.shards.iter_mut().enumerate() {
            store(shard, id);
            self.disks.push(Disk::default());
        }
        self.settle();
        self.shards.iter_mut().for_each(|shard| shard.handle(Input::Restored, self.now));
        self.settle();
    }

    /// Adds a subscriber to `shard`.
    pub fn subscriber(&mut self, number: usize, shard: usize, version: ProtocolVersion, filter: &str, qos: QoS) {
        let place = self.connect(&format!("sub-{number}"), shard, version);
        let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(qos) }];
        let mut bytes = Vec::new();
        Subscribe::new(PacketId::MIN, &filters[..]).encode(version, &mut bytes);
        self.hand_in(shard, place, &bytes);
        self.settle();
    }

    /// Adds a publisher to `shard`, which publishes [`BATCH`] messages in every turn. All are acknowledged by the end of it, so that each turn has the
    /// same packet identifiers.
    pub fn publisher(&mut self, number: usize, shard: usize, version: ProtocolVersion, topic: &str, qos: QoS) {
        let place = self.connect(&format!("pub-{number}"), shard, version);
        let mut batch = Vec::new();
        for id in 1..=BATCH {
            let packet_id = if qos == QoS::AtMostOnce { None } else { PacketId::new(id) };
            Publish { qos, topic, packet_id, payload: &[b'.'; PAYLOAD], ..Publish::default() }
                .encode(version, &mut batch);
        }
        self.clients[shard][place].batch = batch;
        self.publishers.push((shard, place));
    }

    /// Lets every publisher publish, and carries out all that follows.
    pub fn turn(&mut self, step: Duration) {
        self.now = self.now + step;
        for shard in &mut self.shards {
            shard.handle(Input::Tick, self.now);
        }
        for at in 0..self.publishers.len() {
            let (shard, place) = self.publishers[at];
            let client = &self.clients[shard][place];
            let input = Input::Received { connection: client.id, bytes: &client.batch };
            self.shards[shard].handle(input, self.now);
        }
        self.settle();
    }

    /// How many deliveries there were in all.
    pub fn deliveries(&self) -> u64 {
        self.clients.iter().flatten().map(|client| client.responder.deliveries).sum()
    }

    /// Connects a client to `shard`, with an id that leads there. Gives its place.
    fn connect(&mut self, name: &str, shard: usize, version: ProtocolVersion) -> usize {
        let leads_here = |id: &String| owner_of(&SubscriberId::new("", id.as_str()), self.shards.len(), SEED) == shard;
        let id =
            (0..).map(|number| format!("{name}-{number}")).find(leads_here).expect("there is always another number");
        let place = self.clients[shard].len();
        let connection = ConnectionId::new(place as u32, 1);
        self.clients[shard].push(Client { id: connection, responder: Responder::default(), batch: Vec::new() });
        let peer = SocketAddr::from(([127, 0, 0, 1], 1024 + place as u16));
        let connected_at = SystemTime::UNIX_EPOCH;
        let input = Input::Accepted { connection, listener: 0, peer, connected_at, admission: Admission::Admitted };
        self.shards[shard].handle(input, self.now);
        let mut bytes = Vec::new();
        Connect { clean_start: self.disks.is_empty(), ..Connect::new(version, &id) }.encode(&mut bytes);
        self.hand_in(shard, place, &bytes);
        self.settle();
        place
    }

    fn hand_in(&mut self, shard: usize, place: usize, bytes: &[u8]) {
        let id = self.clients[shard][place].id;
        self.shards[shard].handle(Input::Received { connection: id, bytes }, self.now);
    }

    /// Carries output, answers and messages until nothing moves any more.
    fn settle(&mut self) {
        while self.flush() | self.catch_up() | self.answer() | self.carry_messages() || self.commit() {}
    }

    /// What is under way to the disks is there.
    fn commit(&mut self) -> bool {
        let mut moved = false;
        for (shard, disk) in self.shards.iter_mut().zip(&mut self.disks) {
            while let Some(answer) = disk.written() {
                shard.handle(Input::Journal(answer), self.now);
                moved = true;
            }
        }
        moved
    }

    /// Carries out the outputs of the shards.
    fn flush(&mut self) -> bool {
        let mut moved = false;
        let shards = self.shards.iter_mut().zip(&mut self.clients).enumerate();
        for (from, (shard, clients)) in shards {
            while let Some(output) = shard.next_output() {
                match output {
                    Output::Send { connection, buffer } => {
                        assert!(buffer.splices.is_empty(), "payloads are small");
                        clients[connection.index()].responder.take(&buffer.bytes);
                        shard.handle(Input::Sent { connection, emptied: buffer.bytes }, self.now);
                        moved = true;
                    }
                    Output::Journal(effect) => {
                        if let Some(answer) = self.disks[from].take(effect) {
                            shard.handle(Input::Journal(answer), self.now);
                            moved = true;
                        }
                    }
                    Output::Messages { to, messages } => self.messages.push((from, to, messages)),
                    Output::ReadContinuously(_) | Output::Pause(_) | Output::Resume(_) => {}
                    _ => panic!("clients stay where they are, and nothing but packets happens"),
                }
            }
        }
        moved
    }

    /// Gives another turn to the shards that have not done all.
    fn catch_up(&mut self) -> bool {
        let mut behind = false;
        for shard in self.shards.iter_mut().filter(|shard| shard.is_behind()) {
            shard.handle(Input::Tick, self.now);
            behind = true;
        }
        behind
    }

    /// Hands in what clients answer.
    fn answer(&mut self) -> bool {
        let mut moved = false;
        for (shard, clients) in self.shards.iter_mut().zip(&mut self.clients) {
            for client in clients {
                if !client.responder.answers.is_empty() {
                    let bytes = &client.responder.answers;
                    shard.handle(Input::Received { connection: client.id, bytes }, self.now);
                    client.responder.answers.clear();
                    moved = true;
                }
            }
        }
        moved
    }

    /// Delivers the messages between shards.
    fn carry_messages(&mut self) -> bool {
        let moved = !self.messages.is_empty();
        for (from, to, messages) in self.messages.drain(..) {
            for message in messages {
                self.shards[to].handle(Input::Message { from, message }, self.now);
            }
        }
        moved
    }
}
