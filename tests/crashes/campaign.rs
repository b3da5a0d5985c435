//! A campaign: one store, brokers that are killed on it one after the other, and clients that stay the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use moormq::codec::{Connect, Packet, PacketId, ProtocolVersion, QoS, Subscribe, SubscribeFilter, SubscriptionOptions};

use crate::broker::{Broker, Place, complaints};
use crate::guests::{GuestPublisher, GuestSubscriber};
use crate::judge;
use crate::message::{Kind, Mark, TOPICS};
use crate::operator::{Aim, Operated, Operator};
use crate::power::{self, Forgotten, Power};
use crate::publisher::{Log, Publisher};
use crate::round::{Common, Phase, Round};
use crate::sleeper::Sleeper;
use crate::subscriber::{Character, Habit, Subscriber, Tally};
use crate::testator::Testator;
use crate::wire::Connection;

/// Draining is given up when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(60);
const GROUPS: u8 = 2;
const TESTATORS: u16 = 3;
const SLEEPERS: usize = 3;
/// How long it is down at times: longer than what expires soon takes.
const DOWN: std::ops::Range<u64> = 1500..4500;

/// What is done how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: usize,
    /// How many kills.
    pub rounds: u32,
    /// The longest that a broker lives.
    pub longest: Duration,
    pub publishers: u16,
    /// Whether its journal is small, so that what is needed has to be written again.
    pub is_small: bool,
    /// How many segments the journal of a shard has, if not as many as it needs as a rule.
    pub segments: Option<u32>,
    pub is_flushed: bool,
    /// Whether the newest message of a queue goes first.
    pub is_lifo: bool,
    /// Whether queues are long, and moved to the archive as soon as that can be set.
    pub is_paged: bool,
    /// Whether slots move between shards.
    pub has_moves: bool,
    /// Whether clients of other people take part.
    pub has_guests: bool,
    /// If there is a disk, its power is cut whenever the broker has ended.
    pub disk: Option<power::Kind>,
}

/// What came of it.
#[derive(Default, Debug)]
pub struct Outcome {
    pub kills: u32,
    pub early: u32,
    pub stops: u32,
    pub published: u64,
    pub received: u64,
    pub shared_twice: usize,
    /// In payloads.
    pub bytes: u64,
    pub slowest_start: Duration,
    pub forgotten: Forgotten,
    /// Wills that had to come.
    pub wills: usize,
    pub operated: Operated,
    /// Sessions that had expired when their clients came back, and that were there with their messages.
    pub slept: (u32, u32),
    pub warnings: BTreeMap<String, u32>,
    pub faults: Vec<String>,
}

struct Campaign {
    plan: Plan,
    place: Place,
    power: Option<Power>,
    rng: Rng,
    common: Common,
    publishers: Vec<Publisher>,
    /// Of publishers, then of testators, then of guests.
    logs: Vec<Mutex<Log>>,
    testators: Vec<Testator>,
    guest_publishers: Vec<GuestPublisher>,
    subscribers: Vec<Subscriber>,
    guest_subscribers: Vec<GuestSubscriber>,
    /// Of subscribers, then of guests.
    tallies: Vec<Mutex<Tally>>,
    sleepers: Vec<Sleeper>,
    operator: Operator,
    /// By publisher: messages below were judged.
    judged: Vec<usize>,
    outcome: Outcome,
    /// When the broker was started.
    started: SystemTime,
}

/// Runs it until all rounds are done, or something went wrong. The store and the logs are at `directory` afterwards.
pub fn run(plan: Plan, directory: PathBuf) -> Outcome {
    let mut rng = Rng::with_seed(plan.seed);
    let (size, segments) = if plan.is_small { (4, 4) } else { (16, 8) };
    let segments = plan.segments.unwrap_or(segments);
    let mut storage = format!("segment_size = \"{size}MiB\"\nsegments = {segments}\n");
    if plan.is_flushed {
        storage.push_str("durability = \"flushed\"\n");
    }
    if plan.is_paged {
        storage.push_str("archive.gather = \"1MiB\"\n");
    }
    // There may be one of an earlier run.
    let _ = fs::remove_dir_all(&directory);
    let disk = directory.join("disk");
    fs::create_dir_all(&disk).expect("a directory can be made");
    let mounted = plan.disk.map(|kind| Power::mount(disk.clone(), kind)).transpose();
    let power = mounted.unwrap_or_else(|error| panic!("a disk has to be mounted: {error}"));
    let queue = if plan.is_lifo { "queue_type = \"lifo\"\n" } else { "" };
    let place = Place::new(directory.clone(), &disk, plan.shards, [queue, &storage]);
    let mut common = Common::default();
    common.is_ordered = !plan.is_lifo;
    let publishers = (0..plan.publishers).map(|index| Publisher::new(index, plan.is_paged, rng.fork())).collect();
    let testators = plan.publishers..plan.publishers + TESTATORS;
    let mut logs: Vec<_> = (0..testators.end).map(|_| Mutex::default()).collect();
    let testators = testators.map(|index| Testator::new(index, plan.shards == 1, rng.fork())).collect();
    let sleepers = (0..SLEEPERS).map(|index| Sleeper::new(index, plan.shards == 1, rng.fork())).collect();
    let mut subscribers = Vec::new();
    let mut tallies = Vec::new();
    for (index, character) in characters(plan.is_paged).into_iter().enumerate() {
        let (subscriber, tally) = Subscriber::new(index, character, rng.fork());
        subscribers.push(subscriber);
        tallies.push(Mutex::new(tally));
    }
    let (mut guest_publishers, mut guest_subscribers) = (Vec::new(), Vec::new());
    if plan.has_guests {
        let port = place.port;
        let mut index = logs.len() as u16..;
        let mut next = || index.next().expect("there are not so many");
        guest_publishers.push(GuestPublisher::paho(port, "5", next(), rng.fork()));
        guest_publishers.push(GuestPublisher::paho(port, "4", next(), rng.fork()));
        guest_publishers.push(GuestPublisher::mosquitto("mqttv5", next(), rng.fork()));
        guest_publishers.push(GuestPublisher::mosquitto("mqttv311", next(), rng.fork()));
        logs.extend(guest_publishers.iter().map(|_| Mutex::default()));
        let mut tally = |name: &str, qos| {
            let tally = Tally::of_guest(name.to_owned(), qos, Kind::Plain, &common);
            tallies.push(Mutex::new(tally));
        };
        for (name, version) in [("guest-paho-5", "5"), ("guest-paho-4", "4")] {
            tally(name, QoS::ExactlyOnce);
            guest_subscribers.push(GuestSubscriber::paho(port, version, name));
        }
        for (name, version) in [("guest-mosquitto-5", "mqttv5"), ("guest-mosquitto-4", "mqttv311")] {
            tally(name, QoS::AtLeastOnce);
            guest_subscribers.push(GuestSubscriber::mosquitto(port, version, name));
        }
    }
    let operator = Operator::new(&place.socket, &plan, rng.fork());
    let judged = vec![0; logs.len()];
    let outcome = Outcome::default();
    let started = SystemTime::now();
    let mut campaign = Campaign {
        plan,
        place,
        power,
        rng,
        common,
        publishers,
        logs,
        testators,
        guest_publishers,
        subscribers,
        guest_subscribers,
        tallies,
        sleepers,
        operator,
        judged,
        outcome,
        started,
    };
    campaign.play();
    let wills = campaign.logs.iter().skip(campaign.publishers.len()).take(campaign.testators.len());
    let is_due = |log: &Log| log.sent.iter().filter(|will| will.acked.is_some()).count();
    campaign.outcome.wills = wills.map(|log| is_due(&log.lock().expect("nobody panics"))).sum();
    campaign.outcome.slept = campaign.sleepers.iter().fold((0, 0), |sum, one| (sum.0 + one.expired, sum.1 + one.kept));
    campaign.outcome.operated = campaign.operator.operated();
    campaign.outcome.faults.extend(campaign.common.faults());
    if campaign.outcome.faults.is_empty() {
        campaign.outcome.faults = campaign.outcome.operated.missing(&plan);
    }
    if let Some(power) = campaign.power {
        campaign.outcome.forgotten = power.forgotten;
        if !campaign.outcome.faults.is_empty() {
            power.keep(&directory.join("kept")).expect("a disk can be copied");
        }
    }
    campaign.outcome
}

fn characters(are_more_absent: bool) -> Vec<Character> {
    use Habit::{Absent, Restless, Steady};
    let all = |kind| vec![(kind, None, None)];
    let each = |kind| (0..TOPICS).map(|topic| (kind, Some(topic), None)).collect::<Vec<_>>();
    let member = |group| vec![(Kind::Shared, None, Some(group))];
    let one = |habit, qos: u8, traits: &str, filters| Character {
        habit,
        qos: QoS::from_u8(qos).expect("it is one"),
        is_forgetful: traits.contains("forgetful"),
        is_fickle: traits.contains("fickle"),
        filters,
    };
    let mut characters = vec![
        one(Steady, 2, "", all(Kind::Plain)),
        one(Steady, 1, "", all(Kind::Plain)),
        one(Restless, 2, "", each(Kind::Plain)),
        one(Restless, 1, "", each(Kind::Plain)),
        one(Steady, 2, "fickle", each(Kind::Plain)),
        one(Restless, 2, "fickle", each(Kind::Plain)),
        one(Restless, 2, "fickle forgetful", each(Kind::Plain)),
        one(Restless, 1, "forgetful", all(Kind::Plain)),
        one(Absent, 2, "", all(Kind::Rare)),
        one(Absent, 1, "", each(Kind::Rare)),
        one(Steady, 2, "", all(Kind::Retained)),
        one(Restless, 1, "", all(Kind::Retained)),
        one(Steady, 2, "", member(0)),
        one(Restless, 2, "", member(0)),
        one(Restless, 1, "", member(0)),
        one(Restless, 2, "", member(1)),
        one(Restless, 2, "", member(1)),
        one(Steady, 2, "", all(Kind::Will)),
        one(Restless, 1, "", all(Kind::Will)),
    ];
    if are_more_absent {
        characters.extend([one(Absent, 2, "", each(Kind::Rare)), one(Absent, 1, "", all(Kind::Rare))]);
    }
    characters
}

/// What is at hand while clients run.
struct Stage<'a> {
    common: &'a Common,
    logs: &'a [Mutex<Log>],
    tallies: &'a [Mutex<Tally>],
    rng: &'a mut Rng,
    judged: &'a mut Vec<usize>,
    outcome: &'a mut Outcome,
    operator: &'a Operator,
    plan: Plan,
}

impl Stage<'_> {
    /// Waits until all that is due has come, or nothing comes any more.
    fn judge(&mut self) {
        let (mut moved, mut before) = (Instant::now(), (0, 0));
        loop {
            sleep(Duration::from_millis(50));
            let total = self.tallies.iter().map(|tally| tally.lock().expect("nobody panics").total).sum::<u64>();
            let is_busy = |log: &Mutex<Log>| log.lock().expect("nobody panics").is_busy;
            let busy = self.logs.iter().filter(|log| is_busy(log)).count();
            if before != (total, busy) {
                (moved, before) = (Instant::now(), (total, busy));
            }
            self.outcome.received = total;
            let lost = if busy == 0 { judge::lost(self.logs, self.tallies, self.judged, GROUPS) } else { Vec::new() };
            if busy == 0 && lost.is_empty() {
                break;
            }
            if !self.common.faults().is_empty() {
                return;
            }
            if moved.elapsed() > QUIET {
                self.common.fault(format!("{busy} publishers are not done, {} messages are lost", lost.len()));
                lost.into_iter().take(10).for_each(|lost| self.common.fault(lost));
                return;
            }
        }
        // What is too much may come a little later.
        sleep(Duration::from_millis(self.rng.u64(0..300)));
        for undue in judge::undue(self.logs, self.tallies, self.judged).into_iter().take(10) {
            self.common.fault(format!("undue: {undue}"));
        }
        self.outcome.shared_twice += judge::shared_twice(self.logs, self.tallies, self.judged, GROUPS);
        for (judged, log) in self.judged.iter_mut().zip(self.logs) {
            *judged = log.lock().expect("nobody panics").sent.len();
        }
    }
}

impl Campaign {
    fn play(&mut self) {
        let mut until_drain = self.rng.u32(4..15);
        while self.outcome.kills < self.plan.rounds && self.goes_on() {
            self.common.round.fetch_add(1, Ordering::SeqCst);
            until_drain -= 1;
            if self.rng.u8(..8) == 0 {
                self.kill_early();
                if !self.goes_on() {
                    return;
                }
            }
            if self.rng.u8(..8) == 0 {
                sleep(Duration::from_millis(self.rng.u64(DOWN)));
            }
            let Some(mut broker) = self.start() else { return };
            if until_drain > 0 {
                self.load(&mut broker);
            } else {
                until_drain = self.rng.u32(4..15);
                self.drain(&mut broker);
            }
            self.read_log(&broker.log());
            self.cut_power();
        }
        if self.goes_on()
            && let Some(mut broker) = self.start()
        {
            self.drain(&mut broker);
            self.read_log(&broker.log());
        }
    }

    fn goes_on(&self) -> bool {
        self.common.faults().is_empty() && self.outcome.faults.is_empty()
    }

    /// A broker that may not have come as far as to listen; or just so far, if what waited goes to the archive then.
    fn kill_early(&mut self) {
        let starting = self.place.spawn(&format!("{}-early", self.common.round()));
        let log = if self.plan.is_paged && self.rng.bool() {
            match starting.listening() {
                Ok(mut broker) => {
                    self.operator.watch_start(&self.common);
                    sleep(Duration::from_millis(self.rng.u64(0..15)));
                    self.operator.kills();
                    broker.kill();
                    broker.log()
                }
                Err(error) => return self.common.fault(error),
            }
        } else {
            sleep(Duration::from_millis(self.rng.u64(0..80)));
            starting.kill()
        };
        (self.outcome.kills, self.outcome.early) = (self.outcome.kills + 1, self.outcome.early + 1);
        self.read_log(&log);
        self.cut_power();
    }

    fn cut_power(&mut self) {
        if self.common.faults().is_empty()
            && let Some(power) = &mut self.power
            && let Err(error) = power.cut(self.rng.u64(..))
        {
            self.common.fault(error);
        }
    }

    fn start(&mut self) -> Option<Broker> {
        let began = Instant::now();
        self.started = SystemTime::now();
        match self.place.spawn(&self.common.round().to_string()).listening() {
            Ok(broker) => {
                self.outcome.slowest_start = self.outcome.slowest_start.max(began.elapsed());
                self.look_at_retained(&broker);
                Some(broker)
            }
            Err(error) => {
                self.common.fault(error);
                None
            }
        }
    }

    fn read_log(&mut self, log: &str) {
        let (errors, warnings) = complaints(log);
        errors.into_iter().for_each(|line| self.common.fault(line));
        warnings.into_iter().for_each(|line| *self.outcome.warnings.entry(line).or_default() += 1);
    }

    /// All clients in threads of their own, and `act` beside them.
    fn with_clients<T>(&mut self, broker: &mut Broker, act: impl FnOnce(&mut Stage<'_>, &mut Broker) -> T) -> T {
        let Campaign { common, publishers, testators, sleepers, logs, subscribers, tallies, .. } = self;
        let Campaign { guest_publishers, guest_subscribers, operator, rng, judged, outcome, plan, .. } = self;
        let (operator, common) = (&*operator, &*common);
        let (round, started) = (Round { common, address: broker.address }, self.started);
        thread::scope(|scope| {
            let mut log = logs.iter();
            for (publisher, log) in publishers.iter_mut().zip(&mut log) {
                scope.spawn(move || publisher.run(round, log));
            }
            for (testator, log) in testators.iter_mut().zip(&mut log) {
                scope.spawn(move || testator.run(round, log));
            }
            for (guest, log) in guest_publishers.iter_mut().zip(&mut log) {
                scope.spawn(move || guest.run(round, log));
            }
            let mut tally = tallies.iter();
            for (subscriber, tally) in subscribers.iter_mut().zip(&mut tally) {
                scope.spawn(move || subscriber.run(round, tally));
            }
            for (guest, tally) in guest_subscribers.iter_mut().zip(&mut tally) {
                scope.spawn(move || guest.run(round, tally));
            }
            for sleeper in sleepers {
                scope.spawn(move || sleeper.run(round, started));
            }
            scope.spawn(move || operator.watch(common));
            scope.spawn(move || operator.move_slots(common));
            act(&mut Stage { common, logs, tallies, rng, judged, outcome, operator, plan: *plan }, broker)
        })
    }

    fn load(&mut self, broker: &mut Broker) {
        let aim = Aim::choose(&self.plan, &self.operator.operated(), &mut self.rng);
        // For pages to be taken back, those have to come for whom they wait.
        let takes_back = aim == Some(Aim::Gone);
        self.common.set_phase(if takes_back { Phase::Drain } else { Phase::Load });
        self.with_clients(broker, |all, broker| {
            let longest = all.plan.longest.as_millis() as u64;
            let longest = if all.rng.bool() && !takes_back { longest } else { longest / 6 };
            sleep(Duration::from_millis(all.rng.u64(10..longest.max(11))));
            if let Some(aim) = aim {
                all.operator.wait_for(aim, all.common);
                sleep(Duration::from_millis(all.rng.u64(0..15)));
            }
            all.common.set_phase(Phase::Killed);
            all.operator.kills();
            broker.kill();
            all.outcome.kills += 1;
        });
    }

    fn drain(&mut self, broker: &mut Broker) {
        self.common.set_phase(Phase::Drain);
        self.with_clients(broker, |all, _| {
            all.judge();
            all.common.set_phase(Phase::Leave);
        });
        self.look_at_hanging(broker);
        if !self.goes_on() {
            return;
        }
        let logs = self.logs.iter().map(|log| log.lock().expect("nobody panics"));
        let counts = logs.map(|log| (log.sent.len() as u64, log.bytes));
        (self.outcome.published, self.outcome.bytes) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        self.look_at_retained(broker);
        if self.rng.bool() {
            if let Err(error) = broker.stop() {
                self.common.fault(error);
            }
            self.outcome.stops += 1;
            let logs = self.logs.iter().skip(self.publishers.len());
            self.testators.iter_mut().zip(logs).for_each(|(testator, log)| testator.broker_stopped(log));
        } else {
            broker.kill();
            self.outcome.kills += 1;
        }
    }

    /// If something is wrong, it may hang.
    fn look_at_hanging(&self, broker: &Broker) {
        if !self.goes_on() {
            self.place.note("threads", &broker.threads());
        }
    }

    /// A client that comes before all others looks at what is retained.
    fn look_at_retained(&self, broker: &Broker) {
        if let Err(error) = self.see_retained(broker) {
            self.common.fault(format!("retained: {error}"));
        }
        self.look_at_hanging(broker);
    }

    fn see_retained(&self, broker: &Broker) -> std::io::Result<()> {
        let (mut connection, _) = Connection::open(broker.address, &Connect::new(ProtocolVersion::V5, "retained"))?;
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters = [SubscribeFilter { filter: "r/#", options }];
        connection.send(&[Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters[..]))])?;
        let mut needed = BTreeSet::new();
        let mut may = BTreeMap::new();
        for (publisher, log) in self.logs.iter().enumerate() {
            for topic in 0..TOPICS {
                let (is_needed, values) = judge::retained(&log.lock().expect("nobody panics"), topic);
                let name = format!("{}/{publisher}/{topic}", Kind::Retained.letter());
                if is_needed {
                    needed.insert(name.clone());
                }
                may.insert(name, values);
            }
        }
        let (mut is_granted, began) = (false, Instant::now());
        while !(is_granted && needed.is_empty()) {
            connection.receive(Duration::from_millis(20), |packet, _| match packet {
                Packet::Suback(_) => is_granted = true,
                Packet::Publish(publish) => {
                    needed.remove(publish.topic);
                    let value = Mark::of(publish.payload).map(|mark| mark.number);
                    if !may.get(publish.topic).is_some_and(|may| value.is_some() && may.contains(&value)) {
                        let may = may.get(publish.topic);
                        let publisher = Mark::of(publish.payload).map_or(0, |mark| usize::from(mark.publisher));
                        let log = self.logs[publisher].lock().expect("nobody panics");
                        let sent = |number: &Option<u32>| number.and_then(|number| log.sent.get(number as usize));
                        let others: Vec<_> = may.into_iter().flatten().map(|one| (one, sent(one))).collect();
                        let what = (value, sent(&value));
                        self.common.fault(format!("retained at {}: {what:?}, not of {others:?}", publish.topic));
                    }
                }
                other => self.common.fault(format!("retained: {other:?}")),
            })?;
            if began.elapsed() > QUIET {
                self.common.fault(format!("not retained any more: {needed:?}"));
                break;
            }
        }
        Ok(())
    }
}
