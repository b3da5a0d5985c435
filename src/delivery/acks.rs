//! The packets of the QoS 1 and QoS 2 handshakes, in both directions.

use crate::codec::{Ack, AckKind, PacketId, ReasonCode};
use crate::connection::Violation;
use crate::session::{Session, Stage};

/// What follows from an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// What the client is answered.
    pub answer: Option<(AckKind, PacketId, ReasonCode)>,
    /// A message is out of the window: what waits behind it may go.
    pub window_opened: bool,
}

impl Acknowledged {
    fn answered(kind: AckKind, id: PacketId, code: ReasonCode) -> Self {
        Acknowledged { answer: Some((kind, id, code)), window_opened: false }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP from the client of `session`.
///
/// # Errors
///
/// The violation, if it does not belong to the step at which its handshake is.
#[inline(always)]
pub fn acknowledge<S>(session: &mut Session<S>, kind: AckKind, ack: Ack<'_>) -> Result<Acknowledged, Violation> {
    let id = ack.packet_id;
    match kind {
        // A QoS 1 message has arrived, whatever the reason code says [MQTT-4.3.2-5].
        AckKind::Puback => complete(session, id, Stage::AwaitingPuback),
        // The client refuses a QoS 2 message with an error code, which ends the exchange [MQTT-4.3.3-4].
        AckKind::Pubrec if ack.code.is_error() => complete(session, id, Stage::AwaitingPubrec),
        AckKind::Pubrec => received(session, id),
        // The client will not repeat this QoS 2 message. Answered even if it is unknown [MQTT-4.3.3-11].
        AckKind::Pubrel => {
            let known = session.inbound.release(id);
            let code = if known { ReasonCode::Success } else { ReasonCode::PacketIdNotFound };
            Ok(Acknowledged::answered(AckKind::Pubcomp, id, code))
        }
        AckKind::Pubcomp => complete(session, id, Stage::AwaitingPubcomp),
    }
}

/// The client has a QoS 2 message.
fn received<S>(session: &mut Session<S>, id: PacketId) -> Result<Acknowledged, Violation> {
    if session.outbound.received(id) {
        return Ok(Acknowledged::answered(AckKind::Pubrel, id, ReasonCode::Success));
    }
    if session.outbound.stage(id).is_some() {
        return Err(Violation::protocol("PUBREC for a QoS 1 message"));
    }
    // Nothing is known of it, perhaps since the session ended: the client must not wait for it for ever.
    Ok(Acknowledged::answered(AckKind::Pubrel, id, ReasonCode::PacketIdNotFound))
}

/// Takes a message out of the window. An id that is not in flight is passed over: it may be a late answer from before a reconnect.
#[inline]
fn complete<S>(session: &mut Session<S>, id: PacketId, stage: Stage) -> Result<Acknowledged, Violation> {
    if session.outbound.complete(id, stage) {
        return Ok(Acknowledged { answer: None, window_opened: true });
    }
    if session.outbound.stage(id).is_some() {
        return Err(Violation::protocol("acknowledgement out of order in its handshake"));
    }
    tracing::debug!(client = %session.client.subscriber, id = id.get(), "acknowledgement of an unknown packet id");
    Ok(Acknowledged::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::session::testing::{delivery, session};

    fn ack(id: PacketId, code: ReasonCode) -> Ack<'static> {
        Ack::new(id, code)
    }

    fn in_flight(qos: QoS) -> (Session<()>, PacketId) {
        let mut session = session();
        let id = session.outbound.launch(delivery("x", qos));
        (session, id)
    }

    #[test]
    fn a_puback_opens_the_window_whatever_its_code() {
        for code in [ReasonCode::Success, ReasonCode::QuotaExceeded] {
            let (mut session, id) = in_flight(QoS::AtLeastOnce);
            let outcome = acknowledge(&mut session, AckKind::Puback, ack(id, code));
            assert_eq!(outcome, Ok(Acknowledged { answer: None, window_opened: true }));
            let again = acknowledge(&mut session, AckKind::Puback, ack(id, code));
            assert_eq!(again, Ok(Acknowledged::default()), "a late answer");
        }
    }

    #[test]
    fn a_qos_2_handshake_goes_step_by_step() {
        let (mut session, id) = in_flight(QoS::ExactlyOnce);
        let success = ReasonCode::Success;
        assert!(acknowledge(&mut session, AckKind::Puback, ack(id, success)).is_err());
        assert!(acknowledge(&mut session, AckKind::Pubcomp, ack(id, success)).is_err());
        let pubrel = Ok(Acknowledged::answered(AckKind::Pubrel, id, success));
        assert_eq!(acknowledge(&mut session, AckKind::Pubrec, ack(id, success)), pubrel);
        assert_eq!(acknowledge(&mut session, AckKind::Pubrec, ack(id, success)), pubrel, "[MQTT-4.3.3-4]");
        assert!(
            acknowledge(&mut session, AckKind::Pubcomp, ack(id, success)).is_ok_and(|outcome| outcome.window_opened)
        );
        let unknown = Acknowledged::answered(AckKind::Pubrel, id, ReasonCode::PacketIdNotFound);
        assert_eq!(acknowledge(&mut session, AckKind::Pubrec, ack(id, success)), Ok(unknown));
    }

    #[test]
    fn a_pubrec_that_refuses_ends_the_exchange_and_one_of_qos_1_is_a_violation() {
        let (mut session, id) = in_flight(QoS::ExactlyOnce);
        let refused = acknowledge(&mut session, AckKind::Pubrec, ack(id, ReasonCode::QuotaExceeded));
        assert!(refused.is_ok_and(|outcome| outcome.window_opened));
        let (mut session, id) = in_flight(QoS::AtLeastOnce);
        assert!(acknowledge(&mut session, AckKind::Pubrec, ack(id, ReasonCode::Success)).is_err());
    }

    #[test]
    fn a_pubrel_is_always_answered() {
        let (mut session, id) = (session(), PacketId::MIN);
        session.inbound.take(id);
        for code in [ReasonCode::Success, ReasonCode::PacketIdNotFound] {
            let outcome = acknowledge(&mut session, AckKind::Pubrel, ack(id, ReasonCode::Success));
            assert_eq!(outcome, Ok(Acknowledged::answered(AckKind::Pubcomp, id, code)));
        }
    }
}
