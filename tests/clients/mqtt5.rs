//! rumqttc's MQTT 5.0 client, with waits.

use std::sync::mpsc::Sender;
use std::time::Duration;

use rumqttc::v5::mqttbytes::qos;
pub use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, LastWillProperties, Packet,
    PubAckReason, Publish, PublishProperties, RetainForwardRule, SubscribeProperties, SubscribeReasonCode,
    UnsubAckReason,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
pub use rumqttc::v5::{ConnectionError, MqttOptions, StateError};

use crate::broker::Broker;
use crate::driver::Driver;

/// Requests that may wait until the client's loop takes them: more than any test makes at a time.
const REQUESTS: usize = 100_000;
/// Packets up to this size reach the client: more than the broker lets through.
const MAX_PACKET_SIZE: u32 = 16 << 20;

/// A connected client. Dropping it cuts the connection.
pub struct Client {
    requests: AsyncClient,
    driver: Driver<Result<Packet, ConnectionError>>,
    /// What the broker answered to CONNECT.
    pub connack: ConnAck,
}

/// Options for a client with clean start 1 whose session ends with the connection.
pub fn options(broker: &Broker, client_id: &str) -> MqttOptions {
    options_at(broker.port(), client_id)
}

/// Likewise, for a port.
pub fn options_at(port: u16, client_id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    // The client's own limit on the time to connect is not the test's.
    options.set_keep_alive(Duration::from_secs(600)).set_connection_timeout(crate::DEADLINE.as_secs());
    options.set_max_packet_size(Some(MAX_PACKET_SIZE));
    options
}

/// Options for a client with clean start 0 whose session is kept for `seconds`.
pub fn kept(broker: &Broker, client_id: &str, seconds: u32) -> MqttOptions {
    let mut options = options(broker, client_id);
    options.set_clean_start(false).set_session_expiry_interval(Some(seconds));
    options
}

impl Client {
    /// Connects with clean start 1.
    pub fn new(broker: &Broker, client_id: &str) -> Client {
        Client::connect(options(broker, client_id))
    }

    /// Connects; panics if it is refused.
    pub fn connect(options: MqttOptions) -> Client {
        let what = options.client_id();
        Client::start(options, false).unwrap_or_else(|code| panic!("{what} was refused: {code:?}"))
    }

    /// Connects to be refused; returns the reason code.
    pub fn refused(options: MqttOptions) -> ConnectReturnCode {
        Client::start(options, false).err().expect("the broker should have refused it")
    }

    /// A client that makes its connection again whenever it breaks, for as long as it lives.
    pub fn connect_again_and_again(options: MqttOptions) -> Client {
        Client::start(options, true).expect("it is not refused")
    }

    /// The properties of the CONNACK.
    pub fn connack_properties(&self) -> ConnAckProperties {
        self.connack.properties.clone().unwrap_or_else(|| panic!("CONNACK has no properties"))
    }

    /// Subscribes, and waits for the reason code.
    pub fn subscribe(&mut self, filter: &str, wanted: u8) -> SubscribeReasonCode {
        self.subscribe_with(Filter::new(filter, qos(wanted).unwrap()), None)
    }

    /// Subscribes with options, and with a subscription identifier if there is one.
    pub fn subscribe_with(&mut self, filter: Filter, id: Option<usize>) -> SubscribeReasonCode {
        let properties = SubscribeProperties { id, user_properties: Vec::new() };
        self.requests.try_subscribe_many_with_properties([filter], properties).expect("the queue has room");
        self.driver.wait("SUBACK", |event| match event {
            Ok(Packet::SubAck(suback)) => Some(suback.return_codes[0]),
            _ => None,
        })
    }

    /// Unsubscribes, and waits for the reason code.
    pub fn unsubscribe(&mut self, filter: &str) -> UnsubAckReason {
        self.requests.try_unsubscribe(filter).expect("the queue has room");
        self.driver.wait("UNSUBACK", |event| match event {
            Ok(Packet::UnsubAck(unsuback)) => Some(unsuback.reasons[0]),
            _ => None,
        })
    }

    /// Publishes, and waits until the broker has taken it over, unless at QoS 0.
    pub fn publish(&mut self, topic: &str, at: u8, payload: impl Into<Vec<u8>>) {
        self.publish_with(topic, at, payload, PublishProperties::default());
    }

    /// Likewise, with properties.
    pub fn publish_with(&mut self, topic: &str, at: u8, payload: impl Into<Vec<u8>>, properties: PublishProperties) {
        self.send(topic, at, false, payload, properties);
        match at {
            0 => {}
            1 => drop(self.puback()),
            _ => self.driver.wait("PUBCOMP", |event| matches!(event, Ok(Packet::PubComp(_))).then_some(())),
        }
    }

    /// Publishes at QoS 1, to be retained.
    pub fn retain(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.send(topic, 1, true, payload, PublishProperties::default());
        self.puback();
    }

    /// Publishes, and does not wait. An empty topic is for those who have an alias.
    pub fn send(&self, topic: &str, at: u8, retain: bool, payload: impl Into<Vec<u8>>, properties: PublishProperties) {
        let sent =
            self.requests.try_publish_with_properties(topic, qos(at).unwrap(), retain, payload.into(), properties);
        sent.expect("the queue has room and the topic is valid");
    }

    /// Waits for a PUBACK, and returns its reason code.
    pub fn puback(&mut self) -> PubAckReason {
        self.driver.wait("PUBACK", |event| match event {
            Ok(Packet::PubAck(puback)) => Some(puback.reason),
            _ => None,
        })
    }

    /// Waits for the next message.
    pub fn receive(&mut self) -> Publish {
        self.driver.wait("PUBLISH", |event| match event {
            Ok(Packet::Publish(publish)) => Some(publish.clone()),
            _ => None,
        })
    }

    /// Waits for the next message, of which only the payload matters.
    pub fn receive_text(&mut self) -> String {
        text(&self.receive())
    }

    /// Acknowledges a message, if the client was configured not to do that by itself.
    pub fn ack(&self, publish: &Publish) {
        self.requests.try_ack(publish).expect("the queue has room");
    }

    /// Waits for a DISCONNECT from the broker, and returns its reason code.
    pub fn disconnected(&mut self) -> DisconnectReasonCode {
        self.driver.wait("DISCONNECT", |event| match event {
            Ok(Packet::Disconnect(disconnect)) => Some(disconnect.reason_code),
            Err(ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. })) => Some(*reason_code),
            _ => None,
        })
    }

    /// Sends DISCONNECT and waits for the broker to close the connection.
    pub fn disconnect(mut self) {
        self.requests.try_disconnect().expect("the queue has room");
        self.driver.wait("the end of the connection", |event| event.is_err().then_some(()));
    }

    /// Cuts the connection without a DISCONNECT.
    pub fn cut(mut self) {
        self.driver.abort();
    }

    /// Likewise; returns the payloads of all messages that have arrived and that nobody has waited for.
    pub fn cut_with_rest(mut self) -> Vec<String> {
        self.driver.abort();
        let publishes = self.driver.rest().filter_map(|event| match event {
            Ok(Packet::Publish(publish)) => Some(text(&publish)),
            _ => None,
        });
        publishes.collect()
    }

    fn start(options: MqttOptions, again: bool) -> Result<Client, ConnectReturnCode> {
        let (requests, events) = AsyncClient::new(options, REQUESTS);
        let mut driver = Driver::spawn(move |report| run(events, again, report));
        let connack = driver.wait("CONNACK", |event| match event {
            Ok(Packet::ConnAck(connack)) => Some(Ok(connack.clone())),
            Err(ConnectionError::ConnectionRefused(code)) => Some(Err(*code)),
            _ => None,
        })?;
        Ok(Client { requests, driver, connack })
    }
}

/// The payload of a message as text.
pub fn text(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).expect("the tests publish text")
}

/// The topic of a message as text.
pub fn topic(publish: &Publish) -> String {
    String::from_utf8(publish.topic.to_vec()).expect("topics are text")
}

async fn run(mut events: EventLoop, again: bool, report: Sender<Result<Packet, ConnectionError>>) {
    loop {
        let event = match events.poll().await {
            Ok(Event::Outgoing(_)) => continue,
            Ok(Event::Incoming(packet)) => Ok(packet),
            Err(error) => Err(error),
        };
        let broken = event.is_err();
        if report.send(event).is_err() || (broken && !again) {
            return;
        }
        if broken {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
