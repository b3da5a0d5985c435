//! PUBLISH, SUBSCRIBE, UNSUBSCRIBE and DISCONNECT of a client that belongs to a session.

use super::publications::PublishContext;
use super::pubsub::PubSub;
use super::recording;
use super::subscriptions::News;
use super::turn;
use crate::client::{ConnectionId, EndReason, OneLine};
use crate::codec::{Disconnect, Publish, ReasonCode, Subscribe, Unsubscribe};
use crate::connection::{PauseReason, Violation};
use crate::handshake::expiry_at_disconnect;
use crate::hooks::ask::{self, Resumed};
use crate::hooks::{
    Chain, PublishModifiersM5, PublishedM5, RequestedFilter, SubscribeModifiersM5, SubscribeRequestM5,
    UnsubscribeModifiersM5, UnsubscribeRequestM5, Unsubscribed, Verdict,
};
use crate::persistence::Answer;
use crate::publishing::{self, Checked, Consequence, Decision, RawPacket, Refused};
use crate::routing::Origin;
use crate::session::Subscription;
use crate::sharding::ShardSet;
use crate::subscribing::{self, ClientSubscribe, PendingSubscribe, SubscribeSource};
use crate::topic::{TopicFilter, TopicName};

/// What became of a packet: nothing more to be done, or what its client did wrong.
pub(super) type PacketResult = Result<(), Violation>;

impl<C: Chain> PubSub<C> {
    /// PUBLISH.
    #[inline]
    pub(super) fn on_publish(
        &mut self,
        id: ConnectionId,
        index: u32,
        publish: &Publish<'_>,
        raw: &RawPacket<'_>,
        resumed: Option<Resumed>,
    ) -> PacketResult {
        let clients = &mut self.clients;
        if resumed.is_none() {
            clients.statistics.counters.messages_in += 1;
            clients.count_rate(id, index);
        }
        let Some(session) = clients.sessions.get_mut(index) else { return Ok(()) };
        // What is copied is as much as the rest of decoding, so only what has an alias is.
        let (aliased, with_topic);
        let publish = if publish.properties.topic_alias.is_some()
            && let Some(connected) = clients.connections.get_mut(id).and_then(|connection| connection.connected_mut())
        {
            let (most, hasher) = (session.settings.alias_maximum_in, session.subscriptions.hasher());
            let most_bytes = clients.setup.config.limits.max_topic_bytes_per_client;
            if !publish.topic.is_empty() {
                // It is copied, and what the alias stood for is forgotten.
                clients.agenda.turn.did(turn::ALIAS);
            }
            aliased = publishing::resolve_alias(connected, most, most_bytes, publish, hasher)?;
            with_topic = Publish { topic: aliased.as_deref().unwrap_or(publish.topic), ..*publish };
            &with_topic
        } else {
            publish
        };
        let checked = publishing::check(session, publish, &clients.setup.config.limits)?;
        if resumed.is_none() {
            clients.delivery.traffic.count(session.slot);
        }
        let topic = match checked {
            Checked::Ask(topic) => topic,
            Checked::Repeated if clients.persistence.is_some() => {
                recording::answer_repeated(clients, (id, index), publish);
                return Ok(());
            }
            Checked::Repeated => {
                clients.answer_publish(id, index, publish, ReasonCode::Success, None);
                return Ok(());
            }
            Checked::Refused(code) => {
                clients.statistics.counters.publish_refused += 1;
                clients.answer_publish(id, index, publish, code, None);
                return Ok(());
            }
        };
        let connections = &clients.connections;
        let is_anonymous_allowed = || connections.get(id).is_some_and(|connection| connection.allows_anonymous());
        match publishing::ask(&mut clients.chain, session, publish, is_anonymous_allowed, resumed) {
            Decision::Accepted(modifiers) => self.accept_publish(id, index, topic, publish, raw, &modifiers),
            Decision::Refused(refused) => {
                clients.statistics.counters.hook_failures += u64::from(refused.hook_failed);
                self.refuse_publish(id, index, publish, refused);
            }
            Decision::Later(pending) => clients.put_off(id, raw, pending),
        }
        Ok(())
    }

    /// Routes a publish as the hooks left it, tells them, and acknowledges it.
    fn accept_publish(
        &mut self,
        id: ConnectionId,
        index: u32,
        topic: TopicName<'_>,
        publish: &Publish<'_>,
        raw: &RawPacket<'_>,
        by: &PublishModifiersM5,
    ) {
        let Some(session) = self.clients.sessions.get(index) else { return };
        let mountpoint = by.mountpoint.as_ref().unwrap_or(&session.client.subscriber.mountpoint);
        let mountpoint = self.routing.mountpoint(mountpoint);
        let origin = Origin { session: Some(index), publisher: session.slot, policy: session.settings.shared_policy };
        let forwarded = publish.properties.forwarded();
        let (max_levels, now) = (self.clients.setup.config.limits.max_topic_levels, self.clients.agenda.now());
        let mut accepted = match publishing::publication(publish, topic, &forwarded, by, raw, max_levels, now) {
            Ok(accepted) => accepted,
            Err(error) => {
                let client = &session.client.subscriber;
                tracing::error!(%client, topic = by.topic, "a hook gave a publish a topic that is not valid: {error}");
                return self.refuse_publish(id, index, publish, Refused::by_invalid_topic());
            }
        };
        if self.clients.persistence.is_some() {
            recording::prepare(&mut self.clients, index, &mut accepted.publication, publish.qos);
        }
        let publication = &accepted.publication;
        let whose = PublishContext { origin, connection: Some(id), more_follows: raw.more_follows };
        let published = self.publish(mountpoint, publication, whose);
        let clients = &mut self.clients;
        let congested = clients.flow.congested_among(published.told);
        if !congested.is_empty() && clients.connections.pause(id, PauseReason::Congestion) {
            clients.flow.wait_for_room(id, congested);
        }
        if let Some(session) = clients.sessions.get_mut(index) {
            let rewritten = accepted.rewritten_properties();
            let published = PublishedM5 {
                mountpoint: self.routing.name(mountpoint),
                topic: publication.topic.as_str(),
                payload: publication.payload,
                qos: publication.qos,
                retain: publication.retain,
                is_will: false,
                properties: rewritten.as_ref().unwrap_or(&publish.properties),
            };
            let notified = ask::published(&mut clients.chain, &session.client, &mut session.state, &published);
            clients.notified(index, notified);
        }
        let nobody = published.recipients == 0;
        let code = if nobody { ReasonCode::NoMatchingSubscribers } else { ReasonCode::Success };
        if clients.persistence.is_some() {
            let told = (published.told, publication.decision);
            recording::answer_accepted(self, (id, index), publish, code, told);
        } else {
            clients.answer_publish(id, index, publish, code, None);
        }
        if let Some(throttle) = by.throttle {
            self.clients.throttle(id, now + throttle);
        }
    }

    fn refuse_publish(&mut self, id: ConnectionId, index: u32, publish: &Publish<'_>, refused: Refused) {
        let Some(session) = self.clients.sessions.get(index) else { return };
        self.clients.statistics.counters.publish_refused += 1;
        let configured = self.clients.setup.config.session.unauthorized_publish;
        match refused.consequence(session.client.version, configured) {
            Consequence::Answer(code, reason) => {
                self.clients.answer_publish(id, index, publish, code, reason.as_deref())
            }
            Consequence::End(reason) => {
                // For the log: such a client cannot be told.
                let what = format!("it may not publish to {}", OneLine(publish.topic));
                self.end_connection(id, reason, Some((ReasonCode::NotAuthorized, &what)));
            }
        }
    }

    /// SUBSCRIBE.
    pub(super) fn on_subscribe(
        &mut self,
        id: ConnectionId,
        index: u32,
        subscribe: Subscribe<'_>,
        raw: &RawPacket<'_>,
        resumed: Option<Resumed>,
    ) -> PacketResult {
        let clients = &mut self.clients;
        let Some(session) = clients.sessions.get_mut(index) else { return Ok(()) };
        let requested = subscribing::requested(&session.settings, &clients.setup.config.limits, &subscribe)?;
        let request = SubscribeRequestM5 {
            filters: &requested,
            subscription_id: subscribe.subscription_id,
            user_properties: subscribe.user,
        };
        let allows_anonymous = clients.connections.get(id).is_some_and(|connection| connection.allows_anonymous());
        let verdict = ask::subscribe(&mut clients.chain, &session.client, &mut session.state, &request, resumed);
        let modifiers = match verdict {
            Verdict::Ok(modifiers) => Ok(modifiers),
            Verdict::Exhausted if allows_anonymous => Ok(SubscribeModifiersM5::default()),
            Verdict::Exhausted => Err(ReasonCode::NotAuthorized),
            Verdict::Refused(refusal) => Err(refusal.code.into()),
            Verdict::Failed { .. } | Verdict::TooLate { .. } => {
                clients.statistics.counters.hook_failures += 1;
                Err(ReasonCode::NotAuthorized)
            }
            Verdict::Later(pending) => {
                clients.put_off(id, raw, pending);
                return Ok(());
            }
        };
        self.subscribe(id, index, &subscribe, &requested, modifiers);
        Ok(())
    }

    /// Puts what the hooks grant into effect.
    fn subscribe(
        &mut self,
        id: ConnectionId,
        index: u32,
        subscribe: &Subscribe<'_>,
        requested: &[RequestedFilter<'_>],
        modifiers: Result<SubscribeModifiersM5, ReasonCode>,
    ) {
        let Some(session) = self.clients.sessions.get(index) else { return };
        let mountpoint = self.routing.mountpoint(&session.client.subscriber.mountpoint);
        let (instance, subscription_id) = (session.instance, subscribe.subscription_id.unwrap_or(0));
        let limits = &self.clients.setup.config.clone().limits;
        let mut granted = Vec::with_capacity(requested.len());
        let mut news = News::default();
        for (at, asked) in requested.iter().enumerate() {
            let grant = match &modifiers {
                Ok(modifiers) => subscribing::grant(asked, modifiers.grant(at), limits.max_topic_levels),
                Err(code) => Err(*code),
            };
            let Some(session) = self.clients.sessions.get_mut(index) else { return };
            let known = self.routing.shapes(mountpoint);
            let admitted = grant.and_then(|(filter, options)| {
                subscribing::admit(session, limits, known, filter, options, subscription_id)
            });
            granted.push(admitted.map(|(granted, is_new)| {
                let subscription = Subscription { options: granted.options, id: subscription_id };
                self.clients.statistics.counters.subscriptions += u64::from(is_new);
                self.add_subscription(mountpoint, &granted.filter, index, subscription, true, &mut news);
                recording::record_subscribed(&mut self.clients, index, &granted.filter, subscription);
                granted
            }));
        }
        let client = ClientSubscribe {
            connection: id,
            packet_id: subscribe.packet_id,
            user: subscribe.user.into(),
            modifiers: modifiers.unwrap_or_default(),
            connection_ended: false,
        };
        let by = SubscribeSource::Client(client);
        let mut pending = PendingSubscribe::new(by, index, instance, mountpoint, subscription_id);
        pending.granted = granted;
        pending.beyond = subscribe.filters.len() - requested.len();
        let token = self.clients.agenda.number();
        self.begin_subscribe(token, pending, news);
    }

    /// UNSUBSCRIBE.
    pub(super) fn on_unsubscribe(
        &mut self,
        id: ConnectionId,
        index: u32,
        unsubscribe: Unsubscribe<'_>,
        raw: &RawPacket<'_>,
        resumed: Option<Resumed>,
    ) -> PacketResult {
        let limits = &self.clients.setup.config.limits;
        let requested = subscribing::to_remove(&unsubscribe, limits)?;
        let Some(session) = self.clients.sessions.get_mut(index) else { return Ok(()) };
        let request = UnsubscribeRequestM5 { filters: &requested, user_properties: unsubscribe.user };
        let by = match ask::unsubscribe(&mut self.clients.chain, &session.client, &mut session.state, &request, resumed)
        {
            Verdict::Ok(modifiers) => modifiers,
            Verdict::Later(pending) => {
                self.clients.put_off(id, raw, pending);
                return Ok(());
            }
            Verdict::Exhausted => UnsubscribeModifiersM5::default(),
            Verdict::Failed { .. } | Verdict::TooLate { .. } => {
                self.clients.statistics.counters.hook_failures += 1;
                UnsubscribeModifiersM5::default()
            }
        };
        let (codes, removed) = subscribing::unsubscribe(session, &requested, &by, limits.max_topic_levels);
        self.remove_subscriptions(index, &removed);
        recording::record_unsubscribed(&mut self.clients, index, &removed);
        let Some(session) = self.clients.sessions.get_mut(index) else { return Ok(()) };
        if !removed.is_empty() {
            let topics: Vec<&str> = removed.iter().map(TopicFilter::as_str).collect();
            let topics = Unsubscribed::Topics(&topics);
            let notified = self.clients.chain.on_topic_unsubscribed(&session.client, &mut session.state, topics);
            self.clients.notified(index, notified);
        }
        let Some(session) = self.clients.sessions.get(index) else { return Ok(()) };
        let write = |version, out: &mut Vec<u8>| {
            subscribing::unsuback(unsubscribe.packet_id, &codes, &by, version, &session.settings, out)
        };
        if session.stored.is_some() {
            let mut packet = Vec::new();
            write(session.client.version, &mut packet)?;
            recording::answer_when_stored(&mut self.clients, id, ShardSet::default(), Answer::Packet(packet.into()));
            return Ok(());
        }
        let mut written = Ok(());
        self.clients.connections.write(id, |version, out| written = write(version, out));
        written
    }

    /// DISCONNECT from the client. With reason code 0x00 its will is forgotten [MQTT-3.14.4-3].
    pub(super) fn on_disconnect(&mut self, id: ConnectionId, index: u32, disconnect: Disconnect<'_>) -> PacketResult {
        let Some(session) = self.clients.sessions.get_mut(index) else { return Ok(()) };
        let settings = &mut session.settings;
        if let Some(seconds) = disconnect.session_expiry {
            if !settings.kept && seconds > 0 {
                return Err(Violation::protocol("DISCONNECT raises the session expiry interval from zero"));
            }
            (settings.kept, settings.expiry) = expiry_at_disconnect(&self.clients.setup.config.session, seconds);
        }
        if disconnect.code == ReasonCode::Success {
            session.will = None;
        }
        self.end_connection(id, EndReason::ClientDisconnect(disconnect.code), None);
        Ok(())
    }
}
