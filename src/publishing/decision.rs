//! What the hooks say of a PUBLISH, and the message that is made of it.

use std::time::Duration;

use super::RawPacket;
use crate::client::EndReason;
use crate::codec::{ProtocolVersion, Publish, PublishProperties, ReasonCode};
use crate::config::UnauthorizedPublish;
use crate::hooks::ask::{self, Resumed};
use crate::hooks::{
    Chain, Expiry, PendingAnswer, PublishCode, PublishModifiersM5, PublishRefusalM5, PublishRequestM5, Verdict,
};
use crate::message::Publication;
use crate::session::Session;
use crate::time::Time;
use crate::topic::{TopicError, TopicName};

/// What the hooks decided.
pub enum Decision {
    /// It is routed, with these modifiers.
    Accepted(PublishModifiersM5),
    /// It is not routed.
    Refused(Refused),
    /// A hook answers later.
    Later(PendingAnswer),
}

/// A PUBLISH that is not routed.
#[derive(Debug)]
pub struct Refused {
    refusal: PublishRefusalM5,
    /// A hook panicked or did not answer in time.
    pub hook_failed: bool,
}

/// What becomes of the client whose PUBLISH is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Consequence {
    /// It is answered, if the QoS asks for that, and stays.
    Answer(ReasonCode, Option<String>),
    /// Its connection ends.
    End(EndReason),
}

/// A message as the hooks left it.
pub struct Accepted<'a> {
    /// What is routed.
    pub publication: Publication<'a>,
    /// Whether hooks have put other properties in the place of the client's.
    has_new_properties: bool,
}

/// Asks `auth_on_publish`. `is_anonymous_allowed`: the last link accepts what no hook has decided on.
#[inline]
pub fn ask<C: Chain>(
    chain: &mut C,
    session: &mut Session<C::State>,
    publish: &Publish<'_>,
    is_anonymous_allowed: impl FnOnce() -> bool,
    resumed: Option<Resumed>,
) -> Decision {
    let request = PublishRequestM5 {
        topic: publish.topic,
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        is_will: false,
        properties: &publish.properties,
    };
    match ask::publish(chain, &session.client, &mut session.state, &request, resumed) {
        Verdict::Ok(modifiers) => Decision::Accepted(modifiers),
        Verdict::Exhausted if is_anonymous_allowed() => Decision::Accepted(PublishModifiersM5::default()),
        Verdict::Exhausted => Decision::Refused(Refused::new(PublishRefusalM5::default(), false)),
        Verdict::Refused(refusal) => Decision::Refused(Refused::new(refusal, false)),
        Verdict::Failed { .. } | Verdict::TooLate { .. } => {
            Decision::Refused(Refused::new(PublishRefusalM5::default(), true))
        }
        Verdict::Later(pending) => Decision::Later(pending),
    }
}

impl<'a> Accepted<'a> {
    /// The properties that hooks have put in the place of the client's, if they did.
    #[inline]
    pub fn rewritten_properties(&self) -> Option<PublishProperties<'a>> {
        let properties = self.publication.properties;
        self.has_new_properties.then(|| PublishProperties::parse(properties).unwrap_or_default())
    }
}

impl Refused {
    fn new(refusal: PublishRefusalM5, hook_failed: bool) -> Self {
        Refused { refusal, hook_failed }
    }

    /// A hook accepted it, and gave it a topic that is not valid.
    pub fn by_invalid_topic() -> Self {
        Refused::new(PublishRefusalM5::new(PublishCode::ImplementationSpecific), true)
    }

    /// MQTT 5: the client is told and stays. 3.1.1: closed, or told nothing, as configured. 3.1: told nothing.
    pub fn consequence(self, version: ProtocolVersion, configured: UnauthorizedPublish) -> Consequence {
        if version.is_v5() {
            return Consequence::Answer(self.refusal.code.into(), self.refusal.reason_string);
        }
        if version == ProtocolVersion::V311 && configured == UnauthorizedPublish::Disconnect {
            return Consequence::End(if self.hook_failed { EndReason::HookFailure } else { EndReason::NotAuthorized });
        }
        Consequence::Answer(ReasonCode::Success, None)
    }
}

/// The message that is made of a PUBLISH to `topic`, with the modifiers `by` of the hooks. `forwarded` are its properties that go on to
/// every receiver.
///
/// # Errors
///
/// If a hook gave it a topic that is not valid; see [`Refused::by_invalid_topic`].
#[inline]
#[allow(clippy::too_many_arguments)]
pub fn publication<'a>(
    publish: &Publish<'a>,
    topic: TopicName<'a>,
    forwarded: &'a [u8],
    by: &'a PublishModifiersM5,
    packet: &RawPacket<'a>,
    max_levels: usize,
    now: Time,
) -> Result<Accepted<'a>, TopicError> {
    let topic = match by.topic.as_deref().map(|topic| TopicName::parse(topic, max_levels)) {
        None => topic,
        Some(Ok(topic)) => topic,
        Some(Err(error)) => return Err(error),
    };
    let mut publication = Publication::new(topic, by.payload.as_deref().unwrap_or(publish.payload));
    publication.properties = by.properties.as_ref().map_or(forwarded, |block| block.as_bytes());
    publication.qos = by.qos.unwrap_or(publish.qos);
    publication.retain = by.retain.unwrap_or(publish.retain);
    publication.expires = expires(&publish.properties, by.message_expiry, now);
    publication.source = packet.bytes;
    publication.block = packet.block.cloned();
    Ok(Accepted { publication, has_new_properties: by.properties.is_some() })
}

fn expires(properties: &PublishProperties<'_>, by: Option<Expiry>, now: Time) -> Time {
    match (by, properties.message_expiry) {
        (Some(Expiry::Never), _) | (None, None) => Time::NEVER,
        (Some(Expiry::After(after)), _) => now + after,
        (None, Some(seconds)) => now + Duration::from_secs(seconds.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::hooks::{Answer, Context, Hook, NoHooks};
    use crate::session::testing::session_of;

    type Answers = fn() -> Answer<PublishModifiersM5, PublishRefusalM5>;

    struct Says(Answers);

    impl Hook for Says {
        type State = ();

        fn auth_on_publish_m5(
            &mut self,
            _: &mut Context<'_, ()>,
            _: &PublishRequestM5<'_>,
        ) -> Answer<PublishModifiersM5, PublishRefusalM5> {
            self.0()
        }
    }

    fn refused(answers: Answers, anonymous: bool) -> Option<bool> {
        let mut session: Session<((), ())> = session_of("client");
        let mut chain = NoHooks.hook(Says(answers));
        let publish = Publish { topic: "a", ..Publish::default() };
        match ask(&mut chain, &mut session, &publish, || anonymous, None) {
            Decision::Refused(refused) => Some(refused.hook_failed),
            Decision::Accepted(_) | Decision::Later(_) => None,
        }
    }

    #[test]
    fn nobody_with_an_opinion_is_a_refusal_unless_everybody_may() {
        assert_eq!(refused(|| Answer::Next, false), Some(false));
        assert_eq!(refused(|| Answer::Next, true), None);
        assert_eq!(refused(Answer::refuse, true), Some(false));
        assert_eq!(refused(Answer::ok, false), None);
        assert_eq!(refused(|| panic!("oops"), true), Some(true));
    }

    #[test]
    fn each_version_has_its_consequence() {
        let refused = |hook_failed| Refused::new(PublishRefusalM5::default(), hook_failed);
        let consequence = |version, configured| refused(false).consequence(version, configured);
        let (ignore, disconnect) = (UnauthorizedPublish::Ignore, UnauthorizedPublish::Disconnect);
        assert_eq!(consequence(ProtocolVersion::V5, disconnect), Consequence::Answer(ReasonCode::NotAuthorized, None));
        assert_eq!(consequence(ProtocolVersion::V311, ignore), Consequence::Answer(ReasonCode::Success, None));
        assert_eq!(consequence(ProtocolVersion::V31, disconnect), Consequence::Answer(ReasonCode::Success, None));
        assert_eq!(consequence(ProtocolVersion::V311, disconnect), Consequence::End(EndReason::NotAuthorized));
        let failed = refused(true).consequence(ProtocolVersion::V311, disconnect);
        assert_eq!(failed, Consequence::End(EndReason::HookFailure));
    }

    #[test]
    fn hooks_change_what_they_want_and_nothing_else() {
        let properties = PublishProperties { message_expiry: Some(2), ..PublishProperties::default() };
        let publish =
            Publish { topic: "a", payload: b"payload", qos: QoS::AtLeastOnce, properties, ..Publish::default() };
        let packet = RawPacket { bytes: b"", block: None, more_follows: false };
        let topic = TopicName::trusted("a");
        let now = Time::from_millis(1000);
        let unchanged = PublishModifiersM5::default();
        let Ok(accepted) = publication(&publish, topic, b"props", &unchanged, &packet, 8, now) else {
            panic!("accepted")
        };
        let found = &accepted.publication;
        assert_eq!((found.topic.as_str(), found.payload, found.properties), ("a", &b"payload"[..], &b"props"[..]));
        assert_eq!(
            (found.qos, found.expires, accepted.has_new_properties),
            (QoS::AtLeastOnce, Time::from_millis(3000), false)
        );
        let changed = PublishModifiersM5::default().topic("b").message_expiry(Expiry::Never);
        let Ok(accepted) = publication(&publish, topic, b"", &changed, &packet, 8, now) else { panic!("accepted") };
        assert_eq!((accepted.publication.topic.as_str(), accepted.publication.expires), ("b", Time::NEVER));
        let invalid = PublishModifiersM5::default().topic("b/#");
        assert!(publication(&publish, topic, b"", &invalid, &packet, 8, now).is_err());
        assert!(Refused::by_invalid_topic().hook_failed, "a 3.1.1 client hears of a hook failure");
    }
}
