//! SUBSCRIBE and UNSUBSCRIBE from a client.
//!
//! A subscription takes effect on this shard at once, and is told to the others; when all of them have taken it in, the
//! hooks are told, SUBACK goes out, and retained messages follow. Until then the client's next packets wait.

use super::Shard;
use crate::hooks::ask::{self, Resumed};
use super::interest::{Granted, Subscribing};
use super::mail::Announcement;
use super::realm::PROGRAM;
use crate::client::ConnectionId;
use crate::codec::{
    PacketId, ReasonCode, RetainHandling, Suback, Subscribe, SubscriptionOptions, Unsuback, Unsubscribe, UserProperties,
};
use crate::connection::Violation;
use crate::hooks::{
    Chain, PendingAnswer, FilterGrant, RequestedFilter, SubscribeModifiersM5, SubscribeRequestM5, SubscribedM5,
    UnsubscribeModifiersM5, UnsubscribeRequestM5, Unsubscribed, Verdict,
};
use crate::session::Subscription;
use crate::topic::TopicFilter;

/// What is granted for one filter: the subscription, or why there is none.
type Grant = Result<(TopicFilter, SubscriptionOptions), ReasonCode>;

impl<C: Chain> Shard<C> {
    pub(super) fn on_subscribe_packet(
        &mut self,
        id: ConnectionId,
        index: u32,
        subscribe: Subscribe<'_>,
        raw: &[u8],
        resumed: Option<Resumed>,
    ) -> Result<(), Violation> {
        let requested: Vec<RequestedFilter<'_>> = subscribe
            .filters
            .iter()
            .map(|asked| RequestedFilter { filter: asked.filter, options: asked.options })
            .collect();
        self.check_subscribe(index, &subscribe, &requested)?;
        let Some(session) = self.sessions.get_mut(index) else { return Ok(()) };
        let request = SubscribeRequestM5 {
            filters: &requested,
            subscription_id: subscribe.subscription_id,
            user_properties: subscribe.user,
        };
        let is_v5 = session.client.version.is_v5();
        let verdict = ask::subscribe(&mut self.chain, &session.client, &mut session.state, &request, resumed);
        let modifiers = match verdict {
            Verdict::Ok(modifiers) => Ok(modifiers),
            Verdict::Exhausted if self.is_anonymous_allowed(id) => Ok(SubscribeModifiersM5::default()),
            Verdict::Exhausted => Err(ReasonCode::NotAuthorized),
            Verdict::Refused(refusal) => Err(refusal.code.into()),
            Verdict::Failed { .. } => {
                self.counters.hook_failures += 1;
                Err(ReasonCode::NotAuthorized)
            }
            Verdict::Later(PendingAnswer { link, future, .. }) => {
                self.put_off(id, raw, link, future, if is_v5 { "auth_on_subscribe_m5" } else { "auth_on_subscribe" });
                return Ok(());
            }
        };
        let grants = requested.iter().enumerate().map(|(at, asked)| match &modifiers {
            Ok(modifiers) => self.grant(asked, modifiers.grant(at)),
            Err(code) => Err(*code),
        });
        let grants: Vec<Grant> = grants.collect();
        self.subscribe(id, index, &subscribe, grants, modifiers.unwrap_or_default());
        Ok(())
    }

    /// What makes a SUBSCRIBE a violation, rather than a filter refused.
    fn check_subscribe(
        &self,
        index: u32,
        subscribe: &Subscribe<'_>,
        requested: &[RequestedFilter<'_>],
    ) -> Result<(), Violation> {
        let Some(session) = self.sessions.get(index) else { return Ok(()) };
        let limits = &self.config.limits;
        if requested.len() > limits.max_filters_per_subscribe {
            let what = "more filters than max_filters_per_subscribe";
            return Err(Violation::new(ReasonCode::QuotaExceeded, what));
        }
        if subscribe.subscription_id.is_some() && !session.settings.ids_available {
            let what = "subscription identifiers are not available";
            return Err(Violation::new(ReasonCode::SubscriptionIdsNotSupported, what));
        }
        let is_shared = |asked: &RequestedFilter<'_>| asked.filter.starts_with("$share/");
        if requested.iter().any(|asked| asked.options.no_local && is_shared(asked)) {
            return Err(Violation::protocol("No Local on a shared subscription [MQTT-3.8.3-4]"));
        }
        Ok(())
    }

    /// What the hooks made of one filter, checked like what a client asks for.
    fn grant(&self, asked: &RequestedFilter<'_>, by: &FilterGrant) -> Grant {
        let (text, qos) = match by {
            FilterGrant::Grant => (asked.filter, asked.options.qos),
            FilterGrant::GrantAt(qos) => (asked.filter, *qos),
            FilterGrant::Replace { filter, qos } => (filter.as_str(), *qos),
            FilterGrant::Refuse(code) => return Err((*code).into()),
        };
        let filter = TopicFilter::parse(text, self.config.limits.max_topic_levels)
            .map_err(|_| ReasonCode::TopicFilterInvalid)?;
        Ok((filter, SubscriptionOptions { qos, ..asked.options }))
    }

    /// Puts what is granted into effect.
    fn subscribe(
        &mut self,
        id: ConnectionId,
        index: u32,
        subscribe: &Subscribe<'_>,
        grants: Vec<Grant>,
        by: SubscribeModifiersM5,
    ) {
        let Some(session) = self.sessions.get(index) else { return };
        let realm = self.realms.number(&session.client.subscriber.mountpoint);
        let user = subscribe.user.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let instance = session.instance;
        let mut pending = Subscribing {
            connection: id,
            session: index,
            instance,
            token: self.number(),
            realm,
            packet_id: subscribe.packet_id,
            subscription_id: subscribe.subscription_id.unwrap_or(0),
            granted: Vec::with_capacity(grants.len()),
            user,
            by,
            connection_ended: false,
            waiting: 0,
            told: vec![Box::default(); self.shards],
            live: Vec::new(),
            found: Vec::new(),
        };
        let mut announcements = Vec::new();
        for grant in grants {
            let granted = match grant {
                Ok((filter, options)) => self.add_subscription(index, filter, options, pending.subscription_id),
                Err(code) => Err(code),
            };
            pending.granted.push(match granted {
                Ok((granted, interest)) => {
                    announcements.push(Announcement {
                        filter: granted.filter.clone(),
                        interest,
                        retained: granted.wants_retained,
                    });
                    Ok(granted)
                }
                Err(code) => Err(self.legal_suback_code(index, code)),
            });
        }
        self.announce(pending, announcements);
    }

    /// Adds one subscription to its session and to the tree. Says whether other shards must take note of the filter.
    fn add_subscription(
        &mut self,
        index: u32,
        filter: TopicFilter,
        options: SubscriptionOptions,
        subscription_id: u32,
    ) -> Result<(Granted, bool), ReasonCode> {
        let most = self.config.limits.max_subscriptions_per_client;
        let Some(session) = self.sessions.get_mut(index) else { return Err(ReasonCode::UnspecifiedError) };
        let is_shared = filter.share_name().is_some();
        if is_shared && !session.settings.shared_available {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if filter.has_wildcard() && !session.settings.wildcard_available {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        let is_new = !session.subscriptions.contains_key(&filter);
        if is_new && !most.allows(session.subscriptions.len() + 1) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let options = SubscriptionOptions { qos: options.qos.min(session.settings.maximum_qos), ..options };
        let subscription = Subscription { options, id: subscription_id };
        session.subscriptions.insert(filter.clone(), subscription);
        let online = session.connection.is_some();
        self.counters.subscriptions += u64::from(is_new);
        let Some(session) = self.sessions.get(index) else { return Err(ReasonCode::UnspecifiedError) };
        let realm = self.realms.number(&session.client.subscriber.mountpoint);
        let interest = self.add_subscriber(realm, &filter, index, subscription, online);
        let wants_retained = !is_shared
            && match options.retain_handling {
                RetainHandling::SendAtSubscribe => true,
                RetainHandling::SendIfNew => is_new,
                RetainHandling::DoNotSend => false,
            };
        Ok((Granted { filter, options, wants_retained }, interest))
    }

    /// MQTT 3 knows one code for everything that is refused.
    fn legal_suback_code(&self, index: u32, code: ReasonCode) -> ReasonCode {
        match self.sessions.get(index) {
            Some(session) if !session.client.version.is_v5() => ReasonCode::UnspecifiedError,
            _ => code,
        }
    }

    /// All shards have taken the subscription in: hooks, SUBACK, retained messages.
    pub(super) fn subscribed(&mut self, pending: Subscribing) {
        let index = pending.session;
        if index & PROGRAM != 0 {
            return self.program_subscribed(pending);
        }
        if !pending.connection_ended {
            // It waits on the shard where its session is: neither can have gone without the other.
            let connection = self.sessions.get(index).and_then(|session| session.connection);
            debug_assert_eq!(connection, Some(pending.connection), "a connection keeps its session");
            self.tell_subscribed(&pending);
            self.write_suback(&pending);
        }
        self.deliver_retained(pending);
    }

    /// The connection of a SUBSCRIBE ends before the other shards have taken it in. What was granted belongs to the session:
    /// the hooks hear of it before they hear of the end.
    pub(super) fn subscribed_without_suback(&mut self, token: u64) {
        let Some(mut pending) = self.subscribing.remove(&token) else { return };
        self.tell_subscribed(&pending);
        pending.connection_ended = true;
        self.subscribing.insert(token, pending);
    }

    /// `on_subscribe` or `on_subscribe_m5`, unless every filter was refused.
    fn tell_subscribed(&mut self, pending: &Subscribing) {
        let Some(session) = self.sessions.get_mut(pending.session) else { return };
        let granted: Vec<RequestedFilter<'_>> = pending
            .granted
            .iter()
            .flatten()
            .map(|granted| RequestedFilter { filter: granted.filter.as_str(), options: granted.options })
            .collect();
        if granted.is_empty() {
            return;
        }
        let subscribed = SubscribedM5 {
            filters: &granted,
            subscription_id: Some(pending.subscription_id).filter(|id| *id > 0),
            user_properties: UserProperties::from(&pending.user[..]),
        };
        let (notified, hook) = if session.client.version.is_v5() {
            (self.chain.on_subscribe_m5(&session.client, &mut session.state, &subscribed), "on_subscribe_m5")
        } else {
            let subscribed = subscribed.without_properties();
            (self.chain.on_subscribe(&session.client, &mut session.state, &subscribed), "on_subscribe")
        };
        self.notified(pending.session, notified, hook);
    }

    fn write_suback(&mut self, pending: &Subscribing) {
        let Some(session) = self.sessions.get(pending.session) else { return };
        let codes: Vec<ReasonCode> = pending
            .granted
            .iter()
            .map(|granted| match granted {
                Ok(granted) => ReasonCode::granted(granted.options.qos),
                Err(code) => *code,
            })
            .collect();
        let (version, terms) = (session.client.version, &session.settings);
        let mut suback = Suback::new(pending.packet_id, &codes[..]);
        if terms.problem_information {
            suback.reason_string = pending.by.reason_string.as_deref();
            suback.user = UserProperties::from(&pending.by.user_properties[..]);
        }
        if suback.encoded_len(version) > terms.maximum_outgoing {
            (suback.reason_string, suback.user) = (None, UserProperties::default());
        }
        if suback.encoded_len(version) > terms.maximum_outgoing {
            return self.answer_too_large(pending.connection);
        }
        self.write(pending.connection, |version, out| suback.encode(version, out));
    }

    pub(super) fn on_unsubscribe_packet(
        &mut self,
        id: ConnectionId,
        index: u32,
        unsubscribe: Unsubscribe<'_>,
        raw: &[u8],
        resumed: Option<Resumed>,
    ) -> Result<(), Violation> {
        let requested: Vec<&str> = unsubscribe.filters.iter().collect();
        if requested.len() > self.config.limits.max_filters_per_subscribe {
            let what = "more filters than max_filters_per_subscribe";
            return Err(Violation::new(ReasonCode::QuotaExceeded, what));
        }
        let Some(session) = self.sessions.get_mut(index) else { return Ok(()) };
        let request = UnsubscribeRequestM5 { filters: &requested, user_properties: unsubscribe.user };
        let is_v5 = session.client.version.is_v5();
        let by = match ask::unsubscribe(&mut self.chain, &session.client, &mut session.state, &request, resumed) {
            Verdict::Ok(modifiers) => modifiers,
            Verdict::Later(PendingAnswer { link, future, .. }) => {
                self.put_off(id, raw, link, future, if is_v5 { "on_unsubscribe_m5" } else { "on_unsubscribe" });
                return Ok(());
            }
            Verdict::Exhausted => UnsubscribeModifiersM5::default(),
            Verdict::Failed { .. } => {
                self.counters.hook_failures += 1;
                UnsubscribeModifiersM5::default()
            }
        };
        // One answer for each filter of the packet [MQTT-3.11.3-1], whatever the hooks left out or added.
        let by_hooks = by.filters.iter().flatten().map(String::as_str).map(Some).chain(std::iter::repeat(None));
        let rewritten: Vec<&str> =
            requested.iter().zip(by_hooks).map(|(asked, rewritten)| rewritten.unwrap_or(asked)).collect();
        let codes = self.unsubscribe(index, &rewritten)?;
        self.write_unsuback(id, index, unsubscribe.packet_id, &codes, &by);
        Ok(())
    }

    /// Removes the subscriptions and says for each what became of it.
    fn unsubscribe(&mut self, index: u32, filters: &[&str]) -> Result<Vec<ReasonCode>, Violation> {
        let mut codes = Vec::with_capacity(filters.len());
        let mut removed = Vec::new();
        for text in filters {
            let Ok(filter) = TopicFilter::parse(text, self.config.limits.max_topic_levels) else {
                codes.push(ReasonCode::TopicFilterInvalid);
                continue;
            };
            let Some(session) = self.sessions.get_mut(index) else { return Ok(codes) };
            if session.subscriptions.remove(&filter).is_none() {
                codes.push(ReasonCode::NoSubscriptionExisted);
                continue;
            }
            codes.push(ReasonCode::Success);
            let realm = self.realms.number(&session.client.subscriber.mountpoint);
            self.counters.subscriptions -= 1;
            self.remove_subscriber(realm, &filter, index);
            removed.push(*text);
        }
        if !removed.is_empty()
            && let Some(session) = self.sessions.get_mut(index)
        {
            let topics = Unsubscribed::Topics(&removed);
            let notified = self.chain.on_topic_unsubscribed(&session.client, &mut session.state, topics);
            self.notified(index, notified, "on_topic_unsubscribed");
        }
        Ok(codes)
    }

    fn write_unsuback(
        &mut self,
        id: ConnectionId,
        index: u32,
        packet_id: PacketId,
        codes: &[ReasonCode],
        by: &UnsubscribeModifiersM5,
    ) {
        let Some(session) = self.sessions.get(index) else { return };
        let (version, terms) = (session.client.version, &session.settings);
        let mut unsuback = Unsuback::new(packet_id, codes);
        if terms.problem_information {
            unsuback.reason_string = by.reason_string.as_deref();
            unsuback.user = UserProperties::from(&by.user_properties[..]);
        }
        if unsuback.encoded_len(version) > terms.maximum_outgoing {
            (unsuback.reason_string, unsuback.user) = (None, UserProperties::default());
        }
        if unsuback.encoded_len(version) > terms.maximum_outgoing {
            return self.answer_too_large(id);
        }
        self.write(id, |version, out| unsuback.encode(version, out));
    }
}
