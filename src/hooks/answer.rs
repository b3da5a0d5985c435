//! What a hook answers, now or later.
//!
//! A hook answers with an [`Answer`], or with a [`DeliverAnswer`], which cannot wait. A later answer may be made of what its
//! future resolved to and of the state of the link: see [`Context::later`](super::Context::later). Which type that state has
//! is known where the answer is begun and where it arrives, and not on the way.

use std::any::{Any, type_name};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use super::tally::Outcome;

/// An answer that is not known yet: made by [`Answer::later`] or [`Context::later`](super::Context::later). It runs on the
/// shard of the client, so it need not be [`Send`]; it must not block.
pub struct Later<M, R>(Pin<Box<dyn Future<Output = Resolved<M, R>>>>);

/// What the future of a later answer resolved to.
pub(super) enum Resolved<M, R> {
    /// The answer.
    Answer(Answer<M, R>),
    /// What makes the answer, with the state of the link.
    Unfinished(Finish<M, R>),
}

/// Makes an answer with the state of the link that was asked.
pub(super) type Finish<M, R> = Box<dyn FnOnce(&mut dyn Any) -> Answer<M, R>>;

/// What a conditional hook answers: `M` are the modifiers of its *Ok*, `R` is its refusal.
#[must_use]
pub enum Answer<M, R> {
    /// Yes, with these modifiers; links that follow are not asked.
    Ok(M),
    /// No; links that follow are not asked.
    Error(R),
    /// This link has no opinion: ask the following one. When every link says so, the answer is no.
    Next,
    /// The answer comes when this future resolves: [`Answer::later`], or [`Context::later`](super::Context::later) if it has to do
    /// with the state of the session. Until then the broker reads nothing more from this client, and goes
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
    /// the arguments first. If the answer is to read or write the state of the session, begin it with
    /// [`Context::later`](super::Context::later).
    pub fn later(future: impl Future<Output = Answer<M, R>> + 'static) -> Self {
        Answer::Later(Later(Box::pin(async { Resolved::Answer(future.await) })))
    }

    /// What the default methods of [`Hook`](super::Hook) answer.
    #[doc(hidden)]
    #[inline(always)]
    pub fn absent() -> Self {
        Answer::Absent
    }

    /// A later answer that `map` makes another one of.
    #[cfg(feature = "stock")]
    pub(crate) fn mapped(later: Later<M, R>, map: fn(Self) -> Self) -> Self
    where
        M: 'static,
        R: 'static,
    {
        Answer::Later(later.map(map))
    }

    /// The answer of a link that keeps an `S`, as that of one that keeps a `T` with that `S` in it.
    pub(super) fn of_part<S: 'static, T: 'static>(self, part: fn(&mut T) -> &mut S) -> Self
    where
        M: 'static,
        R: 'static,
    {
        match self {
            Answer::Later(later) => Answer::Later(later.of_part(part)),
            now => now,
        }
    }

    /// What is counted of an answer that is settled.
    pub(super) fn outcome(&self) -> Outcome {
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
            Answer::Later(later) => Answer::Later(later.map(Answer::convert)),
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

impl<M: 'static, R: 'static> Later<M, R> {
    /// The answer that `finish` makes of what `future` resolved to, and of the state of the link.
    pub(super) fn finished_with<S, T>(
        future: impl Future<Output = T> + 'static,
        finish: impl FnOnce(&mut S, T) -> Answer<M, R> + 'static,
    ) -> Self
    where
        S: 'static,
        T: 'static,
    {
        Later(Box::pin(async {
            let found = future.await;
            let finish = move |state: &mut dyn Any| finish(typed(state), found);
            Resolved::Unfinished(Box::new(finish))
        }))
    }

    /// The answer that `map` makes of this one.
    fn map<M2: 'static, R2: 'static>(self, map: fn(Answer<M, R>) -> Answer<M2, R2>) -> Later<M2, R2> {
        Later(Box::pin(Mapped { later: self, map }))
    }

    fn of_part<S: 'static, T: 'static>(self, part: fn(&mut T) -> &mut S) -> Self {
        Later(Box::pin(async move {
            match self.0.await {
                Resolved::Answer(answer) => Resolved::Answer(answer.of_part(part)),
                Resolved::Unfinished(finish) => {
                    Resolved::Unfinished(Box::new(move |state: &mut dyn Any| finish(part(typed(state))).of_part(part)))
                }
            }
        }))
    }
}

impl<M, R> Later<M, R> {
    /// The future that is to be run.
    pub(super) fn into_future(self) -> Pin<Box<dyn Future<Output = Resolved<M, R>>>> {
        self.0
    }
}

impl<M, R> fmt::Debug for Later<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

/// The state of a link, which is an `S`.
///
/// # Panics
///
/// It is not: a link gave the answer of another one as its own, without [`Context::part`](super::Context::part).
fn typed<S: 'static>(state: &mut dyn Any) -> &mut S {
    let Some(state) = state.downcast_mut() else {
        panic!("a later answer is made with {}, which is not the state of the link that gave it", type_name::<S>());
    };
    state
}

/// A later answer on its way into the words of another version.
struct Mapped<M, R, M2, R2> {
    later: Later<M, R>,
    map: fn(Answer<M, R>) -> Answer<M2, R2>,
}

impl<M: 'static, R: 'static, M2: 'static, R2: 'static> Future for Mapped<M, R, M2, R2> {
    type Output = Resolved<M2, R2>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let map = self.map;
        self.later.0.as_mut().poll(cx).map(|resolved| match resolved {
            Resolved::Answer(answer) => Resolved::Answer(map(answer)),
            Resolved::Unfinished(finish) => Resolved::Unfinished(Box::new(move |state| map(finish(state)))),
        })
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
