//! The adapter that lets a link with v3 hooks serve v5 clients too.

use std::convert::Infallible;

use super::Hook;
use super::answer::{Answer, DeliverAnswer};
use super::context::{Context, Notice};
use super::deliver::{DeliverModifiers, DeliverModifiersM5, Delivery, DeliveryM5};
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

    fn name(&self) -> &'static str {
        self.0.name()
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
