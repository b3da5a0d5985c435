//! The properties of a packet: read from a block, how often each may come, and written (MQTT 5.0, 2.2.2).
//!
//! A packet lists its properties once, in [`PropertyList::each`]; measuring and writing follow from that. It reads them
//! by a `match` over [`Properties`], which has checked type, value and repetition; what the `match` does not name does not
//! belong into the packet.

use super::property::{Property, id};
use super::read::Reader;
use super::write::{put_varint, varint_len};
use super::{DecodeError, ProtocolVersion};

/// The property length, and the property bytes it announces.
#[inline]
pub(super) fn property_block<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = reader.varint()?;
    reader.take(len as usize)
}

/// The properties of one packet, checked while they are read.
pub(super) struct Properties<'a> {
    block: Reader<'a>,
    seen: u64,
}

impl<'a> Properties<'a> {
    /// The properties in `block`, the bytes after the property length.
    #[inline]
    pub(super) const fn new(block: &'a [u8]) -> Self {
        Properties { block: Reader::new(block), seen: 0 }
    }

    /// Reads the next property. Only User Property and Subscription Identifier may come again; for the latter the caller
    /// must see to it that the packet is a PUBLISH.
    fn read(&mut self) -> Result<Property<'a>, DecodeError> {
        let (id, property) = Property::read(&mut self.block)?;
        // Identifiers end at 0x2A, so that all of them have their bit.
        let bit = 1 << id;
        if self.seen & bit != 0 && !matches!(id, id::USER_PROPERTY | id::SUBSCRIPTION_IDENTIFIER) {
            return Err(DecodeError::protocol("property included more than once"));
        }
        self.seen |= bit;
        Ok(property)
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Result<Property<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.block.is_empty() { None } else { Some(self.read()) }
    }
}

/// The properties of a block that has been checked before: identifier and the bytes of each, identifier included, without
/// looking into them. Ends early if the block was not checked after all.
#[derive(Clone, Copy)]
pub(super) struct Spelled<'a> {
    rest: &'a [u8],
}

impl<'a> Spelled<'a> {
    pub(super) const fn new(block: &'a [u8]) -> Self {
        Spelled { rest: block }
    }

    fn measure(id: u8, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        use id::*;
        match id {
            PAYLOAD_FORMAT_INDICATOR
            | REQUEST_PROBLEM_INFORMATION
            | REQUEST_RESPONSE_INFORMATION
            | MAXIMUM_QOS
            | RETAIN_AVAILABLE
            | WILDCARD_SUBSCRIPTION_AVAILABLE
            | SUBSCRIPTION_IDENTIFIER_AVAILABLE
            | SHARED_SUBSCRIPTION_AVAILABLE => reader.u8().map(drop),
            SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => reader.u16().map(drop),
            MESSAGE_EXPIRY_INTERVAL | SESSION_EXPIRY_INTERVAL | WILL_DELAY_INTERVAL | MAXIMUM_PACKET_SIZE => {
                reader.u32().map(drop)
            }
            SUBSCRIPTION_IDENTIFIER => reader.varint().map(drop),
            USER_PROPERTY => reader.binary().and_then(|_| reader.binary()).map(drop),
            _ => reader.binary().map(drop),
        }
    }
}

impl<'a> Iterator for Spelled<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new(self.rest);
        let id = reader.u8().ok()?;
        Self::measure(id, &mut reader).ok()?;
        let (property, rest) = self.rest.split_at(self.rest.len() - reader.rest().len());
        self.rest = rest;
        Some((id, property))
    }
}

/// A packet, or part of one, that has properties.
pub(super) trait PropertyList {
    /// Hands every property that is set to `put`, in the order in which they are written.
    fn each(&self, put: impl FnMut(Property<'_>));

    /// Whether no property is set.
    fn is_empty(&self) -> bool {
        self.block_len() == 0
    }

    /// The bytes of all properties, without the property length before them.
    fn block_len(&self) -> usize {
        let mut len = 0;
        self.each(|property| len += property.encoded_len());
        len
    }

    /// The bytes of property length and properties; none before MQTT 5.0.
    fn section_len(&self, version: ProtocolVersion) -> usize {
        if !version.is_v5() {
            return 0;
        }
        let len = self.block_len();
        varint_len(len) + len
    }

    /// Appends property length and properties; nothing before MQTT 5.0.
    fn put_section(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if version.is_v5() {
            put_varint(self.block_len(), out);
            self.each(|property| property.encode(out));
        }
    }
}

/// Hands `property` of each value that is set to `put`.
#[inline]
pub(super) fn put_if<'a, T>(
    value: Option<T>,
    property: impl Fn(T) -> Property<'a>,
    put: &mut impl FnMut(Property<'a>),
) {
    if let Some(value) = value {
        put(property(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ReasonCode;
    use crate::codec::property::tests::ALL;

    #[test]
    fn a_block_is_read_whole_or_spelled_out() {
        let mut block = Vec::new();
        for property in ALL {
            property.encode(&mut block);
        }
        assert_eq!(Properties::new(&block).collect::<Result<Vec<_>, _>>().unwrap(), ALL);
        let spelled: Vec<_> = Spelled::new(&block).collect();
        assert_eq!(spelled.len(), ALL.len());
        assert_eq!(spelled.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect::<Vec<_>>(), block);
        assert!(spelled.iter().all(|(id, bytes)| bytes[0] == *id));
    }

    #[test]
    fn a_block_cut_short_is_malformed() {
        for property in ALL {
            let mut block = Vec::new();
            property.encode(&mut block);
            for end in 1..block.len() {
                let error = Properties::new(&block[..end]).find_map(Result::err).expect("no property");
                assert_eq!(error.code, ReasonCode::MalformedPacket, "{property:?}");
                assert_eq!(Spelled::new(&block[..end]).count(), 0, "{property:?}");
            }
        }
    }

    #[test]
    fn only_user_properties_and_subscription_ids_come_twice() {
        for property in ALL {
            let mut block = Vec::new();
            property.encode(&mut block);
            property.encode(&mut block);
            let error = Properties::new(&block).find_map(Result::err).map(|error| error.code);
            let repeats = matches!(property, Property::User(..) | Property::SubscriptionIdentifier(_));
            assert_eq!(error, if repeats { None } else { Some(ReasonCode::ProtocolError) }, "{property:?}");
        }
    }
}
