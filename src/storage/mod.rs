//! The store on disk: its directory, the files of its journals, and the thread that makes and removes them.
//!
//! It carries out what journals want ([`Effect`](crate::journal::Effect)), except that a shard writes its frames itself, through its ring. It
//! never knows what is in a record, and decides nothing about segments.
//!
//! | file | what |
//! |---|---|
//! | `directory` | [`StoreDirectory`]: makes, checks and locks the directory |
//! | `store_file` | the file `store`: whose store this is, and what all shards have in common |
//! | `names` | the names of journal files, and which there are |
//! | `device` | how files are opened, locked and synced, and whether the file system takes direct writes |
//! | `segment_file`, `recovery` | reading at a start |
//! | `read_only` | [`ReadOnlyStore`]: looking at a store while no broker uses it, without a change to it |
//! | `new_journals`, `offline_journal` | [`NewJournals`]: journals that take the place of all those of a store, while no broker uses it |
//! | `backup` | [`Backup`]: the directory of a copy that is made while a broker uses the store |
//! | `thread`, `filling` | the thread `moormq-store`: it prepares segments, removes files and sets them aside, for all shards |
//! | `journal_files` | [`JournalFiles`]: the files that a shard writes, and its door to that thread |
//! | `outlook` | [`outlook()`]: what can be known of a store before a start |
//! | `archive` | the file of the archive, and its thread |
//! | `error` | why a store cannot be used, with advice |
//!
//! # The directory
//!
//! | name | what |
//! |---|---|
//! | `store` | see [`StoreFacts`]; written to `store.new` and renamed |
//! | `lock` | locked (`flock`) by the broker that uses the store; its process id is in it |
//! | `journal/0000-00000000` | a segment: shard, and number of the file |
//! | `journal/0000-00000000.bad` | one that was set aside: it could not be read in full, and is not read again. Removed by operators only |
//! | `journal.new` | journals that are to take the place of those in `journal`, or did so just now. They never count: a start removes them |
//! | `journal.before` | the journals of a damaged store that were replaced. Removed by operators only |
//! | `backup.unfinished` | a copy of a store that is being made, or was not finished: then there is no `store`. A broker does not start with it |
//! | `archive.redb` | what outlives the journals: see [`archive`]; made as `archive.redb.new`, and set aside as `archive.redb.bad` |
//!
//! A start makes the file `direct.try`, writes a block to it, and removes it. Nothing else in it is ever removed or written; and nothing at all in a directory that is no store.
//!
//! # Locks
//!
//! A second broker is kept out by the lock on `lock`. A write of a process that was killed may still be on its way when the next one starts: it
//! keeps the open file alive. So whoever writes a segment has a lock on that open file, and whoever reads it waits for one of its own.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | tasks that wait for the thread | [`TASKS_PER_SHARD`] for each shard; beyond, a preparation has failed, and a removal is left out |
//! | time until a lock is given up | a second for the store, and for a segment that is prepared; [`LOCK_PATIENCE`] for each segment that is read |
//! | memory of filling | one piece of [`PIECE`] bytes |
//! | memory of reading | [`READ_AHEAD`] bytes for a journal, besides its reader |
//! | a copy | one piece of [`PIECE`] bytes in memory; some room on its disk is left free |
//! | files that are set aside | [`MOST_SET_ASIDE`]; the first ones stay, as they say how it began, and further ones are removed |
//! | names that are no segments, as they are listed | [`MOST_LISTED`] of each kind |

pub mod archive;
mod backup;
mod device;
mod directory;
mod error;
mod filling;
mod journal_files;
mod names;
mod new_journals;
mod offline_journal;
mod outlook;
mod read_only;
mod recovery;
mod segment_file;
mod store_file;
mod thread;

pub use backup::Backup;
pub use device::LOCK_PATIENCE;
pub use directory::{ARCHIVE, NEW_JOURNAL, StoreDirectory};
pub use error::StorageError;
pub use filling::PIECE;
pub use journal_files::{Begun, JournalFiles};
pub use names::{JournalFile, Listing, MOST_LISTED};
pub use new_journals::{JournalLayout, NewJournals, OLD_JOURNAL, WrittenJournals};
pub use outlook::{Outlook, outlook};
pub use read_only::ReadOnlyStore;
pub use recovery::{JournalReading, Recovery};
pub use segment_file::READ_AHEAD;
pub use store_file::{STORE_VERSION, StoreFacts};
pub use thread::{MOST_SET_ASIDE, Prepared, StoreThread, TASKS_PER_SHARD};
