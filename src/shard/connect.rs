//! CONNECT, up to the moment when the client belongs to a shard.
//!
//! ```text
//!  CONNECT ──► checked ──► on_auth_m5 ⇄ AUTH ──► auth_on_register ──► auth_on_publish (will) ──► owner
//!                 │             │                      │                      │
//!                 └─────────────┴── CONNACK refused ◄──┴──────────────────────┘
//! ```
//!
//! Nothing of a session is touched before all of them have accepted. An [`Attempt`] is a client on this way, an [`Arrival`]
//! one that has come to its end.

use crate::hooks::ask::{self, Resumed};
use super::attempt::{Arrival, Attempt, Step, decoded};
use super::wills::will_request;
use super::{Effect, HandingOff, Shard, Waits};
use crate::client::{Client, ConnectionId, SubscriberId};
use crate::codec::{Connect, ProtocolVersion, ReasonCode};
use crate::connection::{Connection, ConnectionStage, PauseReason, Violation};
use crate::hooks::{Chain, PendingAnswer, ConnectRefusalM5, HookAnswer, HookFuture, RegisterM5, RegisterModifiersM5, Verdict};
use crate::time::Time;
use crate::topic::TopicName;

/// Whether `text`, put into a topic filter, would be more than itself there.
fn has_wildcard(text: &str) -> bool {
    text.contains(['+', '#', '\0'])
}

impl<C: Chain> Shard<C> {
    /// The first packet of a connection: it must be a CONNECT [MQTT-3.1.0-1].
    pub(super) fn on_first_packet(&mut self, id: ConnectionId, raw: &[u8]) -> Result<(), Violation> {
        let connect = match decoded(raw) {
            Ok(connect) => connect,
            Err(error) if raw.first().is_some_and(|first| first >> 4 == 1) => {
                self.refuse_malformed(id, raw, error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let listener = &self.listeners[connection.listener];
        let (client_id, assigned_id) = match connect.client_id {
            "" => (self.random.alphanumeric(22).into(), true),
            given => (given.into(), false),
        };
        let client = Client {
            subscriber: SubscriberId { mountpoint: listener.mountpoint.clone(), client_id },
            peer: connection.peer,
            listener: listener.name.clone(),
            version: connect.version,
            username: connect.username.map(Into::into),
            certificate: None,
            connected_at: connection.connected_at,
            session_number: 0,
        };
        let refusal = self.check_connect(connection, &connect);
        let attempt = Box::new(Attempt {
            frame: raw.to_vec(),
            client,
            state: C::State::default(),
            step: if connect.properties.authentication_method.is_some() { Step::Authenticate } else { Step::Register },
            waiting: None,
            auth_frame: Vec::new(),
            auth: None,
            modifiers: RegisterModifiersM5::default(),
            assigned_id,
            will: None,
            due: Time::NEVER,
        });
        if let Some((code, what)) = refusal {
            self.set_stage(id, ConnectionStage::Connecting(attempt));
            return Err(Violation::new(code, what));
        }
        self.ask_on(id, attempt, &connect, None)
    }

    /// What can be said of a CONNECT without asking anybody: why it is refused, if it is.
    fn check_connect(
        &self,
        connection: &Connection<Attempt<C::State>>,
        connect: &Connect<'_>,
    ) -> Option<(ReasonCode, &'static str)> {
        let listener = &self.listeners[connection.listener];
        let session = &self.config.session;
        let id = connect.client_id;
        if !listener.speaks(connect.version) {
            return Some((ReasonCode::UnsupportedProtocolVersion, "the listener does not allow this protocol version"));
        }
        if self.stopping {
            return Some((ReasonCode::ServerShuttingDown, "the broker stops"));
        }
        if let Some(code) = connection.refused {
            return Some((code, "max_connections or connection_rate of the listener is reached"));
        }
        if id.len() > session.max_client_id_size {
            return Some((ReasonCode::ClientIdentifierNotValid, "the client id is longer than max_client_id_size"));
        }
        let needs_id = match connect.version {
            ProtocolVersion::V31 => true,
            ProtocolVersion::V311 => !connect.clean_start,
            ProtocolVersion::V5 => false,
        };
        if id.is_empty() && needs_id {
            return Some((ReasonCode::ClientIdentifierNotValid, "an empty client id asks for a session to be kept"));
        }
        if !session.allow_wildcards_in_identity {
            if has_wildcard(id) {
                return Some((ReasonCode::ClientIdentifierNotValid, "the client id contains + or #"));
            }
            if connect.username.is_some_and(has_wildcard) {
                return Some((ReasonCode::BadUserNameOrPassword, "the user name contains + or #"));
            }
        }
        let will = connect.will.as_ref()?;
        if TopicName::parse(will.topic, self.config.limits.max_topic_levels).is_err() {
            return Some((ReasonCode::TopicNameInvalid, "the topic of the will is not valid"));
        }
        let is_text = will.properties.payload_is_utf8 == Some(true);
        // As of a PUBLISH (3.1.3.2.3).
        (is_text && std::str::from_utf8(will.payload).is_err())
            .then_some((ReasonCode::PayloadFormatInvalid, "a will that says it is UTF-8 is not"))
    }

    /// Asks the questions that are left, from `attempt.step` on; `resumed` answers the first of them.
    pub(super) fn ask_on(
        &mut self,
        id: ConnectionId,
        mut attempt: Box<Attempt<C::State>>,
        connect: &Connect<'_>,
        mut resumed: Option<Resumed>,
    ) -> Result<(), Violation> {
        loop {
            match attempt.step {
                Step::Authenticate | Step::AwaitAuth => match self.ask_auth(id, attempt, connect, resumed.take())? {
                    Some(answered) => attempt = answered,
                    None => return Ok(()),
                },
                Step::Register => match self.ask_register(id, &mut attempt, connect, resumed.take()) {
                    Asked::Accepted => attempt.step = Step::Will,
                    Asked::Refused(refusal) => return self.refuse_attempt(id, attempt, refusal),
                    Asked::Later(link, future, hook) => return self.park(id, attempt, link, future, hook),
                },
                Step::Will => match self.ask_will(id, &mut attempt, connect, resumed.take()) {
                    Asked::Accepted => return self.place(id, attempt, connect),
                    Asked::Refused(refusal) => return self.refuse_attempt(id, attempt, refusal),
                    Asked::Later(link, future, hook) => return self.park(id, attempt, link, future, hook),
                },
            }
        }
    }

    fn ask_register(
        &mut self,
        id: ConnectionId,
        attempt: &mut Attempt<C::State>,
        connect: &Connect<'_>,
        resumed: Option<Resumed>,
    ) -> Asked {
        let properties = connect.will.as_ref().map(|will| will.properties).unwrap_or_default();
        let request = RegisterM5 {
            password: connect.password,
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            will: connect.will.as_ref().map(|will| will_request(will, &properties)),
            properties: &connect.properties,
        };
        match ask::register(&mut self.chain, &attempt.client, &mut attempt.state, &request, resumed) {
            Verdict::Ok(modifiers) => {
                if let Some(client_id) = &modifiers.client_id {
                    attempt.client.subscriber.client_id = client_id.clone();
                }
                if let Some(mountpoint) = &modifiers.mountpoint {
                    attempt.client.subscriber.mountpoint = mountpoint.clone();
                }
                if let Some(username) = &modifiers.username {
                    attempt.client.username = Some(username.clone());
                }
                attempt.modifiers = modifiers;
                Asked::Accepted
            }
            Verdict::Exhausted if self.is_anonymous_allowed(id) => Asked::Accepted,
            Verdict::Exhausted => Asked::Refused(ConnectRefusalM5::default()),
            Verdict::Refused(refusal) => Asked::Refused(refusal),
            Verdict::Failed { .. } => {
                self.counters.hook_failures += 1;
                Asked::Refused(ConnectRefusalM5::default())
            }
            Verdict::Later(PendingAnswer { link, future, .. }) if attempt.client.version.is_v5() => {
                Asked::Later(link, future, "auth_on_register_m5")
            }
            Verdict::Later(PendingAnswer { link, future, .. }) => Asked::Later(link, future, "auth_on_register"),
        }
    }

    /// Sends off the connections that belong to other shards, with the bytes behind their CONNECT.
    pub(super) fn carry_out_hand_offs(&mut self) {
        for HandingOff { connection: id, to, mut arrival } in std::mem::take(&mut self.handing_off) {
            let Some(connection) = self.take_connection(id) else { continue };
            arrival.unread = connection.unread.as_slice().to_vec();
            self.effects.push(Effect::HandOff { connection: id, to, arrival });
        }
    }

    /// Everybody has accepted: the client goes to the shard that owns it.
    fn place(
        &mut self,
        id: ConnectionId,
        attempt: Box<Attempt<C::State>>,
        connect: &Connect<'_>,
    ) -> Result<(), Violation> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let listener = connection.listener;
        let terms = self.terms(listener, connect, &attempt);
        let Attempt { frame, client, state, auth, modifiers, assigned_id, will, .. } = *attempt;
        let arrival = Box::new(Arrival {
            frame,
            state,
            auth,
            clean_start: modifiers.clean_start.unwrap_or(connect.clean_start),
            modifiers,
            assigned_id,
            will,
            terms,
            unread: Vec::new(),
            listener,
            connected_at: client.connected_at,
            client,
        });
        self.register(id, arrival);
        Ok(())
    }

    /// Hands a connection to the shard that owns its client. What came behind the CONNECT follows it: it gathers in the
    /// connection's buffer until the effects are taken.
    pub(super) fn hand_off(&mut self, id: ConnectionId, to: usize, arrival: Box<Arrival<C::State>>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.stage = ConnectionStage::Opening;
        connection.pauses.insert(PauseReason::Hook);
        self.handing_off.push(HandingOff { connection: id, to, arrival });
    }

    /// A question is answered later.
    pub(super) fn park(
        &mut self,
        id: ConnectionId,
        mut attempt: Box<Attempt<C::State>>,
        link: usize,
        future: HookFuture,
        hook: &'static str,
    ) -> Result<(), Violation> {
        let task = self.run_hook(Waits::Connection(id), link, future, hook);
        attempt.waiting = Some((task, link));
        self.set_stage(id, ConnectionStage::Connecting(attempt));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.pauses.insert(PauseReason::Hook);
        }
        Ok(())
    }

    /// The answer that a connecting client waits for is here.
    pub(super) fn resume_connecting(
        &mut self,
        id: ConnectionId,
        task: u64,
        answer: Option<HookAnswer>,
    ) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let ConnectionStage::Connecting(attempt) = &mut connection.stage else { return Ok(()) };
        let Some((waiting, link)) = attempt.waiting else { return Ok(()) };
        if waiting != task {
            return Ok(());
        }
        connection.pauses.release(PauseReason::Hook);
        let stage = std::mem::replace(&mut connection.stage, ConnectionStage::Opening);
        let ConnectionStage::Connecting(mut attempt) = stage else { return Ok(()) };
        attempt.waiting = None;
        let resumed = match answer {
            Some(answer) => Resumed::Answered { link, answer: Box::new(answer) },
            None => Resumed::Allowed,
        };
        let frame = attempt.frame.clone();
        let connect = decoded(&frame)?;
        self.ask_on(id, attempt, &connect, Some(resumed))
    }

    /// Whether the last link of every conditional chain accepts whoever got that far.
    pub(super) fn is_anonymous_allowed(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| self.listeners[connection.listener].allow_anonymous)
    }

    pub(super) fn set_stage(&mut self, id: ConnectionId, stage: ConnectionStage<Attempt<C::State>>) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.stage = stage;
        }
    }
}

/// What became of one question.
pub(super) enum Asked {
    Accepted,
    Refused(ConnectRefusalM5),
    Later(usize, HookFuture, &'static str),
}
