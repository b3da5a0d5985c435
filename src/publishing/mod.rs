//! The organ for PUBLISH from a client: whether it keeps the rules, what the hooks say, and what the client is answered.
//!
//! It owns the wills that wait for room. Sessions and connections are lent to it, and what it decides is returned. It never
//! routes.

mod check;
mod decision;
mod due_wills;
mod will;

pub use check::{Checked, check, resolve_alias};
pub use decision::{Consequence, Decision, Refused, ask, publication};
pub use due_wills::{DueWill, DueWills};
pub use will::{publish_will, tell_will, will_publication};

use crate::codec::{Ack, AckKind, Explained, PacketId, ProtocolVersion, Publish, QoS, ReasonCode};
use crate::message::Block;
use crate::session::{Session, SessionSettings};

/// One packet as it came.
#[derive(Clone, Copy)]
pub struct RawPacket<'a> {
    /// All its bytes.
    pub bytes: &'a [u8],
    /// The memory that they are in, if it holds nothing else and may be shared.
    pub block: Option<&'a Block>,
    /// Whether there are more bytes behind it.
    pub more_follows: bool,
}

/// What PUBLISH is answered with: PUBACK or PUBREC, by its QoS. The packet id of a QoS 2 message is kept until PUBREL comes, also of one
/// that was accepted by name only: the client of version 3 goes on with the handshake.
#[inline]
pub fn answer<S>(session: &mut Session<S>, publish: &Publish<'_>, code: ReasonCode) -> Option<(AckKind, PacketId)> {
    let packet_id = publish.packet_id?;
    if publish.qos != QoS::ExactlyOnce {
        return Some((AckKind::Puback, packet_id));
    }
    if !code.is_error() {
        session.inbound.take(packet_id);
    }
    Some((AckKind::Pubrec, packet_id))
}

/// Writes an acknowledgement that explains itself, if the client wants that [MQTT-3.1.2-29] and takes a packet of that size
/// [MQTT-3.4.2-2].
pub fn write_explained(
    (kind, packet_id): (AckKind, PacketId),
    code: ReasonCode,
    reason: &str,
    settings: &SessionSettings,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) {
    let mut ack =
        Ack { reason_string: Some(reason).filter(|_| settings.problem_information), ..Ack::new(packet_id, code) };
    ack.shorten(version, settings.maximum_outgoing);
    ack.encode(kind, version, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{session, settings};

    fn publish(qos: QoS) -> Publish<'static> {
        let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        Publish { qos, topic: "a", packet_id, ..Publish::default() }
    }

    #[test]
    fn the_answer_goes_by_qos() {
        let mut session = session();
        let mut answered = |qos, code| answer(&mut session, &publish(qos), code).map(|(kind, _)| kind);
        assert_eq!(answered(QoS::AtMostOnce, ReasonCode::Success), None);
        assert_eq!(answered(QoS::AtLeastOnce, ReasonCode::Success), Some(AckKind::Puback));
        assert_eq!(answered(QoS::ExactlyOnce, ReasonCode::NotAuthorized), Some(AckKind::Pubrec));
        assert!(session.inbound.is_empty(), "an error ends the handshake");
        assert!(answer(&mut session, &publish(QoS::ExactlyOnce), ReasonCode::Success).is_some());
        assert!(session.inbound.contains(PacketId::MIN), "[MQTT-4.3.3-10]");
    }

    #[test]
    fn a_reason_is_given_to_those_who_want_it_and_have_room() {
        let length = |settings: &SessionSettings| {
            let mut out = Vec::new();
            let ack = (AckKind::Puback, PacketId::MIN);
            write_explained(ack, ReasonCode::NotAuthorized, "because", settings, ProtocolVersion::V5, &mut out);
            out.len()
        };
        let mut settings = settings();
        assert_eq!(length(&settings), 16);
        settings.maximum_outgoing = 15;
        assert_eq!(length(&settings), 5);
        settings.maximum_outgoing = usize::MAX;
        settings.problem_information = false;
        assert_eq!(length(&settings), 5);
    }
}
