//! A slot of offline sessions moves, each with messages waiting, while some of their clients come back.
//!
//! How long such a client waits counts from when it begins to connect: until CONNACK, and until the first message that waited. The same
//! clients come back once while nothing moves, in the same rhythm, for comparison. In the end everybody comes back, and everything
//! that was published has to be there: once, and in order.

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::broker::{Broker, MoveFigures};
use crate::connection::{Connection, Event};
use crate::pool::{PATIENCE, Pool};
use crate::sequence::{Faults, Sequence};
use moormq_perf_shared::under_test::Failure;

/// Messages of the publisher that are not acknowledged, at most.
const IN_FLIGHT: usize = 500;

/// What came of it.
pub struct Offline {
    /// The moves while nobody comes back.
    pub quiet: Vec<MoveFigures>,
    /// The moves while some do.
    pub moves: Vec<MoveFigures>,
    /// Those who come back while nothing moves.
    pub at_rest: Waits,
    /// Those who began to connect before a move was done.
    pub during: Waits,
    /// What was lost on the way.
    pub faults: Faults,
    /// How many messages were to arrive.
    pub messages: u64,
}

/// How long clients waited.
#[derive(Default)]
pub struct Waits {
    /// For CONNACK.
    pub connack: Vec<Duration>,
    /// For the first message.
    pub first: Vec<Duration>,
}

/// Sessions in one slot, and a publisher.
struct Trial<'a> {
    broker: &'a Broker,
    pool: Pool,
    slot: u16,
    /// The shard the slot is to move to next.
    to: usize,
    ids: Vec<String>,
    sequences: Vec<Sequence>,
    publisher: usize,
    payload: Vec<u8>,
}

/// A client that comes back.
struct Reconnect {
    session: usize,
    number: usize,
    begun: Instant,
    connack: Option<Instant>,
    first: Option<Instant>,
}

pub fn measure(args: &Args, broker: &Broker) -> Result<Offline, Failure> {
    let mut trial = Trial::new(args, broker)?;
    let reconnects: Vec<usize> = {
        let (sessions, reconnects) = (args.sessions as usize, (args.reconnects as usize).min(args.sessions as usize));
        (0..reconnects).map(|at| at * sessions / reconnects).collect()
    };
    let (mut quiet, mut moves) = (Vec::new(), Vec::new());
    let (mut at_rest, mut during) = (Waits::default(), Waits::default());
    for _ in 0..args.rounds {
        trial.fill(args.queued)?;
        quiet.push(trial.move_slot(&[], Duration::ZERO, &mut Waits::default())?);
        // Spread over the time that a move takes, so that most of them fall into it.
        let pace = quiet[quiet.len() - 1].took / reconnects.len() as u32;
        trial.come_back(&reconnects, pace, &mut at_rest)?;
        trial.fill(args.queued)?;
        moves.push(trial.move_slot(&reconnects, pace, &mut during)?);
    }
    trial.fill(args.queued)?;
    let everybody: Vec<usize> = (0..trial.ids.len()).collect();
    trial.come_back(&everybody, Duration::ZERO, &mut Waits::default())?;
    let messages = trial.sequences.iter().map(|sequence| u64::from(sequence.sent)).sum();
    Ok(Offline { quiet, moves, at_rest, during, faults: Faults::of(&trial.sequences), messages })
}

impl<'a> Trial<'a> {
    fn new(args: &Args, broker: &'a Broker) -> Result<Self, Failure> {
        let (slot, ids) = broker.ids_in_one_slot(args.sessions as usize)?;
        let mut pool = Pool::new(broker.address())?;
        let clients: Vec<_> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), Some(format!("m/{at}")))).collect();
        let first = pool.open_all(&clients, false, |_, _| ())?;
        for number in first..first + clients.len() {
            pool.close(number)?;
        }
        let publisher = pool.open_all(&[("publisher", None)], true, |_, _| ())?;
        let sequences = ids.iter().map(|_| Sequence::default()).collect();
        let mut trial =
            Trial { broker, pool, slot, to: 0, ids, sequences, publisher, payload: vec![b'.'; args.payload as usize] };
        // Wherever the slot was: from here on its place is known.
        trial.move_slot(&[], Duration::ZERO, &mut Waits::default())?;
        Ok(trial)
    }

    /// Publishes until `queued` messages wait for every session.
    fn fill(&mut self, queued: u32) -> Result<(), Failure> {
        let (mut last, publisher) = (Instant::now(), self.publisher);
        for session in 0..self.ids.len() {
            while self.sequences[session].waiting() < queued {
                let number = self.sequences[session].send();
                self.payload[..4].copy_from_slice(&number.to_le_bytes());
                let payload = &self.payload;
                self.pool.with_client(publisher, |connection: &mut Connection| {
                    connection.publish(&format!("m/{session}"), payload)
                });
                while self.pool.in_flight(publisher) >= IN_FLIGHT {
                    let before = self.pool.in_flight(publisher);
                    self.pool.turn(Duration::from_millis(100), |_, _| ())?;
                    if self.pool.in_flight(publisher) < before {
                        last = Instant::now();
                    } else if last.elapsed() > PATIENCE {
                        return Err("the broker acknowledges nothing".into());
                    }
                }
            }
        }
        while self.pool.in_flight(publisher) > 0 {
            self.pool.turn(Duration::from_millis(100), |_, _| ())?;
        }
        Ok(())
    }

    /// Moves the slot to the other shard, while clients come back, one every `pace`.
    fn move_slot(&mut self, back: &[usize], pace: Duration, waits: &mut Waits) -> Result<MoveFigures, Failure> {
        let under_way = self.broker.begin_move(self.slot, self.to)?;
        self.to = 1 - self.to;
        let mut figures = None;
        let mut reconnects = Vec::new();
        let start = Instant::now();
        loop {
            self.step(back, pace, start, &mut reconnects)?;
            if figures.is_none() {
                figures = self.broker.outcome(&under_way)?;
            }
            if let Some(figures) = figures
                && self.are_done(back, &reconnects, start)?
            {
                // Those who came later found everything in its place.
                let before_end = |reconnect: &Reconnect| reconnect.begun - start <= figures.took;
                self.leave(reconnects, waits, before_end)?;
                return Ok(figures);
            }
        }
    }

    /// Clients come back, one every `pace`, while nothing moves.
    fn come_back(&mut self, back: &[usize], pace: Duration, waits: &mut Waits) -> Result<(), Failure> {
        let (start, mut reconnects) = (Instant::now(), Vec::new());
        while !self.are_done(back, &reconnects, start)? {
            self.step(back, pace, start, &mut reconnects)?;
        }
        self.leave(reconnects, waits, |_| true)
    }

    /// Connects those whose time has come, and takes in what there is.
    fn step(
        &mut self,
        back: &[usize],
        pace: Duration,
        start: Instant,
        reconnects: &mut Vec<Reconnect>,
    ) -> Result<(), Failure> {
        if let Some(&session) = back.get(reconnects.len())
            && start.elapsed() >= pace * reconnects.len() as u32
        {
            let begun = Instant::now();
            let number = self.pool.open(&self.ids[session], false)?;
            reconnects.push(Reconnect { session, number, begun, connack: None, first: None });
        }
        let first = reconnects.first().map_or(0, |reconnect| reconnect.number);
        let sequences = &mut self.sequences;
        let mut lost = None;
        self.pool.turn(Duration::from_millis(u64::from(reconnects.len() == back.len())), |number, event| {
            let Some(reconnect) = number.checked_sub(first).and_then(|at| reconnects.get_mut(at)) else { return };
            match event {
                Event::Connected { session_present } => {
                    reconnect.connack = Some(Instant::now());
                    if !session_present {
                        lost = Some(reconnect.session);
                    }
                }
                Event::Message { payload, .. } => {
                    reconnect.first.get_or_insert_with(Instant::now);
                    if let Some(number) = payload.first_chunk() {
                        sequences[reconnect.session].receive(u32::from_le_bytes(*number));
                    }
                }
                Event::Subscribed => {}
            }
        })?;
        match lost {
            Some(session) => Err(format!("session {session} was lost").into()),
            None => Ok(()),
        }
    }

    /// Whether all are back and have what waited for them; or nothing more is to be expected.
    fn are_done(&self, back: &[usize], reconnects: &[Reconnect], start: Instant) -> Result<bool, Failure> {
        if reconnects.len() < back.len() {
            return Ok(false);
        }
        let done = reconnects.iter().all(|reconnect| self.sequences[reconnect.session].is_complete());
        if !done && start.elapsed() > PATIENCE {
            let connected = reconnects.iter().filter(|reconnect| reconnect.connack.is_some()).count();
            return Err(
                format!("of {} clients that came back {connected} got CONNACK, not all got all", back.len()).into()
            );
        }
        Ok(done)
    }

    fn leave(
        &mut self,
        reconnects: Vec<Reconnect>,
        waits: &mut Waits,
        counts: impl Fn(&Reconnect) -> bool,
    ) -> Result<(), Failure> {
        for reconnect in reconnects {
            if counts(&reconnect) {
                waits.connack.extend(reconnect.connack.map(|connack| connack - reconnect.begun));
                waits.first.extend(reconnect.first.map(|first| first - reconnect.begun));
            }
            self.pool.close(reconnect.number)?;
        }
        Ok(())
    }
}
