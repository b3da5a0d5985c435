//! Passwords: who has which, how they are kept, and the link that asks for them.
//!
//! ```text
//!  CONNECT ──► PasswordFile ──► HashQueue ··· HashWork (another thread)
//!                   │ reads          ┆            │
//!              PasswordTable         └◄─ oneshot ─┘
//! ```
//!
//! Checking a password takes long on purpose, so it is never done where clients are served. Nothing here starts a
//! thread: whoever has the [`HashWork`] does the work.

mod hashing;
mod link;
mod stored;
mod table;

pub use hashing::{HashQueue, HashWork, hash_queue};
pub use link::PasswordFile;
pub use stored::StoredPassword;
pub use table::PasswordTable;
