//! The properties of an application message: those of PUBLISH and of a will.
//!
//! Most of them go on to the subscribers as they came (`[MQTT-3.3.2-4]`, `[MQTT-3.3.2-15]` to `[MQTT-3.3.2-18]`,
//! `[MQTT-3.3.2-20]`), so a broker keeps their bytes, not their values. The others are made anew for each delivery: topic
//! alias, message expiry, subscription identifiers. [`PublishProperties::forwarded`] separates the two.

use std::borrow::Cow;
use std::fmt;

use super::properties::{Properties, PropertyList, Spelled, put_if};
use super::property::{Property, id};
use super::read::Reader;
use super::{DecodeError, UserProperties};

/// The properties of a PUBLISH or of a will (MQTT 5.0, 3.3.2.3 and 3.1.3.2).
///
/// Two are equal when they say the same; `block`, which is how they were spelled, does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishProperties<'a> {
    /// Payload Format Indicator: whether the payload says that it is UTF-8. Nobody has checked that it is.
    pub payload_is_utf8: Option<bool>,
    /// Message Expiry Interval in seconds.
    pub message_expiry: Option<u32>,
    /// Topic Alias, never zero. Only in a PUBLISH.
    pub topic_alias: Option<u16>,
    /// Where to publish the response; not empty, and without wildcards.
    pub response_topic: Option<&'a str>,
    /// What lets the requester recognise the response.
    pub correlation_data: Option<&'a [u8]>,
    /// What the payload is, in the words of the applications.
    pub content_type: Option<&'a str>,
    /// The subscriptions for which a server sends the message. Only in a PUBLISH of a server.
    pub subscription_ids: SubscriptionIds<'a>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
    /// The properties as they were received, without the length before them; empty when they were not received. Read
    /// only by [`forwarded`](PublishProperties::forwarded): encoding goes by the other fields.
    pub block: &'a [u8],
}

impl<'a> PublishProperties<'a> {
    /// Reads the properties of a message: a PUBLISH's, or a block such as [`forwarded`](PublishProperties::forwarded) gives.
    ///
    /// # Errors
    ///
    /// As for the properties of a received PUBLISH: see [`decode`](super::decode).
    #[inline]
    pub fn parse(block: &'a [u8]) -> Result<Self, DecodeError> {
        if block.is_empty() {
            return Ok(Self::default());
        }
        Self::read(block, |property| Err(property.misplaced()))
    }

    /// Reads the properties of a will; gives its Will Delay Interval, in seconds, too (3.1.3.2.2).
    pub(super) fn parse_will(block: &'a [u8]) -> Result<(Self, u32), DecodeError> {
        let mut delay = 0;
        let properties = Self::read(block, |property| match property {
            Property::WillDelayInterval(seconds) => {
                delay = seconds;
                Ok(())
            }
            property => Err(property.misplaced()),
        })?;
        if properties.topic_alias.is_some() || !properties.subscription_ids.is_empty() {
            return Err(DecodeError::malformed("property not allowed in a will (3.1.3.2)"));
        }
        Ok((properties, delay))
    }

    /// Reads `block`, and leaves to `other` what is not a property of a message.
    fn read(
        block: &'a [u8],
        mut other: impl FnMut(Property<'a>) -> Result<(), DecodeError>,
    ) -> Result<Self, DecodeError> {
        let mut properties = PublishProperties { block, ..Self::default() };
        for property in Properties::new(block) {
            match property? {
                Property::PayloadFormatIndicator(utf8) => properties.payload_is_utf8 = Some(utf8),
                Property::MessageExpiryInterval(seconds) => properties.message_expiry = Some(seconds),
                Property::TopicAlias(alias) => properties.topic_alias = Some(alias),
                Property::ResponseTopic(topic) => properties.response_topic = Some(topic),
                Property::CorrelationData(data) => properties.correlation_data = Some(data),
                Property::ContentType(name) => properties.content_type = Some(name),
                Property::SubscriptionIdentifier(_) => properties.subscription_ids = SubscriptionIds::in_block(block),
                Property::User(..) => properties.user = UserProperties::in_block(block),
                property => other(property)?,
            }
        }
        Ok(properties)
    }

    /// The received properties that go on unchanged to the subscribers, encoded: all but topic alias, message expiry,
    /// subscription identifiers and will delay.
    ///
    /// Borrowed from `block` if they stand together there, as they do when there is nothing to leave out or it is at an
    /// end; copied otherwise.
    pub fn forwarded(&self) -> Cow<'a, [u8]> {
        let mut copied = Vec::new();
        let mut run = 0..0;
        let mut start = 0;
        for (id, property) in Spelled::new(self.block) {
            let end = start + property.len();
            if is_forwarded(id) {
                if run.end != start || run.is_empty() {
                    copied.extend_from_slice(&self.block[run]);
                    run = start..end;
                } else {
                    run.end = end;
                }
            }
            start = end;
        }
        let last = &self.block[run];
        if copied.is_empty() {
            return Cow::Borrowed(last);
        }
        copied.extend_from_slice(last);
        Cow::Owned(copied)
    }
}

const fn is_forwarded(id: u8) -> bool {
    matches!(
        id,
        id::PAYLOAD_FORMAT_INDICATOR | id::CONTENT_TYPE | id::RESPONSE_TOPIC | id::CORRELATION_DATA | id::USER_PROPERTY
    )
}

impl PropertyList for PublishProperties<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        put_if(self.payload_is_utf8, Property::PayloadFormatIndicator, &mut put);
        put_if(self.message_expiry, Property::MessageExpiryInterval, &mut put);
        put_if(self.topic_alias, Property::TopicAlias, &mut put);
        put_if(self.response_topic, Property::ResponseTopic, &mut put);
        put_if(self.correlation_data, Property::CorrelationData, &mut put);
        put_if(self.content_type, Property::ContentType, &mut put);
        for id in self.subscription_ids.iter() {
            put(Property::SubscriptionIdentifier(id));
        }
        self.user.each(&mut put);
    }
}

impl PartialEq for PublishProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.payload_is_utf8 == other.payload_is_utf8
            && self.message_expiry == other.message_expiry
            && self.topic_alias == other.topic_alias
            && self.response_topic == other.response_topic
            && self.correlation_data == other.correlation_data
            && self.content_type == other.content_type
            && self.subscription_ids == other.subscription_ids
            && self.user == other.user
    }
}

impl Eq for PublishProperties<'_> {}

/// The subscription identifiers of a PUBLISH, in order.
///
/// A view that copies nothing: onto the property bytes of a received packet, or onto a slice of the caller's
/// (`SubscriptionIds::from(&ids[..])`). Each is 1 to 268,435,455.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A checked property block with at least one subscription identifier in it, or an empty one.
    Block(&'a [u8]),
    List(&'a [u32]),
}

impl<'a> SubscriptionIds<'a> {
    /// No subscription identifiers.
    pub const NONE: SubscriptionIds<'static> = SubscriptionIds(Source::Block(&[]));

    const fn in_block(block: &'a [u8]) -> Self {
        SubscriptionIds(Source::Block(block))
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Source::Block(block) => block.is_empty(),
            Source::List(list) => list.is_empty(),
        }
    }

    /// Each identifier, in order.
    pub fn iter(&self) -> SubscriptionIdsIter<'a> {
        SubscriptionIdsIter(match self.0 {
            Source::Block(block) => Rest::Block(Spelled::new(block)),
            Source::List(list) => Rest::List(list.iter()),
        })
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        SubscriptionIds::NONE
    }
}

impl<'a> From<&'a [u32]> for SubscriptionIds<'a> {
    fn from(list: &'a [u32]) -> Self {
        SubscriptionIds(Source::List(list))
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for SubscriptionIds<'a> {
    type Item = u32;
    type IntoIter = SubscriptionIdsIter<'a>;

    fn into_iter(self) -> SubscriptionIdsIter<'a> {
        self.iter()
    }
}

/// Each subscription identifier of a PUBLISH.
#[derive(Clone)]
pub struct SubscriptionIdsIter<'a>(Rest<'a>);

#[derive(Clone)]
enum Rest<'a> {
    Block(Spelled<'a>),
    List(std::slice::Iter<'a, u32>),
}

impl Iterator for SubscriptionIdsIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match &mut self.0 {
            Rest::Block(spelled) => {
                let (_, property) = spelled.find(|(id, _)| *id == id::SUBSCRIPTION_IDENTIFIER)?;
                Reader::new(&property[1..]).varint().ok()
            }
            Rest::List(list) => list.next().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ReasonCode;

    const ALIAS: Property<'_> = Property::TopicAlias(7);
    const EXPIRY: Property<'_> = Property::MessageExpiryInterval(60);
    const ID: Property<'_> = Property::SubscriptionIdentifier(300);
    const TYPE: Property<'_> = Property::ContentType("json");
    const USER: Property<'_> = Property::User("k", "v");

    fn block(properties: &[Property<'_>]) -> Vec<u8> {
        let mut block = Vec::new();
        for property in properties {
            property.encode(&mut block);
        }
        block
    }

    #[test]
    fn what_goes_on_is_borrowed_when_it_stands_together() {
        for (all, kept, borrowed) in [
            (&[][..], &[][..], true),
            (&[ALIAS], &[], true),
            (&[TYPE, USER], &[TYPE, USER], true),
            (&[ALIAS, TYPE, USER, EXPIRY, ID], &[TYPE, USER], true),
            (&[TYPE, EXPIRY, USER], &[TYPE, USER], false),
            (&[ALIAS, TYPE, EXPIRY, USER, ID, USER], &[TYPE, USER, USER], false),
        ] {
            let all = block(all);
            let properties = PublishProperties::parse(&all).unwrap();
            let forwarded = properties.forwarded();
            assert_eq!(*forwarded, block(kept)[..]);
            assert_eq!(matches!(forwarded, Cow::Borrowed(_)), borrowed, "{properties:?}");
        }
    }

    #[test]
    fn all_that_was_said_is_found() {
        let bytes = block(&[USER, ID, TYPE, Property::SubscriptionIdentifier(1), ALIAS, EXPIRY]);
        let properties = PublishProperties::parse(&bytes).unwrap();
        assert_eq!(properties.subscription_ids.iter().collect::<Vec<_>>(), [300, 1]);
        assert_eq!(properties.subscription_ids, SubscriptionIds::from(&[300, 1][..]));
        assert_eq!(properties.user.iter().collect::<Vec<_>>(), [("k", "v")]);
        assert_eq!((properties.topic_alias, properties.message_expiry), (Some(7), Some(60)));
        assert_eq!(properties.content_type, Some("json"));
        let mut again = Vec::new();
        properties.each(|property| property.encode(&mut again));
        assert_eq!(PublishProperties::parse(&again).unwrap(), properties);
    }

    #[test]
    fn a_will_has_a_delay_but_no_alias() {
        let delay = block(&[TYPE, Property::WillDelayInterval(9), USER]);
        let (properties, seconds) = PublishProperties::parse_will(&delay).unwrap();
        assert_eq!(seconds, 9);
        assert_eq!(*properties.forwarded(), block(&[TYPE, USER])[..]);
        assert_eq!(PublishProperties::parse(&delay).unwrap_err().code, ReasonCode::MalformedPacket);
        for misplaced in [ALIAS, ID, Property::ReasonString("")] {
            let error = PublishProperties::parse_will(&block(&[misplaced])).unwrap_err();
            assert_eq!(error.code, ReasonCode::MalformedPacket, "{misplaced:?}");
        }
    }
}
