//! PUBLISH from a client.

use std::time::Duration;

use super::Shard;
use crate::hooks::ask::{self, Resumed};
use super::audience::Origin;
use crate::client::{ConnectionId, EndReason};
use crate::codec::{Ack, AckKind, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode};
use crate::config::UnauthorizedPublish;
use crate::connection::{Aliases, ConnectionStage, PauseReason, Violation};
use crate::hooks::{
    Chain, PendingAnswer, Expiry, PublishCode, PublishModifiersM5, PublishRefusalM5, PublishRequestM5, PublishedM5, Verdict,
};
use crate::message::Publication;
use crate::time::Time;
use crate::topic::TopicName;

/// What the hooks decided on a publish.
enum Decision {
    Accepted(PublishModifiersM5),
    Refused { refusal: PublishRefusalM5, failed: bool },
    PutOff,
}

impl<C: Chain> Shard<C> {
    pub(super) fn on_publish_packet(
        &mut self,
        id: ConnectionId,
        index: u32,
        publish: Publish<'_>,
        raw: &[u8],
        resumed: Option<Resumed>,
    ) -> Result<(), Violation> {
        let first_time = resumed.is_none();
        if first_time {
            self.counters.messages_in += 1;
        }
        let mut aliased = std::mem::take(&mut self.aliased);
        let outcome = self.resolve_alias(id, index, &publish, &mut aliased).and_then(|()| {
            let topic = if publish.topic.is_empty() { &aliased } else { publish.topic };
            self.publish(id, index, &Publish { topic, ..publish }, raw, resumed)
        });
        self.aliased = aliased;
        if first_time {
            self.count_rate(id, index);
        }
        outcome
    }

    /// Sets a topic alias, or puts the topic that one stands for into `aliased`.
    fn resolve_alias(
        &mut self,
        id: ConnectionId,
        index: u32,
        publish: &Publish<'_>,
        aliased: &mut String,
    ) -> Result<(), Violation> {
        let Some(alias) = publish.properties.topic_alias else { return Ok(()) };
        let invalid = |what| Violation::new(ReasonCode::TopicAliasInvalid, what);
        let most = self.sessions.get(index).map_or(0, |session| session.settings.alias_maximum_in);
        if alias > most {
            return Err(invalid("the topic alias is higher than the maximum [MQTT-3.3.2-9]"));
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let ConnectionStage::Connected(connected) = &mut connection.stage else { return Ok(()) };
        let aliases = connected.aliases.get_or_insert_with(|| Aliases::new(&self.hasher));
        if publish.topic.is_empty() {
            let topic = aliases.incoming.get(alias).ok_or(Violation::protocol("the topic alias was never set"))?;
            aliased.clear();
            aliased.push_str(topic);
        } else {
            aliases.incoming.set(alias, publish.topic);
        }
        Ok(())
    }

    fn publish(
        &mut self,
        id: ConnectionId,
        index: u32,
        publish: &Publish<'_>,
        raw: &[u8],
        resumed: Option<Resumed>,
    ) -> Result<(), Violation> {
        let topic = TopicName::parse(publish.topic, self.config.limits.max_topic_levels)
            .map_err(|_| Violation::new(ReasonCode::TopicNameInvalid, "the topic name is not valid"))?;
        let Some(session) = self.sessions.get(index) else { return Ok(()) };
        self.traffic.count(session.slot);
        let terms = &session.settings;
        if publish.qos > terms.maximum_qos {
            return Err(Violation::new(ReasonCode::QosNotSupported, "the QoS is higher than the maximum"));
        }
        if publish.retain && !terms.retain_available {
            return Err(Violation::new(ReasonCode::RetainNotSupported, "retained messages are not available"));
        }
        if let Some(packet_id) = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce)
            && session.inbound.contains(packet_id)
        {
            self.write_ack(id, AckKind::Pubrec, packet_id, ReasonCode::Success);
            return Ok(());
        }
        let version = session.client.version;
        // QoS 1 is acknowledged at once, so what is incomplete is QoS 2; but a QoS 1 message on top is one too many, too.
        let is_acknowledged = publish.qos != QoS::AtMostOnce;
        if version.is_v5() && is_acknowledged && session.inbound.len() >= usize::from(terms.receive_maximum) {
            let what = "more unacknowledged messages than Receive Maximum [MQTT-3.3.4-7]";
            return Err(Violation::new(ReasonCode::ReceiveMaximumExceeded, what));
        }
        if publish.properties.payload_is_utf8 == Some(true) && std::str::from_utf8(publish.payload).is_err() {
            // The client says of its payload what is not so [MQTT-3.3.2-4].
            let invalid = ReasonCode::PayloadFormatInvalid;
            if publish.packet_id.is_none() {
                return Err(Violation::new(invalid, "a payload that says it is UTF-8 is not"));
            }
            self.counters.publish_refused += 1;
            self.acknowledge(id, index, publish, invalid, None);
            return Ok(());
        }
        if topic.is_dollar() {
            self.counters.publish_refused += 1;
            let code = if version.is_v5() { ReasonCode::NotAuthorized } else { ReasonCode::Success };
            self.acknowledge(id, index, publish, code, None);
            return Ok(());
        }
        match self.ask_publish(id, index, publish, raw, resumed) {
            Decision::PutOff => {}
            Decision::Accepted(modifiers) => self.accept_publish(id, index, topic, publish, raw, modifiers),
            Decision::Refused { refusal, failed } => self.refuse_publish(id, index, version, publish, refusal, failed),
        }
        Ok(())
    }

    #[inline]
    fn ask_publish(
        &mut self,
        id: ConnectionId,
        index: u32,
        publish: &Publish<'_>,
        raw: &[u8],
        resumed: Option<Resumed>,
    ) -> Decision {
        let Some(session) = self.sessions.get_mut(index) else { return Decision::PutOff };
        let request = PublishRequestM5 {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            is_will: false,
            properties: &publish.properties,
        };
        let is_v5 = session.client.version.is_v5();
        match ask::publish(&mut self.chain, &session.client, &mut session.state, &request, resumed) {
            Verdict::Ok(modifiers) => Decision::Accepted(modifiers),
            Verdict::Exhausted if self.is_anonymous_allowed(id) => Decision::Accepted(PublishModifiersM5::default()),
            Verdict::Exhausted => Decision::Refused { refusal: PublishRefusalM5::default(), failed: false },
            Verdict::Refused(refusal) => Decision::Refused { refusal, failed: false },
            Verdict::Failed { .. } => {
                self.counters.hook_failures += 1;
                Decision::Refused { refusal: PublishRefusalM5::default(), failed: true }
            }
            Verdict::Later(PendingAnswer { link, future, .. }) => {
                self.put_off(id, raw, link, future, if is_v5 { "auth_on_publish_m5" } else { "auth_on_publish" });
                Decision::PutOff
            }
        }
    }

    /// Routes a publish as the hooks left it, tells them, and acknowledges it.
    fn accept_publish(
        &mut self,
        id: ConnectionId,
        index: u32,
        topic: TopicName<'_>,
        publish: &Publish<'_>,
        raw: &[u8],
        by: PublishModifiersM5,
    ) {
        let Some(session) = self.sessions.get(index) else { return };
        let rewritten = by.topic.as_deref().map(|topic| TopicName::parse(topic, self.config.limits.max_topic_levels));
        let topic = match rewritten {
            None => topic,
            Some(Ok(topic)) => topic,
            Some(Err(error)) => {
                tracing::error!(client = %session.client.subscriber, topic = by.topic, "a hook gave a publish a topic that is not valid: {error}");
                let refusal = PublishRefusalM5::new(PublishCode::ImplementationSpecific);
                let version = session.client.version;
                return self.refuse_publish(id, index, version, publish, refusal, true);
            }
        };
        let mountpoint = by.mountpoint.as_ref().unwrap_or(&session.client.subscriber.mountpoint);
        let realm = self.realms.number(mountpoint);
        let origin = Origin { session: Some(index), publisher: session.slot, policy: session.settings.shared_policy };
        let forwarded = publish.properties.forwarded();
        let mut publication = Publication::new(topic, by.payload.as_deref().unwrap_or(publish.payload));
        publication.properties = by.properties.as_ref().map_or(&*forwarded, |block| block.as_bytes());
        publication.qos = by.qos.unwrap_or(publish.qos);
        publication.retain = by.retain.unwrap_or(publish.retain);
        publication.expires = self.expires(&publish.properties, by.message_expiry);
        publication.source = raw;
        publication.block = self.block.clone();
        self.publishing = Some((self.id, id));
        let receivers = self.route(realm, &publication, origin);
        self.publishing = None;
        if self.last_went_to_congested() {
            self.wait_for_mailbox(id);
        }
        if let Some(packet_id) = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce)
            && let Some(session) = self.sessions.get_mut(index)
        {
            session.inbound.take(packet_id);
        }
        self.tell_published(index, realm, &publication, &publish.properties, by.properties.is_some());
        let code = if receivers == 0 { ReasonCode::NoMatchingSubscribers } else { ReasonCode::Success };
        self.acknowledge(id, index, publish, code, None);
        if let Some(throttle) = by.throttle {
            self.throttle(id, self.now + throttle);
        }
    }

    fn expires(&self, properties: &PublishProperties<'_>, by: Option<Expiry>) -> Time {
        match (by, properties.message_expiry) {
            (Some(Expiry::Never), _) | (None, None) => Time::NEVER,
            (Some(Expiry::After(after)), _) => self.now + after,
            (None, Some(seconds)) => self.now + Duration::from_secs(seconds.into()),
        }
    }

    /// `on_publish` or `on_publish_m5`.
    #[inline]
    fn tell_published(
        &mut self,
        index: u32,
        realm: u32,
        publication: &Publication<'_>,
        properties: &PublishProperties<'_>,
        rewritten: bool,
    ) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let properties =
            if rewritten { PublishProperties::parse(publication.properties).unwrap_or_default() } else { *properties };
        let published = PublishedM5 {
            mountpoint: &self.realms[realm].name,
            topic: publication.topic.as_str(),
            payload: publication.payload,
            qos: publication.qos,
            retain: publication.retain,
            is_will: false,
            properties: &properties,
        };
        let (notified, hook) = if session.client.version.is_v5() {
            (self.chain.on_publish_m5(&session.client, &mut session.state, &published), "on_publish_m5")
        } else {
            let published = published.without_properties();
            (self.chain.on_publish(&session.client, &mut session.state, &published), "on_publish")
        };
        self.notified(index, notified, hook);
    }

    /// MQTT 5: the client is told and stays. 3.1.1: closed, or told nothing, as configured. 3.1: told nothing.
    fn refuse_publish(
        &mut self,
        id: ConnectionId,
        index: u32,
        version: ProtocolVersion,
        publish: &Publish<'_>,
        refusal: PublishRefusalM5,
        failed: bool,
    ) {
        self.counters.publish_refused += 1;
        if version.is_v5() {
            return self.acknowledge(id, index, publish, refusal.code.into(), refusal.reason_string.as_deref());
        }
        let disconnects = self.config.session.unauthorized_publish == UnauthorizedPublish::Disconnect;
        if version == ProtocolVersion::V311 && disconnects {
            let reason = if failed { EndReason::HookFailure } else { EndReason::NotAuthorized };
            if let Some(session) = self.sessions.get(index) {
                let client = &session.client.subscriber;
                tracing::info!(%client, topic = publish.topic, "connection closed: a publish was refused");
            }
            return self.end_connection(id, reason, None);
        }
        self.acknowledge(id, index, publish, ReasonCode::Success, None);
    }

    /// PUBACK or PUBREC, by the QoS the client published with. A QoS 2 id that was accepted by name only is kept, too: the
    /// client of version 3 goes on with the handshake.
    fn acknowledge(
        &mut self,
        id: ConnectionId,
        index: u32,
        publish: &Publish<'_>,
        code: ReasonCode,
        reason_string: Option<&str>,
    ) {
        let Some(packet_id) = publish.packet_id else { return };
        let kind = match publish.qos {
            QoS::ExactlyOnce => AckKind::Pubrec,
            _ => AckKind::Puback,
        };
        if kind == AckKind::Pubrec
            && !code.is_error()
            && let Some(session) = self.sessions.get_mut(index)
        {
            session.inbound.take(packet_id);
        }
        match reason_string {
            None => self.write_ack(id, kind, packet_id, code),
            Some(reason) => self.write_ack_with_reason(id, index, kind, packet_id, code, reason),
        }
    }

    fn write_ack_with_reason(
        &mut self,
        id: ConnectionId,
        index: u32,
        kind: AckKind,
        packet_id: PacketId,
        code: ReasonCode,
        reason: &str,
    ) {
        let Some(session) = self.sessions.get(index) else { return };
        let (wanted, most) = (session.settings.problem_information, session.settings.maximum_outgoing);
        self.write(id, |version, out| {
            let mut ack = Ack { reason_string: Some(reason).filter(|_| wanted), ..Ack::new(packet_id, code) };
            if ack.encoded_len(version) > most {
                ack.reason_string = None;
            }
            ack.encode(kind, version, out);
        });
    }

    /// Counts a message against the client's rate; when it is used up, the client is not served for the rest of the second.
    #[inline]
    fn count_rate(&mut self, id: ConnectionId, index: u32) {
        let Some(session) = self.sessions.get(index) else { return };
        let limit = session.settings.message_rate;
        if limit == 0 {
            return;
        }
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let ConnectionStage::Connected(connected) = &mut connection.stage else { return };
        if let Some(until) = connected.rate.count(limit, now) {
            self.throttle(id, until);
        }
    }

    /// The client is not served until `until`.
    fn throttle(&mut self, id: ConnectionId, until: Time) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pauses.insert(PauseReason::Throttle);
        connection.throttled_until = connection.throttled_until.max(until);
        self.arm_connection(id, until);
    }

    fn wait_for_mailbox(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pauses.insert(PauseReason::Mailbox);
        self.waiting_for_mailbox.push(id);
    }
}
