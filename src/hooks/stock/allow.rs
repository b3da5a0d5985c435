//! The link that lets every connected client publish and subscribe.

use crate::hooks::{
    Answer, Context, Hook, PublishModifiers, PublishModifiersM5, PublishRefusal, PublishRefusalM5, PublishRequest,
    PublishRequestM5, SubscribeModifiers, SubscribeModifiersM5, SubscribeRefusal, SubscribeRefusalM5, SubscribeRequest,
    SubscribeRequestM5,
};

/// Agrees to every publish, will and subscription that no link before it had an opinion on. It says nothing about who
/// may connect.
///
/// A chain without any link that authorises refuses all of them. An installation that only authenticates puts this one
/// last.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Hook for AllowAll {
    type State = ();

    #[inline]
    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        Answer::ok()
    }

    #[inline]
    fn auth_on_publish_m5(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &PublishRequestM5<'_>,
    ) -> Answer<PublishModifiersM5, PublishRefusalM5> {
        Answer::ok()
    }

    #[inline]
    fn auth_on_subscribe(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &SubscribeRequest<'_>,
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        Answer::ok()
    }

    #[inline]
    fn auth_on_subscribe_m5(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &SubscribeRequestM5<'_>,
    ) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5> {
        Answer::ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{ProtocolVersion, PublishProperties, UserProperties};
    use crate::hooks::tests::{PUBLISH, client};
    use crate::hooks::{Chain, NoHooks, Register, Verdict};

    #[test]
    fn it_authorises_and_does_not_authenticate() {
        let (mut chain, mut state) = (NoHooks.hook(AllowAll), ((), ()));
        let client = client(ProtocolVersion::V5);
        let PublishRequest { topic, payload, qos, retain, is_will } = PUBLISH;
        let publish =
            PublishRequestM5 { topic, payload, qos, retain, is_will, properties: &PublishProperties::default() };
        assert!(matches!(chain.auth_on_publish(0, &client, &mut state, &PUBLISH), Verdict::Ok(_)));
        assert!(matches!(chain.auth_on_publish_m5(0, &client, &mut state, &publish), Verdict::Ok(_)));

        let user_properties = UserProperties::default();
        let subscribe = SubscribeRequestM5 { filters: &[], subscription_id: None, user_properties };
        let v3 = subscribe.without_properties();
        assert!(matches!(chain.auth_on_subscribe(0, &client, &mut state, &v3), Verdict::Ok(_)));
        assert!(matches!(chain.auth_on_subscribe_m5(0, &client, &mut state, &subscribe), Verdict::Ok(_)));

        let register = Register { password: None, clean_session: true, keep_alive: 0, will: None };
        assert!(matches!(chain.auth_on_register(0, &client, &mut state, &register), Verdict::Exhausted));
    }
}
