//! The judge: a model of the contract. It observes every hook call and every packet that clients receive, and checks the rules.
//!
//! Most rules it checks at once. What takes time (a message on its way, a will that is delayed) it checks when
//! everything has arrived, in `verdict`. Its rules on lifecycles are in `lifecycle` and `noticing`, on messages in `deliveries`, on
//! who waits for whom in `patience`, on turns and memory in `pressure`.

use std::collections::VecDeque;

use moormq::client::{DropReason, EndReason, SubscriberId};
use moormq::codec::{ProtocolVersion, QoS};
use moormq::config::StoredDurability;

use crate::history::{ConnectOptions, Exchange, MOUNTS, Setup, TOPICS};
use crate::noticing::Notice;
use crate::patience::Patience;
use crate::pressure::Pressure;
use crate::recovery::{OnDisk, Stored};
use crate::trace::{Event, NO_MESSAGE, What};
use crate::violation::Violation;

/// A connection of the history.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Which client's.
    pub client: usize,
    pub options: ConnectOptions,
    /// The number of its will.
    pub will: Option<u32>,
    /// Its session, from `on_client_wakeup` on.
    pub session: Option<usize>,
    pub woke: Option<bool>,
    /// What its DISCONNECT changed the session expiry to.
    pub new_expiry: Option<u16>,
    /// Whether a DISCONNECT was sent, and whether it asks for the will.
    pub sent_disconnect: Option<bool>,
    /// Something that it sent may keep what is behind it waiting: a hook that answers later, say.
    pub is_held_up: bool,
    /// Nothing keeps that DISCONNECT waiting: whoever takes it over comes after it.
    pub leaves_first: bool,
    pub hung_up: bool,
    /// The broker had all that it sent before it hung up, a DISCONNECT at the end, and nothing that lasts keeps it from serving that.
    pub has_said_goodbye: bool,
    pub ended: Option<EndReason>,
    /// A publish of it may be refused.
    pub refusing: bool,
    /// The enhanced authentication that it is in, with the rounds that are left, and how many steps there have been of it.
    pub exchange: Option<Exchange>,
    pub steps: u8,
    /// The Subscription Identifier of its last SUBSCRIBE.
    pub subscription_id: Option<u32>,
    /// The client reads, acknowledges, and its connection is in order.
    pub is_responsive: bool,
    /// Notifications for it that are not done.
    pub notices: usize,
}

/// One session, from `on_client_wakeup` without session present to its end.
#[derive(Debug, Default)]
pub struct Session {
    pub subject: usize,
    /// The connection that has it, or had it last.
    pub serial: u32,
    pub ended: bool,
    /// Its client has forgotten what it received: it cannot see whether a message comes twice.
    pub is_forgetful: bool,
    /// How often everything had come to rest when it woke up last.
    pub woke_at: u32,
    pub subscriptions: Vec<Subscription>,
    /// Subscriptions that it had at some time, by filter.
    pub ever: u16,
    /// Filters that it asked for at some time, and how.
    pub asked: Vec<Asked>,
    /// How often its subscriptions changed, or may have.
    pub changes: u32,
    /// By topic: how many retained messages its subscriptions may have brought, and how many came.
    pub initial: [(u32, u32); TOPICS.len()],
    /// See `history::MIRROR`.
    pub is_mirror: bool,
    pub owed: Vec<Owed>,
    pub seen: Vec<Seen>,
    pub dropped: Vec<u32>,
    /// Retained messages that came: the connection and the message.
    pub retained: Vec<(u32, u32)>,
    /// By publisher and topic: the latest publication seen.
    pub latest: Vec<((usize, usize), u32)>,
    /// The same of those that were to be retained.
    pub latest_retained: Vec<((usize, usize), u32)>,
    pub will: Option<Will>,
    /// While offline: when it ends, in milliseconds.
    pub expires: Option<u64>,
    /// What of it may be on disk.
    pub disk: OnDisk,
}

/// A filter that a session asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub filter: usize,
    pub no_local: bool,
    pub id: Option<u32>,
    /// The number of the last publication before everything came to rest last.
    pub after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub filter: usize,
    /// Rises with every SUBSCRIBE that was granted.
    pub number: u32,
    /// The lowest QoS that it may have.
    pub qos: QoS,
    pub no_local: bool,
    pub id: Option<u32>,
    /// It was asked for again, and there is no answer to that.
    pub is_changing: bool,
    /// SUBACK follows, or has been.
    pub confirmed: bool,
    /// `on_subscribe` was called just now: if the connection ends with the same event, there is no SUBACK.
    pub fresh: bool,
    /// How often everything had come to rest when it was confirmed first.
    pub since: u32,
}

/// A message that a session must get.
#[derive(Clone, Debug)]
pub struct Owed {
    pub message: u32,
    pub qos: QoS,
    /// The subscriptions that it must come through, by number.
    pub through: Vec<u32>,
    /// The connection it had then.
    pub serial: u32,
    /// QoS and identifiers that it must have, as long as the subscriptions have not changed.
    pub exactly: Option<Exactly>,
}

/// QoS and identifiers of a message, as one state of the subscriptions demands them.
#[derive(Clone, Debug)]
pub struct Exactly {
    pub changes: u32,
    pub qos: QoS,
    /// Subscription Identifiers, in order.
    pub ids: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub message: u32,
    /// How often it came, and how often not as a repetition.
    pub times: u32,
    pub anew: u32,
    /// Once below QoS 2: then another member of a shared subscription may have had it in between.
    pub loosely: bool,
}

/// A will that may be due.
#[derive(Clone, Copy, Debug)]
pub struct Will {
    pub message: u32,
    /// When, in milliseconds.
    pub due: u64,
}

/// What the judge knows of one subscriber id.
#[derive(Debug)]
pub struct Subject {
    pub id: SubscriberId,
    pub stage: Stage,
    pub session: Option<usize>,
    pub number: u64,
    /// The connection that is being registered.
    pub registering: Option<u32>,
    pub unsubscribed: bool,
    /// `SessionEnded` drops that wait for the end.
    pub ending: bool,
    /// Its last session ended for a client that is still to be registered.
    pub made_way: bool,
    /// A drop with the reason `OfflineQos0` says that the connection is ending.
    pub leaving: bool,
    /// The later work of notifications that is not done, in the order of the calls.
    pub notices: VecDeque<Notice>,
    pub admin: Vec<AdminRequest>,
}

/// An operator's request that was not carried out yet.
#[derive(Clone, Copy, Debug)]
pub struct AdminRequest {
    pub cleanup: bool,
    /// The connection and session there was.
    pub serial: Option<u32>,
    pub session: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    NoSession,
    Online,
    Offline,
}

/// A message of the history.
#[derive(Clone, Debug)]
pub struct Message {
    pub serial: u32,
    pub qos: QoS,
    /// When it may expire at the earliest, in milliseconds.
    pub expires: Option<u64>,
    pub large: bool,
    /// A hook may answer to it later.
    pub is_answered_later: bool,
    /// The topic that its publisher named, if no hook makes another one of it.
    pub meant_for: Option<usize>,
    pub is_will: bool,
    /// The publications it had, by their numbers, and the topic of the last.
    pub routes: Vec<u32>,
    /// The session in which it was published last.
    pub session: Option<usize>,
    pub topic: usize,
    pub subject: usize,
    pub retain: bool,
    pub refusing: bool,
    /// Copies that shared subscriptions owe, and who could get them: by filter.
    pub shared: Vec<(usize, Vec<Member>)>,
    /// Not all of those copies are accounted for.
    pub is_due: bool,
    pub groups: u32,
    /// A will: whether it must have been published.
    pub must: Option<bool>,
    pub stored: Stored,
}

/// A member of a shared subscription when a message was published to it.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub session: usize,
    /// The number of its subscription.
    pub number: u32,
    /// The connection that it had for so long that all shards knew of it.
    pub online: Option<u32>,
}

/// The retained message of a topic.
#[derive(Clone, Debug, Default)]
pub struct Retained {
    /// The messages that it may be, when everything had arrived last.
    pub settled: Vec<u32>,
    pub since: Vec<Retains>,
    /// What it may have been before that; it may be that again if the power is lost, and nobody was promised that what came later is synced.
    pub before: Vec<u32>,
}

/// A publication with RETAIN since everything had arrived last.
#[derive(Clone, Copy, Debug)]
pub struct Retains {
    pub shard: usize,
    pub message: u32,
    /// Nothing is promised to its publisher if the power is lost.
    pub is_unsynced: bool,
}

/// A subscription that must be sent retained messages.
#[derive(Clone, Debug)]
pub struct Wanting {
    pub session: usize,
    pub serial: u32,
    pub filter: usize,
    pub number: u32,
    /// How many retained messages the session had seen.
    pub from: usize,
    /// By topic, what was retained when it began; none if that was not sure.
    pub settled: Vec<Option<u32>>,
    /// By topic, how many retained messages may still come that were wanted before.
    pub owed: [u32; TOPICS.len()],
}

pub struct Judge {
    pub setup: Setup,
    pub now: u64,
    pub violation: Option<Violation>,
    /// By serial.
    pub connections: Vec<Connection>,
    pub subjects: Vec<Subject>,
    pub sessions: Vec<Session>,
    pub messages: Vec<Message>,
    /// By mountpoint and topic.
    pub retained: Vec<Retained>,
    pub wanting: Vec<Wanting>,
    pub drops: [u64; DropReason::ALL.len()],
    pub publications: u32,
    /// How many publications there had been when everything came to rest last.
    pub publications_at_rest: u32,
    pub subscription_numbers: u32,
    /// By mountpoint, shared filters that had a member at QoS 0: what it gets may be lost.
    pub careless: [u16; 2],
    pub stopping: bool,
    /// The broker has died, and the next one serves nobody yet.
    pub is_starting: bool,
    /// How often everything had come to rest.
    pub rests: u32,
    /// The shard whose events are observed.
    pub shard: usize,
    /// Connections whose last bytes were served in this event: they are about to be taken over.
    pub drained: Vec<u32>,
    /// Connections that sent or took something in this event.
    pub acted: Vec<u32>,
    pub patience: Patience,
    pub pressure: Pressure,
    /// All that was observed, as text, if it is wanted.
    pub transcript: Option<Vec<String>>,
}

impl Judge {
    pub fn new(setup: Setup) -> Self {
        Judge {
            setup,
            now: 0,
            violation: None,
            connections: Vec::new(),
            subjects: Vec::new(),
            sessions: Vec::new(),
            messages: Vec::new(),
            retained: vec![
                Retained { settled: vec![NO_MESSAGE], since: Vec::new(), before: Vec::new() };
                MOUNTS.len() * TOPICS.len()
            ],
            wanting: Vec::new(),
            drops: [0; 6],
            publications: 0,
            publications_at_rest: 0,
            subscription_numbers: 0,
            careless: [0; 2],
            stopping: false,
            is_starting: false,
            rests: 0,
            shard: 0,
            drained: Vec::new(),
            acted: Vec::new(),
            patience: Patience::default(),
            pressure: Pressure::default(),
            transcript: None,
        }
    }

    /// Finds that `rule` was broken; the first finding counts.
    pub fn find(&mut self, rule: &'static str, detail: String) {
        self.note(|| format!("!!! {rule}: {detail}"));
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, detail });
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push(line());
        }
    }

    /// A client connects; gives the number of its connection.
    pub fn new_connection(&mut self, client: usize, options: ConnectOptions) -> u32 {
        self.connections.push(Connection {
            client,
            options,
            will: None,
            session: None,
            woke: None,
            new_expiry: None,
            sent_disconnect: None,
            is_held_up: false,
            leaves_first: false,
            has_said_goodbye: false,
            hung_up: false,
            ended: None,
            refusing: false,
            exchange: options.exchange,
            steps: 0,
            subscription_id: None,
            is_responsive: false,
            notices: 0,
        });
        self.connections.len() as u32 - 1
    }

    /// A message is made; gives its number. It may expire after so many seconds.
    pub fn message(&mut self, serial: u32, qos: QoS, expiry: Option<u8>, is_will: bool) -> u32 {
        let expires = expiry.map(|seconds| self.now + u64::from(seconds) * 1000);
        self.messages.push(Message {
            serial,
            qos,
            expires,
            large: false,
            is_answered_later: false,
            meant_for: None,
            is_will,
            routes: Vec::new(),
            session: None,
            topic: 0,
            subject: 0,
            retain: false,
            refusing: false,
            shared: Vec::new(),
            is_due: false,
            groups: 0,
            must: None,
            stored: Stored::default(),
        });
        self.messages.len() as u32 - 1
    }

    pub fn connection(&mut self, serial: u32) -> &mut Connection {
        &mut self.connections[serial as usize]
    }

    pub fn subject(&mut self, id: &SubscriberId) -> usize {
        if let Some(at) = self.subjects.iter().position(|subject| subject.id == *id) {
            return at;
        }
        self.subjects.push(Subject {
            id: id.clone(),
            stage: Stage::NoSession,
            session: None,
            number: 0,
            registering: None,
            unsubscribed: false,
            ending: false,
            made_way: false,
            leaving: false,
            notices: VecDeque::new(),
            admin: Vec::new(),
        });
        self.subjects.len() - 1
    }

    pub fn mount_of(&self, subject: usize) -> usize {
        usize::from(!self.subjects[subject].id.mountpoint.is_empty())
    }

    /// A hook was called, on `shard`.
    pub fn observe(&mut self, event: Event, shard: usize) {
        self.note(|| format!("{:?} #{} {:?} on shard {shard}", event.subscriber, event.serial, event.what));
        let subject = self.subject(&event.subscriber);
        let serial = event.serial;
        self.shard = shard;
        self.served(serial, &event.what);
        match event.what {
            What::Registered => self.registered(subject, serial, event.number),
            What::Wakeup { present } => self.woke_up(subject, serial, present),
            What::Offline(reason) => self.left(subject, serial, reason, true),
            What::Gone(reason) => self.left(subject, serial, reason, false),
            What::Expired(reason) => self.expired(subject, reason),
            What::UnsubscribedAll => self.unsubscribed_all(subject),
            What::AskedSubscribe(filters) => self.asked_to_subscribe(subject, serial, &filters),
            What::Subscribed(filters) => self.subscribed(subject, serial, &filters),
            What::Unsubscribed(filters) => self.unsubscribed(subject, &filters),
            What::Authenticates(step) => self.authenticates(serial, step),
            What::Refusing { message } => {
                self.connection(serial).refusing = true;
                if let Some(message) = self.messages.get_mut(message as usize) {
                    message.refusing = true;
                }
            }
            What::Published { message, topic, qos, retain, is_will } => {
                if retain {
                    let mount = self.mount_of(subject);
                    let is_unsynced = self.setup.durability(serial) != StoredDurability::Fsynced;
                    let publication = Retains { shard, message, is_unsynced };
                    self.retained[mount * TOPICS.len() + topic].since.push(publication);
                }
                self.published((subject, serial), message, topic, (qos, retain, is_will));
            }
            What::Dropped { message, qos, reason } => self.dropped(subject, message, qos, reason),
            What::StateLost { link, found, left } => {
                let detail = format!("{}: link {link} left {left} and found {found}", event.subscriber);
                self.find("hooks: a link keeps its state with the session", detail);
            }
            What::NoticeBegins(number) => self.notice_begins(subject, serial, number),
            What::NoticeStarts(number) => self.notice_starts(subject, number),
            What::NoticeDone(number) => self.notice_done(subject, serial, number),
        }
    }

    /// All hook calls of an event were observed.
    pub fn event_is_over(&mut self) {
        self.judge_share();
        for session in self.sessions.iter_mut().filter(|session| !session.ended) {
            session.subscriptions.iter_mut().for_each(|one| one.fresh = false);
        }
        for at in 0..self.subjects.len() {
            let one = &mut self.subjects[at];
            // If the end of its session was begun, it is told when all is dropped. At a start shards tell of the end of connections one after
            // the other, and meanwhile wills come.
            let is_online = one.stage == Stage::Online && !self.is_starting;
            if std::mem::take(&mut one.leaving) && is_online && !one.unsubscribed {
                let detail = format!("{}: a drop for being offline, and it is online", one.id);
                self.find("drops: reasons are true", detail);
            }
        }
    }

    /// An operator asks for the end of a client's connection.
    pub fn admin_request(&mut self, subject: usize, cleanup: bool) {
        let one = &self.subjects[subject];
        let serial = one.session.filter(|_| one.stage == Stage::Online).map(|session| self.sessions[session].serial);
        let request = AdminRequest { cleanup, serial, session: one.session };
        self.subjects[subject].admin.push(request);
    }

    /// Whether the session of this connection is on disk.
    pub fn is_stored(&self, serial: u32) -> bool {
        self.session_settings(serial).0 && self.setup.durability(serial) != StoredDurability::None
    }

    /// Whether a kept session results from this CONNECT, and for how long; none: for ever.
    pub fn session_settings(&self, serial: u32) -> (bool, Option<u64>) {
        let connection = &self.connections[serial as usize];
        let options = &connection.options;
        match options.version {
            ProtocolVersion::V5 => (options.expiry > 0, Some(u64::from(options.expiry) * 1000)),
            _ if options.clean => (false, Some(0)),
            _ => (true, self.setup.expiry_v3.map(|seconds| u64::from(seconds) * 1000)),
        }
    }
}
