//! A publisher, which publishes at QoS 1 to its part of the sessions, on schedule and whether what it published is acknowledged or not.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use moormq::codec::{MAX_PACKET_SIZE, Packet, PacketId, Publish, QoS, ReasonCode, Sender, Split, decode, split};
use moormq_perf_shared::kept_sessions::{payload, topic};
use moormq_perf_shared::under_test::Failure;
use moormq_perf_shared::waiting_client::{Client, VERSION};

/// Messages that are not acknowledged, at most: packet ids must not be used twice.
const MOST_IN_FLIGHT: usize = 60_000;
/// How often it publishes: all that has become due since, at once.
const TICK: Duration = Duration::from_millis(1);
/// When so many bytes are not sent, nothing more is added.
const MOST_UNSENT: usize = 256 << 10;

/// One publisher.
pub struct Publisher {
    stream: TcpStream,
    received: Vec<u8>,
    out: Vec<u8>,
    /// Bytes of `out` that are sent.
    sent: usize,
    /// The packet ids of messages that are not acknowledged, and when each should have been published.
    in_flight: VecDeque<(PacketId, Instant)>,
    last_id: u16,
    topics: Vec<String>,
    plan: Plan,
    /// Messages so far.
    published: u64,
}

/// What is published, and when.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub began: Instant,
    /// Between two messages of this publisher.
    pub interval: Duration,
    /// Messages for each session.
    pub each: u32,
    /// Bytes of a payload.
    pub payload: u32,
}

impl Publisher {
    /// One that is connected, for these sessions.
    pub fn new(client: Client, sessions: impl Iterator<Item = u32>, plan: Plan) -> Result<Self, Failure> {
        let stream = client.into_stream();
        stream.set_nonblocking(true)?;
        let topics: Vec<_> = sessions.map(topic).collect();
        let (received, out, in_flight) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Publisher { stream, received, out, sent: 0, in_flight, last_id: 0, topics, plan, published: 0 })
    }

    /// Whether all was published and acknowledged.
    pub fn is_done(&self) -> bool {
        self.in_flight.is_empty() && self.published == u64::from(self.plan.each) * self.topics.len() as u64
    }

    /// Publishes all that is due.
    pub fn publish(&mut self, now: Instant) -> Result<(), Failure> {
        let Plan { began, interval, each, payload: bytes } = self.plan;
        let in_all = u64::from(each) * self.topics.len() as u64;
        while self.published < in_all && self.in_flight.len() < MOST_IN_FLIGHT && self.out.len() < MOST_UNSENT {
            // What is due within a tick leaves together.
            let after = (interval.as_nanos() as u64 * self.published).next_multiple_of(TICK.as_nanos() as u64);
            let due = began + Duration::from_nanos(after);
            if due > now {
                break;
            }
            let sessions = self.topics.len() as u64;
            let (number, session) = (self.published / sessions, self.published % sessions);
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let packet_id = PacketId::new(self.last_id).ok_or("no packet id")?;
            let (topic, payload) = (&*self.topics[session as usize], &payload(number as u32, bytes));
            Publish { qos: QoS::AtLeastOnce, topic, packet_id: Some(packet_id), payload, ..Publish::default() }
                .encode(VERSION, &mut self.out);
            self.in_flight.push_back((packet_id, due));
            self.published += 1;
        }
        self.flush()
    }

    /// Sends as much as the kernel takes.
    fn flush(&mut self) -> Result<(), Failure> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// Reads what has come; how many messages were acknowledged. Times count from when a message should have been published.
    pub fn read(&mut self, times: &mut Histogram<u64>) -> Result<u64, Failure> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the broker has closed the connection of a publisher".into()),
            Ok(read) => self.received.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let (now, mut used, mut acknowledged) = (Instant::now(), 0, 0);
        while let Split::Frame(frame) = split(&self.received[used..], MAX_PACKET_SIZE).map_err(|error| error.what)? {
            let packet = decode(frame, VERSION, Sender::Server).map_err(|error| error.what)?;
            let Packet::Puback(ack) = &packet else { return Err(format!("it has sent {packet:?}").into()) };
            // PUBACKs come in the order of what they are for [MQTT-4.6.0-2].
            match self.in_flight.pop_front() {
                Some((id, due)) if id == ack.packet_id && ack.code == ReasonCode::Success => {
                    times.saturating_record(now.saturating_duration_since(due).as_nanos() as u64);
                }
                other => return Err(format!("{other:?} is in flight, and {packet:?} has come").into()),
            }
            acknowledged += 1;
            used += frame.length;
        }
        self.received.drain(..used);
        Ok(acknowledged)
    }
}

impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
