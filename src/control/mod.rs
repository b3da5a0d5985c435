//! What operators talk to, and what works for the broker beside the shards.
//!
//! Nothing here runs on a shard's thread, and nothing a shard does waits for anything here. So this is where files are
//! read and where work that takes long is done.

pub mod entry_file;
pub mod stock_files;
mod watch;
