//! The journal of one shard: records in the order in which they were appended, on disk. A state machine without I/O.
//!
//! It owns the format of its files, the space in them, and what waits for a commit. It trusts that effects are carried out as they say. It never
//! knows what is in a record, reads a clock, or opens a file.
//!
//! # How it is used
//!
//! 1. At a start the files are locked, synced and opened as [`Reader`] says. It lends the records one by one, and at its end gives a [`Recovered`] and
//!    the [`Finding`]s. The files that `Recovered` names, and their directory, are synced, if that was not done before.
//! 2. [`Journal::new`] goes on from there. [`Journal::append`] takes records; each gets a [`Mark`], and is in a segment whose generation
//!    [`Journal::generation_of`] says.
//! 3. After each turn, and at [`Journal::wake_up`], all that [`Journal::next_effect`] says is begun, and answered when it is done:
//!    [`Journal::written`], [`Journal::synced`], [`Journal::prepared`].
//! 4. What waits for a mark goes on when [`Journal::flushed`] or [`Journal::fsynced`] has reached it.
//! 5. When [`Journal::oldest`] names a segment, all that is still needed of it goes to the archive; then [`Journal::release`]. [`Journal::seal`] wants
//!    that for all.
//! 6. For a copy while it goes on, [`Journal::hold`] keeps the files of segments that are released, [`Journal::cut`] says which bytes of which
//!    files the copy has, and [`Journal::let_go`] ends that. Each [`Piece`] of the copy gets a [header](Piece::restate) of its own.
//!
//! # What it guarantees
//!
//! * After the end of the process every record up to [`flushed`](Journal::flushed) is read again, and after a loss of power every record up to
//!   [`fsynced`](Journal::fsynced) (one whose segment was released excepted): in order, none twice, and none that was not appended. Records beyond
//!   may be read, too, but none without all those before it. Where not all is [to be synced](Journal::append_as), a loss of power may leave holes behind
//!   the last sync, and before the first one of an opening: they are told. So it may anywhere with [`Sync::Never`].
//! * A bad bit costs the frame it is in, the last one as any other, and nothing else. One in the header of a segment costs nothing.
//! * What is lost and has something behind it is told, and its file is never used again, but set aside: also if the broker ends before that, or a start
//!   went on without it. (If there is no room on the disk for another file, or if setting aside fails, it may be used again.)
//! * What was released is read again at most until another segment has been prepared, and as a whole: the end of the journal is then the same, and
//!   its beginning somewhat earlier. So a record that is archived may come once more at a start, and the archive has to bear that.
//! * What a start could not read does not come back at a later one, if there was nothing behind it and the journal went on: a segment was prepared.
//! * Marks and generations only grow, from one opening to the next; also if all files are lost, with a [`Floor`] that is kept elsewhere.
//! * A file of another store, shard or version, or that is nothing of ours, is neither read nor written.
//! * Whatever is in the files, reading ends, and does not panic.
//! * After a failed write or sync no mark advances, and nothing is tried again. A write that the system has not begun has not failed:
//!   [`Journal::written`].
//!
//! # What does not hold
//!
//! * Some losses cannot be told from what the end of a process leaves: if the last frame of all is damaged, or several last ones in their
//!   headers, that is a torn tail, or nothing at all where no header can be recognized.
//! * If the whole block of the header of a segment is lost, what it alone said is lost with it: which segments before it are archived, and which
//!   frames were given up. So some of those may be read again.
//! * It relies on those who open the files: without the lock, the sync and the reading that [`Reader`] asks for, a late write or a sync that
//!   failed costs what was acknowledged.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | memory of what waits | `buffer_bytes`, one frame more for relief, and one frame on its way to the disk ([`Settings`]); [`Refused::Busy`] beyond |
//! | disk | `segments` of `segment_bytes`, and up to `most_segments` where [what is needed](Journal::fit_to_need) takes more than a third of them; more only where a start finds more, until they are archived, and one for relief then, however often the broker has ended before that, one while something is set aside, and [as many again](Journal::grow) while what is needed is written once more, and those that were [held](Journal::hold) for a copy; [`Refused::Full`] beyond |
//! | files that are set aside or left alone | not bounded here: [`Effect::SetAside`], [`Recovered::left_alone`] |
//! | a record | [`CheckedSettings::largest_body`]; [`Refused::TooLarge`] beyond |
//! | commits | one at a time, and the next no sooner than `commit_interval` after the last began |
//! | a write that the system does not begin | [`MOST_ATTEMPTS`] times, [so far](BEGUN_AGAIN_AFTER) apart |
//! | ordinary records | as long as a whole segment is left for relief |
//! | tries to prepare a segment | one at a time; if they fail, from [a second](PREPARED_AGAIN_AFTER) to [a minute](PREPARED_AGAIN_AT_LEAST_AFTER) apart, or when a segment is released |
//! | memory of reading | a window of 256 KiB, one frame (at most [`LARGEST_FRAME`]), and 1000 findings |
//! | time of reading | each block is looked at once, also of archived segments that are still there; a frame with a sound header is read whole; a bad block costs two or three reads that fail, and after [`MOST_UNREADABLE`] a file is given up |
//! | numbers | 2²² openings for marks, 2³⁰ for generations; [`OpenError::NoNumbers`] beyond |
//!
//! # The format
//!
//! Numbers are little-endian. All checksums are CRC-32C. A file is a *segment*, and is always the same number of bytes long: one block of 4096 bytes
//! with its header, then *frames*, one behind the other, each on whole blocks. What is behind the last frame is zeros, or remains from an earlier
//! use of the file.
//!
//! The header of a segment stands twice in its first block, at 0 and at 2048; the rest of the block is zero. If the two differ, the greater
//! generation counts: the file was being recycled, but frames of a generation that is greater still say more. If neither is sound, the greatest
//! generation among the frames of the file is taken.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `moormq-J` |
//! | 8 | 4 | checksum of the bytes from 12 to 96 |
//! | 12 | 4 | version of the format, 1. All versions have these first three at the same place |
//! | 16 | 16 | store |
//! | 32 | 4 | shard |
//! | 36 | 4 | zero |
//! | 40 | 8 | generation: counted up with each use of any file. The order of segments is that of their generations |
//! | 48 | 8 | generation of the segment before, 0 if there was none: tells that one is missing |
//! | 56 | 8 | oldest generation that still counted when this one was prepared: those below are archived, whatever is found of them |
//! | 64 | 8 | length of the file |
//! | 72 | 8 | when the journal was opened that prepared it, in seconds since 1970 |
//! | 80 | 8 | number of the last frame that was read at that opening, 0 if none was |
//! | 88 | 8 | number of the first frame after that opening: those between the two were given up |
//!
//! A frame is one commit:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `mqJf` |
//! | 4 | 4 | checksum of the bytes from 8 to 40, seeded |
//! | 8 | 4 | length of the records |
//! | 12 | 4 | checksum of the records, seeded |
//! | 16 | 8 | number: one more than that of the frame before; 2⁴⁰ more than any before after each opening |
//! | 24 | 8 | number of the frame before, 0 if there was none: tells that one is missing |
//! | 32 | 8 | generation of its segment |
//! | 40 | | records, then zeros up to the next block |
//!
//! Both its checksums go on from that of: store (16 bytes), shard (4), generation (8), where the frame is in its file (8). So nothing is taken for a
//! frame that remains from an earlier use of the file, was written by another journal or to another place, or that a client has made up, which does
//! not know the store's id. The header has a checksum of its own: a length that can be relied on bounds the time that is spent on what looks
//! like a frame.
//!
//! A record is its kind (1 byte), the length of its body (seven bits a byte, the lowest first, all but the last with the high bit set; at most five
//! bytes), and its body.
//!
//! # How it is read
//!
//! Block by block: where a sound frame begins that comes next by its generation and number, it is taken, and reading goes on behind it; any
//! other block is stepped over. What was stepped over is [damage](What::Damaged) if the next good frame says that frames are missing before it; or if the
//! last frame that had begun does, since no frame is begun before the one before it is on the device. If nothing follows at all, the journal ends there:
//! [`What::TornTail`] if a frame had begun. It goes on in another segment: each opening begins with one of its own, whose header tells when that was and
//! with which number, before there is a frame of it. A segment that was prepared and is stepped over by the next one (which says that another one is
//! before it) does not count.
//!
//! Frames whose numbers a header says are given up do not count: if they may have been acknowledged, that is [told](What::GivenUp) at each start. Segments
//! that a header says are archived are looked through for the same signs before their files are used again, and nothing is told of them.

mod aligned;
mod commit;
mod copying;
mod counters;
mod effect;
mod finding;
mod format;
mod given_up;
mod inspection;
mod order;
mod reader;
mod recovered;
mod segment;
mod segments;
mod settings;
mod source;
mod waiting;
mod writer;

pub use aligned::Aligned;
pub use commit::{BEGUN_AGAIN_AFTER, MOST_ATTEMPTS};
pub use copying::Piece;
pub use counters::{Counters, LastCommit};
pub use effect::{Answer, Archived, Class, Effect, Fullness, Mark, Preparation, Refused, Write};
pub use finding::{Finding, What};
pub use format::{BLOCK, FORMAT_VERSION, Identity, LARGEST_FRAME, StoreId};
pub use reader::{Reader, Record};
pub use recovered::{Floor, Recovered};
pub use segment::FileId;
pub use segments::{PREPARED_AGAIN_AFTER, PREPARED_AGAIN_AT_LEAST_AFTER};
pub use settings::{
    CheckedSettings, FEWEST_SEGMENTS, LARGEST_SEGMENT, LONGEST_INTERVAL, MOST_SEGMENTS, Settings, SettingsError, Sync,
};
pub use source::{MOST_UNREADABLE, ReadAt};
pub use writer::{Failure, Journal, OpenError};
