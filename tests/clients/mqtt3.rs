//! rumqttc's MQTT 3.1.1 client, with waits.

use std::sync::mpsc::Sender;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnAck, ConnectionError, Event, EventLoop, Packet, Publish, SubscribeReasonCode, qos};
pub use rumqttc::{LastWill, MqttOptions};

use crate::broker::Broker;
use crate::driver::Driver;

/// Requests that may wait until the client's loop takes them: more than any test makes at a time.
const REQUESTS: usize = 100_000;
/// Packets up to this size pass the client both ways: more than the broker lets through.
const MAX_PACKET_SIZE: usize = 16 << 20;

/// A connected client. Dropping it cuts the connection.
pub struct Client {
    requests: AsyncClient,
    driver: Driver<Result<Packet, ConnectionError>>,
    /// Whether the broker had its session.
    pub session_present: bool,
}

/// Options for a client with clean session 1.
pub fn options(broker: &Broker, client_id: &str) -> MqttOptions {
    options_at(broker.port(), client_id)
}

/// Likewise, for a port.
pub fn options_at(port: u16, client_id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(600)).set_max_packet_size(MAX_PACKET_SIZE, MAX_PACKET_SIZE);
    options
}

/// Options for a client with clean session 0.
pub fn kept(broker: &Broker, client_id: &str) -> MqttOptions {
    let mut options = options(broker, client_id);
    options.set_clean_session(false);
    options
}

impl Client {
    /// Connects with clean session 1.
    pub fn new(broker: &Broker, client_id: &str) -> Client {
        Client::connect(options(broker, client_id))
    }

    /// Connects; panics if it is refused.
    pub fn connect(options: MqttOptions) -> Client {
        Client::try_connect(options).unwrap_or_else(|error| panic!("not connected: {error}"))
    }

    /// Connects, or returns the refusal.
    pub fn try_connect(options: MqttOptions) -> Result<Client, Box<ConnectionError>> {
        let (requests, driver) = start(options, false);
        let mut client = Client { requests, driver, session_present: false };
        client.session_present = client.driver.wait("CONNACK", connack).map_err(Box::new)?.session_present;
        Ok(client)
    }

    /// Connects, unless the broker closes the connection without an answer.
    pub fn try_reach(options: MqttOptions) -> Option<Client> {
        let (requests, mut driver) = start(options, false);
        let connected = |event: &Result<Packet, ConnectionError>| Some(event.as_ref().ok().map(|_| ()));
        driver.wait("an answer or the end", connected)?;
        Some(Client { requests, driver, session_present: false })
    }

    /// A client that makes its connection again whenever it breaks, for as long as it lives.
    pub fn connect_again_and_again(options: MqttOptions) -> Client {
        let (requests, driver) = start(options, true);
        let mut client = Client { requests, driver, session_present: false };
        client.driver.wait("CONNACK", |event| matches!(event, Ok(Packet::ConnAck(_))).then_some(()));
        client
    }

    /// Subscribes, and returns the granted QoS; `None` is a refusal.
    pub fn subscribe(&mut self, filter: &str, wanted: u8) -> Option<u8> {
        self.requests.try_subscribe(filter, qos(wanted).unwrap()).expect("the queue has room");
        let codes = self.driver.wait("SUBACK", |event| match event {
            Ok(Packet::SubAck(suback)) => Some(suback.return_codes.clone()),
            _ => None,
        });
        match codes[..] {
            [SubscribeReasonCode::Success(granted)] => Some(granted as u8),
            _ => None,
        }
    }

    /// Unsubscribes.
    pub fn unsubscribe(&mut self, filter: &str) {
        self.requests.try_unsubscribe(filter).expect("the queue has room");
        self.driver.wait("UNSUBACK", |event| matches!(event, Ok(Packet::UnsubAck(_))).then_some(()));
    }

    /// Publishes, and waits until the broker has taken it over, unless at QoS 0.
    pub fn publish(&mut self, topic: &str, at: u8, payload: impl Into<Vec<u8>>) {
        self.send(topic, at, false, payload);
        self.settle(at, 1);
    }

    /// Likewise, to be retained.
    pub fn retain(&mut self, topic: &str, at: u8, payload: impl Into<Vec<u8>>) {
        self.send(topic, at, true, payload);
        self.settle(at, 1);
    }

    /// Publishes, and does not wait.
    pub fn send(&self, topic: &str, at: u8, retain: bool, payload: impl Into<Vec<u8>>) {
        self.requests.try_publish(topic, qos(at).unwrap(), retain, payload).expect("the queue has room");
    }

    /// Waits until `count` messages that were sent are acknowledged.
    pub fn settle(&mut self, at: u8, count: usize) {
        for _ in 0..count {
            match at {
                0 => {}
                1 => self.driver.wait("PUBACK", |event| matches!(event, Ok(Packet::PubAck(_))).then_some(())),
                _ => self.driver.wait("PUBCOMP", |event| matches!(event, Ok(Packet::PubComp(_))).then_some(())),
            }
        }
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

    /// Waits until the broker has closed the connection.
    pub fn closed(&mut self) {
        self.driver.wait("the end of the connection", |event| event.is_err().then_some(()));
    }

    /// The payloads of the messages that have arrived and that nobody has waited for.
    pub fn received_so_far(&mut self) -> Vec<String> {
        let publishes = self.driver.passed_over().filter_map(|event| match event {
            Ok(Packet::Publish(publish)) => Some(text(&publish)),
            _ => None,
        });
        publishes.collect()
    }

    /// Sends DISCONNECT and waits for the broker to close the connection.
    pub fn disconnect(mut self) {
        self.requests.try_disconnect().expect("the queue has room");
        self.closed();
    }

    /// Cuts the connection without a DISCONNECT.
    pub fn cut(mut self) {
        self.driver.abort();
    }
}

/// The payload of a message as text.
pub fn text(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).expect("the tests publish text")
}

fn connack(event: &Result<Packet, ConnectionError>) -> Option<Result<ConnAck, ConnectionError>> {
    match event {
        Ok(Packet::ConnAck(connack)) => Some(Ok(connack.clone())),
        Err(ConnectionError::ConnectionRefused(code)) => Some(Err(ConnectionError::ConnectionRefused(*code))),
        _ => None,
    }
}

fn start(options: MqttOptions, again: bool) -> (AsyncClient, Driver<Result<Packet, ConnectionError>>) {
    let (requests, mut events) = AsyncClient::new(options, REQUESTS);
    // The client's own limit on the time to connect is not the test's.
    let mut network = events.network_options();
    network.set_connection_timeout(crate::DEADLINE.as_secs());
    events.set_network_options(network);
    (requests, Driver::spawn(move |report| run(events, again, report)))
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
