//! Re-authentication: an exchange of AUTH packets on a live connection, with the method of the CONNECT [MQTT-4.12.1-1].

use std::time::Duration;

use super::exchange::{auth_continue, encoded};
use crate::client::EndReason;
use crate::codec::{Auth, ReasonCode, UserProperties};
use crate::connection::{Connected, Violation};
use crate::hooks::ask::{self, Resumed};
use crate::hooks::{AuthExchange, AuthStage, AuthStep, AuthSuccess, Chain, PendingAnswer, Verdict};
use crate::session::{Session, SessionSettings};
use crate::time::Time;

/// A connection that belongs to a session, with that session. `S` is what the hooks keep for it.
pub struct LiveConnection<'a, S> {
    /// The connection.
    pub connected: &'a mut Connected,
    /// Its session.
    pub session: &'a mut Session<S>,
    /// The listener that accepted it, by its place in the configuration.
    pub listener: usize,
}

/// What limits a re-authentication, and what it may change.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// By when an exchange that begins now must be over.
    pub due: Time,
    /// How long the listener lets a connection live; none: for ever.
    pub lifetime: Option<Duration>,
}

/// What became of an AUTH on a live connection.
#[derive(Debug)]
pub enum Reauthentication {
    /// These bytes, an AUTH, are to be sent. When the connection has to be looked at again may have changed:
    /// [`Connected::reauthentication_due`], [`SessionSettings::lifetime`].
    Answer(Vec<u8>),
    /// A hook answers later: then the AUTH is to be served again, with its answer.
    Later(PendingAnswer),
    /// The connection ends.
    Ended {
        /// What the lifecycle hooks are told.
        reason: EndReason,
        /// The code of the DISCONNECT.
        code: ReasonCode,
        /// Its reason string; empty: none.
        what: String,
        /// A hook panicked or did not answer in time: its owner counts that.
        hook_failed: bool,
    },
    /// The answer is larger than the client takes: the connection ends [MQTT-3.1.2-24].
    TooLarge,
}

impl<S> LiveConnection<'_, S> {
    /// Asks `on_auth_m5` about `auth`; a success takes effect at once.
    ///
    /// # Errors
    ///
    /// The client used another method than in its CONNECT, or none there; or the AUTH continues no exchange.
    pub(super) fn reauthenticate<C: Chain<State = S>>(
        &mut self,
        chain: &mut C,
        auth: &Auth<'_>,
        resumed: Option<Resumed>,
        limits: Limits,
        now: Time,
    ) -> Result<Reauthentication, Violation> {
        let exchange = self.exchange(auth)?;
        if self.connected.reauthentication_due == Time::NEVER {
            self.connected.reauthentication_due = limits.due;
        }
        let session = &mut *self.session;
        Ok(match ask::auth(chain, &session.client, &mut session.state, &exchange, resumed) {
            Verdict::Ok(AuthStep::Success(success)) => self.succeed(exchange.method, success, limits.lifetime, now),
            Verdict::Ok(AuthStep::Continue(question)) => self.answer(auth_continue(exchange.method, &question)),
            Verdict::Later(pending) => Reauthentication::Later(pending),
            Verdict::Exhausted => not_authorized(ReasonCode::BadAuthenticationMethod, String::new()),
            Verdict::Refused(refusal) => {
                let code = refusal.code.unwrap_or_default().in_disconnect();
                not_authorized(code, refusal.reason_string.unwrap_or_default())
            }
            Verdict::Failed { .. } | Verdict::TooLate { .. } => Reauthentication::Ended {
                reason: EndReason::HookFailure,
                code: ReasonCode::NotAuthorized,
                what: String::new(),
                hook_failed: true,
            },
        })
    }

    /// What `auth` is in an exchange.
    fn exchange<'b>(&self, auth: &Auth<'b>) -> Result<AuthExchange<'b>, Violation> {
        let connected = &self.connected;
        if connected.auth_method.is_none() || connected.auth_method.as_deref() != auth.method {
            return Err(Violation::protocol("AUTH with another method than CONNECT [MQTT-4.12.1-1]"));
        }
        let stage = match auth.code {
            ReasonCode::ReAuthenticate => AuthStage::Reauthenticate,
            ReasonCode::ContinueAuthentication if connected.reauthentication_due != Time::NEVER => AuthStage::Continue,
            _ => return Err(Violation::protocol("AUTH that belongs to no exchange")),
        };
        Ok(AuthExchange {
            stage,
            method: auth.method.unwrap_or_default(),
            data: auth.data,
            reason_string: auth.reason_string,
            user_properties: auth.user,
        })
    }

    /// What a success changes, and its answer. `most` is how long the listener lets a connection live.
    fn succeed(&mut self, method: &str, success: AuthSuccess, most: Option<Duration>, now: Time) -> Reauthentication {
        let (connected, session) = (&mut *self.connected, &mut *self.session);
        if let Some(username) = &success.username {
            session.client.username = Some(username.clone());
        }
        let settings: &mut SessionSettings = &mut session.settings;
        if let Some(rate) = success.max_message_rate {
            settings.message_rate = rate.get();
        }
        if let Some(size) = success.max_message_size {
            settings.maximum_incoming = size.get().unwrap_or(usize::MAX);
        }
        connected.reauthentication_due = Time::NEVER;
        connected.maximum_incoming = settings.maximum_incoming;
        if let Some(lifetime) = success.max_connection_lifetime {
            // From now on, but no longer than the listener allows from the start.
            let lifetime = now.since(connected.registered) + lifetime;
            settings.lifetime = Some(most.map_or(lifetime, |most| most.min(lifetime)));
        }
        self.answer(Auth {
            code: ReasonCode::Success,
            method: Some(method),
            data: success.data.as_deref(),
            reason_string: success.reason_string.as_deref(),
            user: UserProperties::from(&success.user_properties[..]),
        })
    }

    fn answer(&self, auth: Auth<'_>) -> Reauthentication {
        let settings = &self.session.settings;
        encoded(auth, settings.problem_information, settings.maximum_outgoing)
            .map_or(Reauthentication::TooLarge, Reauthentication::Answer)
    }
}

fn not_authorized(code: ReasonCode, what: String) -> Reauthentication {
    Reauthentication::Ended { reason: EndReason::NotAuthorized, code, what, hook_failed: false }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::tests::{Door, NOW, Script, State, V5, packet, with_method};
    use super::*;
    use crate::codec::Packet;
    use crate::config::Limit;
    use crate::connection::testing::connected;
    use crate::hooks::{Answer, AuthContinue, ConnectCode, ConnectRefusalM5};
    use crate::session::{Inbound, Outbound};

    /// A method whose data say what becomes of an exchange.
    fn method(exchange: &AuthExchange<'_>) -> Answer<AuthStep, ConnectRefusalM5> {
        match exchange.data {
            Some(b"more") => Answer::Ok(AuthContinue::default().data(&b"?"[..]).reason_string("r").into()),
            Some(b"no") => {
                Answer::Error(ConnectRefusalM5::default().code(ConnectCode::Banned).reason_string("because"))
            }
            Some(b"panic") => panic!("as it happens"),
            Some(b"later") => Answer::later(async { Answer::ok() }),
            Some(b"unknown") => Answer::Next,
            _ => Answer::Ok(
                AuthSuccess::default()
                    .username("new")
                    .max_message_rate(NonZeroU32::MIN)
                    .max_message_size(Limit::at_most(7))
                    .max_connection_lifetime(Duration::from_secs(10))
                    .into(),
            ),
        }
    }

    struct Live {
        door: Door,
        connected: Connected,
        session: Session<State>,
    }

    /// A connection that was registered a minute before `NOW`, whose client takes packets of `most` bytes.
    fn live(most: u32, settings: &str) -> Live {
        let mut door = Door::new(settings, Script { register_m5: |_| Answer::ok(), auth: method, ..Script::default() });
        let mut connect = with_method("M");
        connect.properties.maximum_packet_size = Some(most);
        let accepted = door.accept(connect);
        let connected = Connected {
            maximum_incoming: accepted.settings.maximum_incoming,
            auth_method: accepted.auth_method().map(Into::into),
            ..connected(V5)
        };
        let session = Session {
            client: accepted.client,
            settings: accepted.settings,
            connection: None,
            slot: 0,
            migration: None,
            outbound: Outbound::default(),
            instance: 1,
            state: accepted.state,
            inbound: Inbound::default(),
            subscriptions: hashbrown::HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            filter_bytes: 0,
            shared: 0,
            will: None,
            expires: Time::NEVER,
            will_due: Time::NEVER,
            takeovers: (0, Time::ZERO),
        };
        Live { door, connected, session }
    }

    impl Live {
        fn auth(&mut self, auth: Auth<'_>, resumed: Option<Resumed>) -> Result<Reauthentication, Violation> {
            let Live { door, connected, session } = self;
            let live = LiveConnection { connected, session, listener: 0 };
            door.handshake.reauthenticate(&mut door.chain, live, &auth, resumed, NOW)
        }

        fn say(&mut self, code: ReasonCode, data: &[u8]) -> Reauthentication {
            let auth = Auth { data: Some(data), ..Auth::new(code, "M") };
            self.auth(auth, None).expect("it belongs to an exchange")
        }

        fn answer(&mut self, code: ReasonCode, data: &[u8]) -> ReasonCode {
            let Reauthentication::Answer(bytes) = self.say(code, data) else { panic!("no answer") };
            let Packet::Auth(auth) = packet(&bytes, V5) else { panic!("not an AUTH") };
            assert_eq!(auth.method, Some("M"));
            auth.code
        }
    }

    const AGAIN: ReasonCode = ReasonCode::ReAuthenticate;
    const GO_ON: ReasonCode = ReasonCode::ContinueAuthentication;

    #[test]
    fn a_success_takes_effect_at_once() {
        let mut live = live(100, "limits.auth_timeout = '3s'");
        assert_eq!(live.answer(AGAIN, b"more"), GO_ON);
        assert_eq!(live.connected.reauthentication_due, NOW + Duration::from_secs(3));
        assert_eq!(live.answer(GO_ON, b"yes"), ReasonCode::Success);
        assert_eq!(live.connected.reauthentication_due, Time::NEVER);
        assert_eq!(live.session.client.username.as_deref(), Some("new"));
        assert_eq!((live.session.settings.message_rate, live.session.settings.maximum_incoming), (1, 7));
        assert_eq!(live.connected.maximum_incoming, 7);
        assert_eq!(live.session.settings.lifetime, Some(Duration::from_secs(70)), "a minute has passed");
        let asked = live.session.state.1.iter().filter(|name| **name == "on_auth_m5");
        assert_eq!(asked.count(), 3, "the state of the session goes on");
    }

    #[test]
    fn the_listener_has_the_last_word_on_the_lifetime() {
        let mut live = live(100, "session.max_connection_lifetime = '65s'");
        assert_eq!(live.answer(AGAIN, b"yes"), ReasonCode::Success);
        assert_eq!(live.session.settings.lifetime, Some(Duration::from_secs(65)));
    }

    #[test]
    fn how_it_ends() {
        let mut live = live(100, "");
        let mut end = |data| match live.say(AGAIN, data) {
            Reauthentication::Ended { reason, code, what, hook_failed } => (reason, code, what, hook_failed),
            other => panic!("{other:?}"),
        };
        let no = EndReason::NotAuthorized;
        assert_eq!(end(b"no"), (no, ReasonCode::NotAuthorized, "because".into(), false), "[MQTT-3.14.2-1]");
        assert_eq!(end(b"unknown"), (no, ReasonCode::BadAuthenticationMethod, String::new(), false));
        assert_eq!(end(b"panic"), (EndReason::HookFailure, ReasonCode::NotAuthorized, String::new(), true));
    }

    #[test]
    fn a_later_answer_is_taken_when_it_comes() {
        let mut live = live(100, "");
        let Reauthentication::Later(pending) = live.say(AGAIN, b"later") else { panic!("not put off") };
        assert_eq!(pending.hook, "on_auth_m5");
        let auth = Auth { data: Some(b"later"), ..Auth::new(AGAIN, "M") };
        assert!(matches!(live.auth(auth, Some(Resumed::Allowed)), Ok(Reauthentication::Answer(_))));
        assert_eq!(live.connected.reauthentication_due, Time::NEVER);
    }

    #[test]
    fn an_auth_of_no_exchange_is_a_violation() {
        let mut live = live(100, "");
        let code = |outcome: Result<_, Violation>| outcome.expect_err("a violation").code;
        assert_eq!(code(live.auth(Auth::new(GO_ON, "M"), None)), ReasonCode::ProtocolError);
        assert_eq!(code(live.auth(Auth::new(AGAIN, "N"), None)), ReasonCode::ProtocolError, "[MQTT-4.12.1-1]");
        live.connected.auth_method = None;
        assert_eq!(code(live.auth(Auth::new(AGAIN, "M"), None)), ReasonCode::ProtocolError, "[MQTT-4.12.1-1]");
        assert_eq!(live.connected.reauthentication_due, Time::NEVER);
    }

    #[test]
    fn an_answer_is_no_longer_than_the_client_takes() {
        let mut largest = live(16, "");
        assert_eq!(largest.answer(AGAIN, b"more"), GO_ON);
        assert!(matches!(live(11, "").say(AGAIN, b"more"), Reauthentication::TooLarge), "[MQTT-3.1.2-24]");
    }
}
