//! What is done with a store while no broker uses it: it is looked at, checked, and told in full.
//!
//! It knows the files of a store by [`storage`](crate::storage), and what is in them by [`records`](crate::records). It never meets a running broker: the
//! lock on the store sees to that.
//!
//! | file | what |
//! |---|---|
//! | `view` | [`StoreView`]: all that is read of a store, and what was found on the way |
//! | `report` | [`StoreReport`]: how a store is, in numbers and findings |
//! | `dump`, `rows` | everything in a store, row by row |
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | memory of reading | what counts of the store, each message once, as at the start of a broker |
//! | memory of telling it | one row |
//! | bad records that are listed | [`MOST_BAD`] of each journal, the rest is counted |

mod compaction;
mod dump;
mod report;
mod rewriting;
mod rows;
mod view;
mod writing;

pub use compaction::{Compacted, compact};
pub use dump::{DumpError, DumpForm, dump};
pub use report::{JournalReport, Note, StoreReport};
pub use rewriting::{Layout, Rewritten};
pub use view::{BadRecordAt, JournalView, MOST_BAD, StoreView};
