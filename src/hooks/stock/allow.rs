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
