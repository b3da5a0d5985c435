//! A subscriber whose session is kept: counts what it gets, and keeps what the standard says of what it has received.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;
use moormq::codec::{
    Ack, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscribeFilter, SubscriptionOptions, Unsubscribe,
};

use crate::message::{Kind, Mark};
use crate::round::{Common, Phase, Round, connect};
use crate::wire::Connection;

/// When it is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    Steady,
    /// It leaves and comes back.
    Restless,
    /// It is there in few rounds.
    Absent,
}

/// How long a subscription was there: each moment as it was sent, and as it was acknowledged.
#[derive(Clone, Copy, Default, Debug)]
pub struct Span {
    pub asked: u64,
    pub granted: Option<u64>,
    pub left: Option<u64>,
    pub gone: Option<u64>,
    /// The session was given up, with what waited in it.
    pub is_void: bool,
}

impl Span {
    /// Whether what was published between these moments must have come.
    pub fn covers(&self, first: u64, acked: u64) -> bool {
        !self.is_void
            && self.granted.is_some_and(|granted| granted < first)
            && self.left.is_none_or(|left| left > acked)
    }

    /// Whether it may have come.
    pub fn touches(&self, first: u64, acked: Option<u64>) -> bool {
        acked.is_none_or(|acked| self.asked < acked) && self.gone.is_none_or(|gone| gone > first)
    }
}

/// A topic filter, and when it was subscribed to.
pub struct Filter {
    pub text: String,
    pub kind: Kind,
    /// None matches all topics of the kind.
    pub topic: Option<u8>,
    /// None if it is not shared.
    pub group: Option<u8>,
    pub spans: Vec<Span>,
    /// A SUBSCRIBE (true) or UNSUBSCRIBE that has to be answered yet.
    asking: Option<bool>,
}

impl Filter {
    fn is_there(&self) -> bool {
        self.spans.last().is_some_and(|span| span.granted.is_some() && span.left.is_none())
    }
}

/// What it has got, and how it stands; the judge looks at it while the subscriber runs.
pub struct Tally {
    pub client_id: String,
    pub qos: QoS,
    pub filters: Vec<Filter>,
    /// By publisher and number: how often the message came.
    pub counts: Vec<Vec<u8>>,
    /// By publisher, kind, topic and QoS: the last that came for the first time.
    last: HashMap<(u16, char, u8, u8), u32>,
    /// QoS 2 packet ids between PUBREC and PUBREL, of which message, and in which round it came.
    received: HashMap<PacketId, (Mark, u32)>,
    pub total: u64,
}

impl Tally {
    /// Of a client with these filters: kind, topic, group.
    pub fn new(client_id: String, qos: QoS, filters: Vec<(Kind, Option<u8>, Option<u8>)>) -> Self {
        let filters = filters.into_iter().map(|(kind, topic, group)| {
            let letter = kind.letter();
            let plain = topic.map_or(format!("{letter}/#"), |topic| format!("{letter}/+/{topic}"));
            let text = group.map_or(plain.clone(), |group| format!("$share/g{group}/{plain}"));
            Filter { text, kind, topic, group, spans: Vec::new(), asking: Some(true) }
        });
        let (filters, counts) = (filters.collect(), Vec::new());
        Tally { client_id, qos, filters, counts, last: HashMap::new(), received: HashMap::new(), total: 0 }
    }

    /// Of a client that subscribes by itself, once, from now on.
    pub fn of_guest(client_id: String, qos: QoS, kind: Kind, common: &Common) -> Self {
        let mut tally = Tally::new(client_id, qos, vec![(kind, None, None)]);
        tally.filters[0].spans.push(Span { asked: common.tick(), ..Span::default() });
        tally
    }

    /// A subscription was acknowledged.
    pub fn granted(&mut self, at: usize, common: &Common) {
        let filter = &mut self.filters[at];
        if let Some(span) = filter.spans.last_mut() {
            filter.asking = None;
            span.granted.get_or_insert_with(|| common.tick());
        }
    }

    /// Whether all subscriptions are.
    pub fn is_subscribed(&self) -> bool {
        self.filters.iter().all(Filter::is_there)
    }
}

/// What outlives its connections.
pub struct Subscriber {
    version: ProtocolVersion,
    client_id: String,
    habit: Habit,
    has_session: bool,
    /// Whether it begins anew at times.
    is_forgetful: bool,
    /// Whether it begins anew until that is done.
    is_forgetting: bool,
    /// Whether it subscribes and unsubscribes.
    is_fickle: bool,
    /// Acknowledgements that it has not sent yet.
    held: Vec<u8>,
    rng: Rng,
}

/// How a subscriber is.
pub struct Character {
    pub habit: Habit,
    pub qos: QoS,
    pub is_forgetful: bool,
    pub is_fickle: bool,
    /// Kind, topic, group.
    pub filters: Vec<(Kind, Option<u8>, Option<u8>)>,
}

impl Subscriber {
    pub fn new(index: usize, character: Character, mut rng: Rng) -> (Self, Tally) {
        let Character { habit, qos, is_forgetful, is_fickle, filters } = character;
        let version = if rng.u8(..4) == 0 && !is_forgetful { ProtocolVersion::V311 } else { ProtocolVersion::V5 };
        let is_v5_needed = filters.iter().any(|(kind, _, group)| *kind == Kind::Retained || group.is_some());
        let version = if is_v5_needed { ProtocolVersion::V5 } else { version };
        let client_id = format!("subscriber-{index}");
        let tally = Tally::new(client_id.clone(), qos, filters);
        let (has_session, is_forgetting, held) = (false, false, Vec::new());
        (
            Subscriber { version, client_id, habit, has_session, is_forgetful, is_forgetting, is_fickle, held, rng },
            tally,
        )
    }

    /// Comes, goes and counts until the broker is killed, or all is told to leave.
    pub fn run(&mut self, round: Round<'_>, tally: &Mutex<Tally>) {
        let mut before = None;
        if self.habit == Habit::Absent && self.has_session && self.rng.u8(..4) != 0 {
            while round.common.phase() == Phase::Load {
                sleep(Duration::from_millis(2));
            }
            if round.common.phase() != Phase::Drain {
                return;
            }
        }
        loop {
            let result = self.run_connection(round, tally, &mut before);
            match (result, round.common.phase()) {
                (_, Phase::Killed | Phase::Leave) => return,
                (Err(error), _) => round.common.fault(format!("{}: {error}", self.client_id)),
                (Ok(connection), phase) => before = self.leave(connection, phase),
            }
        }
    }

    /// Gives the connection back if it is to be taken over.
    fn leave(&mut self, mut connection: Connection, phase: Phase) -> Option<Connection> {
        if self.habit == Habit::Steady || self.rng.u8(..3) == 0 {
            return Some(connection);
        }
        if self.rng.bool() {
            // It may be gone already.
            let _ = connection.send(&[Packet::Disconnect(Disconnect::new(ReasonCode::NormalDisconnection))]);
        }
        drop(connection);
        if phase == Phase::Load {
            sleep(Duration::from_millis(self.rng.u64(0..200)));
        }
        None
    }

    fn run_connection(
        &mut self,
        round: Round<'_>,
        tally: &Mutex<Tally>,
        before: &mut Option<Connection>,
    ) -> io::Result<Connection> {
        self.held.clear();
        self.is_forgetting |= self.is_forgetful && self.rng.u8(..8) == 0;
        if self.is_forgetting {
            forget(round.common, &mut tally.lock().expect("nobody panics"));
        }
        let mut connect = connect(self.version, &self.client_id);
        connect.properties.receive_maximum = Some(self.rng.u16(1..60)).filter(|_| self.version.is_v5());
        connect.clean_start = self.is_forgetting;
        let (mut connection, present) = Connection::open(round.address, &connect)?;
        *before = None;
        let clean = std::mem::take(&mut self.is_forgetting);
        if clean {
            has_forgotten(round.common, &mut tally.lock().expect("nobody panics"));
        }
        if present && clean || !present && self.has_session && !clean {
            let id = &self.client_id;
            round.common.fault(format!("{id}: session present: {present}, clean start: {clean}"));
        }
        self.has_session = true;
        let mut asked = false;
        let turns = self.rng.u32(10..1000);
        for turn in 0.. {
            let phase = round.common.phase();
            if phase == Phase::Leave || (phase == Phase::Load && turn == turns) {
                break;
            }
            if self.is_fickle && phase == Phase::Load && self.rng.u8(..50) == 0 {
                let mut tally = tally.lock().expect("nobody panics");
                if asked && tally.filters.iter().all(|filter| filter.asking.is_none()) {
                    let at = self.rng.usize(..tally.filters.len());
                    tally.filters[at].asking = Some(!tally.filters[at].is_there());
                    asked = false;
                }
            }
            if !asked {
                ask(round.common, &mut connection, &mut tally.lock().expect("nobody panics"))?;
                asked = true;
            }
            let wait = Duration::from_micros(self.rng.u64(500..5000));
            let mut refused = None;
            connection.receive(wait, |packet, out| {
                let mut tally = tally.lock().expect("nobody panics");
                take(&mut tally, packet, &mut self.held, self.version, round.common, &mut refused);
                if phase == Phase::Drain || self.rng.u8(..4) != 0 {
                    out.append(&mut self.held);
                }
            })?;
            if let Some(refused) = refused {
                return Err(io::Error::other(refused));
            }
            if !self.held.is_empty() && (phase == Phase::Drain || self.rng.u8(..4) == 0) {
                connection.send_bytes(&std::mem::take(&mut self.held))?;
            }
        }
        Ok(connection)
    }
}

/// The session is about to begin anew.
fn forget(common: &Common, tally: &mut Tally) {
    let now = common.tick();
    for filter in &mut tally.filters {
        if let Some(span) = filter.spans.last_mut() {
            span.left.get_or_insert(now);
        }
        filter.spans.iter_mut().for_each(|span| span.is_void = true);
        filter.asking = Some(true);
    }
}

/// It has.
fn has_forgotten(common: &Common, tally: &mut Tally) {
    let now = common.tick();
    for span in tally.filters.iter_mut().filter_map(|filter| filter.spans.last_mut()) {
        span.gone.get_or_insert(now);
    }
    tally.last.clear();
    tally.received.clear();
}

/// Packet ids of a SUBSCRIBE or UNSUBSCRIBE: the place of the filter, and which of the two.
fn request_id(at: usize, subscribes: bool) -> PacketId {
    PacketId::new(at as u16 * 2 + u16::from(subscribes) + 1).expect("it is not 0")
}

fn ask(common: &Common, connection: &mut Connection, tally: &mut Tally) -> io::Result<()> {
    let qos = tally.qos;
    for (at, filter) in tally.filters.iter_mut().enumerate() {
        let Some(subscribes) = filter.asking else { continue };
        let packet_id = request_id(at, subscribes);
        if subscribes {
            if filter.spans.last().is_none_or(|span| span.left.is_some()) {
                filter.spans.push(Span { asked: common.tick(), ..Span::default() });
            }
            let mut options = SubscriptionOptions::new(qos);
            if filter.kind == Kind::Retained {
                options.retain_handling = RetainHandling::DoNotSend;
            }
            let filters = [SubscribeFilter { filter: &filter.text, options }];
            connection.send(&[Packet::Subscribe(Subscribe::new(packet_id, &filters[..]))])?;
        } else {
            if let Some(span) = filter.spans.last_mut() {
                span.left.get_or_insert_with(|| common.tick());
            }
            let (filters, user) = ([&*filter.text], Default::default());
            connection.send(&[Packet::Unsubscribe(Unsubscribe { packet_id, filters: (&filters[..]).into(), user })])?;
        }
    }
    Ok(())
}

fn take(
    tally: &mut Tally,
    packet: Packet<'_>,
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    common: &Common,
    refused: &mut Option<String>,
) {
    match packet {
        Packet::Publish(publish) => take_message(tally, &publish, out, version, common),
        Packet::Pubrel(ack) => {
            tally.received.remove(&ack.packet_id);
            Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::Success)).encode(version, out);
        }
        Packet::Suback(suback) => {
            if suback.codes.iter().any(|code| code.is_error()) {
                common.fault(format!("{}: {packet:?}", tally.client_id));
            }
            let now = common.tick();
            let filter = tally.filters.iter_mut().enumerate().find(|(at, _)| request_id(*at, true) == suback.packet_id);
            if let Some((_, filter)) = filter
                && let Some(span) = filter.spans.last_mut()
            {
                filter.asking = None;
                span.granted.get_or_insert(now);
            }
        }
        Packet::Unsuback(unsuback) => {
            if unsuback.codes.iter().any(|code| code.is_error()) {
                common.fault(format!("{}: {packet:?}", tally.client_id));
            }
            let now = common.tick();
            let is_it = |at: usize| request_id(at, false) == unsuback.packet_id;
            let filter = tally.filters.iter_mut().enumerate().find(|(at, _)| is_it(*at));
            if let Some((_, filter)) = filter
                && let Some(span) = filter.spans.last_mut()
            {
                filter.asking = None;
                span.gone.get_or_insert(now);
            }
        }
        other => *refused = Some(format!("{other:?}")),
    }
}

fn take_message(
    tally: &mut Tally,
    publish: &Publish<'_>,
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    common: &Common,
) {
    let clearing = Mark { publisher: u16::MAX, number: 0, qos: QoS::AtMostOnce };
    let mark = match publish.payload.is_empty() {
        true => Some(clearing),
        false => Mark::of(publish.payload),
    };
    let Some(mark) = mark else {
        return common.fault(format!("{}: a spoilt payload: {publish:?}", tally.client_id));
    };
    match (publish.qos, publish.packet_id) {
        (QoS::AtLeastOnce, Some(id)) => Packet::Puback(Ack::new(id, ReasonCode::Success)).encode(version, out),
        (QoS::ExactlyOnce, Some(id)) => {
            Packet::Pubrec(Ack::new(id, ReasonCode::Success)).encode(version, out);
            if let Some((before, round)) = tally.received.insert(id, (mark, common.round())) {
                if before != mark {
                    let who = &tally.client_id;
                    let dup = publish.dup;
                    common.fault(format!(
                        "{who}: packet id {id:?} of {before:?}, round {round}, has another message without PUBREL: {mark:?}, dup {dup}"
                    ));
                }
                return;
            }
        }
        _ => {}
    }
    tally.total += 1;
    if mark == clearing {
        return;
    }
    let (topic, id, dup) = (publish.topic, publish.packet_id, publish.dup);
    let how = format!("packet id {id:?}, dup {dup}");
    count(tally, mark, topic, Mark::is_again(publish.payload), &how, common);
}

/// Counts a message that has come; `how` is for who reads what was wrong.
pub fn count(tally: &mut Tally, mark: Mark, topic: &str, may_be_late: bool, how: &str, common: &Common) {
    let (publisher, number) = (usize::from(mark.publisher), mark.number as usize);
    if tally.counts.len() <= publisher {
        tally.counts.resize_with(publisher + 1, Vec::new);
    }
    if tally.counts[publisher].len() <= number {
        tally.counts[publisher].resize(number + 1, 0);
    }
    let count = &mut tally.counts[publisher][number];
    *count = count.saturating_add(1);
    let (who, count) = (&tally.client_id, *count);
    if count > 1 && mark.qos == QoS::ExactlyOnce && tally.qos == QoS::ExactlyOnce {
        common.fault(format!("{who}: {mark:?} {topic} came {count} times; {how}"));
    }
    let shared = tally.filters.iter().any(|filter| filter.group.is_some() && topic.starts_with(filter.kind.letter()));
    if count == 1 && !shared && !may_be_late && common.is_ordered {
        let mut parts = topic.chars();
        let key = (mark.publisher, parts.next().unwrap_or(' '), topic.bytes().last().unwrap_or(0), mark.qos as u8);
        let last = tally.last.entry(key).or_insert(mark.number);
        if *last > mark.number {
            common.fault(format!("{who}: {mark:?} {topic} after {last}, {how}"));
        }
        *last = mark.number.max(*last);
    }
}
