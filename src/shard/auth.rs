//! The exchange of AUTH packets: while a client connects, and again whenever it likes [MQTT-4.12].

use super::Shard;
use crate::hooks::ask::{self, Resumed};
use super::attempt::{Attempt, Step, decoded};
use crate::client::{ConnectionId, EndReason};
use crate::codec::{Auth, Connect, Packet, ProtocolVersion, ReasonCode, Sender, Split, UserProperties, decode, split};
use crate::connection::{ConnectionStage, Violation};
use crate::hooks::{
    AuthContinue, AuthExchange, AuthStage, AuthStep, AuthSuccess, Chain, PendingAnswer, ConnectCode, ConnectRefusalM5, Verdict,
};
use crate::time::Time;

/// The AUTH in `frame`; none if that is empty.
fn decoded_auth(frame: &[u8]) -> Option<Auth<'_>> {
    let Ok(Split::Frame(frame)) = split(frame, frame.len()) else { return None };
    match decode(frame, ProtocolVersion::V5, Sender::Client) {
        Ok(Packet::Auth(auth)) => Some(auth),
        _ => None,
    }
}

impl<C: Chain> Shard<C> {
    /// Asks `on_auth_m5` about the CONNECT or the last AUTH. Gives the attempt back if the client is authenticated.
    #[allow(clippy::type_complexity)]
    pub(super) fn ask_auth(
        &mut self,
        id: ConnectionId,
        mut attempt: Box<Attempt<C::State>>,
        connect: &Connect<'_>,
        resumed: Option<Resumed>,
    ) -> Result<Option<Box<Attempt<C::State>>>, Violation> {
        if attempt.due == Time::NEVER {
            attempt.due = self.now + self.config.limits.auth_timeout;
            self.arm_connection(id, attempt.due);
        }
        let frame = std::mem::take(&mut attempt.auth_frame);
        let exchange = match decoded_auth(&frame) {
            None => AuthExchange {
                stage: AuthStage::Connect,
                method: connect.properties.authentication_method.unwrap_or_default(),
                data: connect.properties.authentication_data,
                reason_string: None,
                user_properties: connect.properties.user,
            },
            Some(auth) => exchange(AuthStage::Continue, &auth),
        };
        match ask::auth(&mut self.chain, &attempt.client, &mut attempt.state, &exchange, resumed) {
            Verdict::Ok(AuthStep::Success(success)) => {
                if let Some(username) = &success.username {
                    attempt.client.username = Some(username.clone());
                }
                attempt.auth = Some(success);
                attempt.step = Step::Register;
                // The exchange is over; what follows has deadlines of its own.
                attempt.due = Time::NEVER;
                return Ok(Some(attempt));
            }
            Verdict::Ok(AuthStep::Continue(question)) => {
                attempt.step = Step::AwaitAuth;
                self.set_stage(id, ConnectionStage::Connecting(attempt));
                self.write_auth_continue(id, exchange.method, &question);
            }
            Verdict::Exhausted => {
                let refusal = ConnectRefusalM5::default().code(ConnectCode::BadAuthenticationMethod);
                self.refuse_attempt(id, attempt, refusal)?;
            }
            Verdict::Refused(refusal) => self.refuse_attempt(id, attempt, refusal)?,
            Verdict::Failed { .. } => {
                self.counters.hook_failures += 1;
                self.refuse_attempt(id, attempt, ConnectRefusalM5::default())?;
            }
            Verdict::Later(PendingAnswer { link, future, .. }) => {
                attempt.auth_frame = frame;
                self.park(id, attempt, link, future, "on_auth_m5")?;
            }
        }
        Ok(None)
    }

    /// Until it is authenticated, a client may send nothing but AUTH and DISCONNECT [MQTT-3.1.2-30].
    pub(super) fn on_packet_while_connecting(&mut self, id: ConnectionId, raw: &[u8]) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let ConnectionStage::Connecting(attempt) = &connection.stage else { return Ok(()) };
        let Split::Frame(frame) = split(raw, raw.len())? else { return Ok(()) };
        let auth = match decode(frame, attempt.client.version, Sender::Client)? {
            Packet::Auth(auth) => auth,
            Packet::Disconnect(_) => {
                self.forget_connection(id, None);
                return Ok(());
            }
            _ => return Err(Violation::protocol("neither AUTH nor DISCONNECT before the client is authenticated")),
        };
        let frame = attempt.frame.clone();
        let connect = decoded(&frame)?;
        if auth.method != connect.properties.authentication_method {
            return Err(Violation::protocol("AUTH with another method than CONNECT [MQTT-4.12.0-5]"));
        }
        if auth.code != ReasonCode::ContinueAuthentication {
            return Err(Violation::protocol(
                "AUTH with another reason code than Continue authentication [MQTT-4.12.0-3]",
            ));
        }
        let stage = std::mem::replace(&mut connection.stage, ConnectionStage::Opening);
        let ConnectionStage::Connecting(mut attempt) = stage else { return Ok(()) };
        attempt.auth_frame = raw.to_vec();
        attempt.step = Step::Authenticate;
        self.ask_on(id, attempt, &connect, None)
    }

    /// AUTH on a live connection: re-authentication, with the method of the CONNECT [MQTT-4.12.1-1].
    pub(super) fn on_auth_packet(
        &mut self,
        id: ConnectionId,
        index: u32,
        auth: Auth<'_>,
        raw: &[u8],
        resumed: Option<Resumed>,
    ) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let ConnectionStage::Connected(connected) = &mut connection.stage else { return Ok(()) };
        if connected.auth_method.is_none() || connected.auth_method.as_deref() != auth.method {
            return Err(Violation::protocol("AUTH with another method than CONNECT [MQTT-4.12.1-1]"));
        }
        let stage = match auth.code {
            ReasonCode::ReAuthenticate => AuthStage::Reauthenticate,
            ReasonCode::ContinueAuthentication if connected.reauthentication_due != Time::NEVER => AuthStage::Continue,
            _ => return Err(Violation::protocol("AUTH that belongs to no exchange")),
        };
        if connected.reauthentication_due == Time::NEVER {
            let due = self.now + self.config.limits.auth_timeout;
            connected.reauthentication_due = due;
            self.arm_connection(id, due);
        }
        let Some(session) = self.sessions.get_mut(index) else { return Ok(()) };
        let exchange = exchange(stage, &auth);
        match ask::auth(&mut self.chain, &session.client, &mut session.state, &exchange, resumed) {
            Verdict::Ok(AuthStep::Success(success)) => self.reauthenticated(id, index, exchange.method, success),
            Verdict::Ok(AuthStep::Continue(question)) => self.write_auth_continue(id, exchange.method, &question),
            Verdict::Later(PendingAnswer { link, future, .. }) => self.put_off(id, raw, link, future, "on_auth_m5"),
            Verdict::Exhausted => self.end_with(id, EndReason::NotAuthorized, ReasonCode::BadAuthenticationMethod),
            Verdict::Refused(refusal) => {
                let code = refusal.code.unwrap_or_default().in_disconnect();
                let what = refusal.reason_string.as_deref().unwrap_or_default();
                self.end_connection(id, EndReason::NotAuthorized, Some((code, what)));
            }
            Verdict::Failed { .. } => {
                self.counters.hook_failures += 1;
                self.end_with(id, EndReason::HookFailure, ReasonCode::NotAuthorized);
            }
        }
        Ok(())
    }

    fn reauthenticated(&mut self, id: ConnectionId, index: u32, method: &str, success: AuthSuccess) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        if let Some(username) = success.username {
            session.client.username = Some(username);
        }
        if let Some(rate) = success.max_message_rate {
            session.settings.message_rate = rate.get();
        }
        if let Some(size) = success.max_message_size {
            session.settings.maximum_incoming = size.get().unwrap_or(usize::MAX);
        }
        let maximum_incoming = session.settings.maximum_incoming;
        if let Some(connection) = self.connections.get_mut(id)
            && let ConnectionStage::Connected(connected) = &mut connection.stage
        {
            connected.reauthentication_due = Time::NEVER;
            connected.maximum_incoming = maximum_incoming;
            if let Some(lifetime) = success.max_connection_lifetime {
                // From now on, but no longer than the listener allows from the start.
                let lifetime = self.now.since(connected.registered) + lifetime;
                let most = self.listeners[connection.listener].lifetime;
                session.settings.lifetime = Some(most.map_or(lifetime, |most| most.min(lifetime)));
            }
        }
        self.arm_connected(id);
        let auth = Auth {
            code: ReasonCode::Success,
            method: Some(method),
            data: success.data.as_deref(),
            reason_string: success.reason_string.as_deref(),
            user: UserProperties::from(&success.user_properties[..]),
        };
        self.write_auth(id, auth);
    }

    fn write_auth_continue(&mut self, id: ConnectionId, method: &str, question: &AuthContinue) {
        let auth = Auth {
            code: ReasonCode::ContinueAuthentication,
            method: Some(method),
            data: question.data.as_deref(),
            reason_string: question.reason_string.as_deref(),
            user: UserProperties::from(&question.user_properties[..]),
        };
        self.write_auth(id, auth);
    }

    /// Writes an AUTH, without reason string and user properties if the client does not want them [MQTT-3.1.2-29] or the
    /// packet were too large with them [MQTT-3.15.2-2], [MQTT-3.15.2-3].
    fn write_auth(&mut self, id: ConnectionId, mut auth: Auth<'_>) {
        let Some(connection) = self.connections.get(id) else { return };
        let (wanted, most) = match &connection.stage {
            ConnectionStage::Connected(connected) => match self.sessions.get(connected.session) {
                Some(session) => (session.settings.problem_information, session.settings.maximum_outgoing),
                None => return,
            },
            ConnectionStage::Connecting(attempt) => {
                let Ok(connect) = decoded(&attempt.frame) else { return };
                let most = connect.properties.maximum_packet_size.map_or(usize::MAX, |most| most as usize);
                (connect.properties.request_problem_information, most)
            }
            ConnectionStage::Opening => return,
        };
        if !wanted || auth.encoded_len(ProtocolVersion::V5) > most {
            (auth.reason_string, auth.user) = (None, UserProperties::default());
        }
        if auth.encoded_len(ProtocolVersion::V5) > most {
            return self.answer_too_large(id);
        }
        self.write(id, |version, out| auth.encode(version, out));
    }
}

fn exchange<'a>(stage: AuthStage, auth: &Auth<'a>) -> AuthExchange<'a> {
    AuthExchange {
        stage,
        method: auth.method.unwrap_or_default(),
        data: auth.data,
        reason_string: auth.reason_string,
        user_properties: auth.user,
    }
}
