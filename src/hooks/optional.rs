//! A link that is there or not, as is decided when the program runs.

use super::answer::{Answer, DeliverAnswer};
use super::context::{Context, Notice};
use super::counts::CountsByHook;
use super::hook::Hook;
use super::list::for_every_hook;

macro_rules! define_optional {
    (
        conditional { $($ask:ident($ask_arg:ident: $Ask:ty) -> $Modifiers:ty, $Refusal:ty as $variant:ident;)* }
        rewriting { $($rewrite:ident($rewrite_arg:ident: $Rewrite:ty) -> $Rewritten:ty;)* }
        notifications { $($tell:ident($($tell_arg:ident: $Tell:ty),*);)* }
    ) => {
        /// A link that the configuration of a program turns on or off. Where it is `None`, the chain is as if it had no such
        /// link. One of several is chosen with
        /// [`Boxed`](super::Boxed), or, if what they keep for a session differs, with an `Option` of each.
        impl<H: Hook> Hook for Option<H> {
            type State = H::State;
            const TIMED: bool = H::TIMED;

            fn name(&self) -> &'static str {
                self.as_ref().map_or("(none)", H::name)
            }

            #[inline(always)]
            fn is_timed(&self) -> bool {
                self.as_ref().is_some_and(H::is_timed)
            }

            fn parts(&self, counted: &CountsByHook) -> Option<Vec<(&'static str, CountsByHook)>> {
                self.as_ref()?.parts(counted)
            }

            #[inline]
            fn state_version(&self) -> Option<u32> {
                self.as_ref()?.state_version()
            }

            fn store_state(&self, state: &H::State, out: &mut Vec<u8>) {
                if let Some(hook) = self {
                    hook.store_state(state, out);
                }
            }

            fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<H::State> {
                self.as_ref()?.restore_state(version, bytes)
            }

            $(
                #[inline]
                fn $ask(&mut self, cx: &mut Context<'_, H::State>, $ask_arg: $Ask) -> Answer<$Modifiers, $Refusal> {
                    match self {
                        Some(hook) => hook.$ask(cx, $ask_arg),
                        None => Answer::absent(),
                    }
                }
            )*

            $(
                #[inline]
                fn $rewrite(
                    &mut self,
                    cx: &mut Context<'_, H::State>,
                    $rewrite_arg: $Rewrite,
                ) -> DeliverAnswer<$Rewritten> {
                    match self {
                        Some(hook) => hook.$rewrite(cx, $rewrite_arg),
                        None => DeliverAnswer::absent(),
                    }
                }
            )*

            $(
                #[inline]
                fn $tell(&mut self, cx: &mut Notice<'_, H::State> $(, $tell_arg: $Tell)*) {
                    match self {
                        Some(hook) => hook.$tell(cx $(, $tell_arg)*),
                        None => cx.absent(),
                    }
                }
            )*
        }
    };
}

for_every_hook!(define_optional);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, EndReason};
    use crate::codec::ProtocolVersion;
    use crate::hooks::counts::LinkCounts;
    use crate::hooks::{
        Chain, ConnectRefusal, DeliverModifiers, Delivery, NoHooks, Register, RegisterModifiers, Verdict,
    };

    struct Yes;

    impl Hook for Yes {
        type State = u32;

        fn auth_on_register(
            &mut self,
            _: &mut Context<'_, u32>,
            _: &Register<'_>,
        ) -> Answer<RegisterModifiers, ConnectRefusal> {
            Answer::ok()
        }

        fn on_client_gone(&mut self, cx: &mut Notice<'_, u32>, _: EndReason) {
            *cx.state() += 1;
        }

        fn on_deliver(&mut self, _: &mut Context<'_, u32>, _: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
            DeliverAnswer::Ok(DeliverModifiers::default().topic("other"))
        }
    }

    #[test]
    fn a_link_that_is_not_there_is_none() {
        let client = Client::new("c", ProtocolVersion::V311);
        for is_there in [true, false] {
            let (mut chain, mut state) = (NoHooks.hook(is_there.then_some(Yes)), ((), 0));
            let asked = chain.auth_on_register(0, &client, &mut state, &Register::default());
            assert_eq!(matches!(asked, Verdict::Ok(_)), is_there);
            let delivery = Delivery { topic: "t", payload: b"", qos: Default::default(), retain: false };
            assert_eq!(chain.on_deliver(&client, &mut state, &delivery).is_some(), is_there);
            let _ = chain.on_client_gone(&client, &mut state, EndReason::ConnectionLost);
            assert_eq!(state.1, u32::from(is_there));
            let mut counts = Vec::new();
            chain.counts(&mut counts);
            let [LinkCounts { position: 0, name, counts }] = &counts[..] else { panic!("one link") };
            assert_eq!((*name, counts.len()), if is_there { ("Yes", 3) } else { ("(none)", 0) });
        }
    }
}
