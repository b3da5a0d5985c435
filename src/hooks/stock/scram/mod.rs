//! SCRAM-SHA-256 (RFC 5802, RFC 7677): proving that one knows a password, to somebody who keeps only what was derived
//! from it.
//!
//! ```text
//!  client                                                      broker
//!  CONNECT  n,,n=user,r=nonce                      ──►   looks the user up, or makes one up
//!           r=nonce+more,s=salt,i=iterations       ◄──   AUTH 0x18
//!  AUTH     c=biws,r=nonce+more,p=proof            ──►   compares the proof
//!           v=signature                            ◄──   CONNACK, or AUTH 0x00 of a re-authentication
//! ```
//!
//! Written here on the primitives of RustCrypto: the crates for the mechanism either have no server, or none that hides
//! which users exist.

mod credentials;
mod exchange;
mod link;
mod table;

pub use credentials::ScramCredentials;
pub use link::{Nonces, SCRAM_SHA_256, ScramFile, ScramState};
pub use table::ScramTable;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// An HMAC with `key`.
fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    // A key shorter than a block of the hash counts as if zeroes followed it (RFC 2104).
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    <Hmac<Sha256> as KeyInit>::new(&block.into())
}

/// HMAC-SHA-256 of `message` with `key`.
fn hmac_of(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = hmac(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}
