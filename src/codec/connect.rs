//! CONNECT: the first packet of a connection, with the client's identity and protocol version (MQTT 5.0, 3.1).

use super::properties::{PropertyList, property_block};
use super::read::Reader;
use super::write::{binary_len, frame_len, put_binary, put_header, put_string, put_u16, string_len};
use super::{ConnectProperties, DecodeError, PacketType, ProtocolVersion, QoS, ReasonCode, Will};

/// The bits of the Connect Flags (3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 1 << 0;
    pub(super) const CLEAN_START: u8 = 1 << 1;
    pub(super) const WILL: u8 = 1 << 2;
    pub(super) const WILL_QOS_SHIFT: u8 = 3;
    pub(super) const WILL_RETAIN: u8 = 1 << 5;
    pub(super) const PASSWORD: u8 = 1 << 6;
    pub(super) const USERNAME: u8 = 1 << 7;
}

/// The bit of the protocol level with which bridges of MQTT 3 say that they are one. It is in no standard; Mosquitto and others have it.
const BRIDGE: u8 = 0x80;

/// A client asks for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// The protocol version that this packet and all after it have.
    pub version: ProtocolVersion,
    /// Whether the client says that it is a bridge, with a protocol level of 0x83 or 0x84 for MQTT 3.1 or 3.1.1: what it subscribes to is
    /// meant with No Local and Retain As Published, which MQTT 3 has no words for. In MQTT 5.0 it would say that of each filter.
    pub is_bridge: bool,
    /// Clean Start; before MQTT 5.0 Clean Session, which also ends the session with the connection.
    pub clean_start: bool,
    /// Keep Alive in seconds; zero turns it off.
    pub keep_alive: u16,
    /// The client identifier. If empty the server assigns one; MQTT 3.1 does not allow that, MQTT 3.1.1 only with a clean session.
    pub client_id: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password. Before MQTT 5.0 only with a user name (`[MQTT-3.1.2-22]` in MQTT 3.1.1).
    pub password: Option<&'a [u8]>,
    /// The message to publish when the connection ends badly.
    pub will: Option<Will<'a>>,
    /// Properties; the default before MQTT 5.0.
    pub properties: ConnectProperties<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with a clean start, without keep-alive, credentials, will and properties.
    pub fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Connect {
            version,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
        }
    }

    /// The version in which to answer a CONNECT with this body, even if it cannot be decoded: that which it asks for; if there is no such
    /// version, 3.1.1, whose answer all have understood so far, and take for a reason to fall back.
    pub fn answer_version(body: &[u8]) -> ProtocolVersion {
        version(&mut Reader::new(body)).map_or(ProtocolVersion::V311, |(version, _)| version)
    }

    /// The version that a CONNECT with this body asks for.
    pub(super) fn read_version(body: &[u8]) -> Result<ProtocolVersion, DecodeError> {
        version(&mut Reader::new(body)).map(|(version, _)| version)
    }

    pub(super) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let (version, is_bridge) = version(&mut reader)?;
        let flags = reader.u8()?;
        let will_qos = check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = match version {
            ProtocolVersion::V5 => ConnectProperties::parse(property_block(&mut reader)?)?,
            _ => ConnectProperties::default(),
        };
        let client_id = reader.string()?;
        let clean_start = flags & flag::CLEAN_START != 0;
        check_client_id(client_id, clean_start, version)?;
        let will = match will_qos {
            None => None,
            Some(qos) => Some(Will::read(&mut reader, qos, flags & flag::WILL_RETAIN != 0, version)?),
        };
        let username = match flags & flag::USERNAME != 0 && !left_out(&reader, version) {
            true => Some(reader.string()?),
            false => None,
        };
        let password = match flags & flag::PASSWORD != 0 && !left_out(&reader, version) {
            true => Some(reader.binary()?),
            false => None,
        };
        reader.finish()?;
        Ok(Connect { version, is_bridge, clean_start, keep_alive, client_id, username, password, will, properties })
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        let mut set = |condition, flag| flags |= if condition { flag } else { 0 };
        set(self.clean_start, flag::CLEAN_START);
        set(self.username.is_some(), flag::USERNAME);
        set(self.password.is_some(), flag::PASSWORD);
        if let Some(will) = &self.will {
            set(true, flag::WILL | (will.qos as u8) << flag::WILL_QOS_SHIFT);
            set(will.retain, flag::WILL_RETAIN);
        }
        flags
    }

    fn body_len(&self) -> usize {
        string_len(protocol_name(self.version))
            + 4
            + self.properties.section_len(self.version)
            + string_len(self.client_id)
            + self.will.map_or(0, |will| will.len(self.version))
            + self.username.map_or(0, string_len)
            + self.password.map_or(0, binary_len)
    }

    /// How many bytes [`encode`](Connect::encode) appends.
    pub fn encoded_len(&self) -> usize {
        frame_len(self.body_len())
    }

    /// Appends the packet to `out`, in the version that it asks for.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_header(PacketType::Connect.first_byte(), self.body_len(), out);
        put_string(protocol_name(self.version), out);
        out.push(self.version as u8 | if self.is_bridge { BRIDGE } else { 0 });
        out.push(self.flags());
        put_u16(self.keep_alive, out);
        self.properties.put_section(self.version, out);
        put_string(self.client_id, out);
        if let Some(will) = &self.will {
            will.put(self.version, out);
        }
        if let Some(username) = self.username {
            put_string(username, out);
        }
        if let Some(password) = self.password {
            put_binary(password, out);
        }
    }
}

const fn protocol_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V31 => "MQIsdp",
        ProtocolVersion::V311 | ProtocolVersion::V5 => "MQTT",
    }
}

/// Protocol name and level, and whether the level says that the client is a bridge. A level that there is not is refused with the code for
/// that `[MQTT-3.1.2-2]`; behind another name there is another protocol, which is not answered `[MQTT-3.1.2-1]`.
fn version(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), DecodeError> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    match (name, level & !BRIDGE, level & BRIDGE != 0) {
        (b"MQIsdp", 3, is_bridge) => Ok((ProtocolVersion::V31, is_bridge)),
        (b"MQTT", 4, is_bridge) => Ok((ProtocolVersion::V311, is_bridge)),
        (b"MQTT", 5, false) => Ok((ProtocolVersion::V5, false)),
        (b"MQTT" | b"MQIsdp", ..) => {
            let what = "unsupported protocol level [MQTT-3.1.2-2]";
            Err(DecodeError { code: ReasonCode::UnsupportedProtocolVersion, what })
        }
        _ => Err(DecodeError::malformed("unknown protocol name [MQTT-3.1.2-1]")),
    }
}

/// Refuses Connect Flags that contradict each other; gives the QoS of the will, if there is one. MQTT 3.1 does not use bit
/// 0, and disregards QoS and retain of a will that is not there.
fn check_flags(flags: u8, version: ProtocolVersion) -> Result<Option<QoS>, DecodeError> {
    let strict = version != ProtocolVersion::V31;
    let will_qos = QoS::from_u8(flags >> flag::WILL_QOS_SHIFT & 0b11);
    let will = flags & flag::WILL != 0;
    let what = if strict && flags & flag::RESERVED != 0 {
        "reserved Connect Flag is set [MQTT-3.1.2-3]"
    } else if strict && !will && will_qos != Some(QoS::AtMostOnce) {
        "Will QoS without a will [MQTT-3.1.2-11]"
    } else if strict && !will && flags & flag::WILL_RETAIN != 0 {
        "Will Retain without a will [MQTT-3.1.2-13]"
    } else if will && will_qos.is_none() {
        "Will QoS is 3 [MQTT-3.1.2-12]"
    } else if flags & (flag::PASSWORD | flag::USERNAME) == flag::PASSWORD && !version.is_v5() {
        "password without user name [MQTT-3.1.2-22]"
    } else {
        return Ok(will_qos.filter(|_| will));
    };
    Err(DecodeError::malformed(what))
}

/// MQTT 3.1 asks for 1 to 23 characters, MQTT 3.1.1 for an identifier if the session is to be kept `[MQTT-3.1.3-8]`. How
/// long it may be is the server's business.
fn check_client_id(client_id: &str, clean_start: bool, version: ProtocolVersion) -> Result<(), DecodeError> {
    let what = match version {
        ProtocolVersion::V31 if client_id.is_empty() => "empty client identifier (MQTT 3.1, 3.1)",
        ProtocolVersion::V311 if client_id.is_empty() && !clean_start => {
            "empty client identifier without clean session [MQTT-3.1.3-8]"
        }
        _ => return Ok(()),
    };
    Err(DecodeError { code: ReasonCode::ClientIdentifierNotValid, what })
}

/// In MQTT 3.1 the length of the packet takes precedence over the flags: user name and password may be announced but missing.
fn left_out(reader: &Reader<'_>, version: ProtocolVersion) -> bool {
    version == ProtocolVersion::V31 && reader.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ReasonCode::*;
    use crate::codec::Sender::*;
    use crate::codec::transcript::{V5, V31, V311, frame, read, refused, same};
    use crate::codec::{Packet, PublishProperties};

    /// A CONNECT with these flags and this payload, and a property length where there is one.
    fn connect(version: ProtocolVersion, flags: u8, payload: &[u8]) -> Vec<u8> {
        let head: &[u8] = match version {
            ProtocolVersion::V31 => b"\x00\x06MQIsdp\x03",
            ProtocolVersion::V311 => b"\x00\x04MQTT\x04",
            ProtocolVersion::V5 => b"\x00\x04MQTT\x05",
        };
        let properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
        frame(0x10, &[head, &[flags, 0, 60], properties, payload])
    }

    /// An MQTT 5.0 CONNECT of client "c" with these properties.
    fn with_properties(properties: &[u8]) -> Vec<u8> {
        let len = [properties.len() as u8];
        frame(0x10, &[b"\x00\x04MQTT\x05\x02\x00\x00", &len, properties, b"\x00\x01c"])
    }

    fn refuse(bytes: &[u8]) -> ReasonCode {
        // The version of the connection does not count: CONNECT brings its own.
        refused(bytes, V31, Client)
    }

    #[test]
    fn the_least_there_is() {
        for version in ProtocolVersion::ALL {
            let packet = Connect { keep_alive: 60, ..Connect::new(version, "c") };
            same(&connect(version, 0x02, b"\x00\x01c"), V31, Client, Packet::Connect(packet));
        }
    }

    #[test]
    fn will_and_credentials() {
        let will = Will { topic: "w", payload: b"\x00x", qos: QoS::ExactlyOnce, retain: true, ..Default::default() };
        for version in ProtocolVersion::ALL {
            let packet = Connect {
                clean_start: false,
                keep_alive: 60,
                username: Some("u"),
                password: Some(&[0xFF]),
                will: Some(will),
                ..Connect::new(version, "c")
            };
            let will_properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
            let payload = [b"\x00\x01c", will_properties, b"\x00\x01w\x00\x02\x00x\x00\x01u\x00\x01\xFF"].concat();
            same(&connect(version, 0xF4, &payload), V311, Client, Packet::Connect(packet));
        }
    }

    #[test]
    fn all_properties() {
        let pairs = [("k".to_owned(), "v".to_owned())];
        let properties = ConnectProperties {
            session_expiry: Some(u32::MAX),
            receive_maximum: Some(1),
            maximum_packet_size: Some(2),
            topic_alias_maximum: 3,
            request_response_information: true,
            request_problem_information: false,
            authentication_method: Some("m"),
            authentication_data: Some(&[]),
            user: (&pairs[..]).into(),
        };
        let packet = Connect { properties, ..Connect::new(V5, "c") };
        let bytes: &[&[u8]] = &[
            &[0x11, 255, 255, 255, 255],
            &[0x21, 0, 1],
            &[0x27, 0, 0, 0, 2],
            &[0x22, 0, 3],
            &[0x19, 1],
            &[0x17, 0],
            b"\x15\x00\x01m",
            b"\x16\x00\x00",
            b"\x26\x00\x01k\x00\x01v",
        ];
        same(&with_properties(&bytes.concat()), V5, Client, Packet::Connect(packet));
    }

    #[test]
    fn a_will_has_properties_of_its_own() {
        let properties = PublishProperties { content_type: Some("t"), ..Default::default() };
        let will = Will { topic: "w", delay: 9, properties, ..Default::default() };
        let packet = Connect { keep_alive: 60, will: Some(will), ..Connect::new(V5, "c") };
        let payload = b"\x00\x01c\x09\x18\x00\x00\x00\x09\x03\x00\x01t\x00\x01w\x00\x00";
        same(&connect(V5, 0x06, payload), V5, Client, Packet::Connect(packet));
        let bytes = connect(V5, 0x06, payload);
        let Ok(Packet::Connect(packet)) = read(&bytes, V5, Client) else { panic!() };
        assert_eq!(*packet.will.unwrap().properties.forwarded(), *b"\x03\x00\x01t");
        let alias = b"\x00\x01c\x03\x23\x00\x01\x00\x01w\x00\x00";
        assert_eq!(refuse(&connect(V5, 0x06, alias)), MalformedPacket);
        let twice = b"\x00\x01c\x0A\x18\x00\x00\x00\x09\x18\x00\x00\x00\x09\x00\x01w\x00\x00";
        assert_eq!(refuse(&connect(V5, 0x06, twice)), ProtocolError, "(3.1.3.2.2)");
    }

    #[test]
    fn other_protocols_and_versions() {
        for (name, level, code) in [
            (&b"\x00\x04MQTT"[..], 0, UnsupportedProtocolVersion),
            (b"\x00\x04MQTT", 3, UnsupportedProtocolVersion),
            (b"\x00\x04MQTT", 6, UnsupportedProtocolVersion),
            (b"\x00\x04MQTT", 0x80, UnsupportedProtocolVersion),
            (b"\x00\x04MQTT", 0x83, UnsupportedProtocolVersion),
            (b"\x00\x04MQTT", 0x85, UnsupportedProtocolVersion),
            (b"\x00\x06MQIsdp", 4, UnsupportedProtocolVersion),
            (b"\x00\x06MQIsdp", 0x84, UnsupportedProtocolVersion),
            (b"\x00\x04mqtt", 4, MalformedPacket),
            (b"\x00\x04mqtt", 5, MalformedPacket),
            (b"\x00\x00", 5, MalformedPacket),
        ] {
            let bytes = frame(0x10, &[name, &[level], b"\x02\x00\x00\x00\x00\x01c"]);
            assert_eq!(refuse(&bytes), code, "[MQTT-3.1.2-1], [MQTT-3.1.2-2]: {bytes:x?}");
            assert_eq!(Connect::answer_version(&bytes[2..]), V311, "{bytes:x?}");
        }
        for version in ProtocolVersion::ALL {
            assert_eq!(Connect::answer_version(&connect(version, 0, b"")[2..]), version);
        }
        assert_eq!(refuse(b"\x10\x03\x00\x04M"), MalformedPacket);
        assert_eq!(refuse(b"\x10\x06\x00\x04MQTT"), MalformedPacket);
        assert_eq!(refuse(b"\x10\x00"), MalformedPacket);
        assert_eq!(Connect::answer_version(b""), V311);
    }

    #[test]
    fn a_bridge_says_so_in_its_level() {
        let name_ends = |version| if version == V31 { 10 } else { 8 };
        for (version, level) in [(V31, 0x83), (V311, 0x84)] {
            let mut bytes = connect(version, 0x02, b"\x00\x01c");
            bytes[name_ends(version)] = level;
            let packet = Connect { keep_alive: 60, is_bridge: true, ..Connect::new(version, "c") };
            same(&bytes, V31, Client, Packet::Connect(packet));
            assert_eq!(Connect::answer_version(&bytes[2..]), version);
        }
    }

    #[test]
    fn flags_that_contradict_each_other() {
        for version in [V311, V5] {
            assert_eq!(refuse(&connect(version, 0x03, b"\x00\x01c")), MalformedPacket, "[MQTT-3.1.2-3]");
            assert_eq!(refuse(&connect(version, 0x0A, b"\x00\x01c")), MalformedPacket, "[MQTT-3.1.2-11]");
            assert_eq!(refuse(&connect(version, 0x22, b"\x00\x01c")), MalformedPacket, "[MQTT-3.1.2-13]");
        }
        // MQTT 3.1 disregards all three.
        assert!(read(&connect(V31, 0x2B, b"\x00\x01c"), V31, Client).is_ok());
        for version in ProtocolVersion::ALL {
            let payload = b"\x00\x01c\x00\x01w\x00\x00\x00";
            assert_eq!(refuse(&connect(version, 0x1E, payload)), MalformedPacket, "[MQTT-3.1.2-12]");
        }
        let password = b"\x00\x01c\x00\x01p";
        assert_eq!(refuse(&connect(V31, 0x42, password)), MalformedPacket);
        assert_eq!(refuse(&connect(V311, 0x42, password)), MalformedPacket, "[MQTT-3.1.2-22] of 3.1.1");
        let bytes = connect(V5, 0x42, password);
        let Ok(Packet::Connect(packet)) = read(&bytes, V5, Client) else { panic!() };
        assert_eq!((packet.username, packet.password), (None, Some(&b"p"[..])));
    }

    #[test]
    fn only_mqtt_31_may_announce_credentials_and_leave_them_out() {
        for (payload, username) in [(&b"\x00\x01c"[..], None), (b"\x00\x01c\x00\x01u", Some("u"))] {
            let bytes = connect(V31, 0xC2, payload);
            let Ok(Packet::Connect(packet)) = read(&bytes, V31, Client) else { panic!() };
            assert_eq!((packet.username, packet.password), (username, None));
            assert_eq!(refuse(&connect(V311, 0xC2, payload)), MalformedPacket, "[MQTT-3.1.2-19] of 3.1.1");
            assert_eq!(refuse(&connect(V5, 0xC2, payload)), MalformedPacket);
        }
    }

    #[test]
    fn empty_client_identifiers() {
        assert_eq!(refuse(&connect(V31, 0x02, b"\x00\x00")), ClientIdentifierNotValid);
        assert_eq!(refuse(&connect(V311, 0x00, b"\x00\x00")), ClientIdentifierNotValid, "[MQTT-3.1.3-8] of 3.1.1");
        assert!(read(&connect(V311, 0x02, b"\x00\x00"), V31, Client).is_ok());
        assert!(read(&connect(V5, 0x00, b"\x00\x00"), V31, Client).is_ok());
    }

    #[test]
    fn malformed() {
        for version in ProtocolVersion::ALL {
            let whole = connect(version, 0x02, b"\x00\x01c");
            assert_eq!(refuse(&connect(version, 0x02, b"\x00\x01cx")), MalformedPacket, "bytes behind");
            assert_eq!(refuse(&connect(version, 0x02, b"\x00\x01\xFF")), MalformedPacket, "[MQTT-1.5.4-1]");
            assert_eq!(refused(&whole, version, Server), ProtocolError, "from a server");
            for end in 2..whole.len() {
                let cut = frame(0x10, &[&whole[2..end]]);
                assert_eq!(refuse(&cut), MalformedPacket, "{cut:x?}");
            }
        }
        assert_eq!(refuse(&[&[0x11], &connect(V5, 0x02, b"\x00\x01c")[1..]].concat()), MalformedPacket);
        let overlong = [&[0x10, 0x8E, 0x00], &with_properties(&[])[2..]].concat();
        let shorter = [&[0x10, 0x8E, 0x00], &connect(V311, 0x02, b"\x00\x02cc")[2..]].concat();
        assert_eq!(overlong[1] & 0x7F, with_properties(&[])[1], "the length, in two bytes");
        assert_eq!(refuse(&overlong), MalformedPacket, "[MQTT-1.5.5-1]");
        assert!(read(&shorter, V311, Client).is_ok());
    }

    #[test]
    fn what_mqtt_5_forbids() {
        for (properties, code, clause) in [
            (&[0x21, 0, 0][..], ProtocolError, "(3.1.2.11.3)"),
            (&[0x27, 0, 0, 0, 0], ProtocolError, "(3.1.2.11.4)"),
            (&[0x19, 2], ProtocolError, "(3.1.2.11.6)"),
            (&[0x17, 2], ProtocolError, "(3.1.2.11.7)"),
            (&[0x16, 0, 1, 0], ProtocolError, "(3.1.2.11.10)"),
            (&[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], ProtocolError, "(3.1.2.11.2)"),
            (&[0x18, 0, 0, 0, 1], MalformedPacket, "will delay"),
            (&[0x23, 0, 1], MalformedPacket, "topic alias"),
            (&[0x12, 0, 1, b'x'], MalformedPacket, "assigned client identifier"),
            (&[0x7F, 0], MalformedPacket, "unknown"),
            (&[0x11, 0], MalformedPacket, "cut short"),
        ] {
            assert_eq!(refuse(&with_properties(properties)), code, "{clause}");
        }
    }
}
