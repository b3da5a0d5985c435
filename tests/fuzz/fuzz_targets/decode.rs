//! Whatever arrives is a packet or an error; a packet survives being encoded.
//!
//! `tests/fuzz/run decode`

#![no_main]

use libfuzzer_sys::fuzz_target;
use moormq::codec::{MAX_PACKET_SIZE, Packet, ProtocolVersion, PublishProperties, Sender, Split, decode, split};

/// The packet at the front of `bytes`, and its length.
fn first_packet(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Option<(Packet<'_>, usize)> {
    match split(bytes, MAX_PACKET_SIZE) {
        Ok(Split::Frame(frame)) => decode(frame, version, sender).ok().map(|packet| (packet, frame.length)),
        _ => None,
    }
}

// The first byte chooses version and sender, the rest is what arrives.
fuzz_target!(|input: &[u8]| {
    let Some((&choice, mut rest)) = input.split_first() else { return };
    let version = ProtocolVersion::ALL[usize::from(choice >> 1) % 3];
    let sender = if choice & 1 == 0 { Sender::Client } else { Sender::Server };
    while let Some((packet, length)) = first_packet(rest, version, sender) {
        let mut again = Vec::new();
        packet.encode(version, &mut again);
        assert_eq!(again.len(), packet.encoded_len(version));
        assert_eq!(first_packet(&again, version, sender), Some((packet, again.len())));
        if let Packet::Publish(publish) = packet {
            assert!(PublishProperties::parse(&publish.properties.forwarded()).is_ok());
        }
        rest = &rest[length..];
    }
});
