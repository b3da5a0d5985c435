//! What a CONNACK that accepts has to say: all that differs from what the client asked for or may assume.

use super::request::Request;
use super::settings::NEVER;
use crate::client::Client;
use crate::codec::{Connack, ConnackProperties, Explained, QoS, ReasonCode, UserProperties};
use crate::hooks::{AuthSuccess, RegisterModifiersM5};
use crate::session::SessionSettings;

/// What the CONNACK of an accepted client is made of.
pub struct ConnackBuilder<'a> {
    /// Who was accepted.
    pub client: &'a Client,
    /// Its client id was assigned by the broker.
    pub assigned_id: bool,
    /// What it asked for.
    pub request: &'a Request,
    /// What holds.
    pub settings: &'a SessionSettings,
    /// The end of its enhanced authentication, if it used one.
    pub auth: Option<&'a AuthSuccess>,
    /// What `auth_on_register` has to say.
    pub by: &'a RegisterModifiersM5,
}

impl ConnackBuilder<'_> {
    /// Appends the CONNACK to `out`. User properties and reason string are left out if it were larger than the client
    /// takes [MQTT-3.2.2-19], [MQTT-3.2.2-20]; false if it is still, and was not written.
    pub fn encode(&self, session_present: bool, out: &mut Vec<u8>) -> bool {
        let version = self.client.version;
        let mut user = self.by.user_properties.clone();
        user.extend(self.auth.iter().flat_map(|auth| auth.user_properties.iter().cloned()));
        let properties = ConnackProperties { user: UserProperties::from(&user[..]), ..self.properties() };
        let mut connack = Connack { session_present, code: ReasonCode::Success, properties };
        let fits = connack.shorten(version, self.settings.maximum_outgoing);
        if fits {
            connack.encode(version, out);
        }
        fits
    }

    /// All properties but those of the user.
    fn properties(&self) -> ConnackProperties<'_> {
        let (asked, by, settings) = (self.request.properties(), self.by, self.settings);
        let seconds = expiry_seconds(settings);
        let auth_reason = self.auth.and_then(|auth| auth.reason_string.as_deref());
        let auth_data = self.auth.and_then(|auth| auth.data.as_deref());
        ConnackProperties {
            session_expiry: (seconds != asked.session_expiry.unwrap_or(0)).then_some(seconds),
            receive_maximum: (settings.receive_maximum != u16::MAX).then_some(settings.receive_maximum),
            maximum_qos: (settings.maximum_qos != QoS::ExactlyOnce).then_some(settings.maximum_qos),
            retain_available: (!settings.retain_available).then_some(false),
            maximum_packet_size: u32::try_from(settings.maximum_incoming).ok(),
            assigned_client_id: self.assigned_id.then_some(&*self.client.subscriber.client_id),
            topic_alias_maximum: (settings.alias_maximum_in > 0).then_some(settings.alias_maximum_in),
            reason_string: by.reason_string.as_deref().or(auth_reason),
            wildcard_available: (!settings.wildcard_available).then_some(false),
            subscription_ids_available: (!settings.ids_available).then_some(false),
            shared_available: (!settings.shared_available).then_some(false),
            server_keep_alive: (settings.keep_alive != self.request.keep_alive).then_some(settings.keep_alive),
            response_information: by.response_information.as_deref().filter(|_| asked.request_response_information),
            server_reference: None,
            authentication_method: asked.authentication_method,
            authentication_data: by
                .authentication_data
                .as_deref()
                .or(auth_data)
                .filter(|_| asked.authentication_method.is_some()),
            user: UserProperties::NONE,
        }
    }
}

/// The Session Expiry Interval of a session, in seconds.
fn expiry_seconds(settings: &SessionSettings) -> u32 {
    match (settings.kept, settings.expiry) {
        (false, _) => 0,
        (true, None) => NEVER,
        (true, Some(expiry)) => u32::try_from(expiry.as_secs()).unwrap_or(NEVER).max(1),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{Door, Script, V5, connack};
    use crate::codec::{Connack, Connect, ConnectProperties, ProtocolVersion, QoS, ReasonCode};
    use crate::hooks::{Answer, Expiry, RegisterM5, RegisterModifiersM5};

    fn said(door: &mut Door, connect: Connect<'_>, check: impl FnOnce(Option<Connack<'_>>)) {
        let mut out = Vec::new();
        let written = door.accept(connect).connack(true, &mut out);
        assert_eq!(written, !out.is_empty());
        check(written.then(|| connack(&out, connect.version)));
    }

    fn v5(properties: ConnectProperties<'_>) -> Connect<'_> {
        Connect { properties, ..Connect::new(V5, "c") }
    }

    #[test]
    fn a_client_is_told_what_it_may_not_assume() {
        let settings = "limits.receive_maximum = 65535\nlimits.topic_alias_maximum = 0";
        said(&mut Door::open(settings), Connect::new(V5, "c"), |connack| {
            let properties = connack.expect("it is written").properties;
            assert_eq!(properties.maximum_packet_size, Some(1 << 23));
            let rest = crate::codec::ConnackProperties { maximum_packet_size: None, ..properties };
            assert_eq!(rest, Default::default(), "all else is as MQTT has it");
        });
        let settings = "limits.maximum_qos = 1\nlimits.retain_available = false\nlimits.shared_available = false\n\
                        limits.wildcard_available = false\nlimits.subscription_ids_available = false\n\
                        session.max_keep_alive = '60s'\nsession.max_session_expiry = '9s'";
        let asked = ConnectProperties { session_expiry: Some(90), ..ConnectProperties::default() };
        said(&mut Door::open(settings), v5(asked), |connack| {
            let properties = connack.expect("it is written").properties;
            assert_eq!((properties.maximum_qos, properties.retain_available), (Some(QoS::AtLeastOnce), Some(false)));
            assert_eq!((properties.wildcard_available, properties.shared_available), (Some(false), Some(false)));
            assert_eq!(properties.subscription_ids_available, Some(false));
            assert_eq!((properties.server_keep_alive, properties.session_expiry), (Some(60), Some(9)));
            assert_eq!((properties.receive_maximum, properties.topic_alias_maximum), (Some(1024), Some(32)));
            assert_eq!(properties.assigned_client_id, None);
        });
    }

    #[test]
    fn mqtt_3_is_told_less() {
        for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
            said(&mut Door::open(""), Connect::new(version, "c"), |connack| {
                let expected = Connack::new(version == ProtocolVersion::V311, ReasonCode::Success);
                assert_eq!(connack, Some(expected));
            });
        }
    }

    fn talkative(_: &RegisterM5<'_>) -> Answer<RegisterModifiersM5, crate::hooks::ConnectRefusalM5> {
        let modifiers = RegisterModifiersM5::default().reason_string("hello").user_property("k", "v");
        let never = modifiers.session_expiry_interval(Expiry::Never);
        Answer::Ok(never.response_information("re").authentication_data(&b"data"[..]))
    }

    #[test]
    fn what_hooks_say_is_told_if_it_may_be() {
        let mut door = Door::new("", Script { register_m5: talkative, ..Script::default() });
        said(&mut door, Connect::new(V5, "c"), |connack| {
            let properties = connack.expect("it is written").properties;
            assert_eq!((properties.reason_string, properties.user.is_empty()), (Some("hello"), false));
            assert_eq!(properties.session_expiry, Some(u32::MAX));
            assert_eq!(
                (properties.response_information, properties.authentication_data),
                (None, None),
                "not asked for"
            );
        });
        let asked = ConnectProperties { request_response_information: true, ..ConnectProperties::default() };
        said(&mut door, v5(asked), |connack| {
            assert_eq!(connack.expect("it is written").properties.response_information, Some("re"));
        });
    }

    #[test]
    fn it_is_no_longer_than_the_client_takes() {
        let mut door = Door::new("", Script { register_m5: talkative, ..Script::default() });
        let mut sized = |size| {
            let asked = ConnectProperties { maximum_packet_size: Some(size), ..ConnectProperties::default() };
            let mut kept = None;
            said(&mut door, v5(asked), |connack| {
                let properties = connack.map(|connack| connack.properties);
                kept = properties.map(|said| (said.reason_string.is_some(), !said.user.is_empty()));
            });
            kept
        };
        // 5 bytes, 5 for the session expiry, 3 each for receive and alias maximum, 5 for the size, 8 for the reason, 7
        // for the pair.
        assert_eq!(sized(36), Some((true, true)));
        assert_eq!(sized(35), Some((true, false)), "[MQTT-3.2.2-20]");
        assert_eq!(sized(28), Some((false, false)), "[MQTT-3.2.2-19]");
        assert_eq!(sized(20), None, "[MQTT-3.1.2-24]");
    }

    #[test]
    fn a_fraction_of_a_second_is_not_none() {
        let by = |_: &RegisterM5<'_>| {
            Answer::Ok(RegisterModifiersM5::default().session_expiry_interval(Expiry::After(Duration::from_millis(1))))
        };
        let mut door = Door::new("", Script { register_m5: by, ..Script::default() });
        said(&mut door, Connect::new(V5, "c"), |connack| {
            assert_eq!(connack.expect("it is written").properties.session_expiry, Some(1));
        });
    }
}
