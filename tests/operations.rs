//! Operations through the handle of an embedding program: the status of shards, moves of slots, rebalancing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moormq::Broker;
use moormq::broker::{Handle, LateHandle, OperationError, Publish, RequestError, StoreError};
use moormq::codec::QoS;
use moormq::config::Config;
use moormq::hooks::{Answer, Context, Hook, Notice, PublishModifiers, PublishRefusal, PublishRequest, Published};

/// As long as anything may take.
const LONG: Duration = Duration::from_secs(120);

/// A link whose hook answers later. The test gets a sender for each call; a message to it lets the hook answer.
#[derive(Clone)]
struct Slow(Sender<async_channel::Sender<()>>);

impl Hook for Slow {
    type State = ();

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        let (answer, answered) = async_channel::bounded(1);
        self.0.send(answer).expect("the test listens");
        Answer::later(async move {
            let _ = answered.recv().await;
            Answer::ok()
        })
    }
}

fn config(shards: usize) -> Config {
    let text = "allow_anonymous = true\nlisteners.default.address = '127.0.0.1:0'\nhooks.later_deadline = '1h'\n\
                limits.connect_timeout = '10m'\nsys.interval = '0s'";
    Config { shards: Some(shards), ..Config::from_toml(text, "inline").expect("it is valid") }
}

fn connect(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut packet = vec![0x10, 12 + client_id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
    packet.extend([0, client_id.len() as u8]);
    packet.extend(client_id.as_bytes());
    stream.write_all(&packet).expect("it reads");
    expect(&mut stream, &[0x20, 2, 0, 0]);
    stream
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).expect("it answers");
    assert_eq!(read, bytes);
}

/// Publishes who comes, and sends away who says `leave`.
#[derive(Clone)]
struct Greeter(LateHandle);

impl Hook for Greeter {
    type State = ();

    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, ()>, _: bool) {
        let topic = format!("hello/{}", cx.client().subscriber.client_id);
        self.0.get().publish(Publish { topic, ..Publish::default() }).expect("there is room");
    }

    fn on_publish(&mut self, cx: &mut Notice<'_, ()>, published: &Published<'_>) {
        if published.topic == "leave" {
            let client_id = &cx.client().subscriber.client_id;
            self.0.get().disconnect("", client_id, false).expect("there is room");
        }
    }
}

#[test]
fn hooks_may_publish_and_disconnect() {
    for shards in [1, 2, 4] {
        let handle = LateHandle::default();
        assert!(handle.try_get().is_none());
        let builder = Broker::builder().config(config(shards)).hook(Greeter(handle.clone()));
        let broker = builder.handle(&handle).start().expect("it starts");
        let greetings = broker.subscribe("", "hello/#", 16).expect("it subscribes");
        for number in 0..8 {
            let mut client = connect(broker.addresses()[0].1, &format!("c{number}"));
            assert_eq!(greetings.recv().expect("it is published").topic().as_str(), format!("hello/c{number}"));
            client.write_all(b"\x30\x07\x00\x05leave").expect("it reads");
            assert_eq!(client.read(&mut [0; 8]).expect("it closes"), 0);
        }
        broker.stop().expect("it stops");
    }
}

/// A client whose packet waits for a hook cannot move yet. The progress of the move shows it; when the hook has
/// answered, the client moves.
#[test]
fn a_move_that_takes_long_reports_its_progress_and_goes_on() {
    for shards in [2, 4] {
        let (questions, asked) = channel();
        let broker = Broker::builder().config(config(shards)).hook(Slow(questions)).start().expect("it starts");
        let handle = broker.handle();
        let mut client = connect(broker.addresses()[0].1, "client");
        client.write_all(&[0x32, 5, 0, 1, b't', 0, 7]).expect("it reads");
        let answer = asked.recv().expect("the hook is asked");
        // A shard with nothing else to do answers requests while it waits for the hook.
        for _ in 0..200 {
            handle.reports().expect("shards answer");
        }
        let berth = handle.find([("", "client")]).expect("shards answer").remove(0);
        let to = (berth.shard + 1) % shards;

        let mut reports = Vec::new();
        let note = |progress| {
            reports.push(progress);
            true
        };
        let error = handle
            .move_slots(&[berth.slot], to, Duration::from_millis(50), note)
            .expect_err("the move waits for the hook");
        let OperationError::Unfinished(progress) = &error else { panic!("{error}") };
        assert_eq!((progress.slots, progress.slots_left, progress.sessions_left), (1, 1, 1));
        assert_eq!(reports.last(), Some(progress));
        assert!(error.to_string().starts_with("not done in time: what is left goes on moving (slots: 1, sessions: 1)"));
        let given_up = handle.move_slots(&[berth.slot], to, LONG, |_| false);
        assert!(matches!(given_up, Err(OperationError::GivenUp(_))), "{given_up:?}");

        answer.try_send(()).expect("the hook waits");
        handle.move_slots(&[berth.slot], to, LONG, |_| true).expect("it comes");
        expect(&mut client, &[0x40, 2, 0, 7]);
        let status = handle.status(Duration::from_millis(100), 4096).expect("shards answer");
        assert_eq!(status.shards.iter().map(|shard| shard.slots).sum::<usize>(), 4096);
        assert_eq!((status.shards[to].sessions, status.shards[to].connections), (1, 1));
        assert!(status.shards.iter().all(|shard| shard.cpu_percent.is_some()));
        let [slot] = &status.slots[..] else { panic!("one slot has a client: {status:?}") };
        assert_eq!((slot.slot, slot.shard, slot.sessions), (berth.slot, to, 1));
        broker.stop().expect("it stops");
    }
}

#[test]
fn what_cannot_move_is_refused_and_moves_nothing() {
    let broker = Broker::builder().config(config(2)).start().expect("it starts");
    let handle = broker.handle();
    let error =
        |slots: &[u16], to| handle.move_slots(slots, to, LONG, |_| true).expect_err("it is refused").to_string();
    assert_eq!(error(&[7], 2), "there is no shard 2: they are numbered from 0 to 1");
    assert_eq!(error(&[7, 4096], 1), "there is no slot 4096: they are numbered from 0 to 4095");
    let owned: Vec<usize> =
        handle.status(Duration::ZERO, 0).expect("shards answer").shards.iter().map(|shard| shard.slots).collect();
    assert_eq!(owned, [2048, 2048]);
    let moved = handle.move_slots(&[6, 7, 7], 1, LONG, |_| true).expect("they move");
    assert_eq!((&moved.slots[..], &moved.already_there[..]), (&[6][..], &[7][..]));
    let even = handle.rebalance(Duration::ZERO, false, LONG, |_| true).expect("shards answer");
    assert!(even.moves.is_empty(), "without load there is nothing to move");
    broker.stop().expect("it stops");
    let stopped = handle.move_slots(&[6], 0, LONG, |_| true).expect_err("there is nobody any more");
    assert_eq!(stopped.to_string(), "the broker has stopped");
}

/// A link whose hook blocks the thread of its shard until the test lets go.
#[derive(Clone)]
struct Blocking(Arc<Mutex<Receiver<()>>>, Sender<()>);

impl Hook for Blocking {
    type State = ();

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        self.1.send(()).expect("the test listens");
        let _ = self.0.lock().expect("nobody panics").recv();
        Answer::ok()
    }
}

/// A shard that hangs is named, instead of being waited for without end.
#[test]
fn a_shard_that_hangs_is_named() {
    for shards in [1, 2, 4] {
        let ((release, released), (block, blocked)) = (channel(), channel());
        let hook = Blocking(Arc::new(Mutex::new(released)), block);
        let broker = Broker::builder().config(config(shards)).hook(hook).start().expect("it starts");
        let handle = broker.handle();
        let mut client = connect(broker.addresses()[0].1, "client");
        let hangs = handle.find([("", "client")]).expect("shards answer")[0].shard;
        client.write_all(&[0x30, 3, 0, 1, b't']).expect("it reads");
        blocked.recv().expect("the hook is asked");
        let error = handle.hooks().expect_err("a shard hangs");
        let said = error.to_string();
        assert!(said.starts_with(&format!("no answer from shard {hangs} within 10 s: a hook may block it")), "{said}");
        let error = handle.end_connection("", "client", false).expect_err("a shard hangs");
        assert!(matches!(&error, RequestError::Unanswered { shards } if *shards == [hangs]), "{error}");
        release.send(()).expect("the hook waits");
        handle.hooks().expect("shards answer again");
        broker.stop().expect("it stops");
    }
}

/// A stop does not wait for a move that does not end.
#[test]
fn a_broker_that_rebalances_can_be_stopped() {
    let mut config = config(2);
    config.rebalance.enabled = true;
    config.rebalance.interval = Duration::from_millis(100);
    let broker = Broker::builder().config(config).start().expect("it starts");
    broker.stop().expect("it stops");
}

/// A link whose hook keeps its whole shard waiting, as a hook should not.
#[derive(Clone)]
struct Stalling(Sender<Sender<()>>);

impl Hook for Stalling {
    type State = ();

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        let (answer, answered) = channel();
        self.0.send(answer).expect("the test listens");
        let _ = answered.recv();
        Answer::ok()
    }
}

fn program_publishes(handle: &Handle, topic: &str) -> Result<(), RequestError> {
    handle.publish(Publish { topic: topic.into(), payload: "message".into(), ..Publish::default() })
}

/// Publishes to `t` at QoS 1 as an MQTT 5 client, and gives the reason code of PUBACK: 0x10 if nobody subscribes.
fn code_of_publish(address: SocketAddr) -> u8 {
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01v").expect("it reads");
    let mut head = [0; 2];
    client.read_exact(&mut head).expect("it answers");
    assert_eq!(head[0], 0x20);
    client.read_exact(&mut vec![0; head[1].into()]).expect("it answers");
    client.write_all(&[0x32, 6, 0, 1, b't', 0, 7, 0]).expect("it reads");
    client.read_exact(&mut head).expect("it answers");
    let mut rest = vec![0; head[1].into()];
    client.read_exact(&mut rest).expect("it answers");
    assert_eq!((head[0], &rest[..2]), (0x40, &[0, 7][..]));
    rest.get(2).copied().unwrap_or(0)
}

/// The end of a subscription is never lost, though the inbox of its shard be full: also if it comes before the beginning.
#[test]
fn a_subscription_that_ends_while_the_inbox_is_full_is_gone() {
    for shards in [1, 2, 4] {
        let (questions, asked) = channel();
        let broker = Broker::builder().config(config(shards)).hook(Stalling(questions)).start().expect("it starts");
        let (handle, address) = (broker.handle(), broker.addresses()[0].1);
        // The shard that gets what is published through this handle, and one subscription of so many.
        let home = |number: &usize| {
            let client_id = format!("client-{number}");
            handle.find([("", &*client_id)]).expect("shards answer")[0].shard == 0
        };
        let client_id = format!("client-{}", (0..).find(home).expect("one of them is"));
        let subscriptions: Vec<_> = (0..shards).map(|_| handle.subscribe("", "t", 1).expect("it is taken")).collect();
        assert_eq!(code_of_publish(address), 0);

        let mut client = connect(address, &client_id);
        client.write_all(&[0x30, 3, 0, 1, b't']).expect("it reads");
        let answer = asked.recv().expect("the hook is asked");
        let full = loop {
            if let Err(error) = program_publishes(&handle, "elsewhere") {
                break error;
            }
        };
        assert!(matches!(full, RequestError::Full), "{full}");
        drop(subscriptions);
        answer.send(()).expect("the hook waits");
        let deadline = Instant::now() + LONG;
        while code_of_publish(address) != 0x10 {
            assert!(Instant::now() < deadline, "the broker still has subscribers");
        }
        broker.stop().expect("it stops");
    }
}

#[test]
fn what_the_program_is_too_slow_for_is_counted() {
    for shards in [1, 2, 4] {
        let mut config = config(shards);
        config.sys.interval = Duration::from_millis(100);
        let broker = Broker::builder().config(config).start().expect("it starts");
        let handle = broker.handle();
        let slow: Vec<_> = (0..3).map(|_| handle.subscribe("", "t", 2).expect("it is taken")).collect();
        (0..10).for_each(|_| program_publishes(&handle, "t").expect("there is room"));
        let counts = handle.subscribe("", "$SYS/broker/program/messages/dropped", 10_000).expect("it is taken");
        let deadline = Instant::now() + LONG;
        while counts.recv().expect("it runs").payload() != b"24" {
            assert!(Instant::now() < deadline, "eight of ten, three times");
        }
        drop(slow);
        broker.stop().expect("it stops");
    }
}

/// What the panicking shard was called, and why it died.
static DEATHS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// A link whose state cannot be made, against its contract: no barrier stands around that.
#[derive(Clone)]
struct Broken;

#[derive(Debug)]
struct Unmakeable;

impl Default for Unmakeable {
    fn default() -> Self {
        panic!("as the test wants it")
    }
}

impl Hook for Broken {
    type State = Unmakeable;
}

/// A bug in a shard: its thread dies, the program is told, and a stop does not wait for it longer than for others.
#[test]
fn the_program_is_told_of_a_shard_that_dies() {
    moormq::threads::on_death(|death| DEATHS.lock().expect("no panic while it is held").push(death.to_string()));
    for shards in [1, 2, 4] {
        let mut config = config(shards);
        config.runtime.shutdown_timeout = Duration::from_millis(500);
        let broker = Broker::builder().config(config).hook(Broken).start().expect("it starts");
        let (_, address) = broker.addresses()[0].clone();
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("a duration that is not zero");
        stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a").expect("it is connected");
        let ended = stream.read(&mut [0]);
        assert!(matches!(ended, Ok(0) | Err(_)), "its ring closes its sockets: {ended:?}");
        let start = std::time::Instant::now();
        while DEATHS.lock().expect("no panic while it is held").is_empty() {
            assert!(start.elapsed() < LONG, "the death is told");
            std::thread::yield_now();
        }
        let deaths = std::mem::take(&mut *DEATHS.lock().expect("no panic while it is held"));
        assert!(deaths.len() == 1 && deaths[0].starts_with("thread shard-"), "{deaths:?}");
        assert!(deaths[0].ends_with(" died: it panicked"), "{deaths:?}");
        broker.stop().expect_err("a shard failed");
    }
}

/// A backup that nobody waits for any more is removed; there is one at a time, and the next one is made as if nothing had been.
#[test]
fn a_backup_is_given_up_when_its_caller_says_so() {
    for shards in [1, 2, 4] {
        let folder = tempfile::tempdir().expect("a directory");
        let [store, copy] = ["store", "copy"].map(|name| folder.path().join(name));
        let mut config = config(shards);
        config.storage.path = Some(store.display().to_string());
        let broker = Broker::builder().config(config).start().expect("it can start");
        let handle = broker.handle();
        for number in 0..100 {
            let (topic, payload) = (format!("t/{number}"), vec![b'x'; 1000].into());
            let publish = Publish { topic, payload, qos: Some(QoS::AtLeastOnce), retain: true, ..Publish::default() };
            handle.publish(publish).expect("there is room");
        }
        let has_all = || {
            let status = handle.store_status().expect("the shards answer");
            status.shards.iter().map(|shard| shard.retained).sum::<u64>() == 100
        };
        let began = Instant::now();
        while !has_all() {
            assert!(began.elapsed() < LONG, "they are retained");
        }
        let given_up = handle.back_up(&copy, |progress| progress.copied == 0);
        assert!(matches!(given_up, Err(StoreError::GivenUp)), "{given_up:?}");
        assert!(!copy.exists(), "nothing is left of it");
        let mut others = Vec::new();
        let other = folder.path().join("other");
        let backed_up = handle.back_up(&copy, |_| {
            others.push(handle.back_up(&other, |_| true));
            true
        });
        let backed_up = backed_up.expect("it can be made");
        assert_eq!(backed_up.path, copy.canonicalize().expect("it is there").display().to_string());
        assert!(!others.is_empty() && others.iter().all(|other| matches!(other, Err(StoreError::Busy))), "{others:?}");
        assert!(!other.exists() && copy.join("store").exists());
        // While files are copied they stay; then they are used again, so there are no more than before.
        let files = || std::fs::read_dir(store.join("journal")).expect("it is there").count();
        assert!(files() <= 8 * shards, "{}", files());
        broker.stop().expect("it stops");
        assert!(matches!(handle.back_up(&other, |_| true), Err(StoreError::GivenUp)));
        let mut config = self::config(shards);
        config.storage.path = Some(copy.display().to_string());
        let broker = Broker::builder().config(config).start().expect("it can start");
        let status = broker.handle().store_status().expect("the shards answer");
        assert_eq!(status.shards.iter().map(|shard| shard.retained).sum::<u64>(), 100);
        broker.stop().expect("it stops");
    }
    let broker = Broker::builder().config(config(1)).start().expect("it can start");
    assert!(matches!(broker.handle().store_status(), Err(StoreError::NoStore)));
    assert!(matches!(broker.handle().back_up(&std::env::temp_dir(), |_| true), Err(StoreError::NoStore)));
    broker.stop().expect("it stops");
}
