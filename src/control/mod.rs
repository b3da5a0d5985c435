//! What operators talk to, and what works for the broker beside the shards.
//!
//! Nothing here runs on a shard's thread, and nothing a shard does waits for anything here. So this is where files are
//! read and where work that takes long is done.
//!
//! | file | what |
//! |---|---|
//! | `stock_files`, `entry_file`, `watch` | the files of the stock hooks |
//! | `socket`, `server`, `client` | the control socket, both of its ends |
//! | `protocol`, `status` | what is said over it |

pub mod client;
pub mod entry_file;
pub mod protocol;
pub mod server;
pub mod socket;
pub mod status;
pub mod stock_files;
mod watch;
