//! The records of a store: what a shard writes into its journal, and what is read from all of them at a start. No I/O.

mod bytes;
mod delivery;
mod fields;
mod image;
mod message;
mod number;
mod offline;
mod options;
mod record;
mod session_record;
mod settings_fields;
mod shared;
mod stored_session;
mod wall_clock;

pub use delivery::{Deliveries, Delivery, DeliveryBuffer, StoredIds};
pub use image::{Contents, Counts, Image};
pub use message::StoredMessage;
pub use number::StoreNumber;
pub use offline::Offline;
pub use record::{BadRecord, Encoded, Record};
pub use session_record::{SessionRecord, StoredWill};
pub use stored_session::{StoredDelivery, StoredSession, StoredStage};
pub use wall_clock::{WallClock, WallTime};
