//! What the broker says that it holds in memory, against what its allocator says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use moormq::Broker;
use moormq::codec::{
    Connect, Packet, PacketId, ProtocolVersion, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use moormq::config::Config;
use moormq::memory::{MemoryHeld, MemoryKind};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const V: ProtocolVersion = ProtocolVersion::V311;

const CONFIG: &str = "
allow_anonymous = true
shards = 2
listeners.default.address = '127.0.0.1:0'
sys.interval = 'never'
queue.max_offline_messages = 'unlimited'
queue.max_queue_bytes = 'unlimited'
limits.max_memory = 'unlimited'
";

/// The bytes that are allocated, as the allocator counts them: in its classes.
fn allocated() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("it counts");
    tikv_jemalloc_ctl::stats::allocated::read().expect("it counts")
}

fn packet_id() -> PacketId {
    PacketId::new(1).expect("it is not zero")
}

/// Loads the broker, perhaps by this publisher.
type Load = Box<dyn FnMut(&mut Client)>;

struct Client(TcpStream);

impl Client {
    fn connect(broker: SocketAddr, id: &str, clean: bool) -> Self {
        let mut client = Client(TcpStream::connect(broker).expect("the broker listens"));
        let connect = Connect { clean_start: clean, keep_alive: 0, ..Connect::new(V, id) };
        client.send(&Packet::Connect(connect));
        client.read(4);
        client
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(V, &mut bytes);
        self.0.write_all(&bytes).expect("the broker reads");
    }

    fn read(&mut self, bytes: usize) {
        let mut came = vec![0; bytes];
        self.0.read_exact(&mut came).expect("the broker answers");
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let filters = [SubscribeFilter { filter, options }];
        self.send(&Packet::Subscribe(Subscribe::new(packet_id(), &filters[..])));
        self.read(5);
    }

    /// Publishes so many bytes to each of these topics; all have been taken when it returns.
    fn publish(&mut self, topics: impl Iterator<Item = String>, payload: usize, qos: QoS, retain: bool) {
        let payload = vec![7; payload];
        for topic in topics {
            let packet_id = (qos != QoS::AtMostOnce).then(packet_id);
            let publish = Publish { topic: &topic, payload: &payload, qos, retain, packet_id, ..Publish::default() };
            self.send(&Packet::Publish(publish));
            if qos == QoS::AtLeastOnce {
                self.read(4);
            }
        }
        self.send(&Packet::Pingreq);
        self.read(2);
    }

    fn leave(mut self) {
        self.0.write_all(b"\xe0\0").expect("the broker reads");
        self.0.read_to_end(&mut Vec::new()).expect("the broker closes");
    }
}

/// Loads a broker, and compares what it holds more than before.
#[test]
fn the_sum_of_all_kinds_is_what_the_allocator_has_given() {
    let config = Config::from_toml(CONFIG, "test").expect("it is valid");
    let broker = Broker::builder().config(config).start().expect("it starts");
    let address = broker.addresses()[0].1;
    // What is made once, whatever comes, is made before.
    let mut first = Client::connect(address, "first", true);
    first.subscribe("first", QoS::AtMostOnce);
    first.publish(["first".to_owned()].into_iter(), 10, QoS::AtMostOnce, false);
    first.leave();
    let mut publisher = Client::connect(address, "publisher", true);

    let mut loads: Vec<(&str, Load)> = Vec::new();
    let topics =
        |kind: &'static str, count: usize| (0..count).map(move |number| format!("{kind}/{}/{number}", number % 50));
    loads.push((
        "small retained messages",
        Box::new(move |publisher| {
            publisher.publish(topics("small", 20_000), 60, QoS::AtMostOnce, true);
        }),
    ));
    loads.push((
        "large retained messages",
        Box::new(move |publisher| {
            publisher.publish(topics("large", 400), 50_000, QoS::AtMostOnce, true);
        }),
    ));
    loads.push((
        "sessions with subscriptions",
        Box::new(move |_| {
            for number in 0..6000 {
                let mut client = Client::connect(address, &format!("device-{number}"), false);
                client.subscribe(&format!("devices/{number}/commands"), QoS::AtLeastOnce);
                client.leave();
            }
        }),
    ));
    loads.push((
        "subscriptions with wildcards",
        Box::new(move |_| {
            let mut client = Client::connect(address, "wild", false);
            (0..9000).for_each(|number| client.subscribe(&format!("site/{number}/+/state/#"), QoS::AtLeastOnce));
            client.leave();
        }),
    ));
    loads.push((
        "many at one filter",
        Box::new(move |_| {
            for number in 0..2000 {
                let mut client = Client::connect(address, &format!("reader-{number}"), false);
                client.subscribe("news", QoS::AtLeastOnce);
                client.leave();
            }
        }),
    ));
    loads.push((
        "queues that share their messages",
        Box::new(move |publisher| {
            publisher.publish((0..100).map(|_| "news".to_owned()), 10_000, QoS::AtLeastOnce, false);
        }),
    ));
    loads.push((
        "a long queue of small messages",
        Box::new(move |publisher| {
            let mut client = Client::connect(address, "long", false);
            client.subscribe("queue", QoS::AtLeastOnce);
            client.leave();
            publisher.publish((0..30_000).map(|_| "queue".to_owned()), 100, QoS::AtLeastOnce, false);
        }),
    ));

    let (allocated_first, held_first) = (allocated(), MemoryHeld::in_process());
    let mut before = (allocated_first, held_first.total());
    for (what, load) in &mut loads {
        load(&mut publisher);
        let now = (allocated(), MemoryHeld::in_process().total());
        let (given, held) = (now.0 - before.0, now.1.saturating_sub(before.1));
        let part = held as f64 / given as f64;
        println!("{what}: held {held}, allocated {given}: {part:.3}");
        assert!((0.9..1.1).contains(&part), "{what}: held {held}, allocated {given}");
        before = now;
    }
    for kind in MemoryKind::ALL {
        println!("{}: {}", kind.name(), MemoryHeld::in_process().of(kind));
    }
    let (given, held) = (before.0 - allocated_first, before.1 - held_first.total());
    let part = held as f64 / given as f64;
    println!("all: held {held}, allocated {given}: {part:.3}");
    assert!((0.9..1.1).contains(&part), "held {held}, allocated {given}");
    broker.stop().expect("it stops");
}
