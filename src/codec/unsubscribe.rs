//! UNSUBSCRIBE: the topic filters of subscriptions to remove (MQTT 5.0, 3.10).

use std::fmt;

use super::property::{Properties, Property, PropertyList, property_block};
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
                    Property::UserProperty(..) => user = UserProperties::in_block(block),
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
