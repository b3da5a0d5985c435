//! Chains of links that answer as a test tells them to, and write down that they were called.

use std::cell::RefCell;
use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;

use super::*;
use crate::client::{Client, EndReason, SubscriberId};
use crate::codec::{ProtocolVersion, QoS};

pub(super) fn client(version: ProtocolVersion) -> Client {
    Client {
        subscriber: SubscriberId::new("", "c1"),
        peer: ([127, 0, 0, 1], 40000).into(),
        listener: "test".into(),
        version,
        username: None,
        certificate: None,
        connected_at: SystemTime::UNIX_EPOCH,
        session_number: 1,
    }
}

pub(super) const PUBLISH: PublishRequest<'static> =
    PublishRequest { topic: "a/b", payload: b"hello", qos: QoS::AtLeastOnce, retain: false, is_will: false };

const DELIVERY: Delivery<'static> = Delivery { topic: "a/b", payload: b"hello", qos: QoS::AtLeastOnce, retain: false };

type PublishAnswer = Answer<PublishModifiers, PublishRefusal>;

/// A link that answers with what `answer` gives, writes its name down whenever it is called, and counts its calls in
/// its state.
struct Probe {
    name: &'static str,
    calls: Sender<&'static str>,
    answer: fn() -> PublishAnswer,
    deliver: fn() -> DeliverAnswer<DeliverModifiers>,
    notice: fn(&mut Notice<'_, u32>),
}

impl Probe {
    fn new(name: &'static str, calls: &Sender<&'static str>) -> Self {
        Probe { name, calls: calls.clone(), answer: || Answer::Next, deliver: || DeliverAnswer::Next, notice: |_| {} }
    }

    fn answering(name: &'static str, calls: &Sender<&'static str>, answer: fn() -> PublishAnswer) -> Self {
        Probe { answer, ..Probe::new(name, calls) }
    }

    fn called(&self, state: &mut u32) {
        *state += 1;
        self.calls.send(self.name).unwrap();
    }
}

impl Hook for Probe {
    type State = u32;

    fn name(&self) -> &'static str {
        self.name
    }

    fn auth_on_publish(&mut self, cx: &mut Context<'_, u32>, _: &PublishRequest<'_>) -> PublishAnswer {
        self.called(cx.state());
        (self.answer)()
    }

    fn on_deliver(&mut self, cx: &mut Context<'_, u32>, _: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
        self.called(cx.state());
        (self.deliver)()
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, u32>, reason: EndReason) {
        assert_eq!(reason, EndReason::KeepAlive);
        self.called(cx.state());
        (self.notice)(cx);
    }
}

/// A link without any hook.
struct Empty;

impl Hook for Empty {
    type State = ();
}

/// A chain under test, with the state of one session.
struct Trial<C: Chain> {
    chain: C,
    state: C::State,
    client: Client,
    calls: Receiver<&'static str>,
}

impl<C: Chain> Trial<C> {
    fn new(build: impl FnOnce(&Sender<&'static str>) -> C) -> Self {
        let (sender, calls) = mpsc::channel();
        let client = client(ProtocolVersion::V311);
        Trial { chain: build(&sender), state: C::State::default(), client, calls }
    }

    fn publish(&mut self, from: usize) -> Verdict<PublishModifiers, PublishRefusal> {
        self.chain.auth_on_publish(from, &self.client, &mut self.state, &PUBLISH)
    }

    fn deliver(&mut self) -> Option<DeliverModifiers> {
        self.chain.on_deliver(&self.client, &mut self.state, &DELIVERY)
    }

    fn offline(&mut self) -> Notified {
        self.chain.on_client_offline(&self.client, &mut self.state, EndReason::KeepAlive)
    }

    /// Who was called since this was last asked.
    fn calls(&self) -> String {
        self.calls.try_iter().collect::<Vec<_>>().join(" ")
    }
}

/// Polls once.
pub(super) fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    Pin::new(future).poll(&mut task::Context::from_waker(Waker::noop()))
}

fn refuse() -> PublishAnswer {
    Answer::refuse()
}

fn to_x() -> PublishAnswer {
    Answer::Ok(PublishModifiers::default().topic("x"))
}

#[test]
fn a_chain_without_an_opinion_is_exhausted() {
    assert!(matches!(Trial::new(|_| NoHooks).publish(0), Verdict::Exhausted));
    assert!(matches!(Trial::new(|_| NoHooks.hook(Empty).hook(Empty)).publish(0), Verdict::Exhausted));
    let mut next = Trial::new(|calls| NoHooks.hook(Probe::new("a", calls)).hook(Empty).hook(Probe::new("b", calls)));
    assert!(matches!(next.publish(0), Verdict::Exhausted));
    assert_eq!(next.calls(), "a b");
}

#[test]
fn the_first_opinion_ends_the_chain() {
    for (answer, ok) in [(to_x as fn() -> PublishAnswer, true), (refuse, false)] {
        let mut trial = Trial::new(|calls| {
            NoHooks.hook(Probe::new("a", calls)).hook(Probe::answering("b", calls, answer)).hook(Probe::answering(
                "c",
                calls,
                if ok { refuse } else { to_x },
            ))
        });
        match trial.publish(0) {
            Verdict::Ok(modifiers) => assert!(ok && modifiers.topic.as_deref() == Some("x")),
            Verdict::Refused(PublishRefusal) => assert!(!ok),
            verdict => panic!("{verdict:?}"),
        }
        assert_eq!(trial.calls(), "a b");
    }
}

#[test]
fn asking_begins_at_the_link_named() {
    let mut trial = Trial::new(|calls| {
        NoHooks
            .hook(Probe::answering("a", calls, refuse))
            .hook(Probe::new("b", calls))
            .hook(Probe::answering("c", calls, to_x))
    });
    for (from, asked) in [(0, "a"), (1, "b c"), (2, "c"), (3, ""), (99, "")] {
        let verdict = trial.publish(from);
        assert_eq!(trial.calls(), asked);
        assert!(match from {
            0 => matches!(verdict, Verdict::Refused(PublishRefusal)),
            1 | 2 => matches!(verdict, Verdict::Ok(_)),
            _ => matches!(verdict, Verdict::Exhausted),
        });
    }
}

#[test]
fn after_a_later_next_the_following_link_is_asked() {
    let mut trial = Trial::new(|calls| {
        NoHooks
            .hook(Probe::new("a", calls))
            .hook(Probe::answering("b", calls, || Answer::later(future::ready(Answer::Next))))
            .hook(Probe::answering("c", calls, to_x))
    });
    let Verdict::Later(PendingAnswer { link, mut future, .. }) = trial.publish(0) else { panic!("b answers later") };
    assert_eq!((link, trial.calls().as_str()), (1, "a b"));
    assert!(matches!(poll(&mut future), Poll::Ready(HookAnswer::Publish(Answer::Next))));
    assert!(matches!(trial.publish(link + 1), Verdict::Ok(_)));
    assert_eq!(trial.calls(), "c");
}

#[test]
fn a_later_answer_is_followed_to_its_end() {
    let answer = || Answer::later(future::ready(Answer::later(future::ready(Answer::refuse()))));
    let mut trial = Trial::new(|calls| NoHooks.hook(Probe::answering("a", calls, answer)));
    let Verdict::Later(PendingAnswer { mut future, .. }) = trial.publish(0) else { panic!("a answers later") };
    assert!(matches!(poll(&mut future), Poll::Ready(HookAnswer::Publish(Answer::Error(PublishRefusal)))));

    let absent = || Answer::later(future::ready(Answer::absent()));
    let mut trial = Trial::new(|calls| NoHooks.hook(Probe::answering("a", calls, absent)));
    let Verdict::Later(PendingAnswer { mut future, .. }) = trial.publish(0) else { panic!("a answers later") };
    assert!(matches!(poll(&mut future), Poll::Ready(HookAnswer::Publish(Answer::Next))));
}

#[test]
fn a_panic_counts_as_no() {
    let mut trial = Trial::new(|calls| {
        NoHooks
            .hook(Probe::new("a", calls))
            .hook(Probe::answering("b", calls, || panic!("oops")))
            .hook(Probe::answering("c", calls, to_x))
    });
    assert!(matches!(trial.publish(0), Verdict::Failed { link: 1 }));
    assert_eq!(trial.calls(), "a b");
    assert!(matches!(trial.publish(2), Verdict::Ok(_)), "the chain lives on");
}

#[test]
fn a_panic_of_a_later_answer_is_told_as_failure() {
    let answer = || Answer::later(future::poll_fn(|_| panic!("oops")));
    let mut trial = Trial::new(|calls| NoHooks.hook(Probe::answering("a", calls, answer)));
    let Verdict::Later(PendingAnswer { mut future, .. }) = trial.publish(0) else { panic!("a answers later") };
    assert!(matches!(poll(&mut future), Poll::Ready(HookAnswer::Failed)));
}

/// Panics when it is dropped.
pub(super) struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// A future that never resolves and panics when it is dropped.
fn never<T>() -> impl Future<Output = T> {
    let grenade = Grenade;
    future::poll_fn(move |_| {
        let _ = &grenade;
        Poll::Pending
    })
}

#[test]
fn dropping_an_unfinished_answer_does_not_panic() {
    let mut trial = Trial::new(|calls| NoHooks.hook(Probe::answering("a", calls, || Answer::later(never()))));
    let Verdict::Later(PendingAnswer { mut future, .. }) = trial.publish(0) else { panic!("a answers later") };
    assert!(poll(&mut future).is_pending());
    drop(future);
}

#[test]
fn a_panic_payload_that_panics_stays_inside() {
    let mut trial = Trial::new(|calls| NoHooks.hook(Probe::answering("a", calls, || std::panic::panic_any(Grenade))));
    assert!(matches!(trial.publish(0), Verdict::Failed { link: 0 }));
}

#[test]
fn notifications_reach_every_link_in_order() {
    let mut trial = Trial::new(|calls| {
        NoHooks
            .hook(Probe::new("a", calls))
            .hook(Empty)
            .hook(Probe { notice: |_| panic!("oops"), ..Probe::new("b", calls) })
            .hook(Probe::new("c", calls))
    });
    let notified = trial.offline();
    assert_eq!((notified.failed(), trial.calls().as_str()), (1, "a b c"));
    assert!(notified.into_pending().is_none());
}

thread_local! {
    /// What tasks of notifications did, in order.
    static DONE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

fn done(what: &'static str) {
    DONE.with_borrow_mut(|done| done.push(what));
}

#[test]
fn tasks_of_notifications_run_one_after_the_other() {
    let mut trial = Trial::new(|calls| {
        NoHooks
            .hook(Probe {
                notice: |cx| {
                    let mut polls = 0;
                    cx.later(future::poll_fn(move |_| {
                        polls += 1;
                        done(if polls == 1 { "a begins" } else { "a ends" });
                        if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
                    }));
                    cx.later(future::poll_fn(|_| panic!("oops")));
                },
                ..Probe::new("a", calls)
            })
            .hook(Probe {
                notice: |cx| {
                    cx.later(future::poll_fn(|_| {
                        done("b");
                        Poll::Ready(())
                    }));
                },
                ..Probe::new("b", calls)
            })
    });
    let mut futures = trial.offline().into_pending().expect("tasks were handed over");
    assert_eq!(futures.iter().map(|pending| pending.link).collect::<Vec<_>>(), [0, 1]);
    assert!(poll(&mut futures[0].future).is_pending());
    assert_eq!(DONE.take(), ["a begins"]);
    assert!(matches!(poll(&mut futures[0].future), Poll::Ready(HookAnswer::Failed)), "its second task panicked");
    assert!(matches!(poll(&mut futures[1].future), Poll::Ready(HookAnswer::Notification)));
    assert_eq!(DONE.take(), ["a ends", "b"]);
}

#[test]
fn tasks_of_a_notification_that_panicked_are_given_up() {
    let dropped = |cx: &mut Notice<'_, u32>| {
        cx.later(never());
        panic!("oops");
    };
    let mut trial = Trial::new(|calls| NoHooks.hook(Probe { notice: dropped, ..Probe::new("a", calls) }));
    let notified = trial.offline();
    assert_eq!(notified.failed(), 1);
    assert!(notified.into_pending().is_none());
}

#[test]
fn the_first_link_that_rewrites_a_delivery_is_the_only_one() {
    let rewrite = || DeliverAnswer::Ok(DeliverModifiers::default().payload(Bytes::from_static(b"x")));
    let mut trial = Trial::new(|calls| {
        NoHooks
            .hook(Probe::new("a", calls))
            .hook(Probe { deliver: rewrite, ..Probe::new("b", calls) })
            .hook(Probe::new("c", calls))
    });
    assert_eq!(trial.deliver().expect("b rewrites").payload.as_deref(), Some(&b"x"[..]));
    assert_eq!(trial.calls(), "a b");
    assert!(Trial::new(|calls| NoHooks.hook(Probe::new("a", calls)).hook(Empty)).deliver().is_none());
}

#[test]
fn a_panic_delivers_unchanged() {
    let rewrite = || DeliverAnswer::Ok(DeliverModifiers::default().topic("x"));
    let mut trial = Trial::new(|calls| {
        NoHooks
            .hook(Probe { deliver: || panic!("oops"), ..Probe::new("a", calls) })
            .hook(Probe { deliver: rewrite, ..Probe::new("b", calls) })
    });
    let modifiers = trial.deliver().expect("the panic ends the chain");
    assert!(modifiers.is_unchanged());
    assert_eq!(trial.calls(), "a");
}

#[test]
fn every_link_has_its_own_state() {
    let mut trial =
        Trial::new(|calls| NoHooks.hook(Probe::new("a", calls)).hook(Empty).hook(Probe::answering("b", calls, to_x)));
    let _ = trial.publish(0);
    let _ = trial.publish(2);
    let _ = trial.offline();
    let (((_, a), ()), b) = trial.state;
    assert_eq!((a, b), (2, 3));
}

/// Text that is written by the log of one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_names_hook_and_link() {
    struct Nameless;
    impl Hook for Nameless {
        type State = ();
        fn name(&self) -> &'static str {
            panic!("no name either")
        }
        fn on_client_offline(&mut self, _: &mut Notice<'_, ()>, _: EndReason) {
            panic!("no {}", "way")
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut trial =
            Trial::new(|calls| NoHooks.hook(Probe::answering("acl", calls, || panic!("oops"))).hook(Nameless));
        let _ = trial.publish(0);
        assert_eq!(trial.offline().failed(), 1);
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains(r#"hook="auth_on_publish" link="acl" panic="oops""#), "{log}");
    assert!(lines[1].contains(r#"hook="on_client_offline" link="(its name panics)" panic="no way""#), "{log}");
}

#[test]
fn a_link_is_named_after_its_type() {
    struct Wrapper<T>(std::marker::PhantomData<T>);
    impl<T: Send + 'static> Hook for Wrapper<T> {
        type State = ();
    }
    assert_eq!(Empty.name(), "Empty");
    assert_eq!(Wrapper::<Vec<String>>(std::marker::PhantomData).name(), "Wrapper");
    assert_eq!(V3Only(Empty).name(), "Empty");
}
