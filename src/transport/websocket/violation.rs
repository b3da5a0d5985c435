//! What clients do wrong, and the codes of closing (RFC 6455 section 7.4).

use std::fmt;

/// A client does not keep to the protocol: the connection is closed with [`code`](Self::code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Frames are not as they are to be.
    Protocol(&'static str),
    /// MQTT is in frames of bytes alone [MQTT-6.0.0-1].
    Text,
    /// The reason of a close is no UTF-8.
    Reason,
}

impl Violation {
    /// The code that the other side is told.
    pub const fn code(self) -> CloseCode {
        match self {
            Violation::Protocol(_) => CloseCode::PROTOCOL_ERROR,
            Violation::Text => CloseCode::UNSUPPORTED_DATA,
            Violation::Reason => CloseCode::INVALID_PAYLOAD,
        }
    }
}

/// For the log.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::Protocol(what) => what,
            Violation::Text => "a message is text, and MQTT is not",
            Violation::Reason => "the reason of a close is no UTF-8",
        })
    }
}

/// Why a side closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(u16);

impl CloseCode {
    /// What was to be done is done.
    pub const NORMAL: Self = CloseCode(1000);
    /// The server stops.
    pub const GOING_AWAY: Self = CloseCode(1001);
    /// The other side does not keep to the protocol.
    pub const PROTOCOL_ERROR: Self = CloseCode(1002);
    /// The other side has sent a kind of message that is not taken.
    pub const UNSUPPORTED_DATA: Self = CloseCode(1003);
    /// The other side has sent what is not what it says it is.
    pub const INVALID_PAYLOAD: Self = CloseCode(1007);

    /// That of a frame; none if it is none that may be in one: those that stand for the lack of a code, and those that nobody has given a meaning.
    pub fn sent(code: u16) -> Option<Self> {
        let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        may_be_sent.then_some(CloseCode(code))
    }

    /// As a number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_not_be_sent_are_none() {
        let none: Vec<u16> = (995..1020).filter(|code| CloseCode::sent(*code).is_none()).collect();
        assert_eq!(none, [995, 996, 997, 998, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1018, 1019]);
        assert!(CloseCode::sent(2999).is_none() && CloseCode::sent(3000).is_some());
        assert!(CloseCode::sent(4999).is_some() && CloseCode::sent(5000).is_none());
    }
}
