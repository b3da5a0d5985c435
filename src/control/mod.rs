//! The control plane: the socket for operators, and the threads that serve the stock hooks.
//!
//! Nothing here runs on a shard's thread, and no shard waits for anything here. Files are therefore read here, and work
//! that takes long is done here.
//!
//! | file | what |
//! |---|---|
//! | `stock_files`, `entry_file`, `watch` | the files of the stock hooks |
//! | `socket`, `server`, `client` | the control socket, both of its ends |
//! | `protocol`, `status` | the protocol of the control socket, and the values that its answers carry |

pub mod client;
#[cfg(feature = "stock")]
pub mod entry_file;
pub mod protocol;
pub mod server;
pub mod socket;
pub mod status;
#[cfg(feature = "stock")]
pub mod stock_files;
#[cfg(feature = "stock")]
mod watch;
