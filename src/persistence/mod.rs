//! The organ that keeps on disk what has to survive a crash: it says what is recorded when, and what waits until that is done.
//!
//! Owns the journal of the shard, the answers that wait for it, and what is known of the journals of other shards. Sessions and messages are
//! lent to it. It never decides what becomes of a message, and never touches a connection: whom to answer is returned.
//!
//! # What is recorded
//!
//! A session that is kept is *stored*, and has a number in the store. So are its subscriptions, messages of QoS 1 and 2 for it with what its
//! client says to them, the packet ids of its own QoS 2 messages, and its will; and retained messages. QoS 0, and sessions that end with their
//! connection, write nothing.
//!
//! # What waits
//!
//! PUBACK, PUBREC, PUBCOMP, SUBACK and UNSUBACK wait until what they acknowledge is on disk, in the sense that was agreed on for the listener:
//! here, and on every shard to which something was sent for it. So do PUBREL to a stored session, whose client forgets the packet id then; QoS
//! 2 messages to one, which stay in its queue, since after a crash another message could have the packet id; and all output from CONNACK on of
//! a client with one. Nothing else waits.
//!
//! Answers of one shard go out in the order in which they were made.
//!
//! # Bounds
//!
//! The journal has its own. When it is full, or as much waits for its commit as may, what is recorded nevertheless waits here, in memory; and no
//! client is served that publishes ([`Persistence::is_crowded`]), so that no more than a turn's worth comes.

mod adopting;
mod answers;
mod commits;
mod decisions;
mod deferrals;
mod elsewhere;
mod letters;
mod rewriting;
#[cfg(test)]
mod tests;

pub use adopting::Adoption;
pub use answers::{Answer, Awaited};
pub use commits::{Committed, Durability};
pub use deferrals::Deferred;
pub use rewriting::{Cursor, SessionCursor};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use adopting::Adoptions;
use answers::{Answers, OnDisk};
use commits::{Commits, UNKNOWN};
use decisions::Decisions;
use deferrals::Deferrals;
use elsewhere::Elsewhere;
use letters::Letters;
use rewriting::Rewriting;

use crate::client::ConnectionId;
use crate::codec::{PacketId, QoS};
use crate::journal::{self, Class, Effect, Failure, Journal, Refused, Sync};
use crate::message::{Message, Publication};
use crate::numbers::{Decision, DecisionNumber};
use crate::records::{Delivery, DeliveryBuffer, Offline, Record, SessionRecord, StoredMessage, WallClock};
use crate::session::{Key, OutgoingMessage, Session, StoreNumber, Subscription};
use crate::sharding::ShardSet;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicName};

/// With less room than this in the journal, nothing is published that may have to be recorded: so much may follow from what is served
/// already.
const CROWDED: usize = 256 * 1024;

/// What persistence on one shard begins with.
pub struct PersistenceSetup {
    /// The journal of the shard.
    pub journal: Journal,
    /// Which boot of the store this is, from 1.
    pub boot: u32,
    /// How a commit becomes durable.
    pub sync: Sync,
    /// What QoS 2 messages to clients, and CONNACK, wait for.
    pub durability: Durability,
    /// The time since the start of the broker, more exact than that of inputs.
    pub clock: Box<dyn Fn() -> Duration>,
    /// How that stands to the calendar.
    pub wall: WallClock,
    /// Sessions that others have replaced, and of which that is not recorded: they would come back when those have ended.
    pub displaced: Vec<StoreNumber>,
    /// Messages that depend on decisions which were not made, and of which that is not recorded.
    pub undecided: Vec<(StoreNumber, Key)>,
    /// The last decision of earlier boots.
    pub last_decision: DecisionNumber,
    /// Something is not, or not only, in the journal of the shard that it belongs to: each shard writes all that it has once, before clients come, and
    /// then nothing counts any more that was written by earlier boots.
    pub renews: bool,
}

/// A stored session has QoS 2 messages in its queue that may be sent when so many records are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    records: u64,
    /// The session, by its place in the table, and its instance number.
    pub session: (u32, u64),
    /// The last of them.
    pub key: Key,
    /// What it depends on.
    decision: Option<DecisionNumber>,
}

/// The organ; one for each shard that has a store.
pub struct Persistence {
    setup: PersistenceSetup,
    own: usize,
    /// How many numbers were given.
    numbers: u32,
    commits: Commits,
    /// Records that the journal had no room for, in order.
    behind: VecDeque<(u8, Vec<u8>)>,
    answers: Answers,
    /// Whether there are answers to messages that are gathered and not delivered yet.
    gathered: bool,
    /// QoS 2 messages among these: that they were taken is recorded behind them.
    gathered_incoming: Vec<(Decision, PacketId)>,
    /// QoS 2 messages of clients of which it is recorded later that they were taken.
    incoming: BTreeMap<(StoreNumber, u16), DecisionNumber>,
    letters: Letters,
    decisions: Decisions,
    deferrals: Deferrals,
    elsewhere: Elsewhere,
    adoptions: Adoptions,
    /// Whether sessions are to come here from other shards.
    pub is_any_arriving: bool,
    /// Clients that are not served before the journal has room.
    pub waiting_for_room: Vec<ConnectionId>,
    /// By the place among publications that are delivered together: deliveries to stored sessions.
    noted: Vec<DeliveryBuffer>,
    launches: VecDeque<Launch>,
    rewriting: Rewriting,
    /// Sessions whose clients were connected when the last broker died, and are not offline yet: what is written of them says so still.
    pub crashed: BTreeSet<StoreNumber>,
    /// Sessions whose next client has come while it is to be recorded that the will of the last one was published: their places in the table, and
    /// instance numbers. It is recorded behind that what they are now, with another will.
    wills_to_come: BTreeMap<StoreNumber, (u32, u64)>,
    /// Those of which that is to be recorded now.
    new_wills: Vec<(u32, u64)>,
    /// The store is renewed, and this shard has done its part, or not.
    renewal: Option<bool>,
    /// What is written is what was written before, to make room.
    makes_room: bool,
    /// Records that are lost, since the journal has failed: what waits for them waits for ever.
    lost: u64,
    /// Memory to encode records in.
    scratch: Vec<u8>,
}

impl Persistence {
    /// Nothing recorded by this boot yet, on shard `own` of `shards`.
    pub fn new(mut setup: PersistenceSetup, own: usize, shards: usize) -> Self {
        let (displaced, undecided) = (std::mem::take(&mut setup.displaced), std::mem::take(&mut setup.undecided));
        let mut persistence = Persistence {
            own,
            numbers: 0,
            commits: Commits::default(),
            behind: VecDeque::new(),
            answers: Answers::default(),
            gathered: false,
            gathered_incoming: Vec::new(),
            incoming: BTreeMap::new(),
            letters: Letters::new(shards),
            decisions: Decisions::new(own, shards, setup.last_decision),
            crashed: BTreeSet::new(),
            wills_to_come: BTreeMap::new(),
            new_wills: Vec::new(),
            renewal: setup.renews.then_some(false),
            setup,
            deferrals: Deferrals::default(),
            elsewhere: Elsewhere::default(),
            adoptions: Adoptions::default(),
            is_any_arriving: false,
            waiting_for_room: Vec::new(),
            noted: Vec::new(),
            launches: VecDeque::new(),
            rewriting: Rewriting::Idle,
            makes_room: false,
            lost: 0,
            scratch: Vec::new(),
        };
        displaced.into_iter().for_each(|number| persistence.write(&Record::Ended(number)));
        undecided.into_iter().for_each(|(number, key)| persistence.record_removed(number, key));
        persistence
    }

    /// The number of a session that is to be stored.
    pub fn next_number(&mut self) -> StoreNumber {
        self.numbers += 1;
        StoreNumber::new(self.setup.boot, self.own as u8, self.numbers)
    }

    /// How many records there are, those included that the journal had no room for.
    fn recorded(&self) -> u64 {
        self.commits.taken() + self.behind.len() as u64 + self.lost
    }

    /// Whether no client is to be served that publishes: the journal has little room, or none.
    pub fn is_crowded(&self) -> bool {
        !self.behind.is_empty() || self.setup.journal.room(Class::Ordinary).is_none_or(|room| room < CROWDED)
    }

    /// Whether nothing waits for the disk.
    pub fn is_settled(&self) -> bool {
        if self.renewal == Some(false) {
            return false;
        }
        let nothing_waits = self.behind.is_empty() && self.answers.is_empty() && self.deferrals.is_empty();
        nothing_waits && self.setup.journal.is_settled()
    }
}

/// What is recorded.
impl Persistence {
    fn write(&mut self, record: &Record<'_>) {
        let Persistence { setup, behind, commits, scratch, makes_room, .. } = self;
        let encoded = record.encode(scratch);
        let class = if *makes_room { Class::Relief } else { record.class() };
        let taken = match behind.is_empty() {
            true => setup.journal.append(class, encoded.kind, encoded.parts()),
            false => Err(Refused::Busy),
        };
        match taken {
            Ok(mark) => {
                commits.take(mark);
                self.note_rewritten();
            }
            // It is no packet of a client: those fit. Whoever waits for it waits for the others only.
            Err(Refused::TooLarge) => {
                let (shard, bytes) = (self.own, encoded.bytes());
                tracing::error!(
                    shard,
                    bytes,
                    "what is larger than a commit of the journal is not stored, and a restart forgets it"
                );
            }
            // It will have no room any more.
            Err(Refused::Failed) => self.lost += 1,
            Err(_) => behind.push_back((encoded.kind, encoded.parts().concat())),
        }
    }

    /// The journal may have room again for what it had none for. It may have all there is: that was taken on already.
    fn catch_up(&mut self) {
        while let Some((kind, body)) = self.behind.front() {
            let Ok(mark) = self.setup.journal.append(Class::Relief, *kind, &[body]) else { return };
            self.commits.take(mark);
            self.behind.pop_front();
            self.note_rewritten();
        }
    }

    /// A message was delivered to the stored session at this place of the table, which has this instance number; it is that at the place `at`
    /// of those that are delivered together.
    pub fn note(&mut self, at: usize, delivery: &Delivery<'_>, session: (u32, u64), decision: Option<DecisionNumber>) {
        if self.noted.len() <= at {
            self.noted.resize_with(at + 1, DeliveryBuffer::default);
        }
        self.noted[at].push(delivery);
        if delivery.qos == QoS::ExactlyOnce {
            self.launches.push_back(Launch { records: UNKNOWN, session, key: delivery.key, decision });
        }
    }

    /// All recipients here of these publications, which were delivered together, were seen to.
    pub fn record_noted<'p>(&mut self, publications: impl Iterator<Item = &'p Publication<'p>>) {
        let mut noted = std::mem::take(&mut self.noted);
        for (deliveries, publication) in noted.iter_mut().zip(publications).filter(|(one, _)| !one.is_empty()) {
            let message = StoredMessage::of_publication(publication, self.setup.wall);
            self.write(&Record::Message { message, deliveries: deliveries.deliveries() });
            deliveries.clear();
        }
        self.noted = noted;
        for (decision, id) in std::mem::take(&mut self.gathered_incoming) {
            self.write_deferred(Deferred::Taken(decision, id), false);
        }
        let records = self.recorded();
        for launch in self.launches.iter_mut().rev().take_while(|launch| launch.records == UNKNOWN) {
            launch.records = records;
        }
        if std::mem::take(&mut self.gathered) {
            self.answers.gathered_are_recorded(records);
        }
    }
}

/// What waits for the disk.
impl Persistence {
    /// So many letters were sent to another shard that lead to records there.
    pub fn sent_letters(&mut self, to: usize, sent: u64) {
        if to != self.own {
            self.letters.sent(to, sent);
        }
    }

    /// Something was published here that is not delivered to all at once: as if it was a letter to this shard itself.
    pub fn write_to_self(&mut self) {
        self.letters.send(self.own);
        self.letters.come(self.own);
    }

    /// Whether anything is recorded later only.
    pub fn is_anything_deferred(&self) -> bool {
        !self.deferrals.is_empty()
    }

    /// Something is to be recorded when all that was sent to other shards before is on disk there, and this decision is.
    pub fn defer(&mut self, deferred: Deferred, after: Option<DecisionNumber>) {
        let letters = self.letters.all_open();
        let decision = after.filter(|number| !self.decisions.is_made(*number));
        self.write_after(Awaited { letters, decision, ..Awaited::default() }, deferred);
    }

    fn write_after(&mut self, awaited: Awaited, deferred: Deferred) {
        match awaited == Awaited::default() && self.deferrals.is_empty() {
            true => self.write_deferred(deferred, false),
            false => self.deferrals.push(awaited, deferred),
        }
    }

    /// Records what was deferred, and may have been for other shards.
    fn write_deferred(&mut self, deferred: Deferred, is_elsewhere: bool) {
        let decision = match deferred {
            Deferred::Taken(decision, id) => {
                let Decision { session, number } = decision;
                self.write(&Record::Incoming { session, id, decision: Some(number) });
                match self.incoming.entry((session, id.get())) {
                    Entry::Occupied(expected) if *expected.get() == number => drop(expected.remove()),
                    // The id is in use again.
                    Entry::Occupied(_) => {}
                    // Its client does not wait for PUBREC.
                    Entry::Vacant(_) => self.write(&Record::Released(session, id)),
                }
                Some(decision)
            }
            Deferred::PassedOn(decision, key) => {
                let Decision { session, number } = decision;
                self.write(&Record::PassedOn { session, key, decision: number });
                Some(decision)
            }
            Deferred::WillGone(decision) => {
                self.write(&Record::WillGone(decision.session, decision.number));
                self.new_wills.extend(self.wills_to_come.remove(&decision.session));
                Some(decision)
            }
            Deferred::Ended(session) => {
                self.write(&Record::Ended(session));
                self.adoptions.forget(session);
                None
            }
        };
        if let Some(decision) = decision {
            self.decisions.write(decision, self.recorded(), is_elsewhere);
        }
    }

    fn write_those_deferred(&mut self) {
        loop {
            let Persistence { setup, commits, letters, decisions, deferrals, elsewhere, .. } = self;
            let on_disk = OnDisk { own: commits.committed(), letters: letters.committed(), decisions, elsewhere };
            let Some((deferred, was_elsewhere)) = deferrals.next(setup.durability, on_disk) else { return };
            self.write_deferred(deferred, was_elsewhere);
        }
    }

    /// A letter has come from another shard.
    pub fn letter_came(&mut self, from: usize) {
        self.letters.come(from);
    }

    /// A shard says how many letters of this one are on disk there with all that followed.
    pub fn letters_committed(&mut self, by: usize, committed: Committed) {
        self.letters.are_committed(by, committed);
        self.write_those_deferred();
    }

    /// All decisions of another shard below this count are on disk there.
    pub fn decisions_made(&mut self, by: usize, below: u64) {
        self.decisions.are_made(by, below);
        self.write_those_deferred();
    }

    /// What all other shards are to be told of decisions: those of this shard below this count are on disk.
    pub fn next_decisions(&mut self) -> Option<u64> {
        self.decisions.next_news()
    }

    /// A session is about to decide something that messages depend on; its last decision was this one. What it has decided has to be said in the
    /// same input, with [`take_incoming`](Self::take_incoming) or [`defer`](Self::defer).
    pub fn decide(&mut self, session: StoreNumber, last: DecisionNumber) -> Decision {
        self.decisions.give(session, last)
    }

    /// Nothing was decided, nothing depends on it.
    pub fn forget(&mut self, decision: Decision) {
        self.decisions.forget(decision);
    }

    /// What these shards have been sent and is not known to be on disk there.
    fn letters_to(&self, told: ShardSet) -> SmallVec<[(usize, u64); 2]> {
        told.iter().filter_map(|shard| Some((shard, self.letters.open(shard)?))).collect()
    }

    /// A client is to be answered when all that was recorded so far is on disk, what these shards have been sent, and a decision if there is one.
    /// Gives the answer back if that is so, and none of its answers waits.
    ///
    /// With `is_gathered`, the message is one of those that are delivered together, and not recorded yet: see
    /// [`record_noted`](Self::record_noted).
    pub fn answer(
        &mut self,
        connection: ConnectionId,
        (told, is_gathered): (ShardSet, bool),
        decision: Option<DecisionNumber>,
        answer: Answer,
    ) -> Option<Answer> {
        let durability = self.setup.durability;
        let mut awaited = Awaited { records: self.recorded(), letters: self.letters_to(told), decision, token: None };
        if is_gathered {
            (awaited.records, self.gathered) = (UNKNOWN, true);
        } else if self.counts() && !self.answers.any_of(durability) && awaited.is_there(durability, self.on_disk()) {
            return Some(answer);
        }
        self.answers.push(durability, awaited, connection, answer);
        None
    }

    fn on_disk(&self) -> OnDisk<'_> {
        let (letters, decisions, elsewhere) = (self.letters.committed(), &self.decisions, &self.elsewhere);
        OnDisk { own: self.commits.committed(), letters, decisions, elsewhere }
    }

    /// The next answer that need not wait any more.
    pub fn next_answer(&mut self) -> Option<(ConnectionId, Answer)> {
        if !self.counts() {
            return None;
        }
        let Persistence { commits, letters, decisions, elsewhere, answers, .. } = self;
        answers.next(OnDisk { own: commits.committed(), letters: letters.committed(), decisions, elsewhere })
    }

    /// The next session with QoS 2 messages that are on disk.
    pub fn next_launch(&mut self) -> Option<Launch> {
        if !self.counts() {
            return None;
        }
        let committed = self.commits.committed().of(self.setup.durability);
        let is_made = |launch: &&Launch| launch.decision.is_none_or(|decision| self.decisions.is_made(decision));
        self.launches.front().filter(|launch| launch.records <= committed).filter(is_made)?;
        self.launches.pop_front()
    }

    /// What was done at this time has been done. `portions`: so many messages in portions had been begun, of which so many are done; none if
    /// what shards have sent may be here without being delivered for another reason.
    pub fn end_input(&mut self, portions: Option<(u64, u64)>) {
        if let Some(portions) = portions.filter(|_| self.adoptions.under_way.is_empty()) {
            self.letters.end_turn(self.recorded(), self.elsewhere.last_passed_on(), portions);
            self.elsewhere.end_turn(self.recorded(), portions);
        }
    }

    /// What another shard is to be told: so many of its letters are on disk here.
    pub fn next_news(&mut self) -> Option<(usize, Committed)> {
        loop {
            let (shard, committed) = self.letters.next_news(self.commits.committed(), &self.elsewhere)?;
            if shard != self.own {
                return Some((shard, committed));
            }
            self.letters_committed(shard, committed);
        }
    }
}

/// What goes to other shards by itself, and comes from them.
impl Persistence {
    /// A session has gone to another shard, by this token: nothing of it counts here when it is on disk there.
    pub fn moved(&mut self, session: StoreNumber, token: u64) {
        self.adoptions.forget(session);
        self.elsewhere.send(token);
        self.deferrals.push(Awaited { token: Some(token), ..Awaited::default() }, Deferred::Ended(session));
    }

    /// Whether a session may go to another shard, whose client has this connection: nobody waits for anything that it has done, and if it has come from
    /// another shard, that is on disk. The next one says that it replaces the number it has here, and knows no other.
    pub fn may_move(&self, session: StoreNumber, connection: Option<ConnectionId>) -> bool {
        let is_decided = !self.decisions.is_any_unwritten(session);
        is_decided && self.counts() && connection.is_none_or(|id| !self.answers.has_for(id))
    }

    /// A message that came from another shard has gone on to a third one, by this token.
    pub fn passed_on(&mut self, token: u64) {
        self.elsewhere.pass_on(token);
    }

    /// The token by which a message was passed on last.
    pub fn last_passed_on(&self) -> u64 {
        self.elsewhere.last_passed_on()
    }

    /// A message has come by this token; what was passed on since another one was for it.
    pub fn owe(&mut self, to: usize, token: u64, since: u64) {
        self.elsewhere.owe(to, token, since);
    }

    /// What went to another shard by this token is on disk there.
    pub fn stored_elsewhere(&mut self, token: u64) {
        self.elsewhere.is_stored(token);
        self.write_those_deferred();
    }

    /// The next shard that is to be told that what came from it is on disk, and by which token it came.
    pub fn next_stored(&mut self) -> Option<(usize, u64)> {
        if !self.counts() {
            return None;
        }
        self.elsewhere.next_answer(self.commits.committed().of(self.setup.durability))
    }

    /// A session has come from another shard, where it had the number `before`.
    pub fn adopt(&mut self, adoption: Adoption, before: StoreNumber) {
        self.adoptions.begin(adoption, before);
    }

    /// A session that is being recorded, taken out: it goes [on](Self::go_on_adopting), or is [whole](Self::is_adopted).
    pub fn next_adoption(&mut self) -> Option<Adoption> {
        self.adoptions.under_way.pop_front()
    }

    /// Likewise that at this place in the table, if it is being recorded.
    pub fn adoption_of(&mut self, session: (u32, u64)) -> Option<Adoption> {
        let at = self.adoptions.under_way.iter().position(|adoption| adoption.session == session)?;
        self.adoptions.under_way.remove(at)
    }

    /// Not all of a session is recorded.
    pub fn go_on_adopting(&mut self, adoption: Adoption) {
        self.adoptions.under_way.push_front(adoption);
    }

    /// All of a session is recorded.
    pub fn is_adopted(&mut self, adoption: &Adoption) {
        let (records, (from, token)) = (self.recorded(), adoption.from);
        self.adoptions.end(records);
        self.elsewhere.owe_at(from, token, records);
    }

    /// Whether what is on disk counts: a session that has come does not before all of it is.
    fn counts(&self) -> bool {
        self.adoptions.are_whole(self.commits.committed().of(self.setup.durability))
    }
}

/// Room in the journal.
impl Persistence {
    /// What is to be written again now, to make room; [`rewritten`](Self::rewritten) has to follow. None if there is enough, or the journal takes
    /// no more at present.
    pub fn next_to_rewrite(&mut self) -> Option<Cursor> {
        if !self.is_to_be_rewritten() {
            return None;
        }
        // Where ordinary records have no room, this is what makes some.
        if !self.behind.is_empty() || self.setup.journal.room(Class::Relief).is_none_or(|room| room < CROWDED) {
            self.setup.journal.grow();
            return None;
        }
        let next = match &mut self.rewriting {
            Rewriting::Idle | Rewriting::Done { .. } => {
                self.rewriting = Rewriting::UnderWay { below: None, at: Cursor::End };
                Some(Cursor::Session(0))
            }
            Rewriting::UnderWay { at, .. } => Some(std::mem::replace(at, Cursor::End)),
            Rewriting::Committing { .. } => None,
        };
        self.makes_room = next.is_some();
        next
    }

    /// Whether what is needed is being written again, or has to be: it must fit into the other half of the journal. To do so once more when
    /// neither a segment was begun meanwhile nor anything was recorded would make no room.
    fn is_to_be_rewritten(&self) -> bool {
        let fullness = self.setup.journal.fullness();
        let is_half = fullness.live > 1 && fullness.live * 2 >= fullness.segments;
        match self.rewriting {
            Rewriting::Idle => is_half || self.renewal == Some(false),
            Rewriting::Done { live, records, .. } => {
                is_half && (fullness.live > live || self.recorded() > records && self.is_crowded())
            }
            Rewriting::UnderWay { .. } => true,
            Rewriting::Committing { .. } => false,
        }
    }

    /// If the store is renewed: what was written by earlier boots does not count any more.
    pub fn is_renewed(&mut self) {
        self.renewal = None;
        self.release_segments();
    }

    /// What was to be written again has been, up to here.
    pub fn rewritten(&mut self, up_to: Cursor) {
        self.makes_room = false;
        let records = self.recorded();
        let Rewriting::UnderWay { below, at } = &mut self.rewriting else { return };
        match (up_to, *below) {
            (Cursor::End, Some(below)) => {
                self.rewriting = Rewriting::Committing { below, records, deferred: self.deferrals.count() };
            }
            // Nothing counts at all of what there was.
            (Cursor::End, None) => {
                let below = match self.commits.last_mark() {
                    Some(mark) => self.setup.journal.generation_of(mark),
                    // All that there is was there at the start.
                    None => self.setup.journal.newest().map(|newest| newest + 1),
                };
                let (below, deferred) = (below.unwrap_or(0), self.deferrals.count());
                self.rewriting = Rewriting::Committing { below, records, deferred };
            }
            (up_to, _) => *at = up_to,
        }
        // All of it may be on disk already, and nothing else be under way there.
        self.release_segments();
    }

    /// The segment of the first record that is written again is known.
    fn note_rewritten(&mut self) {
        if let Rewriting::UnderWay { below: below @ None, .. } = &mut self.rewriting
            && let Some(mark) = self.commits.last_mark()
        {
            *below = self.setup.journal.generation_of(mark);
        }
    }

    /// Gives segments back that are not needed any more.
    fn release_segments(&mut self) {
        if let Rewriting::Committing { below, records, deferred } = self.rewriting
            && self.commits.committed().of(self.setup.durability) >= records
            && self.deferrals.are_done(deferred)
        {
            if self.renewal.is_some() {
                self.renewal = Some(true);
                return;
            }
            self.setup.journal.archive_below(below);
            self.rewriting = Rewriting::Done { below, live: usize::MAX, records: self.recorded() };
        }
        let Rewriting::Done { below, live, .. } = &mut self.rewriting else { return };
        let journal = &mut self.setup.journal;
        while let Some(oldest) = journal.oldest().filter(|oldest| oldest.generation < *below)
            && journal.release(oldest)
        {
            *live = journal.fullness().live;
        }
        *live = journal.fullness().live.min(*live);
    }
}

/// The journal.
impl Persistence {
    /// What is to be done for the journal now.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if !self.behind.is_empty() {
            // Nothing may be under way whose end would have them looked at.
            self.catch_up();
        }
        self.setup.journal.next_effect((self.setup.clock)())
    }

    /// Why it takes nothing more, if it does not: what is to be stored is not known to be on disk from then on, so nobody can be told that it is.
    pub fn failure(&self) -> Option<&Failure> {
        self.setup.journal.failure()
    }

    /// When there is something to be done for it, at the latest; since the start of the broker.
    pub fn wake_up(&self) -> Option<Duration> {
        self.setup.journal.wake_up()
    }

    /// Something was done for it, or could not be.
    pub fn done(&mut self, answer: journal::Answer) {
        let journal = &mut self.setup.journal;
        let had_failed = journal.failure().is_some();
        journal.answer(answer, (self.setup.clock)());
        if let Some(failure) = journal.failure().filter(|_| !had_failed) {
            tracing::error!(
                shard = self.own,
                "{failure}: what is to be stored here cannot be any more, so the broker ends"
            );
            self.lost += self.behind.len() as u64;
            self.behind.clear();
        }
        self.catch_up();
        let journal = &self.setup.journal;
        let fsynced = if self.setup.sync == Sync::Never { journal.flushed() } else { journal.fsynced() };
        self.commits.follow(journal.flushed(), fsynced);
        if self.counts() {
            self.decisions.are_committed(self.commits.committed().of(self.setup.durability));
        }
        self.write_those_deferred();
        self.release_segments();
    }
}

/// Sessions.
impl Persistence {
    /// A session has begun, or its client has come or changed its terms: all that is known of it, but for subscriptions and messages.
    pub fn record_session<S>(&mut self, number: StoreNumber, session: &Session<S>, now: Time) {
        let now = self.setup.wall.to_wall(now);
        let decided = self.decisions.written(number, session.last_decision);
        let (replaces, is_arriving) = self.adoptions.of(number);
        let record = SessionRecord::of(session, number, now, self.setup.wall);
        let offline = record.offline.filter(|_| !self.crashed.contains(&number));
        let record = SessionRecord { decided, replaces, is_arriving, offline, ..record };
        self.write(&Record::Session(Box::new(record)));
    }

    /// A client has come to a session, at this place with this instance number, of which that is recorded.
    pub fn client_came(&mut self, number: StoreNumber, session: (u32, u64)) {
        if self.deferrals.is_will_going(number) {
            self.wills_to_come.insert(number, session);
        }
    }

    /// The next session of which is to be recorded once more what it is.
    pub fn next_new_will(&mut self) -> Option<(u32, u64)> {
        self.new_wills.pop()
    }

    /// The client of a session has gone: since when, until when it is kept, and when its will is due if it is delayed.
    pub fn record_offline(&mut self, number: StoreNumber, (since, expires): (Time, Time), will_due: Option<Time>) {
        let wall = self.setup.wall;
        let offline = Offline {
            since: wall.to_wall(since),
            expires: wall.to_wall(expires),
            will_due: wall.to_wall(will_due.unwrap_or(Time::NEVER)),
            has_will: will_due.is_some(),
        };
        self.write(&Record::Offline(number, offline));
    }

    /// A subscription was added or replaced.
    pub fn record_subscribed(&mut self, session: StoreNumber, filter: &TopicFilter, subscription: Subscription) {
        self.write(&Record::Subscribed { session, filter: filter.as_str(), subscription });
    }

    /// A subscription was removed.
    pub fn record_unsubscribed(&mut self, session: StoreNumber, filter: &TopicFilter) {
        self.write(&Record::Unsubscribed { session, filter: filter.as_str() });
    }
}

/// Messages.
impl Persistence {
    /// A message was acknowledged, dropped, or goes to another session.
    pub fn record_removed(&mut self, session: StoreNumber, key: Key) {
        self.write(&Record::Removed(session, key));
    }

    /// What is stored of a message that waits for a client, or was sent.
    pub fn record_delivery(&mut self, session: StoreNumber, delivery: &OutgoingMessage, is_sent: bool) {
        let OutgoingMessage { message, key, qos, retain, ids, group } = delivery;
        if *qos == QoS::AtMostOnce || key.is_none() {
            return;
        }
        let group = group.as_ref().map(|group| group.as_str());
        let (key, ids) = (*key, ids[..].into());
        let mut one = DeliveryBuffer::default();
        one.push(&Delivery { session, key, qos: *qos, retain: *retain, is_sent, ids, group });
        let message = StoredMessage::of(message, self.setup.wall);
        self.write(&Record::Message { message, deliveries: one.deliveries() });
    }

    /// A message waits in the queue of the session that has this place in the table, and this instance number. If it has come from another shard, and
    /// may go to its client once only, it goes when it is on disk here.
    pub fn record_waiting(&mut self, number: StoreNumber, delivery: &OutgoingMessage, session: (u32, u64)) {
        self.record_delivery(number, delivery, false);
        if delivery.qos == QoS::ExactlyOnce && self.adoptions.of(number).1 {
            let decision = delivery.message.decision().map(|decision| decision.number);
            self.launches.push_back(Launch { records: self.recorded(), session, key: delivery.key, decision });
        }
    }

    /// A client has a QoS 2 message: only the end of the handshake is needed.
    pub fn record_received(&mut self, session: StoreNumber, key: Key) {
        self.write(&Record::Received(session, key));
    }

    /// Messages that had waited were sent, under their keys or others; the oldest first, if they go `in_order`.
    pub fn record_launched(&mut self, session: StoreNumber, launched: &[(Key, Key)], in_order: bool) {
        // Out of order it has to be said of each, or those behind it would get other packet ids after a crash, which their client takes for new ones.
        for (before, now) in launched.iter().filter(|(before, now)| !in_order || before != now) {
            self.write(&Record::Renumbered { session, before: *before, now: *now });
        }
        // Of those before the last one that is known with it.
        if let Some((_, last)) = launched.iter().rev().find(|(before, now)| before == now).filter(|_| in_order) {
            self.write(&Record::Launched(session, *last));
        }
    }

    /// A message of QoS 2 has got another key, and waits until that is on disk. `session`: its place in the table, and its instance number.
    pub fn record_renumbered(&mut self, number: StoreNumber, (before, now): (Key, Key), session: (u32, u64)) {
        self.write(&Record::Renumbered { session: number, before, now });
        self.launches.push_back(Launch { records: self.recorded(), session, key: now, decision: None });
    }

    /// A QoS 2 message of a client was taken, and went to these shards. That is recorded behind the message: one that is sent again would be
    /// passed over else, though the message is lost.
    pub fn take_incoming(&mut self, decision: Decision, id: PacketId, (told, is_gathered): (ShardSet, bool)) {
        self.incoming.insert((decision.session, id.get()), decision.number);
        let awaited = Awaited { letters: self.letters_to(told), ..Awaited::default() };
        if is_gathered && awaited.letters.is_empty() && self.deferrals.is_empty() {
            self.gathered_incoming.push((decision, id));
        } else {
            self.write_after(awaited, Deferred::Taken(decision, id));
        }
    }

    /// The decision to take a QoS 2 message of a client, if it will be recorded that it was taken.
    pub fn incoming(&self, session: StoreNumber, id: PacketId) -> Option<DecisionNumber> {
        self.incoming.get(&(session, id.get())).copied()
    }

    /// A QoS 2 message of a client was taken, and is on disk.
    pub fn record_incoming(&mut self, session: StoreNumber, id: PacketId) {
        self.write(&Record::Incoming { session, id, decision: None });
    }

    /// Its client has released it.
    pub fn record_released(&mut self, session: StoreNumber, id: PacketId) {
        if self.incoming.remove(&(session, id.get())).is_none() {
            self.write(&Record::Released(session, id));
        }
    }

    /// A message is retained.
    pub fn record_retained(&mut self, mountpoint: &str, message: &Message) {
        let message = StoredMessage::of(message, self.setup.wall);
        self.write(&Record::Retained { mountpoint, message });
    }

    /// Nothing is retained for a topic any more.
    pub fn record_cleared(&mut self, mountpoint: &str, topic: TopicName<'_>) {
        self.write(&Record::Cleared { mountpoint, topic });
    }
}
