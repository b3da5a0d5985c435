//! What a chain makes of the answers of its links, and how a later answer travels.
//!
//! The chain turns the answers into one [`Verdict`] for the core. An answer that comes later travels as a [`HookFuture`],
//! whatever hook it belongs to, and comes back as a [`HookAnswer`]. Nothing here runs a future: that is the runtime's work.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::answer::Answer;
use super::auth::AuthStep;
use super::publish::{PublishModifiers, PublishModifiersM5, PublishRefusal, PublishRefusalM5};
use super::register::{ConnectRefusal, ConnectRefusalM5, RegisterModifiers, RegisterModifiersM5};
use super::subscribe::{
    SubscribeModifiers, SubscribeModifiersM5, SubscribeRefusal, SubscribeRefusalM5, UnsubscribeModifiers,
    UnsubscribeModifiersM5,
};
use super::tally::Outcome;

/// What a chain made of the answers of its links to one conditional hook.
#[must_use]
pub enum Verdict<M, R> {
    /// A link said yes, with these modifiers.
    Ok(M),
    /// A link said no.
    Refused(R),
    /// Every link from the first one asked said *Next*, or there was none: a refusal with the hook's usual code.
    Exhausted,
    /// A link answers later. Run the future, read nothing more from the client meanwhile, and when it resolves to
    /// anything but yes or no, ask the chain again with `from = link + 1`.
    Later(PendingAnswer),
    /// A link panicked; it has been logged. The client is refused.
    Failed {
        /// The link that panicked.
        link: usize,
    },
    /// A link did not answer in time. What it was asked about is refused; a client that connects is told that the service is
    /// unavailable, so that it comes again.
    TooLate {
        /// The link that took too long.
        link: usize,
    },
}

impl<M, R> Verdict<M, R> {
    /// The same verdict in the words of another version: v3 modifiers and refusals become m5 ones. A later answer still
    /// resolves to the variant of the hook that was called; see [`Answer::convert`].
    #[inline]
    pub fn convert<M5: From<M>, R5: From<R>>(self) -> Verdict<M5, R5> {
        match self {
            Verdict::Ok(modifiers) => Verdict::Ok(modifiers.into()),
            Verdict::Refused(refusal) => Verdict::Refused(refusal.into()),
            Verdict::Exhausted => Verdict::Exhausted,
            Verdict::Later(pending) => Verdict::Later(pending),
            Verdict::Failed { link } => Verdict::Failed { link },
            Verdict::TooLate { link } => Verdict::TooLate { link },
        }
    }
}

impl<M: fmt::Debug, R: fmt::Debug> fmt::Debug for Verdict<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Ok(modifiers) => f.debug_tuple("Ok").field(modifiers).finish(),
            Verdict::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
            Verdict::Exhausted => f.write_str("Exhausted"),
            Verdict::Later(pending) => f.debug_tuple("Later").field(pending).finish(),
            Verdict::Failed { link } => f.debug_struct("Failed").field("link", link).finish(),
            Verdict::TooLate { link } => f.debug_struct("TooLate").field("link", link).finish(),
        }
    }
}

/// A hook of one link that has not answered yet, or a notification that is not done yet.
pub struct PendingAnswer {
    /// The name of the hook, as in [`Hook`](super::Hook).
    pub hook: &'static str,
    /// The place of the link in the chain.
    pub link: usize,
    /// Resolves to the [`HookAnswer`] variant of the hook, or to [`HookAnswer::Failed`].
    pub future: HookFuture,
}

impl fmt::Debug for PendingAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAnswer").field("hook", &self.hook).field("link", &self.link).finish_non_exhaustive()
    }
}

/// A later answer of any hook, on its way to the runtime. It never panics: a panic inside becomes
/// [`HookAnswer::Failed`], when it is polled and when it is dropped unfinished.
pub type HookFuture = Pin<Box<dyn Future<Output = HookAnswer>>>;

/// What a [`HookFuture`] resolved to, by hook.
///
/// The [`Answer`] inside is settled: *Ok*, *Error*, or else *Next* (a future that answers *Later* once more is followed
/// to its end before this is told).
#[derive(Debug)]
pub enum HookAnswer {
    /// Of `auth_on_register`.
    Register(Answer<RegisterModifiers, ConnectRefusal>),
    /// Of `auth_on_register_m5`.
    RegisterM5(Answer<RegisterModifiersM5, ConnectRefusalM5>),
    /// Of `on_auth_m5`.
    Auth(Answer<AuthStep, ConnectRefusalM5>),
    /// Of `auth_on_publish`.
    Publish(Answer<PublishModifiers, PublishRefusal>),
    /// Of `auth_on_publish_m5`.
    PublishM5(Answer<PublishModifiersM5, PublishRefusalM5>),
    /// Of `auth_on_subscribe`.
    Subscribe(Answer<SubscribeModifiers, SubscribeRefusal>),
    /// Of `auth_on_subscribe_m5`.
    SubscribeM5(Answer<SubscribeModifiersM5, SubscribeRefusalM5>),
    /// Of `on_unsubscribe`.
    Unsubscribe(Answer<UnsubscribeModifiers, Infallible>),
    /// Of `on_unsubscribe_m5`.
    UnsubscribeM5(Answer<UnsubscribeModifiersM5, Infallible>),
    /// Of a conditional hook: it is to be made with the state of the link.
    Unfinished(Unfinished),
    /// A notification has done what it wanted to do before the client goes on, or gave up.
    Notification,
    /// The future panicked; it has been logged. For a conditional hook it counts as a refusal.
    Failed,
    /// The shard says so of one that missed its deadline. For a conditional hook it counts as a refusal.
    TooLate,
}

impl HookAnswer {
    /// What is counted of it; none if that is not known before it is made.
    pub fn outcome(&self) -> Option<Outcome> {
        Some(match self {
            HookAnswer::Register(answer) => answer.outcome(),
            HookAnswer::RegisterM5(answer) => answer.outcome(),
            HookAnswer::Auth(answer) => answer.outcome(),
            HookAnswer::Publish(answer) => answer.outcome(),
            HookAnswer::PublishM5(answer) => answer.outcome(),
            HookAnswer::Subscribe(answer) => answer.outcome(),
            HookAnswer::SubscribeM5(answer) => answer.outcome(),
            HookAnswer::Unsubscribe(answer) => answer.outcome(),
            HookAnswer::UnsubscribeM5(answer) => answer.outcome(),
            HookAnswer::Unfinished(_) => return None,
            HookAnswer::Notification => Outcome::Ok,
            HookAnswer::Failed => Outcome::Panicked,
            HookAnswer::TooLate => Outcome::TimedOut,
        })
    }
}

/// An answer that is made when it is here, with the state of the link. If nobody waits for it any more, it is dropped.
pub struct Unfinished {
    hook: &'static str,
    finish: MakeAnswer,
}

/// Makes an answer, of any hook, with the state of the link.
type MakeAnswer = Box<dyn FnOnce(&mut dyn Any) -> Finished>;

/// What an [`Unfinished`] answer came to.
pub(super) enum Finished {
    /// The answer, settled.
    Answer(Box<HookAnswer>),
    /// It comes later still.
    Later(HookFuture),
}

impl Unfinished {
    /// An answer of `hook`. `finish` does not panic, and may be dropped at any time.
    pub(super) fn new(hook: &'static str, finish: impl FnOnce(&mut dyn Any) -> Finished + 'static) -> Self {
        Unfinished { hook, finish: Box::new(finish) }
    }

    /// The name of the hook.
    pub(super) fn hook(&self) -> &'static str {
        self.hook
    }

    /// Makes the answer, with the state of the link.
    pub(super) fn finish(self, state: &mut dyn Any) -> Finished {
        (self.finish)(state)
    }
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfinished").field("hook", &self.hook).finish_non_exhaustive()
    }
}
