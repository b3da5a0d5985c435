//! Several listeners in one broker: mountpoints keep their clients apart, and each listener has limits of its own.

use std::io::Read;
use std::net::TcpStream;

use crate::broker::Broker;
use crate::{DEADLINE, mqtt3, mqtt5};
use rumqttc::{ConnectReturnCode, ConnectionError};

const TWO_MOUNTPOINTS: &str = "\
shards = 4
[listeners.left]
address = \"127.0.0.1:0\"
mountpoint = \"left\"
allow_anonymous = true
[listeners.right]
address = \"127.0.0.1:0\"
mountpoint = \"right\"
allow_anonymous = true
[listeners.right-too]
address = \"127.0.0.1:0\"
mountpoint = \"right\"
allow_anonymous = true
[retained]
max_messages = 1000
";

#[test]
fn mountpoints_never_meet() {
    let broker = Broker::configured(TWO_MOUNTPOINTS);
    let [left, right, right_too] = ["left", "right", "right-too"].map(|listener| broker.port_of(listener));
    // The same client id lives in both, and what is retained in one is not in the other.
    let mut on_the_left = mqtt3::Client::connect(mqtt3::options_at(left, "id"));
    let mut on_the_right = mqtt3::Client::connect(mqtt3::options_at(right, "id"));
    on_the_left.retain("kept", 1, "left");
    on_the_right.retain("kept", 1, "right");
    for filter in ["#", "$share/group/work"] {
        on_the_left.subscribe(filter, 1);
        on_the_right.subscribe(filter, 1);
    }
    assert_eq!(on_the_left.receive_text(), "left");
    assert_eq!(on_the_right.receive_text(), "right");
    on_the_left.publish("work", 1, "on the left");
    on_the_right.publish("work", 1, "on the right");
    for (client, text) in [(&mut on_the_left, "on the left"), (&mut on_the_right, "on the right")] {
        // Once as everything, once as the share.
        assert_eq!([client.receive_text(), client.receive_text()], [text, text]);
    }
    // Two listeners of one mountpoint serve the same clients.
    let mut elsewhere = mqtt3::Client::connect(mqtt3::options_at(right_too, "other"));
    elsewhere.publish("news", 1, "from the other listener");
    assert_eq!(on_the_right.receive_text(), "from the other listener");
    let _takes_over = mqtt3::Client::connect(mqtt3::options_at(right_too, "id"));
    on_the_right.closed();
    on_the_left.publish("marker", 1, "still here");
    assert_eq!(on_the_left.receive_text(), "still here");
}

#[test]
fn a_listener_speaks_its_configured_versions() {
    let listener = |name: &str, protocols: &str| {
        format!("[listeners.{name}]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\nprotocols = [{protocols}]\n")
    };
    let broker = Broker::configured(&format!(
        "shards = 2\n{}{}",
        listener("new", "\"5\""),
        listener("old", "\"3.1\", \"3.1.1\"")
    ));
    let (new, old) = (broker.port_of("new"), broker.port_of("old"));
    mqtt5::Client::connect(mqtt5::options_at(new, "id"));
    mqtt3::Client::connect(mqtt3::options_at(old, "id"));
    let refused = mqtt3::Client::try_connect(mqtt3::options_at(new, "id")).err();
    let code = ConnectReturnCode::RefusedProtocolVersion;
    let is_for_version =
        |error: &ConnectionError| matches!(error, ConnectionError::ConnectionRefused(is) if *is == code);
    assert!(refused.as_deref().is_some_and(is_for_version), "{refused:?}");
    let refused = mqtt5::Client::refused(mqtt5::options_at(old, "id"));
    assert_eq!(refused, mqtt5::ConnectReturnCode::UnsupportedProtocolVersion);
}

#[test]
fn a_listener_limits_what_its_clients_send() {
    let broker = Broker::configured(
        "shards = 2\n[listeners.default]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\n\
         max_packet_size = \"1KiB\"\nreceive_maximum = 7\ntopic_alias_maximum = 0\n",
    );
    let connack = mqtt5::Client::new(&broker, "client").connack_properties();
    assert_eq!((connack.max_packet_size, connack.receive_max), (Some(1024), Some(7)));
    assert_eq!(connack.topic_alias_max.unwrap_or(0), 0);
    let mut client = mqtt3::Client::new(&broker, "client");
    client.publish("topic", 1, [b'x'; 1000]);
    client.send("topic", 1, false, [b'x'; 1024]);
    client.closed();
}

#[test]
fn a_listener_counts_its_connections() {
    let broker = Broker::configured(
        "shards = 2\n[listeners.small]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\nmax_connections = 2\n\
         [listeners.default]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\n",
    );
    let port = broker.port_of("small");
    let connect = |id: &str| mqtt3::Client::connect(mqtt3::options_at(port, id));
    let (first, _second) = (connect("first"), connect("second"));
    // One too many is closed before it has said anything.
    let mut third = TcpStream::connect(("127.0.0.1", port)).expect("the kernel accepts it");
    third.set_read_timeout(Some(DEADLINE)).expect("a duration that is not zero");
    // A connection that is closed with a reset is closed, too.
    assert!(matches!(third.read(&mut [0]), Ok(0) | Err(_)));
    mqtt3::Client::new(&broker, "elsewhere");
    first.disconnect();
    // There is room again, once the broker has noticed.
    let again = std::iter::repeat_with(|| mqtt3::Client::try_reach(mqtt3::options_at(port, "again"))).flatten().next();
    again.expect("it gets in");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let broker = Broker::configured(
        "shards = 2\n[listeners.default]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\nconnect_timeout = \"1s\"\n",
    );
    let mut silent = TcpStream::connect(("127.0.0.1", broker.port())).expect("the broker listens");
    silent.set_read_timeout(Some(DEADLINE)).expect("a duration that is not zero");
    assert_eq!(silent.read(&mut [0]).expect("it is closed, not timed out"), 0);
}
