//! Reason codes: their numbers and names, which packet may carry which, and the return codes of MQTT 3 in their place.

use std::fmt;

use super::{DecodeError, PacketType, ProtocolVersion, Sender};

/// Writes the enum, its numbers and its names from one table.
macro_rules! reason_codes {
    ($($value:literal $code:ident $name:literal, $meaning:literal;)*) => {
        /// The outcome of an operation (MQTT 5.0, 2.4). Where the standard gives one number several names, the variant has
        /// the most general one, and the others are constants: [`ReasonCode::NormalDisconnection`], [`ReasonCode::GrantedQoS0`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $meaning] $code = $value,)*
        }

        impl ReasonCode {
            /// Every reason code, by rising number.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$code,)*];

            /// The reason code with this number, if the standard has one.
            #[inline]
            pub const fn from_u8(value: u8) -> Option<ReasonCode> {
                match value {
                    $($value => Some(ReasonCode::$code),)*
                    _ => None,
                }
            }

            /// Its name in the standard.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ReasonCode::$code => $name,)*
                }
            }
        }
    };
}

reason_codes! {
    0x00 Success "Success", "It was done; also a normal disconnection, and a subscription granted at QoS 0.";
    0x01 GrantedQoS1 "Granted QoS 1", "The subscription is accepted, with QoS 1 at most.";
    0x02 GrantedQoS2 "Granted QoS 2", "The subscription is accepted, with QoS 2 at most.";
    0x04 DisconnectWithWill "Disconnect with Will Message", "The client leaves, and its will is to be published.";
    0x10 NoMatchingSubscribers "No matching subscribers", "The message is accepted, but nobody subscribes to it.";
    0x11 NoSubscriptionExisted "No subscription existed", "There was no such subscription to remove.";
    0x18 ContinueAuthentication "Continue authentication", "The authentication goes on with another step.";
    0x19 ReAuthenticate "Re-authenticate", "The client starts a re-authentication.";
    0x80 UnspecifiedError "Unspecified error", "It failed, and no other code applies or the reason is not told.";
    0x81 MalformedPacket "Malformed Packet", "A packet could not be parsed.";
    0x82 ProtocolError "Protocol Error", "A packet said what is not allowed, or came out of order.";
    0x83 ImplementationSpecific "Implementation specific error", "Legal, but this implementation does not accept it.";
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version", "The server does not speak the version asked for.";
    0x85 ClientIdentifierNotValid "Client Identifier not valid", "The client identifier is legal but not allowed here.";
    0x86 BadUserNameOrPassword "Bad User Name or Password", "The server does not accept user name and password.";
    0x87 NotAuthorized "Not authorized", "The client may not do this.";
    0x88 ServerUnavailable "Server unavailable", "The server is not available.";
    0x89 ServerBusy "Server busy", "The server is busy; try again later.";
    0x8A Banned "Banned", "This client is banned.";
    0x8B ServerShuttingDown "Server shutting down", "The server stops.";
    0x8C BadAuthenticationMethod "Bad authentication method", "The authentication method is not supported or not the one in use.";
    0x8D KeepAliveTimeout "Keep Alive timeout", "Nothing came for one and a half times the keep-alive.";
    0x8E SessionTakenOver "Session taken over", "Another connection uses the same client identifier.";
    0x8F TopicFilterInvalid "Topic Filter invalid", "The topic filter is well formed but not accepted.";
    0x90 TopicNameInvalid "Topic Name invalid", "The topic name is well formed but not accepted.";
    0x91 PacketIdInUse "Packet Identifier in use", "The packet identifier is in use already.";
    0x92 PacketIdNotFound "Packet Identifier not found", "The packet identifier is not known.";
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded", "More is in flight than the Receive Maximum allows.";
    0x94 TopicAliasInvalid "Topic Alias invalid", "The topic alias is zero or above the Topic Alias Maximum.";
    0x95 PacketTooLarge "Packet too large", "The packet is larger than the Maximum Packet Size.";
    0x96 MessageRateTooHigh "Message rate too high", "Messages arrive too fast.";
    0x97 QuotaExceeded "Quota exceeded", "A limit of the implementation or its operator was exceeded.";
    0x98 AdministrativeAction "Administrative action", "An operator closed the connection.";
    0x99 PayloadFormatInvalid "Payload format invalid", "The payload is not what its Payload Format Indicator says.";
    0x9A RetainNotSupported "Retain not supported", "The server does not keep retained messages.";
    0x9B QosNotSupported "QoS not supported", "The QoS is above the Maximum QoS of the server.";
    0x9C UseAnotherServer "Use another server", "The client should use another server for now.";
    0x9D ServerMoved "Server moved", "The client should use another server from now on.";
    0x9E SharedSubscriptionsNotSupported "Shared Subscriptions not supported", "The server has no shared subscriptions for this client.";
    0x9F ConnectionRateExceeded "Connection rate exceeded", "Connections come too fast.";
    0xA0 MaximumConnectTime "Maximum connect time", "The connection lasted as long as it may.";
    0xA1 SubscriptionIdsNotSupported "Subscription Identifiers not supported", "The server takes no subscription identifiers.";
    0xA2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported", "The server takes no wildcards in filters.";
}

#[expect(non_upper_case_globals, reason = "other names of variants read like variants")]
impl ReasonCode {
    /// [`ReasonCode::Success`] in a DISCONNECT: the connection ends normally and the will is not published.
    pub const NormalDisconnection: ReasonCode = ReasonCode::Success;
    /// [`ReasonCode::Success`] in a SUBACK: the subscription is accepted, with QoS 0.
    pub const GrantedQoS0: ReasonCode = ReasonCode::Success;
}

impl ReasonCode {
    /// The code in a SUBACK that grants `qos`.
    #[doc(hidden)]
    pub const fn granted(qos: super::QoS) -> ReasonCode {
        match qos {
            super::QoS::AtMostOnce => ReasonCode::Success,
            super::QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            super::QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// Its number.
    #[inline]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether it says that something failed: 0x80 and above.
    #[inline]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The code with this number, if a `packet` of MQTT 5.0 from `sender` may carry it: a number that is no code is malformed,
    /// a code out of place a protocol error.
    pub(super) fn read(value: u8, packet: PacketType, sender: Sender) -> Result<ReasonCode, DecodeError> {
        match ReasonCode::from_u8(value) {
            Some(code) if code.is_allowed_in(packet, sender) => Ok(code),
            Some(_) => Err(DecodeError::protocol("reason code not allowed in this packet (2.4)")),
            None => Err(DecodeError::malformed("unknown reason code (2.4)")),
        }
    }

    /// The return code with which an MQTT 3.1 or 3.1.1 CONNACK says this: 0 accepted, 1 unacceptable protocol version,
    /// 2 identifier rejected, 3 server unavailable, 4 bad user name or password, 5 not authorized.
    ///
    /// What is the client's fault and has no code of its own is 5, so that it does not come back at once; the rest is 3.
    #[doc(hidden)]
    pub const fn legacy_connack(self) -> u8 {
        use ReasonCode::*;
        match self {
            UnsupportedProtocolVersion => 1,
            ClientIdentifierNotValid => 2,
            BadUserNameOrPassword => 4,
            NotAuthorized
            | Banned
            | BadAuthenticationMethod
            | TopicNameInvalid
            | PacketTooLarge
            | PayloadFormatInvalid
            | RetainNotSupported
            | QosNotSupported => 5,
            code if code.is_error() => 3,
            _ => 0,
        }
    }

    /// The reason code for the return code of an MQTT 3.1 or 3.1.1 CONNACK; none above 5, which are reserved.
    pub(super) const fn from_legacy_connack(value: u8) -> Option<ReasonCode> {
        match value {
            0 => Some(ReasonCode::Success),
            1 => Some(ReasonCode::UnsupportedProtocolVersion),
            2 => Some(ReasonCode::ClientIdentifierNotValid),
            3 => Some(ReasonCode::ServerUnavailable),
            4 => Some(ReasonCode::BadUserNameOrPassword),
            5 => Some(ReasonCode::NotAuthorized),
            _ => None,
        }
    }

    /// The number with which a SUBACK says this: MQTT 3.1.1 knows only 0x80 for failure. MQTT 3.1 knows none at all, and
    /// gets the same: a QoS that does not exist is closer to the truth than one that was not granted.
    pub(super) const fn in_suback(self, version: ProtocolVersion) -> u8 {
        if self.is_error() && !version.is_v5() { 0x80 } else { self as u8 }
    }

    /// Whether a `packet` that `sender` sent may carry this code (MQTT 5.0, tables 3-1, 3-4 to 3-9, 3-13 and 3.15.2.1). Always
    /// false for packets without a reason code.
    #[doc(hidden)]
    pub const fn is_allowed_in(self, packet: PacketType, sender: Sender) -> bool {
        use ReasonCode::*;
        let to_client = matches!(sender, Sender::Server);
        match packet {
            PacketType::Connack => matches!(
                self as u8,
                0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99 | 0x9A | 0x9B | 0x9C | 0x9D | 0x9F
            ),
            PacketType::Puback | PacketType::Pubrec => {
                matches!(self as u8, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            PacketType::Pubrel | PacketType::Pubcomp => matches!(self, Success | PacketIdNotFound),
            PacketType::Suback => {
                matches!(self as u8, 0x00 | 0x01 | 0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
            }
            PacketType::Unsuback => matches!(self as u8, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            PacketType::Disconnect => match self as u8 {
                0x00 | 0x80..=0x83 | 0x90 | 0x93..=0x99 => true,
                0x04 => !to_client,
                0x87 | 0x89 | 0x8B..=0x8F | 0x9A..=0xA2 => to_client,
                _ => false,
            },
            PacketType::Auth => match self {
                Success => to_client,
                ContinueAuthentication => true,
                ReAuthenticate => !to_client,
                _ => false,
            },
            _ => false,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_number_the_standard_gives_it() {
        for &code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(code.value()), Some(code));
            assert_eq!(code.is_error(), code.value() >= 0x80);
        }
        assert_eq!(ReasonCode::ALL.len(), 43);
        assert_eq!((0..=255).filter_map(ReasonCode::from_u8).collect::<Vec<_>>(), ReasonCode::ALL);
        assert_eq!(ReasonCode::from_u8(0x03), None);
        assert_eq!(ReasonCode::ServerShuttingDown.value(), 0x8B);
        assert_eq!(ReasonCode::WildcardSubscriptionsNotSupported.value(), 0xA2);
        assert_eq!(ReasonCode::SessionTakenOver.to_string(), "Session taken over");
    }

    #[test]
    fn legacy_connack_codes_come_back_as_themselves() {
        for value in 0..=5 {
            assert_eq!(ReasonCode::from_legacy_connack(value).unwrap().legacy_connack(), value);
        }
        assert_eq!(ReasonCode::from_legacy_connack(6), None);
        assert_eq!(ReasonCode::QuotaExceeded.legacy_connack(), 3);
        assert_eq!(ReasonCode::Banned.legacy_connack(), 5);
    }

    #[test]
    fn a_server_may_say_in_disconnect_what_a_client_may_not() {
        use PacketType::Disconnect;
        assert!(ReasonCode::SessionTakenOver.is_allowed_in(Disconnect, Sender::Server));
        assert!(!ReasonCode::SessionTakenOver.is_allowed_in(Disconnect, Sender::Client));
        assert!(ReasonCode::DisconnectWithWill.is_allowed_in(Disconnect, Sender::Client));
        assert!(!ReasonCode::DisconnectWithWill.is_allowed_in(Disconnect, Sender::Server));
        assert!(!ReasonCode::Success.is_allowed_in(PacketType::Pingreq, Sender::Client));
    }
}
