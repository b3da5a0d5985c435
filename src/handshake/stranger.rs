//! What a client seems to speak that does not speak MQTT: a guess from its first bytes, for the log.
//!
//! Nobody who means MQTT is taken for a stranger: no beginning of a CONNECT is among what is recognised here. Trusts
//! nothing, answers nothing, decides nothing but the words of a log line.

/// The methods of HTTP requests, each with the space behind it. The last is how HTTP/2 begins (RFC 9113, 3.4).
const HTTP: [&[u8]; 10] =
    [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"TRACE ", b"CONNECT ", b"PRI * HTTP/2"];

/// The first bytes of version 2 of the PROXY protocol.
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Other beginnings, and what they are.
const OTHERS: [(&[u8], &str); 5] = [
    (b"SSH-", "SSH"),
    (b"AMQP", "AMQP"),
    (b"\x03\x00\x00", "Remote Desktop (RDP)"),
    (b"\xFFSMB", "SMB"),
    (b"*1\r\n", "Redis"),
];

/// What the client seems to speak whose first bytes these are, as the end of a sentence, with what may help. None if it
/// may be MQTT, or cannot be told.
pub fn stranger(bytes: &[u8]) -> Option<&'static str> {
    // A handshake record of TLS 1.x (RFC 8446, 5.1). Read as MQTT it would be a CONNECT of three bytes, which none is.
    if let [0x16, 0x03, 0..=4, ..] = bytes {
        return Some("TLS: this listener speaks MQTT without TLS, so the client needs another port or no TLS");
    }
    if HTTP.iter().any(|method| bytes.starts_with(method)) {
        return Some(match asks_for_websocket(bytes) {
            true => "a WebSocket upgrade: this listener speaks MQTT over TCP without WebSocket",
            false => "HTTP: this listener speaks MQTT",
        });
    }
    if bytes.starts_with(b"PROXY ") || bytes.starts_with(PROXY_2) {
        return Some("the PROXY protocol: switch it off at the load balancer, this listener does not take it");
    }
    if let Some((_, what)) = OTHERS.iter().find(|(beginning, _)| bytes.starts_with(beginning)) {
        return Some(what);
    }
    is_text(bytes).then_some("text: perhaps a port scan, or telnet")
}

/// Whether a request of HTTP asks to go on as WebSocket. Names of headers and this value have no case (RFC 6455, 4.1).
fn asks_for_websocket(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let mut headers = text.lines().filter_map(|line| line.split_once(':'));
    headers.any(|(name, value)| name.trim() == "upgrade" && value.trim() == "websocket")
}

/// Whether the bytes are a line of printable characters, or the beginning of one. Four at least: a packet may begin with
/// printable bytes by chance.
fn is_text(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.len() >= 4 && line.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Connect, Packet, ProtocolVersion};

    #[track_caller]
    fn seems(bytes: &[u8], what: &str) {
        let guess = stranger(bytes).unwrap_or_default();
        assert!(guess.starts_with(what) && !what.is_empty(), "{bytes:?}: {guess}");
    }

    #[test]
    fn what_comes_to_the_wrong_port_is_recognised() {
        seems(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS");
        seems(b"\x16\x03\x03", "TLS");
        seems(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", "HTTP");
        seems(b"POST /api", "HTTP");
        seems(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP");
        let upgrade = "GET /mqtt HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nupgrade: WebSocket\r\n\r\n";
        seems(upgrade.as_bytes(), "a WebSocket upgrade");
        seems(b"GET / HTTP/1.1\r\nX-Upgrade: websocket\r\n\r\n", "HTTP");
        seems(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "the PROXY protocol");
        seems(b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "the PROXY protocol");
        seems(b"SSH-2.0-OpenSSH_9.2\r\n", "SSH");
        seems(b"AMQP\0\0\x09\x01", "AMQP");
        seems(b"\x03\x00\x00\x13\x0e\xe0", "Remote Desktop");
        seems(b"hello there\r\n", "text");
        seems(b"EHLO", "text");
    }

    #[test]
    fn what_may_be_mqtt_is_nobodys_else() {
        for version in ProtocolVersion::ALL {
            let mut bytes = Vec::new();
            Packet::Connect(Connect { username: Some("GET /"), ..Connect::new(version, "a client") })
                .encode(version, &mut bytes);
            for length in 0..=bytes.len() {
                assert_eq!(stranger(&bytes[..length]), None, "{:?}", &bytes[..length]);
            }
        }
        // Packets that are not the first ones: of clients, and yet wrong here. And what says nothing.
        for bytes in [&b"\xC0\x00"[..], b"\x30\x05\x00\x01aHi", b"\x16\x02\x00\x00", b"\x80", b"\0\0\0\0", b"abc", b""]
        {
            assert_eq!(stranger(bytes), None, "{bytes:?}");
        }
    }
}
