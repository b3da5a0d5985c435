//! journal
mod aligned;
mod effect;
mod finding;
mod format;
mod reader;
mod recovered;
mod segment;
mod segments;
mod settings;
mod source;
mod waiting;
mod writer;

pub use aligned::Aligned;
pub use effect::{Archived, Class, Effect, FileId, Fullness, Mark, Preparation, Refused, Write};
pub use finding::{Finding, What};
pub use format::{BLOCK, FORMAT_VERSION, Identity, LARGEST_FRAME, StoreId};
pub use reader::{Reader, Record};
pub use recovered::Recovered;
pub use segments::PREPARED_AGAIN_AFTER;
pub use settings::{
    CheckedSettings, FEWEST_SEGMENTS, LARGEST_SEGMENT, LONGEST_INTERVAL, MOST_SEGMENTS, Settings, SettingsError, Sync,
};
pub use source::{MOST_UNREADABLE, ReadAt};
pub use writer::{Failure, Journal};
