//! A client that leaves and is back at once, on another shard: what it sent before is served before.

use crate::broker::Broker;
use crate::raw_connection::{Connect, Disconnect, Packet, ProtocolVersion, RawConnection, ReasonCode, Will, clean};
use crate::{mqtt3, on_every_number_of_shards};

on_every_number_of_shards![a_client_that_leaves_and_is_back_at_once_leaves_no_will];

/// The kernel has its DISCONNECT when its CONNECT comes: that may not be overtaken on any shard.
fn a_client_that_leaves_and_is_back_at_once_leaves_no_will(broker: Broker) {
    const ROUNDS: usize = 1000;
    let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
    let mut watcher = mqtt3::Client::new(&broker, "watcher");
    watcher.subscribe("will/#", 0);
    let will = Some(Will { topic: "will/of-it", payload: b"gone", ..Will::default() });
    let connect = |id: &String| {
        let connect = Connect { will, ..clean(ProtocolVersion::V311, id) };
        RawConnection::connect(&broker, connect)
    };
    // Some ids, so that shards of both connections differ often.
    let ids: Vec<String> = (0..8).map(|number| format!("back-at-once-{number}")).collect();
    let mut connections: Vec<_> = ids.iter().map(connect).collect();
    for round in 0..ROUNDS {
        let at = round % ids.len();
        connections[at].send_packet(&goodbye);
        let new = connect(&ids[at]);
        assert_eq!(std::mem::replace(&mut connections[at], new).end(), None, "round {round}");
    }
    for mut connection in connections {
        connection.send_packet(&goodbye);
    }
    mqtt3::Client::new(&broker, "end").publish("will/end", 1, "end");
    assert_eq!(watcher.receive_text(), "end", "no will came before it");
}
