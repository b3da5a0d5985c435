//! A publisher: numbers its messages, and sends again what was not acknowledged, as the standard has it.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use moormq::codec::{Ack, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode};

use crate::message::{Kind, Mark, Sent, TOPICS};
use crate::round::{Phase, Round, connect};
use crate::wire::Connection;

/// Packet ids go round soon.
const IDS: u16 = 300;

/// A message that is not acknowledged to the end.
struct Pending {
    id: PacketId,
    number: u32,
    length: usize,
    /// PUBREC has come.
    is_received: bool,
    /// PUBREL has been sent on an earlier connection: the broker may have done with it.
    is_old: bool,
}

/// What outlives its connections.
pub struct Publisher {
    pub index: u16,
    version: ProtocolVersion,
    client_id: String,
    has_session: bool,
    pending: VecDeque<Pending>,
    last_id: u16,
    window: usize,
    /// Whether there is much for those who are hardly ever there.
    has_long_queues: bool,
    rng: Rng,
}

/// All messages of a publisher, by number, and whether any is not acknowledged.
#[derive(Default)]
pub struct Log {
    pub sent: Vec<Sent>,
    pub is_busy: bool,
    pub bytes: u64,
}

impl Publisher {
    pub fn new(index: u16, has_long_queues: bool, mut rng: Rng) -> Self {
        let version = if rng.u8(..4) == 0 { ProtocolVersion::V311 } else { ProtocolVersion::V5 };
        let (client_id, window) = (format!("publisher-{index}"), rng.usize(1..40));
        let (has_session, pending, last_id) = (false, VecDeque::new(), 0);
        Publisher { index, version, client_id, has_session, pending, last_id, window, has_long_queues, rng }
    }

    /// Publishes until the broker is killed, or all is told to leave.
    pub fn run(&mut self, round: Round<'_>, log: &Mutex<Log>) {
        let mut before = None;
        loop {
            let result = self.run_connection(round, log, &mut before);
            match (result, round.common.phase()) {
                (_, Phase::Killed | Phase::Leave) => return,
                (Err(error), _) => round.common.fault(format!("{}: {error}", self.client_id)),
                (Ok(connection), _) => before = Some(connection),
            }
        }
    }

    /// Gives the connection back when it is to be taken over.
    fn run_connection(
        &mut self,
        round: Round<'_>,
        log: &Mutex<Log>,
        before: &mut Option<Connection>,
    ) -> io::Result<Connection> {
        let (mut connection, present) = Connection::open(round.address, &connect(self.version, &self.client_id))?;
        *before = None;
        if self.has_session && !present {
            round.common.fault(format!("{}: the session is gone", self.client_id));
        }
        self.has_session = true;
        self.send_again(&mut connection, log)?;
        let turns = self.rng.u32(20..2000);
        for turn in 0.. {
            let phase = round.common.phase();
            if phase == Phase::Leave || (phase == Phase::Load && turn == turns) {
                break;
            }
            if phase != Phase::Drain {
                let burst = self.rng.usize(0..8);
                (0..burst).try_for_each(|_| self.publish(&mut connection, round, log))?;
            }
            let wait = Duration::from_micros(self.rng.u64(500..4000));
            let mut refused = None;
            connection.receive(wait, |packet, out| self.take(packet, out, round, log, &mut refused))?;
            if let Some(refused) = refused {
                return Err(io::Error::other(refused));
            }
            log.lock().expect("nobody panics").is_busy = !self.pending.is_empty();
        }
        Ok(connection)
    }

    fn packet(&self, pending: &Pending, sent: Sent, dup: bool) -> (String, Vec<u8>, bool, QoS, bool) {
        let topic = format!("{}/{}/{}", sent.kind.letter(), self.index, sent.topic);
        let payload = match sent.is_clearing {
            true => Vec::new(),
            false => Mark { publisher: self.index, number: pending.number, qos: sent.qos }.payload(pending.length, dup),
        };
        (topic, payload, sent.kind == Kind::Retained, sent.qos, dup)
    }

    fn send(&self, connection: &mut Connection, pending: &Pending, sent: Sent, dup: bool) -> io::Result<()> {
        let (topic, payload, retain, qos, dup) = self.packet(pending, sent, dup);
        let (packet_id, properties) = (Some(pending.id), Default::default());
        let publish = Publish { dup, qos, retain, topic: &topic, packet_id, properties, payload: &payload };
        connection.send(&[Packet::Publish(publish)])
    }

    fn send_again(&mut self, connection: &mut Connection, log: &Mutex<Log>) -> io::Result<()> {
        self.pending.iter_mut().for_each(|pending| pending.is_old = pending.is_received);
        for pending in &self.pending {
            let sent = log.lock().expect("nobody panics").sent[pending.number as usize];
            match pending.is_received {
                true => connection.send(&[Packet::Pubrel(Ack::new(pending.id, ReasonCode::Success))])?,
                false => self.send(connection, pending, sent, true)?,
            }
        }
        Ok(())
    }

    fn publish(&mut self, connection: &mut Connection, round: Round<'_>, log: &Mutex<Log>) -> io::Result<()> {
        if self.pending.len() >= self.window {
            return Ok(());
        }
        let id = loop {
            self.last_id = self.last_id % IDS + 1;
            let id = PacketId::new(self.last_id).expect("it is not 0");
            if self.pending.iter().all(|pending| pending.id != id) {
                break id;
            }
        };
        let rng = &mut self.rng;
        let is_rare = self.has_long_queues && rng.u8(..3) == 0;
        let kind = match rng.u8(..20) {
            _ if is_rare => Kind::Rare,
            0..10 => Kind::Plain,
            10..15 => Kind::Shared,
            15..19 => Kind::Retained,
            _ => Kind::Rare,
        };
        let length = match rng.u8(..100) {
            0..50 if is_rare => rng.usize(..60_000),
            _ if is_rare => rng.usize(..4000),
            _ if kind == Kind::Rare => rng.usize(..50),
            0..85 => rng.usize(..200),
            85..98 => rng.usize(..5000),
            _ => rng.usize(..70_000),
        };
        let topic = rng.u8(..TOPICS);
        // What is sent once more at QoS 1 is retained once more, though something of QoS 2 was published behind it. So each topic has but one.
        let is_once = if kind == Kind::Retained { topic % 2 == 0 } else { rng.bool() };
        let qos = if is_once { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let is_clearing = kind == Kind::Retained && rng.u8(..5) == 0;
        let sent = Sent { is_clearing, ..Sent::new(kind, topic, qos, round.common) };
        let mut all = log.lock().expect("nobody panics");
        let number = all.sent.len() as u32;
        all.sent.push(sent);
        all.is_busy = true;
        all.bytes += length as u64;
        drop(all);
        self.pending.push_back(Pending { id, number, length, is_received: false, is_old: false });
        self.send(connection, &self.pending[self.pending.len() - 1], sent, false)
    }

    fn take(
        &mut self,
        packet: Packet<'_>,
        out: &mut Vec<u8>,
        round: Round<'_>,
        log: &Mutex<Log>,
        refused: &mut Option<String>,
    ) {
        let (ack, qos) = match packet {
            Packet::Puback(ack) => (ack, Some(QoS::AtLeastOnce)),
            Packet::Pubrec(ack) => (ack, Some(QoS::ExactlyOnce)),
            Packet::Pubcomp(ack) => (ack, None),
            other => {
                *refused = Some(format!("{other:?}"));
                return;
            }
        };
        let at = self.pending.iter().position(|pending| pending.id == ack.packet_id);
        let common = round.common;
        let Some(at) = at else {
            return common.fault(format!("{}: an answer to nothing: {packet:?}", self.client_id));
        };
        let pending = &mut self.pending[at];
        if ack.code.is_error() && !(qos.is_none() && pending.is_old && ack.code == ReasonCode::PacketIdNotFound) {
            common.fault(format!("{}: {packet:?} (PUBREC came: {})", self.client_id, pending.is_received));
        }
        let mut log = log.lock().expect("nobody panics");
        let sent = &mut log.sent[pending.number as usize];
        match qos {
            Some(qos) if qos != sent.qos => common.fault(format!("{}: the wrong answer: {packet:?}", self.client_id)),
            Some(_) => {
                if sent.acked.is_none() {
                    (sent.acked, sent.acked_round) = (Some(common.tick()), common.round());
                }
                if sent.qos == QoS::ExactlyOnce {
                    pending.is_received = true;
                    Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::Success)).encode(self.version, out);
                } else {
                    self.pending.remove(at);
                }
            }
            None => {
                self.pending.remove(at);
            }
        }
    }
}
