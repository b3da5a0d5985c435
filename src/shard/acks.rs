//! The packets of the QoS 1 and QoS 2 handshakes, in both directions.

use super::Shard;
use crate::client::ConnectionId;
use crate::codec::{Ack, AckKind, PacketId, ReasonCode};
use crate::connection::Violation;
use crate::hooks::Chain;
use crate::session::Stage;

impl<C: Chain> Shard<C> {
    /// PUBACK: a QoS 1 message has arrived, whatever the reason code says [MQTT-4.3.2-5].
    pub(super) fn on_puback(&mut self, session: u32, ack: Ack<'_>) -> Result<(), Violation> {
        self.complete(session, ack.packet_id, Stage::AwaitingPuback)
    }

    /// PUBREC: the client has a QoS 2 message, or refuses it with an error code, which ends the exchange [MQTT-4.3.3-4].
    pub(super) fn on_pubrec(&mut self, id: ConnectionId, session: u32, ack: Ack<'_>) -> Result<(), Violation> {
        let Some(record) = self.sessions.get_mut(session) else { return Ok(()) };
        if ack.code.is_error() {
            return self.complete(session, ack.packet_id, Stage::AwaitingPubrec);
        }
        if record.outbound.received(ack.packet_id) {
            self.write_pubrel(id, ack.packet_id);
        } else if record.outbound.stage(ack.packet_id).is_some() {
            return Err(Violation::protocol("PUBREC for a QoS 1 message"));
        } else {
            // Nothing is known of it, perhaps since the session ended: the client must not wait for it for ever.
            self.write_ack(id, AckKind::Pubrel, ack.packet_id, ReasonCode::PacketIdNotFound);
        }
        Ok(())
    }

    /// PUBREL: the client will not repeat this QoS 2 message. Answered even if it is unknown [MQTT-4.3.3-11].
    pub(super) fn on_pubrel(&mut self, id: ConnectionId, session: u32, ack: Ack<'_>) -> Result<(), Violation> {
        let Some(record) = self.sessions.get_mut(session) else { return Ok(()) };
        let known = record.inbound.release(ack.packet_id);
        let code = if known { ReasonCode::Success } else { ReasonCode::PacketIdNotFound };
        self.write_ack(id, AckKind::Pubcomp, ack.packet_id, code);
        Ok(())
    }

    /// PUBCOMP: a QoS 2 exchange is over.
    pub(super) fn on_pubcomp(&mut self, session: u32, ack: Ack<'_>) -> Result<(), Violation> {
        self.complete(session, ack.packet_id, Stage::AwaitingPubcomp)
    }

    /// Takes a message out of the window; what waits behind it may go. An id that is not in flight is passed over: it may be
    /// a late answer from before a reconnect.
    fn complete(&mut self, index: u32, id: PacketId, stage: Stage) -> Result<(), Violation> {
        let Some(session) = self.sessions.get_mut(index) else { return Ok(()) };
        if !session.outbound.complete(id, stage) {
            if session.outbound.stage(id).is_some() {
                return Err(Violation::protocol("acknowledgement out of order in its handshake"));
            }
            tracing::debug!(client = %session.client.subscriber, id = id.get(), "acknowledgement of an unknown packet id");
            return Ok(());
        }
        self.send_more(index);
        Ok(())
    }

    pub(super) fn write_pubrel(&mut self, id: ConnectionId, packet_id: PacketId) {
        self.write_ack(id, AckKind::Pubrel, packet_id, ReasonCode::Success);
    }

    /// Writes an acknowledgement without reason string.
    pub(super) fn write_ack(&mut self, id: ConnectionId, kind: AckKind, packet_id: PacketId, code: ReasonCode) {
        self.write(id, |version, out| Ack::new(packet_id, code).encode(kind, version, out));
    }
}
