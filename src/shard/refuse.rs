//! How a CONNECT is refused: in the words of its version, and no longer than the client takes.

use super::Shard;
use super::attempt::{Attempt, decoded};
use crate::client::ConnectionId;
use crate::codec::{
    Connack, ConnackProperties, Connect, DecodeError, PacketType, ReasonCode, UserProperties, body_begun,
};
use crate::connection::{ConnectionStage, Violation, code_for};
use crate::hooks::{Chain, ConnectRefusalM5};

impl<C: Chain> Shard<C> {
    /// Says no to a CONNECT, with all the hook had to say about it.
    pub(super) fn refuse_attempt(
        &mut self,
        id: ConnectionId,
        attempt: Box<Attempt<C::State>>,
        refusal: ConnectRefusalM5,
    ) -> Result<(), Violation> {
        let code = refusal.code.unwrap_or_default().into();
        tracing::info!(client = %attempt.client.subscriber, peer = %attempt.client.peer, %code, "connection refused");
        let method = decoded(&attempt.frame)?.properties.authentication_method.map(str::to_owned);
        self.set_stage(id, ConnectionStage::Connecting(attempt));
        let properties = ConnackProperties {
            reason_string: refusal.reason_string.as_deref(),
            server_reference: refusal.server_reference.as_deref(),
            authentication_method: method.as_deref(),
            user: UserProperties::from(&refusal.user_properties[..]),
            ..ConnackProperties::default()
        };
        self.write_refusal(id, code, properties);
        Ok(())
    }

    /// Says no to a CONNECT, or, if there has not even been one, closes the connection.
    pub(super) fn refuse(&mut self, id: ConnectionId, code: ReasonCode, what: &'static str) {
        let Some(connection) = self.connections.get(id) else { return };
        if matches!(connection.stage, ConnectionStage::Opening) {
            return self.forget_connection(id, None);
        }
        self.write_refusal(id, code, ConnackProperties { reason_string: Some(what), ..ConnackProperties::default() });
    }

    /// Writes a CONNACK that refuses, and closes the connection. Reason string and user properties are left out if it were
    /// larger than the client takes [MQTT-3.2.2-19], [MQTT-3.2.2-20].
    fn write_refusal(&mut self, id: ConnectionId, code: ReasonCode, properties: ConnackProperties<'_>) {
        self.counters.refused += 1;
        let most = self.connections.get(id).and_then(|connection| match &connection.stage {
            ConnectionStage::Connecting(attempt) => decoded(&attempt.frame).ok()?.properties.maximum_packet_size,
            _ => None,
        });
        self.write(id, |version, out| {
            let code = code_for(PacketType::Connack, code);
            let mut connack = Connack { session_present: false, code, properties };
            if most.is_some_and(|most| connack.encoded_len(version) > most as usize) {
                (connack.properties.reason_string, connack.properties.user) = (None, UserProperties::default());
            }
            // Not even so: it is closed without a word [MQTT-3.1.2-24].
            if most.is_none_or(|most| connack.encoded_len(version) <= most as usize) {
                connack.encode(version, out);
            }
        });
        self.forget_connection(id, None);
    }

    /// A CONNECT that cannot be read, or is larger than the listener takes: `begun` is what there is of it. The client is told as
    /// much as its version lets it understand, if that is known.
    pub(super) fn refuse_malformed(&mut self, id: ConnectionId, begun: &[u8], error: DecodeError) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        tracing::info!(peer = %connection.peer, code = %error.code, "CONNECT refused: {}", error.what);
        self.counters.refused += 1;
        let version = Connect::answer_version(body_begun(begun));
        // MQTT 3 has words only for these two; otherwise the connection just ends (3.1.1: 4.8).
        let has_words =
            matches!(error.code, ReasonCode::UnsupportedProtocolVersion | ReasonCode::ClientIdentifierNotValid);
        if version.is_v5() || has_words {
            let connack = Connack::new(false, code_for(PacketType::Connack, error.code));
            connack.encode(version, connection.outbox.bytes(&mut self.spare));
        }
        self.forget_connection(id, None);
    }
}
