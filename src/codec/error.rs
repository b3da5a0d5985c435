//! The error of decoding bytes that are not a legal packet of MQTT.

use std::error::Error;
use std::fmt;

use super::ReasonCode;

/// Bytes that are not a legal packet.
///
/// A server closes the network connection on every one of these; under MQTT 5.0 it may send `code` in a CONNACK or
/// DISCONNECT first (MQTT 5.0, 4.13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// The reason code for the sender: mostly [`ReasonCode::MalformedPacket`], for what cannot be parsed, or
    /// [`ReasonCode::ProtocolError`], for what can be parsed but is not allowed.
    pub code: ReasonCode,
    /// What is wrong, for a log line, with the clause that says so.
    pub what: &'static str,
}

impl DecodeError {
    #[inline]
    pub(super) const fn malformed(what: &'static str) -> Self {
        DecodeError { code: ReasonCode::MalformedPacket, what }
    }

    #[inline]
    pub(super) const fn protocol(what: &'static str) -> Self {
        DecodeError { code: ReasonCode::ProtocolError, what }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.what)
    }
}

impl Error for DecodeError {}
