//! A hook set with the answers that a test gives it, which records its calls.

use std::fmt::Write;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use moormq::client::{Client, DropReason, EndReason, ExpiredReason};
use moormq::codec::ConnectProperties;
use moormq::hooks::*;

/// The answers of conditional hooks: functions of the client and the question.
macro_rules! answers {
    ($($hook:ident: $Question:ident$(<$life:lifetime>)? => $Answer:ty;)*) => {
        /// The answers of a set; hooks without one say *Next*.
        #[derive(Clone, Default)]
        pub struct Answers {
            $(pub $hook: Option<Arc<dyn Fn(&Client, &$Question<'_>) -> $Answer + Send + Sync>>,)*
        }

        impl Answers {
            $(
                pub fn $hook(
                    mut self,
                    answer: impl Fn(&Client, &$Question<'_>) -> $Answer + Send + Sync + 'static,
                ) -> Self {
                    self.$hook = Some(Arc::new(answer));
                    self
                }
            )*
        }
    };
}

answers! {
    auth_on_register: Register => Answer<RegisterModifiers, ConnectRefusal>;
    auth_on_register_m5: RegisterM5 => Answer<RegisterModifiersM5, ConnectRefusalM5>;
    on_auth_m5: AuthExchange => Answer<AuthStep, ConnectRefusalM5>;
    auth_on_publish: PublishRequest => Answer<PublishModifiers, PublishRefusal>;
    auth_on_publish_m5: PublishRequestM5 => Answer<PublishModifiersM5, PublishRefusalM5>;
    auth_on_subscribe: SubscribeRequest => Answer<SubscribeModifiers, SubscribeRefusal>;
    auth_on_subscribe_m5: SubscribeRequestM5 => Answer<SubscribeModifiersM5, SubscribeRefusalM5>;
    on_unsubscribe: UnsubscribeRequest => Answer<UnsubscribeModifiers, std::convert::Infallible>;
    on_unsubscribe_m5: UnsubscribeRequestM5 => Answer<UnsubscribeModifiersM5, std::convert::Infallible>;
    on_deliver: Delivery => DeliverAnswer<DeliverModifiers>;
    on_deliver_m5: DeliveryM5 => DeliverAnswer<DeliverModifiersM5>;
}

/// The record that all copies of a set, one for each shard, share.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, client: &Client, what: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        let version = if client.version.is_v5() { "m5" } else { "v3" };
        write!(line, "{} {version} {what}", client.subscriber).expect("a string takes everything");
        self.0.lock().expect("no test panics while it writes").push(line);
    }

    /// The calls about `subscriber` since the last time: hooks and their arguments. Hooks whose names differ by version have the
    /// common part of their name; deliveries and questions are left out.
    pub fn of(&self, subscriber: &str) -> Vec<String> {
        let mut lines = self.0.lock().expect("no test panics while it writes");
        let mut taken = Vec::new();
        lines.retain(|line| {
            let mut parts = line.splitn(3, ' ');
            if parts.next() != Some(subscriber) {
                return true;
            }
            let what = parts.nth(1).unwrap_or_default();
            if !what.starts_with('?') {
                taken.push(what.to_owned());
            }
            false
        });
        taken
    }

    /// All calls since the last time.
    pub fn all(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no test panics while it writes"))
    }
}

/// The set.
#[derive(Clone, Default)]
pub struct Script {
    pub answers: Answers,
    pub log: Log,
    /// Notifications whose name is here keep their client waiting until the gate is open.
    pub slow: Vec<&'static str>,
    pub gate: Gate,
    /// Notifications whose name is here panic.
    pub panics: Vec<&'static str>,
}

impl Script {
    pub fn new(answers: Answers) -> Self {
        Script { answers, ..Script::default() }
    }

    fn notified(&self, name: &'static str, cx: &mut Notice<'_, ()>, what: std::fmt::Arguments<'_>) {
        self.log.note(cx.client(), what);
        if self.panics.contains(&name) {
            panic!("{name} panics as the test wants it");
        }
        if self.slow.contains(&name) {
            let (log, client, gate) = (self.log.clone(), cx.client().clone(), self.gate.clone());
            cx.later(async move {
                gate.opened().await;
                log.note(&client, format_args!("{name} is done"));
            });
        }
    }
}

/// A gate that later answers wait for.
#[derive(Clone, Default)]
pub struct Gate {
    open: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
}

impl Gate {
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    pub fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// How many have begun to wait so far.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Resolves when the gate is open; the world polls it at every turn.
    pub async fn opened(self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        poll_fn(|_| if self.open.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// `answer`, once the gate is open.
    pub fn later<M: 'static, R: 'static>(&self, answer: impl Fn() -> Answer<M, R> + 'static) -> Answer<M, R> {
        let gate = self.clone();
        Answer::later(async move {
            gate.opened().await;
            answer()
        })
    }
}

macro_rules! asked {
    ($($hook:ident($question:ident: $Question:ident) -> $Answer:ty;)*) => {
        $(
            fn $hook(&mut self, cx: &mut Context<'_, ()>, $question: &$Question<'_>) -> $Answer {
                self.log.note(cx.client(), format_args!("? {}", stringify!($hook)));
                match &self.answers.$hook {
                    Some(answer) => answer(cx.client(), $question),
                    None => <$Answer>::Next,
                }
            }
        )*
    };
}

impl Hook for Script {
    type State = ();

    asked! {
        auth_on_register(question: Register) -> Answer<RegisterModifiers, ConnectRefusal>;
        auth_on_register_m5(question: RegisterM5) -> Answer<RegisterModifiersM5, ConnectRefusalM5>;
        on_auth_m5(question: AuthExchange) -> Answer<AuthStep, ConnectRefusalM5>;
        auth_on_publish(question: PublishRequest) -> Answer<PublishModifiers, PublishRefusal>;
        auth_on_publish_m5(question: PublishRequestM5) -> Answer<PublishModifiersM5, PublishRefusalM5>;
        auth_on_subscribe(question: SubscribeRequest) -> Answer<SubscribeModifiers, SubscribeRefusal>;
        auth_on_subscribe_m5(question: SubscribeRequestM5) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5>;
        on_unsubscribe(question: UnsubscribeRequest) -> Answer<UnsubscribeModifiers, std::convert::Infallible>;
        on_unsubscribe_m5(question: UnsubscribeRequestM5)
            -> Answer<UnsubscribeModifiersM5, std::convert::Infallible>;
        on_deliver(question: Delivery) -> DeliverAnswer<DeliverModifiers>;
        on_deliver_m5(question: DeliveryM5) -> DeliverAnswer<DeliverModifiersM5>;
    }

    fn on_register(&mut self, cx: &mut Notice<'_, ()>) {
        self.notified("on_register", cx, format_args!("register"));
    }

    fn on_register_m5(&mut self, cx: &mut Notice<'_, ()>, _: &ConnectProperties<'_>) {
        self.notified("on_register_m5", cx, format_args!("register"));
    }

    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, ()>, present: bool) {
        self.notified("on_client_wakeup", cx, format_args!("wakeup{}", if present { " present" } else { "" }));
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, ()>, reason: EndReason) {
        self.notified("on_client_offline", cx, format_args!("offline {reason:?}"));
    }

    fn on_client_gone(&mut self, cx: &mut Notice<'_, ()>, reason: EndReason) {
        self.notified("on_client_gone", cx, format_args!("gone {reason:?}"));
    }

    fn on_session_expired(&mut self, cx: &mut Notice<'_, ()>, reason: ExpiredReason) {
        self.notified("on_session_expired", cx, format_args!("expired {reason:?}"));
    }

    fn on_publish(&mut self, cx: &mut Notice<'_, ()>, published: &Published<'_>) {
        let Published { topic, is_will, .. } = published;
        self.notified("on_publish", cx, format_args!("publish {topic}{}", if *is_will { " will" } else { "" }));
    }

    fn on_publish_m5(&mut self, cx: &mut Notice<'_, ()>, published: &PublishedM5<'_>) {
        let PublishedM5 { topic, is_will, .. } = published;
        self.notified("on_publish_m5", cx, format_args!("publish {topic}{}", if *is_will { " will" } else { "" }));
    }

    fn on_subscribe(&mut self, cx: &mut Notice<'_, ()>, subscribed: &Subscribed<'_>) {
        let filters: Vec<_> = subscribed.filters.iter().map(|filter| filter.filter).collect();
        self.notified("on_subscribe", cx, format_args!("subscribe {}", filters.join(" ")));
    }

    fn on_subscribe_m5(&mut self, cx: &mut Notice<'_, ()>, subscribed: &SubscribedM5<'_>) {
        let filters: Vec<_> = subscribed.filters.iter().map(|filter| filter.filter).collect();
        self.notified("on_subscribe_m5", cx, format_args!("subscribe {}", filters.join(" ")));
    }

    fn on_topic_unsubscribed(&mut self, cx: &mut Notice<'_, ()>, unsubscribed: Unsubscribed<'_>) {
        let topics = match unsubscribed {
            Unsubscribed::All => "all".to_owned(),
            Unsubscribed::Topics(topics) => topics.join(" "),
        };
        self.notified("on_topic_unsubscribed", cx, format_args!("unsubscribed {topics}"));
    }

    fn on_offline_message(&mut self, cx: &mut Notice<'_, ()>, message: &OfflineMessage<'_>) {
        self.notified("on_offline_message", cx, format_args!("stored {}", message.topic));
    }

    fn on_message_drop(&mut self, cx: &mut Notice<'_, ()>, message: &DroppedMessage<'_>, reason: DropReason) {
        self.notified("on_message_drop", cx, format_args!("dropped {} {reason:?}", message.topic));
    }
}
