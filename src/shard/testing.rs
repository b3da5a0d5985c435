//! The owners of a shard without sockets, for their unit tests.

use std::sync::Arc;

use super::agenda::{Agenda, FollowUp};
use super::clients::{Clients, Setup};
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use super::turn::TurnLimits;
use crate::client::ConnectionId;
use crate::codec::{ProtocolVersion, QoS};
use crate::config::Config;
use crate::connection::testing::{connected, connection};
use crate::connection::{Connection, ConnectionStage};
use crate::handshake::PendingConnect;
use crate::hooks::NoHooks;
use crate::message::Publication;
use crate::random::Random;
use crate::session::Session;
use crate::session::testing::session_of;
use crate::sharding::Quotas;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicName};

pub(super) const NOW: Time = Time::from_millis(10_000);

/// What the first of so many shards is told, with these settings.
pub(super) fn setup(shards: usize, settings: &str) -> Setup {
    let config = Config::from_toml(settings, "test").expect("the settings are valid");
    let (turn, quotas) = (TurnLimits::default(), Quotas::new(&config, shards));
    Setup { id: 0, shards, seed: 7, turn, version: "test", config: Arc::new(config), quotas }
}

pub(super) fn clients(shards: usize, settings: &str) -> Clients<NoHooks> {
    Clients::new(setup(shards, settings), NoHooks, Agenda::new(0, shards, TurnLimits::default(), NOW))
}

pub(super) fn pubsub(shards: usize, settings: &str) -> PubSub<NoHooks> {
    PubSub::new(clients(shards, settings), Random::from_seed(1))
}

/// A connection of an MQTT 5 client, at this index and of the session at this place.
pub(super) fn connection_of(index: u32, session: u32) -> Connection<PendingConnect<()>> {
    let mut connected = connected(ProtocolVersion::V5);
    connected.session = session;
    Connection { stage: ConnectionStage::Connected(connected), ..connection(ConnectionId::new(index, 1)) }
}

/// A kept session of an MQTT 5 client that is away. Gives its place.
pub(super) fn offline(clients: &mut Clients<NoHooks>, client_id: &str) -> u32 {
    let Session { client, settings, .. } = session_of::<()>(client_id);
    clients.new_session(client, settings, 0, (0, Time::ZERO))
}

/// The same of one that is connected, by the connection at the same index. Gives both.
pub(super) fn online(clients: &mut Clients<NoHooks>, client_id: &str) -> (ConnectionId, u32) {
    let index = offline(clients, client_id);
    let connection = connection_of(index, index);
    let id = connection.id;
    clients.connections.insert(connection);
    clients.statistics.counters.connected += 1;
    clients.sessions.get_mut(index).expect("it was inserted").connection = Some(id);
    (id, index)
}

pub(super) fn publication<'a>(topic: &'a str, payload: &'a str, qos: QoS) -> Publication<'a> {
    let mut publication = Publication::new(TopicName::trusted(topic), payload.as_bytes());
    publication.qos = qos;
    publication
}

pub(super) fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, 8).expect("a valid filter")
}

/// Takes everything that is to be done when what is being done is done.
pub(super) fn follow_ups(clients: &mut Clients<NoHooks>) -> Vec<FollowUp> {
    std::iter::from_fn(|| clients.agenda.next_follow_up()).collect()
}

/// Takes everything that the runtime is to do, but what it is to send.
pub(super) fn outputs(clients: &mut Clients<NoHooks>) -> Vec<Output<()>> {
    std::iter::from_fn(|| clients.agenda.next_output()).collect()
}

/// Takes what other shards are told.
pub(super) fn posted(clients: &mut Clients<NoHooks>) -> Vec<(usize, ShardMessage)> {
    let of_one = |(to, messages): (usize, Vec<ShardMessage>)| messages.into_iter().map(move |message| (to, message));
    std::iter::from_fn(|| clients.agenda.next_messages()).flat_map(of_one).collect()
}

/// Takes the output of a connection, as if it had left.
pub(super) fn sent(clients: &mut Clients<NoHooks>, id: ConnectionId) -> Vec<u8> {
    let outbox = &mut clients.connections.get_mut(id).expect("it is there").outbox;
    let output = outbox.take().unwrap_or_default();
    outbox.sent();
    output.into_bytes()
}

/// Takes the output of a client, and gives the payloads of all PUBLISH packets in it.
pub(super) fn texts(clients: &mut Clients<NoHooks>, id: ConnectionId) -> Vec<String> {
    use crate::codec::{MAX_PACKET_SIZE, Packet, Sender, Split, decode, split};
    let output = sent(clients, id);
    let (mut bytes, mut texts) = (&output[..], Vec::new());
    while let Ok(Split::Frame(frame)) = split(bytes, MAX_PACKET_SIZE) {
        bytes = &bytes[frame.length..];
        let Ok(Packet::Publish(publish)) = decode(frame, ProtocolVersion::V5, Sender::Server) else { continue };
        texts.push(String::from_utf8_lossy(publish.payload).into_owned());
    }
    texts
}
