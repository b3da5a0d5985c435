//! Links that come with the broker.
//!
//! [`PasswordFile`], [`AclFile`] and [`ScramFile`] decide by tables, and know nothing of the files these come from: whoever
//! read one hands over the table, and later a newer one through a [`Replacer`], while the shards go on
//! ([`control`](crate::control) does so for the program). [`Stock`] puts them together the way the program does, listener
//! by listener. [`AllowAll`] ends a chain that does not authorise.

mod acl;
mod allow;
mod dispatch;
mod entries;
mod live;
mod password;
mod scram;

pub use acl::{AclFile, AclRules, Identity, Ruling};
pub use allow::AllowAll;
pub use dispatch::Stock;
pub use entries::{FaultyLine, FaultyLines, InvalidUser, check_user, remove_entry, set_entry};
pub use live::{Live, Replacer};
pub use password::{
    HashMemory, HashQueue, HashWork, HashWorker, NoMemory, PasswordFile, PasswordTable, StoredPassword, hash_queue,
};
pub use scram::{Nonces, SCRAM_SHA_256, ScramCredentials, ScramFile, ScramState, ScramTable};
