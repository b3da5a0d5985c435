//! Subscriptions that come and go, as far as other shards must know, and SUBSCRIBEs until SUBACK.

use std::sync::Arc;

use super::agenda::FollowUp;
use super::message::{Announcement, ShardMessage};
use super::output::Output;
use super::pubsub::PubSub;
use crate::client::ConnectionId;
use crate::codec::{QoS, RetainHandling, SubscriptionOptions};
use crate::connection::{ConnectionStage, PauseReason, Pending, Violation};
use crate::hooks::{Chain, ask};
use crate::routing::MemberCounts;
use crate::session::Subscription;
use crate::subscribing::{Granted, PendingSubscribe, SubscribeSource, suback, wanted};
use crate::topic::TopicFilter;

impl<C: Chain> PubSub<C> {
    /// Puts a subscription into effect here. Says whether the filter is new to this shard, so that the others must know.
    pub(super) fn add_subscription(
        &mut self,
        mountpoint: u32,
        filter: &TopicFilter,
        session: u32,
        subscription: Subscription,
        online: bool,
    ) -> bool {
        let change = self.routing.subscribe(mountpoint, filter, session, subscription, online);
        self.tell_members(mountpoint, filter, change.members);
        change.interest
    }

    /// Ends a subscription here, and tells the others if it was the last to this filter.
    pub(super) fn remove_subscription(&mut self, mountpoint: u32, filter: &TopicFilter, session: u32) {
        let change = self.routing.unsubscribe(mountpoint, filter, session);
        self.tell_members(mountpoint, filter, change.members);
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

    /// The client of a session came or left: its memberships in shared subscriptions follow.
    pub(super) fn set_members_online(&mut self, index: u32, online: bool) {
        let Some(session) = self.clients.sessions.get(index) else { return };
        let is_shared = |filter: &&TopicFilter| filter.share_name().is_some();
        let shared: Vec<TopicFilter> = session.subscriptions.keys().filter(is_shared).cloned().collect();
        if shared.is_empty() {
            return;
        }
        let mountpoint = self.routing.mountpoint(&session.client.subscriber.mountpoint);
        for filter in shared {
            let members = self.routing.set_online(mountpoint, &filter, index, online);
            self.tell_members(mountpoint, &filter, members);
        }
    }

    /// Tells the others how many members of a shared subscription are here.
    fn tell_members(&mut self, mountpoint: u32, filter: &TopicFilter, members: Option<MemberCounts>) {
        let Some(members) = members else { return };
        let name = self.routing.name(mountpoint).clone();
        self.clients.agenda.tell_others(|| ShardMessage::Group {
            mountpoint: name.clone(),
            filter: filter.clone(),
            members,
        });
    }

    /// Makes a subscription that has taken effect here known to the other shards; what is left is done when all have answered.
    pub(super) fn begin_subscribe(&mut self, token: u64, pending: PendingSubscribe, filters: Vec<Announcement>) {
        let (connection, mountpoint) = (pending.connection(), pending.mountpoint);
        self.retained.begin(token, wanted(&pending.granted));
        let others = self.clients.setup.shards - 1;
        if others == 0 || filters.is_empty() {
            return self.complete_subscribe(token, pending);
        }
        self.subscribing.insert(token, pending, others);
        if let Some(connection) = connection.and_then(|id| self.clients.connections.get_mut(id)) {
            connection.pauses.insert(PauseReason::Subscribe);
            if let ConnectionStage::Connected(connected) = &mut connection.stage {
                connected.pending = Some(Pending::Subscribe { token });
            }
        }
        let (name, filters) = (self.routing.name(mountpoint).clone(), Arc::<[Announcement]>::from(filters));
        self.clients.agenda.tell_others(|| {
            let (mountpoint, filters) = (name.clone(), filters.clone());
            ShardMessage::Subscribe { token, mountpoint, filters, flush: None }
        });
    }

    /// Takes in the subscriptions of another shard, and tells it so.
    pub(super) fn take_in(&mut self, from: usize, token: u64, mountpoint: &Arc<str>, filters: &[Announcement]) {
        let mountpoint = self.routing.mountpoint(mountpoint);
        for Announcement { filter, .. } in filters.iter().filter(|announcement| announcement.interest) {
            self.routing.add_interest(from, mountpoint, filter);
        }
        let is_wanted = filters.iter().any(|announcement| announcement.retained);
        let sent = if is_wanted { self.retained.sent() } else { Box::default() };
        self.clients.agenda.post(from, ShardMessage::Subscribed { token, sent, sequence: self.routing.sequence() });
    }

    /// A subscription is known everywhere: hooks, SUBACK, then what is retained. Its client's next packets are served.
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
                self.tell_subscribed(&pending);
                if let Err((id, violation)) = self.write_suback(&pending) {
                    self.clients.connections.pause(id, PauseReason::Closing);
                    self.clients.agenda.follow_up(FollowUp::Violation(id, violation));
                }
            }
        }
        self.replay(token, &pending);
    }

    /// Begins to send what is retained for a new subscription.
    fn replay(&mut self, token: u64, pending: &PendingSubscribe) {
        let gathered = self.retained.gathered(token);
        let reader = pending.session;
        // The subscription may have ended in the meantime, and another one have its place; so may the session.
        let is_online = match pending.by {
            SubscribeSource::Program if self.clients.program.number(reader) == Some(pending.instance) => true,
            SubscribeSource::Program => return,
            SubscribeSource::Client(_) => match self.clients.sessions.get(reader) {
                Some(session) if session.instance == pending.instance => session.connection.is_some(),
                _ => return,
            },
        };
        // What is left from a subscription that this one replaced without asking anew is sent still, as this one has it
        // [MQTT-3.8.4-4].
        if let Some(gathered) = gathered {
            let mountpoint = self.routing.name(pending.mountpoint).clone();
            self.retained.replay(reader, &mountpoint, gathered, is_online);
            self.replay_soon();
        }
    }

    /// `on_subscribe`, unless the hooks were told already, or every filter was refused.
    pub(super) fn tell_subscribed(&mut self, pending: &PendingSubscribe) {
        let Some(session) = self.clients.sessions.get_mut(pending.session) else { return };
        let chain = &mut self.clients.chain;
        let notified = pending.tell(|told| ask::subscribed(chain, &session.client, &mut session.state, told));
        if let Some(notified) = notified {
            self.clients.notified(pending.session, notified);
        }
    }

    /// The connection of a SUBSCRIBE ends before the other shards have taken it in. What was granted belongs to the session:
    /// the hooks hear of it before they hear of the end.
    pub(super) fn subscribe_without_suback(&mut self, token: u64) {
        let Some(mut pending) = self.subscribing.take(token) else { return };
        self.tell_subscribed(&pending);
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
        let interest = self.add_subscription(mountpoint, &filter, place, Subscription { options, id: 0 }, true);
        let mut pending = PendingSubscribe::new(SubscribeSource::Program, place, number, mountpoint, 0);
        pending.granted = vec![Ok(Granted { filter: filter.clone(), options, wants_retained: true })];
        let token = self.clients.agenda.number();
        self.begin_subscribe(token, pending, vec![Announcement { filter, interest, retained: true }]);
    }
}
