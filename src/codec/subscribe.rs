//! SUBSCRIBE: topic filters, and how what matches them is to be delivered (MQTT 5.0, 3.8).

use std::fmt;

use super::properties::{Properties, PropertyList, property_block, put_if};
use super::property::Property;
use super::read::Reader;
use super::write::{frame_len, put_header, put_string, put_u16, string_len};
use super::{DecodeError, PacketId, PacketType, ProtocolVersion, QoS, UserProperties};

/// A client subscribes to one or more topic filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The packet identifier, to be repeated in SUBACK.
    pub packet_id: PacketId,
    /// The Subscription Identifier of all its filters, 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// The filters; at least one.
    pub filters: Filters<'a>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Subscribe<'a> {
    /// A SUBSCRIBE without properties.
    pub fn new(packet_id: PacketId, filters: impl Into<Filters<'a>>) -> Self {
        Subscribe { packet_id, subscription_id: None, filters: filters.into(), user: UserProperties::NONE }
    }

    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut subscribe = Subscribe::new(reader.packet_id()?, Filters::default());
        if version.is_v5() {
            subscribe.read_properties(property_block(&mut reader)?)?;
        }
        subscribe.filters = Filters::check(reader.rest(), version)?;
        Ok(subscribe)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), DecodeError> {
        for property in Properties::new(block) {
            match property? {
                Property::SubscriptionIdentifier(_) if self.subscription_id.is_some() => {
                    return Err(DecodeError::protocol("Subscription Identifier included more than once (3.8.2.1.2)"));
                }
                Property::SubscriptionIdentifier(id) => self.subscription_id = Some(id),
                Property::User(..) => self.user = UserProperties::in_block(block),
                property => return Err(property.misplaced()),
            }
        }
        Ok(())
    }

    fn body_len(&self, version: ProtocolVersion) -> usize {
        let filters: usize = self.filters.iter().map(|entry| string_len(entry.filter) + 1).sum();
        2 + self.section_len(version) + filters
    }

    /// How many bytes [`encode`](Subscribe::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_header(PacketType::Subscribe.first_byte(), self.body_len(version), out);
        put_u16(self.packet_id.get(), out);
        self.put_section(version, out);
        for entry in self.filters.iter() {
            put_string(entry.filter, out);
            out.push(entry.options.to_byte(version));
        }
    }
}

impl PropertyList for Subscribe<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        put_if(self.subscription_id, Property::SubscriptionIdentifier, &mut put);
        self.user.each(&mut put);
    }
}

/// What to do about retained messages when a subscription is made (MQTT 5.0, 3.8.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send them; what MQTT 3 does.
    #[default]
    SendAtSubscribe = 0,
    /// Send them if the subscription is new.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

impl RetainHandling {
    /// The handling with this number; none for 3 and above.
    pub const fn from_u8(value: u8) -> Option<RetainHandling> {
        match value {
            0 => Some(RetainHandling::SendAtSubscribe),
            1 => Some(RetainHandling::SendIfNew),
            2 => Some(RetainHandling::DoNotSend),
            _ => None,
        }
    }
}

/// How messages that match a filter are to be delivered (MQTT 5.0, 3.8.3.1). MQTT 3 has only the QoS; the default of the others
/// is what MQTT 3 does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct SubscriptionOptions {
    /// The highest QoS to deliver at.
    pub qos: QoS,
    /// Not to send back what the same client published.
    pub no_local: bool,
    /// To keep the RETAIN flag as it was published.
    pub retain_as_published: bool,
    /// What to do about retained messages now.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The options of MQTT 3: `qos`, and the default for the rest.
    pub const fn new(qos: QoS) -> Self {
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }

    fn from_byte(byte: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        if !version.is_v5() {
            // Only the QoS, and nothing else set [MQTT-3.8.3-4] in MQTT 3.1.1.
            return match QoS::from_u8(byte) {
                Some(qos) => Ok(SubscriptionOptions::new(qos)),
                None => Err(DecodeError::malformed("requested QoS above 2, or reserved bits set [MQTT-3.8.3-4]")),
            };
        }
        if byte & 0b1100_0000 != 0 {
            return Err(DecodeError::malformed("reserved bits of Subscription Options [MQTT-3.8.3-5]"));
        }
        Ok(SubscriptionOptions {
            qos: QoS::from_u8(byte & 0b11).ok_or(DecodeError::protocol("Maximum QoS is 3 (3.8.3.1)"))?,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling: RetainHandling::from_u8(byte >> 4 & 0b11)
                .ok_or(DecodeError::protocol("Retain Handling is 3 (3.8.3.1)"))?,
        })
    }

    const fn to_byte(self, version: ProtocolVersion) -> u8 {
        if !version.is_v5() {
            return self.qos as u8;
        }
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// One topic filter of a SUBSCRIBE with its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscribeFilter<'a> {
    /// The topic filter: a string, otherwise unchecked.
    pub filter: &'a str,
    /// How to deliver what matches it.
    pub options: SubscriptionOptions,
}

/// The topic filters of a SUBSCRIBE, in order.
///
/// A view that copies nothing: onto a received packet, or onto a slice of the caller's (`(&filters[..]).into()`).
#[derive(Clone, Copy)]
pub struct Filters<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A payload that has been checked, and its version.
    Payload(&'a [u8], ProtocolVersion),
    List(&'a [SubscribeFilter<'a>]),
}

impl<'a> Filters<'a> {
    fn check(payload: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::protocol("SUBSCRIBE without a topic filter [MQTT-3.8.3-2]"));
        }
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            let entry = read_filter(&mut reader, version)?;
            if entry.options.no_local && entry.filter.starts_with("$share/") {
                return Err(DecodeError::protocol("No Local on a shared subscription [MQTT-3.8.3-4]"));
            }
        }
        Ok(Filters(Source::Payload(payload, version)))
    }

    /// How many there are. Counts them.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Source::Payload(payload, _) => payload.is_empty(),
            Source::List(list) => list.is_empty(),
        }
    }

    /// Each filter with its options, in order.
    pub fn iter(&self) -> FiltersIter<'a> {
        FiltersIter(match self.0 {
            Source::Payload(payload, version) => Rest::Payload(Reader::new(payload), version),
            Source::List(list) => Rest::List(list.iter()),
        })
    }
}

fn read_filter<'a>(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<SubscribeFilter<'a>, DecodeError> {
    let filter = reader.string()?;
    Ok(SubscribeFilter { filter, options: SubscriptionOptions::from_byte(reader.u8()?, version)? })
}

impl Default for Filters<'_> {
    fn default() -> Self {
        Filters(Source::List(&[]))
    }
}

impl<'a> From<&'a [SubscribeFilter<'a>]> for Filters<'a> {
    fn from(list: &'a [SubscribeFilter<'a>]) -> Self {
        Filters(Source::List(list))
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Filters<'_> {}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Filters<'a> {
    type Item = SubscribeFilter<'a>;
    type IntoIter = FiltersIter<'a>;

    fn into_iter(self) -> FiltersIter<'a> {
        self.iter()
    }
}

/// Each topic filter of a SUBSCRIBE with its options.
#[derive(Clone)]
pub struct FiltersIter<'a>(Rest<'a>);

#[derive(Clone)]
enum Rest<'a> {
    Payload(Reader<'a>, ProtocolVersion),
    List(std::slice::Iter<'a, SubscribeFilter<'a>>),
}

impl<'a> Iterator for FiltersIter<'a> {
    type Item = SubscribeFilter<'a>;

    fn next(&mut self) -> Option<SubscribeFilter<'a>> {
        match &mut self.0 {
            Rest::Payload(reader, version) => read_filter(reader, *version).ok(),
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
    use crate::codec::transcript::{V5, V31, V311, frame, pid, read, refused, same, writes};

    const ALL_OPTIONS: SubscriptionOptions = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };

    #[test]
    fn filters_with_a_qos() {
        let filters = [
            SubscribeFilter { filter: "a/b", options: SubscriptionOptions::new(QoS::AtLeastOnce) },
            SubscribeFilter { filter: "c/#", options: SubscriptionOptions::new(QoS::ExactlyOnce) },
        ];
        let subscribe = Subscribe::new(pid(10), &filters[..]);
        for version in [V31, V311] {
            same(b"\x82\x0E\x00\x0A\x00\x03a/b\x01\x00\x03c/#\x02", version, Client, Packet::Subscribe(subscribe));
        }
        same(b"\x82\x0F\x00\x0A\x00\x00\x03a/b\x01\x00\x03c/#\x02", V5, Client, Packet::Subscribe(subscribe));
        assert_eq!((subscribe.filters.len(), subscribe.filters.is_empty()), (2, false));
    }

    #[test]
    fn options_and_properties_come_with_mqtt_5() {
        let pairs = [("k".to_owned(), "v".to_owned())];
        let filters = [SubscribeFilter { filter: "a", options: ALL_OPTIONS }];
        let subscribe = Subscribe {
            subscription_id: Some(268_435_455),
            user: (&pairs[..]).into(),
            ..Subscribe::new(pid(1), &filters[..])
        };
        let bytes = b"\x82\x13\x00\x01\x0C\x0B\xFF\xFF\xFF\x7F\x26\x00\x01k\x00\x01v\x00\x01a\x2E";
        same(bytes, V5, Client, Packet::Subscribe(subscribe));
        writes(Packet::Subscribe(subscribe), V311, b"\x82\x06\x00\x01\x00\x01a\x02");
    }

    fn options(byte: u8, version: ProtocolVersion) -> Result<SubscriptionOptions, crate::codec::ReasonCode> {
        SubscriptionOptions::from_byte(byte, version).map_err(|error| error.code)
    }

    #[test]
    fn every_byte_of_options_is_legal_or_not() {
        for byte in 0..=255 {
            let expected = if byte > 2 { Some(MalformedPacket) } else { None };
            assert_eq!(options(byte, V311).err(), expected, "[MQTT-3-8.3-4] {byte:#x}");
            assert_eq!(options(byte, V31).err(), expected, "{byte:#x}");
            let expected = match byte {
                0x40.. => Some(MalformedPacket),
                _ if byte & 3 == 3 || byte >> 4 == 3 => Some(ProtocolError),
                _ => None,
            };
            let options = options(byte, V5);
            assert_eq!(options.err(), expected, "[MQTT-3.8.3-5] {byte:#x}");
            if let Ok(options) = options {
                assert_eq!(options.to_byte(V5), byte);
            }
        }
    }

    #[test]
    fn malformed() {
        for version in [V31, V311] {
            assert_eq!(refused(b"\x82\x02\x00\x0A", version, Client), ProtocolError, "[MQTT-3.8.3-2]");
            assert_eq!(refused(b"\x82\x06\x00\x00\x00\x01a\x00", version, Client), MalformedPacket, "packet id 0");
            assert_eq!(refused(b"\x82\x05\x00\x01\x00\x01a", version, Client), MalformedPacket, "no options");
            assert_eq!(refused(b"\x82\x06\x00\x01\x00\x03a\x00", version, Client), MalformedPacket);
            assert_eq!(refused(b"\x82\x06\x00\x01\x00\x01\xFF\x00", version, Client), MalformedPacket);
            assert_eq!(refused(b"\x80\x06\x00\x01\x00\x01a\x00", version, Client), MalformedPacket, "[MQTT-3.8.1-1]");
            assert_eq!(refused(b"\x82\x06\x00\x01\x00\x01a\x00", version, Server), ProtocolError);
        }
        assert!(read(b"\x8A\x06\x00\x01\x00\x01a\x00", V31, Client).is_ok(), "DUP in 3.1");
        assert_eq!(refused(b"\x8A\x06\x00\x01\x00\x01a\x00", V311, Client), MalformedPacket, "[MQTT-3.8.1-1]");
        assert_eq!(refused(b"\x82\x03\x00\x0A\x00", V5, Client), ProtocolError, "[MQTT-3.8.3-2]");
    }

    #[test]
    fn what_mqtt_5_forbids() {
        let refused = |properties: &[u8], filter: &[u8]| {
            refused(&frame(0x82, &[&[0, 1, properties.len() as u8], properties, filter]), V5, Client)
        };
        assert_eq!(refused(&[0x0B, 0], b"\x00\x01a\x00"), ProtocolError, "id 0 (3.8.2.1.2)");
        assert_eq!(refused(&[0x0B, 1, 0x0B, 1], b"\x00\x01a\x00"), ProtocolError, "two ids (3.8.2.1.2)");
        assert_eq!(refused(&[0x1F, 0, 0], b"\x00\x01a\x00"), MalformedPacket, "reason string");
        assert_eq!(refused(&[], b"\x00\x08$share/a\x04"), ProtocolError, "[MQTT-3.8.3-4]");
        assert!(read(b"\x82\x0E\x00\x01\x00\x00\x08$share/a\x01", V5, Client).is_ok());
    }
}
