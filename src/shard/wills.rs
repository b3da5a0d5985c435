//! Wills: accepted with the CONNECT that brings them, and published when a connection ends without a proper goodbye, at once or
//! after their delay.

use std::time::Duration;

use super::Shard;
use crate::hooks::ask::{self, Resumed};
use super::attempt::Attempt;
use super::audience::Origin;
use super::connect::Asked;
use crate::client::{Client, ConnectionId, EndReason};
use crate::codec::{Connect, PublishProperties, QoS, Will as ConnectWill};
use crate::config::SharedPolicy;
use crate::hooks::{
    Chain, PendingAnswer, ConnectCode, ConnectRefusalM5, Expiry, Notified, PublishModifiersM5, PublishRequestM5, PublishedM5,
    RegisterModifiersM5, Verdict,
};
use crate::message::Publication;
use crate::session::{Session, Will};
use crate::time::Time;
use crate::topic::TopicName;

impl<C: Chain> Shard<C> {
    /// `auth_on_publish` for the will, if there is one.
    pub(super) fn ask_will(
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
                Verdict::Later(PendingAnswer { link, future, .. }) if attempt.client.version.is_v5() => {
                    return Asked::Later(link, future, "auth_on_publish_m5");
                }
                Verdict::Later(PendingAnswer { link, future, .. }) => return Asked::Later(link, future, "auth_on_publish"),
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

    /// The connection of a session has ended for `reason`: its will is published now, or put off until its delay has passed
    /// or the session ends, whichever comes first [MQTT-3.1.3-9]; a broker that stops has no time for delays. A goodbye has taken
    /// the will away before.
    pub(super) fn leave_will(&mut self, index: u32, reason: EndReason) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        if reason == EndReason::TakenOver && self.config.session.suppress_will_on_takeover {
            session.will = None;
            return;
        }
        let Some(will) = &session.will else { return };
        let delayed = session.settings.kept && !will.delay.is_zero();
        let ends_first = session.settings.expiry.is_some_and(|expiry| expiry <= will.delay);
        if delayed && !self.stopping {
            // If the session ends first, its end publishes the will.
            session.will_due = if ends_first { Time::NEVER } else { self.now + will.delay };
            return;
        }
        self.publish_will_of(index);
    }

    /// Publishes the will of a session.
    pub(super) fn publish_will_of(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.will_due = Time::NEVER;
        let Some(will) = session.will.take() else { return };
        let (client, policy) = (session.client.clone(), session.settings.shared_policy);
        self.route_will(Some(index), &client, policy, &will);
        self.published_while_leaving(index);
        let Some(session) = self.sessions.get_mut(index) else { return };
        let notified = tell_published(&mut self.chain, &client, &mut session.state, &will);
        self.notified(index, notified, publish_hook(&client));
    }

    /// Publishes the will of a session that is no longer in the tables.
    pub(super) fn publish_will_after(&mut self, session: &mut Session<C::State>, will: &Will) {
        self.route_will(None, &session.client, session.settings.shared_policy, will);
        let notified = tell_published(&mut self.chain, &session.client, &mut session.state, will);
        self.notified_without_session(&session.client.subscriber, notified, publish_hook(&session.client));
    }

    /// `session` is that of the client, if it still is in the tables: with No Local it does not get its own will, which belongs to
    /// its ClientID like all that it publishes [MQTT-3.8.3-3].
    fn route_will(&mut self, session: Option<u32>, client: &Client, policy: SharedPolicy, will: &Will) {
        let realm = self.realms.number(&will.mountpoint);
        let mut publication = will.message.publication();
        if let Some(expiry) = will.expiry {
            publication.expire(self.now + expiry);
        }
        let origin = Origin { session, publisher: self.slots.slot(&client.subscriber), policy };
        self.route(realm, &publication, origin);
    }
}

/// The hook that hears of what `client` published.
fn publish_hook(client: &Client) -> &'static str {
    if client.version.is_v5() { "on_publish_m5" } else { "on_publish" }
}

/// `on_publish` or `on_publish_m5` for a will.
fn tell_published<C: Chain>(chain: &mut C, client: &Client, state: &mut C::State, will: &Will) -> Notified {
    let message = &will.message;
    let published = PublishedM5 {
        mountpoint: &will.mountpoint,
        topic: message.topic().as_str(),
        payload: message.payload(),
        qos: message.qos(),
        retain: message.retain(),
        is_will: true,
        properties: &PublishProperties::parse(message.properties()).unwrap_or_default(),
    };
    if client.version.is_v5() {
        chain.on_publish_m5(client, state, &published)
    } else {
        chain.on_publish(client, state, &published.without_properties())
    }
}

/// What the hooks are asked about a will.
pub(super) fn will_request<'a>(will: &ConnectWill<'a>, properties: &'a PublishProperties<'a>) -> PublishRequestM5<'a> {
    PublishRequestM5 {
        topic: will.topic,
        payload: will.payload,
        qos: will.qos,
        retain: will.retain,
        is_will: true,
        properties,
    }
}
