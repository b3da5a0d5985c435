//! What the configuration forbids: stated in CONNACK, and refused with the reason code that MQTT 5.0 has for it.

use crate::broker::Broker;
use crate::mqtt5::{
    Client, ConnectReturnCode, DisconnectReasonCode, PublishProperties, SubscribeReasonCode, kept, options, options_at,
};
use crate::{mqtt3, mqtt5};
use rumqttc::v5::mqttbytes::QoS;

fn limited(limits: &str) -> Broker {
    Broker::with(2, &format!("[limits]\n{limits}\n"))
}

/// Publishes as the broker has forbidden; returns how it ends the connection.
fn publish_forbidden(broker: &Broker, qos: u8, retain: bool, properties: PublishProperties) -> DisconnectReasonCode {
    let mut client = Client::new(broker, "client");
    client.send("topic", qos, retain, "forbidden", properties);
    client.disconnected()
}

#[test]
fn a_higher_qos_than_the_maximum() {
    let broker = limited("maximum_qos = 1");
    let mut subscriber = Client::new(&broker, "subscriber");
    assert_eq!(subscriber.connack_properties().max_qos, Some(1));
    assert_eq!(subscriber.subscribe("topic", 2), SubscribeReasonCode::Success(QoS::AtLeastOnce));
    let code = publish_forbidden(&broker, 2, false, PublishProperties::default());
    assert_eq!(code, DisconnectReasonCode::QoSNotSupported);
    let mut options = options(&broker, "client");
    options.set_last_will(mqtt5::LastWill::new("topic", "", QoS::ExactlyOnce, false, None));
    assert_eq!(Client::refused(options), ConnectReturnCode::QoSNotSupported);
    subscriber.publish("topic", 1, "marker");
    assert_eq!(subscriber.receive_text(), "marker");
}

#[test]
fn retained_messages() {
    let broker = limited("retain_available = false");
    assert_eq!(Client::new(&broker, "client").connack_properties().retain_available, Some(0));
    let code = publish_forbidden(&broker, 1, true, PublishProperties::default());
    assert_eq!(code, DisconnectReasonCode::RetainNotSupported);
    let mut options = options(&broker, "client");
    options.set_last_will(mqtt5::LastWill::new("topic", "", QoS::AtLeastOnce, true, None));
    assert_eq!(Client::refused(options), ConnectReturnCode::RetainNotSupported);
}

#[test]
fn wildcards_shared_subscriptions_and_identifiers() {
    let broker = limited("wildcard_available = false\nshared_available = false\nsubscription_ids_available = false");
    let mut client = Client::new(&broker, "client");
    let connack = client.connack_properties();
    assert_eq!(connack.wildcard_subscription_available, Some(0));
    assert_eq!(connack.shared_subscription_available, Some(0));
    assert_eq!(connack.subscription_identifiers_available, Some(0));
    assert_eq!(client.subscribe("a/#", 1), SubscribeReasonCode::WildcardSubscriptionsNotSupported);
    assert_eq!(client.subscribe("a/+", 1), SubscribeReasonCode::WildcardSubscriptionsNotSupported);
    assert_eq!(client.subscribe("$share/g/a", 1), SubscribeReasonCode::SharedSubscriptionsNotSupported);
    assert_eq!(client.subscribe("a", 1), SubscribeReasonCode::Success(QoS::AtLeastOnce));
    assert_eq!(mqtt3::Client::new(&broker, "older").subscribe("a/#", 1), None);
}

#[test]
fn more_subscriptions_than_the_limit() {
    let broker = limited("max_subscriptions_per_client = 2");
    let mut client = Client::new(&broker, "client");
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    assert_eq!([client.subscribe("a", 1), client.subscribe("b", 1)], [granted, granted]);
    assert_eq!(client.subscribe("c", 1), SubscribeReasonCode::QuotaExceeded);
    assert_eq!(client.subscribe("b", 1), granted, "an existing subscription is replaced");
    client.unsubscribe("a");
    assert_eq!(client.subscribe("c", 1), granted);
}

/// The log says so once for each client.
#[test]
fn shapes_of_filters_beyond_the_limit() {
    let mut broker = limited("max_wildcard_shapes = 16");
    let mut client = Client::new(&broker, "client");
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    assert_eq!(client.subscribe("+/+/+/4/5/6/7/8/9/10", 1), granted);
    for filter in ["+/2/+/+/5/6/7/8/9", "+/+/+/4/5/6/7/8/9/10/11"] {
        assert_eq!(client.subscribe(filter, 1), SubscribeReasonCode::QuotaExceeded, "an eighth is two");
    }
    assert_eq!(client.subscribe("+/+/+/+/5/6/7/8", 1), granted, "always accepted");
    let mut older = mqtt3::Client::new(&broker, "older");
    let answers = ["+/2/+/+/5/6/7/8/9/10", "+/2/3/+/+/6/7/8/9"].map(|filter| older.subscribe(filter, 1));
    assert_eq!(answers, [Some(1), None]);
    broker.stop();
    let log = broker.process().stderr();
    log.wait_for_end();
    let lines = log.all();
    for name in ["client=client ", "client=older "] {
        let of_client = |line: &&String| line.contains("max_wildcard_shapes") && line.contains(name);
        assert_eq!(lines.iter().filter(of_client).count(), 1, "{name} {lines:?}");
    }
}

#[test]
fn topics_that_are_too_deep() {
    let broker = limited("max_topic_levels = 3");
    let mut client = Client::new(&broker, "client");
    assert_eq!(client.subscribe("a/b/c/d", 1), SubscribeReasonCode::TopicFilterInvalid);
    assert_eq!(client.subscribe("a/b/c", 1), SubscribeReasonCode::Success(QoS::AtLeastOnce));
    client.publish("a/b/c", 1, "just right");
    assert_eq!(client.receive_text(), "just right");
    client.send("a/b/c/d", 2, false, "too deep", PublishProperties::default());
    assert_eq!(client.disconnected(), DisconnectReasonCode::TopicNameInvalid);
}

#[test]
fn more_sessions_than_the_limit() {
    let broker = Broker::with(4, "[limits]\nmax_sessions = 2\n");
    let first = Client::connect(kept(&broker, "first", 3600));
    first.disconnect();
    let _second = Client::new(&broker, "second");
    assert_eq!(Client::refused(options(&broker, "third")), ConnectReturnCode::QuotaExceeded);
    assert!(mqtt3::Client::try_connect(mqtt3::options(&broker, "third")).is_err());
    assert!(Client::connect(kept(&broker, "first", 3600)).connack.session_present);
}

#[test]
fn a_session_that_is_kept_too_long() {
    let broker = Broker::with(2, "[session]\nmax_session_expiry = \"1h\"\nmax_keep_alive = \"5m\"\n");
    let mut options = kept(&broker, "client", u32::MAX);
    options.set_clean_start(true);
    let connack = Client::connect(options).connack_properties();
    assert_eq!(connack.session_expiry_interval, Some(3600));
    assert_eq!(connack.server_keep_alive, Some(300));
}

#[test]
fn takeovers_without_end() {
    let broker = Broker::with(2, "[session]\ntakeover_limit = 2\ntakeover_window = \"1day\"\n");
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::new(&broker, "id"));
    }
    let code = Client::refused(options(&broker, "id"));
    assert!(matches!(code, ConnectReturnCode::QuotaExceeded | ConnectReturnCode::ConnectionRateExceeded), "{code:?}");
    // The one that is there stays.
    let last = clients.last_mut().expect("there are three");
    last.subscribe("topic", 1);
    last.publish("topic", 1, "still here");
    assert_eq!(last.receive_text(), "still here");
}

#[test]
fn client_ids_that_are_too_long_or_could_be_wildcards() {
    let broker = Broker::with(2, "[session]\nmax_client_id_size = 23\nallow_wildcards_in_identity = false\n");
    for id in [&"x".repeat(24), "a+b", "#"] {
        assert_eq!(Client::refused(options(&broker, id)), ConnectReturnCode::ClientIdentifierNotValid, "{id}");
        assert!(mqtt3::Client::try_connect(mqtt3::options(&broker, id)).is_err());
    }
    Client::new(&broker, &"x".repeat(23));
}

#[test]
fn an_unknown_authentication_method() {
    let broker = Broker::start(2);
    let mut options = options(&broker, "client");
    options.set_authentication_method(Some("UNHEARD-OF".to_owned()));
    assert_eq!(Client::refused(options), ConnectReturnCode::BadAuthenticationMethod);
}

#[test]
fn a_listener_that_knows_nobody() {
    let broker = Broker::configured("shards = 2\n[listeners.closed]\naddress = \"127.0.0.1:0\"\n");
    let port = broker.port_of("closed");
    assert_eq!(Client::refused(options_at(port, "client")), ConnectReturnCode::NotAuthorized);
    let mut options = options_at(port, "client");
    options.set_credentials("somebody", "secret");
    assert_eq!(Client::refused(options), ConnectReturnCode::BadUserNamePassword);
    assert!(mqtt3::Client::try_connect(mqtt3::options_at(port, "client")).is_err());
}
