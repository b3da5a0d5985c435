//! Links that have all hooks that a message calls and answer now, as somebody's rules might: each looks at its arguments, so that the
//! compiler has to bring them there.

use moormq::hooks::{
    Answer, Context, DeliverAnswer, DeliverModifiers, Delivery, Hook, Notice, PublishModifiers, PublishRefusal,
    PublishRequest, Published,
};

/// Leaves the decision to others.
#[derive(Clone, Default)]
pub struct Undecided {
    published: u64,
}

impl Hook for Undecided {
    type State = ();

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        if publish.topic.starts_with('!') { Answer::refuse() } else { Answer::Next }
    }

    fn on_publish(&mut self, _: &mut Notice<'_, ()>, published: &Published<'_>) {
        self.published += published.payload.len() as u64;
    }

    fn on_deliver(&mut self, _: &mut Context<'_, ()>, delivery: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
        if delivery.payload.is_empty() { DeliverAnswer::ok() } else { DeliverAnswer::Next }
    }
}

/// Agrees.
#[derive(Clone, Default)]
pub struct Agreeing {
    published: u64,
}

impl Hook for Agreeing {
    type State = ();

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        if publish.topic.starts_with('!') { Answer::refuse() } else { Answer::ok() }
    }

    fn on_publish(&mut self, _: &mut Notice<'_, ()>, published: &Published<'_>) {
        self.published += published.payload.len() as u64;
    }

    fn on_deliver(&mut self, _: &mut Context<'_, ()>, _: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
        DeliverAnswer::ok()
    }
}
