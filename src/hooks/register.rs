//! `auth_on_register` and `auth_on_register_m5`: what they are asked, what they may change, how they refuse.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::expiry::Expiry;
use super::modifiers::{modifiers, refusal_codes};
use super::publish::{PublishRequest, PublishRequestM5};
use crate::codec::{ConnectProperties, PacketType, QoS, ReasonCode, Sender};
use crate::config::{Limit, QueueType, SharedPolicy, StoredDurability};

/// A CONNECT of a v3 client whose client id is settled. Client id, user name and the rest are in
/// [`Context::client`](super::Context::client).
#[derive(Clone, Copy, Debug, Default)]
pub struct Register<'a> {
    /// The password, if one was sent.
    pub password: Option<&'a [u8]>,
    /// Whether the client wants an empty session that ends with its connection.
    pub clean_session: bool,
    /// The keep-alive in seconds; 0 is none.
    pub keep_alive: u16,
    /// The will, if one was sent. It is put to `auth_on_publish` afterwards.
    pub will: Option<PublishRequest<'a>>,
}

/// A CONNECT of a v5 client whose client id is settled. Client id, user name and the rest are in
/// [`Context::client`](super::Context::client).
#[derive(Clone, Copy, Debug)]
pub struct RegisterM5<'a> {
    /// The password, if one was sent.
    pub password: Option<&'a [u8]>,
    /// Whether the client wants to begin with an empty session.
    pub clean_start: bool,
    /// The keep-alive in seconds; 0 is none.
    pub keep_alive: u16,
    /// The will, if one was sent. It is put to `auth_on_publish_m5` afterwards.
    pub will: Option<PublishRequestM5<'a>>,
    /// All properties of the CONNECT.
    pub properties: &'a ConnectProperties<'a>,
}

impl<'a> RegisterM5<'a> {
    /// What a v3 hook sees of it: clean start for clean session, and no properties.
    #[inline]
    pub fn without_properties(&self) -> Register<'a> {
        let RegisterM5 { password, clean_start, keep_alive, will, .. } = *self;
        let will = will.map(|will| will.without_properties());
        Register { password, clean_session: clean_start, keep_alive, will }
    }
}

modifiers! {
    /// What *Ok* of `auth_on_register` changes.
    pub struct RegisterModifiers {
        /// The client id the session goes by, in all that follows.
        client_id: Arc<str>,
        /// The mountpoint the client belongs to, in all that follows.
        mountpoint: Arc<str>,
        /// The user name for later hooks.
        username: Arc<str>,
        /// Whether the client gets an empty session that ends with its connection.
        clean_session: bool,
        /// The largest PUBLISH packet accepted, in bytes. Larger ones close the connection.
        max_message_size: Limit,
        /// How many PUBLISH packets are read in a second. The client is slowed down to it, nothing is dropped.
        max_message_rate: NonZeroU32,
        /// How many QoS 1 and 2 messages may be on their way to the client unacknowledged.
        max_inflight_messages: NonZeroU16,
        /// After so long without acknowledgement a message is sent again; zero is never.
        retry_interval: Duration,
        /// Whether messages go out at the QoS of the subscription even if they were published at a lower one.
        upgrade_qos: bool,
        /// Who of a shared subscription gets the messages this client publishes.
        shared_subscription_policy: SharedPolicy,
        /// How many messages may wait while the client is connected.
        max_online_messages: Limit,
        /// How many messages may wait while the client is away.
        max_offline_messages: Limit,
        /// Which message is dropped when a queue is full.
        queue_type: QueueType,
        /// The connection is closed when it is this old, or at the limit of its listener if that is sooner.
        max_connection_lifetime: Duration,
        /// How long a kept session waits for its client.
        session_expiry: Expiry,
        /// What is stored of the session, and what acknowledgements promise, instead of what the listener says. Without a store it has no effect.
        /// It holds until the client connects again.
        durability: StoredDurability,
    }
}

modifiers! {
    /// What *Ok* of `auth_on_register_m5` changes. What the client may not know is told in CONNACK, and enforced.
    pub struct RegisterModifiersM5 {
        /// The client id the session goes by, in all that follows. It is not told to the client.
        client_id: Arc<str>,
        /// The mountpoint the client belongs to, in all that follows.
        mountpoint: Arc<str>,
        /// The user name for later hooks.
        username: Arc<str>,
        /// Whether the client begins with an empty session.
        clean_start: bool,
        /// The largest PUBLISH packet accepted, in bytes. Larger ones end the connection with 0x95.
        max_message_size: Limit,
        /// How many PUBLISH packets are read in a second. The client is slowed down to it, nothing is dropped.
        max_message_rate: NonZeroU32,
        /// How many QoS 1 and 2 messages may be on their way to the client unacknowledged; the client's own Receive
        /// Maximum applies too.
        max_inflight_messages: NonZeroU16,
        /// Has no effect on v5 clients, to whom nothing is sent again on a live connection (`[MQTT-4.4.0-1]`); here so
        /// that both versions take the same settings.
        retry_interval: Duration,
        /// Whether messages go out at the QoS of the subscription even if they were published at a lower one.
        upgrade_qos: bool,
        /// Who of a shared subscription gets the messages this client publishes.
        shared_subscription_policy: SharedPolicy,
        /// How many messages may wait while the client is connected.
        max_online_messages: Limit,
        /// How many messages may wait while the client is away.
        max_offline_messages: Limit,
        /// Which message is dropped when a queue is full.
        queue_type: QueueType,
        /// The connection is closed with 0xA0 when it is this old, or at the limit of its listener if that is sooner.
        max_connection_lifetime: Duration,
        /// How long the session waits for its client after the connection; zero ends it with the connection.
        session_expiry_interval: Expiry,
        /// What is stored of the session, and what acknowledgements promise, instead of what the listener says. Without a store it has no effect.
        /// It holds until the client connects again.
        durability: StoredDurability,
        /// How many QoS 1 and 2 messages the client may have on their way to the broker (CONNACK Receive Maximum).
        receive_maximum: NonZeroU16,
        /// Lowers the Receive Maximum the client asked for; one that is higher has no effect.
        client_receive_maximum: NonZeroU16,
        /// How many topic aliases the client may use; 0 is none.
        topic_alias_maximum: u16,
        /// The largest packet the client may send, in bytes (CONNACK Maximum Packet Size).
        maximum_packet_size: NonZeroU32,
        /// The highest QoS the client may publish at.
        maximum_qos: QoS,
        /// Whether the client may publish retained messages.
        retain_available: bool,
        /// Whether the client may subscribe to filters with wildcards.
        wildcard_subscription_available: bool,
        /// Whether the client may use shared subscriptions.
        shared_subscription_available: bool,
        /// Whether the client may put identifiers on its subscriptions.
        subscription_identifiers_available: bool,
        /// The keep-alive the client must use instead of the one it asked for, in seconds; 0 is none.
        server_keep_alive: u16,
        /// The base for response topics, told if the client asked for response information.
        response_information: String,
        /// A sentence for people.
        reason_string: String,
        /// The last data of an enhanced authentication, in place of those of `on_auth_m5`. Not sent if the client named
        /// no authentication method.
        authentication_data: Bytes,
        ..user_properties
    }
}

impl From<RegisterModifiers> for RegisterModifiersM5 {
    /// A clean session is a clean start whose session ends with its connection.
    fn from(v3: RegisterModifiers) -> Self {
        let ends_with_connection = (v3.clean_session == Some(true)).then_some(Expiry::After(Duration::ZERO));
        RegisterModifiersM5 {
            client_id: v3.client_id,
            mountpoint: v3.mountpoint,
            username: v3.username,
            clean_start: v3.clean_session,
            max_message_size: v3.max_message_size,
            max_message_rate: v3.max_message_rate,
            max_inflight_messages: v3.max_inflight_messages,
            retry_interval: v3.retry_interval,
            upgrade_qos: v3.upgrade_qos,
            shared_subscription_policy: v3.shared_subscription_policy,
            max_online_messages: v3.max_online_messages,
            max_offline_messages: v3.max_offline_messages,
            queue_type: v3.queue_type,
            max_connection_lifetime: v3.max_connection_lifetime,
            session_expiry_interval: ends_with_connection.or(v3.session_expiry),
            durability: v3.durability,
            ..Default::default()
        }
    }
}

/// A v3 CONNECT is refused, with this return code in CONNACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConnectRefusal {
    /// 5: not authorised.
    #[default]
    NotAuthorized,
    /// 4: bad user name or password.
    InvalidCredentials,
    /// 2: the client id is not acceptable.
    IdentifierRejected,
    /// 3: the service is unavailable.
    Unavailable,
}

refusal_codes! {
    /// The reason codes with which CONNACK may refuse a client.
    pub enum ConnectCode {
        /// 0x80: no reason is told.
        UnspecifiedError,
        /// 0x81: the CONNECT is malformed.
        MalformedPacket,
        /// 0x82: the CONNECT breaks the protocol.
        ProtocolError,
        /// 0x83: the broker does not accept it.
        ImplementationSpecific,
        /// 0x84: the client must use another protocol version.
        UnsupportedProtocolVersion,
        /// 0x85: the client id is not acceptable.
        ClientIdentifierNotValid,
        /// 0x86: bad user name or password.
        BadUserNameOrPassword,
        /// 0x87: the client may not connect. The usual code.
        #[default]
        NotAuthorized,
        /// 0x88: the service is unavailable.
        ServerUnavailable,
        /// 0x89: the service is busy, the client may try again.
        ServerBusy,
        /// 0x8A: the client is banned.
        Banned,
        /// 0x8C: the authentication method is not supported, or not the one in use.
        BadAuthenticationMethod,
        /// 0x90: the will topic is well formed but not accepted.
        TopicNameInvalid,
        /// 0x95: the CONNECT is larger than accepted.
        PacketTooLarge,
        /// 0x97: a limit was exceeded.
        QuotaExceeded,
        /// 0x99: the payload of the will is not of the format it claims.
        PayloadFormatInvalid,
        /// 0x9A: the will is to be retained and may not be.
        RetainNotSupported,
        /// 0x9B: the QoS of the will is not supported.
        QosNotSupported,
        /// 0x9C: the client should use another server for now.
        UseAnotherServer,
        /// 0x9D: the client should use another server from now on.
        ServerMoved,
        /// 0x9F: too many connections in too short a time.
        ConnectionRateExceeded,
    }
}

impl ConnectCode {
    /// The code with which DISCONNECT says this, to a client that failed to authenticate again: the same if DISCONNECT
    /// may carry it, else 0x87 (`[MQTT-3.14.2-1]`).
    pub fn in_disconnect(self) -> ReasonCode {
        let code = ReasonCode::from(self);
        if code.is_allowed_in(PacketType::Disconnect, Sender::Server) { code } else { ReasonCode::NotAuthorized }
    }
}

modifiers! {
    /// A v5 CONNECT is refused with CONNACK, or a re-authentication with DISCONNECT.
    pub struct ConnectRefusalM5 {
        /// The reason code; without one 0x87, not authorised.
        code: ConnectCode,
        /// A sentence for people.
        reason_string: String,
        /// Where else the client may go, with [`ConnectCode::UseAnotherServer`] and [`ConnectCode::ServerMoved`].
        server_reference: String,
        ..user_properties
    }
}

impl From<ConnectRefusal> for ConnectRefusalM5 {
    fn from(v3: ConnectRefusal) -> Self {
        ConnectRefusalM5::default().code(match v3 {
            ConnectRefusal::NotAuthorized => ConnectCode::NotAuthorized,
            ConnectRefusal::InvalidCredentials => ConnectCode::BadUserNameOrPassword,
            ConnectRefusal::IdentifierRejected => ConnectCode::ClientIdentifierNotValid,
            ConnectRefusal::Unavailable => ConnectCode::ServerUnavailable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_can_be_told() {
        for &code in ConnectCode::ALL {
            assert!(ReasonCode::from(code).is_allowed_in(PacketType::Connack, Sender::Server), "{code:?}");
            assert!(code.in_disconnect().is_allowed_in(PacketType::Disconnect, Sender::Server), "{code:?}");
        }
        assert_eq!(ConnectCode::ServerBusy.in_disconnect(), ReasonCode::ServerBusy);
        assert_eq!(ConnectCode::Banned.in_disconnect(), ReasonCode::NotAuthorized);
    }

    #[test]
    fn a_clean_session_is_a_clean_start_that_ends_with_the_connection() {
        let hour = Expiry::After(Duration::from_secs(3600));
        let v3 = RegisterModifiers::default().session_expiry(hour);
        let expiry = |v3: RegisterModifiers| {
            let m5 = RegisterModifiersM5::from(v3);
            (m5.clean_start, m5.session_expiry_interval)
        };
        assert_eq!(expiry(v3.clone()), (None, Some(hour)));
        assert_eq!(expiry(v3.clone().clean_session(false)), (Some(false), Some(hour)));
        assert_eq!(expiry(v3.clean_session(true)), (Some(true), Some(Expiry::After(Duration::ZERO))));
    }
}
