//! What a hook answers, and what a chain makes of the answers of its links.
//!
//! A hook answers with an [`Answer`] (or a [`DeliverAnswer`], which cannot wait). The chain turns the answers into one
//! [`Verdict`] for the core. An answer that comes later travels as a [`HookFuture`], whatever hook it belongs to, and
//! comes back as a [`HookAnswer`]. Nothing here runs a future: that is the runtime's work.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use super::auth::AuthStep;
use super::publish::{PublishModifiers, PublishModifiersM5, PublishRefusal, PublishRefusalM5};
use super::register::{ConnectRefusal, ConnectRefusalM5, RegisterModifiers, RegisterModifiersM5};
use super::subscribe::{
    SubscribeModifiers, SubscribeModifiersM5, SubscribeRefusal, SubscribeRefusalM5, UnsubscribeModifiers,
    UnsubscribeModifiersM5,
};
use super::tally::Outcome;

/// An answer that is not known yet. It runs on the shard of the client, so it need not be [`Send`]; it must not block.
pub type Later<M, R> = Pin<Box<dyn Future<Output = Answer<M, R>>>>;

/// What a conditional hook answers: `M` are the modifiers of its *Ok*, `R` is its refusal.
#[must_use]
pub enum Answer<M, R> {
    /// Yes, with these modifiers; links that follow are not asked.
    Ok(M),
    /// No; links that follow are not asked.
    Error(R),
    /// This link has no opinion: ask the following one. When every link says so, the answer is no.
    Next,
    /// The answer comes when this future resolves. Until then the broker reads nothing more from this client, and goes
    /// on in order afterwards. A deadline applies, after which the answer counts as [`Answer::Error`], or as an
    /// [`Answer::Ok`] without modifiers if the configuration says `on_deadline = "allow"`.
    Later(Later<M, R>),
    /// What the default methods answer: this link does not have the hook. Otherwise like [`Answer::Next`].
    #[doc(hidden)]
    Absent,
}

impl<M, R> Answer<M, R> {
    /// Yes, and change nothing.
    pub fn ok() -> Self
    where
        M: Default,
    {
        Answer::Ok(M::default())
    }

    /// No, for the usual reason: not authorised.
    pub fn refuse() -> Self
    where
        R: Default,
    {
        Answer::Error(R::default())
    }

    /// The answer comes when `future` resolves; see [`Answer::Later`]. The future owns what it needs: clone it out of
    /// the arguments first.
    pub fn later(future: impl Future<Output = Answer<M, R>> + 'static) -> Self {
        Answer::Later(Box::pin(future))
    }

    /// What the default methods of [`Hook`](super::Hook) answer.
    #[doc(hidden)]
    #[inline(always)]
    pub fn absent() -> Self {
        Answer::Absent
    }

    /// A later answer that `map` makes another one of.
    #[cfg(feature = "stock")]
    pub(crate) fn mapped(future: Later<M, R>, map: fn(Self) -> Self) -> Self
    where
        M: 'static,
        R: 'static,
    {
        Answer::Later(Box::pin(Mapped { future, map }))
    }

    /// What is counted of an answer that is settled.
    fn outcome(&self) -> Outcome {
        match self {
            Answer::Ok(_) => Outcome::Ok,
            Answer::Error(_) => Outcome::Refused,
            Answer::Next | Answer::Later(_) | Answer::Absent => Outcome::Next,
        }
    }

    /// The same answer in the words of another version: v3 modifiers and refusals become m5 ones.
    #[inline]
    pub fn convert<M5, R5>(self) -> Answer<M5, R5>
    where
        M: 'static,
        R: 'static,
        M5: From<M> + 'static,
        R5: From<R> + 'static,
    {
        match self {
            Answer::Ok(modifiers) => Answer::Ok(modifiers.into()),
            Answer::Error(refusal) => Answer::Error(refusal.into()),
            Answer::Next => Answer::Next,
            Answer::Later(future) => Answer::Later(Box::pin(Mapped { future, map: Answer::convert })),
            Answer::Absent => Answer::Absent,
        }
    }
}

impl<M: fmt::Debug, R: fmt::Debug> fmt::Debug for Answer<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Ok(modifiers) => f.debug_tuple("Ok").field(modifiers).finish(),
            Answer::Error(refusal) => f.debug_tuple("Error").field(refusal).finish(),
            Answer::Next => f.write_str("Next"),
            Answer::Later(_) => f.write_str("Later"),
            Answer::Absent => f.write_str("Absent"),
        }
    }
}

/// A later answer on its way into the words of another version.
struct Mapped<M, R, T> {
    future: Later<M, R>,
    map: fn(Answer<M, R>) -> T,
}

impl<M, R, T> Future for Mapped<M, R, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<T> {
        self.future.as_mut().poll(cx).map(self.map)
    }
}

/// What `on_deliver` and `on_deliver_m5` answer. There is no *later*, because an outgoing PUBLISH never waits, and no
/// refusal, because a delivery cannot be refused.
#[derive(Debug)]
#[must_use]
pub enum DeliverAnswer<M> {
    /// Deliver with these modifiers; links that follow are not asked.
    Ok(M),
    /// This link has no opinion: ask the following one. When every link says so, the message goes out unchanged.
    Next,
    /// What the default methods answer: this link does not have the hook. Otherwise like [`DeliverAnswer::Next`].
    #[doc(hidden)]
    Absent,
}

impl<M> DeliverAnswer<M> {
    /// Deliver unchanged, and ask no further link.
    pub fn ok() -> Self
    where
        M: Default,
    {
        DeliverAnswer::Ok(M::default())
    }

    /// What the default methods of [`Hook`](super::Hook) answer.
    #[doc(hidden)]
    #[inline(always)]
    pub fn absent() -> Self {
        DeliverAnswer::Absent
    }

    /// The same answer in the words of another version: v3 modifiers become m5 ones.
    #[inline]
    pub fn convert<M5: From<M>>(self) -> DeliverAnswer<M5> {
        match self {
            DeliverAnswer::Ok(modifiers) => DeliverAnswer::Ok(modifiers.into()),
            DeliverAnswer::Next => DeliverAnswer::Next,
            DeliverAnswer::Absent => DeliverAnswer::Absent,
        }
    }
}

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
    /// A notification has done what it wanted to do before the client goes on, or gave up.
    Notification,
    /// The future panicked; it has been logged. For a conditional hook it counts as a refusal.
    Failed,
    /// The shard says so of one that missed its deadline. For a conditional hook it counts as a refusal.
    TooLate,
}

impl HookAnswer {
    /// What is counted of it.
    pub fn outcome(&self) -> Outcome {
        match self {
            HookAnswer::Register(answer) => answer.outcome(),
            HookAnswer::RegisterM5(answer) => answer.outcome(),
            HookAnswer::Auth(answer) => answer.outcome(),
            HookAnswer::Publish(answer) => answer.outcome(),
            HookAnswer::PublishM5(answer) => answer.outcome(),
            HookAnswer::Subscribe(answer) => answer.outcome(),
            HookAnswer::SubscribeM5(answer) => answer.outcome(),
            HookAnswer::Unsubscribe(answer) => answer.outcome(),
            HookAnswer::UnsubscribeM5(answer) => answer.outcome(),
            HookAnswer::Notification => Outcome::Ok,
            HookAnswer::Failed => Outcome::Panicked,
            HookAnswer::TooLate => Outcome::TimedOut,
        }
    }
}
