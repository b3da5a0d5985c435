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
//! What a session takes from its client with QoS 2, gives away to another one, or has published as its will is stored by others before that is decided:
//! see `decisions`. PUBREC waits for the decision, and so do QoS 2 messages to others; after a crash what was not decided counts nowhere.
//!
//! Answers of one shard go out in the order in which they were made, to clients who are promised the same.
//!
//! # What is promised to whom
//!
//! Of each session it is agreed on what is to survive: nothing (it is not stored), the end of the process, or a loss of power. A commit is synced if any
//! record in it is of a session of the last kind, or of a message whose publisher is; and so is what moves, ends and decides. Who is promised less
//! waits for the write alone: its PUBACK, SUBACK, UNSUBACK, PUBCOMP, CONNACK and QoS 2 messages. PUBREC waits for the decision, which is synced as soon as
//! anybody on the shard is promised that.
//!
//! # Bounds
//!
//! The journal has its own. When it is full, or as much waits for its commit as may, what is recorded nevertheless waits here, in memory; and no
//! client is served that publishes ([`Persistence::is_crowded`]), so that no more than a turn's worth comes. Nor is one sent what is in pages, of which
//! all is recorded that is sent, but for so much after each round of rewriting: [`Persistence::may_send_pages`].
//!
//! When queues have grown by [`Paging::memory`], they are moved to the archive, if there is one. What comes to them meanwhile comes on top.

mod adopting;
mod answers;
mod commits;
mod copying;
mod cutting;
mod decisions;
mod deferrals;
mod elsewhere;
mod following;
mod growth;
mod launches;
mod letters;
mod moving;
mod on_disk;
mod pages;
mod paging;
mod promises;
mod recording;
mod rewriting;
mod room;
mod standstill;
#[cfg(test)]
mod tests;
mod waiting;

pub use adopting::Adoption;
pub use answers::{Answer, Awaited};
pub use commits::{Committed, Durability};
pub use deferrals::Deferred;
pub use following::{JournalReport, StoreFailure};
pub use pages::{PageNews, PageOf, Paging};
pub use rewriting::{Cursor, SessionCursor};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use adopting::Adoptions;
use answers::Answers;
use commits::Commits;
use cutting::{Cutting, Stage};
use decisions::Decisions;
use deferrals::Deferrals;
use elsewhere::Elsewhere;
use growth::Growth;
use launches::Launches;
use letters::Letters;
use on_disk::OnDisk;
use pages::Pages;
use promises::{Noted, Promises};
use rewriting::{Renewal, Rewriting};
use standstill::Standstill;

use crate::codec::PacketId;
use crate::journal::{Class, Journal, Refused, Sync};
use crate::numbers::{Decision, DecisionNumber};
use crate::records::{Beginning, Record, WallClock};
use crate::session::{StoreNumber, Will};

/// With less room than this in the journal, nothing is published that may have to be recorded: so much may follow from what is served
/// already.
const CROWDED: usize = 256 * 1024;

/// What persistence on one shard begins with.
pub struct PersistenceSetup {
    /// The journal of the shard.
    pub journal: Journal,
    /// How queues get into the archive, if there is one.
    pub paging: Option<Paging>,
    /// Which boot of the store this is, from 1.
    pub boot: u32,
    /// How a commit becomes durable. With [`Sync::Never`] nobody is promised that anything survives a loss of power.
    pub sync: Sync,
    /// The most that anybody is promised by the configuration. A session may be promised more.
    pub durability: Durability,
    /// The time since the start of the broker, more exact than that of inputs.
    pub clock: Box<dyn Fn() -> Duration>,
    /// How that stands to the calendar.
    pub wall: WallClock,
    /// What earlier boots have left.
    pub beginning: Beginning,
}

/// A QoS 2 message of a client that is delivered together with others.
#[derive(Debug)]
struct GatheredIncoming {
    decision: Decision,
    id: PacketId,
    /// Its client has released it: it does not wait for PUBREC.
    is_released: bool,
}

impl GatheredIncoming {
    fn is_of(&self, session: StoreNumber, id: PacketId) -> bool {
        (self.decision.session, self.id) == (session, id)
    }
}

/// The organ; one for each shard that has a store.
pub struct Persistence {
    setup: PersistenceSetup,
    own: usize,
    /// How many numbers were given.
    numbers: u32,
    on_disk: OnDisk,
    /// Records that the journal had no room for, in order.
    behind: VecDeque<(u8, Vec<u8>, bool)>,
    answers: Answers,
    /// Whether there are answers to messages that are gathered and not delivered yet.
    gathered: bool,
    /// QoS 2 messages among these: that they were taken is recorded behind them.
    gathered_incoming: Vec<GatheredIncoming>,
    /// QoS 2 messages of clients of which it is recorded later that they were taken.
    incoming: BTreeMap<(StoreNumber, u16), DecisionNumber>,
    deferrals: Deferrals,
    adoptions: Adoptions,
    /// Whether sessions are to come here from other shards, or what was buffered for one that has come is in no queue yet.
    pub is_any_arriving: bool,
    standstill: Standstill,
    /// By the place among publications that are delivered together: deliveries to stored sessions.
    noted: Vec<Noted>,
    promises: Promises,
    launches: Launches,
    /// How long the last commit took.
    last_commit: Option<Duration>,
    rewriting: Rewriting,
    /// How often in a row what is needed was written again though nothing had been recorded.
    moves: u8,
    /// What goes to the archive, if there is one.
    pages: Option<Pages>,
    /// How much queues have grown since they were moved there last.
    growth: Growth,
    /// If they are being moved: up to which session, by its place in the table.
    moved_out_below: Option<u32>,
    /// So many bytes of short queues may still be written to the journal in this round.
    tails_left: usize,
    /// So many bytes were sent out of pages, with no room in the journal, since what is needed was written again.
    sent_while_crowded: usize,
    /// Sessions whose clients were connected when the last broker died, and are not offline yet: what is written of them says so still.
    pub crashed: BTreeSet<StoreNumber>,
    /// Sessions whose next client has come while it is to be recorded that the will of the last one was published: their places in the table, and
    /// instance numbers. It is recorded behind that what they are now, with another will.
    wills_to_come: BTreeMap<StoreNumber, (u32, u64)>,
    /// Those of which that is to be recorded now.
    new_wills: Vec<(u32, u64)>,
    /// Wills that were published, of which that is to be recorded: until then they are what is recorded of their sessions, whatever will these have by now.
    wills_going: BTreeMap<StoreNumber, Will>,
    renewal: Renewal,
    /// Where the journal is cut for a copy.
    cutting: Cutting,
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
        let beginning = std::mem::take(&mut setup.beginning);
        let Beginning { displaced, undecided, orphans, gone_pages, last_decision, renews } = beginning;
        let on_disk = OnDisk {
            commits: Commits::default(),
            letters: Letters::new(shards),
            decisions: Decisions::new(own, shards, last_decision),
            elsewhere: Elsewhere::default(),
        };
        let promises = Promises::new(setup.durability, setup.sync);
        let mut pages = setup.paging.map(|paging| Pages::new(own, paging));
        if let Some(pages) = &mut pages {
            orphans.into_iter().for_each(|id| pages.delete_all(id));
            gone_pages.into_iter().for_each(|page| pages.delete(page.pages_id, page.keys));
        }
        let mut persistence = Persistence {
            own,
            numbers: 0,
            on_disk,
            behind: VecDeque::new(),
            answers: Answers::default(),
            gathered: false,
            gathered_incoming: Vec::new(),
            incoming: BTreeMap::new(),
            crashed: BTreeSet::new(),
            wills_to_come: BTreeMap::new(),
            new_wills: Vec::new(),
            wills_going: BTreeMap::new(),
            renewal: if renews { Renewal::UnderWay } else { Renewal::None },
            setup,
            deferrals: Deferrals::default(),
            adoptions: Adoptions::default(),
            is_any_arriving: false,
            standstill: Standstill::default(),
            noted: Vec::new(),
            promises,
            launches: Launches::default(),
            last_commit: None,
            rewriting: Rewriting::Idle,
            moves: 0,
            pages,
            growth: Growth::default(),
            moved_out_below: None,
            tails_left: 0,
            sent_while_crowded: CROWDED,
            cutting: Cutting::default(),
            makes_room: false,
            lost: 0,
            scratch: Vec::new(),
        };
        displaced.into_iter().for_each(|number| persistence.write(&Record::Ended(number)));
        undecided.into_iter().for_each(|(number, key)| persistence.write(&Record::Removed(number, key)));
        persistence
    }

    /// The number of a session that is to be stored.
    pub fn next_number(&mut self) -> StoreNumber {
        self.numbers += 1;
        StoreNumber::new(self.setup.boot, self.own as u8, self.numbers)
    }

    /// How many records there are, those included that the journal had no room for.
    fn recorded(&self) -> u64 {
        self.on_disk.commits.taken() + self.behind.len() as u64 + self.lost
    }

    /// Whether no client is to be served that publishes: the journal has little room, or none.
    pub fn is_crowded(&self) -> bool {
        !self.behind.is_empty() || self.setup.journal.room(Class::Ordinary).is_none_or(|room| room < CROWDED)
    }

    /// Whether nothing waits for the disk.
    pub fn is_settled(&self) -> bool {
        if self.renewal == Renewal::UnderWay {
            return false;
        }
        let nothing_waits = self.behind.is_empty() && self.answers.is_empty() && self.deferrals.is_empty();
        nothing_waits && self.setup.journal.is_settled() && self.pages.as_ref().is_none_or(Pages::is_settled)
    }
}

/// What is recorded.
impl Persistence {
    /// Writes a record, which is to survive what the session is promised that it is about.
    fn write(&mut self, record: &Record<'_>) {
        self.write_as(record, self.makes_room || self.promises.of_record(record));
    }

    /// Writes a record, which is to survive a loss of power or not.
    fn write_as(&mut self, record: &Record<'_>, is_to_be_synced: bool) {
        let is_to_be_synced = is_to_be_synced && self.promises.is_any_fsynced();
        let Persistence { setup, behind, on_disk, scratch, makes_room, .. } = self;
        let encoded = record.encode(scratch);
        let class = if *makes_room { Class::Relief } else { record.class() };
        let taken = match behind.is_empty() {
            true => setup.journal.append_as(class, is_to_be_synced, encoded.kind, encoded.parts()),
            false => Err(Refused::Busy),
        };
        match taken {
            Ok(mark) => {
                on_disk.commits.take(mark, is_to_be_synced);
                self.note_taken();
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
            Err(_) => behind.push_back((encoded.kind, encoded.parts().concat(), is_to_be_synced)),
        }
    }

    /// The journal may have room again for what it had none for. It may have all there is: that was taken on already.
    fn catch_up(&mut self) {
        while let Some((kind, body, is_to_be_synced)) = self.behind.front() {
            let taken = self.setup.journal.append_as(Class::Relief, *is_to_be_synced, *kind, &[body]);
            let Ok(mark) = taken else { return };
            self.on_disk.commits.take(mark, *is_to_be_synced);
            self.behind.pop_front();
            self.note_taken();
        }
    }

    /// The journal has taken another record: perhaps the last one of the copy.
    fn cut_journal(&mut self) {
        if let Stage::Waiting(records) = self.cutting.stage
            && self.on_disk.commits.taken() + self.lost >= records
        {
            self.cutting.stage = Stage::Cut(records, self.setup.journal.cut());
        }
    }

    /// The journal has taken a record. The segment of the first one that is written again is known.
    fn note_taken(&mut self) {
        self.cut_journal();
        if let Rewriting::UnderWay { below: below @ None, .. } = &mut self.rewriting
            && let Some(mark) = self.on_disk.commits.last_mark()
        {
            *below = self.setup.journal.generation_of(mark);
        }
    }

    /// Whether what is on disk counts: a session that has come, or is stored from now on, does not before all of it is.
    fn counts(&self) -> bool {
        self.adoptions.are_whole(self.on_disk.records())
    }

    /// Whether it does for other shards, which may be waited for by a session that is stored from now on.
    fn moves_count(&self) -> bool {
        self.adoptions.are_moves_whole(self.on_disk.records())
    }
}
