//! Who subscribes to what, as far as other shards must know.
//!
//! A filter that is new to this shard is told to all others, and a SUBSCRIBE is complete only when all have answered:
//! after SUBACK nothing is missed, whichever shard a publisher is on. Then the keepers of retained messages are asked, see
//! `keeper`.

use std::sync::Arc;

use super::Shard;
use super::keeper::{Found, Live};
use super::mail::{Announcement, Mail};
use super::realm::Subscriber;
use super::share::Group;
use crate::client::ConnectionId;
use crate::codec::{PacketId, ReasonCode, SubscriptionOptions};
use crate::connection::{ConnectionStage, PauseReason, Pending};
use crate::hooks::{Chain, SubscribeModifiersM5};
use crate::session::Subscription;
use crate::topic::TopicFilter;

/// A filter that was granted.
pub(super) struct Granted {
    pub filter: TopicFilter,
    pub options: SubscriptionOptions,
    pub wants_retained: bool,
}

/// A SUBSCRIBE between taking effect here and SUBACK.
pub(super) struct Subscribing {
    pub connection: ConnectionId,
    pub session: u32,
    /// Which session it was at that place: its [`instance`](crate::session::Session::instance); of the embedding program, the number of
    /// the subscription.
    pub instance: u64,
    /// The number under which answers come.
    pub token: u64,
    pub realm: u32,
    pub packet_id: PacketId,
    pub subscription_id: u32,
    /// For each filter, what was granted.
    pub granted: Vec<Result<Granted, ReasonCode>>,
    pub user: Vec<(String, String)>,
    pub by: SubscribeModifiersM5,
    /// The connection has ended, and the hooks have heard of it before that: there is no SUBACK. By then the session may be another
    /// connection's, or gone and its place taken: see `instance`.
    pub connection_ended: bool,
    /// How many shards have not answered the question that is open.
    pub waiting: usize,
    /// For each shard, how much it had told keepers when it took the filters in.
    pub told: Vec<Box<[u64]>>,
    /// Retained messages that came live in the meantime.
    pub live: Vec<Live>,
    /// What the keepers answered.
    pub found: Vec<Found>,
}

impl<C: Chain> Shard<C> {
    /// Puts a subscription into the tree. Says whether the filter is new to this shard, so that the others must know.
    pub(super) fn add_subscriber(
        &mut self,
        realm: u32,
        filter: &TopicFilter,
        session: u32,
        subscription: Subscription,
        online: bool,
    ) -> bool {
        let subscriber = Subscriber::new(session, subscription);
        let routes = self.realms[realm].routes(filter);
        if filter.share_name().is_some() {
            routes.group(filter).join(subscriber, online);
            self.tell_group(realm, filter);
            return false;
        }
        match routes.local.iter_mut().find(|other| other.session == session) {
            Some(other) => *other = subscriber,
            None => routes.local.push(subscriber),
        }
        routes.local.len() == 1
    }

    /// Takes a subscription out of the tree, and tells the others if it was the last to this filter.
    pub(super) fn remove_subscriber(&mut self, realm: u32, filter: &TopicFilter, session: u32) {
        let Some(routes) = self.realms[realm].tree.get_mut(filter) else { return };
        if filter.share_name().is_some() {
            if let Some(group) = routes.groups.iter_mut().find(|group| *group.filter == *filter) {
                group.leave(session);
            }
            self.tell_group(realm, filter);
            self.forget_empty_groups(realm, filter);
            return;
        }
        let before = routes.local.len();
        routes.local.retain(|subscriber| subscriber.session != session);
        if routes.local.is_empty() && before > 0 {
            self.realms[realm].prune(filter);
            for shard in self.others() {
                let mountpoint = self.realms[realm].name.clone();
                self.post(shard, Mail::Unsubscribe { mountpoint, filter: filter.clone() });
            }
        }
    }

    /// The client of a session came or left: its memberships in shared subscriptions follow.
    pub(super) fn members_turn_online(&mut self, index: u32, online: bool) {
        let Some(session) = self.sessions.get(index) else { return };
        let shared: Vec<TopicFilter> =
            session.subscriptions.keys().filter(|filter| filter.share_name().is_some()).cloned().collect();
        if shared.is_empty() {
            return;
        }
        let realm = self.realms.number(&session.client.subscriber.mountpoint);
        for filter in shared {
            let Some(routes) = self.realms[realm].tree.get_mut(&filter) else { continue };
            if let Some(group) = routes.groups.iter_mut().find(|group| *group.filter == filter) {
                group.turn_online(index, online);
            }
            self.tell_group(realm, &filter);
        }
    }

    /// Tells the others how many members of a shared subscription are here.
    fn tell_group(&mut self, realm: u32, filter: &TopicFilter) {
        let Some((online, offline)) = self.realms[realm].group(filter).map(Group::counts) else { return };
        for shard in self.others() {
            let mountpoint = self.realms[realm].name.clone();
            self.post(shard, Mail::Group { mountpoint, filter: filter.clone(), online, offline });
        }
    }

    /// Another shard has so many members of a shared subscription now.
    pub(super) fn group_elsewhere(
        &mut self,
        shard: usize,
        mountpoint: &Arc<str>,
        filter: &TopicFilter,
        online: u32,
        offline: u32,
    ) {
        let realm = self.realms.number(mountpoint);
        self.realms[realm].routes(filter).group(filter).elsewhere(shard, online, offline);
        self.forget_empty_groups(realm, filter);
    }

    fn forget_empty_groups(&mut self, realm: u32, filter: &TopicFilter) {
        if let Some(routes) = self.realms[realm].tree.get_mut(filter) {
            routes.groups.retain(|group| !group.is_empty());
        }
        self.realms[realm].prune(filter);
    }

    /// Tells the others of new filters; what is left is done when all have answered.
    pub(super) fn announce(&mut self, mut pending: Subscribing, filters: Vec<Announcement>) {
        pending.told[self.id] = self.keeping.told();
        if self.shards == 1 || filters.is_empty() {
            return self.ask_keepers(pending);
        }
        let token = pending.token;
        let mountpoint = self.realms[pending.realm].name.clone();
        let filters: Arc<[Announcement]> = filters.into();
        for shard in self.others() {
            pending.waiting += 1;
            let (mountpoint, filters) = (mountpoint.clone(), filters.clone());
            self.post(shard, Mail::Subscribe { token, mountpoint, filters, flush: None });
        }
        if let Some(connection) = self.connections.get_mut(pending.connection) {
            connection.pauses.insert(PauseReason::Subscribe);
            if let ConnectionStage::Connected(connected) = &mut connection.stage {
                connected.pending = Some(Pending::Subscribe { token });
            }
        }
        self.subscribing.insert(token, pending);
    }

    /// Tells the others of the filters of a session that is to come from shard `from`.
    pub(super) fn announce_arrival(&mut self, from: usize, token: u64, realm: u32, filters: Vec<Announcement>) {
        let own = self.number();
        self.preparing.insert(own, (from, token, self.shards - 1));
        let mountpoint = self.realms[realm].name.clone();
        let filters: Arc<[Announcement]> = filters.into();
        for shard in self.others() {
            let (mountpoint, filters) = (mountpoint.clone(), filters.clone());
            self.post(shard, Mail::Subscribe { token: own, mountpoint, filters, flush: Some((from, token)) });
        }
    }

    fn taken_in_for_move(&mut self, own: u64) {
        let Some((from, token, waiting)) = self.preparing.get_mut(&own) else { return };
        *waiting -= 1;
        if *waiting == 0 {
            let (from, token) = (*from, *token);
            self.preparing.remove(&own);
            self.say_flushed(from, token);
        }
    }

    /// Another shard has new subscriptions.
    pub(super) fn take_in(&mut self, from: usize, token: u64, mountpoint: &Arc<str>, filters: &[Announcement]) {
        let realm = self.realms.number(mountpoint);
        for Announcement { filter, .. } in filters.iter().filter(|announcement| announcement.interest) {
            self.realms[realm].routes(filter).remote.insert(from);
        }
        let wanted = filters.iter().any(|announcement| announcement.retained);
        let told = if wanted { self.keeping.told() } else { Box::default() };
        self.post(from, Mail::Subscribed { token, told, sequence: self.sequence });
    }

    /// Another shard has lost its last subscriber to a filter.
    pub(super) fn forget_interest(&mut self, from: usize, mountpoint: &Arc<str>, filter: &TopicFilter) {
        let realm = self.realms.number(mountpoint);
        if let Some(routes) = self.realms[realm].tree.get_mut(filter) {
            routes.remote.remove(from);
        }
        self.realms[realm].prune(filter);
    }

    /// Shard `from` has taken in a subscription of this one, and had told keepers of so many messages by then.
    pub(super) fn taken_in(&mut self, from: usize, token: u64, told: Box<[u64]>) {
        let Some(mut pending) = self.subscribing.remove(&token) else { return self.taken_in_for_move(token) };
        pending.told[from] = told;
        pending.waiting -= 1;
        if pending.waiting > 0 {
            self.subscribing.insert(token, pending);
        } else {
            self.ask_keepers(pending);
        }
    }

    /// A subscription is known everywhere, and so is what is retained for it. Its client's next packets are served.
    pub(super) fn complete_subscribe(&mut self, pending: Subscribing) {
        let (id, token) = (pending.connection, pending.token);
        if let Some(connection) = self.connections.get_mut(id)
            && let ConnectionStage::Connected(connected) = &mut connection.stage
            && matches!(connected.pending, Some(Pending::Subscribe { token: waiting }) if waiting == token)
        {
            connected.pending = None;
        }
        self.subscribed(pending);
        self.release(id, PauseReason::Subscribe);
    }
}
