//! The adapter that lets a link with v3 hooks serve v5 clients too.

use std::convert::Infallible;

use super::answer::{Answer, DeliverAnswer};
use super::context::{Context, Notice};
use super::deliver::{DeliverModifiers, DeliverModifiersM5, Delivery, DeliveryM5};
use super::hook::Hook;
use super::lifecycle::{DroppedMessage, OfflineMessage};
use super::publish::{
    PublishModifiers, PublishModifiersM5, PublishRefusal, PublishRefusalM5, PublishRequest, PublishRequestM5,
    Published, PublishedM5,
};
use super::register::{ConnectRefusal, ConnectRefusalM5, Register, RegisterM5, RegisterModifiers, RegisterModifiersM5};
use super::subscribe::{
    SubscribeModifiers, SubscribeModifiersM5, SubscribeRefusal, SubscribeRefusalM5, SubscribeRequest,
    SubscribeRequestM5, Subscribed, SubscribedM5, UnsubscribeModifiers, UnsubscribeModifiersM5, UnsubscribeRequest,
    UnsubscribeRequestM5, Unsubscribed,
};
use crate::client::{DropReason, EndReason, ExpiredReason};
use crate::codec::ConnectProperties;

/// Serves v5 clients with the v3 hooks of `H`; hooks of `H` that end in `_m5` are never called.
///
/// The v3 hook sees a v5 packet without its properties, clean start as clean session. Its modifiers mean the same for a
/// v5 client, and a clean session it asks for is a clean start with a session that ends with its connection. Its
/// refusals are told in the code that says the same: not authorised 0x87, invalid credentials 0x86, identifier rejected
/// 0x85, unavailable 0x88; a publish or subscription refused 0x87. Properties of a message stay as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct V3Only<H>(pub H);

/// Forwards hooks that versions share, and those of v3 clients, as they are.
macro_rules! forward {
    ($($hook:ident($cx:ident $(, $arg:ident: $Arg:ty)*) $(-> $Answer:ty)?;)*) => {
        $(
            #[inline]
            fn $hook(&mut self, cx: &mut $cx<'_, Self::State> $(, $arg: $Arg)*) $(-> $Answer)? {
                self.0.$hook(cx $(, $arg)*)
            }
        )*
    };
}

/// Serves an m5 hook with the v3 hook of the same question.
macro_rules! adapt {
    ($($m5:ident($arg:ident: $Arg:ty) -> $Answer:ty = $v3:ident;)*) => {
        $(
            #[inline]
            fn $m5(&mut self, cx: &mut Context<'_, Self::State>, $arg: $Arg) -> $Answer {
                self.0.$v3(cx, &$arg.without_properties()).convert()
            }
        )*
    };
}

impl<H: Hook> Hook for V3Only<H> {
    type State = H::State;
    const TIMED: bool = H::TIMED;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    #[inline(always)]
    fn is_timed(&self) -> bool {
        self.0.is_timed()
    }

    #[inline]
    fn state_version(&self) -> Option<u32> {
        self.0.state_version()
    }

    fn store_state(&self, state: &H::State, out: &mut Vec<u8>) {
        self.0.store_state(state, out);
    }

    fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<H::State> {
        self.0.restore_state(version, bytes)
    }

    forward! {
        auth_on_register(Context, register: &Register<'_>) -> Answer<RegisterModifiers, ConnectRefusal>;
        auth_on_publish(Context, publish: &PublishRequest<'_>) -> Answer<PublishModifiers, PublishRefusal>;
        auth_on_subscribe(Context, subscribe: &SubscribeRequest<'_>) -> Answer<SubscribeModifiers, SubscribeRefusal>;
        on_unsubscribe(Context, unsubscribe: &UnsubscribeRequest<'_>) -> Answer<UnsubscribeModifiers, Infallible>;
        on_deliver(Context, delivery: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers>;
        on_register(Notice);
        on_publish(Notice, published: &Published<'_>);
        on_subscribe(Notice, subscribed: &Subscribed<'_>);
        on_client_wakeup(Notice, session_present: bool);
        on_client_offline(Notice, reason: EndReason);
        on_client_gone(Notice, reason: EndReason);
        on_session_expired(Notice, reason: ExpiredReason);
        on_topic_unsubscribed(Notice, unsubscribed: Unsubscribed<'_>);
        on_offline_message(Notice, message: &OfflineMessage<'_>);
        on_message_drop(Notice, message: &DroppedMessage<'_>, reason: DropReason);
    }

    adapt! {
        auth_on_register_m5(register: &RegisterM5<'_>) -> Answer<RegisterModifiersM5, ConnectRefusalM5>
            = auth_on_register;
        auth_on_publish_m5(publish: &PublishRequestM5<'_>) -> Answer<PublishModifiersM5, PublishRefusalM5>
            = auth_on_publish;
        auth_on_subscribe_m5(subscribe: &SubscribeRequestM5<'_>) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5>
            = auth_on_subscribe;
        on_unsubscribe_m5(unsubscribe: &UnsubscribeRequestM5<'_>) -> Answer<UnsubscribeModifiersM5, Infallible>
            = on_unsubscribe;
        on_deliver_m5(delivery: &DeliveryM5<'_>) -> DeliverAnswer<DeliverModifiersM5> = on_deliver;
    }

    #[inline]
    fn on_register_m5(&mut self, cx: &mut Notice<'_, Self::State>, _: &ConnectProperties<'_>) {
        self.0.on_register(cx);
    }

    #[inline]
    fn on_publish_m5(&mut self, cx: &mut Notice<'_, Self::State>, published: &PublishedM5<'_>) {
        self.0.on_publish(cx, &published.without_properties());
    }

    #[inline]
    fn on_subscribe_m5(&mut self, cx: &mut Notice<'_, Self::State>, subscribed: &SubscribedM5<'_>) {
        self.0.on_subscribe(cx, &subscribed.without_properties());
    }
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::task::Poll;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::codec::{ProtocolVersion, PublishProperties, QoS, ReasonCode, SubscriptionOptions, UserProperties};
    use crate::hooks::tests::{PUBLISH, client, poll};
    use crate::hooks::{
        Chain, ConnectCode, Expiry, FilterGrant, HookAnswer, NoHooks, PendingAnswer, PublishCode, RequestedFilter,
        SubscribeCode, Verdict,
    };

    /// Written for v3 clients: refuses topics that begin with `no`, answers later for those that begin with `later`, and
    /// writes down the notifications it gets.
    struct Old;

    impl Hook for Old {
        type State = Vec<String>;

        fn auth_on_register(
            &mut self,
            _: &mut Context<'_, Self::State>,
            register: &Register<'_>,
        ) -> Answer<RegisterModifiers, ConnectRefusal> {
            assert!(register.clean_session);
            match register.password {
                Some(b"right") => Answer::Ok(RegisterModifiers::default().clean_session(true).username("u")),
                Some(_) => Answer::Error(ConnectRefusal::InvalidCredentials),
                None => Answer::Next,
            }
        }

        fn on_register(&mut self, cx: &mut Notice<'_, Self::State>) {
            cx.state().push("on_register".to_owned());
        }

        fn auth_on_publish(
            &mut self,
            _: &mut Context<'_, Self::State>,
            publish: &PublishRequest<'_>,
        ) -> Answer<PublishModifiers, PublishRefusal> {
            let modifiers = PublishModifiers::default().topic("x").throttle(Duration::from_millis(5));
            match publish.topic {
                "no" => Answer::refuse(),
                "later" => Answer::later(future::ready(Answer::Ok(modifiers))),
                _ => Answer::Ok(modifiers),
            }
        }

        fn on_publish(&mut self, cx: &mut Notice<'_, Self::State>, published: &Published<'_>) {
            cx.state().push(format!("on_publish {}", published.topic));
        }

        fn auth_on_subscribe(
            &mut self,
            _: &mut Context<'_, Self::State>,
            subscribe: &SubscribeRequest<'_>,
        ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
            match subscribe.filters[0].filter {
                "no" => Answer::refuse(),
                _ => Answer::Ok(SubscribeModifiers::default().filters([FilterGrant::GrantAt(QoS::AtMostOnce)])),
            }
        }

        fn on_subscribe(&mut self, cx: &mut Notice<'_, Self::State>, subscribed: &Subscribed<'_>) {
            cx.state().push(format!("on_subscribe {}", subscribed.filters[0].filter));
        }

        fn on_unsubscribe(
            &mut self,
            _: &mut Context<'_, Self::State>,
            _: &UnsubscribeRequest<'_>,
        ) -> Answer<UnsubscribeModifiers, Infallible> {
            Answer::Ok(UnsubscribeModifiers::default().filters(["y".to_owned()]))
        }

        fn on_deliver(
            &mut self,
            _: &mut Context<'_, Self::State>,
            _: &Delivery<'_>,
        ) -> DeliverAnswer<DeliverModifiers> {
            DeliverAnswer::Ok(DeliverModifiers::default().payload(Bytes::from_static(b"z")))
        }

        fn on_client_gone(&mut self, cx: &mut Notice<'_, Self::State>, _: EndReason) {
            cx.state().push("on_client_gone".to_owned());
        }

        fn on_publish_m5(&mut self, _: &mut Notice<'_, Self::State>, _: &PublishedM5<'_>) {
            unreachable!("m5 hooks of the adapted link are not called");
        }
    }

    fn publish<'a>(topic: &'a str, properties: &'a PublishProperties<'a>) -> PublishRequestM5<'a> {
        let PublishRequest { payload, qos, retain, is_will, .. } = PUBLISH;
        PublishRequestM5 { topic, payload, qos, retain, is_will, properties }
    }

    #[test]
    fn connecting_is_put_to_the_v3_hook() {
        let (mut chain, mut state, client) =
            (NoHooks.hook(V3Only(Old)), Default::default(), client(ProtocolVersion::V5));
        let properties = ConnectProperties::default();
        let mut register = |password| {
            let register =
                RegisterM5 { password, clean_start: true, keep_alive: 0, will: None, properties: &properties };
            chain.auth_on_register_m5(0, &client, &mut state, &register)
        };
        let Verdict::Ok(modifiers) = register(Some(&b"right"[..])) else { panic!("the password is right") };
        assert_eq!((modifiers.clean_start, modifiers.username.as_deref()), (Some(true), Some("u")));
        assert_eq!(modifiers.session_expiry_interval, Some(Expiry::After(Duration::ZERO)));
        let Verdict::Refused(refusal) = register(Some(b"wrong")) else { panic!("the password is wrong") };
        assert_eq!(refusal.code, Some(ConnectCode::BadUserNameOrPassword));
        assert!(matches!(register(None), Verdict::Exhausted));
    }

    #[test]
    fn refusals_say_the_same() {
        for (v3, code) in [
            (ConnectRefusal::NotAuthorized, ReasonCode::NotAuthorized),
            (ConnectRefusal::InvalidCredentials, ReasonCode::BadUserNameOrPassword),
            (ConnectRefusal::IdentifierRejected, ReasonCode::ClientIdentifierNotValid),
            (ConnectRefusal::Unavailable, ReasonCode::ServerUnavailable),
        ] {
            assert_eq!(ConnectRefusalM5::from(v3).code.map(ReasonCode::from), Some(code));
        }
        assert_eq!(PublishRefusalM5::from(PublishRefusal).code, PublishCode::NotAuthorized);
        assert_eq!(SubscribeRefusalM5::from(SubscribeRefusal).code, SubscribeCode::NotAuthorized);
    }

    #[test]
    fn publishing_is_put_to_the_v3_hook() {
        let (mut chain, mut state, client) =
            (NoHooks.hook(V3Only(Old)), Default::default(), client(ProtocolVersion::V5));
        let properties = PublishProperties::default();
        let mut ask = |topic| chain.auth_on_publish_m5(0, &client, &mut state, &publish(topic, &properties));
        let Verdict::Ok(modifiers) = ask("yes") else { panic!("allowed") };
        assert_eq!((modifiers.topic.as_deref(), modifiers.throttle), (Some("x"), Some(Duration::from_millis(5))));
        assert!(modifiers.properties.is_none(), "properties stay as they are");
        let Verdict::Refused(refusal) = ask("no") else { panic!("refused") };
        assert_eq!(refusal.code, PublishCode::NotAuthorized);
        let Verdict::Later(PendingAnswer { mut future, .. }) = ask("later") else { panic!("later") };
        let Poll::Ready(HookAnswer::PublishM5(Answer::Ok(modifiers))) = poll(&mut future) else { panic!("ready") };
        assert_eq!(modifiers.topic.as_deref(), Some("x"));
    }

    #[test]
    fn subscribing_and_delivering_are_put_to_the_v3_hooks() {
        let (mut chain, mut state, client) =
            (NoHooks.hook(V3Only(Old)), Default::default(), client(ProtocolVersion::V5));
        let user_properties = UserProperties::default();
        let mut ask = |filter| {
            let filters = &[RequestedFilter { filter, options: SubscriptionOptions::default() }];
            let subscribe = SubscribeRequestM5 { filters, subscription_id: Some(1), user_properties };
            chain.auth_on_subscribe_m5(0, &client, &mut state, &subscribe)
        };
        let Verdict::Ok(modifiers) = ask("yes") else { panic!("allowed") };
        assert_eq!(*modifiers.grant(0), FilterGrant::GrantAt(QoS::AtMostOnce));
        assert!(matches!(ask("no"), Verdict::Refused(SubscribeRefusalM5 { code: SubscribeCode::NotAuthorized })));

        let unsubscribe = UnsubscribeRequestM5 { filters: &["a"], user_properties };
        let Verdict::Ok(modifiers) = chain.on_unsubscribe_m5(0, &client, &mut state, &unsubscribe) else {
            panic!("rewritten")
        };
        assert_eq!(modifiers.filters, Some(vec!["y".to_owned()]));

        let PublishRequest { topic, payload, qos, retain, .. } = PUBLISH;
        let delivery = DeliveryM5 { topic, payload, qos, retain, properties: &[] };
        let modifiers = chain.on_deliver_m5(&client, &mut state, &delivery).expect("rewritten");
        assert_eq!((modifiers.payload.as_deref(), modifiers.topic.as_deref()), (Some(&b"z"[..]), None));
    }

    #[test]
    fn notifications_reach_the_v3_hooks() {
        let (mut chain, mut state, client) =
            (NoHooks.hook(V3Only(Old)), Default::default(), client(ProtocolVersion::V5));
        let _ = chain.on_register_m5(&client, &mut state, &ConnectProperties::default());
        let filters = &[RequestedFilter { filter: "a/#", options: SubscriptionOptions::default() }];
        let subscribed = SubscribedM5 { filters, subscription_id: None, user_properties: UserProperties::default() };
        let _ = chain.on_subscribe_m5(&client, &mut state, &subscribed);
        let PublishRequest { topic, payload, qos, retain, is_will } = PUBLISH;
        let properties = &PublishProperties::default();
        let published = PublishedM5 { mountpoint: "", topic, payload, qos, retain, is_will, properties };
        assert_eq!(chain.on_publish_m5(&client, &mut state, &published).failed(), 0);
        let _ = chain.on_client_gone(&client, &mut state, EndReason::ConnectionLost);
        assert_eq!(state.1, ["on_register", "on_subscribe a/#", "on_publish a/b", "on_client_gone"]);
    }
}
