//! What the broker says that it holds in memory, against what its allocator says.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use moormq::Broker;
use moormq::codec::{
    Connect, ConnectProperties, Packet, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, Subscribe,
    SubscribeFilter, SubscriptionOptions,
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
queue.max_waiting_output_bytes = '64MiB'
limits.max_inflight_messages = 65535
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

struct Client(TcpStream, ProtocolVersion);

impl Client {
    fn connect(broker: SocketAddr, id: &str, clean: bool) -> Self {
        Client::connect_with(V, broker, id, clean)
    }

    fn connect_with(version: ProtocolVersion, broker: SocketAddr, id: &str, clean: bool) -> Self {
        let mut client = Client(TcpStream::connect(broker).expect("the broker listens"), version);
        let properties = ConnectProperties { session_expiry: (!clean).then_some(3600), ..ConnectProperties::default() };
        let connect = Connect { clean_start: clean, keep_alive: 0, properties, ..Connect::new(version, id) };
        client.send(&Packet::Connect(connect));
        let mut header = [0; 2];
        client.0.read_exact(&mut header).expect("the broker answers");
        client.read(header[1].into());
        client
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.1, &mut bytes);
        self.0.write_all(&bytes).expect("the broker reads");
    }

    fn read(&mut self, bytes: usize) {
        let mut came = vec![0; bytes];
        self.0.read_exact(&mut came).expect("the broker answers");
    }

    /// Reads all that comes from now on, and answers nothing.
    fn read_on(&self) {
        let mut socket = self.0.try_clone().expect("a descriptor is left");
        std::thread::spawn(move || std::io::copy(&mut socket, &mut std::io::sink()));
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.subscribe_with(filter, qos, None);
    }

    fn subscribe_with(&mut self, filter: &str, qos: QoS, subscription_id: Option<u32>) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let filters = [SubscribeFilter { filter, options }];
        let subscribe = Subscribe { subscription_id, ..Subscribe::new(packet_id(), &filters[..]) };
        self.send(&Packet::Subscribe(subscribe));
        self.read(if self.1.is_v5() { 6 } else { 5 });
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

/// How long what is counted and what is allocated have to agree.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the test, for itself.
const NAME: &str = "the_sum_of_all_kinds_is_what_the_allocator_has_given";

/// What the allocator is told from outside of the process: not to keep for its threads what they have given back. That would count as
/// allocated, and be as much as the smaller loads.
const SETTINGS: (&str, &str) = ("_RJEM_MALLOC_CONF", "tcache:false");

/// Loads a broker, and compares what it holds more than before.
#[test]
fn the_sum_of_all_kinds_is_what_the_allocator_has_given() {
    if std::env::var_os(SETTINGS.0).is_none() {
        let mut again = Command::new(std::env::current_exe().expect("it has a name"));
        let ended = again.args(["--exact", NAME, "--nocapture"]).env(SETTINGS.0, SETTINGS.1).status();
        assert!(ended.expect("it starts").success(), "see above");
        return;
    }
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
    // Those that stay connected.
    let present = Rc::new(RefCell::new(Vec::new()));
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

    let stays = present.clone();
    loads.push((
        "messages in flight",
        Box::new(move |publisher| {
            let mut client = Client::connect(address, "window", true);
            client.subscribe("window", QoS::AtLeastOnce);
            client.read_on();
            publisher.publish((0..30_000).map(|_| "window".to_owned()), 30, QoS::AtLeastOnce, false);
            stays.borrow_mut().push(client);
        }),
    ));
    loads.push((
        "subscriptions that overlap",
        Box::new(move |_| {
            for number in 0..20 {
                let id = format!("overlapping-{number}");
                let mut client = Client::connect_with(ProtocolVersion::V5, address, &id, false);
                for wildcards in 0..64 {
                    let filter = [0, 1, 2, 3, 4, 5].map(|at| if wildcards >> at & 1 == 1 { "+" } else { "i" });
                    client.subscribe_with(&filter.join("/"), QoS::AtLeastOnce, Some(wildcards + 1));
                }
                client.leave();
            }
        }),
    ));
    loads.push((
        "Subscription Identifiers of messages that wait",
        Box::new(move |publisher| {
            // No two of them that follow each other match the same, so that they share nothing.
            let topics = (0..600).map(|number| if number % 2 == 0 { "i/i/i/i/i/i" } else { "i/i/i/i/i/x" });
            publisher.publish(topics.map(str::to_owned), 1, QoS::AtLeastOnce, false);
        }),
    ));
    loads.push((
        "shared subscriptions with long names",
        Box::new(move |_| {
            let mut client = Client::connect(address, "sharing", false);
            let name = "n".repeat(2000);
            (0..400)
                .for_each(|number| client.subscribe(&format!("$share/{name}{number}/jobs/{number}"), QoS::AtLeastOnce));
            client.leave();
        }),
    ));
    let stays = present.clone();
    loads.push((
        "QoS 2 messages that are not released",
        Box::new(move |_| {
            for number in 0..200 {
                let mut client = Client::connect(address, &format!("unreleased-{number}"), true);
                for id in 1..=200 {
                    let (qos, packet_id) = (QoS::ExactlyOnce, PacketId::new(id));
                    client.send(&Packet::Publish(Publish { topic: "nobody", qos, packet_id, ..Publish::default() }));
                }
                client.read(200 * 4);
                stays.borrow_mut().push(client);
            }
        }),
    ));
    let stays = present.clone();
    loads.push((
        "packets that have not come whole",
        Box::new(move |_| {
            for number in 0..50 {
                let mut client = Client::connect(address, &format!("half-{number}"), true);
                // A PUBLISH of a megabyte.
                client.0.write_all(b"\x30\x80\x80\x40").expect("the broker reads");
                client.0.write_all(&vec![0; 400_000]).expect("the broker reads");
                stays.borrow_mut().push(client);
            }
            while MemoryHeld::in_process().of(MemoryKind::Unread) < 50 * 400_000 {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(100));
        }),
    ));
    let stays = present.clone();
    loads.push((
        "output that is not read",
        Box::new(move |publisher| {
            let mut client = Client::connect(address, "deaf", true);
            client.subscribe("output", QoS::AtMostOnce);
            publisher.publish((0..30_000).map(|_| "output".to_owned()), 1000, QoS::AtMostOnce, false);
            stays.borrow_mut().push(client);
        }),
    ));
    let stays = present.clone();
    loads.push((
        "topics of aliases",
        Box::new(move |_| {
            for number in 0..20 {
                let mut client = Client::connect_with(ProtocolVersion::V5, address, &format!("alias-{number}"), true);
                for alias in 1..=32 {
                    let properties = PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
                    let topic = format!("{alias}{}", "t".repeat(20_000));
                    client.send(&Packet::Publish(Publish { topic: &topic, properties, ..Publish::default() }));
                }
                client.send(&Packet::Pingreq);
                client.read(2);
                stays.borrow_mut().push(client);
            }
        }),
    ));

    let (allocated_first, held_first) = (allocated(), MemoryHeld::in_process());
    let mut before = (allocated_first, held_first.total());
    for (what, load) in &mut loads {
        load(&mut publisher);
        // The broker may be at it still: while a buffer grows, both the old and the new one are there.
        let until = Instant::now() + PATIENCE;
        let (now, given, held, part) = loop {
            let now = (allocated(), MemoryHeld::in_process().total());
            let (given, held) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
            let part = held as f64 / given as f64;
            if (0.9..1.1).contains(&part) || Instant::now() > until {
                break (now, given, held, part);
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        println!("{what}: held {held}, allocated {given}: {part:.3}");
        assert!((0.9..1.1).contains(&part), "{what}: held {held}, allocated {given}");
        before = now;
    }
    for kind in MemoryKind::ALL {
        let held = MemoryHeld::in_process().of(kind);
        println!("{}: {held}", kind.name());
        // What is between shards is there only while they are busy.
        assert!(held > 500_000 || kind == MemoryKind::BetweenShards, "{}: {held}", kind.name());
    }
    let (given, held) = (before.0 - allocated_first, before.1 - held_first.total());
    let part = held as f64 / given as f64;
    println!("all: held {held}, allocated {given}: {part:.3}");
    assert!((0.9..1.1).contains(&part), "held {held}, allocated {given}");
    broker.stop().expect("it stops");
}
