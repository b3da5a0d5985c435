//! One client, its session and its connection, for tests of what is written for it.

mod aliases;
mod encoded_once;
mod rewriting;
mod sizes;
mod straight;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::client::ConnectionId;
use crate::codec::{MAX_PACKET_SIZE, Packet, PropertyBlock, Publish, Sender, Split, decode, split};
use crate::config::QueueType;
use crate::connection::Pace;
use crate::connection::testing::{connected, connection};
use crate::delivery::busy;
use crate::hooks::{Context, DeliverAnswer, DeliverModifiers, Delivery, Hook, NoHooks};
use crate::session::SubscriptionIds;
use crate::session::testing::{delivery, session_of};
use crate::topic::TopicFilter;

const NOW: Time = Time::from_millis(10_000);
const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V311;
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// What became of all messages that waited.
#[derive(Default)]
struct AllProgress {
    messages: u64,
    wrote: bool,
    dropped: Vec<(OutgoingMessage, DropReason)>,
}

/// An online client, its session and its connection.
struct Client<C: Chain> {
    chain: C,
    session: Session<C::State>,
    connection: Connection<()>,
    traffic: SlotTraffic,
}

impl<C: Chain> Client<C> {
    fn new(version: ProtocolVersion, chain: C) -> Self {
        let mut session: Session<C::State> = session_of("client");
        session.client.version = version;
        let stage = ConnectionStage::Connected(connected(version));
        let connection = Connection { stage, ..connection(ConnectionId::new(0, 1)) };
        Client { chain, session, connection, traffic: SlotTraffic::default() }
    }

    /// Delivers `publication` with its own QoS.
    fn deliver(
        &mut self,
        recipient: &Recipient,
        publication: &Publication<'_>,
        encoded: Option<&mut EncodedForms>,
    ) -> Delivered {
        let Client { chain, session, connection, traffic } = self;
        let mut writer = PublishWriter { chain, traffic, buffers: &mut Spares::default(), now: NOW };
        let as_agreed = (publication.qos, publication.retain);
        writer.deliver(session, connection, recipient, publication, as_agreed, encoded)
    }

    /// Delivers `payload` to topic `t` at this QoS.
    fn sent(&mut self, payload: &str, qos: QoS) -> Delivered {
        if self.session.outbound.is_anything_waiting() {
            return busy(qos, Pace::Keeping);
        }
        self.deliver(&recipient(), &publication("t", payload.as_bytes(), qos), None)
    }

    /// Sends a retained message with its own QoS, while so many bytes of output may wait.
    fn send_retained(&mut self, payload: &str, qos: QoS, most: usize) -> Option<Delivered> {
        let Client { chain, session, connection, traffic } = self;
        let mut writer = PublishWriter { chain, traffic, buffers: &mut Spares::default(), now: NOW };
        let publication = publication("t", payload.as_bytes(), qos);
        writer.send_retained(session, connection, &recipient(), &publication, qos, most)
    }

    /// Sends what waits, also behind what is dropped.
    fn send_waiting(&mut self, most: usize) -> AllProgress {
        let Client { chain, session, connection, traffic } = self;
        let mut all = AllProgress::default();
        loop {
            let mut writer = PublishWriter { chain, traffic, buffers: &mut Spares::default(), now: NOW };
            let progress = writer.send_waiting(session, connection, most, u32::MAX);
            all.messages += progress.messages;
            all.wrote |= progress.wrote;
            let Some(dropped) = progress.dropped else { return all };
            all.dropped.push(dropped);
        }
    }

    fn enqueue(&mut self, delivery: OutgoingMessage) {
        let Session { outbound, settings, .. } = &mut self.session;
        assert!(outbound.queue.push(delivery, &settings.queue, true, Time::ZERO).stored);
    }

    /// Takes the output, as if it had left.
    fn output(&mut self) -> Vec<u8> {
        let output = self.connection.outbox.take().unwrap_or_default();
        self.connection.outbox.sent();
        output.into_bytes()
    }

    /// Takes the output, and gives the payloads of all PUBLISH packets in it.
    fn texts(&mut self) -> Vec<String> {
        let output = self.output();
        let text = |publish: &Publish<'_>| String::from_utf8_lossy(publish.payload).into_owned();
        publishes(&output, self.session.client.version).iter().map(text).collect()
    }
}

fn client() -> Client<NoHooks> {
    Client::new(V5, NoHooks)
}

fn recipient() -> Recipient {
    let ids = SubscriptionIds::new();
    Recipient { session: 0, qos: QoS::ExactlyOnce, retain_as_published: false, ids, group: None }
}

fn publication<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> Publication<'a> {
    let mut publication = Publication::new(TopicName::trusted(topic), payload);
    publication.qos = qos;
    publication
}

fn packets(mut bytes: &[u8], version: ProtocolVersion) -> Vec<Packet<'_>> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let Ok(Split::Frame(frame)) = split(bytes, MAX_PACKET_SIZE) else { panic!("not a packet: {bytes:x?}") };
        bytes = &bytes[frame.length..];
        packets.push(decode(frame, version, Sender::Server).expect("the broker writes what can be read"));
    }
    packets
}

fn publishes(bytes: &[u8], version: ProtocolVersion) -> Vec<Publish<'_>> {
    let publish = |packet| match packet {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    };
    packets(bytes, version).into_iter().map(publish).collect()
}

/// The only PUBLISH in `bytes`, to a client of MQTT 5.
fn one(bytes: &[u8]) -> Publish<'_> {
    let found = publishes(bytes, V5);
    assert_eq!(found.len(), 1);
    found[0]
}

fn id(publish: &Publish<'_>) -> Option<u16> {
    publish.packet_id.map(PacketId::get)
}

/// A link that says the same of every delivery, and counts how often it was asked.
struct Says(fn() -> DeliverAnswer<DeliverModifiers>);

impl Hook for Says {
    type State = u32;

    fn on_deliver(&mut self, cx: &mut Context<'_, u32>, _: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
        *cx.state() += 1;
        self.0()
    }

    fn on_deliver_m5(&mut self, cx: &mut Context<'_, u32>, _: &DeliveryM5<'_>) -> DeliverAnswer<DeliverModifiersM5> {
        *cx.state() += 1;
        match self.0() {
            DeliverAnswer::Ok(modifiers) => DeliverAnswer::Ok(modifiers.into()),
            DeliverAnswer::Next => DeliverAnswer::Next,
            DeliverAnswer::Absent => DeliverAnswer::Absent,
        }
    }
}
