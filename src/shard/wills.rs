//! Wills: published when a connection ends without a proper goodbye, at once or after their delay.

use super::Shard;
use super::audience::Origin;
use crate::client::{Client, EndReason};
use crate::codec::PublishProperties;
use crate::config::SharedPolicy;
use crate::hooks::{Chain, Notified, PublishedM5};
use crate::session::{Session, Will};
use crate::time::Time;

impl<C: Chain> Shard<C> {
    /// The connection of a session has ended for `reason`: its will is published now, or put off until its delay has passed
    /// or the session ends, whichever comes first [MQTT-3.1.3-9]. A goodbye has taken the will away before.
    pub(super) fn leave_will(&mut self, index: u32, reason: EndReason) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let v3_goodbye = matches!(reason, EndReason::ClientDisconnect(_)) && !session.client.version.is_v5();
        let suppressed = reason == EndReason::TakenOver && self.config.session.suppress_will_on_takeover;
        if v3_goodbye || suppressed {
            session.will = None;
            return;
        }
        let Some(will) = &session.will else { return };
        let delayed = session.terms.kept && !will.delay.is_zero();
        let ends_first = session.terms.expiry.is_some_and(|expiry| expiry <= will.delay);
        if delayed && reason != EndReason::ServerShutdown {
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
        let (client, policy) = (session.client.clone(), session.terms.shared_policy);
        self.route_will(&client, policy, &will);
        let Some(session) = self.sessions.get_mut(index) else { return };
        let notified = tell_published(&mut self.chain, &client, &mut session.state, &will);
        self.notified(index, notified, publish_hook(&client));
    }

    /// Publishes the will of a session that is no longer in the tables.
    pub(super) fn publish_will_after(&mut self, session: &mut Session<C::State>, will: &Will) {
        self.route_will(&session.client, session.terms.shared_policy, will);
        let notified = tell_published(&mut self.chain, &session.client, &mut session.state, will);
        self.notified_without_session(&session.client.subscriber, notified, publish_hook(&session.client));
    }

    fn route_will(&mut self, client: &Client, policy: SharedPolicy, will: &Will) {
        let realm = self.realms.number(&will.mountpoint);
        let mut publication = will.message.publication();
        if let Some(expiry) = will.expiry {
            publication.expire(self.now + expiry);
        }
        let origin = Origin { session: None, publisher: self.slots.hash(&client.subscriber), policy };
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
