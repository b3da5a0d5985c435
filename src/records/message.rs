//! A message as it is stored.

use super::bytes::{Cursor, Wrong, put_decision, put_number, text};
use super::wall_clock::{WallClock, WallTime};
use crate::codec::{PublishProperties, QoS};
use crate::message::{Message, Publication};
use crate::numbers::Decision;
use crate::topic::TopicName;

/// A message as it is stored: what a [`Message`] is, with its expiry in the calendar.
#[derive(Clone, Copy, Debug)]
pub struct StoredMessage<'a> {
    /// The topic, after the hooks.
    pub topic: TopicName<'a>,
    /// The encoded MQTT 5 properties that go on unchanged to every receiver.
    pub properties: &'a [u8],
    /// The application payload.
    pub payload: &'a [u8],
    /// The quality of service it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN set.
    pub retain: bool,
    /// When its Message Expiry Interval runs out; [`WallTime::NEVER`] without one.
    pub expires: WallTime,
    /// What has to be decided before it counts, if anything has.
    pub decision: Option<Decision>,
    /// The bytes with topic, properties and payload in one piece, if there are such.
    source: &'a [u8],
}

/// What the first byte of a message says.
const QOS: u8 = 0b11;
const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const DECISION: u8 = 1 << 4;

impl<'a> StoredMessage<'a> {
    /// One of these parts, with its QoS and RETAIN flag; `properties` go on to receivers as they are.
    pub fn new(
        topic: TopicName<'a>,
        properties: &'a [u8],
        payload: &'a [u8],
        (qos, retain): (QoS, bool),
        expires: WallTime,
    ) -> Self {
        StoredMessage { topic, properties, payload, qos, retain, expires, decision: None, source: &[] }
    }

    /// `message`, of which nothing is copied.
    pub fn of(message: &'a Message, clock: WallClock) -> Self {
        StoredMessage {
            topic: message.topic(),
            properties: message.properties(),
            payload: message.payload(),
            qos: message.qos(),
            retain: message.retain(),
            expires: clock.to_wall(message.expires()),
            decision: message.decision(),
            source: &[],
        }
    }

    /// `publication`, of which nothing is copied.
    pub fn of_publication(publication: &Publication<'a>, clock: WallClock) -> Self {
        let &Publication { topic, properties, payload, qos, retain, expires, decision, .. } = publication;
        let expires = clock.to_wall(expires);
        StoredMessage { topic, properties, payload, qos, retain, expires, decision, source: &[] }
    }

    /// It as a publication, which can be [kept](Publication::keep).
    pub fn publication(&self, clock: WallClock) -> Publication<'a> {
        let mut publication = Publication::new(self.topic, self.payload);
        (publication.properties, publication.source) = (self.properties, self.source);
        (publication.qos, publication.retain) = (self.qos, self.retain);
        (publication.expires, publication.decision) = (clock.to_time(self.expires), self.decision);
        publication
    }

    /// Its bytes, as the last ones of a record.
    pub(super) fn parts(&self) -> [&'a [u8]; 3] {
        [self.topic.as_str().as_bytes(), self.properties, self.payload]
    }

    /// Writes what comes before its bytes.
    pub(super) fn put_head(&self, out: &mut Vec<u8>) {
        let expires = self.expires != WallTime::NEVER;
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.retain, RETAIN) | flag(expires, EXPIRES) | flag(self.decision.is_some(), DECISION);
        out.push(self.qos as u8 | flags);
        if expires {
            put_number(self.expires.as_millis(), out);
        }
        if let Some(decision) = self.decision {
            put_decision(decision, out);
        }
        put_number(self.topic.as_str().len() as u64, out);
        put_number(self.properties.len() as u64, out);
    }
}

/// What comes before the bytes of a message.
pub(super) struct Head {
    qos: QoS,
    retain: bool,
    expires: WallTime,
    decision: Option<Decision>,
    topic: usize,
    properties: usize,
}

impl Head {
    pub fn read(cursor: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let flags = cursor.byte()?;
        if flags & !(QOS | RETAIN | EXPIRES | DECISION) != 0 {
            return Err("a message has flags that there are not");
        }
        let qos = QoS::from_u8(flags & QOS).ok_or("a message has QoS 3")?;
        let expires = if flags & EXPIRES == 0 { WallTime::NEVER } else { WallTime::from_millis(cursor.number()?) };
        if flags & EXPIRES != 0 && expires == WallTime::NEVER {
            return Err("a message expires never");
        }
        let decision = if flags & DECISION == 0 { None } else { Some(cursor.decision()?) };
        let (topic, properties) = (cursor.length()?, cursor.length()?);
        Ok(Head { qos, retain: flags & RETAIN != 0, expires, decision, topic, properties })
    }

    /// Reads the bytes of the message: all that is left.
    pub fn read_rest<'a>(self, cursor: &mut Cursor<'a>) -> Result<StoredMessage<'a>, Wrong> {
        let source = cursor.rest();
        if u32::try_from(source.len()).is_err() {
            return Err("a message is too long");
        }
        let topic = text(cursor.take(self.topic)?)?;
        let topic = TopicName::parse(topic, usize::MAX).map_err(|_| "a topic is none")?;
        let properties = cursor.take(self.properties)?;
        if !are_forwarded(properties) {
            return Err("the properties of a message are none that go on to receivers");
        }
        let Head { qos, retain, expires, decision, .. } = self;
        let payload = cursor.take_rest();
        Ok(StoredMessage { topic, properties, payload, qos, retain, expires, decision, source })
    }
}

/// Whether these are well-formed properties, and all of them go on to receivers.
fn are_forwarded(properties: &[u8]) -> bool {
    PublishProperties::parse(properties).is_ok_and(|parsed| {
        parsed.message_expiry.is_none() && parsed.topic_alias.is_none() && parsed.subscription_ids.is_empty()
    })
}

impl PartialEq for StoredMessage<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
            && (self.qos, self.retain, self.expires) == (other.qos, other.retain, other.expires)
            && self.decision == other.decision
    }
}

impl Eq for StoredMessage<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    /// The message is put together from the record by one copy, and from nothing else.
    #[test]
    fn a_message_is_kept_as_it_was_stored() {
        let clock = WallClock::new(Time::from_millis(5), WallTime::from_millis(1_000_000));
        let mut publication = Publication::new(TopicName::trusted("a/b"), b"payload");
        publication.properties = &[1, 1];
        (publication.qos, publication.retain, publication.expires) = (QoS::ExactlyOnce, true, Time::from_millis(7));
        let message = publication.keep();
        let stored = StoredMessage::of(&message, clock);
        assert_eq!(stored, StoredMessage::of_publication(&publication, clock));
        assert_eq!(stored.expires, WallTime::from_millis(1_000_002));
        let mut body = Vec::new();
        stored.put_head(&mut body);
        body.extend(stored.parts().concat());
        let mut cursor = Cursor::new(&body);
        let read = Head::read(&mut cursor).and_then(|head| head.read_rest(&mut cursor)).expect("it was written");
        assert_eq!(read, stored);
        let later = WallClock::new(Time::ZERO, WallTime::from_millis(1_000_001));
        let again = read.publication(later).keep();
        assert_eq!(
            (again.topic().as_str(), again.properties(), again.payload()),
            ("a/b", &[1, 1][..], &b"payload"[..])
        );
        assert_eq!((again.qos(), again.retain(), again.expires()), (QoS::ExactlyOnce, true, Time::from_millis(1)));
        assert_eq!(again.size(), message.size());
    }
}
