//! What hooks keep with sessions, and is on disk if they can write it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use moormq::client::{EndReason, ExpiredReason};
use moormq::codec::{Disconnect, QoS, ReasonCode};
use moormq::hooks::{Chain, Hook, Linked, NoHooks, Notice, OfflineMessage, PublishedM5};

use super::passing;
use crate::client::{Client, ConnectOptions, V5, id_owned_by};
use crate::migrating::move_slot;
use crate::stores::{Last, stored_world};
use crate::world::{World, open_config};

/// Counts what a client has published and what it has missed, and says so when it goes.
#[derive(Clone)]
struct Counting {
    version: u32,
    told: Arc<Mutex<Vec<String>>>,
    /// Whether it says that its state has changed.
    says_so: bool,
}

#[derive(Default)]
struct Counts {
    published: u32,
    missed: u32,
}

impl Counting {
    fn new(version: u32) -> Self {
        Counting { version, told: Arc::default(), says_so: true }
    }

    fn tell(&self, what: &str, cx: &mut Notice<'_, Counts>) {
        let Counts { published, missed } = *cx.state();
        let text = format!("{} {what}: {published} published, {missed} missed", cx.client().subscriber);
        self.told.lock().expect("no test panics while it writes").push(text);
    }

    /// What was told since the last time.
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().expect("no test panics while it writes"))
    }
}

impl Hook for Counting {
    type State = Counts;

    fn state_version(&self) -> Option<u32> {
        Some(self.version)
    }

    fn store_state(&self, state: &Counts, out: &mut Vec<u8>) {
        out.extend(state.published.to_le_bytes());
        out.extend(state.missed.to_le_bytes());
    }

    fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<Counts> {
        let (published, missed) = bytes.split_first_chunk().filter(|_| version == self.version)?;
        let (published, missed) = (u32::from_le_bytes(*published), u32::from_le_bytes(missed.try_into().ok()?));
        Some(Counts { published, missed })
    }

    fn on_publish_m5(&mut self, cx: &mut Notice<'_, Counts>, _: &PublishedM5<'_>) {
        cx.state().published += 1;
        if self.says_so {
            cx.state_changed();
        }
    }

    fn on_offline_message(&mut self, cx: &mut Notice<'_, Counts>, _: &OfflineMessage<'_>) {
        cx.state().missed += 1;
        if self.says_so {
            cx.state_changed();
        }
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, Counts>, reason: EndReason) {
        self.tell(if reason == EndReason::ServerCrash { "crashed" } else { "left" }, cx);
    }

    fn on_session_expired(&mut self, cx: &mut Notice<'_, Counts>, _: ExpiredReason) {
        self.tell("expired", cx);
    }
}

type Counted = World<Linked<NoHooks, Counting>>;

fn world(shards: usize, counting: &Counting) -> Counted {
    stored_world(shards, open_config(), || NoHooks.hook(counting.clone()))
}

fn restarted(world: Counted, seconds: u64, shards: usize, counting: &Counting) -> Counted {
    let last = (Last::Lost, Duration::from_secs(seconds));
    world.restarted(last, shards, open_config(), || NoHooks.hook(counting.clone()))
}

fn publish(world: &mut Counted, client: &Client, times: u16) {
    (1..=times).for_each(|id| client.publish(world, "t", "x", QoS::AtLeastOnce, id));
}

/// How many states were restored, and how many began anew.
fn counters(world: &mut Counted) -> (u64, u64) {
    let counted = world.shards.iter().map(|shard| shard.counters());
    counted.fold((0, 0), |sum, one| (sum.0 + one.hook_states_restored, sum.1 + one.hook_states_anew))
}

#[test]
fn hooks_find_what_they_kept_when_the_broker_has_died() {
    for shards in [1, 2, 4] {
        let counting = Counting::new(1);
        let mut world = world(shards, &counting);
        let id = id_owned_by(&world, shards - 1, "c");
        let (mut client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        client.subscribed(&mut world, "u", QoS::AtLeastOnce);
        publish(&mut world, &client, 3);
        for round in 0..2 {
            // As often as it dies; with another number of shards all is written anew.
            world = restarted(world, 1, [1, 2, 4][(shards + round) % 3], &counting);
            let crashed = format!("{id} crashed: 3 published, 0 missed");
            let expected = if round == 0 { vec![crashed] } else { vec![] };
            assert_eq!(counting.told(), expected, "{shards} shards");
            assert_eq!(counters(&mut world), (1, 0));
        }
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "u", "x", QoS::AtLeastOnce, 1);
        let mut world = restarted(world, 4000, shards, &counting);
        world.advance(Duration::from_secs(1));
        assert_eq!(counting.told(), [format!("{id} expired: 3 published, 1 missed")]);
        let (_, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        assert!(!present);
    }
}

/// It begins with `Default` at each CONNECT.
#[test]
fn what_the_next_connection_brings_replaces_it() {
    let counting = Counting::new(1);
    let mut world = world(1, &counting);
    let (client, _) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V5));
    publish(&mut world, &client, 3);
    world.hang_up(client.socket);
    let (client, present) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V5));
    assert!(present);
    counting.told();
    let mut world = restarted(world, 1, 1, &counting);
    assert_eq!(counting.told(), ["c crashed: 0 published, 0 missed"]);
    drop(client);
    let (client, _) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V5));
    publish(&mut world, &client, 1);
    client.leave(&mut world, Disconnect::new(ReasonCode::Success));
    assert_eq!(counting.told(), ["c left: 1 published, 0 missed"]);
}

/// What a link does not tell of is on disk when the connection ends, and not before.
#[test]
fn what_changes_without_a_word_is_stored_when_the_connection_ends() {
    for leaves in [false, true] {
        let counting = Counting { says_so: false, ..Counting::new(1) };
        let mut world = world(1, &counting);
        let (client, _) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V5));
        publish(&mut world, &client, 3);
        if leaves {
            world.hang_up(client.socket);
            counting.told();
        }
        let mut world = restarted(world, 4000, 1, &counting);
        world.advance(Duration::from_secs(1));
        let expired = if leaves { vec!["c expired: 3 published, 0 missed"] } else { vec![] };
        let crashed = if leaves { vec![] } else { vec!["c crashed: 0 published, 0 missed"] };
        assert_eq!(counting.told(), [expired, crashed].concat());
        assert_eq!(counters(&mut world), (1, 0));
    }
}

#[test]
fn what_cannot_be_read_begins_anew_and_is_counted() {
    let counting = Counting::new(1);
    let mut world = world(1, &counting);
    let (client, _) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V5));
    publish(&mut world, &client, 3);
    let newer = Counting::new(2);
    let mut world = restarted(world, 1, 1, &newer);
    assert_eq!(newer.told(), ["c crashed: 0 published, 0 missed"]);
    assert_eq!(counters(&mut world), (0, 1));
}

#[test]
fn it_goes_with_a_session_to_another_shard() {
    for shards in [2, 4] {
        let counting = Counting::new(1);
        let mut world = world(shards, &counting);
        let id = id_owned_by(&world, 0, "c");
        let (client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        publish(&mut world, &client, 2);
        move_slot(&mut world, &id, 1);
        world.settle();
        world.advance(Duration::from_secs(1));
        assert_eq!(world.shard_of(client.socket), Some(1));
        for at in 1..3 {
            world = restarted(world, 1, shards, &counting);
            let told = counting.told();
            assert_eq!(told.len(), 2 - at, "{told:?}");
            assert!(told.iter().all(|told| told.ends_with("crashed: 2 published, 0 missed")), "{told:?}");
        }
    }
}
