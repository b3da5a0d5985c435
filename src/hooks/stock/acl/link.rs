//! The link that goes by access rules.

use super::identity::Identity;
use super::rules::{AclRules, Ruling};
use crate::client::Client;
use crate::codec::ConnectProperties;
use crate::hooks::stock::Live;
use crate::hooks::{
    Answer, Context, FilterGrant, Hook, Notice, PublishModifiers, PublishModifiersM5, PublishRefusal, PublishRefusalM5,
    PublishRequest, PublishRequestM5, RequestedFilter, SubscribeCode, SubscribeModifiers, SubscribeModifiersM5,
    SubscribeRefusal, SubscribeRefusalM5, SubscribeRequest, SubscribeRequestM5,
};
use crate::topic::{TopicFilter, TopicName};

/// Lets clients publish and subscribe to what the rules grant them.
///
/// | a PUBLISH, a will, or all filters of a SUBSCRIBE are | the answer |
/// |---|---|
/// | granted | *Ok* |
/// | denied | *Error*: not authorised |
/// | neither | *Next* |
///
/// Of a SUBSCRIBE whose filters differ, each is answered by itself, *Ok* with a refusal (0x87) for every one that is not
/// granted: SUBACK has a code for each, and no link that follows is asked.
#[derive(Clone, Debug)]
pub struct AclFile {
    rules: Live<AclRules>,
}

impl AclFile {
    /// Goes by `rules`.
    pub fn new(rules: Live<AclRules>) -> Self {
        AclFile { rules }
    }

    /// What the rules say of a PUBLISH.
    #[inline]
    pub(in crate::hooks::stock) fn publish(&mut self, client: &Client, topic: &str) -> Ruling {
        self.rules.get().publish(&Identity::from(client), TopicName::trusted(topic))
    }

    /// Says of a client that has connected why patterns are of no use to it, if they are not.
    pub(in crate::hooks::stock) fn connected(&mut self, client: &Client) {
        for (place, name) in self.rules.get().useless_names(&Identity::from(client)) {
            tracing::warn!(
                client = %client.subscriber,
                peer = %client.peer,
                name = %name.escape_debug(),
                "access rules with {place} grant this client nothing: its name has a /, a + or a # in it"
            );
        }
    }

    /// The answer to a SUBSCRIBE.
    pub(in crate::hooks::stock) fn subscribe(
        &mut self,
        client: &Client,
        filters: &[RequestedFilter<'_>],
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        let (rules, who) = (self.rules.get(), Identity::from(client));
        let rulings = filters.iter().map(|requested| match TopicFilter::parse(requested.filter, usize::MAX) {
            Ok(filter) => rules.subscribe(&who, &filter),
            Err(_) => Ruling::Silent,
        });
        answer(&rulings.collect::<Vec<_>>())
    }
}

fn answer(rulings: &[Ruling]) -> Answer<SubscribeModifiers, SubscribeRefusal> {
    let all = |ruling| rulings.iter().all(|other| *other == ruling);
    if all(Ruling::Granted) {
        Answer::ok()
    } else if all(Ruling::Denied) {
        Answer::refuse()
    } else if all(Ruling::Silent) {
        Answer::Next
    } else {
        let grant = |ruling: &Ruling| match ruling {
            Ruling::Granted => FilterGrant::Grant,
            Ruling::Denied | Ruling::Silent => FilterGrant::Refuse(SubscribeCode::NotAuthorized),
        };
        Answer::Ok(SubscribeModifiers::default().filters(rulings.iter().map(grant).collect::<Vec<_>>()))
    }
}

/// The answer to a PUBLISH of either version.
#[inline]
fn published<M: Default, R: Default>(ruling: Ruling) -> Answer<M, R> {
    match ruling {
        Ruling::Granted => Answer::ok(),
        Ruling::Denied => Answer::refuse(),
        Ruling::Silent => Answer::Next,
    }
}

impl Hook for AclFile {
    type State = ();

    fn on_register(&mut self, cx: &mut Notice<'_, ()>) {
        self.connected(cx.client());
    }

    fn on_register_m5(&mut self, cx: &mut Notice<'_, ()>, _: &ConnectProperties<'_>) {
        self.connected(cx.client());
    }

    #[inline]
    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, ()>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        published(self.publish(cx.client(), publish.topic))
    }

    #[inline]
    fn auth_on_publish_m5(
        &mut self,
        cx: &mut Context<'_, ()>,
        publish: &PublishRequestM5<'_>,
    ) -> Answer<PublishModifiersM5, PublishRefusalM5> {
        published(self.publish(cx.client(), publish.topic))
    }

    fn auth_on_subscribe(
        &mut self,
        cx: &mut Context<'_, ()>,
        subscribe: &SubscribeRequest<'_>,
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        self.subscribe(cx.client(), subscribe.filters)
    }

    fn auth_on_subscribe_m5(
        &mut self,
        cx: &mut Context<'_, ()>,
        subscribe: &SubscribeRequestM5<'_>,
    ) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5> {
        self.subscribe(cx.client(), subscribe.filters).convert()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{ProtocolVersion, SubscriptionOptions};
    use crate::hooks::tests::{PUBLISH, client};
    use crate::hooks::{Chain, NoHooks, Verdict};

    fn link() -> AclFile {
        AclFile::new(Live::fixed(AclRules::parse("topic a/#\ndeny a/no\n").unwrap()))
    }

    #[test]
    fn a_publish_is_granted_denied_or_left_to_others() {
        let (mut chain, client) = (NoHooks.hook(link()), client(ProtocolVersion::V311));
        let mut ask =
            |topic| chain.auth_on_publish(0, &client, &mut Default::default(), &PublishRequest { topic, ..PUBLISH });
        assert!(matches!(ask("a/b"), Verdict::Ok(_)));
        assert!(matches!(ask("a/no"), Verdict::Refused(PublishRefusal)));
        assert!(matches!(ask("b"), Verdict::Exhausted));
    }

    #[test]
    fn a_subscribe_is_answered_filter_by_filter_if_they_differ() {
        let (mut chain, client) = (NoHooks.hook(link()), client(ProtocolVersion::V5));
        let mut ask = |filters: &[&'static str]| {
            let requested = |filter: &&'static str| RequestedFilter { filter, options: SubscriptionOptions::default() };
            let filters: Vec<_> = filters.iter().map(requested).collect();
            let subscribe =
                SubscribeRequestM5 { filters: &filters, subscription_id: None, user_properties: Default::default() };
            chain.auth_on_subscribe_m5(0, &client, &mut Default::default(), &subscribe)
        };
        let Verdict::Ok(modifiers) = ask(&["a/b", "$share/g/a/+/b"]) else { panic!("granted") };
        assert_eq!(modifiers.filters, None);
        assert!(
            matches!(ask(&["a/no", "a/#"]), Verdict::Refused(SubscribeRefusalM5 { code }) if code == SubscribeCode::NotAuthorized)
        );
        assert!(matches!(ask(&["b", "c/#"]), Verdict::Exhausted));
        let refuse = FilterGrant::Refuse(SubscribeCode::NotAuthorized);
        for (filters, grants) in [
            (["a/b", "b"], [FilterGrant::Grant, refuse.clone()]),
            (["a/no", "a/b"], [refuse.clone(), FilterGrant::Grant]),
            (["a/no", "b"], [refuse.clone(), refuse.clone()]),
        ] {
            let Verdict::Ok(modifiers) = ask(&filters) else { panic!("an answer for each of {filters:?}") };
            assert_eq!(modifiers.filters, Some(grants.to_vec()), "{filters:?}");
        }
    }
}
