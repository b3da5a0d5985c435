//! A round in which messages flow: connect, warm up, measure, drain.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::client::{Client, Event};
use crate::credit::Credit;
use crate::deliveries::Deliveries;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::names::Names;
use crate::process::own_cpu;
use crate::sample::MessagesSample;
use crate::scenario::{Load, Messages};
use crate::stamp::Stamp;
use crate::target::Target;
use crate::times::{Latency, Times};
use crate::timing::Timing;
use crate::watcher::Watcher;
use crate::writes::{Writes, bytes_of_a_commit};

/// How many clients connect at a time.
const AT_A_TIME: usize = 64;

/// If nothing arrives for so long, what is on its way is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a drain may take as long as things do arrive.
const DRAIN: Duration = Duration::from_secs(30);

/// How long the loop sleeps at most before it looks at the time.
const LOOK: Duration = Duration::from_millis(20);

/// Runs one round.
///
/// # Errors
///
/// As [`run::round`](crate::run::round).
pub fn round(
    messages: &Messages,
    target: &Target,
    timing: Timing,
    interrupt: &Interrupt,
) -> Result<MessagesSample, Failure> {
    let names = Names::of(messages, target, interrupt)?;
    let mut traffic = Traffic::connect(messages, &names, target, interrupt)?;
    traffic.flow(timing.warm_up)?;
    let watching = target.watcher.as_ref().map(Watcher::start).transpose()?;
    let before = traffic.mark(target)?;
    traffic.flow(timing.window)?;
    let after = traffic.mark(target)?;
    if let Some(watching) = watching {
        watching.stop();
    }
    traffic.drain()?;
    let writes = target
        .store
        .as_deref()
        .map(|store| Writes { bytes: after.written - before.written, each: bytes_of_a_commit(store) });
    Ok(MessagesSample {
        wall: after.time - before.time,
        delivered: after.delivered - before.delivered,
        broker_cpu: after.broker_cpu.saturating_sub(before.broker_cpu),
        generator_cpu: after.generator_cpu - before.generator_cpu,
        peak_resident: target.processes.peak_resident()?,
        tally: traffic.deliveries.tally(),
        expected: traffic.deliveries.expected(),
        unacknowledged: traffic.engine.in_flight() as u64,
        given_up: traffic.given_up,
        latency: traffic.source.latency(before.time..after.time),
        lateness: traffic.source.lateness(before.time..after.time),
        acknowledged: traffic.source.acknowledgements(before.time..after.time).map(Box::new),
        writes,
    })
    .inspect(|_| traffic.engine.close())
}

/// What there is to read at either end of the window.
struct Mark {
    time: Duration,
    delivered: u64,
    broker_cpu: Duration,
    generator_cpu: Duration,
    /// By the broker, in bytes.
    written: u64,
}

/// The clients of a scenario at work. Subscribers come first in the engine, then publishers.
struct Traffic {
    engine: Engine,
    deliveries: Deliveries,
    source: Source,
    subscribers: usize,
    /// When the clock of the stamps began.
    start: Instant,
    /// When something arrived last.
    arrived: Instant,
    /// When to look for messages that publishers wait for in vain.
    look: Instant,
    given_up: u64,
}

/// What makes publishers publish.
enum Source {
    Closed(Closed),
    Open(Schedule),
}

/// Publishers wait until messages were delivered.
struct Closed(Credit);

/// Publishers take turns at fixed times.
struct Schedule {
    interval: Duration,
    publishers: u32,
    /// When the next message is due, since the start, and whose turn it is.
    due: Duration,
    turn: u32,
    /// When each delivered message had been due, and how long it took after that.
    took: Times,
    /// The same until it was acknowledged.
    acknowledged: Times,
    /// When each published message was due, and how long after that it was published.
    late: Times,
}

impl Traffic {
    fn connect(messages: &Messages, names: &Names, target: &Target, interrupt: &Interrupt) -> Result<Self, Failure> {
        let mut engine = Engine::new(interrupt)?;
        let Messages { version, qos, payload, kept, .. } = *messages;
        let keep = |client: Client| if kept { client.kept() } else { client };
        let in_flight = messages.packet_ids();
        let subscribers = (0..messages.subscribers).map(|number| {
            let client = Client::subscriber(names.subscriber(number), version, messages.filters(number), qos);
            let client = if number < messages.subscribers - messages.stuck { client } else { client.stuck() };
            keep(client)
        });
        engine.open(subscribers, target.address, AT_A_TIME)?;
        let publishers = (0..messages.publishers).map(|number| {
            let client =
                Client::publisher(names.publisher(number), version, messages.topics(number), payload, qos, in_flight);
            keep(if matches!(messages.load, Load::Open { .. }) { client.timed() } else { client })
        });
        engine.open(publishers, target.address, AT_A_TIME)?;
        let now = Instant::now();
        Ok(Traffic {
            engine,
            deliveries: Deliveries::new(messages),
            source: Source::new(messages),
            subscribers: messages.subscribers,
            start: now,
            arrived: now,
            look: now + PATIENCE,
            given_up: 0,
        })
    }

    fn mark(&self, target: &Target) -> Result<Mark, Failure> {
        Ok(Mark {
            time: self.start.elapsed(),
            delivered: self.deliveries.tally().delivered,
            broker_cpu: target.processes.cpu()?,
            generator_cpu: own_cpu()?,
            written: target.store.as_ref().map_or(Ok(0), |_| target.processes.written())?,
        })
    }

    /// Lets messages flow for `duration`.
    fn flow(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        loop {
            self.source.publish(&mut self.engine, &mut self.deliveries, self.subscribers, self.start.elapsed());
            self.engine.flush()?;
            self.receive()?;
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now >= self.look {
                self.look = now + PATIENCE;
                self.given_up += self.source.give_up_old(&self.deliveries);
            }
        }
    }

    /// Lets arrive what was published, until all is there and acknowledged or nothing comes any more.
    fn drain(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        self.arrived = begin;
        loop {
            self.engine.flush()?;
            let complete =
                self.deliveries.tally().delivered >= self.deliveries.expected() && self.engine.in_flight() == 0;
            if complete || self.arrived.elapsed() > PATIENCE || begin.elapsed() > DRAIN {
                return Ok(());
            }
            self.receive()?;
        }
    }

    /// One turn of the engine.
    fn receive(&mut self) -> Result<(), Failure> {
        let Traffic { engine, deliveries, source, start, .. } = self;
        let timeout = source.timeout();
        let (mut any, mut unstamped) = (false, false);
        engine.turn(timeout, |index, event| {
            let payload = match event {
                Event::Delivered(payload) => payload,
                Event::Acknowledged(time) => return source.acknowledged(time, *start),
                _ => return,
            };
            any = true;
            match Stamp::of(payload) {
                Some(stamp) => source.delivered(stamp, deliveries.deliver(index, stamp), *start),
                None => unstamped = true,
            }
        })?;
        if unstamped {
            return Err(Failure::Broker("a payload arrived that nobody sent".to_owned()));
        }
        if any {
            self.arrived = Instant::now();
        }
        Ok(())
    }
}

impl Source {
    fn new(messages: &Messages) -> Self {
        match messages.load {
            Load::Closed { outstanding, share } => {
                Source::Closed(Closed(Credit::new(messages.publishers, outstanding, share, messages.copies())))
            }
            Load::Open { rate } => Source::Open(Schedule {
                interval: Duration::from_secs(1) / rate,
                publishers: messages.publishers as u32,
                due: Duration::ZERO,
                turn: 0,
                took: Times::default(),
                acknowledged: Times::default(),
                late: Times::default(),
            }),
        }
    }

    /// Publishes what may or must be published now.
    fn publish(&mut self, engine: &mut Engine, deliveries: &mut Deliveries, subscribers: usize, now: Duration) {
        match self {
            Source::Closed(closed) => closed.publish(engine, deliveries, subscribers, now),
            Source::Open(schedule) => schedule.publish(engine, deliveries, subscribers, now),
        }
    }

    /// Takes in a delivery that makes a subscriber done with the messages `done`.
    #[inline]
    fn delivered(&mut self, stamp: Stamp, done: Range<u32>, start: Instant) {
        match self {
            Source::Closed(closed) => closed.0.done(stamp.publisher, done),
            Source::Open(schedule) => {
                let took = (start.elapsed().as_nanos() as u64).saturating_sub(stamp.time);
                schedule.took.add(stamp.time, took);
            }
        }
    }

    /// Takes in that the message with this time in its stamp was acknowledged.
    #[inline]
    fn acknowledged(&mut self, time: u64, start: Instant) {
        if let Source::Open(schedule) = self {
            schedule.acknowledged.add(time, (start.elapsed().as_nanos() as u64).saturating_sub(time));
        }
    }

    /// Gives up messages that publishers wait for in vain, and gives how many those were.
    fn give_up_old(&mut self, deliveries: &Deliveries) -> u64 {
        match self {
            Source::Closed(closed) => closed.0.give_up_old(deliveries.published()),
            Source::Open(_) => 0,
        }
    }

    /// How long the engine may sleep. A schedule leaves no time for that: it would be woken up late.
    fn timeout(&self) -> Option<Duration> {
        match self {
            Source::Closed(_) => Some(LOOK),
            Source::Open(_) => None,
        }
    }

    /// How long the messages took that were due in `window`.
    fn latency(&self, window: Range<Duration>) -> Option<Latency> {
        match self {
            Source::Closed(_) => None,
            Source::Open(schedule) => schedule.took.within(window),
        }
    }

    /// How long it took until the messages were acknowledged that were due in `window`.
    fn acknowledgements(&self, window: Range<Duration>) -> Option<Latency> {
        match self {
            Source::Closed(_) => None,
            Source::Open(schedule) => schedule.acknowledged.within(window),
        }
    }

    /// How late the generator itself was with the messages that were due in `window`.
    fn lateness(&self, window: Range<Duration>) -> Option<Latency> {
        match self {
            Source::Closed(_) => None,
            Source::Open(schedule) => schedule.late.within(window),
        }
    }
}

impl Closed {
    fn publish(&mut self, engine: &mut Engine, deliveries: &mut Deliveries, subscribers: usize, now: Duration) {
        let time = now.as_nanos() as u64;
        // Publishers in a row that have to wait for an acknowledgement.
        let mut waiting = 0;
        self.0.resume();
        while waiting < deliveries.published().len()
            && let Some(publisher) = self.0.next()
        {
            let sequence = deliveries.published()[publisher as usize];
            if engine.publish(subscribers + publisher as usize, Stamp { publisher, sequence, time }) {
                deliveries.publish(publisher);
                self.0.spend(publisher, sequence);
                waiting = 0;
            } else {
                self.0.postpone(publisher);
                waiting += 1;
            }
        }
    }
}

impl Schedule {
    /// A message that cannot be published in time goes later, with the time at which it was due.
    fn publish(&mut self, engine: &mut Engine, deliveries: &mut Deliveries, subscribers: usize, now: Duration) {
        while self.due <= now {
            let publisher = self.turn;
            let sequence = deliveries.published()[publisher as usize];
            let stamp = Stamp { publisher, sequence, time: self.due.as_nanos() as u64 };
            if !engine.publish(subscribers + publisher as usize, stamp) {
                return;
            }
            deliveries.publish(publisher);
            self.late.add(stamp.time, (now.as_nanos() as u64).saturating_sub(stamp.time));
            self.due += self.interval;
            self.turn = (self.turn + 1) % self.publishers;
        }
    }
}
