//! Passwords: who has which, how they are kept, and the link that asks for them.
//!
//! ```text
//!  CONNECT ──► PasswordFile ──► HashQueue ··· HashWork, HashWorker (other threads)
//!                   │ reads          ┆            │
//!              PasswordTable         └◄─ oneshot ─┘
//! ```
//!
//! Checking a password takes long on purpose, so it is never done where clients are served. Nothing here starts a
//! thread: whoever has the [`HashWork`] and its workers has the work done. Whose turn it is, and who waits because he failed
//! before, is in `waiting` and `failures`.

mod failures;
mod hashing;
mod link;
mod memory;
mod stored;
mod table;
mod waiting;

pub(in crate::hooks::stock) use failures::Origin;
pub(in crate::hooks::stock) use hashing::Busy;
pub use hashing::{HashQueue, HashWork, HashWorker, hash_queue};
pub use link::PasswordFile;
pub use memory::{HashMemory, NoMemory};
pub use stored::StoredPassword;
pub use table::PasswordTable;
