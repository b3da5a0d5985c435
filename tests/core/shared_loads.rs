//! Shared subscriptions whose members have small queues, under more than these take together: nothing is dropped as long as publishers have
//! patience, and everything comes to an end.

use std::collections::BTreeSet;
use std::time::Duration;

use moormq::client::DropReason;
use moormq::codec::{AckKind, Packet, QoS};
use moormq::config::{Config, Limit};
use moormq::hooks::NoHooks;
use moormq::random::Random;

use crate::client::{Client, ConnectOptions, V5, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::world::{World, config};

const HOUR: Duration = Duration::from_secs(3600);

/// What is different from test to test.
#[derive(Clone, Copy, Debug)]
struct Load {
    shards: usize,
    members: usize,
    qos: QoS,
    /// Messages in a queue.
    most: usize,
    /// Publishers on each shard; without any, one on the first.
    publishers: usize,
    /// How many messages all of them publish.
    messages: usize,
    receive_maximum: Option<u16>,
    /// How long members take until they acknowledge.
    delay: Duration,
    patience: Duration,
}

impl Load {
    /// One publisher, which sends so many messages of QoS 1 and waits as long as it takes.
    fn of(shards: usize, most: usize, messages: usize) -> Load {
        let (qos, delay, patience) = (QoS::AtLeastOnce, Duration::ZERO, HOUR);
        Load { shards, members: 5, qos, most, publishers: 0, messages, receive_maximum: None, delay, patience }
    }

    fn config(self) -> Config {
        config(|config| {
            config.queue.max_online_messages = Limit::at_most(self.most);
            config.queue.publisher_patience = self.patience;
            config.queue.max_offline_messages = Limit::UNLIMITED;
            // Publishers have all that they send outstanding.
            config.limits.receive_maximum = u16::MAX;
        })
    }
}

struct Member {
    id: String,
    client: Client,
    /// What it has not acknowledged.
    taken: Vec<(u16, QoS)>,
}

impl Member {
    fn connect(world: &mut World<NoHooks>, id: &str, load: Load) -> Member {
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = load.receive_maximum);
        let (client, present) = Client::connect(world, 0, id, options);
        let mut member = Member { id: id.to_owned(), client, taken: Vec::new() };
        if !present {
            member.client.subscribed(world, "$share/g/work", load.qos);
        }
        member
    }

    /// Notes what it has received, answers PUBREL, and says how many others had received before.
    fn take(&mut self, world: &mut World<NoHooks>, into: &mut BTreeSet<usize>) -> usize {
        let mut again = 0;
        for got in self.client.received(world) {
            match got {
                Got::Publish(publish) => {
                    again += usize::from(!into.insert(publish.text().parse().expect("a number")));
                    self.taken.push((publish.id.expect("not QoS 0"), publish.qos));
                }
                Got::Ack(AckKind::Pubrel, id, _) => self.client.ack(world, AckKind::Pubcomp, id),
                other => panic!("{other:?}"),
            }
        }
        again
    }

    fn acknowledge(&mut self, world: &mut World<NoHooks>) {
        for (id, qos) in std::mem::take(&mut self.taken) {
            let kind = if qos == QoS::AtLeastOnce { AckKind::Puback } else { AckKind::Pubrec };
            self.client.ack(world, kind, id);
        }
    }
}

struct Play {
    load: Load,
    world: World<NoHooks>,
    members: Vec<Member>,
    publishers: Vec<Client>,
    received: BTreeSet<usize>,
    /// How many messages were received once more.
    again: usize,
    /// How many messages were acknowledged to their publishers.
    published: usize,
}

impl Play {
    /// Members in turn on each shard; publishers have sent all that they publish.
    fn begin(load: Load) -> Play {
        let mut world = World::new(load.shards, load.config(), || NoHooks);
        let member = |number| {
            let id = id_owned_by(&world, number % load.shards, &format!("member{number}-"));
            Member::connect(&mut world, &id, load)
        };
        let members = (0..load.members).map(member).collect();
        let count = (load.publishers * load.shards).max(1);
        let publisher = |number| {
            let id = id_owned_by(&world, number % load.shards, &format!("publisher{number}-"));
            Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5)).0
        };
        let publishers: Vec<Client> = (0..count).map(publisher).collect();
        for number in 0..load.messages {
            let (text, id) = (number.to_string(), 1 + (number / count) as u16);
            let mut bytes = Vec::new();
            let publisher = &publishers[number % count];
            Packet::Publish(publish("work", &text, load.qos, id)).encode(V5, &mut bytes);
            world.send_to_kernel(publisher.socket, &bytes);
        }
        Play { load, world, members, publishers, received: BTreeSet::new(), again: 0, published: 0 }
    }

    /// Publishers hear what they are answered; members take what there is, and acknowledge it after a while, but for those in `stuck`.
    fn go_on(&mut self, stuck: &[usize]) {
        self.world.settle();
        for publisher in &mut self.publishers {
            for got in publisher.received(&mut self.world) {
                match got {
                    Got::Ack(AckKind::Puback | AckKind::Pubcomp, ..) => self.published += 1,
                    Got::Ack(AckKind::Pubrec, id, _) => publisher.ack(&mut self.world, AckKind::Pubrel, id),
                    other => panic!("{other:?}"),
                }
            }
        }
        let takes = |number: &usize| !stuck.contains(number);
        for number in (0..self.load.members).filter(takes) {
            self.again += self.members[number].take(&mut self.world, &mut self.received);
        }
        if !self.load.delay.is_zero() {
            self.world.advance(self.load.delay);
        }
        for number in (0..self.load.members).filter(takes) {
            self.members[number].acknowledge(&mut self.world);
        }
    }

    /// Goes on until nothing comes any more, whatever waits for its time.
    fn end(&mut self, stuck: &[usize]) {
        let mut quiet = 0;
        while quiet < 3 {
            let before = (self.published, self.received.len());
            (0..10).for_each(|_| self.go_on(stuck));
            // A member that takes nothing and keeps nobody waiting is looked at each ten seconds.
            self.world.advance(Duration::from_secs(if quiet == 0 { 2 } else { 11 }));
            quiet = if before == (self.published, self.received.len()) { quiet + 1 } else { 0 };
        }
    }

    fn dropped(&self) -> usize {
        let all = |reason: DropReason| {
            self.world.shards.iter().map(move |shard| shard.counters().dropped[reason as usize]).sum::<u64>()
        };
        DropReason::ALL.iter().map(|reason| all(*reason)).sum::<u64>() as usize
    }

    /// All were acknowledged to their publishers, and all have come.
    fn check(&self, what: &str) {
        let messages = self.load.messages;
        let missing: Vec<_> = (0..messages).filter(|number| !self.received.contains(number)).take(10).collect();
        let outcome = (self.published, self.received.len(), self.dropped());
        assert_eq!(outcome, (messages, messages, 0), "{what}, {:?}, without {missing:?}", self.load);
    }
}

/// Each combination once.
fn loads() -> impl Iterator<Item = Load> {
    let mut loads = Vec::new();
    for shards in [2, 4] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for most in [10, 100] {
                for receive_maximum in [None, Some(1), Some(10)] {
                    let publishers = (loads.len() + usize::from(qos == QoS::ExactlyOnce)) % 3;
                    loads.push(Load { qos, publishers, receive_maximum, ..Load::of(shards, most, 1000) });
                }
            }
        }
    }
    loads.into_iter()
}

#[test]
fn a_burst_costs_no_message() {
    let many = [2, 4].map(|shards| Load { publishers: 2, receive_maximum: Some(10), ..Load::of(shards, 10, 5000) });
    for load in loads().chain(many) {
        let mut play = Play::begin(load);
        play.end(&[]);
        play.check("all take what they get");
        assert_eq!(play.again, 0, "{load:?}");
    }
}

/// Nor does it if one member never takes anything, but for what it was sent.
#[test]
fn a_burst_costs_no_message_though_a_member_takes_nothing() {
    let many = [2, 4].map(|shards| Load { receive_maximum: Some(10), ..Load::of(shards, 10, 5000) });
    for load in loads().chain(many) {
        let mut play = Play::begin(load);
        play.end(&[0]);
        let sent = play.load.receive_maximum.unwrap_or(u16::MAX);
        assert!(
            play.published == load.messages && play.received.len() + usize::from(sent) >= load.messages,
            "{load:?}: {} published, {} received",
            play.published,
            play.received.len()
        );
        play.end(&[]);
        play.check("one takes nothing at first");
        assert_eq!(play.again, 0, "{load:?}");
    }
}

/// More shards than a message was sent to before.
#[test]
fn the_one_member_that_takes_something_is_found_on_any_shard() {
    let patience = Duration::from_millis(10);
    let mut play = Play::begin(Load { members: 8, receive_maximum: Some(1), patience, ..Load::of(8, 10, 0) });
    let publisher = Client::on(&mut play.world, 0, "publisher", ConnectOptions::clean(V5));
    for takes in [7, 3] {
        let stuck: Vec<_> = (0..8).filter(|number| *number != takes).collect();
        for number in 0..500 {
            publisher.publish(&mut play.world, "work", &number.to_string(), QoS::AtLeastOnce, 1 + number);
            play.go_on(&stuck);
            play.world.advance(patience);
        }
        assert_eq!(play.dropped(), 0, "{takes} takes all that the others do not");
        // What they were sent, they take.
        play.end(&[]);
        assert_eq!((play.received.len(), play.dropped()), (500, 0));
        play.received.clear();
    }
}

/// Members that take longer than anybody waits: what is dropped for that is counted, and the rest comes.
#[test]
fn what_is_dropped_when_patience_is_over_is_counted() {
    for load in loads().filter(|load| load.receive_maximum.is_some()) {
        let delay = Duration::from_millis(50);
        let mut play = Play::begin(Load { delay, patience: Duration::from_millis(500), messages: 300, ..load });
        play.end(&[]);
        let outcome = (play.published, play.received.len() + play.dropped(), play.again);
        assert_eq!(outcome, (300, 300, 0), "{load:?}");
        // With what comes as long as publishers wait, and what they have room for then.
        assert!(play.received.len() >= load.members * load.most.min(50), "{load:?}: {}", play.received.len());
    }
}

/// With the same members nothing is, if their publishers wait.
#[test]
fn members_that_take_their_time_cost_no_message() {
    for load in loads().filter(|load| load.receive_maximum == Some(10)) {
        let mut play = Play::begin(Load { delay: Duration::from_millis(50), ..load });
        play.end(&[]);
        play.check("they acknowledge later");
    }
}

/// They break their connections, connect again, take themselves over, and move to other shards with what they have.
#[test]
fn members_that_come_and_go_and_move_cost_no_message() {
    for (seed, load) in loads().enumerate() {
        let mut random = Random::from_seed(seed as u64);
        let mut play = Play::begin(load);
        for _ in 0..60 {
            let at = random.below(load.members);
            let id = play.members[at].id.clone();
            match random.below(4) {
                0 => play.world.hang_up(play.members[at].client.socket),
                // Its bytes for the last connection are lost with that.
                1 | 2 => play.members[at] = Member::connect(&mut play.world, &id, load),
                _ => move_slot(&mut play.world, &id, random.below(load.shards)),
            }
            for _ in 0..random.below(3) {
                play.go_on(&[random.below(load.members)]);
            }
            if random.below(4) == 0 {
                play.world.advance(Duration::from_millis(500));
            }
        }
        for at in 0..load.members {
            let id = play.members[at].id.clone();
            play.members[at] = Member::connect(&mut play.world, &id, load);
        }
        play.end(&[]);
        play.check("they come and go");
    }
}
