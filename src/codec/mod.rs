//! The words of MQTT: versions, QoS, reason codes and properties, as hooks and programs see them. (Packets as bytes are here, too, for
//! the broker itself.)
//!
//! There is one vocabulary for all versions, that of MQTT 5.0. An MQTT 3.1 or 3.1.1 packet is a packet without properties whose reason
//! codes are few.

// Every packet of MQTT 3.1, 3.1.1 and 5.0, in both directions.
//
// Owns the wire format and nothing else. `split` finds the next packet in what was received, `decode` checks it once and gives a
// `Packet` whose fields are slices of the receive buffer, `encode` appends a packet to an output buffer. The version is asked for
// only where bytes are read or written.
//
// Trusts nothing it is given to decode: any bytes end in a packet or in a `DecodeError`, in time linear in their number,
// without allocating. Trusts what it is given to encode to be legal, which is said with each type.
//
// Never does I/O and keeps no state between packets. It does not know what topics mean: wildcards in topic names and
// the grammar of topic filters are the topic module's, topic aliases and packet ids in use are the connection's.
//
// | file | what |
// |---|---|
// | `words`, `error` | version, QoS, packet identifier, sender; what decoding says of bytes that are no packet |
// | `frame`, `packet` | the fixed header; a packet of any type, and the door to decode it |
// | `reason` | reason codes, and which packet may carry which |
// | `read`, `write` | the data types: integers, strings, binary data |
// | `property`, `properties`, `property_count` | the properties of MQTT 5.0: each of them, those of a packet, whether they are too many |
// | `user_properties`, `publish_properties`, `property_block` | those that are read later, passed on, or made anew |
// | `connect` with `connect_properties` and `will`, `connack`, `publish`, `ack`, `subscribe`, `suback`, `unsubscribe`, `disconnect`, `auth` | one file per packet family; `explanation` is what acknowledgements have in common |
// | `outgoing` | PUBLISH as a broker sends it, encoded once for many receivers |

mod ack;
mod auth;
mod connack;
mod connect;
mod connect_properties;
mod disconnect;
mod error;
mod explanation;
mod frame;
mod outgoing;
mod packet;
mod properties;
mod property;
mod property_block;
mod property_count;
mod publish;
mod publish_properties;
mod read;
mod reason;
mod suback;
mod subscribe;
#[cfg(test)]
mod transcript;
mod unsubscribe;
mod user_properties;
mod will;
mod words;
mod write;

pub use connect_properties::ConnectProperties;
pub use error::DecodeError;
pub use property_block::PropertyBlock;
pub use publish_properties::{PublishProperties, SubscriptionIds, SubscriptionIdsIter};
pub use reason::ReasonCode;
pub use subscribe::{RetainHandling, SubscriptionOptions};
pub use user_properties::{UserProperties, UserPropertiesIter};
pub use words::{ProtocolVersion, QoS};

// Packets: for clients in tests and in `perf`.
#[doc(hidden)]
pub use {
    ack::{Ack, AckKind},
    auth::Auth,
    connack::{Connack, ConnackProperties},
    connect::Connect,
    disconnect::Disconnect,
    explanation::Explained,
    frame::{Frame, MAX_PACKET_SIZE, PacketType, Split, body_begun, split},
    outgoing::Outgoing,
    packet::{Packet, decode, decode_publish},
    property_count::has_more_properties,
    publish::Publish,
    suback::{ReasonCodes, ReasonCodesIter, Suback, Unsuback},
    subscribe::{Filters, FiltersIter, Subscribe, SubscribeFilter},
    unsubscribe::{TopicFilters, TopicFiltersIter, Unsubscribe},
    user_properties::KeptUserProperties,
    will::Will,
    words::{PacketId, Sender},
};
