//! Subscriptions that come and go, as far as other shards must know, and SUBSCRIBEs until SUBACK.

use std::sync::Arc;

use super::agenda::FollowUp;
use super::delivering::Routed;
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use crate::client::ConnectionId;
use crate::codec::{QoS, RetainHandling, SubscriptionOptions};
use crate::connection::{ConnectionStage, PauseReason, Pending, Violation};
use crate::hooks::{Chain, ask};
use crate::message::Message;
use crate::retained::{Counts, RetainedAnswer, RetainedQuestion};
use crate::routing::{Change, MemberCounts};
use crate::session::{PublicationId, Recipient, Subscription, SubscriptionIds};
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
        let Change { interest, announced, members } = change;
        self.tell_members(mountpoint, filter, members);
        news.is_any |= interest;
        news.after = news.after.max(announced);
        if interest && filter.share_name().is_none() {
            news.filters.push(filter.clone());
        }
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

    /// Makes a subscription that has taken effect here known to the other shards, as far as it is news to them; what is left is done when all
    /// have answered.
    pub(super) fn begin_subscribe(&mut self, token: u64, pending: PendingSubscribe, news: News) {
        let (connection, mountpoint) = (pending.connection(), pending.mountpoint);
        self.retained.begin(token, mountpoint, wanted(&pending.granted));
        if news.is_any {
            self.announce(mountpoint, news.filters, None);
        }
        if self.subscribing.announcements.is_complete(news.after) {
            self.ask_owners(token, pending);
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
            self.ask_owners(token, pending);
        }
        announcement
    }

    /// All shards have taken in the filters of a SUBSCRIBE: the owners of what is retained are asked.
    pub(super) fn ask_owners(&mut self, token: u64, pending: PendingSubscribe) {
        let mountpoint = pending.mountpoint;
        let name = self.routing.name(mountpoint).clone();
        let questions = self.retained.questions(token, &name);
        if questions.is_empty() {
            return self.complete_subscribe(token, pending);
        }
        self.subscribing.insert(token, pending, 0);
        for (owner, question) in questions {
            if owner == self.clients.setup.id {
                self.ask_owner(owner, mountpoint, question);
            } else {
                self.clients.agenda.post(owner, ShardMessage::AskRetained(Box::new(question)));
            }
        }
    }

    /// Shard `from` wants to know what is retained here.
    pub(super) fn ask_owner(&mut self, from: usize, mountpoint: u32, question: RetainedQuestion) {
        self.retained.ask(from, mountpoint, question);
        self.answer_questions();
    }

    /// Answers what can be answered by now of what is asked about retained messages.
    pub(super) fn answer_questions(&mut self) {
        for (asking, answer) in self.retained.answers(self.clients.agenda.now()) {
            if asking == self.clients.setup.id {
                self.owner_answered(answer);
            } else {
                self.clients.agenda.post(asking, ShardMessage::Retained(Box::new(answer)));
            }
        }
    }

    /// An owner has answered.
    pub(super) fn owner_answered(&mut self, answer: RetainedAnswer) {
        if let Some(token) = self.retained.answered(answer)
            && let Some(pending) = self.subscribing.take(token)
        {
            self.complete_subscribe(token, pending);
        }
    }

    /// A subscription is known everywhere, and so is what is retained for it: hooks, SUBACK, retained messages. Its client's next
    /// packets are served.
    fn complete_subscribe(&mut self, token: u64, pending: PendingSubscribe) {
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
                    self.clients.agenda.follow_up(FollowUp::Retained(token, Box::new(pending)));
                    return;
                }
            }
        }
        self.deliver_all_retained(token, &pending);
    }

    /// Delivers what was retained for a new subscription.
    pub(super) fn deliver_all_retained(&mut self, token: u64, pending: &PendingSubscribe) {
        for (at, message) in self.retained.finish(token) {
            self.deliver_retained(pending, at, &message);
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

    /// Delivers a message that was retained for a new subscription, and that the filter at this place among those granted has found.
    fn deliver_retained(&mut self, pending: &PendingSubscribe, at: u16, message: &Message) {
        if message.expires() <= self.clients.agenda.now() {
            return;
        }
        if matches!(pending.by, SubscribeSource::Program) {
            // The subscription may have ended in the meantime, and another one have its place.
            if self.clients.program.number(pending.session) == Some(pending.instance) {
                self.clients
                    .agenda
                    .output(Output::Deliver { subscription: pending.instance, message: message.clone() });
            }
            return;
        }
        let Some(granted) = pending.granted.iter().flatten().nth(usize::from(at)) else { return };
        let Some(session) = self.clients.sessions.get(pending.session) else { return };
        // So may the session.
        let is_same = session.instance == pending.instance;
        if !is_same || session.subscriptions.get(&granted.filter).is_none_or(|now| now.options != granted.options) {
            return;
        }
        let recipient = Recipient {
            session: pending.session,
            qos: granted.options.qos,
            retain_as_published: true,
            ids: SubscriptionIds::from(pending.subscription_id),
            group: None,
            initial: true,
        };
        let publication = message.publication();
        let routed = Routed { publication: &publication, id: PublicationId::NONE, publisher: None };
        self.clients.deliver_all(&[recipient], &routed);
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
