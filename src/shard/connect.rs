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

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::ask::{self, Resumed};
use super::{Effect, HandingOff, Shard, Waits};
use crate::client::{Client, ConnectionId, SubscriberId};
use crate::codec::{
    Connack, ConnackProperties, Connect, DecodeError, Packet, PacketType, ProtocolVersion, PublishProperties, QoS,
    ReasonCode, Sender, Split, UserProperties, Will as ConnectWill, decode, split,
};
use crate::config::{Config, Limit, ListenerConfig, Protocol};
use crate::connection::{Connection, ConnectionStage, Hold, Rate, Violation, code_for};
use crate::hooks::{
    AuthSuccess, Chain, ConnectCode, ConnectRefusalM5, Expiry, HookAnswer, HookFuture, PublishModifiersM5,
    PublishRequestM5, RegisterM5, RegisterModifiersM5, Verdict,
};
use crate::message::Publication;
use crate::session::{Terms, Will};
use crate::time::Time;
use crate::topic::TopicName;

/// A listener as a shard uses it: its own settings, and those of the broker where it has none.
pub(super) struct Listener {
    pub name: Arc<str>,
    pub mountpoint: Arc<str>,
    pub protocols: Vec<Protocol>,
    pub max_connections: Limit,
    /// Connections a second, on all shards; 0: as many as come.
    pub connection_rate: u32,
    pub rate: Rate,
    pub allow_anonymous: bool,
    pub connect_timeout: Duration,
    pub max_packet_size: usize,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub max_message_rate: u32,
    pub lifetime: Option<Duration>,
}

impl Listener {
    pub fn new(own: &ListenerConfig, config: &Config) -> Self {
        let limits = &config.limits;
        Listener {
            name: own.name.as_str().into(),
            mountpoint: own.mountpoint.as_str().into(),
            protocols: own.protocols.clone(),
            max_connections: own.max_connections,
            connection_rate: own.connection_rate.unwrap_or(limits.connection_rate),
            rate: Rate::default(),
            allow_anonymous: own.allow_anonymous.unwrap_or(config.allow_anonymous),
            connect_timeout: own.connect_timeout.unwrap_or(limits.connect_timeout),
            max_packet_size: own.max_packet_size.unwrap_or(limits.max_packet_size),
            receive_maximum: own.receive_maximum.unwrap_or(limits.receive_maximum),
            topic_alias_maximum: own.topic_alias_maximum.unwrap_or(limits.topic_alias_maximum),
            max_message_rate: own.max_message_rate.unwrap_or(limits.max_message_rate),
            lifetime: own.max_connection_lifetime.or(config.session.max_connection_lifetime),
        }
    }

    fn speaks(&self, version: ProtocolVersion) -> bool {
        self.protocols.contains(&match version {
            ProtocolVersion::V31 => Protocol::V31,
            ProtocolVersion::V311 => Protocol::V311,
            ProtocolVersion::V5 => Protocol::V5,
        })
    }
}

/// Which question is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `on_auth_m5`.
    Authenticate,
    /// Nothing: the client is to send AUTH.
    AwaitAuth,
    /// `auth_on_register`.
    Register,
    /// `auth_on_publish` for the will.
    Will,
}

/// A client that is connecting. `S` is what the hooks keep for it.
pub struct Attempt<S> {
    /// Its CONNECT, whole.
    pub(super) frame: Vec<u8>,
    pub(super) client: Client,
    pub(super) state: S,
    pub(super) step: Step,
    /// The hook that answers later: its task and link. And the AUTH it was asked about, if it was one.
    pub(super) waiting: Option<(u64, usize)>,
    pub(super) auth_frame: Vec<u8>,
    pub(super) auth: Option<AuthSuccess>,
    pub(super) modifiers: RegisterModifiersM5,
    pub(super) assigned_id: bool,
    pub(super) will: Option<Will>,
    /// Until when it must have come to an end, while nothing but the client is waited for.
    pub(super) due: Time,
}

/// A client that was accepted, on its way to the shard that owns it.
pub struct Arrival<S> {
    pub(super) frame: Vec<u8>,
    pub(super) client: Client,
    pub(super) state: S,
    pub(super) auth: Option<AuthSuccess>,
    pub(super) modifiers: RegisterModifiersM5,
    pub(super) assigned_id: bool,
    pub(super) will: Option<Will>,
    pub(super) clean_start: bool,
    pub(super) terms: Terms,
    /// Bytes behind the CONNECT.
    pub(super) unread: Vec<u8>,
    pub(super) listener: usize,
    pub(super) connected_at: SystemTime,
}

impl<S> Arrival<S> {
    /// The far end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.client.peer
    }

    /// The listener that accepted it, by its place in the configuration.
    pub fn listener(&self) -> usize {
        self.listener
    }
}

/// The CONNECT in `frame`, which was decoded once before.
pub(super) fn decoded(frame: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let malformed = DecodeError { code: ReasonCode::MalformedPacket, what: "not a CONNECT" };
    let Split::Frame(frame) = split(frame, frame.len())? else { return Err(malformed) };
    match decode(frame, ProtocolVersion::V5, Sender::Client)? {
        Packet::Connect(connect) => Ok(connect),
        _ => Err(DecodeError { code: ReasonCode::ProtocolError, what: "the first packet is not a CONNECT" }),
    }
}

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
        TopicName::parse(will.topic, self.config.limits.max_topic_levels)
            .is_err()
            .then_some((ReasonCode::TopicNameInvalid, "the topic of the will is not valid"))
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
            Verdict::Later { link, future } if attempt.client.version.is_v5() => {
                Asked::Later(link, future, "auth_on_register_m5")
            }
            Verdict::Later { link, future } => Asked::Later(link, future, "auth_on_register"),
        }
    }

    fn ask_will(
        &mut self,
        id: ConnectionId,
        attempt: &mut Attempt<C::State>,
        connect: &Connect<'_>,
        resumed: Option<Resumed>,
    ) -> Asked {
        let Some(will) = &connect.will else { return Asked::Accepted };
        if let Some(code) = self.will_beyond_terms(will, &attempt.modifiers) {
            return Asked::Refused(ConnectRefusalM5::default().code(code));
        }
        let modifiers = if will.topic.starts_with('$') {
            tracing::info!(client = %attempt.client.subscriber, topic = will.topic, "a will to a $ topic is never published");
            return Asked::Accepted;
        } else {
            let request = will_request(will, &will.properties);
            match ask::publish(&mut self.chain, &attempt.client, &mut attempt.state, &request, resumed) {
                Verdict::Ok(modifiers) => modifiers,
                Verdict::Exhausted if self.is_anonymous_allowed(id) => PublishModifiersM5::default(),
                Verdict::Exhausted | Verdict::Refused(_) => return Asked::Refused(ConnectRefusalM5::default()),
                Verdict::Failed { .. } => {
                    self.counters.hook_failures += 1;
                    return Asked::Refused(ConnectRefusalM5::default());
                }
                Verdict::Later { link, future } if attempt.client.version.is_v5() => {
                    return Asked::Later(link, future, "auth_on_publish_m5");
                }
                Verdict::Later { link, future } => return Asked::Later(link, future, "auth_on_publish"),
            }
        };
        attempt.will = self.make_will(attempt, will, modifiers);
        if attempt.will.is_none() {
            tracing::error!(client = %attempt.client.subscriber, "a hook gave the will a topic that is not valid");
            return Asked::Refused(ConnectRefusalM5::default());
        }
        Asked::Accepted
    }

    /// Why a will is not within the terms that a hook has set for this client [MQTT-3.2.2-12], [MQTT-3.2.2-13].
    fn will_beyond_terms(&self, will: &ConnectWill<'_>, by: &RegisterModifiersM5) -> Option<ConnectCode> {
        let limits = &self.config.limits;
        let highest = by.maximum_qos.or(QoS::from_u8(limits.maximum_qos)).unwrap_or(QoS::ExactlyOnce);
        if will.qos > highest {
            return Some(ConnectCode::QosNotSupported);
        }
        (will.retain && !by.retain_available.unwrap_or(limits.retain_available))
            .then_some(ConnectCode::RetainNotSupported)
    }

    fn make_will(&self, attempt: &Attempt<C::State>, will: &ConnectWill<'_>, by: PublishModifiersM5) -> Option<Will> {
        let topic = TopicName::parse(by.topic.as_deref().unwrap_or(will.topic), self.config.limits.max_topic_levels);
        let mut publication = Publication::new(topic.ok()?, by.payload.as_deref().unwrap_or(will.payload));
        let properties = will.properties.forwarded();
        publication.properties = by.properties.as_ref().map_or(&*properties, |block| block.as_bytes());
        publication.qos = by.qos.unwrap_or(will.qos);
        publication.retain = by.retain.unwrap_or(will.retain);
        let asked = will.properties.message_expiry.map(|seconds| Duration::from_secs(seconds.into()));
        let mut delay = Duration::from_secs(will.delay.into());
        if let Some(most) = self.config.session.max_will_delay {
            delay = delay.min(most);
        }
        Some(Will {
            message: publication.keep(),
            mountpoint: by.mountpoint.clone().unwrap_or_else(|| attempt.client.subscriber.mountpoint.clone()),
            delay,
            expiry: match by.message_expiry {
                None => asked,
                Some(Expiry::Never) => None,
                Some(Expiry::After(after)) => Some(after),
            },
        })
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
        connection.holds.insert(Hold::Hook);
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
        let task = self.run_hook(Waits::Connection(id), future, hook);
        attempt.waiting = Some((task, link));
        self.set_stage(id, ConnectionStage::Connecting(attempt));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.holds.insert(Hold::Hook);
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
        connection.holds.release(Hold::Hook);
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

    /// A CONNECT that cannot be read. The client is told as much as its version lets it understand.
    fn refuse_malformed(&mut self, id: ConnectionId, raw: &[u8], error: DecodeError) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        tracing::info!(peer = %connection.peer, code = %error.code, "CONNECT refused: {}", error.what);
        self.counters.refused += 1;
        // The protocol level stands behind the name, whose length comes first; see section 3.1.2.1 and 3.1.2.2.
        let Ok(Split::Frame(frame)) = split(raw, raw.len()) else { return self.forget_connection(id, None) };
        let level = match frame.body {
            [0, length, rest @ ..] => rest.get(usize::from(*length)).copied(),
            _ => None,
        };
        let version = match level {
            Some(5..) => ProtocolVersion::V5,
            Some(3 | 4)
                if error.code != ReasonCode::UnsupportedProtocolVersion
                    && error.code != ReasonCode::ClientIdentifierNotValid =>
            {
                return self.forget_connection(id, None);
            }
            Some(_) => ProtocolVersion::V311,
            None => return self.forget_connection(id, None),
        };
        let connack = Connack::new(false, code_for(PacketType::Connack, error.code));
        connack.encode(version, connection.outbox.bytes(&mut self.spare));
        self.forget_connection(id, None);
    }
}

/// What became of one question.
pub(super) enum Asked {
    Accepted,
    Refused(ConnectRefusalM5),
    Later(usize, HookFuture, &'static str),
}

fn will_request<'a>(will: &ConnectWill<'a>, properties: &'a PublishProperties<'a>) -> PublishRequestM5<'a> {
    PublishRequestM5 {
        topic: will.topic,
        payload: will.payload,
        qos: will.qos,
        retain: will.retain,
        is_will: true,
        properties,
    }
}
