//! A link whose type is chosen when the program runs.

use std::fmt;

use super::answer::{Answer, DeliverAnswer};
use super::context::{Context, Notice};
use super::counts::CountsByHook;
use super::hook::Hook;
use super::list::for_every_hook;

macro_rules! define_boxed {
    (
        conditional { $($ask:ident($ask_arg:ident: $Ask:ty) -> $Modifiers:ty, $Refusal:ty as $variant:ident;)* }
        rewriting { $($rewrite:ident($rewrite_arg:ident: $Rewrite:ty) -> $Rewritten:ty;)* }
        notifications { $($tell:ident($($tell_arg:ident: $Tell:ty),*);)* }
    ) => {
        /// A [`Hook`] behind a pointer: all of it but its constant.
        trait Link<S>: Send {
            fn boxed_clone(&self) -> Box<dyn Link<S>>;
            fn name(&self) -> &'static str;
            fn is_timed(&self) -> bool;
            fn parts(&self, counted: &CountsByHook) -> Option<Vec<(&'static str, CountsByHook)>>;
            fn state_version(&self) -> Option<u32>;
            fn store_state(&self, state: &S, out: &mut Vec<u8>);
            fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<S>;
            $(
                fn $ask(&mut self, cx: &mut Context<'_, S>, $ask_arg: $Ask) -> Answer<$Modifiers, $Refusal>;
            )*
            $(
                fn $rewrite(&mut self, cx: &mut Context<'_, S>, $rewrite_arg: $Rewrite) -> DeliverAnswer<$Rewritten>;
            )*
            $(
                fn $tell(&mut self, cx: &mut Notice<'_, S> $(, $tell_arg: $Tell)*);
            )*
        }

        impl<H: Hook + Clone> Link<H::State> for H {
            fn boxed_clone(&self) -> Box<dyn Link<H::State>> {
                Box::new(self.clone())
            }

            fn name(&self) -> &'static str {
                Hook::name(self)
            }

            fn is_timed(&self) -> bool {
                H::TIMED && Hook::is_timed(self)
            }

            fn parts(&self, counted: &CountsByHook) -> Option<Vec<(&'static str, CountsByHook)>> {
                Hook::parts(self, counted)
            }

            fn state_version(&self) -> Option<u32> {
                Hook::state_version(self)
            }

            fn store_state(&self, state: &H::State, out: &mut Vec<u8>) {
                Hook::store_state(self, state, out);
            }

            fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<H::State> {
                Hook::restore_state(self, version, bytes)
            }

            $(
                fn $ask(&mut self, cx: &mut Context<'_, H::State>, $ask_arg: $Ask) -> Answer<$Modifiers, $Refusal> {
                    Hook::$ask(self, cx, $ask_arg)
                }
            )*

            $(
                fn $rewrite(
                    &mut self,
                    cx: &mut Context<'_, H::State>,
                    $rewrite_arg: $Rewrite,
                ) -> DeliverAnswer<$Rewritten> {
                    Hook::$rewrite(self, cx, $rewrite_arg)
                }
            )*

            $(
                fn $tell(&mut self, cx: &mut Notice<'_, H::State> $(, $tell_arg: $Tell)*) {
                    Hook::$tell(self, cx $(, $tell_arg)*);
                }
            )*
        }

        impl<S: Default + Send + 'static> Hook for Boxed<S> {
            type State = S;
            // Whether it is, is known when the program runs.
            const TIMED: bool = true;

            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn is_timed(&self) -> bool {
                self.0.is_timed()
            }

            fn parts(&self, counted: &CountsByHook) -> Option<Vec<(&'static str, CountsByHook)>> {
                self.0.parts(counted)
            }

            fn state_version(&self) -> Option<u32> {
                self.0.state_version()
            }

            fn store_state(&self, state: &S, out: &mut Vec<u8>) {
                self.0.store_state(state, out);
            }

            fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<S> {
                self.0.restore_state(version, bytes)
            }

            $(
                fn $ask(&mut self, cx: &mut Context<'_, S>, $ask_arg: $Ask) -> Answer<$Modifiers, $Refusal> {
                    self.0.$ask(cx, $ask_arg)
                }
            )*

            $(
                fn $rewrite(&mut self, cx: &mut Context<'_, S>, $rewrite_arg: $Rewrite) -> DeliverAnswer<$Rewritten> {
                    self.0.$rewrite(cx, $rewrite_arg)
                }
            )*

            $(
                fn $tell(&mut self, cx: &mut Notice<'_, S> $(, $tell_arg: $Tell)*) {
                    self.0.$tell(cx $(, $tell_arg)*);
                }
            )*
        }
    };
}

for_every_hook!(define_boxed);

/// One link of several that have the same [`Hook::State`], chosen when the program starts.
///
/// Name, counters, and whether its time is taken ([`Hook::TIMED`]) are those of the link inside. Each hook costs an indirect
/// call, also those that the link inside does not have: the compiler does not see which these are. To choose among links whose
/// states differ, put an `Option` of each into the chain.
///
/// ```
/// use moormq::codec::ProtocolVersion;
/// use moormq::hooks::stock::AllowAll;
/// use moormq::hooks::{Boxed, Hook};
///
/// #[derive(Clone)]
/// struct Strict;
///
/// impl Hook for Strict {
///     type State = ();
/// }
///
/// fn rules(name: &str) -> Boxed<()> {
///     if name == "strict" { Boxed::new(Strict) } else { Boxed::new(AllowAll) }
/// }
///
/// let builder = moormq::Broker::builder().hook(rules("strict"));
/// # let _ = builder;
/// ```
pub struct Boxed<S>(Box<dyn Link<S>>);

impl<S: 'static> Boxed<S> {
    /// A link that is `hook`. Every shard gets a clone of that.
    pub fn new<H: Hook<State = S> + Clone>(hook: H) -> Self {
        Boxed(Box::new(hook))
    }
}

impl<S> Clone for Boxed<S> {
    fn clone(&self) -> Self {
        Boxed(self.0.boxed_clone())
    }
}

impl<S> fmt::Debug for Boxed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Boxed").field(&self.0.name()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, EndReason};
    use crate::codec::{ConnectProperties, ProtocolVersion};
    use crate::hooks::counts::LinkCounts;
    use crate::hooks::{
        Chain, ConnectRefusal, DeliverModifiers, Delivery, HookClock, NoHooks, Register, RegisterM5, RegisterModifiers,
        V3Only, Verdict,
    };

    /// Counts in its state how often it was called, and in itself.
    #[derive(Clone)]
    struct Yes(u32);

    impl Hook for Yes {
        type State = u32;

        fn auth_on_register(
            &mut self,
            cx: &mut Context<'_, u32>,
            _: &Register<'_>,
        ) -> Answer<RegisterModifiers, ConnectRefusal> {
            *cx.state() += 1;
            self.0 += 1;
            Answer::Ok(RegisterModifiers::default().client_id(self.0.to_string()))
        }

        fn on_client_gone(&mut self, cx: &mut Notice<'_, u32>, _: EndReason) {
            *cx.state() += 10;
        }

        fn on_deliver(&mut self, _: &mut Context<'_, u32>, _: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
            DeliverAnswer::Ok(DeliverModifiers::default().topic("other"))
        }
    }

    #[derive(Clone)]
    struct No;

    impl Hook for No {
        type State = u32;
        const TIMED: bool = true;

        fn name(&self) -> &'static str {
            "never"
        }

        fn auth_on_register(
            &mut self,
            _: &mut Context<'_, u32>,
            _: &Register<'_>,
        ) -> Answer<RegisterModifiers, ConnectRefusal> {
            Answer::refuse()
        }
    }

    fn one_of(is_yes: bool) -> Boxed<u32> {
        if is_yes { Boxed::new(Yes(0)) } else { Boxed::new(No) }
    }

    #[test]
    fn the_link_inside_is_the_one_that_is_asked_and_called() {
        let client = Client::new("c", ProtocolVersion::V311);
        for is_yes in [true, false] {
            let (mut chain, mut state) = (NoHooks.hook(one_of(is_yes)), ((), 0));
            let asked = chain.auth_on_register(0, &client, &mut state, &Register::default());
            assert_eq!(matches!(asked, Verdict::Ok(_)), is_yes);
            let delivery = Delivery { topic: "t", payload: b"", qos: Default::default(), retain: false };
            assert_eq!(chain.on_deliver(&client, &mut state, &delivery).is_some(), is_yes);
            let _ = chain.on_client_gone(&client, &mut state, EndReason::ConnectionLost);
            assert_eq!(state.1, if is_yes { 11 } else { 0 });
            let mut counts = Vec::new();
            chain.counts(&mut counts);
            let [LinkCounts { position: 0, name, counts }] = &counts[..] else { panic!("one link") };
            let hooks: Vec<_> = counts.iter().map(|(hook, _)| *hook).collect();
            let expected: (_, &[_]) = match is_yes {
                true => ("Yes", &["auth_on_register", "on_deliver", "on_client_gone"]),
                false => ("never", &["auth_on_register"]),
            };
            assert_eq!((*name, &hooks[..]), expected, "hooks that it does not have are not counted");
        }
    }

    #[test]
    fn a_clone_is_a_link_of_its_own() {
        let client = Client::new("c", ProtocolVersion::V5);
        let first = V3Only(one_of(true));
        let mut chains = [first.clone(), first].map(|link| NoHooks.hook(link));
        let mut ask = |chain: usize| {
            let properties = ConnectProperties::default();
            let register =
                RegisterM5 { password: None, clean_start: true, keep_alive: 0, will: None, properties: &properties };
            match chains[chain].auth_on_register_m5(0, &client, &mut Default::default(), &register) {
                Verdict::Ok(modifiers) => modifiers.client_id,
                verdict => panic!("{verdict:?}"),
            }
        };
        assert_eq!(
            [ask(0), ask(0), ask(1)].map(|id| id.as_deref().map(str::to_owned)),
            ["1", "2", "1"].map(|id| Some(id.to_owned()))
        );
        assert_eq!(format!("{:?}", one_of(false)), r#"Boxed("never")"#);
    }

    #[test]
    fn its_time_is_taken_if_the_link_inside_wants_that() {
        thread_local! {
            static NOW: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        let client = Client::new("c", ProtocolVersion::V311);
        for is_yes in [true, false] {
            let mut chain = NoHooks.hook(Some(V3Only(one_of(is_yes))));
            chain.time_by(HookClock(|| NOW.replace(NOW.get() + 1000)));
            for _ in 0..4 {
                let _ = chain.auth_on_register(0, &client, &mut Default::default(), &Register::default());
            }
            let mut counts = Vec::new();
            chain.counts(&mut counts);
            assert_eq!(counts[0].counts[0].1.time.is_zero(), is_yes);
        }
    }
}
