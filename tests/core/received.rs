//! The packets that a client received, in a form short enough for assertions.

use moormq::codec::{
    Ack, AckKind, Connack, Packet, PacketId, ProtocolVersion, PublishProperties, QoS, ReasonCode, Sender, Split,
    decode, split,
};

/// A PUBLISH that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedPublish {
    /// The topic, looked up if an alias stood for it.
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub id: Option<u16>,
    /// Whether an alias stood for the topic.
    pub by_alias: bool,
    pub properties: PublishProperties<'static>,
}

impl ReceivedPublish {
    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("payloads of tests are text")
    }

    /// The Subscription Identifiers, in rising order.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<_> = self.properties.subscription_ids.iter().collect();
        ids.sort_unstable();
        ids
    }
}

/// Any packet that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Connack { present: bool, code: ReasonCode },
    Publish(ReceivedPublish),
    Ack(AckKind, u16, ReasonCode),
    Suback(u16, Vec<ReasonCode>),
    Unsuback(u16, Vec<ReasonCode>),
    Pingresp,
    Disconnect(ReasonCode),
    Auth(ReasonCode, Vec<u8>),
}

/// The decoder of one client's connection.
#[derive(Default)]
pub struct PacketReader {
    buffer: Vec<u8>,
    aliases: std::collections::BTreeMap<u16, String>,
    /// The CONNACK, once it was received.
    pub connack: Option<Connack<'static>>,
    /// The reason string of the last acknowledgement, SUBACK, UNSUBACK, DISCONNECT or AUTH.
    pub reason: Option<&'static str>,
}

impl PacketReader {
    /// Takes `bytes` and returns the packets that are complete now, each with its length.
    pub fn read(&mut self, bytes: Vec<u8>, version: ProtocolVersion) -> Vec<(Got, usize)> {
        self.buffer.extend(bytes);
        let mut got = Vec::new();
        if !matches!(split(&self.buffer, usize::MAX), Ok(Split::Frame(_))) {
            return got;
        }
        // Packets borrow; what they borrow from is leaked, a few bytes for each test.
        let mut bytes: &'static [u8] = std::mem::take(&mut self.buffer).leak();
        while let Ok(Split::Frame(frame)) = split(bytes, usize::MAX) {
            let length = frame.length;
            let packet = decode(frame, version, Sender::Server).expect("the broker sends legal packets");
            got.push((self.received_packet(packet), length));
            bytes = &bytes[length..];
        }
        self.buffer = bytes.to_vec();
        got
    }

    fn received_packet(&mut self, packet: Packet<'static>) -> Got {
        match packet {
            Packet::Connack(connack) => {
                self.connack = Some(connack);
                Got::Connack { present: connack.session_present, code: connack.code }
            }
            Packet::Publish(publish) => {
                let topic = match publish.properties.topic_alias {
                    Some(alias) if publish.topic.is_empty() => self.aliases[&alias].clone(),
                    Some(alias) => {
                        self.aliases.insert(alias, publish.topic.to_owned());
                        publish.topic.to_owned()
                    }
                    None => publish.topic.to_owned(),
                };
                Got::Publish(ReceivedPublish {
                    topic,
                    payload: publish.payload.to_vec(),
                    qos: publish.qos,
                    retain: publish.retain,
                    dup: publish.dup,
                    id: publish.packet_id.map(PacketId::get),
                    by_alias: publish.topic.is_empty(),
                    properties: publish.properties,
                })
            }
            Packet::Puback(ack) => self.ack(AckKind::Puback, ack),
            Packet::Pubrec(ack) => self.ack(AckKind::Pubrec, ack),
            Packet::Pubrel(ack) => self.ack(AckKind::Pubrel, ack),
            Packet::Pubcomp(ack) => self.ack(AckKind::Pubcomp, ack),
            Packet::Suback(suback) => {
                self.reason = suback.reason_string;
                Got::Suback(suback.packet_id.get(), suback.codes.iter().collect())
            }
            Packet::Unsuback(unsuback) => {
                self.reason = unsuback.reason_string;
                Got::Unsuback(unsuback.packet_id.get(), unsuback.codes.iter().collect())
            }
            Packet::Pingresp => Got::Pingresp,
            Packet::Disconnect(disconnect) => {
                self.reason = disconnect.reason_string;
                Got::Disconnect(disconnect.code)
            }
            Packet::Auth(auth) => {
                self.reason = auth.reason_string;
                Got::Auth(auth.code, auth.data.unwrap_or_default().to_vec())
            }
            other => panic!("a broker does not send {other:?}"),
        }
    }

    fn ack(&mut self, kind: AckKind, ack: Ack<'static>) -> Got {
        self.reason = ack.reason_string;
        Got::Ack(kind, ack.packet_id.get(), ack.code)
    }
}
