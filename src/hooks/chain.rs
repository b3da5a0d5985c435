//! The chain: links asked and called in order, behind a barrier against panics.
//!
//! A chain is a type, [`NoHooks`] at one end and a [`Linked`] for every link, so the compiler sees through all of it: a
//! hook that no link has is no code at all. What a link does is not trusted: a panic is caught here, logged with the
//! names of link and hook, and told as a value. Nothing of a chain's is shared; every shard has its own.

use std::convert::Infallible;

use super::Hook;
use super::answer::{Answer, DeliverAnswer, HookAnswer, Notified, Verdict};
use super::auth::{AuthExchange, AuthStep};
use super::barrier::{LaterAnswer, Place, guard};
use super::context::{Context, Notice};
use super::deliver::{DeliverModifiers, DeliverModifiersM5, Delivery, DeliveryM5};
use super::lifecycle::{DroppedMessage, OfflineMessage};
use super::list::for_every_hook;
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
use crate::client::{Client, DropReason, EndReason, ExpiredReason};
use crate::codec::ConnectProperties;

/// The chain without links: whoever asks is told that nobody said yes, and nobody is notified.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

/// A chain with one more link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linked<Front, H> {
    front: Front,
    hook: H,
}

macro_rules! define_chain {
    (
        conditional { $($ask:ident($ask_arg:ident: $Ask:ty) -> $Modifiers:ty, $Refusal:ty as $variant:ident;)* }
        rewriting { $($rewrite:ident($rewrite_arg:ident: $Rewrite:ty) -> $Rewritten:ty;)* }
        notifications { $($tell:ident($($tell_arg:ident: $Tell:ty),*);)* }
    ) => {
        /// Links in the order they were put together, and how the broker calls them. Implemented by [`NoHooks`] and
        /// [`Linked`]; see [`Hook`] for when each hook is called.
        ///
        /// Conditional hooks take the number of the link to begin with: 0, or the one after a link that answered
        /// later and then *Next*. A link that begins with a later one than there is, asks nobody.
        pub trait Chain: Send + 'static {
            /// What all links together keep per session: a tuple of each link's [`Hook::State`], the first link's
            /// innermost.
            type State: Default + Send + 'static;

            /// How many links there are.
            const LEN: usize;

            /// The same chain with one more link, asked and called after those that are there.
            fn hook<H: Hook>(self, hook: H) -> Linked<Self, H>
            where
                Self: Sized,
            {
                Linked { front: self, hook }
            }

            $(
                #[doc = concat!("Asks the links for [`Hook::", stringify!($ask), "`].")]
                fn $ask(
                    &mut self,
                    from: usize,
                    client: &Client,
                    state: &mut Self::State,
                    $ask_arg: $Ask,
                ) -> Verdict<$Modifiers, $Refusal>;
            )*

            $(
                #[doc = concat!("Asks the links for [`Hook::", stringify!($rewrite), "`]. Nothing is: unchanged.")]
                fn $rewrite(
                    &mut self,
                    client: &Client,
                    state: &mut Self::State,
                    $rewrite_arg: $Rewrite,
                ) -> Option<$Rewritten>;
            )*

            $(
                #[doc = concat!("Calls every link's [`Hook::", stringify!($tell), "`].")]
                fn $tell(&mut self, client: &Client, state: &mut Self::State $(, $tell_arg: $Tell)*) -> Notified;
            )*
        }

        impl Chain for NoHooks {
            type State = ();
            const LEN: usize = 0;

            $(
                #[inline(always)]
                fn $ask(&mut self, _: usize, _: &Client, _: &mut (), _: $Ask) -> Verdict<$Modifiers, $Refusal> {
                    Verdict::Exhausted
                }
            )*

            $(
                #[inline(always)]
                fn $rewrite(&mut self, _: &Client, _: &mut (), _: $Rewrite) -> Option<$Rewritten> {
                    None
                }
            )*

            $(
                #[inline(always)]
                fn $tell(&mut self, _: &Client, _: &mut () $(, _: $Tell)*) -> Notified {
                    Notified::default()
                }
            )*
        }

        impl<Front: Chain, H: Hook> Chain for Linked<Front, H> {
            type State = (Front::State, H::State);
            const LEN: usize = Front::LEN + 1;

            $(
                #[inline]
                fn $ask(
                    &mut self,
                    from: usize,
                    client: &Client,
                    state: &mut Self::State,
                    $ask_arg: $Ask,
                ) -> Verdict<$Modifiers, $Refusal> {
                    if from < Front::LEN {
                        match self.front.$ask(from, client, &mut state.0, $ask_arg) {
                            Verdict::Exhausted => {}
                            verdict => return verdict,
                        }
                    }
                    if from > Front::LEN {
                        return Verdict::Exhausted;
                    }
                    let cx = &mut Context::new(client, &mut state.1);
                    match guard(|| self.hook.$ask(cx, $ask_arg)) {
                        Ok(Answer::Ok(modifiers)) => Verdict::Ok(modifiers),
                        Ok(Answer::Error(refusal)) => Verdict::Refused(refusal),
                        Ok(Answer::Next | Answer::Absent) => Verdict::Exhausted,
                        Ok(Answer::Later(future)) => {
                            let place = Place::of(stringify!($ask), &self.hook);
                            let future = Box::pin(LaterAnswer::new(future, place, HookAnswer::$variant));
                            Verdict::Later { link: Front::LEN, future }
                        }
                        Err(panic) => {
                            Place::of(stringify!($ask), &self.hook).report(panic);
                            Verdict::Failed { link: Front::LEN }
                        }
                    }
                }
            )*

            $(
                #[inline]
                fn $rewrite(
                    &mut self,
                    client: &Client,
                    state: &mut Self::State,
                    $rewrite_arg: $Rewrite,
                ) -> Option<$Rewritten> {
                    if let Some(modifiers) = self.front.$rewrite(client, &mut state.0, $rewrite_arg) {
                        return Some(modifiers);
                    }
                    let cx = &mut Context::new(client, &mut state.1);
                    match guard(|| self.hook.$rewrite(cx, $rewrite_arg)) {
                        Ok(DeliverAnswer::Ok(modifiers)) => Some(modifiers),
                        Ok(DeliverAnswer::Next | DeliverAnswer::Absent) => None,
                        Err(panic) => {
                            Place::of(stringify!($rewrite), &self.hook).report(panic);
                            Some(<$Rewritten>::default())
                        }
                    }
                }
            )*

            $(
                #[inline]
                fn $tell(&mut self, client: &Client, state: &mut Self::State $(, $tell_arg: $Tell)*) -> Notified {
                    let mut notified = self.front.$tell(client, &mut state.0 $(, $tell_arg)*);
                    let mut tasks = None;
                    let cx = &mut Notice::new(client, &mut state.1, &mut tasks);
                    match (guard(|| self.hook.$tell(cx $(, $tell_arg)*)), tasks) {
                        (Ok(()), None) => {}
                        (Ok(()), Some(tasks)) => notified.add_tasks(tasks, Place::of(stringify!($tell), &self.hook)),
                        (Err(panic), tasks) => {
                            notified.add_failed(panic, tasks, Place::of(stringify!($tell), &self.hook));
                        }
                    }
                    notified
                }
            )*
        }
    };
}

for_every_hook!(define_chain);
