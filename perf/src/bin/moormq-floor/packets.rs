//! The part of MQTT that the load generator uses. Packets are complete and valid; otherwise the program may panic.

/// The packets that need an action.
pub enum Packet<'a> {
    Connect { v5: bool },
    Subscribe { packet_id: [u8; 2], filter: &'a str, qos: u8 },
    Publish { qos: u8, topic: &'a str, id_at: usize },
    Pubrec([u8; 2]),
    Pubrel([u8; 2]),
    Ping,
    Nothing,
}

/// The length of the packet at the start of `bytes`, and where its body begins. None if it is not all there.
pub fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let body = at + 2;
            return (bytes.len() >= body + length).then_some((body + length, body));
        }
    }
    None
}

/// The packet in `packet`, whose body begins at `body`. `v5` is whether the client speaks MQTT 5.
pub fn parse(packet: &[u8], body: usize, v5: bool) -> Packet<'_> {
    let id = |at: usize| [packet[at], packet[at + 1]];
    match packet[0] >> 4 {
        1 => Packet::Connect { v5: packet[body + 6] == 5 },
        3 => {
            let (topic, id_at) = text(packet, body);
            Packet::Publish { qos: packet[0] >> 1 & 3, topic, id_at }
        }
        5 => Packet::Pubrec(id(body)),
        6 => Packet::Pubrel(id(body)),
        8 => {
            let properties = if v5 { 1 + usize::from(packet[body + 2]) } else { 0 };
            let (filter, end) = text(packet, body + 2 + properties);
            Packet::Subscribe { packet_id: id(body), filter, qos: packet[end] & 3 }
        }
        12 => Packet::Ping,
        _ => Packet::Nothing,
    }
}

/// The string at `at`, and where it ends.
fn text(packet: &[u8], at: usize) -> (&str, usize) {
    let end = at + 2 + usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    (std::str::from_utf8(&packet[at + 2..end]).unwrap_or(""), end)
}

/// CONNACK: success, no session.
pub fn connack(v5: bool) -> &'static [u8] {
    if v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] }
}

/// SUBACK for one filter.
pub fn suback(id: [u8; 2], qos: u8, v5: bool, out: &mut Vec<u8>) {
    match v5 {
        true => out.extend_from_slice(&[0x90, 4, id[0], id[1], 0, qos]),
        false => out.extend_from_slice(&[0x90, 3, id[0], id[1], qos]),
    }
}

/// An acknowledgement, by its first byte: 0x40 PUBACK, 0x50 PUBREC, 0x62 PUBREL, 0x70 PUBCOMP.
pub fn acknowledge(first: u8, id: [u8; 2], out: &mut Vec<u8>) {
    out.extend_from_slice(&[first, 2, id[0], id[1]]);
}

#[cfg(test)]
mod tests {
    use moormq::codec::{self, Connect, PacketId, ProtocolVersion, Publish, QoS};

    use super::*;

    #[test]
    fn a_packet_is_as_long_as_it_says() {
        assert_eq!(length(&[0xC0, 0]), Some((2, 2)));
        assert_eq!(length(&[0xC0]), None);
        assert_eq!(length(&[&[0x30, 0x81, 1], &[0; 129][..]].concat()), Some((132, 3)));
        assert_eq!(length(&[&[0x30, 0x81, 1], &[0; 128][..]].concat()), None);
    }

    #[test]
    fn packets_of_the_generator_are_parsed() {
        let mut bytes = Vec::new();
        Connect::new(ProtocolVersion::V5, "client").encode(&mut bytes);
        let (_, body) = length(&bytes).unwrap();
        assert!(matches!(parse(&bytes, body, false), Packet::Connect { v5: true }));

        bytes.clear();
        let packet_id = PacketId::new(0x0102);
        let publish = Publish { qos: QoS::AtLeastOnce, topic: "a/b", packet_id, payload: b"x", ..Publish::default() };
        codec::Packet::Publish(publish).encode(ProtocolVersion::V311, &mut bytes);
        let (end, body) = length(&bytes).unwrap();
        let Packet::Publish { qos: 1, topic: "a/b", id_at } = parse(&bytes, body, false) else { panic!() };
        assert_eq!((&bytes[id_at..id_at + 2], end), (&[1, 2][..], bytes.len()));
    }
}
