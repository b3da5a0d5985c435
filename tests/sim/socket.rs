//! One network connection: both ends, and the bytes between them.

use std::collections::{BTreeSet, VecDeque};

use moormq::client::ConnectionId;
use moormq::codec::ProtocolVersion;

use crate::history::{Ask, ConnectOptions};

/// The broker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A shard serves it.
    At(usize, ConnectionId),
    /// On its way from one shard to another.
    InTransit,
    /// The broker closed it, or found it broken.
    Closed,
}

/// More than there may be, on either side.
const ALIASES: usize = 8;

/// A final acknowledgement that the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The end of the packet among all bytes that the client sent.
    pub at: usize,
    /// The packet id that it frees.
    pub packet_id: u16,
}

pub struct Socket {
    pub serial: u32,
    pub client: usize,
    pub options: ConnectOptions,
    pub end: End,
    /// The client's end is closed; what it received since is lost.
    pub hung_up: bool,
    /// The client has another connection now and ignores this one.
    pub replaced: bool,
    /// Whether the broker reads.
    pub reading: bool,
    /// The client reads nothing.
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
    /// Received by the client, and not decoded yet.
    pub inbox: Vec<u8>,
    /// The CONNACK has come, with success.
    pub connected: bool,
    /// The CONNACK has come.
    pub answered: bool,
    pub keep_alive_off: bool,
    /// A re-authentication is under way.
    pub authenticating: bool,
    /// Received on this connection and not freed.
    pub outstanding: BTreeSet<u16>,
    /// Acknowledgements that the client has not sent yet.
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

/// An acknowledgement that a client has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
}

impl Socket {
    pub fn new(serial: u32, client: usize, options: ConnectOptions) -> Self {
        Socket {
            serial,
            client,
            options,
            end: End::InTransit,
            hung_up: false,
            replaced: false,
            reading: true,
            stuck: false,
            to_broker: VecDeque::new(),
            sent: 0,
            given: 0,
            freeing: VecDeque::new(),
            under_way: None,
            inbox: Vec::new(),
            connected: false,
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
        self.options.version
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
