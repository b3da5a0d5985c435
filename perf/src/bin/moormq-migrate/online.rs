//! A slot of connected clients moves, while all of them send and receive.
//!
//! Some clients get a steady stream, on a schedule; the pause of such a client is the longest time between two of its messages,
//! which is the interval of the stream without delays. It is taken for each move, and for as long a time at rest. How late
//! messages are counts from when they should have been published: both ways, to all clients and from all.

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::broker::{Broker, Move, MoveFigures};
use crate::connection::Event;
use crate::pool::{PATIENCE, Pool};
use crate::sequence::{Faults, Sequence};
use moormq_perf_shared::under_test::Failure;

/// How long it runs before anything is measured, and before each move.
const AT_REST: Duration = Duration::from_secs(1);
/// The time between two messages to or from a client without a stream.
const SLOW: Duration = Duration::from_millis(500);

/// What came of it.
pub struct Online {
    /// The moves.
    pub moves: Vec<MoveFigures>,
    /// While nothing moves.
    pub at_rest: Pauses,
    /// While the slot moves.
    pub during: Pauses,
    /// What was lost on the way.
    pub faults: Faults,
    /// How many messages were to arrive.
    pub messages: u64,
}

/// How clients fared.
#[derive(Default)]
pub struct Pauses {
    /// For each client with a stream: its longest time between two messages.
    pub gaps: Vec<Duration>,
    /// For each client: how late its latest message was.
    pub to_clients: Vec<Duration>,
    /// Likewise, for those that it sent.
    pub from_clients: Vec<Duration>,
}

/// What is measured of one client at present.
#[derive(Clone, Copy)]
struct Client {
    last: Instant,
    gap: Duration,
    to: Duration,
    from: Duration,
}

struct Trial<'a> {
    broker: &'a Broker,
    pool: Pool,
    first: usize,
    publisher: usize,
    start: Instant,
    clients: Vec<Client>,
    /// To each client, and from each.
    to: Vec<Sequence>,
    from: Vec<Sequence>,
    schedule: Vec<Schedule>,
    payload: Vec<u8>,
}

/// Messages to the clients of a group in turn, or from them.
struct Schedule {
    clients: std::ops::Range<usize>,
    is_to: bool,
    /// The time between two messages, of whichever client.
    step: Duration,
    /// How many there were.
    count: u32,
}

pub fn measure(args: &Args, broker: &Broker) -> Result<Online, Failure> {
    let (slot, ids) = broker.ids_in_one_slot(args.sessions as usize)?;
    let mut trial = Trial::new(args, broker, &ids)?;
    trial.move_slot(slot, 0)?;
    trial.run_for(AT_REST)?;
    let (mut moves, mut at_rest, mut during) = (Vec::new(), Pauses::default(), Pauses::default());
    for round in 0..args.rounds as usize {
        trial.reset();
        trial.run_for(AT_REST)?;
        trial.record(args, &mut at_rest);
        trial.reset();
        moves.push(trial.move_slot(slot, (round + 1) % 2)?);
        // What was held up by the move arrives.
        trial.run_for(SLOW)?;
        trial.record(args, &mut during);
    }
    trial.drain()?;
    let all = || trial.to.iter().chain(&trial.from);
    let messages = all().map(|sequence| u64::from(sequence.sent)).sum();
    Ok(Online { moves, at_rest, during, faults: Faults::of(all()), messages })
}

impl<'a> Trial<'a> {
    fn new(args: &Args, broker: &'a Broker, ids: &[String]) -> Result<Self, Failure> {
        let mut pool = Pool::new(broker.address())?;
        let publisher = pool.open_all(&[("publisher", None)], true, |_, _| ())?;
        pool.open_all(&[("collector", Some("from/#".to_owned()))], true, |_, _| ())?;
        let clients: Vec<_> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), Some(format!("to/{at}")))).collect();
        let first = pool.open_all(&clients, true, |_, _| ())?;
        let (count, streams) = (ids.len(), (args.streams as usize).min(ids.len()));
        let start = Instant::now();
        let schedule = |clients: std::ops::Range<usize>, is_to, interval: Duration| {
            let step = interval / clients.len().max(1) as u32;
            Schedule { clients, is_to, step, count: 0 }
        };
        let mut schedules = vec![
            schedule(0..streams, true, args.interval()),
            schedule(streams..count, true, SLOW),
            schedule(0..count, false, SLOW),
        ];
        schedules.retain(|schedule| !schedule.clients.is_empty());
        let client = Client { last: start, gap: Duration::ZERO, to: Duration::ZERO, from: Duration::ZERO };
        let sequences = || ids.iter().map(|_| Sequence::default()).collect();
        Ok(Trial {
            broker,
            pool,
            first,
            publisher,
            start,
            clients: vec![client; count],
            to: sequences(),
            from: sequences(),
            schedule: schedules,
            payload: vec![b'.'; args.payload as usize],
        })
    }

    /// Begins to measure anew.
    fn reset(&mut self) {
        for client in &mut self.clients {
            (client.gap, client.to, client.from) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        }
    }

    fn record(&self, args: &Args, pauses: &mut Pauses) {
        let streams = (args.streams as usize).min(self.clients.len());
        pauses.gaps.extend(self.clients[..streams].iter().map(|client| client.gap));
        pauses.to_clients.extend(self.clients.iter().map(|client| client.to));
        pauses.from_clients.extend(self.clients.iter().map(|client| client.from));
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    fn move_slot(&mut self, slot: u16, to: usize) -> Result<MoveFigures, Failure> {
        let under_way: Move = self.broker.begin_move(slot, to)?;
        loop {
            self.turn()?;
            if let Some(figures) = self.broker.outcome(&under_way)? {
                return Ok(figures);
            }
        }
    }

    /// Publishes what is due, and takes in what there is.
    fn turn(&mut self) -> Result<(), Failure> {
        let now = self.start.elapsed();
        for at in 0..self.schedule.len() {
            loop {
                let schedule = &mut self.schedule[at];
                let due = schedule.step * schedule.count;
                if due > now {
                    break;
                }
                let turn = schedule.count as usize % schedule.clients.len();
                schedule.count += 1;
                let (client, is_to) = (schedule.clients.start + turn, schedule.is_to);
                self.publish(client, is_to, due);
            }
        }
        self.take_in(Duration::from_millis(1))
    }

    fn publish(&mut self, client: usize, is_to: bool, due: Duration) {
        let (sequence, number, topic) = match is_to {
            true => (&mut self.to[client], self.publisher, format!("to/{client}")),
            false => (&mut self.from[client], self.first + client, format!("from/{client}")),
        };
        self.payload[..4].copy_from_slice(&sequence.send().to_le_bytes());
        self.payload[4..12].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
        let payload = &self.payload;
        self.pool.with_client(number, |connection| connection.publish(&topic, payload));
    }

    fn take_in(&mut self, timeout: Duration) -> Result<(), Failure> {
        let (clients, to, from, start) = (&mut self.clients, &mut self.to, &mut self.from, self.start);
        let mut stray = None;
        self.pool.turn(timeout, |_, event| {
            let Event::Message { topic, payload } = event else { return };
            let Some(Stamp { is_to, client, number, due }) = Stamp::of(topic, payload, clients.len()) else {
                stray = Some(topic.to_owned());
                return;
            };
            let now = Instant::now();
            let late = now.saturating_duration_since(start + due);
            let one = &mut clients[client];
            if is_to {
                to[client].receive(number);
                one.gap = one.gap.max(now - one.last);
                one.last = now;
                one.to = one.to.max(late);
            } else {
                from[client].receive(number);
                one.from = one.from.max(late);
            }
        })?;
        stray.map_or(Ok(()), |topic| Err(format!("a message that nobody published came: {topic}").into()))
    }

    /// Waits for what is on its way; what does not come within a while is lost.
    fn drain(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while !self.to.iter().chain(&self.from).all(Sequence::is_complete) && start.elapsed() < PATIENCE {
            self.take_in(Duration::from_millis(10))?;
        }
        Ok(())
    }
}

/// What a message says of itself.
struct Stamp {
    is_to: bool,
    client: usize,
    number: u32,
    due: Duration,
}

impl Stamp {
    fn of(topic: &str, payload: &[u8], clients: usize) -> Option<Stamp> {
        let (direction, client) = topic.split_once('/')?;
        let client = client.parse().ok().filter(|client| *client < clients)?;
        let (number, rest) = payload.split_first_chunk()?;
        let due = Duration::from_nanos(u64::from_le_bytes(*rest.first_chunk()?));
        Some(Stamp { is_to: direction == "to", client, number: u32::from_le_bytes(*number), due })
    }
}
