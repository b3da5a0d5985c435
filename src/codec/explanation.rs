//! Reason String and User Properties: the properties that acknowledgements, SUBACK and UNSUBACK have in common.

use super::properties::{Properties, PropertyList, put_if};
use super::property::Property;
use super::{Ack, Auth, Connack, DecodeError, Disconnect, ProtocolVersion, Suback, Unsuback, UserProperties};

/// A packet that may explain itself with a Reason String and User Properties, and means the same without them.
pub trait Explained {
    /// How many bytes the packet has, encoded.
    fn encoded_len(&self, version: ProtocolVersion) -> usize;

    /// Leaves out the User Properties.
    fn leave_out_user_properties(&mut self);

    /// Leaves out the Reason String.
    fn leave_out_reason_string(&mut self);

    /// Leaves out the User Properties, then the Reason String, as long as the packet has more than `most` bytes: the Maximum
    /// Packet Size of the client `[MQTT-3.2.2-19]`, `[MQTT-3.2.2-20]` and the like. Returns whether it has no more in the end; if not, it must
    /// not be sent `[MQTT-3.1.2-24]`.
    fn shorten(&mut self, version: ProtocolVersion, most: usize) -> bool {
        if self.encoded_len(version) > most {
            self.leave_out_user_properties();
        }
        if self.encoded_len(version) > most {
            self.leave_out_reason_string();
        }
        self.encoded_len(version) <= most
    }
}

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

macro_rules! explained {
    ($($packet:ident: $($field:ident).*;)*) => {
        $(
            impl Explained for $packet<'_> {
                fn encoded_len(&self, version: ProtocolVersion) -> usize {
                    $packet::encoded_len(self, version)
                }

                fn leave_out_user_properties(&mut self) {
                    self.$($field.)*user = UserProperties::NONE;
                }

                fn leave_out_reason_string(&mut self) {
                    self.$($field.)*reason_string = None;
                }
            }
        )*
    };
}

explained! {
    Ack:;
    Auth:;
    Connack: properties;
    Disconnect:;
    Suback:;
    Unsuback:;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PacketId, ReasonCode};

    #[test]
    fn what_explains_a_packet_goes_first_user_properties_then_the_reason_string() {
        let version = ProtocolVersion::V5;
        let user = [("name".to_owned(), "value".to_owned())];
        let codes = [ReasonCode::Success];
        let long = Suback {
            reason_string: Some("reason"),
            user: UserProperties::from(&user[..]),
            ..Suback::new(PacketId::MIN, &codes[..])
        };
        let (mut whole, mut shorter, mut shortest) = (long, long, long);
        assert!(whole.shorten(version, long.encoded_len(version)));
        assert_eq!(whole, long);
        assert!(shorter.shorten(version, long.encoded_len(version) - 1));
        assert_eq!((shorter.reason_string, shorter.user.is_empty()), (Some("reason"), true));
        let bare = Suback::new(PacketId::MIN, &codes[..]);
        assert!(shortest.shorten(version, bare.encoded_len(version)));
        assert_eq!(shortest, bare);
        assert!(!shortest.shorten(version, bare.encoded_len(version) - 1), "nothing else may be left out");
    }
}
