//! A client that waits for its answers, and what the cases have clients say.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use moormq::codec::{
    Connect, Disconnect, MAX_PACKET_SIZE, Packet, PacketId, PacketType, ProtocolVersion, Publish, PublishProperties,
    QoS, ReasonCode, Sender, Split, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, decode, split,
};
use socket2::{Domain, SockRef, Socket, Type};

use moormq_perf_shared::under_test::Failure;

/// User name and password, if there are any.
pub type User = Option<(&'static str, &'static str)>;

/// How long the broker may take to answer. What fails is the measurement, not the broker.
const PATIENCE: Duration = Duration::from_secs(120);
/// Filters in one SUBSCRIBE or UNSUBSCRIBE, where there are more: as many as the broker takes by default.
pub const FILTERS: usize = 1024;

/// A client of MQTT 5.0.
pub struct Client {
    stream: TcpStream,
    /// What has come and was not looked at.
    unread: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    /// The version that all of them speak.
    pub const VERSION: ProtocolVersion = ProtocolVersion::V5;

    /// Connects, and waits until the broker has accepted the client.
    pub fn open(address: SocketAddr, id: &str, user: User) -> Result<Client, Failure> {
        let mut client = Client::begin(address, None)?;
        client.send(|out| connect(id, user, out))?;
        client.accepted()?;
        Ok(client)
    }

    /// Opens a connection, from one of the addresses of this machine, and says nothing.
    pub fn begin(address: SocketAddr, from: Option<Ipv4Addr>) -> Result<Client, Failure> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        socket.connect(&address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream, unread: Vec::new(), out: Vec::new() })
    }

    /// Waits until the broker has accepted the client.
    pub fn accepted(&mut self) -> Result<(), Failure> {
        match self.connack()? {
            ReasonCode::Success => Ok(()),
            code => Err(format!("refused: {code:?}").into()),
        }
    }

    /// Waits for CONNACK, and gives what it says.
    pub fn connack(&mut self) -> Result<ReasonCode, Failure> {
        let mut answer = None;
        self.read_until(|packet| match packet {
            Packet::Connack(connack) => {
                answer = Some(connack.code);
                true
            }
            _ => false,
        })?;
        answer.ok_or_else(|| "no CONNACK".into())
    }

    /// Says with one write what `write` puts down.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        self.out.clear();
        write(&mut self.out);
        Ok(self.stream.write_all(&self.out)?)
    }

    /// Publishes. At QoS 1 nobody looks at the answer.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Result<(), Failure> {
        self.send(|out| publish(topic, payload, qos, retain, None, out))
    }

    /// Subscribes at QoS 0, and waits for the answers.
    pub fn subscribe(&mut self, filters: &[String]) -> Result<(), Failure> {
        self.send(|out| subscribe(filters, out))?;
        self.answers(PacketType::Suback, filters.len().div_ceil(FILTERS))
    }

    /// Waits for so many packets of a type.
    pub fn answers(&mut self, of: PacketType, mut count: usize) -> Result<(), Failure> {
        self.read_until(|packet| {
            count -= usize::from(packet.packet_type() == of);
            count == 0
        })
    }

    /// Waits until all that was sent has been served: the broker answers in order.
    pub fn served(&mut self) -> Result<(), Failure> {
        self.send(|out| Packet::Pingreq.encode(Self::VERSION, out))?;
        self.answers(PacketType::Pingresp, 1)
    }

    /// Reads packets until `is_last` says that this is it.
    pub fn read_until(&mut self, mut is_last: impl FnMut(&Packet<'_>) -> bool) -> Result<(), Failure> {
        loop {
            let mut used = 0;
            let mut done = false;
            while !done
                && let Split::Frame(frame) =
                    split(&self.unread[used..], MAX_PACKET_SIZE).map_err(|error| format!("{error:?}"))?
            {
                let packet = decode(frame, Self::VERSION, Sender::Server).map_err(|error| format!("{error:?}"))?;
                used += frame.length;
                done = is_last(&packet);
            }
            self.unread.drain(..used);
            if done {
                return Ok(());
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err("the broker closed the connection".into()),
            count => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Counts messages that come, until there were so many, or until the time is up.
    pub fn count_messages(&mut self, most: usize, until: Instant) -> Result<usize, Failure> {
        let mut count = 0;
        self.stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        while count < most && Instant::now() < until {
            let mut used = 0;
            while let Split::Frame(frame) =
                split(&self.unread[used..], MAX_PACKET_SIZE).map_err(|error| format!("{error:?}"))?
            {
                used += frame.length;
                count += usize::from(frame.packet_type() == Some(PacketType::Publish));
            }
            self.unread.drain(..used);
            if let Err(failure) = self.read() {
                let kind = failure.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                // Nothing within the time that a read may take is no failure.
                if kind != Some(std::io::ErrorKind::WouldBlock) {
                    return Err(failure);
                }
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(count)
    }

    /// Another one that uses the same connection: one writes while the other reads.
    pub fn other_half(&self) -> Result<Client, Failure> {
        Ok(Client { stream: self.stream.try_clone()?, unread: Vec::new(), out: Vec::new() })
    }

    /// Has the kernel keep as little as it can of what the client does not read.
    pub fn take_little(&self) -> Result<(), Failure> {
        Ok(SockRef::from(&self.stream).set_recv_buffer_size(4096)?)
    }

    /// Closes the connection without DISCONNECT.
    pub fn die(self) {
        // It may be closed.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A CONNECT with a clean start, of a session that ends with its connection.
pub fn connect(id: &str, user: User, out: &mut Vec<u8>) {
    let (username, password) = (user.map(|user| user.0), user.map(|user| user.1.as_bytes()));
    Connect { username, password, ..Connect::new(Client::VERSION, id) }.encode(out);
}

/// A CONNECT of a session that is kept for so many seconds.
pub fn connect_for(id: &str, seconds: u32, out: &mut Vec<u8>) {
    let mut connect = Connect::new(Client::VERSION, id);
    connect.properties.session_expiry = Some(seconds);
    connect.encode(out);
}

/// A DISCONNECT after which the session is kept for so many seconds.
pub fn disconnect_for(seconds: u32, out: &mut Vec<u8>) {
    let disconnect = Disconnect { session_expiry: Some(seconds), ..Disconnect::new(ReasonCode::NormalDisconnection) };
    disconnect.encode(Client::VERSION, out);
}

/// A message that is kept for `expiry` seconds, or for good.
pub fn publish(topic: &str, payload: &[u8], qos: QoS, retain: bool, expiry: Option<u32>, out: &mut Vec<u8>) {
    let packet_id = if qos == QoS::AtMostOnce { None } else { PacketId::new(1) };
    let properties = PublishProperties { message_expiry: expiry, ..PublishProperties::default() };
    Publish { qos, retain, topic, packet_id, properties, payload, ..Publish::default() }.encode(Client::VERSION, out);
}

/// A CONNECT of the session that was kept, for as long again.
pub fn resume_for(id: &str, seconds: u32, out: &mut Vec<u8>) {
    let mut connect = Connect { clean_start: false, ..Connect::new(Client::VERSION, id) };
    connect.properties.session_expiry = Some(seconds);
    connect.encode(out);
}

/// A SUBSCRIBE to one filter at QoS 1.
pub fn subscribe_reliably(filter: &str, out: &mut Vec<u8>) {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    Subscribe::new(PacketId::MIN, &[SubscribeFilter { filter, options }][..]).encode(Client::VERSION, out);
}

/// As many SUBSCRIBEs as it takes.
pub fn subscribe(filters: &[String], out: &mut Vec<u8>) {
    filters.chunks(FILTERS).for_each(|filters| subscribe_at_once(filters, out));
}

/// One SUBSCRIBE, however many filters there are.
pub fn subscribe_at_once(filters: &[String], out: &mut Vec<u8>) {
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    let filters: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
    Subscribe::new(PacketId::MIN, &filters[..]).encode(Client::VERSION, out);
}

/// As many UNSUBSCRIBEs as it takes.
pub fn unsubscribe(filters: &[String], out: &mut Vec<u8>) {
    filters.chunks(FILTERS).for_each(|filters| unsubscribe_at_once(filters, out));
}

/// One UNSUBSCRIBE, however many filters there are.
pub fn unsubscribe_at_once(filters: &[String], out: &mut Vec<u8>) {
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    Unsubscribe::new(PacketId::MIN, &filters[..]).encode(Client::VERSION, out);
}
