//! The record of hook calls for the judge, and the plans that clients send to the hooks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use moormq::client::{Client, DropReason, EndReason, ExpiredReason, SubscriberId};
use moormq::codec::QoS;

use crate::history::{Ask, Exchange, Plan, Setup};

/// One call of a hook.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which connection of the history it is about.
    pub serial: u32,
    pub subscriber: SubscriberId,
    pub number: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Registered,
    Wakeup {
        present: bool,
    },
    Offline(EndReason),
    Gone(EndReason),
    Expired(ExpiredReason),
    /// A step of an enhanced authentication.
    Authenticates(Exchange),
    /// A publish may come to be refused.
    Refusing {
        message: u32,
    },
    Published {
        message: u32,
        topic: usize,
        qos: QoS,
        retain: bool,
        is_will: bool,
    },
    AskedSubscribe(Vec<Ask>),
    Subscribed(Vec<Ask>),
    UnsubscribedAll,
    Unsubscribed(Vec<usize>),
    Dropped {
        message: u32,
        qos: QoS,
        reason: DropReason,
    },
    /// A link found another state than it left.
    StateLost {
        link: usize,
        found: u32,
        left: u32,
    },
    /// A notification has later work, with this number.
    NoticeBegins(u32),
    /// That work has begun.
    NoticeStarts(u32),
    NoticeDone(u32),
}

/// The record that all copies of the links share.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Shared>>);

#[derive(Default)]
pub struct Shared {
    /// What is stored of whom.
    pub setup: Option<Setup>,
    pub events: Vec<Event>,
    /// What the next SUBSCRIBE or UNSUBSCRIBE of a connection is to meet, by serial.
    pub plans: Vec<Plan>,
    /// How often each link was called for each connection: three by serial.
    calls: Vec<u32>,
    /// How many notifications had later work.
    pub notices: u32,
}

impl Trace {
    pub fn open(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn note(&self, client: &Client, what: What) {
        let event = Event {
            serial: serial_of(client.peer),
            subscriber: client.subscriber.clone(),
            number: client.session_number,
            what,
        };
        self.open().events.push(event);
    }
}

impl Shared {
    pub fn plan(&mut self, serial: u32) -> &mut Plan {
        let at = serial as usize;
        if self.plans.len() <= at {
            self.plans.resize(at + 1, Plan::Accept);
        }
        &mut self.plans[at]
    }

    /// The broker has started again: links keep nothing, and what was not observed has not happened for anybody.
    pub fn restart(&mut self) {
        self.events.clear();
        self.calls.clear();
    }

    pub fn calls(&mut self, serial: u32, link: usize) -> &mut u32 {
        let at = serial as usize * 3 + link;
        if self.calls.len() <= at {
            self.calls.resize(at + 1, 0);
        }
        &mut self.calls[at]
    }
}

/// The peer that stands for a connection: an address for each client, a port for each connection.
pub fn peer_of(client: usize, serial: u32) -> SocketAddr {
    let port = u16::try_from(serial).expect("no history has so many connections");
    SocketAddr::from(([10, 0, 0, client as u8], port))
}

pub fn serial_of(peer: SocketAddr) -> u32 {
    peer.port().into()
}

/// The payload of a message: its number, its plan, and padding.
pub fn payload(message: u32, plan: Plan, padding: usize) -> Vec<u8> {
    let mut payload = message.to_le_bytes().to_vec();
    payload.push(plan as u8);
    payload.resize(5 + padding, b'.');
    payload
}

/// The number of the message; none if it is empty.
pub fn message_of(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(NO_MESSAGE, |bytes| u32::from_le_bytes(*bytes))
}

/// The number of a message without payload.
pub const NO_MESSAGE: u32 = u32::MAX;

pub fn plan_in(payload: &[u8]) -> Plan {
    payload.get(4).map_or(Plan::Accept, |plan| Plan::ALL[usize::from(*plan) % Plan::ALL.len()])
}

/// Plan and notices, as a password carries them.
pub fn password(plan: Plan, notices: u8) -> [u8; 2] {
    [plan as u8, notices]
}
