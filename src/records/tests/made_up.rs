//! Records of all kinds with anything in them, borders included.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::super::*;
use crate::codec::{PacketId, ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};
use crate::config::{Limit, QueueType, SharedPolicy, StoredDurability};
use crate::message::Publication;
use crate::numbers::{Decision, DecisionNumber, StoreNumber};
use crate::random::Random;
use crate::session::{Key, QueueLimits, SessionSettings, Subscription};
use crate::time::Time;
use crate::topic::TopicName;

/// The kinds of records.
pub const KINDS: u8 = 17;

/// What a made-up record borrows.
pub struct Pool {
    texts: Vec<String>,
    payloads: Vec<Vec<u8>>,
    buffer: DeliveryBuffer,
}

const TOPICS: [&str; 5] = ["t", "a/b", "/", "$SYS/x", "ä/ö//"];
const FILTERS: [&str; 6] = ["t", "#", "a/+/b", "$share/group/a/#", "/", "$SYS/+"];
const GROUPS: [&str; 2] = ["$share/group/a/#", "$share/ä/t"];
const PROPERTIES: [&[u8]; 3] = [&[], &[1, 1], &[0x26, 0, 1, b'k', 0, 1, b'v', 3, 0, 1, b't']];

/// One of them.
fn one<T: Copy>(of: &[T], random: &mut Random) -> T {
    of[random.below(of.len())]
}

fn flag(random: &mut Random) -> bool {
    random.below(2) == 0
}

/// A number up to `most`: often a border, otherwise of any length.
fn number(most: u64, random: &mut Random) -> u64 {
    let any = random.u64() >> random.below(64);
    one(&[0, 1, most, most - 1, any.min(most), any.min(most)], random)
}

/// Often one of a few, so that records are about the same sessions.
fn store_number(random: &mut Random) -> StoreNumber {
    if flag(random) {
        return StoreNumber::new(1, 0, random.below(2) as u32);
    }
    let (boot, shard) = (number(StoreNumber::LAST_BOOT.into(), random) as u32, number(255, random) as u8);
    StoreNumber::new(boot.max(1), shard, number(u32::MAX.into(), random) as u32)
}

fn key(random: &mut Random) -> Key {
    Key::new(number((1 << 48) - 2, random))
}

fn packet_id(random: &mut Random) -> PacketId {
    PacketId::new(1 + number(65_534, random) as u16).expect("not zero")
}

fn decision_number(random: &mut Random) -> DecisionNumber {
    DecisionNumber::from_u64(1 + number(u64::MAX - 1, random))
}

fn wall_time(random: &mut Random) -> WallTime {
    WallTime::from_millis(number(u64::MAX, random))
}

/// Whole milliseconds, but not so many that they stand for none.
fn duration(random: &mut Random) -> Duration {
    Duration::from_millis(number(u64::MAX - 1, random))
}

fn optional<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    if flag(random) { Some(make(random)) } else { None }
}

fn qos(random: &mut Random) -> QoS {
    one(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce], random)
}

impl Pool {
    pub fn new(random: &mut Random) -> Self {
        let long = 1 + random.below(70_000);
        let texts = vec![String::new(), "client".into(), "ä\0".into(), random.alphanumeric(long)];
        let payloads = vec![Vec::new(), b"payload".to_vec(), vec![0xFF; random.below(1000)]];
        let mut buffer = DeliveryBuffer::default();
        for _ in 0..1 + random.below(5) {
            let ids: Vec<u32> =
                (0..one(&[0, 1, 2, 300], random)).map(|_| 1 + number(268_435_454, random) as u32).collect();
            buffer.push(&Delivery {
                session: store_number(random),
                key: key(random),
                qos: one(&[QoS::AtLeastOnce, QoS::ExactlyOnce], random),
                retain: flag(random),
                is_sent: flag(random),
                ids: StoredIds::from(&*ids),
                group: optional(random, |random| one(&GROUPS, random)),
            });
        }
        Pool { texts, payloads, buffer }
    }

    fn text(&self, random: &mut Random) -> &str {
        &self.texts[random.below(self.texts.len())]
    }

    fn message(&self, random: &mut Random) -> StoredMessage<'_> {
        let payload = &self.payloads[random.below(self.payloads.len())];
        let publication = Publication::new(TopicName::trusted(one(&TOPICS, random)), payload);
        let clock = WallClock::new(Time::ZERO, WallTime::default());
        let mut message = StoredMessage::of_publication(&publication, clock);
        message.properties = one(&PROPERTIES, random);
        (message.qos, message.retain, message.expires) = (qos(random), flag(random), wall_time(random));
        let decision =
            |random: &mut Random| Decision { session: store_number(random), number: decision_number(random) };
        message.decision = optional(random, decision);
        message
    }

    fn will(&self, random: &mut Random) -> StoredWill<'_> {
        let (delay, expiry) = (duration(random), optional(random, duration));
        StoredWill { message: self.message(random), mountpoint: self.text(random), delay, expiry }
    }

    fn session(&self, random: &mut Random) -> SessionRecord<'_> {
        let record = SessionRecord::new(store_number(random), self.text(random), self.text(random));
        if flag(random) {
            return record;
        }
        let will = optional(random, |random| self.will(random));
        let has_will = will.is_some();
        let offline = optional(random, |random| Offline { has_will, ..offline(random) });
        SessionRecord {
            peer: address(random),
            listener: self.text(random),
            version: one(&ProtocolVersion::ALL, random),
            username: optional(random, |random| self.text(random)),
            connected_at: wall_time(random),
            session_number: number(u64::MAX, random),
            settings: settings(random),
            will,
            offline,
            replaces: optional(random, store_number),
            is_arriving: flag(random),
            hook_state: optional(random, |random| &*self.payloads[random.below(3)]),
            decided: DecisionNumber::from_u64(number(u64::MAX, random)),
            pages_id: optional(random, store_number),
            ..record
        }
    }

    /// A record of this kind.
    pub fn record(&self, kind: u8, random: &mut Random) -> Record<'_> {
        let session = store_number(random);
        match kind {
            1 => Record::Session(Box::new(self.session(random))),
            2 => Record::Offline(session, offline(random)),
            3 => Record::WillGone(session, decision_number(random)),
            4 => {
                let options = SubscriptionOptions {
                    qos: qos(random),
                    no_local: flag(random),
                    retain_as_published: flag(random),
                    retain_handling: RetainHandling::from_u8(random.below(3) as u8).expect("below 3"),
                };
                let subscription = Subscription { options, id: number(268_435_455, random) as u32 };
                Record::Subscribed { session, filter: one(&FILTERS, random), subscription }
            }
            5 => Record::Unsubscribed { session, filter: one(&FILTERS, random) },
            6 => Record::Message { message: self.message(random), deliveries: self.buffer.deliveries() },
            7 => Record::Removed(session, key(random)),
            8 => Record::Received(session, key(random)),
            9 => Record::Renumbered { session, before: key(random), now: key(random) },
            10 => Record::Launched(session, key(random)),
            11 => {
                let decision = optional(random, decision_number);
                Record::Incoming { session, id: packet_id(random), decision }
            }
            12 => Record::Released(session, packet_id(random)),
            13 => Record::Ended(session),
            14 => {
                let mut message = self.message(random);
                message.payload = b"retained";
                Record::Retained { mountpoint: self.text(random), message }
            }
            16 => Record::PassedOn { session, key: key(random), decision: decision_number(random) },
            17 => Record::HookState(session, self.text(random).as_bytes()),
            _ => {
                let topic = TopicName::trusted(one(&TOPICS, random));
                Record::Cleared { mountpoint: self.text(random), topic }
            }
        }
    }
}

fn offline(random: &mut Random) -> Offline {
    let [since, expires, will_due] = [(); 3].map(|()| wall_time(random));
    Offline { since, expires, will_due, has_will: flag(random) }
}

fn address(random: &mut Random) -> SocketAddr {
    let port = number(65_535, random) as u16;
    let (flow, scope) = (number(0xF_FFFF, random) as u32, number(u32::MAX.into(), random) as u32);
    let v6 = Ipv6Addr::from(u128::from(random.u64()));
    let v4 = Ipv4Addr::from(number(u32::MAX.into(), random) as u32);
    one(&[SocketAddr::from((v4, port)), SocketAddrV6::new(v6, port, flow, scope).into()], random)
}

fn limit(random: &mut Random) -> Limit {
    Limit::at_most(number(u64::MAX, random) as usize)
}

fn short(random: &mut Random) -> u16 {
    number(65_535, random) as u16
}

fn settings(random: &mut Random) -> SessionSettings {
    let policies = [
        SharedPolicy::Random,
        SharedPolicy::RoundRobin,
        SharedPolicy::Sticky,
        SharedPolicy::HashPublisher,
        SharedPolicy::LocalFirst,
    ];
    SessionSettings {
        kept: flag(random),
        alias_maximum_in: short(random),
        expiry: optional(random, duration),
        receive_maximum: short(random),
        maximum_incoming: number(u64::MAX, random) as usize,
        maximum_qos: qos(random),
        retain_available: flag(random),
        wildcard_available: flag(random),
        ids_available: flag(random),
        shared_available: flag(random),
        is_bridge: flag(random),
        message_rate: number(u32::MAX.into(), random) as u32,
        shared_policy: one(&policies, random),
        durability: one(&[StoredDurability::Fsynced, StoredDurability::Flushed, StoredDurability::None], random),
        queue: QueueLimits {
            online: limit(random),
            offline: limit(random),
            bytes: limit(random),
            order: one(&[QueueType::Fifo, QueueType::Lifo], random),
        },
        lifetime: optional(random, duration),
        retry_interval: duration(random),
        keep_alive: short(random),
        problem_information: flag(random),
        maximum_outgoing: number(u64::MAX, random) as usize,
        send_maximum: short(random),
        alias_maximum_out: short(random),
        upgrade_qos: flag(random),
    }
}
