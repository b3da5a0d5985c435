//! Violations: errors of a client, as values. The connection ends with one.

use crate::client::EndReason;
use crate::codec::{DecodeError, PacketType, ReasonCode, Sender};

/// A client broke the protocol or a limit. MQTT 5 clients get the code in a DISCONNECT (before CONNACK: in the
/// CONNACK); others are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The reason code for the client.
    pub code: ReasonCode,
    /// A description of the error: for the log, and as reason string.
    pub what: &'static str,
}

impl Violation {
    /// An answer is larger than the client's Maximum Packet Size whatever is left out, so that it can never be given [MQTT-3.1.2-24].
    // Few words: they are to fit, too.
    pub const ANSWER_TOO_LARGE: Violation = Violation::new(ReasonCode::PacketTooLarge, "answer too large");

    /// A violation with a code of its own.
    pub const fn new(code: ReasonCode, what: &'static str) -> Self {
        Violation { code, what }
    }

    /// A protocol error, 0x82.
    pub const fn protocol(what: &'static str) -> Self {
        Violation { code: ReasonCode::ProtocolError, what }
    }

    /// The reason for the lifecycle hooks.
    pub fn end_reason(self) -> EndReason {
        match self.code {
            ReasonCode::QuotaExceeded | ReasonCode::MessageRateTooHigh | ReasonCode::ConnectionRateExceeded => {
                EndReason::Quota(self.code)
            }
            ReasonCode::NotAuthorized => EndReason::NotAuthorized,
            code => EndReason::ProtocolError(code),
        }
    }
}

/// The code that stands for `code` in a CONNACK or DISCONNECT: the same if that packet may carry it
/// [MQTT-3.2.2-8], [MQTT-3.14.2-1], else the nearest.
pub fn code_for(packet: PacketType, code: ReasonCode) -> ReasonCode {
    match code {
        code if code.is_allowed_in(packet, Sender::Server) => code,
        ReasonCode::ServerShuttingDown => ReasonCode::ServerUnavailable,
        _ => ReasonCode::ProtocolError,
    }
}

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        Violation { code: error.code, what: error.what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-3.2.2-8], [MQTT-3.14.2-1]
    #[test]
    fn every_code_can_be_told_in_some_words() {
        for &code in ReasonCode::ALL {
            for packet in [PacketType::Connack, PacketType::Disconnect] {
                let sent = code_for(packet, code);
                assert!(sent.is_allowed_in(packet, Sender::Server), "{code:?} in {packet:?}");
                assert_eq!(sent == code, code.is_allowed_in(packet, Sender::Server));
            }
        }
        assert_eq!(code_for(PacketType::Connack, ReasonCode::ServerShuttingDown), ReasonCode::ServerUnavailable);
        assert_eq!(code_for(PacketType::Disconnect, ReasonCode::UnsupportedProtocolVersion), ReasonCode::ProtocolError);
    }

    #[test]
    fn hooks_hear_of_quotas_as_such() {
        let reason = |code| Violation::new(code, "").end_reason();
        assert_eq!(reason(ReasonCode::QuotaExceeded), EndReason::Quota(ReasonCode::QuotaExceeded));
        assert_eq!(reason(ReasonCode::NotAuthorized), EndReason::NotAuthorized);
        assert_eq!(reason(ReasonCode::PacketTooLarge), EndReason::ProtocolError(ReasonCode::PacketTooLarge));
    }
}
