//! User properties: pairs of strings that mean something to applications and nothing to MQTT.

use std::fmt;

use super::properties::Spelled;
use super::property::{Property, id};
use super::read::Reader;

/// The user properties of a packet, in order; a name may come several times.
///
/// A view that copies nothing: either onto the property bytes of a received packet, which were checked when it was
/// decoded, or onto pairs of the caller's (`UserProperties::from(&pairs[..])`). Two are equal when their pairs are.
#[derive(Clone, Copy)]
pub struct UserProperties<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A checked property block with at least one user property in it, or an empty one.
    Block(&'a [u8]),
    Pairs(&'a [(String, String)]),
}

impl<'a> UserProperties<'a> {
    /// No user properties.
    pub const NONE: UserProperties<'static> = UserProperties(Source::Block(&[]));

    /// Those in `block`, which has been checked and contains at least one.
    pub(super) const fn in_block(block: &'a [u8]) -> Self {
        UserProperties(Source::Block(block))
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Source::Block(block) => block.is_empty(),
            Source::Pairs(pairs) => pairs.is_empty(),
        }
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> UserPropertiesIter<'a> {
        UserPropertiesIter(match self.0 {
            Source::Block(block) => Rest::Block(Spelled::new(block)),
            Source::Pairs(pairs) => Rest::Pairs(pairs.iter()),
        })
    }

    pub(super) fn each(&self, put: &mut impl FnMut(Property<'a>)) {
        for (name, value) in self.iter() {
            put(Property::User(name, value));
        }
    }
}

/// User properties that are kept, encoded: they take the bytes that they had in their packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeptUserProperties(Vec<u8>);

impl KeptUserProperties {
    /// They, in order.
    pub fn get(&self) -> UserProperties<'_> {
        UserProperties::in_block(&self.0)
    }
}

impl From<UserProperties<'_>> for KeptUserProperties {
    fn from(properties: UserProperties<'_>) -> Self {
        let mut block = Vec::new();
        properties.each(&mut |property| property.encode(&mut block));
        block.shrink_to_fit();
        KeptUserProperties(block)
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        UserProperties::NONE
    }
}

impl<'a> From<&'a [(String, String)]> for UserProperties<'a> {
    fn from(pairs: &'a [(String, String)]) -> Self {
        UserProperties(Source::Pairs(pairs))
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;

    fn into_iter(self) -> UserPropertiesIter<'a> {
        self.iter()
    }
}

/// Name and value of each user property.
#[derive(Clone)]
pub struct UserPropertiesIter<'a>(Rest<'a>);

#[derive(Clone)]
enum Rest<'a> {
    Block(Spelled<'a>),
    Pairs(std::slice::Iter<'a, (String, String)>),
}

impl<'a> Iterator for UserPropertiesIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Rest::Block(spelled) => {
                let (_, property) = spelled.find(|(id, _)| *id == id::USER_PROPERTY)?;
                let mut reader = Reader::new(&property[1..]);
                Some((reader.string().ok()?, reader.string().ok()?))
            }
            Rest::Pairs(pairs) => pairs.next().map(|(name, value)| (name.as_str(), value.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_and_a_list_of_pairs_are_the_same_to_a_reader() {
        let pairs = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())];
        let listed = UserProperties::from(&pairs[..]);
        let mut block = vec![];
        Property::ContentType("between").encode(&mut block);
        listed.each(&mut |property| {
            property.encode(&mut block);
            Property::MessageExpiryInterval(1).encode(&mut block);
        });
        let found = UserProperties::in_block(&block);
        assert_eq!(found.iter().collect::<Vec<_>>(), [("a", "1"), ("a", "")]);
        assert_eq!(found, listed);
        assert!(!found.is_empty() && !listed.is_empty() && UserProperties::NONE.is_empty());
        assert_ne!(found, UserProperties::NONE);
        let kept = KeptUserProperties::from(found);
        assert_eq!((kept.get(), kept.0.len()), (listed, 2 * (1 + 2 + 2) + 3), "the others between them are left out");
        assert!(KeptUserProperties::from(UserProperties::NONE).get().is_empty());
        assert_eq!(format!("{found:?}"), r#"[("a", "1"), ("a", "")]"#);
    }
}
