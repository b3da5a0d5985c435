//! For the tests of all packets: bytes to packet and back, byte by byte.

use super::{
    DecodeError, MAX_PACKET_SIZE, Packet, PacketId, ProtocolVersion, ReasonCode, Sender, Split, decode, split,
};

pub(super) const V31: ProtocolVersion = ProtocolVersion::V31;
pub(super) const V311: ProtocolVersion = ProtocolVersion::V311;
pub(super) const V5: ProtocolVersion = ProtocolVersion::V5;

/// A packet identifier.
pub(super) fn pid(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// Decodes `bytes`, which are one packet.
pub(super) fn read(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, DecodeError> {
    match split(bytes, MAX_PACKET_SIZE)? {
        Split::Frame(frame) => {
            assert_eq!(frame.length, bytes.len(), "not one packet: {bytes:x?}");
            decode(frame, version, sender)
        }
        incomplete => panic!("{incomplete:?} of {bytes:x?}"),
    }
}

/// `bytes` are `packet`, and `packet` is written as `bytes`.
pub(super) fn same(bytes: &[u8], version: ProtocolVersion, sender: Sender, packet: Packet<'_>) {
    assert_eq!(read(bytes, version, sender), Ok(packet), "{bytes:x?}");
    writes(packet, version, bytes);
}

/// `packet` is written as `bytes`, behind what is in the buffer already.
pub(super) fn writes(packet: Packet<'_>, version: ProtocolVersion, bytes: &[u8]) {
    let mut out = vec![0xEE];
    packet.encode(version, &mut out);
    assert_eq!(out[1..], *bytes, "{packet:?}");
    assert_eq!(packet.encoded_len(version), bytes.len(), "{packet:?}");
}

/// The code with which `bytes` are refused.
pub(super) fn refused(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> ReasonCode {
    match read(bytes, version, sender) {
        Err(error) => error.code,
        Ok(packet) => panic!("{bytes:x?} were taken for {packet:?}"),
    }
}

/// A packet with this first byte and body.
pub(super) fn frame(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    assert!(body.len() < 128);
    [&[first, body.len() as u8][..], &body].concat()
}
