//! Tables and lists that grow without a pause, for what there is one of per client, session, filter or level.
//!
//! A hash table that doubles reads, hashes and writes all of its entries at once, and a vector that doubles copies them: with a million
//! entries, whose keys lie elsewhere, that is 50 to 300 ms in which a shard answers nobody. What is here moves a bounded number of
//! entries in each call, however many there are.
//!
//! | type | for | moved in one call, at most |
//! |---|---|---|
//! | [`PartedTable`] | a hash table of entries | twice what a part has places for: 4,096 entries |
//! | [`PartedMap`] | keys and values in such a table | the same |
//! | [`Chunks`] | a list with an index, that grows and shrinks at its end | the entries of one chunk, 128 KiB |
//! | [`Slots`] | places that are taken and given back in any order | the same |
//! | [`Sparse`] | a value for each index, most of which nobody set | the same |
//!
//! Small ones cost what a plain table or vector costs, in memory and to look into: they are one until they have a part or chunk full. (`Slots` and
//! `Sparse` have a few lists more.)
//!
//! # What may be a vector all the same
//!
//! A chunk or part is found through a directory, which is a vector that doubles. It has 32 bytes for each 400 entries at least, or 24 bytes for each
//! 128 KiB: less than a megabyte for 10^7 entries, copied in 0.1 ms. Elsewhere, too, a `Vec` or `VecDeque` with one small entry per client may
//! stay as it is if nothing but its bytes is copied: a million entries of 8 bytes are 8 MB, of which growing copies half, in about a
//! millisecond with the page faults, and which the next million pushes do not do again. Such are the queues of connections that have
//! output, or are to be read, closed or served, and the lists of boxes of sessions and connections, which are looked into several times for every
//! message: another branch there costs more than that. A hash table never may, unless something else bounds it: it visits each entry at random. So
//! bounded are the slots and sessions that move at a time, questions of operators, and failed logins. Trees (`BTreeMap`) need nothing: they grow
//! node by node.
//!
//! Tables that are built on other threads and then handed to the shards, as those of access rules and users are, may be anything.

mod chunks;
mod parted_map;
mod parted_table;
mod slots;
mod sparse;

pub use chunks::Chunks;
pub use parted_map::PartedMap;
pub use parted_table::{IntoIter, PartedTable};
pub use slots::Slots;
pub use sparse::Sparse;
