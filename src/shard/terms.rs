//! The terms of a connection: what the client asked for, bounded by configuration, changed by hooks.

use std::time::Duration;

use super::Shard;
use super::attempt::Attempt;
use crate::codec::{Connack, ConnackProperties, Connect, ProtocolVersion, QoS, ReasonCode, UserProperties};
use crate::hooks::{Chain, Expiry};
use crate::session::{QueueLimits, SessionSettings};

/// A Session Expiry Interval that means "never" [MQTT-3.1.2.11.2].
const NEVER: u32 = u32::MAX;

impl<C: Chain> Shard<C> {
    /// The terms of an attempt that was accepted.
    pub(super) fn terms(&self, listener: usize, connect: &Connect<'_>, attempt: &Attempt<C::State>) -> SessionSettings {
        let (listener, limits, queue) = (&self.listeners[listener], &self.config.limits, &self.config.queue);
        let by = &attempt.modifiers;
        let asked = &connect.properties;
        let (kept, expiry) = self.expiry(connect, attempt);
        let send_maximum = by.max_inflight_messages.map_or(limits.max_inflight_messages, |most| most.get());
        let client_receive_maximum = asked.receive_maximum.map_or(u16::MAX, Into::into);
        let auth = attempt.auth.as_ref();
        SessionSettings {
            kept,
            expiry,
            send_maximum: send_maximum
                .min(client_receive_maximum)
                .min(by.client_receive_maximum.map_or(u16::MAX, |most| most.get())),
            receive_maximum: by.receive_maximum.map_or(listener.receive_maximum, |most| most.get()),
            maximum_outgoing: asked.maximum_packet_size.map_or(usize::MAX, |size| size as usize),
            maximum_incoming: by
                .max_message_size
                .or(auth.and_then(|auth| auth.max_message_size))
                .map_or(listener.max_packet_size, |limit| limit.get().unwrap_or(usize::MAX))
                .min(by.maximum_packet_size.map_or(usize::MAX, |size| size.get() as usize)),
            alias_maximum_in: by.topic_alias_maximum.unwrap_or(listener.topic_alias_maximum),
            alias_maximum_out: asked.topic_alias_maximum.min(limits.outbound_topic_aliases),
            maximum_qos: by.maximum_qos.unwrap_or(QoS::from_u8(limits.maximum_qos).unwrap_or(QoS::ExactlyOnce)),
            retain_available: by.retain_available.unwrap_or(limits.retain_available),
            wildcard_available: by.wildcard_subscription_available.unwrap_or(limits.wildcard_available),
            ids_available: by.subscription_identifiers_available.unwrap_or(limits.subscription_ids_available),
            shared_available: by.shared_subscription_available.unwrap_or(limits.shared_available),
            message_rate: by
                .max_message_rate
                .or(auth.and_then(|auth| auth.max_message_rate))
                .map_or(listener.max_message_rate, |rate| rate.get()),
            upgrade_qos: by.upgrade_qos.unwrap_or(self.config.session.upgrade_qos),
            shared_policy: by.shared_subscription_policy.unwrap_or(self.config.shared.policy),
            queue: QueueLimits {
                online: by.max_online_messages.unwrap_or(queue.max_online_messages),
                offline: by.max_offline_messages.unwrap_or(queue.max_offline_messages),
                bytes: queue.max_queue_bytes,
                order: by.queue_type.unwrap_or(queue.queue_type),
            },
            lifetime: by
                .max_connection_lifetime
                .or(auth.and_then(|auth| auth.max_connection_lifetime))
                .into_iter()
                .chain(listener.lifetime)
                .min(),
            retry_interval: by.retry_interval.unwrap_or(self.config.session.retry_interval),
            keep_alive: self.keep_alive(connect, attempt),
            problem_information: asked.request_problem_information,
        }
    }

    /// Whether the session is kept, and for how long (none: for ever).
    fn expiry(&self, connect: &Connect<'_>, attempt: &Attempt<C::State>) -> (bool, Option<Duration>) {
        let session = &self.config.session;
        let by = attempt.modifiers.session_expiry_interval;
        let (asked, most) = match connect.version {
            ProtocolVersion::V5 => {
                let asked = match connect.properties.session_expiry.unwrap_or(0) {
                    NEVER => Expiry::Never,
                    seconds => Expiry::After(Duration::from_secs(seconds.into())),
                };
                (asked, session.max_session_expiry)
            }
            _ if attempt.modifiers.clean_start.unwrap_or(connect.clean_start) => {
                return (false, Some(Duration::ZERO));
            }
            _ => (session.persistent_session_expiry.map_or(Expiry::Never, Expiry::After), None),
        };
        match by {
            Some(by) => capped(whole_seconds(by), None),
            None => capped(asked, most),
        }
    }

    fn keep_alive(&self, connect: &Connect<'_>, attempt: &Attempt<C::State>) -> u16 {
        let most = attempt.modifiers.server_keep_alive.or(self.config.session.max_keep_alive);
        match most {
            // Only MQTT 5 clients can be told of a keep-alive other than their own [MQTT-3.1.2-21].
            Some(most)
                if connect.version.is_v5() && most > 0 && (connect.keep_alive == 0 || connect.keep_alive > most) =>
            {
                most
            }
            Some(most) if connect.version.is_v5() && attempt.modifiers.server_keep_alive.is_some() => most,
            _ => connect.keep_alive,
        }
    }

    /// The expiry that a DISCONNECT asks for, capped like that of a CONNECT.
    pub(super) fn expiry_at_disconnect(&self, seconds: u32) -> (bool, Option<Duration>) {
        let asked = if seconds == NEVER { Expiry::Never } else { Expiry::After(Duration::from_secs(seconds.into())) };
        capped(asked, self.config.session.max_session_expiry)
    }
}

/// MQTT counts in seconds: a fraction of one is rounded up.
fn whole_seconds(expiry: Expiry) -> Expiry {
    match expiry {
        Expiry::After(after) if after.subsec_nanos() > 0 => {
            Expiry::After(Duration::from_secs(after.as_secs().saturating_add(1)))
        }
        expiry => expiry,
    }
}

/// Whether a session with this expiry is kept, and for how long.
fn capped(asked: Expiry, most: Option<Duration>) -> (bool, Option<Duration>) {
    match (asked, most) {
        (Expiry::Never, None) => (true, None),
        (Expiry::Never, Some(most)) => (true, Some(most)),
        (Expiry::After(after), most) => {
            let after = most.map_or(after, |most| after.min(most));
            (!after.is_zero(), Some(after))
        }
    }
}

/// What a CONNACK has to say: all that differs from what the client asked for or may assume.
pub(super) struct Welcome<'a> {
    pub session_present: bool,
    pub connect: &'a Connect<'a>,
    pub auth: Option<&'a crate::hooks::AuthSuccess>,
    pub by: &'a crate::hooks::RegisterModifiersM5,
}

impl Welcome<'_> {
    /// Writes the CONNACK. Reason string and user properties are left out if it were larger than the client takes
    /// [MQTT-3.2.2-19], [MQTT-3.2.2-20]; false if it is still, and was not written.
    pub fn encode(&self, version: ProtocolVersion, terms: &SessionSettings, assigned: Option<&str>, out: &mut Vec<u8>) -> bool {
        let (asked, by) = (&self.connect.properties, self.by);
        let seconds = match (terms.kept, terms.expiry) {
            (false, _) => 0,
            (true, None) => NEVER,
            (true, Some(expiry)) => u32::try_from(expiry.as_secs()).unwrap_or(NEVER).max(1),
        };
        let mut user_properties = by.user_properties.clone();
        user_properties.extend(self.auth.iter().flat_map(|auth| auth.user_properties.iter().cloned()));
        let auth_reason = self.auth.and_then(|auth| auth.reason_string.as_deref());
        let auth_data = self.auth.and_then(|auth| auth.data.as_deref());
        let mut connack = Connack {
            session_present: self.session_present,
            code: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry: (seconds != asked.session_expiry.unwrap_or(0)).then_some(seconds),
                receive_maximum: (terms.receive_maximum != u16::MAX).then_some(terms.receive_maximum),
                maximum_qos: (terms.maximum_qos != QoS::ExactlyOnce).then_some(terms.maximum_qos),
                retain_available: (!terms.retain_available).then_some(false),
                maximum_packet_size: u32::try_from(terms.maximum_incoming).ok(),
                assigned_client_id: assigned,
                topic_alias_maximum: (terms.alias_maximum_in > 0).then_some(terms.alias_maximum_in),
                reason_string: by.reason_string.as_deref().or(auth_reason),
                wildcard_available: (!terms.wildcard_available).then_some(false),
                subscription_ids_available: (!terms.ids_available).then_some(false),
                shared_available: (!terms.shared_available).then_some(false),
                server_keep_alive: (terms.keep_alive != self.connect.keep_alive).then_some(terms.keep_alive),
                response_information: by.response_information.as_deref().filter(|_| asked.request_response_information),
                server_reference: None,
                authentication_method: asked.authentication_method,
                authentication_data: by
                    .authentication_data
                    .as_deref()
                    .or(auth_data)
                    .filter(|_| asked.authentication_method.is_some()),
                user: UserProperties::from(&user_properties[..]),
            },
        };
        let fits = |connack: &Connack<'_>| connack.encoded_len(version) <= terms.maximum_outgoing;
        if !fits(&connack) {
            connack.properties.user = UserProperties::default();
        }
        if !fits(&connack) {
            connack.properties.reason_string = None;
        }
        let written = fits(&connack);
        if written {
            connack.encode(version, out);
        }
        written
    }
}
