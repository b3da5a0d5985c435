//! The chain: links asked and called in order, behind a barrier against panics.
//!
//! A chain is a type, [`NoHooks`] at one end and a [`Linked`] for every link, so the compiler sees through all of it: a
//! hook that no link has is no code at all. What a link does is not trusted: a panic is caught here, logged with the
//! names of link and hook, and told as a value. Every link counts what its hooks answer. Nothing of a chain's is shared;
//! every shard has its own.

use std::any::Any;
use std::cmp::Ordering;
use std::time::Duration;

use super::answer::{Answer, DeliverAnswer};
use super::barrier::{LaterAnswer, Place, guard};
use super::context::{Context, Notice};
use super::counts::LinkCounts;
use super::hook::Hook;
use super::list::for_every_hook;
use super::notified::Notified;
use super::stored_state::{StateWriter, StoredStates};
use super::tally::{HookClock, Outcome, Tallies};
use super::verdict::{HookAnswer, PendingAnswer, Verdict};
use crate::client::Client;

/// The chain without links: whoever asks is told that nobody said yes, and nobody is notified.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

/// A chain with one more link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linked<Front, H> {
    front: Front,
    hook: H,
    clock: HookClock,
    tallies: Tallies,
}

macro_rules! define_chain {
    (
        conditional { $($ask:ident($ask_arg:ident: $Ask:ty) -> $Modifiers:ty, $Refusal:ty as $variant:ident;)* }
        rewriting { $($rewrite:ident($rewrite_arg:ident: $Rewrite:ty) -> $Rewritten:ty;)* }
        notifications { $($tell:ident($($tell_arg:ident: $Tell:ty),*);)* }
    ) => {
        /// Links in the order they were put together. Implemented by [`NoHooks`] and [`Linked`]; see [`Hook`] for when each hook is
        /// called.
        // Conditional hooks take the number of the link to begin with: 0, or the one after a link that answered later and then *Next*.
        // With a number behind the last one nobody is asked.
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
                Linked { front: self, hook, clock: HookClock::default(), tallies: Tallies::default() }
            }

            /// The clock by which answers given now are timed, for links that want it; without one they take no time.
            #[doc(hidden)]
            fn time_by(&mut self, clock: HookClock);

            /// Counts what became of a later answer, or of a task of a notification: of `hook` of the link at this place.
            #[doc(hidden)]
            fn settle(&mut self, link: usize, hook: &str, outcome: Outcome, waited: Duration);

            /// Adds for each link, in order, what it is called and what it counted.
            #[doc(hidden)]
            fn counts(&self, into: &mut Vec<LinkCounts>);

            /// What the link at this place keeps of `state`: its [`Hook::State`]. None if there is no such link.
            #[doc(hidden)]
            fn state_of(link: usize, state: &mut Self::State) -> Option<&mut dyn Any>;

            /// Whether any link stores what it keeps.
            #[doc(hidden)]
            fn stores_state(&self) -> bool;

            /// Has the links write what they keep.
            #[doc(hidden)]
            fn store_state(&self, state: &Self::State, into: &mut StateWriter);

            /// Gives the links what they kept.
            #[doc(hidden)]
            fn restore_state(&self, stored: &mut StoredStates<'_>, state: &mut Self::State);

            $(
                #[doc = concat!("Asks the links for [`Hook::", stringify!($ask), "`].")]
                #[doc(hidden)]
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
                #[doc(hidden)]
                fn $rewrite(
                    &mut self,
                    client: &Client,
                    state: &mut Self::State,
                    $rewrite_arg: $Rewrite,
                ) -> Option<$Rewritten>;
            )*

            $(
                #[doc = concat!("Calls every link's [`Hook::", stringify!($tell), "`].")]
                #[doc(hidden)]
                fn $tell(&mut self, client: &Client, state: &mut Self::State $(, $tell_arg: $Tell)*) -> Notified;
            )*
        }

        impl Chain for NoHooks {
            type State = ();
            const LEN: usize = 0;

            fn time_by(&mut self, _: HookClock) {}

            fn settle(&mut self, _: usize, _: &str, _: Outcome, _: Duration) {}

            fn counts(&self, _: &mut Vec<LinkCounts>) {}

            fn state_of(_: usize, _: &mut ()) -> Option<&mut dyn Any> {
                None
            }

            #[inline(always)]
            fn stores_state(&self) -> bool {
                false
            }

            fn store_state(&self, (): &(), _: &mut StateWriter) {}

            fn restore_state(&self, _: &mut StoredStates<'_>, (): &mut ()) {}

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

            fn time_by(&mut self, clock: HookClock) {
                self.clock = clock;
                self.front.time_by(clock);
            }

            fn settle(&mut self, link: usize, hook: &str, outcome: Outcome, waited: Duration) {
                if link < Front::LEN {
                    self.front.settle(link, hook, outcome, waited);
                } else if link == Front::LEN
                    && let Some(tally) = self.tallies.of(hook)
                {
                    tally.settle(outcome, waited);
                }
            }

            fn counts(&self, into: &mut Vec<LinkCounts>) {
                self.front.counts(into);
                let (position, counts) = (Front::LEN, self.tallies.counts());
                match self.hook.parts(&counts) {
                    None => into.push(LinkCounts { position, name: Place::of("counts", &self.hook).link(), counts }),
                    Some(parts) => {
                        into.extend(parts.into_iter().map(|(name, counts)| LinkCounts { position, name, counts }));
                    }
                }
            }

            fn state_of(link: usize, state: &mut Self::State) -> Option<&mut dyn Any> {
                match link.cmp(&Front::LEN) {
                    Ordering::Less => Front::state_of(link, &mut state.0),
                    Ordering::Equal => Some(&mut state.1),
                    Ordering::Greater => None,
                }
            }

            #[inline]
            fn stores_state(&self) -> bool {
                self.front.stores_state() || self.hook.state_version().is_some()
            }

            fn store_state(&self, state: &Self::State, into: &mut StateWriter) {
                self.front.store_state(&state.0, into);
                let Some(version) = self.hook.state_version() else { return };
                let place = Place::of("store_state", &self.hook);
                into.add(place.link(), version, |out| {
                    guard(|| self.hook.store_state(&state.1, out)).map_err(|panic| place.report(panic)).is_ok()
                });
            }

            fn restore_state(&self, stored: &mut StoredStates<'_>, state: &mut Self::State) {
                self.front.restore_state(stored, &mut state.0);
                if self.hook.state_version().is_none() {
                    return;
                }
                let place = Place::of("restore_state", &self.hook);
                let restored = stored.take(place.link()).and_then(|(version, bytes)| {
                    let restored = guard(|| self.hook.restore_state(version, bytes));
                    restored.unwrap_or_else(|panic| {
                        place.report(panic);
                        None
                    })
                });
                stored.count(restored.is_some());
                if let Some(restored) = restored {
                    state.1 = restored;
                }
            }

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
                    let tally = &mut self.tallies.$ask;
                    let stopwatch = tally.begin(H::TIMED && self.hook.is_timed(), self.clock);
                    let cx = &mut Context::new(client, &mut state.1);
                    match guard(|| self.hook.$ask(cx, $ask_arg)) {
                        Ok(Answer::Absent) => Verdict::Exhausted,
                        Ok(Answer::Next) => {
                            tally.answered(Outcome::Next, stopwatch);
                            Verdict::Exhausted
                        }
                        Ok(Answer::Ok(modifiers)) => {
                            tally.answered(Outcome::Ok, stopwatch);
                            Verdict::Ok(modifiers)
                        }
                        Ok(Answer::Error(refusal)) => {
                            tally.answered(Outcome::Refused, stopwatch);
                            Verdict::Refused(refusal)
                        }
                        Ok(Answer::Later(later)) => {
                            tally.put_off(stopwatch);
                            let place = Place::of(stringify!($ask), &self.hook);
                            let future = Box::pin(LaterAnswer::new(later, place, HookAnswer::$variant));
                            Verdict::Later(PendingAnswer { hook: stringify!($ask), link: Front::LEN, future })
                        }
                        Err(panic) => {
                            tally.answered(Outcome::Panicked, stopwatch);
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
                    let tally = &mut self.tallies.$rewrite;
                    let stopwatch = tally.begin(H::TIMED && self.hook.is_timed(), self.clock);
                    let cx = &mut Context::new(client, &mut state.1);
                    match guard(|| self.hook.$rewrite(cx, $rewrite_arg)) {
                        Ok(DeliverAnswer::Absent) => None,
                        Ok(DeliverAnswer::Next) => {
                            tally.answered(Outcome::Next, stopwatch);
                            None
                        }
                        Ok(DeliverAnswer::Ok(modifiers)) => {
                            tally.answered(Outcome::Ok, stopwatch);
                            Some(modifiers)
                        }
                        Err(panic) => {
                            tally.answered(Outcome::Panicked, stopwatch);
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
                    let tally = &mut self.tallies.$tell;
                    let stopwatch = tally.begin(H::TIMED && self.hook.is_timed(), self.clock);
                    let mut cx = Notice::new(client, &mut state.1);
                    match guard(|| self.hook.$tell(&mut cx $(, $tell_arg)*)) {
                        Ok(()) if cx.is_absent() => {}
                        Ok(()) => {
                            if cx.has_state_changed() {
                                notified.state_changed();
                            }
                            match cx.into_tasks() {
                                None => tally.answered(Outcome::Ok, stopwatch),
                                Some(tasks) => {
                                    tally.put_off(stopwatch);
                                    let place = Place::of(stringify!($tell), &self.hook);
                                    notified.add_tasks(Front::LEN, tasks, place);
                                }
                            }
                        }
                        Err(panic) => {
                            tally.answered(Outcome::Panicked, stopwatch);
                            let place = Place::of(stringify!($tell), &self.hook);
                            notified.add_failed(panic, cx.into_tasks(), place);
                        }
                    }
                    notified
                }
            )*
        }
    };
}

for_every_hook!(define_chain);
