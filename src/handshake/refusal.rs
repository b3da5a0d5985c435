//! How a CONNECT is refused: in the words of its version, and no longer than the client takes.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::client::{Client, OneLine, log_client};
use crate::codec::{
    Connack, ConnackProperties, Connect, DecodeError, Explained, PacketType, ProtocolVersion, ReasonCode,
    UserProperties, body_begun,
};
use crate::connection::code_for;
use crate::hooks::ConnectRefusalM5;

/// Logs why a client is refused.
pub(super) fn log_refusal(client: &Client, code: ReasonCode, why: &str) {
    log_client!(info, client, %code, "connection refused: {}", OneLine(why));
}

/// A refused CONNECT: the CONNACK that says so, after which the connection is closed. Its owner counts it, and the
/// failure of a hook if there was one.
#[derive(Debug)]
pub struct Refusal {
    /// A hook panicked or did not answer in time.
    pub hook_failed: bool,
    code: ReasonCode,
    version: ProtocolVersion,
    /// Whether the version has words for it.
    is_told: bool,
    /// The largest packet that the client takes, in bytes; none: any.
    maximum_packet_size: Option<usize>,
    reason_string: Option<Cow<'static, str>>,
    server_reference: Option<String>,
    authentication_method: Option<Box<str>>,
    user_properties: Vec<(String, String)>,
}

impl Refusal {
    /// A refusal with `code` for a client that takes packets of so many bytes.
    pub fn new(version: ProtocolVersion, maximum_packet_size: Option<usize>, code: ReasonCode) -> Self {
        Refusal {
            hook_failed: false,
            code,
            version,
            is_told: true,
            maximum_packet_size,
            reason_string: None,
            server_reference: None,
            authentication_method: None,
            user_properties: Vec::new(),
        }
    }

    /// A CONNECT that cannot be read, or is larger than is taken: `begun` is what there is of it, from its first byte on. The client is
    /// told as much as its version lets it understand, if that is known.
    pub fn malformed(begun: &[u8], peer: SocketAddr, listener: &str, error: DecodeError) -> Self {
        tracing::info!(%peer, listener, code = %error.code, "connection refused: {}", error.what);
        Refusal::of_begun(begun, error.code).where_there_are_words()
    }

    /// A CONNECT of which `begun` is what there is, and whose rest is not waited for.
    pub fn of_begun(begun: &[u8], code: ReasonCode) -> Self {
        Refusal::new(Connect::answer_version(body_begun(begun)), None, code)
    }

    /// The same for a CONNECT that breaks the rules. MQTT 3 has words only for two ways to do so; otherwise the connection just ends
    /// (3.1.1: 4.8) `[MQTT-3.1.4-1]`.
    pub fn where_there_are_words(self) -> Self {
        let has_words =
            matches!(self.code, ReasonCode::UnsupportedProtocolVersion | ReasonCode::ClientIdentifierNotValid);
        Refusal { is_told: self.version.is_v5() || has_words, ..self }
    }

    /// The same with this reason string.
    pub fn saying(self, what: &'static str) -> Self {
        Refusal { reason_string: Some(Cow::Borrowed(what)), ..self }
    }

    /// The same with all that a hook has to say about it to a client that named `method`.
    pub fn explained(self, by: ConnectRefusalM5, method: Option<&str>) -> Self {
        Refusal {
            reason_string: by.reason_string.map(Cow::Owned),
            server_reference: by.server_reference,
            authentication_method: method.map(Into::into),
            user_properties: by.user_properties,
            ..self
        }
    }

    /// Why, whether or not a CONNACK may carry it.
    pub fn code(&self) -> ReasonCode {
        self.code
    }

    /// Appends the CONNACK to `out`, without user properties and reason string if it were larger than the client takes
    /// [MQTT-3.2.2-19], [MQTT-3.2.2-20]. Nothing if it still were [MQTT-3.1.2-24], or if the version has no words for
    /// it: the connection is closed without a word.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if !self.is_told {
            return;
        }
        let mut connack = Connack {
            session_present: false,
            code: code_for(PacketType::Connack, self.code),
            properties: ConnackProperties {
                reason_string: self.reason_string.as_deref(),
                server_reference: self.server_reference.as_deref(),
                authentication_method: self.authentication_method.as_deref(),
                user: UserProperties::from(&self.user_properties[..]),
                ..ConnackProperties::default()
            },
        };
        if connack.shorten(self.version, self.maximum_packet_size.unwrap_or(usize::MAX)) {
            connack.encode(self.version, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ProtocolVersion::{V5, V31, V311};
    use crate::hooks::ConnectCode;

    fn encoded(refusal: &Refusal) -> Vec<u8> {
        let mut out = Vec::new();
        refusal.encode(&mut out);
        out
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 4000))
    }

    #[test]
    fn every_version_has_its_words() {
        let refusal = |version| Refusal::new(version, None, ReasonCode::Banned).saying("no");
        assert_eq!(encoded(&refusal(V31)), [0x20, 2, 0, 5]);
        assert_eq!(encoded(&refusal(V311)), [0x20, 2, 0, 5]);
        assert_eq!(encoded(&refusal(V5)), [0x20, 8, 0, 0x8A, 5, 0x1F, 0, 2, b'n', b'o']);
        let stops = Refusal::new(V5, None, ReasonCode::ServerShuttingDown);
        assert_eq!(stops.code(), ReasonCode::ServerShuttingDown);
        assert_eq!(encoded(&stops), [0x20, 3, 0, 0x88, 0], "[MQTT-3.2.2-8]: no such code in CONNACK");
    }

    #[test]
    fn it_is_no_longer_than_the_client_takes() {
        let by = || ConnectRefusalM5::default().code(ConnectCode::Banned).reason_string("no").user_property("k", "v");
        let sized = |most| encoded(&Refusal::new(V5, Some(most), ReasonCode::Banned).explained(by(), None));
        assert_eq!(sized(17), [0x20, 15, 0, 0x8A, 12, 0x1F, 0, 2, b'n', b'o', 0x26, 0, 1, b'k', 0, 1, b'v']);
        assert_eq!(sized(16), [0x20, 8, 0, 0x8A, 5, 0x1F, 0, 2, b'n', b'o'], "[MQTT-3.2.2-20]");
        assert_eq!(sized(9), [0x20, 3, 0, 0x8A, 0], "[MQTT-3.2.2-19]");
        assert!(sized(4).is_empty(), "[MQTT-3.1.2-24]");
    }

    #[test]
    fn what_a_hook_says_is_passed_on() {
        let by = ConnectRefusalM5::default().code(ConnectCode::ServerMoved).server_reference("s");
        let refusal = Refusal::new(V5, None, ReasonCode::ServerMoved).explained(by, Some("m"));
        assert_eq!(encoded(&refusal), [0x20, 11, 0, 0x9D, 8, 0x1C, 0, 1, b's', 0x15, 0, 1, b'm']);
    }

    #[test]
    fn mqtt_3_has_words_for_two_kinds_of_malformed_connect() {
        let refusal =
            |begun: &[u8], code| encoded(&Refusal::malformed(begun, peer(), "l", DecodeError { code, what: "" }));
        let (v311, v5) = (b"\x10\x0C\x00\x04MQTT\x04", b"\x10\x0C\x00\x04MQTT\x05");
        assert!(refusal(v311, ReasonCode::MalformedPacket).is_empty());
        assert_eq!(refusal(v311, ReasonCode::UnsupportedProtocolVersion), [0x20, 2, 0, 1]);
        assert_eq!(refusal(v311, ReasonCode::ClientIdentifierNotValid), [0x20, 2, 0, 2]);
        assert_eq!(refusal(v5, ReasonCode::PacketTooLarge), [0x20, 3, 0, 0x95, 0]);
    }
}
