//! What a store promises, as the judge keeps it: what may be on disk of each session and message, and what has to be.
//!
//! A client that has an acknowledgement relies on what it says; and when everything has come to rest, all is on disk. Between the two either is
//! right: what came of it is found when the next broker reads the disks, see `recovering`.

use std::collections::{BTreeMap, BTreeSet};

use moormq::codec::{QoS, Suback};
use moormq::config::StoredDurability;
use moormq::records::{StoredSession, StoredStage, WallTime};
use moormq::session::OutgoingMessage;

use crate::disks::FIRST_START;
use crate::history::{Ask, FILTERS, FIRST_SHARED_TOPIC};
use crate::judge::{Judge, Message};
use crate::trace::{message_of, serial_of};

/// Terms of a subscription: QoS, No Local, identifier.
pub type Terms = (QoS, bool, Option<u32>);

/// A subscription, as it may be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    filter: usize,
    /// The connection that wanted it so.
    serial: u32,
    /// None: it is not there.
    terms: Option<Terms>,
}

/// What may be on disk of a session.
#[derive(Debug, Default)]
pub struct OnDisk {
    /// The connections it had, in order.
    pub serials: Vec<u32>,
    /// The last of them that a client relies on; none if the session ends with its connection.
    pub promised: Option<u32>,
    /// A connection of which nothing is stored, and that has had its CONNACK, if the session is not to be stored again since.
    pub gone_for: Option<u32>,
    /// The ends of connections that it was kept after, until when, and how often everything had come to rest.
    pub left: Vec<(u32, Option<u64>, u32)>,
    /// How often everything had come to rest when it ended.
    pub ended_at: u32,
    /// Of each filter, how its subscription may be; if there is none, it is not there.
    subscriptions: Vec<Candidate>,
    /// It was ending when the broker died.
    pub was_ending: bool,
    /// Messages that may come once more as if they were new.
    pub may_come_again: Vec<u32>,
}

/// What a store knows of a message, and what its publisher does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// The publisher has PUBACK or PUBREC.
    pub is_acknowledged: bool,
    /// How many of its publications came to nothing, and it was published again.
    pub routed_in_vain: usize,
    /// How many of the publications of a will were forgotten when the broker died.
    pub forgotten: usize,
    /// A will: how often everything had come to rest when it was forgotten.
    pub decided_at: u32,
}

/// What a client's packet ids may be for a store.
#[derive(Default)]
pub struct StoredIds {
    /// Those in use that were received when everything came to rest.
    pub settled: BTreeSet<u16>,
    /// Those that were freed since then, with their messages.
    pub freed: Vec<(u16, Option<u32>)>,
    /// Those of which the client has PUBREL.
    pub released: BTreeSet<u16>,
    /// Those under which a message may come again without DUP.
    pub loose: BTreeSet<u16>,
    /// Those that were freed and are in use again, since nothing of that was on disk: with their messages, none once the client had these.
    pub returned: Vec<(u16, Option<u32>)>,
}

impl StoredIds {
    pub fn receive(&mut self, id: u16) {
        self.returned.retain(|(returned, _)| *returned != id);
        self.settled.remove(&id);
        self.released.remove(&id);
    }

    /// The broker was given the final acknowledgement.
    pub fn free(&mut self, id: u16, message: Option<u32>) {
        self.freed.push((id, message));
        self.returned.retain(|(returned, _)| *returned != id);
        self.settled.remove(&id);
        self.released.remove(&id);
        self.loose.remove(&id);
    }
}

impl Message {
    /// How often it was published as a will, as far as the store knows.
    pub fn times_as_will(&self) -> usize {
        self.routes.len() - self.stored.forgotten
    }
}

impl OnDisk {
    fn candidate(&mut self, filter: usize, serial: u32, terms: Option<Terms>) {
        if self.subscriptions.iter().all(|one| one.filter != filter) {
            self.subscriptions.push(Candidate { filter, serial: u32::MAX, terms: None });
        }
        self.subscriptions.push(Candidate { filter, serial, terms });
    }

    /// A subscription may be made or replaced.
    pub fn subscribes(&mut self, serial: u32, filter: usize, terms: Terms) {
        self.candidate(filter, serial, Some(terms));
    }

    /// A subscription was removed.
    pub fn unsubscribes(&mut self, serial: u32, filter: usize) {
        self.candidate(filter, serial, None);
    }

    /// The client knows that what this connection wanted last of a filter is so; `is_there`: that there is a subscription.
    fn promise(&mut self, serial: u32, filter: usize, is_there: bool) {
        let is_it = |one: &Candidate| one.filter == filter && one.serial == serial && one.terms.is_some() == is_there;
        if let Some(at) = self.subscriptions.iter().rposition(is_it) {
            let mut place = 0..;
            self.subscriptions.retain(|one| place.next() >= Some(at) || one.filter != filter);
        }
    }

    /// Whether the subscription to a filter may be so; none: not there.
    pub fn may_be(&self, filter: usize, terms: Option<Terms>) -> bool {
        let mut known = self.subscriptions.iter().filter(|one| one.filter == filter).peekable();
        match known.peek() {
            None => terms.is_none(),
            Some(_) => known.any(|one| one.terms == terms),
        }
    }

    /// The subscriptions are these.
    pub fn set(&mut self, subscriptions: &[(usize, Terms)]) {
        let candidate = |&(filter, terms): &(usize, Terms)| Candidate { filter, serial: u32::MAX, terms: Some(terms) };
        self.subscriptions = subscriptions.iter().map(candidate).collect();
    }

    /// Whether a message that has come is new, and not only for its packet id.
    pub fn is_anew(&mut self, message: u32, anew: bool) -> bool {
        let known = self.may_come_again.iter().position(|one| *one == message).filter(|_| anew);
        known.map(|at| self.may_come_again.swap_remove(at)).is_none() && anew
    }
}

/// A session as it was read.
#[derive(Debug)]
pub struct Found {
    pub client_id: String,
    pub mountpoint: String,
    pub serial: u32,
    pub number: u64,
    /// Whether its client was connected.
    pub is_online: bool,
    /// When it ends, in milliseconds since the history began.
    pub expires: Option<u64>,
    /// The message that its will is.
    pub will: Option<u32>,
    /// When that is due: at the end of the session at the latest.
    pub will_due: u64,
    pub subscriptions: Vec<(usize, Terms)>,
    /// Packet ids of QoS 2 messages that were taken and not released.
    pub incoming: Vec<u16>,
    pub messages: Vec<FoundMessage>,
}

/// A message of it.
#[derive(Clone, Copy, Debug)]
pub struct FoundMessage {
    pub id: u16,
    /// None once the client has it.
    pub message: Option<u32>,
    /// It was not sent, as far as that was recorded.
    pub is_queued: bool,
}

fn millis(wall: WallTime) -> Option<u64> {
    (wall != WallTime::NEVER).then(|| wall.as_millis().saturating_sub(FIRST_START))
}

/// The packet id of a message with this key.
fn id_of(key: u64) -> u16 {
    (key % u64::from(u16::MAX)) as u16 + 1
}

impl Found {
    /// `paged`: what waits of it in pages.
    pub fn of(stored: &StoredSession, paged: &[OutgoingMessage]) -> Self {
        let filter = |text: &str| FILTERS.iter().position(|known| *known == text).unwrap_or(usize::MAX);
        let subscriptions = stored.subscriptions.all().entries;
        let subscriptions = subscriptions.into_iter().map(|(text, one)| {
            (filter(text.as_str()), (one.options.qos, one.options.no_local, Some(one.id).filter(|id| *id > 0)))
        });
        let message = |(key, delivery): (u64, &moormq::records::StoredDelivery)| FoundMessage {
            id: id_of(key),
            message: delivery.message.as_ref().map(|message| message_of(message.payload())),
            is_queued: stored.stage(key) == Some(StoredStage::Queued),
        };
        let waiting = |one: &OutgoingMessage| FoundMessage {
            id: id_of(one.key.get()),
            message: Some(message_of(one.message.payload())),
            is_queued: true,
        };
        Found {
            client_id: stored.client.subscriber.client_id.to_string(),
            mountpoint: stored.client.subscriber.mountpoint.to_string(),
            serial: serial_of(stored.client.peer),
            number: stored.client.session_number,
            is_online: stored.offline.is_none(),
            expires: stored.offline.and_then(|offline| millis(offline.expires)),
            will: stored.will.as_ref().map(|will| message_of(will.message.payload())),
            will_due: stored.offline.and_then(|at| millis(at.will_due.min(at.expires))).unwrap_or(u64::MAX),
            subscriptions: subscriptions.collect(),
            incoming: stored.inbound.ids().map(|id| id.get()).collect(),
            messages: stored.messages().iter().map(message).chain(paged.iter().map(waiting)).collect(),
        }
    }

    /// The messages by packet id, those that the client has among them.
    pub fn by_id(&self) -> BTreeMap<u16, FoundMessage> {
        self.messages.iter().map(|one| (one.id, *one)).collect()
    }

    pub fn has(&self, message: u32) -> bool {
        self.messages.iter().any(|one| one.message == Some(message))
    }
}

impl Judge {
    /// A client has received its CONNACK.
    pub fn connack_promises(&mut self, serial: u32) {
        let Some(session) = self.connections[serial as usize].session else { return };
        // Others may have taken over meanwhile.
        let disk = &self.sessions[session].disk;
        let is_kept = self.is_stored(serial) && disk.serials.last().is_some_and(|last| self.is_stored(*last));
        let place = |serial: u32| disk.serials.iter().rposition(|one| *one == serial);
        let is_last = disk.serials.last() == Some(&serial);
        let is_newer = disk.promised.is_none_or(|promised| place(promised) < place(serial));
        if !is_kept || is_newer {
            self.sessions[session].disk.promised = is_kept.then_some(serial);
        }
        if is_last && !self.is_stored(serial) {
            self.sessions[session].disk.gone_for = Some(serial);
        }
    }

    /// A client has received SUBACK.
    pub fn suback_promises(&mut self, serial: u32, asks: [Option<Ask>; 2], suback: Suback<'_>) {
        let Some(session) = self.connections[serial as usize].session else { return };
        for (ask, code) in asks.into_iter().flatten().zip(suback.codes.iter()) {
            if !code.is_error() {
                self.sessions[session].disk.promise(serial, ask.filter, true);
            }
        }
    }

    /// A client has received UNSUBACK.
    pub fn unsuback_promises(&mut self, serial: u32) {
        let Some(session) = self.connections[serial as usize].session else { return };
        (0..FILTERS.len()).for_each(|filter| self.sessions[session].disk.promise(serial, filter, false));
    }

    /// Everything has come to rest: what has happened is on disk.
    pub fn all_is_on_disk(&mut self) {
        for at in 0..self.sessions.len() {
            let session = &self.sessions[at];
            if session.ended {
                continue;
            }
            let is_online = self.is_connected(at);
            let is_class_none = self.setup.durability(session.serial) == StoredDurability::None;
            let is_kept = (!is_online || self.session_settings(session.serial).0) && !is_class_none;
            let session = &mut self.sessions[at];
            session.disk.promised = is_kept.then_some(session.serial);
            for filter in 0..FILTERS.len() {
                match session.subscriptions.iter().find(|one| one.filter == filter) {
                    Some(one) if one.confirmed && !one.is_changing => {
                        let terms = (one.qos, one.no_local, one.id);
                        session.disk.subscriptions.retain(|one| one.filter != filter);
                        session.disk.subscriptions.push(Candidate { filter, serial: u32::MAX, terms: Some(terms) });
                    }
                    Some(_) => {}
                    None => session.disk.subscriptions.retain(|one| one.filter != filter),
                }
            }
        }
    }

    /// Whether a message has to be on disk for those it was published to.
    pub fn is_promised(&self, message: u32) -> bool {
        let Some(one) = self.messages.get(message as usize) else { return false };
        let is_old = one.routes.last().is_some_and(|last| *last <= self.publications_at_rest);
        one.stored.is_acknowledged || is_old
    }

    pub fn is_shared(&self, message: u32) -> bool {
        self.messages.get(message as usize).is_some_and(|message| message.topic >= FIRST_SHARED_TOPIC)
    }
}
