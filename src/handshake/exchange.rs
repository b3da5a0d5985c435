//! The exchange of AUTH packets while a client connects [MQTT-4.12].

use std::ops::ControlFlow;

use super::refusal::Refusal;
use super::request::AuthPacket;
use super::stages::{Answered, Authenticated, AwaitingAuth, Progress, Question, Unauthenticated};
use crate::client::log_client;
use crate::codec::{
    Auth, Explained, Packet, ProtocolVersion, ReasonCode, Sender, Split, UserProperties, decode, split,
};
use crate::connection::Violation;
use crate::hooks::ask::{self, Resumed};
use crate::hooks::{AuthContinue, AuthStep, Chain, ConnectCode, ConnectRefusalM5, Verdict};
use crate::time::Time;

/// What became of a packet of a client that is to send AUTH.
pub enum NextPacket<S> {
    /// It was one: the hooks are to be asked about it.
    Ask(Question<S>),
    /// DISCONNECT: the connection is closed without a word.
    Disconnected,
    /// It was not to be sent now.
    Refused(Refusal),
}

impl<S> Unauthenticated<S> {
    /// Asks `on_auth_m5` about the CONNECT or the last AUTH; an exchange that begins with it must be over at `due`.
    pub(super) fn ask<C: Chain<State = S>>(self, chain: &mut C, resumed: Option<Resumed>, due: Time) -> Answered<S> {
        let Unauthenticated { mut candidate, packet, due: begun } = self;
        let due = if begun == Time::NEVER { due } else { begun };
        let connecting = &mut *candidate;
        let exchange = match &packet {
            None => connecting.request.exchange(),
            Some(packet) => packet.exchange(connecting.request.auth_method().unwrap_or_default()),
        };
        let verdict = ask::auth(chain, &connecting.client, &mut connecting.state, &exchange, resumed);
        ControlFlow::Break(match verdict {
            Verdict::Ok(AuthStep::Success(success)) => {
                if let Some(username) = &success.username {
                    candidate.client.username = Some(username.clone());
                }
                let auth = Some(Box::new(success));
                return ControlFlow::Continue(Question::Register(Authenticated { candidate, auth }));
            }
            Verdict::Ok(AuthStep::Continue(question)) => AwaitingAuth { candidate, due }.send(&question),
            Verdict::Exhausted => {
                let refusal = ConnectRefusalM5::default().code(ConnectCode::BadAuthenticationMethod);
                Progress::Refused(candidate.refuse_as_told(refusal, "no hook knows its authentication method"))
            }
            Verdict::Refused(refusal) => {
                Progress::Refused(candidate.refuse_as_told(refusal, "on_auth_m5, a hook, refused it"))
            }
            Verdict::Failed { .. } => Progress::Refused(candidate.refuse_failed()),
            Verdict::TooLate { .. } => Progress::Refused(candidate.refuse_late()),
            Verdict::Later(pending) => {
                Progress::Later(Question::Authenticate(Unauthenticated { candidate, packet, due }), pending)
            }
        })
    }
}

impl<S> AwaitingAuth<S> {
    /// Has the client asked once more.
    fn send(self, question: &AuthContinue) -> Progress<S> {
        let properties = self.candidate.request.properties();
        let most = self.candidate.request.maximum_packet_size().unwrap_or(usize::MAX);
        let auth = auth_continue(properties.authentication_method.unwrap_or_default(), question);
        match encoded(auth, properties.request_problem_information, most) {
            Some(bytes) => Progress::Continue(self, bytes),
            None => Progress::Refused(self.candidate.refuse_violation(Violation::ANSWER_TOO_LARGE)),
        }
    }

    /// A whole packet came from the client. Until it is authenticated, it may send nothing but AUTH and DISCONNECT
    /// [MQTT-3.1.2-30].
    pub fn packet(self, raw: &[u8]) -> NextPacket<S> {
        match self.read(raw) {
            Ok(Some(packet)) => {
                let AwaitingAuth { candidate, due } = self;
                NextPacket::Ask(Question::Authenticate(Unauthenticated { candidate, packet: Some(packet), due }))
            }
            Ok(None) => {
                log_client!(
                    debug,
                    self.candidate.client,
                    "connection closed: the client disconnected while it authenticated"
                );
                NextPacket::Disconnected
            }
            Err(violation) => NextPacket::Refused(self.candidate.refuse_violation(violation)),
        }
    }

    /// The AUTH in `raw`; none if it is DISCONNECT.
    fn read(&self, raw: &[u8]) -> Result<Option<AuthPacket>, Violation> {
        let Split::Frame(frame) = split(raw, raw.len())? else {
            return Err(Violation::new(ReasonCode::MalformedPacket, "not a whole packet"));
        };
        let auth = match decode(frame, self.candidate.client.version, Sender::Client)? {
            Packet::Auth(auth) => auth,
            Packet::Disconnect(_) => return Ok(None),
            _ => return Err(Violation::protocol("neither AUTH nor DISCONNECT before the client is authenticated")),
        };
        if auth.method != self.candidate.request.auth_method() {
            return Err(Violation::protocol("AUTH with another method than CONNECT [MQTT-4.12.0-5]"));
        }
        if auth.code != ReasonCode::ContinueAuthentication {
            return Err(Violation::protocol(
                "AUTH with another reason code than Continue authentication [MQTT-4.12.0-3]",
            ));
        }
        Ok(Some(AuthPacket::new(&auth)))
    }
}

/// The AUTH that asks the client once more.
pub(super) fn auth_continue<'a>(method: &'a str, question: &'a AuthContinue) -> Auth<'a> {
    Auth {
        code: ReasonCode::ContinueAuthentication,
        method: Some(method),
        data: question.data.as_deref(),
        reason_string: question.reason_string.as_deref(),
        user: UserProperties::from(&question.user_properties[..]),
    }
}

/// An AUTH as bytes, without user properties and reason string if the client does not want them [MQTT-3.1.2-29] or the
/// packet were larger than the `most` bytes it takes [MQTT-3.15.2-2], [MQTT-3.15.2-3]. None if it still is.
pub(super) fn encoded(mut auth: Auth<'_>, wants_problem_information: bool, most: usize) -> Option<Vec<u8>> {
    if !wants_problem_information {
        auth.leave_out_user_properties();
        auth.leave_out_reason_string();
    }
    let version = ProtocolVersion::V5;
    auth.shorten(version, most).then(|| {
        let mut bytes = Vec::with_capacity(auth.encoded_len(version));
        auth.encode(version, &mut bytes);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::*;
    use super::*;

    #[test]
    fn an_exchange_has_one_deadline() {
        let script = Script { auth: one_question, ..Script::default() };
        let mut door = Door::new("limits.auth_timeout = '3s'", script);
        let (waiting, bytes) = awaiting(door.connect(with_method("M")));
        let Packet::Auth(auth) = packet(&bytes, V5) else { panic!("not an AUTH") };
        assert_eq!((auth.code, auth.method), (ReasonCode::ContinueAuthentication, Some("M")));
        assert_eq!((auth.data, auth.reason_string, auth.user.is_empty()), (Some(&b"?"[..]), Some("more"), false));
        let due = NOW + Duration::from_secs(3);
        let again = Auth::new(ReasonCode::ContinueAuthentication, "M");
        let NextPacket::Ask(question) = waiting.packet(&auth_packet(again)) else { panic!("AUTH is refused") };
        assert_eq!(question.due(), due, "it does not begin again");
        let refusal = refused(door.ask(question, None));
        assert_eq!(refusal.code(), ReasonCode::Banned);
        assert_eq!(connack(&told(&refusal), V5).properties.authentication_method, Some("M"));
    }

    #[test]
    fn nothing_but_auth_and_disconnect_before_the_client_is_authenticated() {
        let script = Script { auth: one_question, ..Script::default() };
        let mut door = Door::new("", script);
        let mut code = |raw: &[u8]| match awaiting(door.connect(with_method("M"))).0.packet(raw) {
            NextPacket::Refused(refusal) => Some(refusal.code()),
            NextPacket::Disconnected => None,
            NextPacket::Ask(_) => panic!("accepted: {raw:x?}"),
        };
        assert_eq!(code(&[0xE0, 0]), None);
        assert_eq!(code(&[0xC0, 0]), Some(ReasonCode::ProtocolError), "[MQTT-3.1.2-30]");
        let other = auth_packet(Auth::new(ReasonCode::ContinueAuthentication, "N"));
        assert_eq!(code(&other), Some(ReasonCode::ProtocolError), "[MQTT-4.12.0-5]");
        let again = auth_packet(Auth::new(ReasonCode::ReAuthenticate, "M"));
        assert_eq!(code(&again), Some(ReasonCode::ProtocolError), "[MQTT-4.12.0-3]");
        assert_eq!(code(&[0xC1, 0]), Some(ReasonCode::MalformedPacket));
    }

    #[test]
    fn an_auth_is_no_longer_than_the_client_takes() {
        let script = Script { auth: one_question, ..Script::default() };
        let mut door = Door::new("", script);
        let mut asked = |most, wanted| {
            let mut connect = with_method("M");
            connect.properties.maximum_packet_size = Some(most);
            connect.properties.request_problem_information = wanted;
            match door.connect(connect) {
                Progress::Continue(_, bytes) => {
                    let Packet::Auth(auth) = packet(&bytes, V5) else { panic!("not an AUTH") };
                    Ok((auth.reason_string.is_some(), !auth.user.is_empty()))
                }
                progress => Err(refused(progress).code()),
            }
        };
        assert_eq!(asked(100, true), Ok((true, true)));
        assert_eq!(asked(100, false), Ok((false, false)), "[MQTT-3.1.2-29]");
        assert_eq!(asked(24, true), Ok((true, false)), "[MQTT-3.15.2-3]");
        assert_eq!(asked(15, true), Ok((false, false)), "[MQTT-3.15.2-2]");
        assert_eq!(asked(10, true), Err(ReasonCode::PacketTooLarge));
    }
}
