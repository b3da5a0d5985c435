//! One network connection: both ends, and the bytes between them.

use std::collections::{BTreeSet, VecDeque};

use moormq::client::ConnectionId;
use moormq::codec::ProtocolVersion;

use crate::history::{Ask, Hello};

/// Where the broker's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A shard serves it.
    At(usize, ConnectionId),
    /// It goes from one shard to another.
    Travelling,
    /// The broker closed it, or found it broken.
    Closed,
}

/// More than there may be, on either side.
const ALIASES: usize = 8;

/// What a client waits for, after everything it sent before `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The end of the packet among all bytes that the client sent.
    pub at: usize,
    /// The packet id that it frees.
    pub packet_id: u16,
}

pub struct Wire {
    pub serial: u32,
    pub device: usize,
    pub hello: Hello,
    pub end: End,
    /// The client's end is closed; what it received since is lost.
    pub hung_up: bool,
    /// The client has another connection now and does not look at this one.
    pub orphaned: bool,
    /// Whether the broker reads.
    pub reading: bool,
    /// The client takes nothing.
    pub stuck: bool,
    /// On its way to the broker.
    pub to_broker: VecDeque<u8>,
    /// How many bytes the client sent, and how many the broker was given.
    pub sent: usize,
    pub given: usize,
    /// Final acknowledgements that the broker has not been given.
    pub freeing: VecDeque<Acknowledged>,
    /// On its way to the client: of one send.
    pub under_way: Option<Vec<u8>>,
    /// What the client has not made packets of.
    pub inbox: Vec<u8>,
    /// The CONNACK is here and welcomes.
    pub welcomed: bool,
    /// The CONNACK is here.
    pub answered: bool,
    pub keep_alive_off: bool,
    /// It authenticates again and has no last word.
    pub authenticating: bool,
    /// Received on this connection and not freed.
    pub outstanding: BTreeSet<u16>,
    /// Answers that the client owes.
    pub owes: VecDeque<Owed>,
    /// The packet id of the SUBSCRIBE or UNSUBSCRIBE that is not answered, and what it asks for if it is a SUBSCRIBE.
    pub subscribing: Option<(u16, Option<[Option<Ask>; 2]>)>,
    /// Topics behind the aliases that the client set, and those that the broker did.
    pub aliases_out: [Option<usize>; ALIASES],
    pub aliases_in: [Option<usize>; ALIASES],
    /// How many aliases the broker takes.
    pub alias_maximum: u16,
    pub pings: usize,
    /// When the broker was given something last, in milliseconds.
    pub last_given: u64,
}

/// An answer that a client owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
}

impl Wire {
    pub fn new(serial: u32, device: usize, hello: Hello) -> Self {
        Wire {
            serial,
            device,
            hello,
            end: End::Travelling,
            hung_up: false,
            orphaned: false,
            reading: true,
            stuck: false,
            to_broker: VecDeque::new(),
            sent: 0,
            given: 0,
            freeing: VecDeque::new(),
            under_way: None,
            inbox: Vec::new(),
            welcomed: false,
            answered: false,
            keep_alive_off: false,
            authenticating: false,
            outstanding: BTreeSet::new(),
            owes: VecDeque::new(),
            subscribing: None,
            aliases_out: [None; ALIASES],
            aliases_in: [None; ALIASES],
            alias_maximum: 0,
            pings: 0,
            last_given: 0,
        }
    }

    pub fn version(&self) -> ProtocolVersion {
        self.hello.version
    }

    pub fn is_open(&self) -> bool {
        self.end != End::Closed && !self.hung_up
    }

    /// The client sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.is_open() {
            self.sent += bytes.len();
            self.to_broker.extend(bytes);
        }
    }
}
