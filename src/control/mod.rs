//! What operators use, and the files of the stock hooks.
//!
//! [`client`] asks a running broker over its control socket, as `moormq ctl` does; [`protocol`] is what is said there, for clients in other
//! languages, and [`status`] what the answers tell. `stock_files` reads the files of the stock hooks and watches them.

// The control plane. Nothing here runs on a shard's thread, and no shard waits for anything here. Files are therefore read here, and
// work that takes long is done here.
//
// | file | what |
// |---|---|
// | `stock_files`, `entry_file`, `watch` | the files of the stock hooks |
// | `socket`, `server`, `client` | the control socket, both of its ends |
// | `protocol`, `status` | the protocol of the control socket, and the values that its answers carry |

pub mod client;
#[cfg(feature = "stock")]
#[doc(hidden)]
pub mod entry_file;
pub mod protocol;
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod socket;
pub mod status;
#[cfg(feature = "stock")]
pub mod stock_files;
#[cfg(feature = "stock")]
mod watch;
