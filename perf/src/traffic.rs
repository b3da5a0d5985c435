//! A round in which messages flow: connect, warm up, measure, drain.

use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::{Client, Event};
use crate::credit::Credit;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::ledger::Ledger;
use crate::process::own_cpu;
use crate::run::{Target, Timing};
use crate::sample::{Latency, MessagesSample};
use crate::scenario::{Load, Messages};
use crate::stamp::Stamp;

/// How many clients connect at a time.
const AT_A_TIME: usize = 64;

/// If nothing arrives for so long, what is on its way is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a drain may take as long as things do arrive.
const DRAIN: Duration = Duration::from_secs(30);

/// The longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(600);

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
    let mut traffic = Traffic::connect(messages, target, interrupt)?;
    traffic.flow(timing.warm_up)?;
    let before = traffic.mark(target)?;
    traffic.flow(timing.window)?;
    let after = traffic.mark(target)?;
    traffic.drain()?;
    Ok(MessagesSample {
        wall: after.time - before.time,
        delivered: after.delivered - before.delivered,
        broker_cpu: after.broker_cpu.saturating_sub(before.broker_cpu),
        generator_cpu: after.generator_cpu - before.generator_cpu,
        peak_resident: target.processes.peak_resident()?,
        tally: traffic.ledger.tally(),
        expected: traffic.ledger.expected(),
        unacknowledged: traffic.engine.in_flight() as u64,
        given_up: traffic.given_up,
        latency: traffic.source.latency(before.time..after.time),
    })
    .inspect(|_| traffic.engine.close())
}

/// What there is to read at either end of the window.
struct Mark {
    time: Duration,
    delivered: u64,
    broker_cpu: Duration,
    generator_cpu: Duration,
}

/// The clients of a scenario at work. Subscribers come first in the engine, then publishers.
struct Traffic {
    engine: Engine,
    ledger: Ledger,
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
    /// When each delivered message had been due, and how long it took after that, in nanoseconds.
    took: Vec<(u64, u64)>,
}

impl Traffic {
    fn connect(messages: &Messages, target: &Target, interrupt: &Interrupt) -> Result<Self, Failure> {
        let mut engine = Engine::new(interrupt)?;
        let Messages { version, qos, payload, .. } = *messages;
        let in_flight = messages.packet_ids();
        let subscribers = (0..messages.subscribers)
            .map(|number| Client::subscriber(format!("perf-sub-{number}"), version, messages.filter(number), qos));
        engine.open(subscribers, target.address, AT_A_TIME)?;
        let publishers = (0..messages.publishers).map(|number| {
            Client::publisher(format!("perf-pub-{number}"), version, messages.topic(number), payload, qos, in_flight)
        });
        engine.open(publishers, target.address, AT_A_TIME)?;
        let now = Instant::now();
        Ok(Traffic {
            engine,
            ledger: Ledger::new(messages),
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
            delivered: self.ledger.tally().delivered,
            broker_cpu: target.processes.cpu()?,
            generator_cpu: own_cpu()?,
        })
    }

    /// Lets messages flow for `duration`.
    fn flow(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        loop {
            self.source.publish(&mut self.engine, &mut self.ledger, self.subscribers, self.start.elapsed());
            self.engine.flush()?;
            self.receive()?;
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now >= self.look {
                self.look = now + PATIENCE;
                self.given_up += self.source.give_up_old(&self.ledger);
            }
        }
    }

    /// Lets arrive what was published, until all is there and acknowledged or nothing comes any more.
    fn drain(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        self.arrived = begin;
        loop {
            self.engine.flush()?;
            let complete = self.ledger.tally().delivered >= self.ledger.expected() && self.engine.in_flight() == 0;
            if complete || self.arrived.elapsed() > PATIENCE || begin.elapsed() > DRAIN {
                return Ok(());
            }
            self.receive()?;
        }
    }

    /// One turn of the engine.
    fn receive(&mut self) -> Result<(), Failure> {
        let Traffic { engine, ledger, source, start, .. } = self;
        let timeout = source.timeout();
        let (mut any, mut unstamped) = (false, false);
        engine.turn(timeout, |index, event| {
            let Event::Delivered(payload) = event else { return };
            any = true;
            match Stamp::of(payload) {
                Some(stamp) => source.delivered(stamp, ledger.deliver(index, stamp), *start),
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
                took: Vec::new(),
            }),
        }
    }

    /// Publishes what may or must be published now.
    fn publish(&mut self, engine: &mut Engine, ledger: &mut Ledger, subscribers: usize, now: Duration) {
        match self {
            Source::Closed(closed) => closed.publish(engine, ledger, subscribers, now),
            Source::Open(schedule) => schedule.publish(engine, ledger, subscribers, now),
        }
    }

    /// Takes in a delivery that makes a subscriber done with the messages `done`.
    #[inline]
    fn delivered(&mut self, stamp: Stamp, done: Range<u32>, start: Instant) {
        match self {
            Source::Closed(closed) => closed.0.done(stamp.publisher, done),
            Source::Open(schedule) => {
                let took = (start.elapsed().as_nanos() as u64).saturating_sub(stamp.time);
                schedule.took.push((stamp.time, took));
            }
        }
    }

    /// Gives up messages that publishers wait for in vain, and gives how many those were.
    fn give_up_old(&mut self, ledger: &Ledger) -> u64 {
        match self {
            Source::Closed(closed) => closed.0.give_up_old(ledger.published()),
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
            Source::Open(schedule) => latency(&schedule.took, window),
        }
    }
}

impl Closed {
    fn publish(&mut self, engine: &mut Engine, ledger: &mut Ledger, subscribers: usize, now: Duration) {
        let time = now.as_nanos() as u64;
        // Publishers in a row that have to wait for an acknowledgement.
        let mut waiting = 0;
        self.0.resume();
        while waiting < ledger.published().len()
            && let Some(publisher) = self.0.next()
        {
            let sequence = ledger.published()[publisher as usize];
            if engine.publish(subscribers + publisher as usize, Stamp { publisher, sequence, time }) {
                ledger.publish(publisher);
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
    fn publish(&mut self, engine: &mut Engine, ledger: &mut Ledger, subscribers: usize, now: Duration) {
        while self.due <= now {
            let publisher = self.turn;
            let sequence = ledger.published()[publisher as usize];
            let stamp = Stamp { publisher, sequence, time: self.due.as_nanos() as u64 };
            if !engine.publish(subscribers + publisher as usize, stamp) {
                return;
            }
            ledger.publish(publisher);
            self.due += self.interval;
            self.turn = (self.turn + 1) % self.publishers;
        }
    }
}

/// The latency of the messages that were due in `window`, out of pairs of when a message was due and how long it took, in nanoseconds. None
/// if there are no such messages.
fn latency(took: &[(u64, u64)], window: Range<Duration>) -> Option<Latency> {
    let mut histogram = Histogram::<u64>::new_with_max(LATENCY_MAX.as_nanos() as u64, 3).ok()?;
    for (due, nanos) in took {
        if window.contains(&Duration::from_nanos(*due)) {
            histogram.saturating_record(*nanos);
        }
    }
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
    (!histogram.is_empty()).then(|| Latency { p50: at(0.5), p99: at(0.99), max: Duration::from_nanos(histogram.max()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_due_in_the_window_count() {
        let second = 1_000_000_000;
        let mut took: Vec<(u64, u64)> = (1..=1000).map(|each| (second + each, each * 1000)).collect();
        took.extend([(second - 1, second), (2 * second, second)]);
        let latency = latency(&took, Duration::from_secs(1)..Duration::from_secs(2)).unwrap();
        let close = |duration: Duration, micros: u128| duration.as_micros().abs_diff(micros) <= 1;
        assert!(close(latency.p50, 500) && close(latency.p99, 990) && close(latency.max, 1000), "{latency:?}");
        assert!(super::latency(&took, Duration::ZERO..Duration::from_millis(1)).is_none());
    }
}
