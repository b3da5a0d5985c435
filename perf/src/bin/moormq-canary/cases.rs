//! What is asked of the broker, each by clients that are allowed to.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use moormq::codec::{PacketType, QoS, ReasonCode};

use crate::client::{self, Client};
use crate::scene::Scene;
use moormq_perf_shared::under_test::Failure;

/// One of them.
pub struct Case {
    pub name: &'static str,
    /// Whether clients need a password.
    pub logins: bool,
    /// Settings of the broker that only this case has.
    pub settings: &'static str,
    pub run: fn(&mut Scene) -> Result<(), Failure>,
}

/// All of them.
pub const CASES: [Case; 15] = [
    case("subscribes", subscribes),
    case("filters", filters),
    Case { settings: "limits.max_filters_per_subscribe = 65535", ..case("filters_raised", filters_raised) },
    case("million", million),
    case("subscriptions", subscriptions),
    case("messages_expire", messages_expire),
    case("sessions_expire", sessions_expire),
    case("crowd", crowd),
    case("flood", flood),
    case("stalled", stalled),
    Case { settings: "limits.max_inflight_messages = 65535", ..case("read_on", read_on) },
    Case { settings: "queue.max_offline_messages = \"unlimited\"", ..case("queue_expires", queue_expires) },
    case("come_back", come_back),
    case("sleepers", sleepers),
    Case { logins: true, ..case("logins", logins) },
];

const fn case(name: &'static str, run: fn(&mut Scene) -> Result<(), Failure>) -> Case {
    Case { name, logins: false, settings: "", run }
}

/// Filters in a packet that has very many.
const MANY_FILTERS: usize = 50_000;
/// How long the first case goes on: it asks for twenty million messages.
const SUBSCRIBES: Duration = Duration::from_secs(5);
/// How long the publisher goes on whose subscribers do not read.
const STALLED: Duration = Duration::from_secs(8);
/// Large messages that fill what the kernel and the broker have for the output of a client, and small ones that wait behind them.
const LARGE_BEFORE: usize = 30;
const SMALL_BEHIND: usize = 6000;
/// How often those come back who do not read.
const COMES_BACK: Duration = Duration::from_millis(400);
/// How long one publishes to those, and to others who do not read.
const GATEWAY: Duration = Duration::from_secs(15);
/// What a gateway publishes at a time.
static READING: [u8; 20_000] = [b'r'; 20_000];
/// Packets in one write, and clients that are between CONNECT and ready at a time, where many are prepared.
const AT_A_TIME: usize = 500;
/// Clients from one address, so that ports suffice.
const PER_ADDRESS: usize = 20_000;
/// Seconds until those messages and sessions expire that do so together; so long it may take to make them.
const EXPIRY: u64 = 60;

/// 10,000 retained messages, and 2,000 SUBSCRIBEs to `#` in one write.
fn subscribes(scene: &mut Scene) -> Result<(), Failure> {
    retain(scene, scene.some(10_000), None)?;
    let mut greedy = scene.client("greedy")?;
    let all = ["#".to_owned()];
    let count = scene.some(2000);
    scene.during("2,000 SUBSCRIBEs to # in one write, 10,000 retained", || {
        let mut reader = greedy.other_half()?;
        let reading = thread::spawn(move || reader.count_messages(usize::MAX, Instant::now() + SUBSCRIBES));
        greedy.send(|out| (0..count).for_each(|_| client::subscribe(&all, out)))?;
        let messages = reading.join().map_err(|_| "the reader died")??;
        Ok(format!("{messages} messages in {SUBSCRIBES:?}"))
    })
}

/// One SUBSCRIBE with very many filters, and an UNSUBSCRIBE with as many as are taken by default.
fn filters(scene: &mut Scene) -> Result<(), Failure> {
    let filters = names("one", MANY_FILTERS);
    let mut greedy = scene.client("greedy")?;
    let subscribes = "one SUBSCRIBE with 50,000 filters, of which 1,024 are taken by default";
    asks(scene, subscribes, &mut greedy, PacketType::Suback, |out| client::subscribe_at_once(&filters, out))?;
    let some = &filters[..client::FILTERS];
    asks(scene, "one UNSUBSCRIBE with 1,024", &mut greedy, PacketType::Unsuback, |out| client::unsubscribe(some, out))
}

/// The same where a setting allows all of them.
fn filters_raised(scene: &mut Scene) -> Result<(), Failure> {
    let filters = names("one", MANY_FILTERS);
    let mut greedy = scene.client("greedy")?;
    let subscribes = "max_filters_per_subscribe raised: one SUBSCRIBE with 50,000 filters";
    asks(scene, subscribes, &mut greedy, PacketType::Suback, |out| client::subscribe_at_once(&filters, out))?;
    let unsubscribes = "max_filters_per_subscribe raised: one UNSUBSCRIBE with them";
    asks(scene, unsubscribes, &mut greedy, PacketType::Unsuback, |out| client::unsubscribe_at_once(&filters, out))
}

/// A client asks for something with one packet, and gets the answer.
fn asks(
    scene: &mut Scene,
    what: &'static str,
    client: &mut Client,
    answer: PacketType,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Failure> {
    scene.during(what, || {
        client.send(write)?;
        client.answers(answer, 1)?;
        Ok(String::new())
    })
}

/// A million retained messages for one subscriber.
fn million(scene: &mut Scene) -> Result<(), Failure> {
    let count = scene.some(1_000_000);
    retain(scene, count, None)?;
    let mut greedy = scene.client("greedy")?;
    scene.during("# over a million retained messages", || {
        let begun = Instant::now();
        greedy.send(|out| client::subscribe(&["retained/#".to_owned()], out))?;
        let messages = greedy.count_messages(count, begun + Duration::from_secs(60))?;
        Ok(format!("{messages} messages in {:.1} s", begun.elapsed().as_secs_f64()))
    })
}

/// The end of 100,000 subscriptions of one session, by UNSUBSCRIBE and by its death.
fn subscriptions(scene: &mut Scene) -> Result<(), Failure> {
    let filters = names("many", scene.some(100_000));
    let mut greedy = scene.client("greedy")?;
    greedy.subscribe(&filters)?;
    scene.during("UNSUBSCRIBE of 100,000 subscriptions, in 98 packets and one write", || {
        greedy.send(|out| client::unsubscribe(&filters, out))?;
        greedy.answers(PacketType::Unsuback, filters.len().div_ceil(client::FILTERS))?;
        Ok(String::new())
    })?;
    greedy.subscribe(&filters)?;
    scene.during("death of a session with 100,000 subscriptions", || {
        greedy.die();
        thread::sleep(Duration::from_secs(1));
        Ok(String::new())
    })
}

/// 100,000 retained messages that expire in the same second.
fn messages_expire(scene: &mut Scene) -> Result<(), Failure> {
    let at = Instant::now() + Duration::from_secs(EXPIRY);
    retain(scene, scene.some(100_000), Some(at))?;
    thread::sleep(at.saturating_duration_since(Instant::now() + Duration::from_secs(2)));
    scene.during("100,000 retained messages expire in one second", || {
        thread::sleep(Duration::from_secs(5));
        Ok(String::new())
    })
}

/// 50,000 sessions that expire in the same second.
fn sessions_expire(scene: &mut Scene) -> Result<(), Failure> {
    let at = Instant::now() + Duration::from_secs(EXPIRY);
    let ids = names("sleeper", scene.some(50_000));
    for ids in ids.chunks(AT_A_TIME) {
        let mut clients = Vec::with_capacity(ids.len());
        for id in ids {
            let mut client = Client::begin(scene.address, None)?;
            client.send(|out| {
                client::connect_for(id, 3600, out);
                client::subscribe(&[format!("to/{id}")], out);
                client::disconnect_for(seconds_until(at), out);
            })?;
            clients.push(client);
        }
        clients.iter_mut().try_for_each(|client| client.answers(PacketType::Suback, 1))?;
    }
    if Instant::now() > at {
        return Err("the sessions are not made in time".into());
    }
    thread::sleep(at.saturating_duration_since(Instant::now() + Duration::from_secs(2)));
    scene.during("50,000 sessions expire in one second", || {
        thread::sleep(Duration::from_secs(5));
        Ok(String::new())
    })
}

/// 100,000 clients that come to one topic, get a message, and leave.
fn crowd(scene: &mut Scene) -> Result<(), Failure> {
    let ids = names("crowd", scene.clients(100_000));
    let mut clients = Vec::with_capacity(ids.len());
    let address = scene.address;
    let mut publisher = scene.client("publisher")?;
    scene.during("as many clients as there may be open files, 100,000 at most, come to one topic", || {
        let begun = Instant::now();
        for ids in ids.chunks(AT_A_TIME) {
            let first = clients.len();
            for id in ids {
                let from = Ipv4Addr::new(127, 0, 0, 2 + (clients.len() / PER_ADDRESS) as u8);
                let mut client = Client::begin(address, Some(from))?;
                client.send(|out| {
                    client::connect(id, None, out);
                    client::subscribe(&["square".to_owned()], out);
                })?;
                clients.push(client);
            }
            clients[first..].iter_mut().try_for_each(|client| client.answers(PacketType::Suback, 1))?;
        }
        Ok(format!("{} clients in {:.1} s", clients.len(), begun.elapsed().as_secs_f64()))
    })?;
    scene.during("a message at QoS 0 to all of them, ten times", || {
        let begun = Instant::now();
        for _ in 0..10 {
            publisher.publish("square", b"news for all", QoS::AtMostOnce, false)?;
            // The last ones wait for the message; the others have it in their sockets.
            clients.iter_mut().rev().try_for_each(|client| client.answers(PacketType::Publish, 1))?;
        }
        Ok(format!("in {:.1} s", begun.elapsed().as_secs_f64()))
    })?;
    scene.during("all of them leave, without DISCONNECT", || {
        clients.into_iter().for_each(Client::die);
        thread::sleep(Duration::from_secs(3));
        Ok(String::new())
    })
}

/// 10 MB of small messages in one write: nobody wants them, then somebody does.
fn flood(scene: &mut Scene) -> Result<(), Failure> {
    let messages = scene.some(500_000);
    let mut flooder = scene.client("flooder")?;
    let write = |out: &mut Vec<u8>| {
        (0..messages).for_each(|_| client::publish("flood/x", b"12345678", QoS::AtMostOnce, false, None, out));
    };
    scene.during("10 MB of small messages at QoS 0 in one write, to nobody", || {
        flooder.send(write)?;
        flooder.served()?;
        Ok(String::new())
    })?;
    let mut reader = scene.client("reader")?;
    reader.subscribe(&["flood/#".to_owned()])?;
    scene.during("the same to one who reads", || {
        let reading = thread::spawn(move || reader.count_messages(messages, Instant::now() + Duration::from_secs(20)));
        flooder.send(write)?;
        flooder.served()?;
        let read = reading.join().map_err(|_| "the reader died")??;
        Ok(format!("{read} of {messages} messages"))
    })
}

/// One publisher at full speed to 500 subscribers that do not read.
fn stalled(scene: &mut Scene) -> Result<(), Failure> {
    let mut sleepers = Vec::new();
    for id in names("sleeper", scene.some(500)) {
        let mut client = scene.client(&id)?;
        client.take_little()?;
        client.subscribe(&["stalled/x".to_owned()])?;
        sleepers.push(client);
    }
    let mut publisher = scene.client("publisher")?;
    scene.during("500 subscribers that do not read, one publisher at full speed, 8 s", || {
        let begun = Instant::now();
        let mut messages = 0;
        while begun.elapsed() < STALLED {
            publisher.send(|out| {
                (0..100).for_each(|_| client::publish("stalled/x", &[b'z'; 100], QoS::AtMostOnce, false, None, out));
            })?;
            messages += 100;
        }
        Ok(format!("{messages} messages published"))
    })
}

/// Subscribers that have not read, and read on all at once, when a lot waits for each.
fn read_on(scene: &mut Scene) -> Result<(), Failure> {
    let mut readers = Vec::new();
    for id in names("reader", scene.some(500)) {
        let mut client = scene.client(&id)?;
        client.take_little()?;
        client.send(|out| client::subscribe_reliably("stalled/x", out))?;
        client.answers(PacketType::Suback, 1)?;
        readers.push(client);
    }
    let mut publisher = scene.client("publisher")?;
    // What the kernel and the output take, then what waits behind that.
    for _ in 0..LARGE_BEFORE {
        publisher.publish("stalled/x", &READING, QoS::AtLeastOnce, false)?;
        publisher.served()?;
    }
    for _ in 0..SMALL_BEHIND / 100 {
        publisher.send(|out| {
            (0..100).for_each(|_| client::publish("stalled/x", b"12345678", QoS::AtLeastOnce, false, None, out));
        })?;
        publisher.served()?;
    }
    let all = LARGE_BEFORE + SMALL_BEHIND;
    scene.during(
        "500 subscribers that have not read, for each of which 6,000 small messages wait, read on at once",
        || {
            let until = Instant::now() + Duration::from_secs(30);
            let reading: Vec<_> = readers
                .into_iter()
                .map(|mut client| {
                    thread::spawn(move || client.count_messages(all, until).map_err(|failure| failure.to_string()))
                })
                .collect();
            let mut messages = 0;
            for reader in reading {
                messages += reader.join().map_err(|_| "a reader died")??;
            }
            Ok(format!("{messages} messages"))
        },
    )
}

/// A queue full of messages that have expired: a large one comes, then the client.
fn queue_expires(scene: &mut Scene) -> Result<(), Failure> {
    let address = scene.address;
    let mut sleeper = Client::begin(address, None)?;
    sleeper.send(|out| {
        client::connect_for("sleeper", 3600, out);
        client::subscribe_reliably("to/sleeper", out);
        client::disconnect_for(3600, out);
    })?;
    sleeper.answers(PacketType::Suback, 1)?;
    let mut publisher = scene.client("publisher")?;
    let count = scene.some(600_000);
    let at = Instant::now() + Duration::from_secs(EXPIRY);
    for _ in 0..count.div_ceil(AT_A_TIME) {
        let expiry = Some(seconds_until(at));
        publisher.send(|out| {
            (0..AT_A_TIME).for_each(|_| client::publish("to/sleeper", b"", QoS::AtLeastOnce, false, expiry, out));
        })?;
        publisher.served()?;
    }
    thread::sleep(at.saturating_duration_since(Instant::now()) + Duration::from_secs(1));
    let large = vec![b'l'; 8_000_000];
    scene.during("8 MB to a queue of 64 MiB full of small messages that have expired", || {
        publisher.publish("to/sleeper", &large, QoS::AtLeastOnce, false)?;
        publisher.served()?;
        Ok(String::new())
    })?;
    scene.during("the client of that queue comes back", || {
        let mut sleeper = Client::begin(address, None)?;
        sleeper.send(|out| client::resume_for("sleeper", 3600, out))?;
        sleeper.answers(PacketType::Publish, 1)?;
        Ok(String::new())
    })
}

/// Subscribers to everything that do not read, and come back again and again: the canary publishes to them, too.
fn come_back(scene: &mut Scene) -> Result<(), Failure> {
    let ids = names("monitor", scene.some(20));
    let address = scene.address;
    let mut gateway = scene.client("gateway")?;
    scene.during(
        "20 subscribers to # that do not read and come back every 0.4 s, one that publishes 4 MB/s, 15 s",
        || {
            let begun = Instant::now();
            let mut monitors = Vec::new();
            let mut next = begun;
            let mut messages = 0;
            while begun.elapsed() < GATEWAY {
                if Instant::now() >= next {
                    monitors.clear();
                    for id in &ids {
                        let mut client = Client::begin(address, None)?;
                        client.take_little()?;
                        client.send(|out| {
                            client::connect(id, None, out);
                            client::subscribe(&["#".to_owned()], out);
                        })?;
                        monitors.push(client);
                    }
                    next = Instant::now() + COMES_BACK;
                }
                gateway.publish("gateway/x", &READING, QoS::AtMostOnce, false)?;
                messages += 1;
                thread::sleep(Duration::from_millis(5));
            }
            Ok(format!("{messages} messages published"))
        },
    )
}

/// Thirty subscribers that stop reading, each on a topic of its own, and one who publishes to all of them in turn.
fn sleepers(scene: &mut Scene) -> Result<(), Failure> {
    let topics = names("sleeper", scene.some(30));
    let mut sleepers = Vec::new();
    for topic in &topics {
        let mut client = scene.client(topic)?;
        client.take_little()?;
        client.subscribe(std::slice::from_ref(topic))?;
        sleepers.push(client);
    }
    let mut gateway = scene.client("gateway")?;
    scene.during("30 subscribers that stop reading, one gateway that publishes to each in turn at QoS 1, 15 s", || {
        let begun = Instant::now();
        let (mut longest, mut messages) = (Duration::ZERO, 0);
        for topic in topics.iter().cycle() {
            let asked = Instant::now();
            gateway.publish(topic, &READING, QoS::AtLeastOnce, false)?;
            gateway.answers(PacketType::Puback, 1)?;
            (longest, messages) = (longest.max(asked.elapsed()), messages + 1);
            if begun.elapsed() >= GATEWAY {
                break;
            }
        }
        Ok(format!("{messages} messages, the longest wait for a PUBACK {:.2} s", longest.as_secs_f64()))
    })
}

/// 3,000 clients with a wrong password at once.
fn logins(scene: &mut Scene) -> Result<(), Failure> {
    let ids = names("burglar", scene.some(3000));
    let address = scene.address;
    scene.during("3,000 logins with a wrong password at once", || {
        let begun = Instant::now();
        let mut clients = Vec::with_capacity(ids.len());
        for id in &ids {
            let mut client = Client::begin(address, None)?;
            client.send(|out| client::connect(id, Some(("canary", "cackles")), out))?;
            clients.push(client);
        }
        let mut refused = 0;
        for client in &mut clients {
            // Some are closed, some refused.
            refused += usize::from(client.connack().is_ok_and(|code| code != ReasonCode::Success));
        }
        Ok(format!("{refused} refused in {:.1} s", begun.elapsed().as_secs_f64()))
    })
}

/// Retains so many messages of 16 bytes.
fn retain(scene: &Scene, count: usize, until: Option<Instant>) -> Result<(), Failure> {
    let mut publisher = scene.client("publisher")?;
    let topics: Vec<String> = (0..count).map(|number| format!("retained/{}/{}", number / 100, number % 100)).collect();
    for topics in topics.chunks(AT_A_TIME) {
        let expiry = until.map(seconds_until);
        publisher.send(|out| {
            topics.iter().for_each(|topic| {
                client::publish(topic, b"0123456789abcdef", QoS::AtMostOnce, true, expiry, out);
            });
        })?;
        publisher.served()?;
    }
    Ok(())
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{kind}/{}/{}", number / 100, number % 100)).collect()
}

fn seconds_until(at: Instant) -> u32 {
    at.saturating_duration_since(Instant::now()).as_secs_f64().round() as u32
}
