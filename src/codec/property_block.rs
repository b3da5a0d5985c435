//! Message properties of one's own making, encoded: for hooks and embedding programs.

use std::fmt;

use super::properties::Spelled;
use super::property::{Property, id};
use super::write::MAX_FIELD_LEN;
use super::{DecodeError, PublishProperties};

/// Message properties of the caller's own making, encoded: what goes in the place of those that came with a message.
///
/// Holds only properties that go on to subscribers, each at most once but user properties, and only legal ones: a
/// setter that refuses leaves it as it was.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PropertyBlock(Vec<u8>);

impl PropertyBlock {
    /// An empty block.
    pub const fn new() -> Self {
        PropertyBlock(Vec::new())
    }

    /// The encoded properties, without a length before them: [`Outgoing::properties`](super::Outgoing::properties).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The encoded properties.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The properties one by one.
    pub fn properties(&self) -> PublishProperties<'_> {
        PublishProperties::parse(&self.0).unwrap_or_default()
    }

    /// Sets the Payload Format Indicator.
    pub fn payload_is_utf8(&mut self, utf8: bool) -> &mut Self {
        self.put(id::PAYLOAD_FORMAT_INDICATOR, Property::PayloadFormatIndicator(utf8));
        self
    }

    /// Sets the Response Topic.
    ///
    /// # Errors
    ///
    /// It is empty, longer than 65,535 bytes, or contains U+0000 or a wildcard.
    pub fn response_topic(&mut self, topic: &str) -> Result<&mut Self, DecodeError> {
        self.set(id::RESPONSE_TOPIC, Property::ResponseTopic(topic), topic.len())
    }

    /// Sets the Correlation Data.
    ///
    /// # Errors
    ///
    /// They are longer than 65,535 bytes.
    pub fn correlation_data(&mut self, data: &[u8]) -> Result<&mut Self, DecodeError> {
        self.set(id::CORRELATION_DATA, Property::CorrelationData(data), data.len())
    }

    /// Sets the Content Type.
    ///
    /// # Errors
    ///
    /// It is longer than 65,535 bytes or contains U+0000.
    pub fn content_type(&mut self, name: &str) -> Result<&mut Self, DecodeError> {
        self.set(id::CONTENT_TYPE, Property::ContentType(name), name.len())
    }

    /// Adds a user property behind those that are there.
    ///
    /// # Errors
    ///
    /// Name or value is longer than 65,535 bytes or contains U+0000.
    pub fn user(&mut self, name: &str, value: &str) -> Result<&mut Self, DecodeError> {
        self.set(id::USER_PROPERTY, Property::User(name, value), name.len().max(value.len()))
    }

    /// Removes all user properties.
    pub fn clear_user(&mut self) -> &mut Self {
        self.remove(id::USER_PROPERTY);
        self
    }

    /// Takes the property in if a receiver would accept it. `longest` is the length of its longest field.
    fn set(&mut self, id: u8, property: Property<'_>, longest: usize) -> Result<&mut Self, DecodeError> {
        if longest > MAX_FIELD_LEN {
            return Err(DecodeError::malformed("property longer than 65,535 bytes"));
        }
        let mut encoded = Vec::with_capacity(property.encoded_len());
        property.encode(&mut encoded);
        PublishProperties::parse(&encoded)?;
        self.put(id, property);
        Ok(self)
    }

    fn put(&mut self, id: u8, property: Property<'_>) {
        if id != id::USER_PROPERTY {
            self.remove(id);
        }
        property.encode(&mut self.0);
    }

    fn remove(&mut self, id: u8) {
        let kept = Spelled::new(&self.0).filter(|&(found, _)| found != id);
        self.0 = kept.flat_map(|(_, property)| property).copied().collect();
    }
}

/// Starts from the properties that go on to subscribers, to change some of them.
impl From<&PublishProperties<'_>> for PropertyBlock {
    fn from(properties: &PublishProperties<'_>) -> Self {
        PropertyBlock(properties.forwarded().into_owned())
    }
}

impl AsRef<[u8]> for PropertyBlock {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PropertyBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PropertyBlock").field(&self.properties()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_ones_own_is_always_legal() {
        let mut own = PropertyBlock::new();
        own.content_type("text").unwrap().user("a", "1").unwrap().user("a", "2").unwrap();
        own.content_type("json").unwrap().payload_is_utf8(true).payload_is_utf8(false);
        own.response_topic("re/ply").unwrap().correlation_data(&[1]).unwrap();
        let before = own.clone();
        assert!(own.response_topic("re/#").is_err() && own.response_topic("").is_err());
        assert!(own.content_type("a\0b").is_err());
        assert!(own.user("a", &"x".repeat(65_536)).is_err());
        assert_eq!(own, before);

        let properties = PublishProperties::parse(own.as_bytes()).unwrap();
        assert_eq!(properties.content_type, Some("json"));
        assert_eq!(properties.payload_is_utf8, Some(false));
        assert_eq!(properties.response_topic, Some("re/ply"));
        assert_eq!(properties.correlation_data, Some(&[1][..]));
        assert_eq!(properties.user.iter().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
        assert_eq!(PropertyBlock::from(&properties), own);
        assert!(own.clear_user().properties().user.is_empty());
    }
}
