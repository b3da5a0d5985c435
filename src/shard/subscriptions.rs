//! Subscriptions that come and go, as far as other shards must know, and SUBSCRIBEs until SUBACK.

use std::sync::Arc;

use super::agenda::FollowUp;
use super::clients::Clients;
use super::members;
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use super::recording;
use super::replaying::Replaying;
use super::turn;
use crate::client::ConnectionId;
use crate::codec::{QoS, RetainHandling, SubscriptionOptions};
use crate::connection::{ConnectionStage, PauseReason, Pending, Violation};
use crate::hooks::{Chain, ask};
use crate::persistence::Answer;
use crate::retained::Counts;
use crate::routing::Change;
use crate::session::Subscription;
use crate::sharding::ShardSet;
use crate::subscribing::{Granted, PendingSubscribe, SubscribeSource, suback, wanted};
use crate::topic::TopicFilter;

/// What the other shards must know of subscriptions before they are complete.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Filters that are new to this shard.
    pub filters: Vec<TopicFilter>,
    /// Whether there is anything new: filters, or a first member online of a shared subscription.
    pub is_any: bool,
    /// The announcement that they must have answered; zero if there is none.
    pub after: u64,
}

impl<C: Chain> Clients<C> {
    /// `on_subscribe`, unless the hooks were told already, or every filter was refused.
    pub(super) fn tell_subscribed(&mut self, pending: &PendingSubscribe) {
        let Some(session) = self.sessions.get_mut(pending.session) else { return };
        let chain = &mut self.chain;
        let notified = pending.tell(|told| ask::subscribed(chain, &session.client, &mut session.state, told));
        if let Some(notified) = notified {
            self.notified(pending.session, notified);
        }
    }
}

impl<C: Chain> PubSub<C> {
    /// Puts a subscription into effect here. What the others must know of it is added to `news`.
    pub(super) fn add_subscription(
        &mut self,
        mountpoint: u32,
        filter: &TopicFilter,
        session: u32,
        subscription: Subscription,
        online: bool,
        news: &mut News,
    ) {
        let next = self.subscribing.announcements.next();
        let change = self.routing.subscribe(mountpoint, filter, session, subscription, online, next);
        self.clients.agenda.turn.did(turn::FILTER);
        let Change { interest, announced, members } = change;
        members::tell(self, mountpoint, filter, members);
        news.is_any |= interest;
        news.after = news.after.max(announced);
        if interest && filter.share_name().is_none() {
            news.filters.push(filter.clone());
        }
    }

    /// Ends a subscription here, and tells the others if it was the last to this filter.
    pub(super) fn remove_subscription(&mut self, mountpoint: u32, filter: &TopicFilter, session: u32) {
        let change = self.routing.unsubscribe(mountpoint, filter, session);
        self.clients.agenda.turn.did(turn::FILTER);
        members::tell(self, mountpoint, filter, change.members);
        if change.interest {
            let name = self.routing.name(mountpoint).clone();
            self.clients
                .agenda
                .tell_others(|| ShardMessage::Unsubscribe { mountpoint: name.clone(), filter: filter.clone() });
        }
    }

    /// Ends these subscriptions of a session, which knows them no more.
    pub(super) fn remove_subscriptions(&mut self, index: u32, filters: &[TopicFilter]) {
        let Some(session) = self.clients.sessions.get(index) else { return };
        let mountpoint = self.routing.mountpoint(&session.client.subscriber.mountpoint);
        self.retained.stop_replaying(index, filters);
        for filter in filters {
            self.remove_subscription(mountpoint, filter, index);
        }
        self.clients.statistics.counters.subscriptions -= filters.len() as u64;
    }

    /// Makes a subscription that has taken effect here known to the other shards, as far as it is news to them; what is left is done when all
    /// have answered.
    pub(super) fn begin_subscribe(&mut self, token: u64, pending: PendingSubscribe, news: News) {
        let (connection, mountpoint) = (pending.connection(), pending.mountpoint);
        self.retained.begin(token, wanted(&pending.granted));
        if news.is_any {
            self.announce(mountpoint, news.filters, None);
        }
        if self.subscribing.announcements.is_complete(news.after) {
            self.begin_replay(token, pending);
        } else {
            self.subscribing.insert(token, pending, news.after);
        }
        if self.subscribing.is_pending(token)
            && let Some(connection) = connection.and_then(|id| self.clients.connections.get_mut(id))
        {
            connection.pauses.insert(PauseReason::Subscribe);
            if let ConnectionStage::Connected(connected) = &mut connection.stage {
                connected.pending = Some(Pending::Subscribe { token });
            }
        }
    }

    /// Tells the other shards of filters that are new to this one. `flush`: whom they are to tell, too, and by which token, that they have what
    /// was published before. Gives the number of the announcement.
    pub(super) fn announce(&mut self, mountpoint: u32, filters: Vec<TopicFilter>, flush: Option<(usize, u64)>) -> u64 {
        let (name, filters) = (self.routing.name(mountpoint).clone(), Arc::<[TopicFilter]>::from(filters));
        self.clients.agenda.tell_others(|| {
            let (mountpoint, filters) = (name.clone(), filters.clone());
            ShardMessage::Subscribe { mountpoint, filters, flush }
        });
        self.subscribing.announcements.make()
    }

    /// Takes in filters of another shard, and tells it so.
    pub(super) fn take_in(&mut self, from: usize, name: &Arc<str>, filters: &[TopicFilter]) {
        let mountpoint = self.routing.mountpoint(name);
        for filter in filters {
            self.routing.add_interest(from, mountpoint, filter);
        }
        self.clients.agenda.turn.did(turn::FILTER * filters.len() as u32);
        let sent = self.retained.tell_sent(from, name, filters);
        self.clients.agenda.post(from, ShardMessage::Subscribed { sent, sequence: self.routing.sequence() });
    }

    /// Shard `from` has taken in what this one announced: subscriptions of which all shards know by now go on. Gives the number of the
    /// announcement.
    pub(super) fn announcement_answered(&mut self, from: usize, sent: &Counts) -> u64 {
        self.retained.learn_sent(from, sent);
        let announcement = self.subscribing.announcements.answered(from);
        for token in self.subscribing.waiting_for(announcement) {
            self.retained.taken_in(token, from);
        }
        while let Some((token, pending)) = self.subscribing.next_announced() {
            self.begin_replay(token, pending);
        }
        announcement
    }

    /// A subscription is known everywhere: what is retained for it is asked for. It is complete when the first of that is here.
    fn begin_replay(&mut self, token: u64, pending: PendingSubscribe) {
        let reader = pending.session;
        // The subscription may have ended in the meantime, and another one have its place; so may the session.
        let is_online = match pending.by {
            SubscribeSource::Program => (self.clients.program.number(reader) == Some(pending.instance)).then_some(true),
            SubscribeSource::Client(_) => {
                let session = self.clients.sessions.get(reader).filter(|session| session.instance == pending.instance);
                session.map(|session| session.connection.is_some())
            }
        };
        // What is left from a subscription that this one replaced without asking anew is sent still, as this one has it
        // [MQTT-3.8.4-4].
        let Some((gathered, is_online)) = self.retained.gathered(token).zip(is_online) else {
            return self.complete_subscribe(token, pending);
        };
        let mountpoint = self.routing.name(pending.mountpoint).clone();
        self.retained.replay(token, (reader, is_online), &mountpoint, gathered);
        self.subscribing.insert(token, pending, 0);
        Replaying::of(self).soon();
    }

    /// A subscription is known everywhere, and the first of what is retained for it is here: hooks, SUBACK, then that. Its client's next
    /// packets are served.
    pub(super) fn complete_subscribe(&mut self, token: u64, pending: PendingSubscribe) {
        if let Some(id) = pending.connection()
            && let Some(connection) = self.clients.connections.get_mut(id)
            && let ConnectionStage::Connected(connected) = &mut connection.stage
            && matches!(connected.pending, Some(Pending::Subscribe { token: waiting }) if waiting == token)
        {
            connected.pending = None;
            connection.pauses.remove(PauseReason::Subscribe);
            self.clients.agenda.follow_up(FollowUp::Serve(id));
        }
        match &pending.by {
            SubscribeSource::Program => {
                self.clients.agenda.output(Output::Subscribed { subscription: pending.instance })
            }
            SubscribeSource::Client(_) => {
                self.clients.tell_subscribed(&pending);
                if let Err((id, violation)) = self.write_suback(&pending) {
                    self.clients.connections.pause(id, PauseReason::Closing);
                    self.clients.agenda.follow_up(FollowUp::Violation(id, violation));
                }
            }
        }
        if self.retained.is_replaying(pending.session) {
            Replaying::of(self).go_on(pending.session);
        }
    }

    /// The connection of a SUBSCRIBE ends before the other shards have taken it in. What was granted belongs to the session:
    /// the hooks hear of it before they hear of the end.
    pub(super) fn subscribe_without_suback(&mut self, token: u64) {
        let Some(mut pending) = self.subscribing.take(token) else { return };
        self.clients.tell_subscribed(&pending);
        pending.connection_ended();
        self.subscribing.put_back(token, pending);
    }

    /// Writes the SUBACK, unless the connection has ended.
    fn write_suback(&mut self, pending: &PendingSubscribe) -> Result<(), (ConnectionId, Violation)> {
        let Some(client) = pending.client() else { return Ok(()) };
        let id = client.connection;
        let Some(session) = self.clients.sessions.get(pending.session) else { return Ok(()) };
        // It waits on the shard where its session is: neither can have gone without the other.
        debug_assert_eq!(session.connection, Some(id), "a connection keeps its session");
        if session.stored.is_some() {
            let mut packet = Vec::new();
            suback(pending, client, session.client.version, &session.settings, &mut packet)
                .map_err(|violation| (id, violation))?;
            recording::answer_when_stored(&mut self.clients, id, ShardSet::default(), Answer::Packet(packet.into()));
            return Ok(());
        }
        let mut written = Ok(());
        self.clients.connections.write(id, |version, out| {
            written = suback(pending, client, version, &session.settings, out);
        });
        written.map_err(|violation| (id, violation))
    }

    /// Subscribes the embedding program.
    pub(super) fn subscribe_program(&mut self, mountpoint: u32, number: u64, filter: TopicFilter) {
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: true,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        let place = self.clients.program.add(number, mountpoint, filter.clone());
        let mut news = News::default();
        self.add_subscription(mountpoint, &filter, place, Subscription { options, id: 0 }, true, &mut news);
        let mut pending = PendingSubscribe::new(SubscribeSource::Program, place, number, mountpoint, 0);
        pending.granted = vec![Ok(Granted { filter, options, wants_retained: true })];
        let token = self.clients.agenda.number();
        self.begin_subscribe(token, pending, news);
    }
}
