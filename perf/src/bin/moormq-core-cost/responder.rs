//! What a client answers to PUBLISH, PUBREL and PUBREC. It reads just enough to do so, as what it costs is counted with the core.

/// What a client was sent and has to say.
#[derive(Debug, Default)]
pub struct Responder {
    /// Answers that were not handed in yet.
    pub answers: Vec<u8>,
    /// PUBLISH packets that came.
    pub deliveries: u64,
}

const PUBLISH: u8 = 3;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;

impl Responder {
    /// Takes in whole packets.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            let (body, rest) = body(rest);
            bytes = rest;
            match first >> 4 {
                PUBLISH => self.published(first, body),
                PUBREL => self.answers.extend([0x70, 2, body[0], body[1]]),
                PUBREC => self.answers.extend([0x62, 2, body[0], body[1]]),
                _ => {}
            }
        }
    }

    fn published(&mut self, first: u8, body: &[u8]) {
        self.deliveries += 1;
        let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        match first >> 1 & 3 {
            1 => self.answers.extend([0x40, 2, body[id], body[id + 1]]),
            2 => self.answers.extend([0x50, 2, body[id], body[id + 1]]),
            _ => {}
        }
    }
}

/// What follows the first byte of a packet: its body, and the packets behind it.
fn body(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (mut length, mut at) = (0, 0);
    loop {
        length |= usize::from(bytes[at] & 0x7F) << (7 * at);
        at += 1;
        if bytes[at - 1] < 0x80 {
            return bytes[at..].split_at(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use moormq::codec::{Ack, AckKind, PacketId, ProtocolVersion, Publish, QoS, ReasonCode};

    use super::*;

    const VERSION: ProtocolVersion = ProtocolVersion::V5;

    #[test]
    fn each_packet_gets_the_answer_that_the_codec_would_give() {
        let id = PacketId::new(0x0203).unwrap();
        let answer = |kind| {
            let mut bytes = Vec::new();
            Ack::new(id, ReasonCode::Success).encode(kind, VERSION, &mut bytes);
            bytes
        };
        let publish = |qos, length| {
            let payload = vec![0; length];
            let mut bytes = Vec::new();
            let packet_id = (qos != QoS::AtMostOnce).then_some(id);
            Publish { qos, topic: "a/b", packet_id, payload: &payload, ..Publish::default() }
                .encode(VERSION, &mut bytes);
            bytes
        };
        let mut responder = Responder::default();
        let mut bytes = publish(QoS::AtMostOnce, 3);
        bytes.extend(publish(QoS::AtLeastOnce, 300));
        bytes.extend(publish(QoS::ExactlyOnce, 3));
        bytes.extend(answer(AckKind::Pubrel));
        bytes.extend(answer(AckKind::Pubrec));
        bytes.extend(answer(AckKind::Puback));
        responder.take(&bytes);
        let kinds = [AckKind::Puback, AckKind::Pubrec, AckKind::Pubcomp, AckKind::Pubrel];
        assert_eq!(responder.answers, kinds.map(answer).concat());
        assert_eq!(responder.deliveries, 3);
    }
}
