//! The trait to implement: every hook, when it is called, and what its answers mean.

use std::convert::Infallible;

use super::answer::{Answer, DeliverAnswer};
use super::auth::{AuthExchange, AuthStep};
use super::context::{Context, Notice};
use super::counts::CountsByHook;
use super::deliver::{DeliverModifiers, DeliverModifiersM5, Delivery, DeliveryM5};
use super::lifecycle::{DroppedMessage, OfflineMessage};
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
use crate::client::{DropReason, EndReason, ExpiredReason};
use crate::codec::ConnectProperties;

/// One link of a chain: implement the hooks you need, the others are not there and cost nothing.
///
/// Hooks come in pairs where versions differ: the plain one for v3 clients (MQTT 3.1 and 3.1.1), the one with `_m5` for
/// v5 clients. [`V3Only`](super::V3Only) has the plain ones serve both. Every shard has its own copy of a link, so
/// `&mut self` needs no lock; what copies share they must share themselves (an [`Arc`](std::sync::Arc) made before the chain).
///
/// For one subscriber id, notifications are called strictly in the order in which things happened, never two at a time, and
/// before the client sees any packet that depends on them. They answer nothing; what one wants done before the client goes
/// on it hands over as a task ([`Notice::later`]), and these tasks run one after the other, too. The hooks of the lifecycle
/// spell this grammar, whatever happens:
///
/// ```text
/// absent  --on_client_wakeup-->    online
/// online  --on_client_offline-->   offline        the session was kept
/// online  --on_client_gone-->      absent         the session ended with its connection
/// offline --on_client_wakeup-->    online         resumed: session present
/// offline --on_session_expired-->  absent
/// ```
///
/// # Panics
///
/// A panic in a hook is caught and logged with the names of hook and link, and the link is called again the next time.
/// A conditional hook that panics has refused, as its table of answers says; one that cannot refuse has changed nothing.
/// So has one that answers *too late*, in what follows: after `hooks.later_deadline`, or the `later_deadline` of its own
/// table `[hooks.NAME]`. With `on_deadline = "allow"` it has said *Ok* instead, without modifiers.
///
/// # Counters
///
/// Every link counts what its hooks answer, and how long later answers take: [`HookCounts`](super::HookCounts), by
/// [`Broker::hooks`](crate::Broker::hooks) and in `$SYS/broker/hooks/LINK/HOOK/COUNTER`. The time of answers that are given
/// now is taken only for links that set [`Hook::TIMED`].
pub trait Hook: Send + 'static {
    /// What this link keeps per session; `()` if nothing.
    ///
    /// It begins with `Default` at each CONNECT, so that the hooks which let the client in can leave there what later
    /// ones need, and belongs to the session from `on_client_wakeup` on: it moves with it from shard to shard, stays
    /// while the client is away, and is dropped when the session ends or the next CONNECT of a kept session brings its
    /// own. Neither making nor dropping it may panic.
    ///
    /// When the broker has died, or was stopped, and goes on with a store, sessions that were on disk have it again if the link can
    /// [store it](Self::state_version); otherwise they begin with `Default`. So `on_client_offline` with *server crash*, `on_session_expired`,
    /// `on_offline_message` and `on_message_drop` find what hooks before them left there.
    ///
    /// An answer that comes later cannot borrow it while it is under way. One that is to read it or write something down is begun with
    /// [`Context::later`], and made with the state when it is here.
    type State: Default + Send + 'static;

    /// Whether the time that this link spends in its hooks is estimated, from one call in 1024 and some of the first
    /// ([`HookCounts::time`](super::HookCounts::time), which stays 0 without it). [`Stock`](super::stock::Stock), the link
    /// of the program, has it on; all others have it off unless they say so. It costs each hook some comparisons, also
    /// those that the link does not have; without it, these are no code at all. How long later answers take is known in any
    /// case.
    const TIMED: bool = false;

    /// How logs and counters name this link; the name of its type, unless you say otherwise.
    fn name(&self) -> &'static str {
        short_type_name::<Self>()
    }

    /// Whether the time of this very link is taken, if [`Hook::TIMED`] says that it may be. Of the broker's own links.
    #[doc(hidden)]
    #[inline(always)]
    fn is_timed(&self) -> bool {
        true
    }

    /// If this link is made of others, what was `counted` of it as a whole, shared out among them. Of the broker's own links.
    #[doc(hidden)]
    fn parts(&self, counted: &CountsByHook) -> Option<Vec<(&'static str, CountsByHook)>> {
        let _ = counted;
        None
    }

    /// The version of the form in which this link stores what it keeps with sessions; none, as long as a link does not say otherwise, if it is not
    /// stored. It must be the same for every copy of the link, and as long as the broker runs.
    ///
    /// What links keep is written to the store, for sessions that are stored (not of class `none`), when their clients have connected, behind
    /// `on_client_wakeup` and before CONNACK; when the connection ends, behind `on_client_offline`; when a notification says that it
    /// [has changed](Notice::state_changed); and whenever the journal is written anew. What changes otherwise is on disk with the next of these. Like all
    /// of a session it survives what its class promises.
    ///
    /// Counted: `hooks/states/restored` and `hooks/states/anew` below `$SYS/broker/`, by link and session, at the start; `hooks/states/left out` whenever
    /// something could not be written.
    fn state_version(&self) -> Option<u32> {
        None
    }

    /// Writes `state` to the end of `out`, in the form of [`state_version`](Self::state_version). Called only if there is one, and as often as said
    /// there: it must not block. If it is more than [`MOST_STATE_BYTES`](super::MOST_STATE_BYTES), or if it panics, nothing of it is stored, and a
    /// session that is restored begins anew.
    fn store_state(&self, state: &Self::State, out: &mut Vec<u8>) {
        let _ = (state, out);
    }

    /// Makes of `bytes`, which a link of the same [name](Self::name) has [written](Self::store_state) in the form of this `version`, what it keeps with a
    /// session. None if that is not possible: then it begins with `Default`, as it does after a panic. Called before anybody is connected.
    fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<Self::State> {
        let _ = (version, bytes);
        None
    }

    /// May this v3 client connect, and with which settings?
    ///
    /// *When:* CONNECT of a v3 client whose client id is settled, before any session state is touched, on the shard that
    /// accepted the connection.
    ///
    /// *Ok:* connect, with [`RegisterModifiers`]; the identity may change here. *Error:* CONNACK with return code 5, or
    /// 4, 2, 3, as [`ConnectRefusal`] says. *Panic:* code 5. *Too late:* code 3. *All next:* code 4 if the client has a user
    /// name, as for a wrong password, so that nobody learns which names exist, else 5; unless `allow_anonymous` is on,
    /// which accepts whoever all links said *Next* to.
    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        register: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        let _ = (cx, register);
        Answer::absent()
    }

    /// May this v5 client connect, and with which settings?
    ///
    /// *When:* CONNECT of a v5 client whose client id is settled, before any session state is touched; with an
    /// Authentication Method, after [`on_auth_m5`](Self::on_auth_m5) agreed, and both must.
    ///
    /// *Ok:* connect, with [`RegisterModifiersM5`]; what the client cannot know is told in CONNACK. *Error:* CONNACK with
    /// the reason code, reason string, server reference and user properties of [`ConnectRefusalM5`]. *Panic:* 0x87. *Too late:* 0x88. *All next:* 0x86 if the client has a user name and no Authentication Method, else 0x87; unless
    /// `allow_anonymous` is on, which accepts whoever all links said *Next* to.
    fn auth_on_register_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        register: &RegisterM5<'_>,
    ) -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
        let _ = (cx, register);
        Answer::absent()
    }

    /// The next step of an enhanced authentication (MQTT 5.0, 4.12).
    ///
    /// *When:* CONNECT with an Authentication Method (user name, password and client id not looked at yet: a client
    /// without an id has an empty one), each AUTH 0x18 that follows, and AUTH 0x19 on a live connection, with which the
    /// client authenticates again. Normal traffic goes on during a re-authentication.
    ///
    /// *Ok:* [`AuthStep::Continue`] sends AUTH 0x18 with its data and waits for the client. The whole exchange may take
    /// `auth_timeout`, after which it has failed: 0x87.
    /// [`AuthStep::Success`] goes on to [`auth_on_register_m5`](Self::auth_on_register_m5), its data go into CONNACK; a
    /// re-authentication is answered with AUTH 0x00. *Error:* CONNACK with the code, or DISCONNECT with it on a live
    /// connection, whose will is published. *Next:* I do not know this method. *All next:* CONNACK 0x8C. *Panic:*
    /// 0x87. *Too late:* CONNACK 0x88, or DISCONNECT 0x87.
    fn on_auth_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        let _ = (cx, exchange);
        Answer::absent()
    }

    /// A v3 client was authenticated.
    ///
    /// *When:* `auth_on_register` agreed and the will was accepted, before the client attaches to its session. The
    /// CONNECT can no longer be refused. Always followed by [`on_client_wakeup`](Self::on_client_wakeup), after what a
    /// takeover brings. That comes before if it leaves more than 1024 messages or had more than 1024 shared subscriptions: of a session that ends,
    /// or of a client whose session is kept.
    fn on_register(&mut self, cx: &mut Notice<'_, Self::State>) {
        cx.absent();
    }

    /// A v5 client was authenticated; `properties` are those of its CONNECT.
    ///
    /// *When:* as [`on_register`](Self::on_register).
    fn on_register_m5(&mut self, cx: &mut Notice<'_, Self::State>, properties: &ConnectProperties<'_>) {
        let _ = properties;
        cx.absent();
    }

    /// A client is connected and in a completely initialised, normal state: its session is there, a former connection
    /// is closed, messages that waited have arrived from wherever they were.
    ///
    /// *When:* just before CONNACK. `session_present` is what CONNACK says: whether an earlier session was resumed.
    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, Self::State>, session_present: bool) {
        let _ = session_present;
        cx.absent();
    }

    /// A client lost its connection, and its session is kept.
    ///
    /// *When:* after the connection is closed for whatever reason, a takeover included. Followed, some day, by
    /// [`on_client_wakeup`](Self::on_client_wakeup) or [`on_session_expired`](Self::on_session_expired).
    fn on_client_offline(&mut self, cx: &mut Notice<'_, Self::State>, reason: EndReason) {
        let _ = reason;
        cx.absent();
    }

    /// A client lost its connection, and its session ended with it.
    ///
    /// *When:* after the connection is closed for whatever reason, a takeover included, and after
    /// [`on_topic_unsubscribed`](Self::on_topic_unsubscribed) for all its subscriptions.
    fn on_client_gone(&mut self, cx: &mut Notice<'_, Self::State>, reason: EndReason) {
        let _ = reason;
        cx.absent();
    }

    /// A kept session ended while its client was away.
    ///
    /// *When:* it expired, an operator or the program removed it, or its client comes back with a clean start; after
    /// [`on_topic_unsubscribed`](Self::on_topic_unsubscribed) for all its subscriptions.
    fn on_session_expired(&mut self, cx: &mut Notice<'_, Self::State>, reason: ExpiredReason) {
        let _ = reason;
        cx.absent();
    }

    /// May this v3 client publish this?
    ///
    /// *When:* each PUBLISH, once per QoS 2 packet id; and each will, while connecting ([`PublishRequest::is_will`]).
    /// Not for topics that begin with `$`, which are never routed.
    ///
    /// *Ok:* route it, with [`PublishModifiers`]. *Error, all next, panic, or too late:* it is not routed. A 3.1.1 client
    /// is closed, its will published (`unauthorized_publish = "disconnect"`), or acknowledged (`"ignore"`); a 3.1 client
    /// is acknowledged. A will: CONNACK 5.
    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        let _ = (cx, publish);
        Answer::absent()
    }

    /// May this v5 client publish this?
    ///
    /// *When:* as [`auth_on_publish`](Self::auth_on_publish).
    ///
    /// *Ok:* route it, with [`PublishModifiersM5`]. *Error, all next, panic, or too late:* it is not routed; PUBACK or
    /// PUBREC carries the code of [`PublishRefusalM5`], else 0x87, and at QoS 0 nothing is said. The client stays
    /// connected. A will: CONNACK 0x87.
    fn auth_on_publish_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        publish: &PublishRequestM5<'_>,
    ) -> Answer<PublishModifiersM5, PublishRefusalM5> {
        let _ = (cx, publish);
        Answer::absent()
    }

    /// A message of a v3 client was routed, or its will was.
    ///
    /// *When:* after routing, with the values as modified, before the acknowledgement; before or after what becomes of it at each
    /// subscriber is told. Not if it was refused.
    fn on_publish(&mut self, cx: &mut Notice<'_, Self::State>, published: &Published<'_>) {
        let _ = published;
        cx.absent();
    }

    /// A message of a v5 client was routed, or its will was.
    ///
    /// *When:* as [`on_publish`](Self::on_publish).
    fn on_publish_m5(&mut self, cx: &mut Notice<'_, Self::State>, published: &PublishedM5<'_>) {
        let _ = published;
        cx.absent();
    }

    /// May this v3 client subscribe to these filters?
    ///
    /// *When:* each SUBSCRIBE, once for all its filters, before any of them takes effect.
    ///
    /// *Ok:* per filter what [`SubscribeModifiers`] says, refused ones answered 0x80. *Error, all next, panic, or too
    /// late:* SUBACK with 0x80 for every filter.
    fn auth_on_subscribe(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        subscribe: &SubscribeRequest<'_>,
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        let _ = (cx, subscribe);
        Answer::absent()
    }

    /// May this v5 client subscribe to these filters?
    ///
    /// *When:* as [`auth_on_subscribe`](Self::auth_on_subscribe).
    ///
    /// *Ok:* per filter what [`SubscribeModifiersM5`] says, refused ones answered with their code. *Error:* SUBACK with
    /// the code of [`SubscribeRefusalM5`] for every filter. *All next, panic, or too late:* 0x87 for every filter.
    fn auth_on_subscribe_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        subscribe: &SubscribeRequestM5<'_>,
    ) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5> {
        let _ = (cx, subscribe);
        Answer::absent()
    }

    /// A v3 client subscribed.
    ///
    /// *When:* after the subscriptions took effect on every shard, before SUBACK. Not if every filter was refused.
    fn on_subscribe(&mut self, cx: &mut Notice<'_, Self::State>, subscribed: &Subscribed<'_>) {
        let _ = subscribed;
        cx.absent();
    }

    /// A v5 client subscribed.
    ///
    /// *When:* as [`on_subscribe`](Self::on_subscribe).
    fn on_subscribe_m5(&mut self, cx: &mut Notice<'_, Self::State>, subscribed: &SubscribedM5<'_>) {
        let _ = subscribed;
        cx.absent();
    }

    /// Which filters does this v3 client mean to unsubscribe from?
    ///
    /// *When:* each UNSUBSCRIBE, once for all its filters, before it takes effect.
    ///
    /// *Ok:* the filters of [`UnsubscribeModifiers`] instead, one for each of the packet. It cannot be refused: *all next,
    /// panic, or too late* unsubscribes from the filters of the packet. UNSUBACK follows in any case.
    fn on_unsubscribe(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        unsubscribe: &UnsubscribeRequest<'_>,
    ) -> Answer<UnsubscribeModifiers, Infallible> {
        let _ = (cx, unsubscribe);
        Answer::absent()
    }

    /// Which filters does this v5 client mean to unsubscribe from?
    ///
    /// *When and answers:* as [`on_unsubscribe`](Self::on_unsubscribe); [`UnsubscribeModifiersM5`] may also say what
    /// UNSUBACK tells.
    fn on_unsubscribe_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        unsubscribe: &UnsubscribeRequestM5<'_>,
    ) -> Answer<UnsubscribeModifiersM5, Infallible> {
        let _ = (cx, unsubscribe);
        Answer::absent()
    }

    /// Subscriptions were removed.
    ///
    /// *When:* after an UNSUBSCRIBE took effect, before UNSUBACK, with those of its filters that were subscribed to; with
    /// [`Unsubscribed::All`] when the session ends, before [`on_client_gone`](Self::on_client_gone) or
    /// [`on_session_expired`](Self::on_session_expired), also if there were none; only [`on_message_drop`](Self::on_message_drop) comes between.
    fn on_topic_unsubscribed(&mut self, cx: &mut Notice<'_, Self::State>, unsubscribed: Unsubscribed<'_>) {
        let _ = unsubscribed;
        cx.absent();
    }

    /// What does this v3 subscriber get to see of this message?
    ///
    /// *When:* just before an outgoing PUBLISH is built; a retransmission carries what was answered the first time.
    /// Answers are given now: an outgoing PUBLISH never waits. The messages of one publisher to one topic come in their order to each
    /// subscriber. No order is promised between subscribers, or between this and [`on_publish`](Self::on_publish).
    ///
    /// *Ok:* send it with [`DeliverModifiers`]. *All next, or panic:* send it unchanged. What is changed is encoded for this
    /// subscriber alone: leave alone what need not change.
    fn on_deliver(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        delivery: &Delivery<'_>,
    ) -> DeliverAnswer<DeliverModifiers> {
        let _ = (cx, delivery);
        DeliverAnswer::absent()
    }

    /// What does this v5 subscriber get to see of this message?
    ///
    /// *When and answers:* as [`on_deliver`](Self::on_deliver), with [`DeliverModifiersM5`].
    fn on_deliver_m5(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        delivery: &DeliveryM5<'_>,
    ) -> DeliverAnswer<DeliverModifiersM5> {
        let _ = (cx, delivery);
        DeliverAnswer::absent()
    }

    /// A message was stored for a client that is away, also as a member of a shared subscription.
    ///
    /// *When:* after it was stored, at QoS 1 or 2. Not if it was dropped instead: that is
    /// [`on_message_drop`](Self::on_message_drop).
    fn on_offline_message(&mut self, cx: &mut Notice<'_, Self::State>, message: &OfflineMessage<'_>) {
        let _ = message;
        cx.absent();
    }

    /// A message was dropped for one subscriber: the client of `cx`.
    ///
    /// *When:* its queue was full, it expired, it is larger than the client's Maximum Packet Size, its session ended, it
    /// was QoS 0 and the client is away or does not read. The counter of its [`DropReason`] is in `$SYS`, too.
    ///
    /// What a session leaves comes before [`on_client_gone`](Self::on_client_gone) or
    /// [`on_session_expired`](Self::on_session_expired). If that is more than 1024 messages, other clients are served in between. So are they if
    /// more than 1024 messages of QoS 0 wait for a client that leaves: these may come behind [`on_client_offline`](Self::on_client_offline), but
    /// before the next [`on_client_wakeup`](Self::on_client_wakeup).
    fn on_message_drop(&mut self, cx: &mut Notice<'_, Self::State>, message: &DroppedMessage<'_>, reason: DropReason) {
        let _ = (message, reason);
        cx.absent();
    }
}

/// The last name in the path of `T`, without its parameters.
fn short_type_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let path = name.split_once('<').map_or(name, |(path, _)| path);
    path.rsplit("::").next().unwrap_or(path)
}
