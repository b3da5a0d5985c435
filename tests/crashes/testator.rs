//! A client with a will: whether that is published is known by how its connection ended.
//!
//! | the connection | a will without delay | one with a short delay | one with a long delay |
//! |---|---|---|---|
//! | breaks, is taken over, or the broker dies | is published once | is published, if the client stays away for as long | is not, if the client comes back |
//! | ends with DISCONNECT, and the broker serves the next one | is not published | likewise | likewise |
//! | ends with DISCONNECT, and the broker dies | may be published | likewise | likewise |
//!
//! A known hole: with several shards, one that was published when its client came back may be lost if the broker dies then. What is recorded of the session
//! has the new will, and the old one may not be on disk yet where it was sent.

use std::io;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;
use moormq::codec::{Disconnect, Packet, ProtocolVersion, QoS, ReasonCode, Will};

use crate::message::{Kind, Mark, Sent};
use crate::publisher::Log;
use crate::round::{Phase, Round, connect};
use crate::wire::Connection;

/// Seconds that a delay takes which is waited for, and one that is not.
const DELAYS: [u32; 3] = [0, 1, 86_400];

/// The last will, whose connection has begun.
#[derive(Clone, Copy)]
struct Last {
    number: usize,
    delay: u32,
    /// CONNACK has come.
    is_there: bool,
    /// DISCONNECT was sent, and in which round.
    left: Option<u32>,
}

/// What outlives its connections.
pub struct Testator {
    index: u16,
    client_id: String,
    last: Option<Last>,
    one_shard: bool,
    rng: Rng,
}

impl Testator {
    /// The client with this number among all who publish.
    pub fn new(index: u16, one_shard: bool, rng: Rng) -> Self {
        Testator { index, client_id: format!("testator-{index}"), last: None, one_shard, rng }
    }

    /// Comes and goes until the broker is killed.
    pub fn run(&mut self, round: Round<'_>, log: &Mutex<Log>) {
        let mut before = None;
        while round.common.phase() == Phase::Load {
            match (self.connection(round, log, &mut before), round.common.phase()) {
                (_, Phase::Killed | Phase::Leave) => break,
                (Err(error), _) => round.common.fault(format!("{}: {error}", self.client_id)),
                (Ok(()), _) => {}
            }
        }
        drop(before);
        self.is_lost(log);
    }

    /// The broker has stopped in an orderly way: all wills were published.
    pub fn broker_stopped(&mut self, log: &Mutex<Log>) {
        let mut log = log.lock().expect("nobody panics");
        log.sent.iter_mut().for_each(|will| will.is_void = false);
    }

    fn connection(&mut self, round: Round<'_>, log: &Mutex<Log>, before: &mut Option<Connection>) -> io::Result<()> {
        let number = log.lock().expect("nobody panics").sent.len();
        let qos = if self.rng.bool() { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let delay = DELAYS[self.rng.usize(..DELAYS.len())];
        let payload = Mark { publisher: self.index, number: number as u32, qos }.payload(self.rng.usize(..100), false);
        let topic = format!("{}/{}/0", Kind::Will.letter(), self.index);
        let mut connect = connect(ProtocolVersion::V5, &self.client_id);
        connect.will = Some(Will { topic: &topic, payload: &payload, qos, delay, ..Will::default() });
        log.lock().expect("nobody panics").sent.push(Sent::new(Kind::Will, 0, qos, round.common));
        if before.is_some() {
            self.is_lost(log);
        }
        self.comes_back(log);
        let last = self.last.replace(Last { number, delay, is_there: false, left: None });
        let (mut connection, _) = Connection::open(round.address, &connect)?;
        *before = None;
        self.has_come_back(last, round, log);
        if let Some(last) = &mut self.last {
            last.is_there = true;
        }
        connection.receive(Duration::from_millis(self.rng.u64(1..200)), |packet, _| {
            round.common.fault(format!("testator: {packet:?}"));
        })?;
        match self.rng.u8(..3) {
            0 => {
                connection.send(&[Packet::Disconnect(Disconnect::new(ReasonCode::NormalDisconnection))])?;
                if let Some(last) = &mut self.last {
                    last.left = Some(round.common.round());
                }
            }
            1 => {
                drop(connection);
                self.is_lost(log);
                sleep(Duration::from_millis(self.rng.u64(0..100)));
            }
            _ => *before = Some(connection),
        }
        Ok(())
    }

    /// The connection has ended, or is about to, and not by DISCONNECT.
    fn is_lost(&self, log: &Mutex<Log>) {
        let Some(Last { number, delay, is_there: true, left: None }) = self.last else { return };
        let will = &mut log.lock().expect("nobody panics").sent[number];
        match delay {
            0 | 1 => will.acked = Some(will.first),
            _ => will.is_void = true,
        }
    }

    /// It is about to connect again: a delayed will is not published any more, or was already.
    fn comes_back(&self, log: &Mutex<Log>) {
        if let Some(Last { number, delay, .. }) = self.last
            && (delay == 1 || !self.one_shard)
        {
            log.lock().expect("nobody panics").sent[number].acked = None;
        }
    }

    /// It has connected again: what it said at the end of the connection before has been heard, if the broker is still the same.
    fn has_come_back(&self, last: Option<Last>, round: Round<'_>, log: &Mutex<Log>) {
        if let Some(Last { number, is_there: true, left: Some(left), .. }) = last
            && left == round.common.round()
        {
            log.lock().expect("nobody panics").sent[number].is_void = true;
        }
    }
}
