//! The load: all publishers, on one thread, and what the broker has taken when some part of it is acknowledged.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use moormq_perf_shared::under_test::Failure;
use moormq_perf_shared::waiting_client::Client;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::args::Args;
use crate::broker::{Broker, Usage};
use crate::publisher::{Plan, Publisher};

/// The shares of all messages, in hundredths, at which it is looked at what the broker has taken.
const MARKS: [u64; 5] = [10, 20, 50, 75, 100];
/// The longest time that is distinguished from longer ones.
const LONGEST: Duration = Duration::from_secs(600);
/// How long the broker may acknowledge nothing.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what is due, in milliseconds.
const TICK: u8 = 1;

/// What the load came to.
pub struct Outcome {
    /// What the broker had taken before it.
    pub before: Usage,
    /// And when so many messages were acknowledged.
    pub marks: Vec<(u64, Usage)>,
    /// Until PUBACK, in nanoseconds, from when a message should have been published.
    pub times: Histogram<u64>,
}

/// A distribution of times, in nanoseconds.
pub fn times() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_max(LONGEST.as_nanos() as u64, 3)?)
}

/// Publishes all of it.
pub fn publish_all(args: &Args, broker: &Broker) -> Result<Outcome, Failure> {
    let before = broker.usage()?;
    let (mut publishers, epoll) = (publishers(args, broker)?, Epoll::new(EpollCreateFlags::empty())?);
    for (index, publisher) in publishers.iter().enumerate() {
        epoll.add(publisher, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
    }
    let in_all = u64::from(args.each()) * u64::from(args.sessions);
    let mut outcome = Outcome { before, marks: Vec::new(), times: times()? };
    let (mut acknowledged, mut last) = (0, Instant::now());
    let mut ready = [EpollEvent::empty(); 64];
    while !publishers.iter().all(Publisher::is_done) {
        let now = Instant::now();
        publishers.iter_mut().try_for_each(|publisher| publisher.publish(now))?;
        let count = epoll.wait(&mut ready, TICK)?;
        for event in &ready[..count] {
            acknowledged += publishers[event.data() as usize].read(&mut outcome.times)?;
            last = now;
        }
        if last.elapsed() > PATIENCE {
            return Err(format!("nothing was acknowledged for {PATIENCE:?} after {acknowledged} messages").into());
        }
        while let Some(share) = MARKS.get(outcome.marks.len())
            && acknowledged >= in_all * share / 100
        {
            outcome.marks.push((acknowledged, broker.usage()?));
        }
    }
    Ok(outcome)
}

fn publishers(args: &Args, broker: &Broker) -> Result<Vec<Publisher>, Failure> {
    let count = args.publishers.min(args.sessions);
    let clients = (0..count).map(|number| Client::connect(broker.address(), &format!("publisher-{number}"), false));
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let (began, per_session) = (Instant::now(), Duration::from_secs(1) * args.sessions / args.rate);
    let publishers = clients.into_iter().zip(0..).map(|(client, number)| {
        let sessions = (number..args.sessions).step_by(count as usize);
        // All publishers come round at the same time.
        let interval = per_session / sessions.len() as u32;
        Publisher::new(client, sessions, Plan { began, interval, each: args.each(), payload: args.payload })
    });
    publishers.collect()
}
