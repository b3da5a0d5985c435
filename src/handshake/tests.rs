//! The way of a CONNECT through the stages; and a door with a chain of hooks made up for each test of this module.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::stages::AwaitingAuth;
use super::*;
use crate::codec::{
    Auth, Connack, Connect, ConnectProperties, Packet, ProtocolVersion, ReasonCode, Sender, Split, Will, decode, split,
};
use crate::hooks::{
    Answer, AuthContinue, AuthExchange, AuthStage, AuthStep, AuthSuccess, ConnectCode, ConnectRefusal,
    ConnectRefusalM5, Context, Hook, HookAnswer, Linked, NoHooks, PendingAnswer, PublishModifiers, PublishModifiersM5,
    PublishRefusal, PublishRefusalM5, PublishRequest, PublishRequestM5, Register, RegisterM5, RegisterModifiers,
    RegisterModifiersM5,
};

pub(super) const V31: ProtocolVersion = ProtocolVersion::V31;
pub(super) const V311: ProtocolVersion = ProtocolVersion::V311;
pub(super) const V5: ProtocolVersion = ProtocolVersion::V5;

/// A link whose answers each test makes up. It keeps the names of the hooks that were asked.
#[derive(Clone)]
pub(super) struct Script {
    pub auth: fn(&AuthExchange<'_>) -> Answer<AuthStep, ConnectRefusalM5>,
    pub register: fn(&Register<'_>) -> Answer<RegisterModifiers, ConnectRefusal>,
    pub register_m5: fn(&RegisterM5<'_>) -> Answer<RegisterModifiersM5, ConnectRefusalM5>,
    pub publish: fn(&PublishRequest<'_>) -> Answer<PublishModifiers, PublishRefusal>,
    pub publish_m5: fn(&PublishRequestM5<'_>) -> Answer<PublishModifiersM5, PublishRefusalM5>,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            auth: |_| Answer::Next,
            register: |_| Answer::Next,
            register_m5: |_| Answer::Next,
            publish: |_| Answer::Next,
            publish_m5: |_| Answer::Next,
        }
    }
}

impl Hook for Script {
    type State = Vec<&'static str>;

    fn on_auth_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        cx.state().push("on_auth_m5");
        (self.auth)(exchange)
    }

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        register: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        cx.state().push("auth_on_register");
        (self.register)(register)
    }

    fn auth_on_register_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        register: &RegisterM5<'_>,
    ) -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
        cx.state().push("auth_on_register_m5");
        (self.register_m5)(register)
    }

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        cx.state().push("auth_on_publish");
        (self.publish)(publish)
    }

    fn auth_on_publish_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        publish: &PublishRequestM5<'_>,
    ) -> Answer<PublishModifiersM5, PublishRefusalM5> {
        cx.state().push("auth_on_publish_m5");
        (self.publish_m5)(publish)
    }
}

pub(super) type State = ((), Vec<&'static str>);

/// The handshake of one shard, with its chain.
pub(super) struct Door {
    pub handshake: Handshake,
    pub chain: Linked<NoHooks, Script>,
}

pub(super) const NOW: Time = Time::from_millis(60_000);

pub(super) fn origin() -> NewConnection {
    NewConnection {
        peer: SocketAddr::from(([127, 0, 0, 1], 4000)),
        listener: 0,
        connected_at: SystemTime::UNIX_EPOCH,
        refused: None,
        stopping: false,
    }
}

impl Door {
    /// A door with these settings, of which `script` decides.
    pub fn new(settings: &str, script: Script) -> Self {
        let config = Config::from_toml(settings, "test").expect("the settings are valid");
        let handshake = Handshake::new(Arc::new(config), Random::from_seed(1));
        Door { handshake, chain: NoHooks.hook(script) }
    }

    /// A door that everybody may pass that no hook refuses.
    pub fn open(settings: &str) -> Self {
        Door::new(&format!("allow_anonymous = true\n{settings}"), Script::default())
    }

    pub fn first(&mut self, connect: Connect<'_>, origin: NewConnection) -> FirstPacket<State> {
        let mut raw = Vec::new();
        connect.encode(&mut raw);
        self.handshake.first_packet(&raw, origin)
    }

    pub fn ask(&mut self, question: Question<State>, resumed: Option<Resumed>) -> Progress<State> {
        self.handshake.ask(&mut self.chain, question, resumed, NOW)
    }

    pub fn connect(&mut self, connect: Connect<'_>) -> Progress<State> {
        match self.first(connect, origin()) {
            FirstPacket::Ask(question) => self.ask(question, None),
            FirstPacket::Refused(refusal) => Progress::Refused(refusal),
            FirstPacket::NotConnect(violation) => panic!("{violation:?}"),
        }
    }

    pub fn accept(&mut self, connect: Connect<'_>) -> AcceptedConnect<State> {
        accepted(self.connect(connect))
    }

    pub fn refuse(&mut self, connect: Connect<'_>) -> Refusal {
        refused(self.connect(connect))
    }
}

pub(super) fn accepted(progress: Progress<State>) -> AcceptedConnect<State> {
    match progress {
        Progress::Accepted(accepted) => *accepted,
        Progress::Refused(refusal) => panic!("{refusal:?}"),
        _ => panic!("not decided yet"),
    }
}

pub(super) fn refused(progress: Progress<State>) -> Refusal {
    let Progress::Refused(refusal) = progress else { panic!("not refused") };
    refusal
}

pub(super) fn later(progress: Progress<State>) -> (Question<State>, PendingAnswer) {
    let Progress::Later(question, pending) = progress else { panic!("not put off") };
    (question, pending)
}

pub(super) fn awaiting(progress: Progress<State>) -> (AwaitingAuth<State>, Vec<u8>) {
    let Progress::Continue(waiting, bytes) = progress else { panic!("the client is not asked") };
    (waiting, bytes)
}

/// The packet in `bytes`, as a server sent it.
pub(super) fn packet(bytes: &[u8], version: ProtocolVersion) -> Packet<'_> {
    let Ok(Split::Frame(frame)) = split(bytes, bytes.len()) else { panic!("not a whole packet: {bytes:x?}") };
    assert_eq!(frame.length, bytes.len());
    decode(frame, version, Sender::Server).expect("servers send what can be decoded")
}

pub(super) fn connack(bytes: &[u8], version: ProtocolVersion) -> Connack<'_> {
    let Packet::Connack(connack) = packet(bytes, version) else { panic!("not a CONNACK: {bytes:x?}") };
    connack
}

pub(super) fn told(refusal: &Refusal) -> Vec<u8> {
    let mut out = Vec::new();
    refusal.encode(&mut out);
    out
}

/// An MQTT 5.0 CONNECT with an authentication method.
pub(super) fn with_method(method: &str) -> Connect<'_> {
    let properties = ConnectProperties { authentication_method: Some(method), ..ConnectProperties::default() };
    Connect { properties, ..Connect::new(V5, "c") }
}

pub(super) fn auth_packet(auth: Auth<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    auth.encode(V5, &mut bytes);
    bytes
}

pub(super) fn answered(answer: HookAnswer) -> Option<Resumed> {
    Some(Resumed::Answered { link: 0, answer: Box::new(answer), waited: Duration::ZERO })
}

/// A method with one question, whose answer must be "yes".
pub(super) fn one_question(exchange: &AuthExchange<'_>) -> Answer<AuthStep, ConnectRefusalM5> {
    match (exchange.stage, exchange.data) {
        (AuthStage::Connect, _) => {
            let question = AuthContinue::default().data(&b"?"[..]).reason_string("more").user_property("k", "v");
            Answer::Ok(question.into())
        }
        (_, Some(b"yes")) => Answer::Ok(AuthSuccess::default().username("known").data(&b"!"[..]).into()),
        _ => Answer::Error(ConnectRefusalM5::default().code(ConnectCode::Banned).reason_string("wrong")),
    }
}

#[test]
fn all_questions_are_asked_in_order_about_one_state() {
    let script =
        Script { auth: one_question, register_m5: |_| Answer::ok(), publish_m5: |_| Answer::ok(), ..Script::default() };
    let mut door = Door::new("", script);
    let will = Some(Will { topic: "w", ..Will::default() });
    let (waiting, _) = awaiting(door.connect(Connect { will, ..with_method("M") }));
    let auth = Auth { data: Some(b"yes"), ..Auth::new(ReasonCode::ContinueAuthentication, "M") };
    let NextPacket::Ask(question) = waiting.packet(&auth_packet(auth)) else { panic!("AUTH is refused") };
    let accepted = accepted(door.ask(question, None));
    assert_eq!(accepted.state.1, ["on_auth_m5", "on_auth_m5", "auth_on_register_m5", "auth_on_publish_m5"]);
    assert_eq!(accepted.client.username.as_deref(), Some("known"));
    assert_eq!((accepted.auth_method(), accepted.will.is_some()), (Some("M"), true));
    let mut out = Vec::new();
    assert!(accepted.connack(false, &mut out));
    assert_eq!(connack(&out, V5).properties.authentication_data, Some(&b"!"[..]));
}

#[test]
fn each_question_can_be_put_off_and_is_asked_again_with_its_answer() {
    let script = Script {
        auth: |_| Answer::later(async { Answer::ok() }),
        register_m5: |_| Answer::later(async { Answer::ok() }),
        publish_m5: |_| Answer::later(async { Answer::ok() }),
        ..Script::default()
    };
    let mut door = Door::new("limits.auth_timeout = '3s'", script);
    let will = Some(Will { topic: "w", ..Will::default() });
    let (question, pending) = later(door.connect(Connect { will, ..with_method("M") }));
    assert_eq!((pending.hook, pending.link), ("on_auth_m5", 0));
    assert_eq!(question.due(), NOW + Duration::from_secs(3));
    let success = AuthStep::Success(AuthSuccess::default().username("known"));
    let (question, pending) = later(door.ask(question, answered(HookAnswer::Auth(Answer::Ok(success)))));
    assert_eq!((pending.hook, question.due()), ("auth_on_register_m5", Time::NEVER));
    let modifiers = RegisterModifiersM5::default().client_id("new");
    let (question, pending) = later(door.ask(question, answered(HookAnswer::RegisterM5(Answer::Ok(modifiers)))));
    assert_eq!(pending.hook, "auth_on_publish_m5");
    let modifiers = PublishModifiersM5::default().topic("other");
    let accepted = accepted(door.ask(question, answered(HookAnswer::PublishM5(Answer::Ok(modifiers)))));
    assert_eq!(accepted.state.1, ["on_auth_m5", "auth_on_register_m5", "auth_on_publish_m5"], "once each");
    assert_eq!(&*accepted.client.subscriber.client_id, "new");
    assert_eq!(accepted.will.expect("there is a will").message.topic().as_str(), "other");
}

#[test]
fn a_later_answer_may_be_next_or_no_or_none() {
    let script = Script { register: |_| Answer::later(async { Answer::Next }), ..Script::default() };
    let mut door = Door::new("allow_anonymous = true", script);
    let mut put_off = || {
        let (question, pending) = later(door.connect(Connect::new(V311, "c")));
        assert_eq!(pending.hook, "auth_on_register");
        question
    };
    let questions = [put_off(), put_off(), put_off(), put_off(), put_off()];
    let [next, no, failed, late, in_time] = questions;
    let _ = accepted(door.ask(next, answered(HookAnswer::Register(Answer::Next))));
    let no = refused(door.ask(no, answered(HookAnswer::Register(Answer::Error(ConnectRefusal::Unavailable)))));
    assert_eq!((no.code(), no.hook_failed), (ReasonCode::ServerUnavailable, false));
    let failed = refused(door.ask(failed, answered(HookAnswer::Failed)));
    assert_eq!((failed.code(), failed.hook_failed), (ReasonCode::NotAuthorized, true));
    let late = refused(door.ask(late, answered(HookAnswer::TooLate)));
    assert_eq!((late.code(), late.hook_failed), (ReasonCode::ServerUnavailable, true), "it may come again");
    let _ = accepted(door.ask(in_time, Some(Resumed::Allowed)));
}

#[test]
fn a_connection_has_until_the_connect_timeout() {
    let door = Door::open("limits.connect_timeout = '2s'");
    let due = NOW + Duration::from_secs(2);
    assert_eq!(door.handshake.accepted(0, NOW), due);
    assert_eq!(door.handshake.listener(0).connect_timeout, Duration::from_secs(2));
}
