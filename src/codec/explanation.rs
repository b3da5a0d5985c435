//! What an answer may say besides its reason code: the properties that acknowledgements, SUBACK and UNSUBACK have in common.

use super::properties::{Properties, PropertyList, put_if};
use super::property::Property;
use super::{DecodeError, UserProperties};

/// Reason string and user properties.
#[derive(Clone, Copy, Default)]
pub(super) struct Explanation<'a> {
    pub(super) reason_string: Option<&'a str>,
    pub(super) user: UserProperties<'a>,
}

impl<'a> Explanation<'a> {
    /// Reads `block`, in which nothing else may be.
    pub(super) fn parse(block: &'a [u8]) -> Result<Self, DecodeError> {
        let mut explanation = Explanation::default();
        for property in Properties::new(block) {
            match property? {
                Property::ReasonString(reason) => explanation.reason_string = Some(reason),
                Property::User(..) => explanation.user = UserProperties::in_block(block),
                property => return Err(property.misplaced()),
            }
        }
        Ok(explanation)
    }
}

impl PropertyList for Explanation<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        put_if(self.reason_string, Property::ReasonString, &mut put);
        self.user.each(&mut put);
    }
}
