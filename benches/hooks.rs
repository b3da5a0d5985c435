//! What a chain of hooks costs per message: nothing if it has no hook, and little if its links answer now.
//!
//! One iteration asks and calls what one message from one publisher to one subscriber does: `auth_on_publish`,
//! `on_publish`, `on_deliver`. `dyn` is the same three links the way they are usually kept, boxed in a list, behind the
//! same barrier against panics.

mod links;

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use moormq::client::{Client, SubscriberId};
use moormq::codec::{ProtocolVersion, QoS};
use moormq::hooks::{
    Answer, Chain, Context, DeliverAnswer, DeliverModifiers, Delivery, Hook, HookClock, NoHooks, Notice, Notified,
    PublishModifiers, PublishModifiersM5, PublishRefusal, PublishRefusalM5, PublishRequest, Published, Verdict,
};
use moormq::net::clock::nanos;

use links::{Agreeing, Undecided};

/// A link that has none of the hooks asked.
struct Unrelated;

impl Hook for Unrelated {
    type State = ();
}

/// [`Undecided`], with the time of its answers taken.
#[derive(Default)]
struct Timed(Undecided);

impl Hook for Timed {
    type State = ();
    const TIMED: bool = true;

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, ()>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        self.0.auth_on_publish(cx, publish)
    }

    fn on_publish(&mut self, cx: &mut Notice<'_, ()>, published: &Published<'_>) {
        self.0.on_publish(cx, published);
    }

    fn on_deliver(&mut self, cx: &mut Context<'_, ()>, delivery: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
        self.0.on_deliver(cx, delivery)
    }
}

/// The message of every iteration.
struct Message {
    client: Client,
    topic: String,
    payload: Vec<u8>,
}

impl Message {
    fn new() -> Self {
        let client = Client {
            subscriber: SubscriberId::new("", "publisher-1"),
            peer: ([127, 0, 0, 1], 40000).into(),
            listener: "bench".into(),
            version: ProtocolVersion::V311,
            username: None,
            certificate: None,
            connected_at: SystemTime::UNIX_EPOCH,
            session_number: 1,
        };
        Message { client, topic: "sensors/17/temperature".to_owned(), payload: vec![7; 64] }
    }

    fn request(&self) -> PublishRequest<'_> {
        let (topic, payload) = (self.topic.as_str(), self.payload.as_slice());
        PublishRequest { topic, payload, qos: QoS::AtMostOnce, retain: false, is_will: false }
    }

    fn published(&self) -> Published<'_> {
        let PublishRequest { topic, payload, qos, retain, is_will } = self.request();
        Published { mountpoint: "", topic, payload, qos, retain, is_will }
    }

    fn delivery(&self) -> Delivery<'_> {
        let PublishRequest { topic, payload, qos, retain, .. } = self.request();
        Delivery { topic, payload, qos, retain }
    }
}

/// What a chain is asked for one message of a v3 client, its verdict put in m5 words as the shard does. Whether it may be
/// published, whether it is changed, whether a call failed. A function of its own for each chain, so that its code can be
/// counted and looked at: see `tuning.md`.
#[inline(never)]
fn through_chain<C: Chain>(chain: &mut C, state: &mut C::State, message: &Message) -> (bool, bool, bool) {
    let verdict = chain.auth_on_publish(0, &message.client, state, &message.request());
    let allowed = match verdict.convert::<PublishModifiersM5, PublishRefusalM5>() {
        Verdict::Ok(modifiers) => modifiers.topic.is_none(),
        _ => false,
    };
    let notified = chain.on_publish(&message.client, state, &message.published());
    let changed = match chain.on_deliver(&message.client, state, &message.delivery()) {
        Some(modifiers) => modifiers.topic.is_some(),
        None => false,
    };
    (allowed, changed, notified.failed() > 0)
}

/// One link behind a pointer, behind the same barrier: a chain of one.
trait Link {
    fn auth_on_publish(&mut self, message: &Message) -> Verdict<PublishModifiers, PublishRefusal>;
    fn on_publish(&mut self, message: &Message) -> Notified;
    fn on_deliver(&mut self, message: &Message) -> Option<DeliverModifiers>;
}

impl<C: Chain<State = ((), ())>> Link for C {
    fn auth_on_publish(&mut self, message: &Message) -> Verdict<PublishModifiers, PublishRefusal> {
        Chain::auth_on_publish(self, 0, &message.client, &mut ((), ()), &message.request())
    }

    fn on_publish(&mut self, message: &Message) -> Notified {
        Chain::on_publish(self, &message.client, &mut ((), ()), &message.published())
    }

    fn on_deliver(&mut self, message: &Message) -> Option<DeliverModifiers> {
        Chain::on_deliver(self, &message.client, &mut ((), ()), &message.delivery())
    }
}

/// [`through_chain`], with a list of boxed links.
fn through_list(links: &mut [Box<dyn Link>], message: &Message) -> (bool, bool, bool) {
    let mut allowed = false;
    for link in links.iter_mut() {
        match link.auth_on_publish(message).convert::<PublishModifiersM5, PublishRefusalM5>() {
            Verdict::Exhausted => continue,
            Verdict::Ok(modifiers) => allowed = modifiers.topic.is_none(),
            _ => {}
        }
        break;
    }
    let mut failed = false;
    for link in links.iter_mut() {
        failed |= link.on_publish(message).failed() > 0;
    }
    let modifiers = links.iter_mut().find_map(|link| link.on_deliver(message));
    (allowed, modifiers.is_some_and(|modifiers| modifiers.topic.is_some()), failed)
}

fn per_message(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hooks/per_message");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let message = Message::new();

    let mut none = NoHooks;
    group.bench_function("none", |bencher| {
        bencher.iter(|| through_chain(black_box(&mut none), &mut (), black_box(&message)));
    });
    let mut unrelated = NoHooks.hook(Unrelated).hook(Unrelated).hook(Unrelated);
    group.bench_function("three links without these hooks", |bencher| {
        bencher.iter(|| through_chain(black_box(&mut unrelated), &mut Default::default(), black_box(&message)));
    });
    let mut now = NoHooks.hook(Undecided::default()).hook(Undecided::default()).hook(Agreeing::default());
    group.bench_function("three links that answer now", |bencher| {
        bencher.iter(|| through_chain(black_box(&mut now), &mut Default::default(), black_box(&message)));
    });
    let mut timed = NoHooks.hook(Timed::default()).hook(Timed::default()).hook(Agreeing::default());
    timed.time_by(HookClock(nanos));
    group.bench_function("three links that answer now, two of them timed", |bencher| {
        bencher.iter(|| through_chain(black_box(&mut timed), &mut Default::default(), black_box(&message)));
    });
    let mut boxed: Vec<Box<dyn Link>> = vec![
        Box::new(NoHooks.hook(Undecided::default())),
        Box::new(NoHooks.hook(Undecided::default())),
        Box::new(NoHooks.hook(Agreeing::default())),
    ];
    group.bench_function("three links that answer now, dyn", |bencher| {
        bencher.iter(|| through_list(black_box(&mut boxed), black_box(&message)));
    });
    group.finish();
}

criterion_group!(benches, per_message);
criterion_main!(benches);
