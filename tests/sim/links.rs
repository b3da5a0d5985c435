//! The chain of hooks: three links that do what the histories have planned, and record their calls.
//!
//! Each keeps a typed state with the session and finds out at every call whether it is still the one it left there.

use moormq::client::{Client, DropReason, EndReason, ExpiredReason};
use moormq::codec::ConnectProperties;
use moormq::hooks::*;

use crate::history::{Ask, Exchange, FILTERS, METHODS, MOUNTS, Plan, TOPICS};
use crate::trace::{Trace, What, message_of, plan_in, serial_of};

/// The chain.
pub type Links = Linked<Linked<Linked<NoHooks, Link<0>>, Link<1>>, Link<2>>;

/// The text of a panic that belongs to a history.
pub const PLANNED: &str = "planned panic";

fn topic_number(topic: &str) -> usize {
    TOPICS.iter().position(|known| *known == topic).unwrap_or(usize::MAX)
}

fn filter_number(filter: &str) -> usize {
    FILTERS.iter().position(|known| *known == filter).unwrap_or(usize::MAX)
}

/// A link; the first one records its calls.
#[derive(Clone)]
pub struct Link<const N: usize>(pub Trace);

/// What a link keeps with the session. Each link has a type of its own.
#[derive(Default)]
pub struct Kept<const N: usize> {
    serial: u32,
    calls: u32,
    notices: u8,
}

/// What the second link does in notifications: bits of `ConnectOptions::notices`.
pub mod notice {
    pub const REGISTER: u8 = 1;
    pub const WAKEUP: u8 = 2;
    pub const LEAVING: u8 = 4;
    pub const PUBLISH: u8 = 8;
    pub const SUBSCRIBE: u8 = 16;
    /// All notifications have later work, and it is done in the end.
    pub const SLOW: u8 = REGISTER | WAKEUP | LEAVING | PUBLISH | SUBSCRIBE;
    /// It panics instead, if this is set.
    pub const PANICS: u8 = 32;
    /// It is never done, if these are set.
    pub const NEVER: u8 = 64 | 128;
}

impl<const N: usize> Link<N> {
    /// Checks that the state is the one that this link left.
    fn called(&self, client: &Client, kept: &mut Kept<N>) {
        let serial = serial_of(client.peer);
        let mut shared = self.0.open();
        let left = shared.calls(serial, N);
        let lost = kept.calls != *left || (kept.calls > 0 && kept.serial != serial);
        let (found, before) = (kept.calls, *left);
        kept.calls = before + 1;
        *left += 1;
        kept.serial = serial;
        drop(shared);
        if lost {
            self.0.note(client, What::StateLost { link: N, found, left: before });
        }
    }

    fn note(&self, client: &Client, what: impl FnOnce() -> What) {
        if N == 0 {
            self.0.note(client, what());
        }
    }

    /// The answer of this link to `plan`.
    fn answer<M: 'static, R: Default + 'static>(&self, plan: Plan, ok: impl FnOnce() -> M) -> Answer<M, R> {
        match (N, plan) {
            (0, Plan::Never) => Answer::later(std::future::pending()),
            (0, Plan::AcceptLater) => {
                let modifiers = ok();
                Answer::later(async move { Answer::Ok(modifiers) })
            }
            (1, Plan::Refuse) => Answer::Error(R::default()),
            (1, Plan::Panic) => panic!("{PLANNED}"),
            (1, Plan::Later) => Answer::later(async { Answer::Next }),
            (1, Plan::RefuseLater) => Answer::later(async { Answer::Error(R::default()) }),
            (1, Plan::PanicLater) => Answer::later(async { panic!("{PLANNED}") }),
            (2, _) => Answer::Ok(ok()),
            _ => Answer::Next,
        }
    }

    fn unsubscribe<M: Default + 'static>(&self, client: &Client) -> Answer<M, std::convert::Infallible> {
        let plan = *self.0.open().plan(serial_of(client.peer));
        match (N, plan) {
            (0, Plan::Never) => Answer::later(std::future::pending()),
            (1, Plan::Panic) => panic!("{PLANNED}"),
            (1, Plan::Later | Plan::RefuseLater) => Answer::later(async { Answer::Next }),
            (1, Plan::PanicLater) => Answer::later(async { panic!("{PLANNED}") }),
            _ => Answer::Next,
        }
    }

    fn notified(&mut self, cx: &mut Notice<'_, Kept<N>>, bit: u8, what: impl FnOnce() -> What) {
        let client = cx.client();
        self.called(client, cx.state());
        self.note(client, what);
        let notices = cx.state().notices;
        if N != 1 || notices & bit == 0 {
            return;
        }
        if notices & notice::PANICS != 0 {
            panic!("{PLANNED}");
        }
        let number = {
            let mut shared = self.0.open();
            shared.notices += 1;
            shared.notices
        };
        self.0.note(client, What::NoticeBegins(number));
        // Made here, and not in the future: that may be given up before it began.
        let to_do = ToDo { trace: self.0.clone(), client: client.clone(), number };
        let ends = notices & notice::NEVER != notice::NEVER;
        cx.later(async move {
            to_do.trace.note(&to_do.client, What::NoticeStarts(number));
            if !ends {
                std::future::pending::<()>().await;
            }
        });
    }

    fn publish<R: Default + 'static, M: 'static>(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        payload: &[u8],
        ok: impl FnOnce(bool) -> M,
    ) -> Answer<M, R> {
        let client = cx.client();
        self.called(client, cx.state());
        let plan = plan_in(payload);
        if plan.refuses() {
            self.note(client, || What::Refusing { message: message_of(payload) });
        }
        self.answer(plan, || ok(plan == Plan::Rewrite))
    }

    fn subscribe<R: Default + 'static, M: Default + 'static>(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        filters: &[RequestedFilter<'_>],
    ) -> Answer<M, R> {
        let client = cx.client();
        self.called(client, cx.state());
        self.note(client, || What::AskedSubscribe(filters_of(filters)));
        let plan = *self.0.open().plan(serial_of(client.peer));
        self.answer(plan, M::default)
    }
}

/// The later work of a notification. Its end is recorded when it is dropped, done or not.
struct ToDo {
    trace: Trace,
    client: Client,
    number: u32,
}

impl Drop for ToDo {
    fn drop(&mut self) {
        self.trace.note(&self.client, What::NoticeDone(self.number));
    }
}

fn filters_of(filters: &[RequestedFilter<'_>]) -> Vec<Ask> {
    let of = |one: &RequestedFilter<'_>| Ask { filter: filter_number(one.filter), options: one.options };
    filters.iter().map(of).collect()
}

/// The identity behind the one that a client gives.
fn identity(client: &Client) -> (Option<String>, Option<&'static str>) {
    let id = &*client.subscriber.client_id;
    match id.split_at(1) {
        ("r", rest) => (Some(format!("c{rest}")), None),
        ("m", rest) => (Some(format!("c{rest}")), Some(MOUNTS[1])),
        _ => (None, None),
    }
}

macro_rules! register {
    ($cx:ident, $self:ident, $register:ident, $Modifiers:ident) => {{
        let client = $cx.client();
        $self.called(client, $cx.state());
        let [plan, notices] = $register.password.and_then(|password| password.try_into().ok()).unwrap_or_default();
        $cx.state().notices = notices;
        let setup = $self.0.open().setup;
        let durability = setup.map(|setup| setup.durability(serial_of(client.peer)));
        $self.answer(Plan::ALL[usize::from(plan) % Plan::ALL.len()], || {
            let (client_id, mountpoint) = identity(client);
            let mut modifiers = $Modifiers::default();
            modifiers.durability = durability;
            modifiers.client_id = client_id.map(Into::into);
            modifiers.mountpoint = mountpoint.map(Into::into);
            modifiers
        })
    }};
}

impl<const N: usize> Hook for Link<N> {
    type State = Kept<N>;

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        register: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        register!(cx, self, register, RegisterModifiers)
    }

    fn auth_on_register_m5(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        register: &RegisterM5<'_>,
    ) -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
        register!(cx, self, register, RegisterModifiersM5)
    }

    fn on_auth_m5(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        let client = cx.client();
        self.called(client, cx.state());
        if exchange.method != METHODS[0] {
            return Answer::Next;
        }
        let Exchange { rounds, plan } = Exchange::read(exchange.data);
        self.note(client, || What::Authenticates(Exchange { rounds, plan }));
        if rounds == 0 {
            return self.answer(plan, AuthStep::default);
        }
        let takes_time = matches!(plan, Plan::Later | Plan::AcceptLater);
        let next = Exchange { rounds: rounds - 1, plan }.data();
        self.answer(if takes_time { plan } else { Plan::Accept }, || AuthContinue::default().data(next.to_vec()).into())
    }

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        self.publish(cx, publish.payload, |rewrite| match rewrite {
            true => PublishModifiers::default().topic(rewritten(publish.topic)),
            false => PublishModifiers::default(),
        })
    }

    fn auth_on_publish_m5(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        publish: &PublishRequestM5<'_>,
    ) -> Answer<PublishModifiersM5, PublishRefusalM5> {
        self.publish(cx, publish.payload, |rewrite| match rewrite {
            true => PublishModifiersM5::default().topic(rewritten(publish.topic)),
            false => PublishModifiersM5::default(),
        })
    }

    fn auth_on_subscribe(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        subscribe: &SubscribeRequest<'_>,
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        self.subscribe(cx, subscribe.filters)
    }

    fn auth_on_subscribe_m5(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        subscribe: &SubscribeRequestM5<'_>,
    ) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5> {
        self.subscribe(cx, subscribe.filters)
    }

    fn on_unsubscribe(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        _: &UnsubscribeRequest<'_>,
    ) -> Answer<UnsubscribeModifiers, std::convert::Infallible> {
        self.called(cx.client(), cx.state());
        self.unsubscribe(cx.client())
    }

    fn on_unsubscribe_m5(
        &mut self,
        cx: &mut Context<'_, Kept<N>>,
        _: &UnsubscribeRequestM5<'_>,
    ) -> Answer<UnsubscribeModifiersM5, std::convert::Infallible> {
        self.called(cx.client(), cx.state());
        self.unsubscribe(cx.client())
    }

    fn on_register(&mut self, cx: &mut Notice<'_, Kept<N>>) {
        self.notified(cx, notice::REGISTER, || What::Registered);
    }

    fn on_register_m5(&mut self, cx: &mut Notice<'_, Kept<N>>, _: &ConnectProperties<'_>) {
        self.notified(cx, notice::REGISTER, || What::Registered);
    }

    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, Kept<N>>, present: bool) {
        self.notified(cx, notice::WAKEUP, || What::Wakeup { present });
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, Kept<N>>, reason: EndReason) {
        self.notified(cx, notice::LEAVING, || What::Offline(reason));
    }

    fn on_client_gone(&mut self, cx: &mut Notice<'_, Kept<N>>, reason: EndReason) {
        self.notified(cx, notice::LEAVING, || What::Gone(reason));
    }

    fn on_session_expired(&mut self, cx: &mut Notice<'_, Kept<N>>, reason: ExpiredReason) {
        self.notified(cx, notice::LEAVING, || What::Expired(reason));
    }

    fn on_publish(&mut self, cx: &mut Notice<'_, Kept<N>>, published: &Published<'_>) {
        let Published { topic, payload, qos, retain, is_will, .. } = *published;
        let message = message_of(payload);
        let topic = topic_number(topic);
        self.notified(cx, notice::PUBLISH, || What::Published { message, topic, qos, retain, is_will });
    }

    fn on_publish_m5(&mut self, cx: &mut Notice<'_, Kept<N>>, published: &PublishedM5<'_>) {
        let PublishedM5 { topic, payload, qos, retain, is_will, .. } = *published;
        let message = message_of(payload);
        let topic = topic_number(topic);
        self.notified(cx, notice::PUBLISH, || What::Published { message, topic, qos, retain, is_will });
    }

    fn on_subscribe(&mut self, cx: &mut Notice<'_, Kept<N>>, subscribed: &Subscribed<'_>) {
        self.notified(cx, notice::SUBSCRIBE, || What::Subscribed(filters_of(subscribed.filters)));
    }

    fn on_subscribe_m5(&mut self, cx: &mut Notice<'_, Kept<N>>, subscribed: &SubscribedM5<'_>) {
        self.notified(cx, notice::SUBSCRIBE, || What::Subscribed(filters_of(subscribed.filters)));
    }

    fn on_topic_unsubscribed(&mut self, cx: &mut Notice<'_, Kept<N>>, unsubscribed: Unsubscribed<'_>) {
        self.notified(cx, 0, || match unsubscribed {
            Unsubscribed::All => What::UnsubscribedAll,
            Unsubscribed::Topics(topics) => What::Unsubscribed(topics.iter().map(|one| filter_number(one)).collect()),
        });
    }

    fn on_message_drop(&mut self, cx: &mut Notice<'_, Kept<N>>, message: &DroppedMessage<'_>, reason: DropReason) {
        let (number, qos) = (message_of(message.payload), message.qos);
        self.notified(cx, 0, || What::Dropped { message: number, qos, reason });
    }
}

/// What a hook makes of a topic: another one that the same clients may or may not subscribe to.
fn rewritten(topic: &str) -> String {
    match topic {
        "a/x" => "a/y",
        "a/y" => "b/x",
        "s/p/x" => "s/p/y",
        other => other,
    }
    .to_owned()
}
