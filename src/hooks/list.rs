//! Every hook, once: the list from which the chain and its two ends are made.

/// Hands the list of hooks to the macro `$make`, in three groups:
///
/// * `conditional`: hooks that answer *Ok*, *Error*, *Next* or *Later*, with what *Ok* and *Error* carry and the
///   variant of `HookAnswer` that a later answer travels in;
/// * `rewriting`: hooks that answer now or not at all, with what *Ok* carries;
/// * `notifications`: hooks that answer nothing.
///
/// Types have their whole paths: whoever uses the list need not import them.
macro_rules! for_every_hook {
    ($make:ident) => {
        $make! {
            conditional {
                auth_on_register(register: &$crate::hooks::Register<'_>)
                    -> $crate::hooks::RegisterModifiers, $crate::hooks::ConnectRefusal as Register;
                auth_on_register_m5(register: &$crate::hooks::RegisterM5<'_>)
                    -> $crate::hooks::RegisterModifiersM5, $crate::hooks::ConnectRefusalM5 as RegisterM5;
                on_auth_m5(exchange: &$crate::hooks::AuthExchange<'_>)
                    -> $crate::hooks::AuthStep, $crate::hooks::ConnectRefusalM5 as Auth;
                auth_on_publish(publish: &$crate::hooks::PublishRequest<'_>)
                    -> $crate::hooks::PublishModifiers, $crate::hooks::PublishRefusal as Publish;
                auth_on_publish_m5(publish: &$crate::hooks::PublishRequestM5<'_>)
                    -> $crate::hooks::PublishModifiersM5, $crate::hooks::PublishRefusalM5 as PublishM5;
                auth_on_subscribe(subscribe: &$crate::hooks::SubscribeRequest<'_>)
                    -> $crate::hooks::SubscribeModifiers, $crate::hooks::SubscribeRefusal as Subscribe;
                auth_on_subscribe_m5(subscribe: &$crate::hooks::SubscribeRequestM5<'_>)
                    -> $crate::hooks::SubscribeModifiersM5, $crate::hooks::SubscribeRefusalM5 as SubscribeM5;
                on_unsubscribe(unsubscribe: &$crate::hooks::UnsubscribeRequest<'_>)
                    -> $crate::hooks::UnsubscribeModifiers, std::convert::Infallible as Unsubscribe;
                on_unsubscribe_m5(unsubscribe: &$crate::hooks::UnsubscribeRequestM5<'_>)
                    -> $crate::hooks::UnsubscribeModifiersM5, std::convert::Infallible as UnsubscribeM5;
            }
            rewriting {
                on_deliver(delivery: &$crate::hooks::Delivery<'_>) -> $crate::hooks::DeliverModifiers;
                on_deliver_m5(delivery: &$crate::hooks::DeliveryM5<'_>) -> $crate::hooks::DeliverModifiersM5;
            }
            notifications {
                on_register();
                on_register_m5(properties: &$crate::codec::ConnectProperties<'_>);
                on_client_wakeup(session_present: bool);
                on_client_offline(reason: $crate::client::EndReason);
                on_client_gone(reason: $crate::client::EndReason);
                on_session_expired(reason: $crate::client::ExpiredReason);
                on_publish(published: &$crate::hooks::Published<'_>);
                on_publish_m5(published: &$crate::hooks::PublishedM5<'_>);
                on_subscribe(subscribed: &$crate::hooks::Subscribed<'_>);
                on_subscribe_m5(subscribed: &$crate::hooks::SubscribedM5<'_>);
                on_topic_unsubscribed(unsubscribed: $crate::hooks::Unsubscribed<'_>);
                on_offline_message(message: &$crate::hooks::OfflineMessage<'_>);
                on_message_drop(message: &$crate::hooks::DroppedMessage<'_>, reason: $crate::client::DropReason);
            }
        }
    };
}

pub(super) use for_every_hook;
