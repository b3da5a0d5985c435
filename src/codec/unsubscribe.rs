//! UNSUBSCRIBE: the topic filters of subscriptions to remove (MQTT 5.0, 3.10).

use std::fmt;

use super::properties::{Properties, PropertyList, property_block};
use super::property::Property;
use super::read::Reader;
use super::write::{frame_len, put_header, put_string, put_u16, string_len};
use super::{DecodeError, PacketId, PacketType, ProtocolVersion, UserProperties};

/// A client unsubscribes from one or more topic filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// The packet identifier, to be repeated in UNSUBACK.
    pub packet_id: PacketId,
    /// The filters; at least one.
    pub filters: TopicFilters<'a>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// An UNSUBSCRIBE without properties.
    pub fn new(packet_id: PacketId, filters: impl Into<TopicFilters<'a>>) -> Self {
        Unsubscribe { packet_id, filters: filters.into(), user: UserProperties::NONE }
    }

    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut user = UserProperties::NONE;
        if version.is_v5() {
            let block = property_block(&mut reader)?;
            for property in Properties::new(block) {
                match property? {
                    Property::User(..) => user = UserProperties::in_block(block),
                    property => return Err(property.misplaced()),
                }
            }
        }
        Ok(Unsubscribe { packet_id, filters: TopicFilters::check(reader.rest())?, user })
    }

    fn body_len(&self, version: ProtocolVersion) -> usize {
        2 + self.section_len(version) + self.filters.iter().map(string_len).sum::<usize>()
    }

    /// How many bytes [`encode`](Unsubscribe::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_header(PacketType::Unsubscribe.first_byte(), self.body_len(version), out);
        put_u16(self.packet_id.get(), out);
        self.put_section(version, out);
        for filter in self.filters.iter() {
            put_string(filter, out);
        }
    }
}

impl PropertyList for Unsubscribe<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        self.user.each(&mut put);
    }
}

/// The topic filters of an UNSUBSCRIBE, in order: strings, otherwise unchecked.
///
/// A view that copies nothing: onto a received packet, or onto a slice of the caller's (`(&filters[..]).into()`).
#[derive(Clone, Copy)]
pub struct TopicFilters<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A payload that has been checked.
    Payload(&'a [u8]),
    List(&'a [&'a str]),
}

impl<'a> TopicFilters<'a> {
    fn check(payload: &'a [u8]) -> Result<Self, DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::protocol("UNSUBSCRIBE without a topic filter [MQTT-3.10.3-2]"));
        }
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            reader.string()?;
        }
        Ok(TopicFilters(Source::Payload(payload)))
    }

    /// How many there are. Counts them.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Source::Payload(payload) => payload.is_empty(),
            Source::List(list) => list.is_empty(),
        }
    }

    /// Each filter, in order.
    pub fn iter(&self) -> TopicFiltersIter<'a> {
        TopicFiltersIter(match self.0 {
            Source::Payload(payload) => Rest::Payload(Reader::new(payload)),
            Source::List(list) => Rest::List(list.iter()),
        })
    }
}

impl<'a> From<&'a [&'a str]> for TopicFilters<'a> {
    fn from(list: &'a [&'a str]) -> Self {
        TopicFilters(Source::List(list))
    }
}

impl PartialEq for TopicFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for TopicFilters<'_> {}

impl fmt::Debug for TopicFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for TopicFilters<'a> {
    type Item = &'a str;
    type IntoIter = TopicFiltersIter<'a>;

    fn into_iter(self) -> TopicFiltersIter<'a> {
        self.iter()
    }
}

/// Each topic filter of an UNSUBSCRIBE.
#[derive(Clone)]
pub struct TopicFiltersIter<'a>(Rest<'a>);

#[derive(Clone)]
enum Rest<'a> {
    Payload(Reader<'a>),
    List(std::slice::Iter<'a, &'a str>),
}

impl<'a> Iterator for TopicFiltersIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match &mut self.0 {
            Rest::Payload(reader) => reader.string().ok(),
            Rest::List(list) => list.next().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::ReasonCode::*;
    use crate::codec::Sender::*;
    use crate::codec::transcript::{V5, V31, V311, pid, read, refused, same, writes};

    #[test]
    fn filters_to_remove() {
        let unsubscribe = Unsubscribe::new(pid(10), &["a/b", "+"][..]);
        for version in [V31, V311] {
            same(b"\xA2\x0A\x00\x0A\x00\x03a/b\x00\x01+", version, Client, Packet::Unsubscribe(unsubscribe));
        }
        same(b"\xA2\x0B\x00\x0A\x00\x00\x03a/b\x00\x01+", V5, Client, Packet::Unsubscribe(unsubscribe));
        assert_eq!((unsubscribe.filters.len(), unsubscribe.filters.is_empty()), (2, false));
    }

    #[test]
    fn user_properties_come_with_mqtt_5() {
        let pairs = [("k".to_owned(), "v".to_owned())];
        let unsubscribe = Unsubscribe { user: (&pairs[..]).into(), ..Unsubscribe::new(pid(1), &["a"][..]) };
        same(b"\xA2\x0D\x00\x01\x07\x26\x00\x01k\x00\x01v\x00\x01a", V5, Client, Packet::Unsubscribe(unsubscribe));
        writes(Packet::Unsubscribe(unsubscribe), V31, b"\xA2\x05\x00\x01\x00\x01a");
    }

    #[test]
    fn malformed() {
        assert_eq!(refused(b"\xA2\x02\x00\x0A", V311, Client), ProtocolError, "[MQTT-3.10.3-2]");
        assert_eq!(refused(b"\xA2\x03\x00\x0A\x00", V5, Client), ProtocolError, "[MQTT-3.10.3-2]");
        assert_eq!(refused(b"\xA2\x05\x00\x00\x00\x01a", V311, Client), MalformedPacket, "packet id 0");
        assert_eq!(refused(b"\xA2\x05\x00\x01\x00\x02a", V311, Client), MalformedPacket);
        assert_eq!(refused(b"\xA2\x05\x00\x01\x00\x01\x00", V311, Client), MalformedPacket, "[MQTT-1.5.4-2]");
        assert_eq!(refused(b"\xA0\x05\x00\x01\x00\x01a", V311, Client), MalformedPacket, "[MQTT-3.10.1-1]");
        assert_eq!(refused(b"\xA2\x08\x00\x01\x02\x0B\x01\x00\x01a", V5, Client), MalformedPacket, "subscription id");
        assert_eq!(refused(b"\xA2\x05\x00\x01\x00\x01a", V311, Server), ProtocolError);
        assert!(read(b"\xAA\x05\x00\x01\x00\x01a", V31, Client).is_ok(), "DUP in 3.1");
    }
}
