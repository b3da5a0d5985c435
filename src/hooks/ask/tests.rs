//! Later answers that are made with the state of their link.

use std::convert::Infallible;
use std::future::{self, Future};
use std::task::Poll;

use super::*;
use crate::codec::{ProtocolVersion, PublishProperties, UserProperties};
use crate::hooks::counts::LinkCounts;
use crate::hooks::list::for_every_hook;
use crate::hooks::tests::{Grenade, PUBLISH, client, poll};
use crate::hooks::*;

/// What a link keeps: the names of its hooks whose answers were made.
type Names = Vec<&'static str>;

macro_rules! define_every {
    (
        conditional { $($ask:ident($ask_arg:ident: $Ask:ty) -> $Modifiers:ty, $Refusal:ty as $variant:ident;)* }
        rewriting { $($_rewrite:tt)* }
        notifications { $($_tell:tt)* }
    ) => {
        /// Answers every question later, and writes that down when the answer is made.
        #[derive(Clone)]
        struct Every;

        impl Hook for Every {
            type State = Names;

            $(
                fn $ask(&mut self, cx: &mut Context<'_, Names>, _: $Ask) -> Answer<$Modifiers, $Refusal> {
                    cx.later(future::ready(stringify!($ask)), |state, name| {
                        state.push(name);
                        Answer::ok()
                    })
                }
            )*
        }
    };
}

for_every_hook!(define_every);

/// A link that says *Next* to every publish, and counts that.
#[derive(Clone)]
struct Counts;

impl Hook for Counts {
    type State = u32;

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, u32>,
        _: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        *cx.state() += 1;
        Answer::Next
    }
}

type PublishAnswer = Answer<PublishModifiers, PublishRefusal>;

/// A link that answers a publish as a test says.
struct Says<S>(fn(&mut Context<'_, S>) -> PublishAnswer);

impl<S: Default + Send + 'static> Hook for Says<S> {
    type State = S;

    fn auth_on_publish(&mut self, cx: &mut Context<'_, S>, _: &PublishRequest<'_>) -> PublishAnswer {
        (self.0)(cx)
    }
}

/// What comes of a later answer that is there at the first poll.
fn resolve(pending: PendingAnswer) -> Resumed {
    let PendingAnswer { link, mut future, .. } = pending;
    let Poll::Ready(answer) = poll(&mut future) else { panic!("it is ready") };
    assert!(answer.outcome().is_none(), "what it comes to is not known yet");
    Resumed::Answered { link, answer: Box::new(answer), waited: Duration::from_secs(1) }
}

/// The verdict after all later answers.
fn settled<M, R>(mut ask: impl FnMut(Option<Resumed>) -> Verdict<M, R>) -> Verdict<M, R> {
    let mut verdict = ask(None);
    while let Verdict::Later(pending) = verdict {
        verdict = ask(Some(resolve(pending)));
    }
    verdict
}

/// Asks everything that a client of this version may be asked about.
fn ask_all<C: Chain>(chain: &mut C, state: &mut C::State, version: ProtocolVersion) {
    let (client, properties) = (&client(version), &ConnectProperties::default());
    if version.is_v5() {
        let exchange = AuthExchange {
            stage: AuthStage::Connect,
            method: "M",
            data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        };
        let _ = settled(|resumed| auth(chain, client, state, &exchange, resumed));
    }
    let request = RegisterM5 { password: None, clean_start: true, keep_alive: 0, will: None, properties };
    assert!(matches!(settled(|resumed| register(chain, client, state, &request, resumed)), Verdict::Ok(_)));
    assert!(matches!(settled(|resumed| ask_publish(chain, client, state, resumed)), Verdict::Ok(_)));
    let user_properties = UserProperties::default();
    let request = SubscribeRequestM5 { filters: &[], subscription_id: None, user_properties };
    assert!(matches!(settled(|resumed| subscribe(chain, client, state, &request, resumed)), Verdict::Ok(_)));
    let request = UnsubscribeRequestM5 { filters: &[], user_properties };
    assert!(matches!(settled(|resumed| unsubscribe(chain, client, state, &request, resumed)), Verdict::Ok(_)));
}

fn ask_publish<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    resumed: Option<Resumed>,
) -> Verdict<PublishModifiersM5, PublishRefusalM5> {
    let PublishRequest { topic, payload, qos, retain, is_will } = PUBLISH;
    let properties = &PublishProperties::default();
    let request = PublishRequestM5 { topic, payload, qos, retain, is_will, properties };
    publish(chain, client, state, &request, resumed)
}

/// The counters of the link at this place, of one hook.
fn counts<C: Chain>(chain: &C, link: usize, hook: &str) -> HookCounts {
    let mut all = Vec::new();
    chain.counts(&mut all);
    let LinkCounts { counts, .. } = &all[link];
    counts.iter().find(|(name, _)| *name == hook).map(|(_, counts)| *counts).unwrap_or_default()
}

const V3: [&str; 4] = ["auth_on_register", "auth_on_publish", "auth_on_subscribe", "on_unsubscribe"];
const V5: [&str; 5] =
    ["on_auth_m5", "auth_on_register_m5", "auth_on_publish_m5", "auth_on_subscribe_m5", "on_unsubscribe_m5"];

/// Asks `link`, between two others, everything, and sees that its state is written, and that of no other.
fn check<H: Hook<State = Names>>(link: H, version: ProtocolVersion, names: &[&str]) {
    let (mut chain, mut state) = (NoHooks.hook(Counts).hook(link).hook(Counts), Default::default());
    ask_all(&mut chain, &mut state, version);
    let ((((), first), written), last) = state;
    assert_eq!((first, &written[..], last), (u32::from(!version.is_v5()), names, 0));
    for name in names.iter().filter(|name| name.ends_with("_m5") == version.is_v5()) {
        let HookCounts { calls, ok, later, waited, .. } = counts(&chain, 1, name);
        assert_eq!((calls, ok, later, waited), (1, 1, 1, Duration::from_secs(1)), "{name}");
    }
}

#[test]
fn every_later_answer_may_be_made_with_the_state() {
    check(Every, ProtocolVersion::V311, &V3);
    check(Every, ProtocolVersion::V5, &V5);
    check(V3Only(Every), ProtocolVersion::V5, &V3);
    check(Some(Every), ProtocolVersion::V5, &V5);
    check(Boxed::new(Every), ProtocolVersion::V5, &V5);
    check(V3Only(Boxed::new(Some(Every))), ProtocolVersion::V5, &V3);
    check(Boxed::new(Boxed::new(V3Only(Every))), ProtocolVersion::V311, &V3);
}

#[test]
fn each_link_finds_its_own_state_after_a_later_next() {
    let next = |cx: &mut Context<'_, String>| {
        cx.later(future::ready("a"), |state, found| {
            state.push_str(found);
            Answer::Next
        })
    };
    let yes = |cx: &mut Context<'_, u64>| {
        let asked_with = *cx.state();
        cx.later(future::ready(7), move |state, found| {
            *state += asked_with + found;
            Answer::Ok(PublishModifiers::default().topic(state.to_string()))
        })
    };
    let (mut chain, client) = (NoHooks.hook(Says(next)).hook(Says(yes)), client(ProtocolVersion::V311));
    let mut state = (((), String::from("was ")), 1);
    let verdict = settled(|resumed| ask_publish(&mut chain, &client, &mut state, resumed));
    let Verdict::Ok(modifiers) = verdict else { panic!("{verdict:?}") };
    assert_eq!((modifiers.topic.as_deref(), state), (Some("9"), (((), String::from("was a")), 9)));
    assert_eq!((counts(&chain, 0, "auth_on_publish").next, counts(&chain, 1, "auth_on_publish").ok), (1, 1));
}

#[test]
fn an_answer_that_comes_later_still_is_waited_for_and_counted_once() {
    let answer = |cx: &mut Context<'_, Names>| {
        let first = cx.later(future::ready(()), |state, ()| {
            state.push("first");
            Answer::later(future::ready(Answer::refuse()))
        });
        Answer::later(async { first })
    };
    let (mut chain, mut state, client) =
        (NoHooks.hook(Says(answer)), Default::default(), client(ProtocolVersion::V311));
    let Verdict::Later(pending) = ask_publish(&mut chain, &client, &mut state, None) else { panic!("later") };
    let resumed = resolve(pending);
    let verdict = ask_publish(&mut chain, &client, &mut state, Some(resumed));
    let Verdict::Later(PendingAnswer { hook, link, mut future }) = verdict else { panic!("{verdict:?}") };
    assert_eq!((hook, link, &state.1[..]), ("auth_on_publish", 0, &["first"][..]));
    assert!(matches!(poll(&mut future), Poll::Ready(HookAnswer::Publish(Answer::Error(PublishRefusal)))));
    let HookCounts { calls, later, refusals, .. } = counts(&chain, 0, "auth_on_publish");
    assert_eq!((calls, later, refusals), (1, 1, 0), "who brings the answer counts it");
}

#[test]
fn a_panic_when_the_answer_is_made_is_one_of_the_hook() {
    let answer = |cx: &mut Context<'_, Names>| {
        cx.later(future::ready(()), |state, ()| {
            state.push("written");
            panic!("as the test wants it")
        })
    };
    let (mut chain, mut state, client) =
        (NoHooks.hook(V3Only(Says(answer))), Default::default(), client(ProtocolVersion::V5));
    let verdict = settled(|resumed| ask_publish(&mut chain, &client, &mut state, resumed));
    assert!(matches!(verdict, Verdict::Failed { link: 0 }), "{verdict:?}");
    assert_eq!(state.1, ["written"]);
    let HookCounts { calls, ok, panics, .. } = counts(&chain, 0, "auth_on_publish_m5");
    assert_eq!((calls, ok, panics), (1, 0, 1));
}

#[test]
fn an_answer_that_nobody_waits_for_is_dropped_in_peace() {
    let answer = |cx: &mut Context<'_, Names>| {
        let grenade = Grenade;
        cx.later(future::ready(()), move |state, ()| {
            state.push("written");
            let _ = &grenade;
            Answer::ok()
        })
    };
    let (mut chain, mut state, client) =
        (NoHooks.hook(V3Only(Says(answer))), Default::default(), client(ProtocolVersion::V5));
    let Verdict::Later(pending) = ask_publish(&mut chain, &client, &mut state, None) else { panic!("later") };
    drop(pending);
    let Verdict::Later(pending) = ask_publish(&mut chain, &client, &mut state, None) else { panic!("later") };
    drop(resolve(pending));
    assert_eq!(state.1, [""; 0]);
    let verdict = settled(|resumed| ask_publish(&mut chain, &client, &mut state, resumed));
    assert!(matches!(verdict, Verdict::Failed { .. }), "what it leaves behind panics: {verdict:?}");
}

/// A link that is made of two.
struct Both {
    asks_in_part: bool,
}

impl Hook for Both {
    type State = (u32, Names);

    fn auth_on_publish(&mut self, cx: &mut Context<'_, Self::State>, publish: &PublishRequest<'_>) -> PublishAnswer {
        if self.asks_in_part {
            return cx.part(|state| &mut state.1, |cx| Every.auth_on_publish(cx, publish));
        }
        let client = cx.client();
        Every.auth_on_publish(&mut Context::new(client, &mut cx.state().1), publish)
    }
}

#[test]
fn a_link_made_of_others_lends_each_its_part_of_the_state() {
    for asks_in_part in [true, false] {
        let (mut chain, mut state) = (NoHooks.hook(Both { asks_in_part }), Default::default());
        let client = client(ProtocolVersion::V311);
        let verdict = settled(|resumed| ask_publish(&mut chain, &client, &mut state, resumed));
        assert_eq!(matches!(verdict, Verdict::Ok(_)), asks_in_part, "{verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Failed { link: 0 }), !asks_in_part, "the state is not a list of names");
        assert_eq!(state.1.1.len(), usize::from(asks_in_part));
    }
}

/// Nearly every packet is served without any of this.
#[test]
fn answers_given_now_are_as_small_as_before() {
    assert_eq!(size_of::<Later<(), ()>>(), size_of::<std::pin::Pin<Box<dyn Future<Output = ()>>>>());
    assert_eq!(size_of::<Answer<u64, Infallible>>(), 24);
}
