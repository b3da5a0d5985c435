//! A client that leaves, gets messages that expire, and comes back: its session and the messages are there, or have expired, by the clock on the
//! wall, also while the broker was down. Where the time that has passed leaves it open, nothing is said.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use moormq::codec::{
    Disconnect, Packet, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Subscribe,
    SubscribeFilter, SubscriptionOptions,
};

use crate::message::Kind;
use crate::round::{Phase, Round, connect};
use crate::wire::Connection;

/// Seconds that something may take which is to be gone soon.
const SHORT: u32 = 1;
const LONG: u32 = 86_400;
/// By so many seconds clocks that count whole ones may differ.
const DOUBT: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(60);

/// A message that waits for it.
struct Waiting {
    text: String,
    expiry: u32,
    /// Before it was sent, and when it was acknowledged.
    sent: SystemTime,
    acked: SystemTime,
}

/// It is away.
struct Away {
    expiry: u32,
    /// When it left: what is later than that is the latest that its session may count from.
    left: SystemTime,
    round: u32,
    waiting: Vec<Waiting>,
    /// Something was acknowledged that came to the journal after it had left.
    is_recorded: bool,
}

/// What outlives its connections.
pub struct Sleeper {
    client_id: String,
    topic: String,
    away: Option<Away>,
    number: u32,
    /// There is one journal: what was acknowledged later was written later.
    one_shard: bool,
    rng: Rng,
    pub expired: u32,
    pub kept: u32,
}

impl Sleeper {
    pub fn new(index: usize, one_shard: bool, rng: Rng) -> Self {
        let (client_id, topic) = (format!("sleeper-{index}"), format!("{}/{index}", Kind::Brief.letter()));
        Sleeper { client_id, topic, away: None, number: 0, one_shard, rng, expired: 0, kept: 0 }
    }

    /// Comes back once, sees what is there, and leaves again. `started` is when the broker was started.
    pub fn run(&mut self, round: Round<'_>, started: SystemTime) {
        sleep(Duration::from_millis(self.rng.u64(0..300)));
        if round.common.phase() != Phase::Load {
            return;
        }
        if let Some(away) = self.away.take() {
            // If the broker is killed before it has seen all, there is nothing more to be said of it.
            match (self.come_back(&away, round, started), round.common.phase()) {
                (_, Phase::Killed | Phase::Leave) | (Ok(()), _) => {}
                (Err(error), _) => round.common.fault(format!("{}: {error}", self.client_id)),
            }
        }
        match (self.leave(round), round.common.phase()) {
            (_, Phase::Killed | Phase::Leave) | (Ok(()), _) => {}
            (Err(error), _) => round.common.fault(format!("{}: {error}", self.client_id)),
        }
    }

    fn come_back(&mut self, away: &Away, round: Round<'_>, started: SystemTime) -> io::Result<()> {
        let began = SystemTime::now();
        let (mut connection, present) =
            Connection::open(round.address, &connect(ProtocolVersion::V5, &self.client_id))?;
        // If it was not recorded that it had left, it was as if connected until the broker started again.
        let counts_from =
            if away.round == round.common.round() || away.is_recorded { away.left } else { away.left.max(started) };
        let must_be_gone = seconds(counts_from, began) > f64::from(away.expiry) + DOUBT;
        if present && must_be_gone || !present && away.expiry == LONG {
            let since = seconds(counts_from, began);
            let text = format!("session present: {present}, away for {since:.1} s of {}", away.expiry);
            round.common.fault(format!("{}: {text}", self.client_id));
        }
        if !present {
            self.expired += 1;
            return Ok(());
        }
        let is_due = |one: &&Waiting| one.expiry == LONG;
        let due = away.waiting.iter().filter(is_due).count();
        let (mut got, since) = (0, Instant::now());
        let mut faults = Vec::new();
        while got < due && since.elapsed() < PATIENCE {
            connection.receive(Duration::from_millis(20), |packet, out| {
                let Packet::Publish(publish) = packet else {
                    return faults.push(format!("{packet:?}"));
                };
                if let Some(id) = publish.packet_id {
                    Packet::Puback(moormq::codec::Ack::new(id, ReasonCode::Success)).encode(ProtocolVersion::V5, out);
                }
                let one = away.waiting.iter().find(|one| one.text.as_bytes() == publish.payload);
                match one {
                    // It may be one of before, which was acknowledged when the broker died.
                    None => {}
                    Some(one) => {
                        got += usize::from(is_due(&one));
                        faults.extend(one.look_at(publish.properties.message_expiry, began));
                    }
                }
            })?;
        }
        faults.iter().for_each(|fault| round.common.fault(format!("{}: {fault}", self.client_id)));
        if got < due {
            round.common.fault(format!("{}: {got} of {due} messages came", self.client_id));
        }
        self.kept += 1;
        Ok(())
    }

    /// Connects and subscribes, leaves, and has messages sent to itself.
    fn leave(&mut self, round: Round<'_>) -> io::Result<()> {
        let expiry = if self.rng.bool() { SHORT } else { LONG };
        let mut connect = connect(ProtocolVersion::V5, &self.client_id);
        (connect.clean_start, connect.properties.session_expiry) = (true, Some(expiry));
        let mut connection = Connection::open(round.address, &connect)?.0;
        let filters = [SubscribeFilter { filter: &self.topic, options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
        connection.send(&[Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters[..]))])?;
        wait_for(&mut connection, 1, |packet| matches!(packet, Packet::Suback(_)))?;
        connection.send(&[Packet::Disconnect(Disconnect::new(ReasonCode::NormalDisconnection))])?;
        // The broker closes it when it has seen that.
        while connection.receive(Duration::from_millis(20), |_, _| ()).is_ok() {}
        let left = SystemTime::now();
        if round.common.phase() != Phase::Load {
            return Ok(());
        }
        let id = format!("{}-sender", self.client_id);
        let mut sender = Connection::open(round.address, &crate::round::connect(ProtocolVersion::V5, &id))?.0;
        let mut waiting = Vec::new();
        for _ in 0..self.rng.usize(1..6) {
            self.number += 1;
            let text = format!("{}", self.number);
            let expiry = if self.rng.bool() { SHORT } else { LONG };
            let sent = SystemTime::now();
            let properties = PublishProperties { message_expiry: Some(expiry), ..PublishProperties::default() };
            sender.send(&[Packet::Publish(Publish {
                qos: QoS::AtLeastOnce,
                topic: &self.topic,
                packet_id: Some(PacketId::MIN),
                properties,
                payload: text.as_bytes(),
                ..Publish::default()
            })])?;
            let (mut acked, since) = (false, Instant::now());
            while !acked && since.elapsed() < PATIENCE {
                sender.receive(Duration::from_millis(20), |packet, _| acked |= matches!(packet, Packet::Puback(_)))?;
            }
            if acked {
                waiting.push(Waiting { text, expiry, sent, acked: SystemTime::now() });
            }
        }
        let is_recorded = self.one_shard && !waiting.is_empty();
        self.away = Some(Away { expiry, left, round: round.common.round(), waiting, is_recorded });
        Ok(())
    }
}

impl Waiting {
    /// It has come, with so many seconds left.
    fn look_at(&self, left: Option<u32>, began: SystemTime) -> Option<String> {
        let Waiting { text, expiry, sent, acked } = self;
        let (least, most) = (seconds(*acked, began), seconds(*sent, SystemTime::now()));
        if least > f64::from(*expiry) + DOUBT {
            return Some(format!("message {text} came after {least:.1} s, and expires after {expiry}"));
        }
        let left = f64::from(left?);
        let expected = f64::from(*expiry) - most - DOUBT..=f64::from(*expiry) - least + DOUBT;
        (!expected.contains(&left)).then(|| format!("message {text} has {left} s left, not {expected:?}"))
    }
}

fn wait_for(connection: &mut Connection, count: usize, is_it: impl Fn(&Packet<'_>) -> bool) -> io::Result<()> {
    let (mut got, since) = (0, Instant::now());
    while got < count {
        if since.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.receive(Duration::from_millis(20), |packet, _| got += usize::from(is_it(&packet)))?;
    }
    Ok(())
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).map_or(0.0, |passed| passed.as_secs_f64())
}
