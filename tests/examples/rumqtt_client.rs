//! rumqttc with waits, as far as the examples need it.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, Publish, QoS};

use crate::program::Program;

/// How long a client waits for something that must come: a slow machine must not fail a test.
const DEADLINE: Duration = Duration::from_secs(60);

/// A connected client of MQTT 3.1.1 with a clean session. Dropping it breaks its connection.
pub struct RumqttClient {
    client: Client,
    connection: Connection,
    /// Messages that came while it waited for something else.
    early: VecDeque<Publish>,
}

impl RumqttClient {
    /// Connects without a name.
    pub fn new(program: &Program, id: &str) -> RumqttClient {
        RumqttClient::connect(MqttOptions::new(id, "127.0.0.1", program.address().port()))
    }

    /// Connects with a user name and a password.
    pub fn with(program: &Program, id: &str, username: &str, password: &str) -> RumqttClient {
        let mut options = MqttOptions::new(id, "127.0.0.1", program.address().port());
        options.set_credentials(username, password);
        RumqttClient::connect(options)
    }

    /// Connects with a session that is kept.
    pub fn kept(program: &Program, id: &str) -> RumqttClient {
        let mut options = MqttOptions::new(id, "127.0.0.1", program.address().port());
        options.set_clean_session(false);
        RumqttClient::connect(options)
    }

    fn connect(options: MqttOptions) -> RumqttClient {
        let (client, connection) = Client::new(options, 16);
        let mut client = RumqttClient { client, connection, early: VecDeque::new() };
        client.until("CONNACK", |packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        client
    }

    pub fn subscribe(&mut self, filter: &str) {
        self.client.subscribe(filter, QoS::AtLeastOnce).expect("there is room for a request");
        self.until("SUBACK", |packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).expect("there is room for a request");
        self.until("UNSUBACK", |packet| matches!(packet, Packet::UnsubAck(_)).then_some(()));
    }

    /// Publishes, and waits until the broker has it.
    pub fn publish(&mut self, topic: &str, payload: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).expect("there is room for a request");
        self.until("PUBACK", |packet| matches!(packet, Packet::PubAck(_)).then_some(()));
    }

    /// Topic and payload of the next message.
    pub fn message(&mut self) -> (String, String) {
        let early = self.early.pop_front();
        let publish = early.unwrap_or_else(|| {
            self.until(
                "a message",
                |packet| if let Packet::Publish(publish) = packet { Some(publish.clone()) } else { None },
            )
        });
        (publish.topic, String::from_utf8(publish.payload.to_vec()).expect("examples send text"))
    }

    fn until<T>(&mut self, what: &str, pick: impl Fn(&Packet) -> Option<T>) -> T {
        loop {
            let Ok(event) = self.connection.recv_timeout(DEADLINE) else { panic!("no {what} in time") };
            let Event::Incoming(packet) = event.unwrap_or_else(|error| panic!("{error} instead of {what}")) else {
                continue;
            };
            match (pick(&packet), packet) {
                (Some(picked), _) => return picked,
                (None, Packet::Publish(publish)) => self.early.push_back(publish),
                (None, _) => {}
            }
        }
    }
}
