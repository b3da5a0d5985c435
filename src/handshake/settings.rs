//! The settings of a session: what the client asks for, bounded by configuration, changed by hooks.

use std::time::Duration;

use super::listener::Listener;
use super::request::Request;
use crate::codec::{ProtocolVersion, QoS};
use crate::config::{Config, SessionConfig};
use crate::hooks::{AuthSuccess, Expiry, RegisterModifiersM5};
use crate::session::{QueueLimits, SessionSettings};

/// A Session Expiry Interval that means "never" [MQTT-3.1.2.11.2].
pub const NEVER: u32 = u32::MAX;

/// What the settings of a session are made of.
pub struct Agreement<'a> {
    /// The settings of the broker.
    pub config: &'a Config,
    /// Those of the listener.
    pub listener: &'a Listener,
    /// The version of the client.
    pub version: ProtocolVersion,
    /// What it asks for.
    pub request: &'a Request,
    /// The end of its enhanced authentication, if it used one.
    pub auth: Option<&'a AuthSuccess>,
    /// What `auth_on_register` changes.
    pub by: &'a RegisterModifiersM5,
}

impl Agreement<'_> {
    /// The settings that hold.
    pub fn settings(&self) -> SessionSettings {
        let Agreement { listener, by, auth, .. } = *self;
        let (limits, queue, session) = (&self.config.limits, &self.config.queue, &self.config.session);
        let asked = self.request.properties();
        let (kept, expiry) = self.expiry();
        let send_maximum = by.max_inflight_messages.map_or(limits.max_inflight_messages, |most| most.get());
        SessionSettings {
            kept,
            expiry,
            durability: by.durability.unwrap_or(listener.durability),
            send_maximum: send_maximum
                .min(asked.receive_maximum.unwrap_or(u16::MAX))
                .min(by.client_receive_maximum.map_or(u16::MAX, |most| most.get())),
            receive_maximum: by.receive_maximum.map_or(listener.receive_maximum, |most| most.get()),
            maximum_outgoing: self.request.maximum_packet_size().unwrap_or(usize::MAX),
            maximum_incoming: self.maximum_incoming(),
            alias_maximum_in: by.topic_alias_maximum.unwrap_or(listener.topic_alias_maximum),
            alias_maximum_out: asked.topic_alias_maximum.min(limits.outbound_topic_aliases),
            maximum_qos: by.maximum_qos.unwrap_or(QoS::from_u8(limits.maximum_qos).unwrap_or(QoS::ExactlyOnce)),
            retain_available: by.retain_available.unwrap_or(limits.retain_available),
            wildcard_available: by.wildcard_subscription_available.unwrap_or(limits.wildcard_available),
            ids_available: by.subscription_identifiers_available.unwrap_or(limits.subscription_ids_available),
            shared_available: by.shared_subscription_available.unwrap_or(limits.shared_available),
            is_bridge: self.request.is_bridge,
            message_rate: by
                .max_message_rate
                .or(auth.and_then(|auth| auth.max_message_rate))
                .map_or(listener.max_message_rate, |rate| rate.get()),
            upgrade_qos: by.upgrade_qos.unwrap_or(session.upgrade_qos),
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
            retry_interval: by.retry_interval.unwrap_or(session.retry_interval),
            keep_alive: self.keep_alive(),
            problem_information: asked.request_problem_information,
        }
    }

    /// Whether the client begins with an empty session.
    pub fn clean_start(&self) -> bool {
        self.by.clean_start.unwrap_or(self.request.clean_start)
    }

    /// The largest packet taken from the client, in bytes.
    fn maximum_incoming(&self) -> usize {
        self.by
            .max_message_size
            .or(self.auth.and_then(|auth| auth.max_message_size))
            .map_or(self.listener.max_packet_size, |limit| limit.get().unwrap_or(usize::MAX))
            .min(self.by.maximum_packet_size.map_or(usize::MAX, |size| size.get() as usize))
    }

    /// Whether the session is kept, and for how long (none: for ever).
    fn expiry(&self) -> (bool, Option<Duration>) {
        let session = &self.config.session;
        let (asked, most) = match self.version {
            ProtocolVersion::V5 => {
                (expiry_of(self.request.properties().session_expiry.unwrap_or(0)), session.max_session_expiry)
            }
            _ if self.clean_start() => return (false, Some(Duration::ZERO)),
            _ => (session.persistent_session_expiry.map_or(Expiry::Never, Expiry::After), None),
        };
        match self.by.session_expiry_interval {
            Some(by) => capped(whole_seconds(by), None),
            None => capped(asked, most),
        }
    }

    fn keep_alive(&self) -> u16 {
        let asked = self.request.keep_alive;
        // Only MQTT 5 clients can be told of a keep-alive other than their own [MQTT-3.1.2-21].
        if !self.version.is_v5() {
            return asked;
        }
        match (self.by.server_keep_alive, self.config.session.max_keep_alive) {
            (Some(by), _) => by,
            (None, Some(most)) if most > 0 && (asked == 0 || asked > most) => most,
            (None, _) => asked,
        }
    }
}

/// Whether a session is kept, and for how long (none: for ever), whose client asks for `seconds` in its DISCONNECT:
/// capped like that of a CONNECT.
pub fn expiry_at_disconnect(config: &SessionConfig, seconds: u32) -> (bool, Option<Duration>) {
    capped(expiry_of(seconds), config.max_session_expiry)
}

/// What a Session Expiry Interval means.
fn expiry_of(seconds: u32) -> Expiry {
    match seconds {
        NEVER => Expiry::Never,
        seconds => Expiry::After(Duration::from_secs(seconds.into())),
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

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU16, NonZeroU32};

    use super::*;
    use crate::codec::{Connect, ConnectProperties};
    use crate::config::Limit;

    const SECOND: Duration = Duration::from_secs(1);
    const ONE: NonZeroU16 = NonZeroU16::MIN;

    fn agreed<T>(
        settings: &str,
        connect: Connect<'_>,
        by: RegisterModifiersM5,
        read: impl FnOnce(SessionSettings) -> T,
    ) -> T {
        let config = Config::from_toml(settings, "test").expect("the settings are valid");
        let listener = Listener::new(&config.listeners[0], &config);
        let request = Request::new(&connect);
        let (version, by) = (connect.version, &by);
        let agreement = Agreement { config: &config, listener: &listener, version, request: &request, auth: None, by };
        read(agreement.settings())
    }

    fn v5(properties: ConnectProperties<'_>) -> Connect<'_> {
        Connect { properties, ..Connect::new(ProtocolVersion::V5, "c") }
    }

    fn expiry(settings: &str, connect: Connect<'_>, by: Option<Expiry>) -> (bool, Option<Duration>) {
        let by = RegisterModifiersM5 { session_expiry_interval: by, ..RegisterModifiersM5::default() };
        agreed(settings, connect, by, |settings| (settings.kept, settings.expiry))
    }

    #[test]
    fn a_session_is_kept_as_long_as_asked_for_allowed_and_changed() {
        let asked = |seconds| v5(ConnectProperties { session_expiry: Some(seconds), ..ConnectProperties::default() });
        let capped = "session.max_session_expiry = '60s'";
        assert_eq!(expiry("", asked(0), None), (false, Some(Duration::ZERO)));
        assert_eq!(expiry("", asked(90), None), (true, Some(90 * SECOND)));
        assert_eq!(expiry("", asked(NEVER), None), (true, None));
        assert_eq!(expiry(capped, asked(90), None), (true, Some(60 * SECOND)));
        assert_eq!(expiry(capped, asked(NEVER), None), (true, Some(60 * SECOND)));
        assert_eq!(expiry(capped, asked(0), Some(Expiry::Never)), (true, None), "hooks are not bound by it");
        let after = Expiry::After(Duration::from_millis(1001));
        assert_eq!(expiry("", asked(0), Some(after)), (true, Some(2 * SECOND)), "in whole seconds");
        assert_eq!(expiry("", asked(9), Some(Expiry::After(Duration::ZERO))), (false, Some(Duration::ZERO)));
    }

    #[test]
    fn a_session_of_mqtt_3_is_kept_unless_it_is_clean() {
        for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
            let clean = Connect::new(version, "c");
            let kept = Connect { clean_start: false, ..clean };
            assert_eq!(expiry("", clean, Some(Expiry::Never)), (false, Some(Duration::ZERO)));
            assert_eq!(expiry("", kept, None), (true, None));
            let day = "session.persistent_session_expiry = '1d'\nsession.max_session_expiry = '1h'";
            assert_eq!(expiry(day, kept, None), (true, Some(86_400 * SECOND)), "max_session_expiry is of MQTT 5.0");
        }
    }

    #[test]
    fn a_disconnect_is_capped_like_a_connect() {
        let config = Config::from_toml("session.max_session_expiry = '60s'", "test").expect("the settings are valid");
        assert_eq!(expiry_at_disconnect(&config.session, 0), (false, Some(Duration::ZERO)));
        assert_eq!(expiry_at_disconnect(&config.session, 9), (true, Some(9 * SECOND)));
        assert_eq!(expiry_at_disconnect(&config.session, NEVER), (true, Some(60 * SECOND)));
    }

    #[test]
    fn only_mqtt_5_clients_are_told_another_keep_alive() {
        let keep_alive = |version, asked, by| {
            let connect = Connect { keep_alive: asked, ..Connect::new(version, "c") };
            let by = RegisterModifiersM5 { server_keep_alive: by, ..RegisterModifiersM5::default() };
            agreed("session.max_keep_alive = '60s'", connect, by, |settings| settings.keep_alive)
        };
        let v5 = ProtocolVersion::V5;
        assert_eq!([0, 30, 90].map(|asked| keep_alive(v5, asked, None)), [60, 30, 60], "[MQTT-3.1.2-21]");
        assert_eq!([0, 30, 90].map(|asked| keep_alive(ProtocolVersion::V311, asked, Some(5))), [0, 30, 90]);
        assert_eq!((keep_alive(v5, 90, Some(70)), keep_alive(v5, 90, Some(0))), (70, 0));
    }

    #[test]
    fn the_client_and_the_broker_and_hooks_bound_each_other() {
        let asked = ConnectProperties {
            receive_maximum: Some(5),
            maximum_packet_size: Some(50),
            topic_alias_maximum: 9,
            ..ConnectProperties::default()
        };
        let configured = "limits.outbound_topic_aliases = 3\nlimits.maximum_qos = 1\nlimits.retain_available = false";
        let settings = agreed(configured, v5(asked), RegisterModifiersM5::default(), |settings| settings);
        assert_eq!((settings.send_maximum, settings.maximum_outgoing, settings.alias_maximum_out), (5, 50, 3));
        assert_eq!((settings.maximum_qos, settings.retain_available), (QoS::AtLeastOnce, false));
        assert_eq!((settings.receive_maximum, settings.maximum_incoming), (1024, 1 << 23));
        let by = RegisterModifiersM5::default()
            .client_receive_maximum(ONE)
            .receive_maximum(ONE)
            .topic_alias_maximum(0_u16)
            .maximum_qos(QoS::ExactlyOnce)
            .retain_available(true)
            .max_message_size(Limit::UNLIMITED)
            .maximum_packet_size(NonZeroU32::MAX);
        let settings = agreed(configured, v5(asked), by, |settings| settings);
        assert_eq!((settings.send_maximum, settings.receive_maximum, settings.alias_maximum_in), (1, 1, 0));
        assert_eq!((settings.maximum_qos, settings.retain_available), (QoS::ExactlyOnce, true));
        assert_eq!(settings.maximum_incoming, u32::MAX as usize);
    }

    #[test]
    fn a_connection_lives_no_longer_than_its_listener_allows() {
        let lifetime = |settings, by| {
            let by = RegisterModifiersM5 { max_connection_lifetime: by, ..RegisterModifiersM5::default() };
            agreed(settings, Connect::new(ProtocolVersion::V311, "c"), by, |settings| settings.lifetime)
        };
        let listener = "listeners.l.max_connection_lifetime = '10s'";
        assert_eq!(lifetime("", None), None);
        assert_eq!(lifetime("", Some(20 * SECOND)), Some(20 * SECOND));
        assert_eq!(lifetime(listener, Some(20 * SECOND)), Some(10 * SECOND));
        assert_eq!(lifetime(listener, Some(5 * SECOND)), Some(5 * SECOND));
    }
}
