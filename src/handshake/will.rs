//! `auth_on_publish` for the will of a CONNECT, which is accepted with it or not at all.

use std::ops::ControlFlow;
use std::time::Duration;

use super::candidate::Candidate;
use super::listener::Listener;
use super::request::RequestedWill;
use super::stages::{Answered, Progress, Question, Registered};
use crate::client::Client;
use crate::codec::QoS;
use crate::config::Config;
use crate::hooks::ask::{self, Resumed};
use crate::hooks::{Chain, ConnectCode, ConnectRefusalM5, Expiry, PublishModifiersM5, RegisterModifiersM5, Verdict};
use crate::message::Publication;
use crate::session::Will;
use crate::topic::TopicName;

impl<S> Registered<S> {
    /// Asks `auth_on_publish` about the will, if there is one. The client is accepted if it says yes.
    pub(super) fn ask<C: Chain<State = S>>(
        mut self: Box<Self>,
        chain: &mut C,
        resumed: Option<Resumed>,
        config: &Config,
        listener: &Listener,
    ) -> Answered<S> {
        let Candidate { client, state, request, .. } = &mut *self.candidate;
        let Some(requested) = &request.will else {
            return ControlFlow::Break(Progress::Accepted(self.accept(None, config, listener)));
        };
        if let Some(code) = beyond_settings(requested, config, &self.modifiers) {
            let refusal = ConnectRefusalM5::default().code(code);
            return ControlFlow::Break(Progress::Refused(
                self.candidate.refuse_as_told(refusal, "its will is beyond what the client may use"),
            ));
        }
        if requested.topic.starts_with('$') && !config.limits.routes_dollar_topic(&requested.topic) {
            let (client, topic) = (&client.subscriber, &*requested.topic);
            tracing::info!(%client, topic, "a will to a $ topic is never published");
            return ControlFlow::Break(Progress::Accepted(self.accept(None, config, listener)));
        }
        let properties = requested.properties();
        let modifiers = match ask::publish(chain, client, state, &requested.question(&properties), resumed) {
            Verdict::Ok(modifiers) => modifiers,
            Verdict::Exhausted if listener.allow_anonymous => PublishModifiersM5::default(),
            Verdict::Exhausted | Verdict::Refused(_) => {
                let why = "it may not publish its will";
                let refusal = self.candidate.refuse_as_told(ConnectRefusalM5::default(), why);
                return ControlFlow::Break(Progress::Refused(refusal));
            }
            Verdict::Failed { .. } => return ControlFlow::Break(Progress::Refused(self.candidate.refuse_failed())),
            Verdict::TooLate { .. } => return ControlFlow::Break(Progress::Refused(self.candidate.refuse_late())),
            Verdict::Later(pending) => return ControlFlow::Break(Progress::Later(Question::Will(self), pending)),
        };
        ControlFlow::Break(match will(client, requested, &modifiers, config) {
            Some(will) => Progress::Accepted(self.accept(Some(will), config, listener)),
            None => {
                tracing::error!(client = %client.subscriber, "a hook gave the will a topic that is not valid");
                let why = "a hook gave its will a topic that is not valid";
                Progress::Refused(self.candidate.refuse_as_told(ConnectRefusalM5::default(), why))
            }
        })
    }
}

/// Why a will is not within the settings that a hook has chosen for this client [MQTT-3.2.2-12], [MQTT-3.2.2-13].
fn beyond_settings(will: &RequestedWill, config: &Config, by: &RegisterModifiersM5) -> Option<ConnectCode> {
    let limits = &config.limits;
    let highest = by.maximum_qos.or(QoS::from_u8(limits.maximum_qos)).unwrap_or(QoS::ExactlyOnce);
    if will.qos > highest {
        return Some(ConnectCode::QosNotSupported);
    }
    (will.retain && !by.retain_available.unwrap_or(limits.retain_available)).then_some(ConnectCode::RetainNotSupported)
}

/// The will as hooks changed it; none if its topic is not valid.
fn will(client: &Client, asked: &RequestedWill, by: &PublishModifiersM5, config: &Config) -> Option<Will> {
    let topic = TopicName::parse(by.topic.as_deref().unwrap_or(&asked.topic), config.limits.max_topic_levels);
    let mut publication = Publication::new(topic.ok()?, by.payload.as_deref().unwrap_or(&asked.payload));
    publication.properties = by.properties.as_ref().unwrap_or(&asked.forwarded).as_bytes();
    publication.qos = by.qos.unwrap_or(asked.qos);
    publication.retain = by.retain.unwrap_or(asked.retain);
    let delay = Duration::from_secs(asked.delay.into());
    Some(Will {
        message: publication.keep(),
        mountpoint: by.mountpoint.clone().unwrap_or_else(|| client.subscriber.mountpoint.clone()),
        delay: config.session.max_will_delay.map_or(delay, |most| delay.min(most)),
        expiry: match by.message_expiry {
            None => asked.message_expiry.map(|seconds| Duration::from_secs(seconds.into())),
            Some(Expiry::Never) => None,
            Some(Expiry::After(after)) => Some(after),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Door, Script, V5, V311};
    use super::*;
    use crate::codec::{Connect, PropertyBlock, PublishProperties, ReasonCode, Will as ConnectWill};
    use crate::hooks::{Answer, PublishRefusal, PublishRefusalM5};

    fn connect(will: ConnectWill<'_>) -> Connect<'_> {
        Connect { will: Some(will), ..Connect::new(V5, "c") }
    }

    fn asked() -> ConnectWill<'static> {
        let properties =
            PublishProperties { message_expiry: Some(60), content_type: Some("t"), ..PublishProperties::default() };
        ConnectWill { topic: "w", payload: b"x", qos: QoS::AtLeastOnce, retain: true, delay: 90, properties }
    }

    #[test]
    fn a_will_is_kept_as_it_came() {
        let will = Door::open("session.max_will_delay = '30s'").accept(connect(asked())).will.expect("there is a will");
        assert_eq!((will.message.topic().as_str(), will.message.payload()), ("w", &b"x"[..]));
        assert_eq!((will.message.qos(), will.message.retain()), (QoS::AtLeastOnce, true));
        assert_eq!(will.message.properties(), b"\x03\x00\x01t");
        assert_eq!((will.delay, will.expiry), (Duration::from_secs(30), Some(Duration::from_secs(60))));
    }

    #[test]
    fn a_hook_changes_a_will() {
        let script = Script {
            register_m5: |_| Answer::Ok(RegisterModifiersM5::default().mountpoint("m")),
            publish_m5: |request| {
                assert_eq!((request.properties.message_expiry, request.properties.content_type), (Some(60), Some("t")));
                let by = PublishModifiersM5::default().topic("other").payload(&b"y"[..]).qos(QoS::AtMostOnce);
                Answer::Ok(by.retain(false).properties(PropertyBlock::new()).message_expiry(Expiry::Never))
            },
            ..Script::default()
        };
        let will = Door::new("", script).accept(connect(asked())).will.expect("there is a will");
        assert_eq!((will.message.topic().as_str(), will.message.payload()), ("other", &b"y"[..]));
        assert_eq!((will.message.qos(), will.message.retain()), (QoS::AtMostOnce, false));
        assert_eq!((&*will.mountpoint, will.message.properties(), will.expiry), ("m", &b""[..], None));
    }

    #[test]
    fn who_may_not_publish_its_will_may_not_connect() {
        let script = Script {
            register: |_| Answer::ok(),
            register_m5: |_| Answer::ok(),
            publish: |_| Answer::Error(PublishRefusal),
            publish_m5: |_| Answer::Error(PublishRefusalM5::default()),
            ..Script::default()
        };
        let mut door = Door::new("", script);
        for version in [V5, V311] {
            let refusal = door.refuse(Connect { version, ..connect(asked()) });
            assert_eq!((refusal.code(), refusal.hook_failed), (ReasonCode::NotAuthorized, false));
        }
        let panics = Script { register: |_| Answer::ok(), publish: |_| panic!("as it happens"), ..Script::default() };
        let refusal = Door::new("", panics).refuse(Connect { version: V311, ..connect(asked()) });
        assert_eq!((refusal.code(), refusal.hook_failed), (ReasonCode::NotAuthorized, true));
        let wrong = |_: &crate::hooks::PublishRequestM5<'_>| Answer::Ok(PublishModifiersM5::default().topic("#"));
        let wrong = Script { register_m5: |_| Answer::ok(), publish_m5: wrong, ..Script::default() };
        assert_eq!(Door::new("", wrong).refuse(connect(asked())).code(), ReasonCode::NotAuthorized);
    }

    #[test]
    fn a_will_is_within_the_settings_of_its_client() {
        let code = |settings| Door::open(settings).refuse(connect(asked())).code();
        assert_eq!(code("limits.maximum_qos = 0"), ReasonCode::QosNotSupported, "[MQTT-3.2.2-12]");
        assert_eq!(code("limits.retain_available = false"), ReasonCode::RetainNotSupported, "[MQTT-3.2.2-13]");
        let by =
            |_: &crate::hooks::RegisterM5<'_>| Answer::Ok(RegisterModifiersM5::default().maximum_qos(QoS::AtMostOnce));
        let mut door = Door::new("", Script { register_m5: by, ..Script::default() });
        assert_eq!(door.refuse(connect(asked())).code(), ReasonCode::QosNotSupported);
    }

    #[test]
    fn a_will_to_a_dollar_topic_is_never_published() {
        let script = Script { register_m5: |_| Answer::ok(), ..Script::default() };
        let accepted = Door::new("", script).accept(connect(ConnectWill { topic: "$w", ..asked() }));
        assert!(accepted.will.is_none());
        assert_eq!(accepted.state.1, ["auth_on_register_m5"], "no hook is asked");
    }

    #[test]
    fn a_will_to_a_dollar_topic_of_others_is_kept_if_that_is_listed() {
        let will = |topic| ConnectWill { topic, ..asked() };
        let mut door = Door::open("limits.dollar_topics = ['$aws']");
        assert!(door.accept(connect(will("$aws/w"))).will.is_some());
        assert!(door.accept(connect(will("$SYS/w"))).will.is_none());
    }
}
