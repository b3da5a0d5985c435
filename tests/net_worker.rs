//! Workers on threads of their own: MQTT over loopback, hand-offs between shards, and hooks that answer later.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{self, Poll, Waker};
use std::thread;
use std::time::Duration;

use moormq::client::EndReason;
use moormq::codec::QoS;
use moormq::config::{Config, Limit, ListenerConfig};
use moormq::hooks::{
    Answer, Chain, ConnectRefusal, Context, Hook, HookReport, NoHooks, Notice, PublishModifiers, PublishRefusal,
    PublishRequest, Register, RegisterModifiers,
};
use moormq::net::clock::Clock;
use moormq::net::command::Command;
use moormq::net::mesh::{InboxSender, Mesh, inbox};
use moormq::net::places::Places;
use moormq::net::sockets::{SocketLimits, listen};
use moormq::net::thread::ShardThread;
use moormq::net::worker::{WorkerLimits, WorkerParts};
use moormq::shard::{Request, Setup, Shard, TurnLimits};
use moormq::sharding::Quotas;
use socket2::SockRef;

struct Shards {
    address: SocketAddr,
    inboxes: Vec<InboxSender<Command>>,
    threads: Vec<ShardThread>,
}

impl Shards {
    /// Several shards on whatever core the system likes.
    fn start<C: Chain + Clone>(shards: usize, config: Config, chain: &C) -> Shards {
        let config = Arc::new(config);
        let clock = Clock::start();
        let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (mut inboxes, mut threads) = (Vec::new(), Vec::new());
        let places = Arc::new(Places::new(&config, shards, 10_000));
        let quotas = Quotas::new(&config, shards);
        for (id, mesh) in Mesh::new(shards, 4).unwrap().into_iter().enumerate() {
            let listener = listen(address, 128, None).unwrap();
            address = SockRef::from(&listener).local_addr().unwrap().as_socket().unwrap();
            let (sender, inbox) = inbox(4, 1 << 20, mesh.doorbell());
            inboxes.push(sender);
            let sockets = SocketLimits { linger: Duration::from_millis(100), ..SocketLimits::default() };
            let limits = WorkerLimits {
                sockets,
                max_memory: Limit::UNLIMITED,
                spin: 2,
                shutdown_timeout: Duration::from_secs(600),
            };
            let (config, chain) = (Arc::clone(&config), chain.clone());
            let (places, quotas) = (Arc::clone(&places), Arc::clone(&quotas));
            let make = move || {
                let setup = Setup { id, shards, seed: 7, turn: TurnLimits::default(), version: "test", config, quotas };
                let shard = Shard::new(setup, chain, clock.now());
                WorkerParts {
                    shard,
                    mesh,
                    inbox,
                    listeners: vec![listener],
                    places,
                    clock,
                    journal: None,
                    archive: None,
                    opening: None,
                }
            };
            threads.push(ShardThread::start(id, None, limits, make).unwrap());
        }
        threads.iter().for_each(|thread| assert!(thread.started().is_ok()));
        Shards { address, inboxes, threads }
    }

    fn stop(self) {
        self.inboxes.iter().for_each(|inbox| assert!(inbox.try_send(Command::Stop, 0).is_ok()));
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn config() -> Config {
    Config { allow_anonymous: true, listeners: vec![ListenerConfig::default()], ..Config::default() }
}

fn connect(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut connect = vec![0x10, 12 + client_id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
    connect.extend([0, client_id.len() as u8]);
    connect.extend(client_id.as_bytes());
    stream.write_all(&connect).unwrap();
    expect(&mut stream, &[0x20, 2, 0, 0]);
    stream
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

fn subscribe(stream: &mut TcpStream, filter: &str) {
    let len = filter.len() as u8;
    stream.write_all(&[&[0x82, 5 + len, 0, 1, 0, len], filter.as_bytes(), &[1]].concat()).unwrap();
    expect(stream, &[0x90, 3, 0, 1, 1]);
}

fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut length = topic.len() + 2 + payload.len();
    let mut packet = vec![0x30];
    while length >= 0x80 {
        packet.push(length as u8 | 0x80);
        length >>= 7;
    }
    packet.extend([length as u8, 0, topic.len() as u8]);
    packet.extend(topic.as_bytes());
    packet.extend(payload);
    packet
}

#[test]
fn clients_meet_wherever_they_were_accepted() {
    const CLIENTS: usize = 24;
    let shards = Shards::start(3, config(), &NoHooks);
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| connect(shards.address, &format!("c{number}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        subscribe(client, &format!("to/{number}"));
    }
    // Small ones many to a send, and more than a mailbox holds; large ones from where they are, as few as a broker keeps
    // for a client that reads slowly.
    for (payload, times) in [(&b"x"[..], 500), (&[7; 100_000], 8)] {
        thread::scope(|scope| {
            for (number, stream) in clients.iter().enumerate() {
                let (mut sender, mut receiver) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                scope.spawn(move || {
                    let packet = publish(&format!("to/{}", (number + 5) % CLIENTS), payload);
                    (0..times).for_each(|_| sender.write_all(&packet).unwrap());
                });
                scope.spawn(move || {
                    let packet = publish(&format!("to/{number}"), payload);
                    (0..times).for_each(|_| expect(&mut receiver, &packet));
                });
            }
        });
    }
    shards.stop();
}

#[test]
fn a_stop_ends_the_connections_and_the_threads() {
    let shards = Shards::start(2, config(), &NoHooks);
    let address = shards.address;
    let mut clients: Vec<_> = (0..8).map(|number| connect(address, &format!("c{number}"))).collect();
    shards.stop();
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    }
    assert!(TcpStream::connect(address).is_err());
}

/// A hook that another thread answers, at a signal of the test.
#[derive(Clone)]
struct Elsewhere {
    questions: mpsc::Sender<mpsc::Sender<()>>,
    dropped: Arc<AtomicUsize>,
}

/// Counts the futures that were dropped, finished or not.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Hook for Elsewhere {
    type State = ();

    fn auth_on_register(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        let (yes, answer) = mpsc::channel();
        self.questions.send(yes).unwrap();
        let dropped = Dropped(Arc::clone(&self.dropped));
        Answer::later(async move {
            let _dropped = dropped;
            let answer = glommio::executor().spawn_blocking(move || answer.recv()).await;
            answer.unwrap();
            Answer::Ok(RegisterModifiers::default())
        })
    }
}

#[test]
fn a_shard_serves_others_while_a_hook_thinks_and_wakes_for_its_answer() {
    let (questions, asked) = mpsc::channel();
    let dropped = Arc::new(AtomicUsize::new(0));
    let hook = Elsewhere { questions, dropped: Arc::clone(&dropped) };
    let shards = Shards::start(1, config(), &NoHooks.hook(hook));
    let address = shards.address;
    let answer_next = || asked.recv().unwrap().send(()).unwrap();

    let first = thread::spawn(move || connect(address, "first"));
    answer_next();
    let mut first = first.join().unwrap();
    subscribe(&mut first, "echo");

    // While the second client waits, the first is served: asleep in the executor, and under load.
    let second = thread::spawn(move || connect(address, "second"));
    let yes = asked.recv().unwrap();
    for _ in 0..100 {
        first.write_all(&publish("echo", b"still here")).unwrap();
        expect(&mut first, &publish("echo", b"still here"));
    }
    yes.send(()).unwrap();
    second.join().unwrap();

    // An answer comes through while the shard never has nothing to do.
    let third = thread::spawn(move || connect(address, "third"));
    let yes = asked.recv().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let busy = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::SeqCst) {
                let many = publish("echo", b"busy").repeat(50);
                first.write_all(&many).unwrap();
                expect(&mut first, &many);
            }
        }
    });
    yes.send(()).unwrap();
    third.join().unwrap();
    done.store(true, Ordering::SeqCst);
    busy.join().unwrap();
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    shards.stop();
}

/// The signal that a hook waits for, and the waker of the waiting task.
#[derive(Default)]
struct Signal {
    given: AtomicBool,
    waker: Mutex<Option<Waker>>,
    polls: AtomicUsize,
}

impl Signal {
    /// The waker of the waiting task, once there is one.
    fn waker(&self) -> Waker {
        loop {
            if let Some(waker) = self.waker.lock().unwrap().clone() {
                return waker;
            }
            thread::yield_now();
        }
    }

    fn poll(&self, cx: &task::Context<'_>) -> Poll<()> {
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        self.polls.fetch_add(1, Ordering::SeqCst);
        if self.given.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Waits at each publish for a signal from another thread.
#[derive(Clone)]
struct Signalled {
    asked: mpsc::Sender<Arc<Signal>>,
}

impl Hook for Signalled {
    type State = ();

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        if publish.topic != "ask" {
            return Answer::ok();
        }
        let signal = Arc::new(Signal::default());
        self.asked.send(Arc::clone(&signal)).unwrap();
        Answer::later(poll_fn(move |cx| signal.poll(cx).map(|()| Answer::ok())))
    }
}

/// PUBLISH to `ask` at QoS 1 with this packet id.
fn ask(stream: &mut TcpStream, id: u16) {
    let [high, low] = id.to_be_bytes();
    stream.write_all(&[0x32, 7, 0, 3, b'a', b's', b'k', high, low]).unwrap();
}

#[test]
fn hooks_are_woken_from_other_threads_at_any_time() {
    const TIMES: u16 = 300;
    let (sender, asked) = mpsc::channel::<Arc<Signal>>();
    let shards = Shards::start(2, config(), &NoHooks.hook(Signalled { asked: sender }));
    let address = shards.address;
    // Two threads wake one hook, without reason as a rule; the shard sleeps between the questions, or works.
    let waking = thread::spawn(move || {
        for number in 0..2 * TIMES {
            let signal = asked.recv().unwrap();
            let waker = signal.waker();
            let other = thread::spawn({
                let waker = waker.clone();
                move || (0..number % 7).for_each(|_| waker.wake_by_ref())
            });
            (0..number % 5).for_each(|_| waker.wake_by_ref());
            signal.given.store(true, Ordering::SeqCst);
            waker.wake();
            other.join().unwrap();
        }
        asked
    });
    let clients = ["one", "other"].map(|name| {
        thread::spawn(move || {
            let mut client = connect(address, name);
            for id in 1..=TIMES {
                ask(&mut client, id);
                let [high, low] = id.to_be_bytes();
                expect(&mut client, &[0x40, 2, high, low]);
            }
            client
        })
    });
    let [mut client, leaver] = clients.map(|client| client.join().unwrap());
    let asked = waking.join().unwrap();

    // The client is gone before its hook is woken, then the hook, and in the end the shard.
    let mut leaver = leaver;
    ask(&mut leaver, 1);
    let signal = asked.recv().unwrap();
    let waker = signal.waker();
    drop(leaver);
    while Arc::strong_count(&signal) > 1 {
        thread::yield_now();
    }
    let polls = signal.polls.load(Ordering::SeqCst);
    signal.given.store(true, Ordering::SeqCst);
    let waking = thread::spawn({
        let waker = waker.clone();
        move || (0..1000).for_each(|_| waker.wake_by_ref())
    });
    for _ in 0..50 {
        client.write_all(&[0xC0, 0]).unwrap();
        expect(&mut client, &[0xD0, 0]);
    }
    waking.join().unwrap();
    assert_eq!(signal.polls.load(Ordering::SeqCst), polls, "nobody asks it any more");
    let (answer, answers) = crossbeam::channel::bounded(2);
    for inbox in &shards.inboxes {
        assert!(inbox.try_send(Command::Hooks { answer: answer.clone() }, 0).is_ok());
    }
    let mut reports = Vec::new();
    (0..2).for_each(|_| HookReport::add(&mut reports, &answers.recv().unwrap().1));
    let counts = reports.iter().find(|report| report.hook == "auth_on_publish").unwrap().counts;
    let times = u64::from(2 * TIMES);
    assert_eq!((counts.calls, counts.later, counts.ok), (times + 1, times + 1, times));
    shards.stop();
    thread::spawn(move || waker.wake()).join().unwrap();
}

/// A hook with later work in `on_client_gone` that waits for another thread.
#[derive(Clone)]
struct Farewell {
    asked: mpsc::Sender<Arc<Signal>>,
    done: Arc<AtomicUsize>,
}

impl Hook for Farewell {
    type State = ();

    fn on_client_gone(&mut self, cx: &mut Notice<'_, ()>, _: EndReason) {
        let (signal, done) = (Arc::new(Signal::default()), Arc::clone(&self.done));
        self.asked.send(Arc::clone(&signal)).unwrap();
        cx.later(async move {
            poll_fn(|cx| signal.poll(cx)).await;
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
}

#[test]
fn a_stop_waits_for_what_hooks_have_begun() {
    let (sender, asked) = mpsc::channel();
    let done = Arc::new(AtomicUsize::new(0));
    // The test may take its time.
    let mut patient = config();
    patient.hooks.later_deadline = Duration::from_secs(600);
    let shards = Shards::start(2, patient, &NoHooks.hook(Farewell { asked: sender, done: Arc::clone(&done) }));
    let clients: Vec<_> = (0..6).map(|number| connect(shards.address, &format!("c{number}"))).collect();
    let stopping = thread::spawn(move || shards.stop());
    let signals: Vec<_> = clients.iter().map(|_| asked.recv().unwrap()).collect();
    for signal in signals {
        assert!(!stopping.is_finished());
        let waker = signal.waker();
        signal.given.store(true, Ordering::SeqCst);
        waker.wake();
    }
    stopping.join().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 6);
}

/// Stands still when it has to decide on a publish to `stop`, and blocks its shard so.
#[derive(Clone)]
struct Blocking {
    entered: mpsc::Sender<mpsc::Sender<()>>,
}

impl Hook for Blocking {
    type State = ();

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        if publish.topic == "stop" {
            let (go_on, told) = mpsc::channel();
            self.entered.send(go_on).unwrap();
            told.recv().unwrap();
        }
        Answer::ok()
    }
}

/// It waits in the inbox, which is bounded, while what is asked for is done; in the end all of it comes, in order.
#[test]
fn what_the_program_publishes_to_a_shard_that_stands_still_waits_in_the_inbox() {
    let (entered, blocked) = mpsc::channel();
    let shards = Shards::start(2, config(), &NoHooks.hook(Blocking { entered }));
    // The shard that is blocked has the subscriber; the program publishes to the other one.
    let mut client = connect(shards.address, "c");
    subscribe(&mut client, "t");
    client.write_all(&publish("stop", b"")).unwrap();
    let go_on = blocked.recv().unwrap();
    let (answer, answers) = crossbeam::channel::bounded(2);
    for inbox in &shards.inboxes {
        assert!(inbox.try_send(Command::Hooks { answer: answer.clone() }, 0).is_ok());
    }
    let home = answers.recv().unwrap().0;
    let inbox = &shards.inboxes[home];
    let command = |number: u32| {
        Command::Request(Request::Publish {
            mountpoint: "".into(),
            topic: "t".into(),
            payload: format!("{number:04}").into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Default::default(),
            expiry: None,
        })
    };
    // It is full for good when nothing leaves it though the shard answers what it is asked.
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 {
        let command = command(sent);
        let bytes = command.bytes();
        if inbox.try_send(command, bytes).is_ok() {
            (sent, refused) = (sent + 1, 0);
            assert!(sent < 1000, "it has a bound");
            continue;
        }
        refused += 1;
        let (answer, answers) = crossbeam::channel::bounded(1);
        assert!(inbox.try_send(Command::Hooks { answer }, 0).is_ok(), "there is room for others");
        assert_eq!(answers.recv().unwrap().0, home);
    }
    go_on.send(()).unwrap();
    for number in 0..sent {
        expect(&mut client, &publish("t", format!("{number:04}").as_bytes()));
    }
    shards.stop();
}
