//! The records of a store: what a shard writes into its journal, and what all of them say in the end. No I/O.
//!
//! It owns the form of records, and the rules by which they are read. It trusts those who encode to be right, and no byte that is decoded. It
//! never knows where records are, when they are written, or what becomes of a session that is read.
//!
//! # How it is used
//!
//! A [`Record`] borrows what it says. [`Record::encode`] gives the pieces for a journal, of which only a small front is written; [`Record::class`]
//! tells whether it may have the last room on disk. At a start [`Record::decode`] checks what is there, and an [`Image`] takes it in:
//! all boots in order, of each boot the journal of one shard after the other. What it holds then are the [`Contents`] of the store. The time in
//! records is that of the calendar, a [`WallTime`]; a [`WallClock`] makes it of the time of the core, and back.
//!
//! # What is named
//!
//! * A *stored session* has a [`StoreNumber`](crate::session::StoreNumber), which no other one ever gets: which boot of the store, which
//!   shard of it, which session of that. It gets another one when it moves to another shard. All its records are in journals of the shards
//!   that had it under this number: one in each boot.
//! * A message of a session has a [`Key`](crate::session::Key), which no other one of that session has. Its packet id follows from it.
//! * A *boot* is each opening of the store by a broker.
//!
//! # The records
//!
//! | kind | record | what it says | body |
//! |---|---|---|---|
//! | 1 | [`Session`](Record::Session) | the header of a session: it is made, or its header replaced | place, mountpoint, client id (text each), fields |
//! | 2 | [`Offline`](Record::Offline) | it is offline now | place; 1 if it has a will still, else 0; since, expires, will due (number each, ms since 1970) |
//! | 3 | [`WillGone`](Record::WillGone) | its will was published | place, decision |
//! | 4 | [`Subscribed`](Record::Subscribed) | a subscription was added or replaced | place, options (the byte of MQTT 5.0), identifier (number, 0: none), filter |
//! | 5 | [`Unsubscribed`](Record::Unsubscribed) | a subscription was removed | place, filter |
//! | 6 | [`Message`](Record::Message) | a message, and the sessions of this shard that it is for | message head, how many (number), deliveries, message |
//! | 7 | [`Removed`](Record::Removed) | acknowledged, dropped, expired | place with key |
//! | 8 | [`Received`](Record::Received) | PUBREC came: the message is needed no more, only its key | place with key |
//! | 9 | [`Renumbered`](Record::Renumbered) | it was sent, past others that wait or with another key than it had in the queue | place with the key before; the key now (number) |
//! | 10 | [`Launched`](Record::Launched) | all that wait up to this key were sent | place with key |
//! | 11 | [`Incoming`](Record::Incoming) | a PUBLISH of QoS 2 was taken from the client, PUBREL not yet | place with packet id; decision, or 0 |
//! | 12 | [`Released`](Record::Released) | PUBREL came for it | place with packet id |
//! | 13 | [`Ended`](Record::Ended) | nothing of the session counts any more | place |
//! | 14 | [`Retained`](Record::Retained) | the message is the retained one of its topic | message head, mountpoint (text), message |
//! | 15 | [`Cleared`](Record::Cleared) | the topic has none any more | mountpoint (text), topic |
//! | 16 | [`PassedOn`](Record::PassedOn) | it went on to another session | place with key, decision |
//! | 17 | [`HookState`](Record::HookState) | what the hooks keep with it | place, bytes of the hooks; none if they keep nothing |
//!
//! A *number* has seven bits a byte, the lowest first, all but the last with the high bit set; a ninth byte has eight bits and is the last. A *text*
//! is its length, a number, and so many bytes of UTF-8; the last one of a body goes without its length. No number is longer than it has to be, and no
//! byte follows the last one that is said here: what is read is what would be written.
//!
//! A *place* is a session, and a number of 48 bits that belongs to it: a key, as one more than it is, or a packet id. Its first byte tells how long
//! its numbers are, the lowest byte of each first: bits 0 and 1 one less than that of the counter, 2 and 3 one less than that of the boot, 4 to 6
//! that of the key (none, if it has none); bit 7 is zero. Then follow boot, shard (one byte), counter and key. So an acknowledgement has nine bytes as a
//! rule, and fifteen at most.
//!
//! A *decision* is a number that is not zero: see [`DecisionNumber`](crate::numbers::DecisionNumber).
//!
//! A *message head* is a byte (bits 0 and 1: QoS, 2: RETAIN, 3: it expires, 4: it depends on a decision; others zero), when it expires if it does (number,
//! ms since 1970), what it depends on if it does (place, decision), the lengths of its topic and of its properties (number each). The *message* is topic, properties and payload, and ends the body. Properties are those that go
//! on to receivers.
//!
//! A *delivery* is a byte (bits 0 and 1: QoS, not 0; 2: RETAIN; 3: it was sent at once; 4: through a shared subscription; 5: one Subscription
//! Identifier; 6: several), a place with its key, how many identifiers if they are several, the identifiers (number each), and the filter of the shared
//! subscription, with `$share` (text).
//!
//! A *field* is a tag (one byte), the length of its value (number), and the value. Tags ascend. One that is not known is passed over, so that later
//! versions can add some; one that is missing has its default, so that they can read what this one wrote.
//!
//! | tag | value | if it is missing |
//! |---|---|---|
//! | 1 | peer: 4 or 16 bytes of address, port (2, low byte first); of IPv6 flow and scope (4 each) if one is not zero | 0.0.0.0:0 |
//! | 2, 4 | listener, user name (UTF-8) | empty, none |
//! | 3 | protocol version (number: 3, 4 or 5) | 4 |
//! | 5, 6 | when it connected (number, ms since 1970), session number | 0 |
//! | 7 | replaces: the place that it had before, which counts no more | none |
//! | 8 | nothing: it is arriving, see below | it is whole |
//! | 9 | offline, as in the record | it is online |
//! | 10 | will: 1 if it expires, else 0; delay, expiry if it does (number, ms); mountpoint (text); message head, message | none |
//! | 11 | what the hooks keep with it | nothing |
//! | 12 | up to which one its decisions were made (number) | none |
//! | 13 | the place under which its pages are in the archive | its own |
//! | 32 | kept: 0 or 1 | 1 |
//! | 33, 55 | highest topic alias of the client, of the broker | 0 |
//! | 34 | session expiry (ms) | for ever |
//! | 35, 54 | Receive Maximum of the broker, of the client | 65,535 |
//! | 37 | highest QoS | 2 |
//! | 38 to 41 | whether it may retain, use wildcards, Subscription Identifiers, shared subscriptions | 1 |
//! | 42 | whether it is a bridge | 0 |
//! | 43 | messages a second | 0: as many as come |
//! | 44 | policy for shared subscriptions: random, round robin, sticky, by publisher, local first | 0 |
//! | 45, 46, 47 | most messages online, offline, most bytes of its queue | unlimited |
//! | 48 | order of the queue: fifo, lifo | 0 |
//! | 49 | longest life of a connection (ms) | for ever |
//! | 50 | retry interval (ms) | 0 |
//! | 51 | keep alive (s) | 0 |
//! | 52 | whether it wants problem information | 1 |
//! | 36, 53 | largest packet from the client, to it (bytes) | unlimited |
//! | 56 | whether QoS is upgraded | 0 |
//!
//! Values from 32 on are numbers; 2⁶⁴ - 1 is for ever and unlimited there.
//!
//! # Pages
//!
//! What waits for a session may be in the archive, in *pages*: runs of messages in the order of the queue, each stored under a number of the session
//! and the lowest key in it. That number is the one that the session had when its first page was written; it keeps it when it moves, and its header
//! says so. A page does not change. [`PageBuilder`] makes one and its *summary*, [`read_page`] and [`read_summary`] read them.
//!
//! A page is a checksum, and messages, each with its length in front (number): as the body of a record of kind 6, with one delivery, to the number of the
//! pages, which was not sent and came through no shared subscription; nothing that depends on a decision. A summary is a checksum, how many bytes the
//! messages have in memory (number), and of each key but the lowest, in ascending order, how much greater it is than the one before (number). The
//! checksum is a CRC-32C in four bytes, the lowest first, of the place (number of the pages, lowest key: eight bytes each, the lowest first)
//! and all that follows it.
//!
//! # How they are read
//!
//! Every record says how something is, not what has changed: so a stretch that is read twice, with all that follows it, says nothing else. What names a
//! session that is not known is passed over and [counted](Counts::passed_over).
//!
//! A session that moves is written at its new shard with a new number: its header with field 8, what belongs to it, its header without field 8 and
//! with field 7. From that last one on the old number counts no more, whatever is read of it and wherever. If a crash comes before it, the old one counts.
//!
//! A message may depend on a decision of a session: that it took it from its client, or gave it away, or that its will was published. That is recorded
//! by its shard when all others have the message on disk, with a number that ascends for each session. If a crash comes before it, the message counts
//! nowhere, for it comes again; that has to be recorded by who goes on, before anything else is decided: [`Contents::undecided`]. If the session has
//! ended, nobody does it again, and it counts. A session that has come from another shard decides by the number that it had there, until the
//! broker starts again: if that still counts after a crash, the decision was not made, and else it is looked for at the number that has replaced it.
//!
//! A crash may leave two numbers of one subscriber id, since shards do not write at the same time. One counts: see [`Image::finish`]. The other one is
//! [displaced](Contents::displaced), and has to be ended by who goes on: its records outlast those by which it is known that it does not count.
//!
//! An image has to know the summaries of all pages before the first record: [`Image::page`]. In the end each session that counts gets
//! its [pages](StoredSession::pages). What waits, and is in a page, is in the page alone. What records say anything else of, be it sent, received,
//! removed, passed on, or renumbered before, is gone from the page, though no record has the message. All other keys of pages wait. So what is sent
//! out of a page is recorded in full, and of what is gone it has to be said until the page is deleted from the archive. Pages that no session gets
//! are [orphans](Contents::orphans).
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | time of decoding | linear in the length of the body |
//! | memory of decoding | a header of a session takes some hundred bytes; all else borrows |
//! | time, memory of decoding a page or a summary | in proportion to its length; sorting the keys |
//! | memory of an image | what counts: each message once, however many sessions have it; a number for each session that moved; 4096 texts and 4096 filters of groups that may be repeated; of pages the summaries, and twice as many numbers as a session's pages have keys, at most |

mod apart;
mod by_key;
mod bytes;
mod delivery;
mod fields;
mod home;
mod image;
mod message;
mod offline;
mod options;
mod page;
mod paged;
mod reach;
mod reading;
mod record;
mod session_record;
mod settings_fields;
mod shared;
mod shares;
mod stored_session;
#[cfg(test)]
mod tests;
mod wall_clock;

pub use apart::Part;
pub use by_key::ByKey;
pub use delivery::{Deliveries, Delivery, DeliveryBuffer, StoredIds};
pub use image::{Contents, Counts, Image};
pub use message::StoredMessage;
pub use offline::Offline;
pub use page::{BadPage, NewPage, PageBuilder, read_page, read_summary, summarize, summary};
pub use record::{BadRecord, Encoded, Record};
pub use session_record::{SessionRecord, StoredWill};
pub use shares::{Beginning, GonePage, Share};
pub use stored_session::{StoredDelivery, StoredSession, StoredStage};
pub use wall_clock::{WallClock, WallTime};
