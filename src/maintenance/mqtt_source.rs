//! The retained messages of a running broker, of any make: asked for by a client that subscribes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::codec::{
    Ack, Connack, Connect, Disconnect, MAX_PACKET_SIZE, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    RetainHandling, Sender, Split, Subscribe, SubscribeFilter, SubscriptionOptions, decode, split,
};

/// The port of a broker, if none is named.
const PORT: u16 = 1883;
/// How long it may take until the broker answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the broker is told that the client is there still.
const PING: Duration = Duration::from_secs(5);
/// So many bytes are read at once.
const READ: usize = 64 << 10;

/// Which broker, and what of it.
#[derive(Clone, Debug)]
pub struct MqttSource {
    /// Host and port, as in `mqtt://HOST[:PORT]`.
    pub address: String,
    /// Topic filters.
    pub filters: Vec<String>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// The client id.
    pub client_id: String,
    /// When nothing that is retained has come for so long, there is no more.
    pub quiet: Duration,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    pub qos: QoS,
    /// The properties that go on to receivers.
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
    /// After so many seconds it expires.
    pub expiry: Option<u32>,
}

/// Why nothing was fetched, as the rest of a sentence that begins with the address.
#[derive(Debug)]
pub(super) struct FetchError(String);

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn problem(problem: impl Into<String>) -> FetchError {
    FetchError(problem.into())
}

/// A broker does not speak MQTT 5.
struct NotSpoken;

impl MqttSource {
    /// All retained messages that match, by topic. MQTT 5 is tried first, then 3.1.1, which has no properties.
    pub(super) fn fetch(&self) -> Result<BTreeMap<String, Fetched>, FetchError> {
        let session = match Session::open(self, ProtocolVersion::V5)? {
            Ok(session) => session,
            Err(NotSpoken) => Session::open(self, ProtocolVersion::V311)?
                .map_err(|NotSpoken| problem("speaks neither MQTT 5 nor MQTT 3.1.1"))?,
        };
        session.fetch(self)
    }

    fn connect(&self) -> Result<TcpStream, FetchError> {
        let has_port = self.address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { self.address.clone() } else { format!("{}:{PORT}", self.address) };
        let found = address.to_socket_addrs().map_err(|error| problem(format!("cannot be found: {error}")))?;
        let mut last = None;
        for address in found {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
        Err(problem(format!("cannot be reached: {why}")))
    }
}

/// What has come of waiting for bytes.
enum Received {
    Bytes,
    /// Nothing yet.
    Nothing,
    /// There will be no more.
    End,
}

/// A connection that is accepted.
struct Session {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
    /// How much of that is done with.
    done: usize,
}

impl Session {
    fn open(source: &MqttSource, version: ProtocolVersion) -> Result<Result<Self, NotSpoken>, FetchError> {
        let mut session = Session { stream: source.connect()?, version, received: Vec::new(), done: 0 };
        let mut packet = Vec::new();
        let username = source.username.as_deref();
        let password = source.password.as_deref();
        Connect { username, password, ..Connect::new(version, &source.client_id) }.encode(&mut packet);
        session.send(&packet)?;
        let deadline = Instant::now() + PATIENCE;
        let first = loop {
            match session.take() {
                Some(first) => break Some(first),
                // Some close the connection to say that they do not speak a version.
                None => match session.receive(deadline)? {
                    Received::End => break None,
                    Received::Nothing if Instant::now() >= deadline => break None,
                    Received::Bytes | Received::Nothing => {}
                },
            }
        };
        let is_last = version != ProtocolVersion::V5;
        let Some(first) = first else {
            return match is_last {
                true => Err(problem("closes the connection, or does not answer")),
                false => Ok(Err(NotSpoken)),
            };
        };
        match frame(&first, version) {
            Ok(Packet::Connack(Connack { code, .. })) if !code.is_error() => Ok(Ok(session)),
            Ok(Packet::Connack(Connack { code: ReasonCode::UnsupportedProtocolVersion, .. })) => Ok(Err(NotSpoken)),
            Ok(Packet::Connack(Connack { code, properties, .. })) => {
                let reason = properties.reason_string.map_or_else(String::new, |reason| format!(" ({reason})"));
                let advice = match code {
                    ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
                        ": see --username and --password-file"
                    }
                    _ => "",
                };
                Err(problem(format!("refuses the connection: {code:?}{reason}{advice}")))
            }
            // A refusal of MQTT 3, as answer to a version that is not known there.
            _ if !is_last => Ok(Err(NotSpoken)),
            _ => Err(problem("answers something else than MQTT")),
        }
    }

    fn fetch(mut self, source: &MqttSource) -> Result<BTreeMap<String, Fetched>, FetchError> {
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: false,
            // What is retained meanwhile is known as such.
            retain_as_published: true,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        let filters: Vec<_> = source.filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
        self.say(&Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters[..])))?;
        let mut found = BTreeMap::new();
        let mut is_granted = false;
        let (mut quiet_since, mut pinged) = (Instant::now(), Instant::now());
        loop {
            while let Some(bytes) = self.take() {
                match frame(&bytes, self.version)? {
                    Packet::Publish(publish) => {
                        if note(&publish, &mut found) {
                            quiet_since = Instant::now();
                        }
                        self.acknowledge(&publish)?;
                    }
                    Packet::Pubrel(ack) => self.say(&Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::Success)))?,
                    Packet::Suback(suback) => {
                        let refused = suback.codes.iter().zip(&source.filters).find(|(code, _)| code.is_error());
                        if let Some((code, filter)) = refused {
                            return Err(problem(format!("refuses a subscription to {filter}: {code:?}")));
                        }
                        (is_granted, quiet_since) = (true, Instant::now());
                    }
                    Packet::Disconnect(disconnect) => {
                        return Err(problem(format!("ends the connection: {:?}", disconnect.code)));
                    }
                    _ => {}
                }
            }
            let patience = if is_granted { source.quiet } else { PATIENCE.max(source.quiet) };
            let end = quiet_since + patience;
            if Instant::now() >= end {
                break;
            }
            if pinged.elapsed() >= PING {
                self.say(&Packet::Pingreq)?;
                pinged = Instant::now();
            }
            if let Received::End = self.receive(end.min(pinged + PING))? {
                return Err(problem("closes the connection"));
            }
        }
        if !is_granted {
            return Err(problem("does not answer"));
        }
        // It may be gone already.
        let _ = self.say(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        Ok(found)
    }

    fn acknowledge(&mut self, publish: &Publish<'_>) -> Result<(), FetchError> {
        let Some(id) = publish.packet_id else { return Ok(()) };
        let ack = Ack::new(id, ReasonCode::Success);
        self.say(&if publish.qos == QoS::ExactlyOnce { Packet::Pubrec(ack) } else { Packet::Puback(ack) })
    }

    fn say(&mut self, packet: &Packet<'_>) -> Result<(), FetchError> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.send(&bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.stream.write_all(bytes).map_err(|error| problem(format!("takes nothing: {error}")))
    }

    /// The next packet that has come.
    fn take(&mut self) -> Option<Vec<u8>> {
        // What is no packet is told when it is decoded.
        let length = match split(&self.received[self.done..], MAX_PACKET_SIZE) {
            Ok(Split::Frame(frame)) => frame.length,
            Ok(Split::Incomplete { .. }) => return None,
            Err(_) => self.received.len() - self.done,
        };
        let packet = self.received[self.done..self.done + length].to_vec();
        self.done += length;
        Some(packet)
    }

    /// Waits for more until then, or a little less: the system counts in ticks.
    fn receive(&mut self, until: Instant) -> Result<Received, FetchError> {
        self.received.drain(..std::mem::take(&mut self.done));
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let failed = |error: io::Error| problem(format!("cannot be read: {error}"));
        self.stream.set_read_timeout(Some(left)).map_err(failed)?;
        let before = self.received.len();
        self.received.resize(before + READ, 0);
        let read = self.stream.read(&mut self.received[before..]);
        self.received.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Ok(Received::End),
            Ok(_) => Ok(Received::Bytes),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(Received::Nothing)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset) => Ok(Received::End),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Received::Nothing),
            Err(error) => Err(failed(error)),
        }
    }
}

/// What these bytes are, which are one packet of a server.
fn frame(bytes: &[u8], version: ProtocolVersion) -> Result<Packet<'_>, FetchError> {
    let malformed = |_| problem("sends what is no packet of MQTT");
    match split(bytes, MAX_PACKET_SIZE).map_err(malformed)? {
        Split::Frame(frame) => decode(frame, version, Sender::Server).map_err(malformed),
        Split::Incomplete { .. } => Err(problem("sends what is no packet of MQTT")),
    }
}

/// Notes a message if it is retained; without a payload nothing is retained any more. Whether it was.
fn note(publish: &Publish<'_>, found: &mut BTreeMap<String, Fetched>) -> bool {
    if !publish.retain {
        return false;
    }
    if publish.payload.is_empty() {
        found.remove(publish.topic);
        return true;
    }
    let properties = publish.properties.forwarded().into_owned();
    let (payload, expiry) = (publish.payload.to_vec(), publish.properties.message_expiry);
    found.insert(publish.topic.to_owned(), Fetched { qos: publish.qos, properties, payload, expiry });
    true
}
