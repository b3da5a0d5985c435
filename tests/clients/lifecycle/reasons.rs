//! The reasons for which connections end: in `on_client_offline`, and in the DISCONNECT of MQTT 5.0.

use super::recorder::Recorder;
use crate::on_every_number_of_shards;
use crate::raw_connection::{self, Disconnect, Packet, ProtocolVersion, RawConnection, ReasonCode, Will};

on_every_number_of_shards![std::convert::identity =>
    what_the_client_did_wrong,
    silence,
    the_end_of_the_lifetime,
    a_publish_that_the_rules_refuse,
    a_disconnect_that_asks_for_the_will,
];

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];

/// Connects a client with a kept session and a will, sends the bytes `end`, and waits for the end of the connection. Returns
/// the code of the DISCONNECT; only MQTT 5.0 has one.
fn ends(recorder: &Recorder, id: &str, keep_alive: u16, version: ProtocolVersion, end: &[u8]) -> Option<ReasonCode> {
    let will = Will { topic: "w", payload: b"gone", ..Will::default() };
    let connect = raw_connection::Connect { keep_alive, will: Some(will), ..raw_connection::kept(version, id, 3600) };
    let mut client = RawConnection::connect(recorder.broker(), connect);
    recorder.expect(id, &["1 register", "1 wakeup"]);
    client.send(end);
    client.end()
}

fn what_the_client_did_wrong(shards: usize) {
    let recorder = Recorder::with(shards, "[limits]\nmax_filters_per_subscribe = 1\nmax_packet_size = \"1KiB\"\n");
    let publish_to_filter = |version: ProtocolVersion| match version {
        ProtocolVersion::V5 => &b"\x30\x06\x00\x03a/+\x00"[..],
        _ => &b"\x30\x05\x00\x03a/+"[..],
    };
    let two_filters = |version: ProtocolVersion| match version {
        ProtocolVersion::V5 => &b"\xa2\x09\x00\x01\x00\x00\x01a\x00\x01b"[..],
        _ => &b"\xa2\x08\x00\x01\x00\x01a\x00\x01b"[..],
    };
    for version in VERSIONS {
        let faults: [(&[u8], ReasonCode, &str); 5] = [
            (b"\x00\x00", ReasonCode::MalformedPacket, "ProtocolError"),
            (b"\xd0\x00", ReasonCode::ProtocolError, "ProtocolError"),
            (b"\x30\xff\xff\xff\x7f", ReasonCode::PacketTooLarge, "ProtocolError"),
            (publish_to_filter(version), ReasonCode::TopicNameInvalid, "ProtocolError"),
            (two_filters(version), ReasonCode::QuotaExceeded, "Quota"),
        ];
        for (bytes, code, reason) in faults {
            let id = &format!("{version:?}-{code:?}");
            let received = ends(&recorder, id, 0, version, bytes);
            recorder.expect(id, &["1 will", &format!("1 offline {reason}({code:?})")]);
            assert_eq!(received, (version == ProtocolVersion::V5).then_some(code));
        }
    }
    recorder.finish();
}

fn silence(shards: usize) {
    let recorder = Recorder::with(shards, "");
    for version in VERSIONS {
        let id = &format!("{version:?}");
        let received = ends(&recorder, id, 1, version, &[]);
        recorder.expect(id, &["1 will", "1 offline KeepAlive"]);
        assert_eq!(received, (version == ProtocolVersion::V5).then_some(ReasonCode::KeepAliveTimeout));
    }
    recorder.finish();
}

fn the_end_of_the_lifetime(shards: usize) {
    let recorder = Recorder::with(shards, "[session]\nmax_connection_lifetime = \"1s\"\n");
    for version in VERSIONS {
        let id = &format!("{version:?}");
        let received = ends(&recorder, id, 0, version, &[]);
        recorder.expect(id, &["1 will", "1 offline MaximumLifetime"]);
        assert_eq!(received, (version == ProtocolVersion::V5).then_some(ReasonCode::MaximumConnectTime));
    }
    recorder.finish();
}

/// MQTT 3.1.1 has no way to say no to a publish: the connection ends. MQTT 5.0 has, and it stays.
fn a_publish_that_the_rules_refuse(shards: usize) {
    let rules = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(&rules, "topic write w\n").expect("a file can be written");
    let recorder = Recorder::with(shards, &format!("[acl_file]\npath = {:?}\n", rules.path()));
    assert_eq!(ends(&recorder, "older", 0, ProtocolVersion::V311, b"\x30\x03\x00\x01x"), None);
    recorder.expect("older", &["1 will", "1 offline NotAuthorized"]);
    let mut newer = RawConnection::connect(recorder.broker(), raw_connection::kept(ProtocolVersion::V5, "newer", 3600));
    newer.send(b"\x32\x06\x00\x01x\x00\x01\x00");
    let code = newer.next(|packet| if let Packet::Puback(ack) = packet { Some(ack.code) } else { None });
    assert_eq!(code, Some(ReasonCode::NotAuthorized));
    newer.send_packet(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    recorder.expect("newer", &["1 register", "1 wakeup", "1 offline ClientDisconnect(Success)"]);
    recorder.finish();
}

fn a_disconnect_that_asks_for_the_will(shards: usize) {
    let recorder = Recorder::with(shards, "");
    assert_eq!(ends(&recorder, "newer", 0, ProtocolVersion::V5, b"\xe0\x01\x04"), None);
    recorder.expect("newer", &["1 will", "1 offline ClientDisconnect(DisconnectWithWill)"]);
    recorder.finish();
}
