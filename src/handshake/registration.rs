//! `auth_on_register`: may this client connect, and with which settings?

use std::ops::ControlFlow;

use super::candidate::Candidate;
use super::listener::Listener;
use super::stages::{Answered, Authenticated, Progress, Question, Registered};
use crate::config::Config;
use crate::hooks::ask::{self, Resumed};
use crate::hooks::{Chain, ConnectCode, ConnectRefusalM5, RegisterM5, RegisterModifiersM5, Verdict};

/// Why a client is refused that no hook has accepted, for the log.
const UNKNOWN: &str = "no hook accepts this client, and the listener does not allow anonymous ones";
/// Why a client is refused by a hook that gives no reason, for the log.
const BY_HOOK: &str = "auth_on_register, a hook, refused it";

impl<S> Authenticated<S> {
    /// Asks `auth_on_register`. A client without a will is accepted if it says yes.
    pub(super) fn ask<C: Chain<State = S>>(
        self,
        chain: &mut C,
        resumed: Option<Resumed>,
        config: &Config,
        listener: &Listener,
    ) -> Answered<S> {
        let Authenticated { mut candidate, auth } = self;
        let modifiers = match ask_register(chain, &mut candidate, resumed) {
            Verdict::Ok(modifiers) => modifiers,
            Verdict::Exhausted if listener.allow_anonymous => RegisterModifiersM5::default(),
            Verdict::Exhausted => {
                // Nobody knows the user name, which must not look different from a wrong password.
                let named = auth.is_none() && candidate.client.username.is_some();
                let code = if named { ConnectCode::BadUserNameOrPassword } else { ConnectCode::NotAuthorized };
                let refusal = candidate.refuse_as_told(ConnectRefusalM5::default().code(code), UNKNOWN);
                return ControlFlow::Break(Progress::Refused(refusal));
            }
            Verdict::Refused(refusal) => {
                return ControlFlow::Break(Progress::Refused(candidate.refuse_as_told(refusal, BY_HOOK)));
            }
            Verdict::Failed { .. } => return ControlFlow::Break(Progress::Refused(candidate.refuse_failed())),
            Verdict::TooLate { .. } => return ControlFlow::Break(Progress::Refused(candidate.refuse_late())),
            Verdict::Later(pending) => {
                let question = Question::Register(Authenticated { candidate, auth });
                return ControlFlow::Break(Progress::Later(question, pending));
            }
        };
        candidate.become_as(&modifiers);
        let has_will = candidate.request.will.is_some();
        let registered = Registered { candidate, auth, modifiers };
        if has_will {
            ControlFlow::Continue(Question::Will(Box::new(registered)))
        } else {
            ControlFlow::Break(Progress::Accepted(registered.accept(None, config, listener)))
        }
    }
}

fn ask_register<C: Chain>(
    chain: &mut C,
    candidate: &mut Candidate<C::State>,
    resumed: Option<Resumed>,
) -> Verdict<RegisterModifiersM5, ConnectRefusalM5> {
    let Candidate { client, state, request, .. } = candidate;
    let properties = request.properties();
    let will_properties = request.will.as_ref().map(|will| will.properties()).unwrap_or_default();
    let question = RegisterM5 {
        password: request.password.as_deref(),
        clean_start: request.clean_start,
        keep_alive: request.keep_alive,
        will: request.will.as_ref().map(|will| will.question(&will_properties)),
        properties: &properties,
    };
    ask::register(chain, client, state, &question, resumed)
}

impl<S> Candidate<S> {
    /// Takes on the identity that a hook gave it.
    fn become_as(&mut self, modifiers: &RegisterModifiersM5) {
        if let Some(client_id) = &modifiers.client_id {
            self.client.subscriber.client_id = client_id.clone();
        }
        if let Some(mountpoint) = &modifiers.mountpoint {
            self.client.subscriber.mountpoint = mountpoint.clone();
        }
        if let Some(username) = &modifiers.username {
            self.client.username = Some(username.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::tests::*;
    use super::*;
    use crate::codec::{Connect, ProtocolVersion, ReasonCode, Will};
    use crate::hooks::{Answer, AuthSuccess, ConnectCode, ConnectRefusal, RegisterModifiers};

    #[test]
    fn who_is_in_nobodys_books_gets_in_where_anonymous_clients_may() {
        for version in ProtocolVersion::ALL {
            let accepted = Door::open("").accept(Connect::new(version, "c"));
            assert_eq!(&*accepted.client.subscriber.client_id, "c");
            let refusal = Door::new("", Script::default()).refuse(Connect::new(version, "c"));
            assert_eq!((refusal.code(), refusal.hook_failed), (ReasonCode::NotAuthorized, false));
            assert_eq!(connack(&told(&refusal), version).code, ReasonCode::NotAuthorized);
        }
        // But not by a method that nobody knows.
        assert_eq!(Door::open("").refuse(with_method("M")).code(), ReasonCode::BadAuthenticationMethod);
    }

    #[test]
    fn a_hook_settles_the_identity() {
        let script = Script {
            register: |_| Answer::Ok(RegisterModifiers::default().client_id("id").mountpoint("m").username("u")),
            ..Script::default()
        };
        let accepted = Door::new("", script).accept(Connect::new(V311, "c"));
        assert_eq!(accepted.client.subscriber.to_string(), "m:id");
        assert_eq!(accepted.client.username.as_deref(), Some("u"));
        assert_eq!(accepted.state.1, ["auth_on_register"]);
    }

    #[test]
    fn hooks_see_what_the_connect_says() {
        let script = Script {
            register_m5: |register| {
                assert_eq!((register.password, register.keep_alive), (Some(&b"p"[..]), 9));
                assert_eq!(register.will.map(|will| (will.topic, will.payload)), Some(("w", &b"x"[..])));
                assert_eq!(register.will.and_then(|will| will.properties.message_expiry), None);
                Answer::ok()
            },
            publish_m5: |publish| {
                assert!(publish.is_will);
                Answer::ok()
            },
            ..Script::default()
        };
        let will = Some(Will { topic: "w", payload: b"x", ..Will::default() });
        let connect = Connect { password: Some(b"p"), keep_alive: 9, will, ..Connect::new(V5, "c") };
        let _ = Door::new("", script).accept(connect);
    }

    #[test]
    fn what_a_hook_refuses_is_told_in_its_words() {
        let script = Script {
            register: |_| Answer::Error(ConnectRefusal::InvalidCredentials),
            register_m5: |_| {
                Answer::Error(ConnectRefusalM5::default().code(ConnectCode::ServerBusy).reason_string("busy"))
            },
            ..Script::default()
        };
        let mut door = Door::new("", script);
        for version in [V31, V311] {
            assert_eq!(told(&door.refuse(Connect::new(version, "c"))), [0x20, 2, 0, 4]);
        }
        let bytes = told(&door.refuse(Connect::new(V5, "c")));
        let connack = connack(&bytes, V5);
        assert_eq!((connack.code, connack.properties.reason_string), (ReasonCode::ServerBusy, Some("busy")));
    }

    #[test]
    fn a_hook_that_panics_has_refused_and_failed() {
        let script = Script { register: |_| panic!("as it happens"), ..Script::default() };
        let refusal = Door::new("allow_anonymous = true", script).refuse(Connect::new(V311, "c"));
        assert_eq!((refusal.code(), refusal.hook_failed), (ReasonCode::NotAuthorized, true));
    }

    #[test]
    fn a_rate_that_authentication_set_holds_unless_registration_sets_another() {
        let script = Script {
            auth: |_| Answer::Ok(AuthSuccess::default().max_message_rate(NonZeroU32::MIN).into()),
            register_m5: |_| Answer::ok(),
            ..Script::default()
        };
        let mut door = Door::new("limits.max_message_rate = 9", script.clone());
        assert_eq!(door.accept(with_method("M")).settings.message_rate, 1);
        assert_eq!(door.accept(Connect::new(V5, "c")).settings.message_rate, 9);
        let register_m5 =
            |_: &RegisterM5<'_>| Answer::Ok(RegisterModifiersM5::default().max_message_rate(NonZeroU32::MAX));
        door = Door::new("", Script { register_m5, ..script });
        assert_eq!(door.accept(with_method("M")).settings.message_rate, u32::MAX);
    }
}
