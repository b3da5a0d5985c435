//! Every hook, once: the list from which the chain and its two ends are made.

/// Hands the list of hooks to the macro `$make`, in three groups:
///
/// * `conditional`: hooks that answer *Ok*, *Error*, *Next* or *Later*, with what *Ok* and *Error* carry and the
///   variant of `HookAnswer` that a later answer travels in;
/// * `rewriting`: hooks that answer now or not at all, with what *Ok* carries;
/// * `notifications`: hooks that answer nothing.
macro_rules! for_every_hook {
    ($make:ident) => {
        $make! {
            conditional {
                auth_on_register(register: &Register<'_>) -> RegisterModifiers, ConnectRefusal as Register;
                auth_on_register_m5(register: &RegisterM5<'_>) -> RegisterModifiersM5, ConnectRefusalM5 as RegisterM5;
                on_auth_m5(exchange: &AuthExchange<'_>) -> AuthStep, ConnectRefusalM5 as Auth;
                auth_on_publish(publish: &PublishRequest<'_>) -> PublishModifiers, PublishRefusal as Publish;
                auth_on_publish_m5(publish: &PublishRequestM5<'_>)
                    -> PublishModifiersM5, PublishRefusalM5 as PublishM5;
                auth_on_subscribe(subscribe: &SubscribeRequest<'_>)
                    -> SubscribeModifiers, SubscribeRefusal as Subscribe;
                auth_on_subscribe_m5(subscribe: &SubscribeRequestM5<'_>)
                    -> SubscribeModifiersM5, SubscribeRefusalM5 as SubscribeM5;
                on_unsubscribe(unsubscribe: &UnsubscribeRequest<'_>)
                    -> UnsubscribeModifiers, Infallible as Unsubscribe;
                on_unsubscribe_m5(unsubscribe: &UnsubscribeRequestM5<'_>)
                    -> UnsubscribeModifiersM5, Infallible as UnsubscribeM5;
            }
            rewriting {
                on_deliver(delivery: &Delivery<'_>) -> DeliverModifiers;
                on_deliver_m5(delivery: &DeliveryM5<'_>) -> DeliverModifiersM5;
            }
            notifications {
                on_register();
                on_register_m5(properties: &ConnectProperties<'_>);
                on_client_wakeup(session_present: bool);
                on_client_offline(reason: EndReason);
                on_client_gone(reason: EndReason);
                on_session_expired(reason: ExpiredReason);
                on_publish(published: &Published<'_>);
                on_publish_m5(published: &PublishedM5<'_>);
                on_subscribe(subscribed: &Subscribed<'_>);
                on_subscribe_m5(subscribed: &SubscribedM5<'_>);
                on_topic_unsubscribed(unsubscribed: Unsubscribed<'_>);
                on_offline_message(message: &OfflineMessage<'_>);
                on_message_drop(message: &DroppedMessage<'_>, reason: DropReason);
            }
        }
    };
}

pub(super) use for_every_hook;
