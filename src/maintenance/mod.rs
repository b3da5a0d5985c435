//! What is done with a store while no broker uses it: it is looked at, checked and told in full, written anew, and filled from elsewhere.
//!
//! It knows the files of a store by [`storage`](crate::storage), and what is in them by [`records`](crate::records). It never meets a running broker: the
//! lock on the store sees to that.
//!
//! | file | what |
//! |---|---|
//! | `view` | [`StoreView`]: all that is read of a store, and what was found on the way |
//! | `report` | [`StoreReport`]: how a store is, in numbers and findings |
//! | `dump`, `rows` | everything in a store, row by row |
//! | `writing`, `rewriting` | the records of what counts; new journals of these in place of those that are there |
//! | `compaction` | that, of a store itself |
//! | `import`, `terms` | that, with what comes from elsewhere |
//! | `mqtt_source`, `mqtt_import` | the retained messages of a broker that runs; what becomes of them |
//! | `mosquitto`, `mosquitto_import` | the persistence file of Mosquitto; what becomes of what is in it |
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | memory of reading | what counts of the store, each message once, as at the start of a broker |
//! | memory of telling it | one row |
//! | memory of what another broker gives | its retained messages that match, once, and one packet |
//! | bad records that are listed | [`MOST_BAD`] of each journal, the rest is counted |

mod compaction;
mod dump;
mod import;
mod mosquitto;
mod mosquitto_import;
mod mqtt_import;
mod mqtt_source;
mod report;
mod rewriting;
mod rows;
mod terms;
mod view;
mod writing;

pub use compaction::{Compacted, compact};
pub use dump::{DumpError, DumpForm, dump};
pub use import::{ImportError, Imported, import_mosquitto};
pub use mqtt_import::import_retained;
pub use mqtt_source::MqttSource;
pub use report::{ArchiveReport, JournalReport, Note, StoreReport};
pub use rewriting::{Layout, Rewritten};
pub use terms::Terms;
pub use view::{ArchiveView, BadRecordAt, JournalView, MOST_BAD, StoreView};
