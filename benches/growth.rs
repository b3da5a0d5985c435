//! How long the longest call takes while tables grow to a million entries and shrink again: in a plain table or list, and in one that
//! moves a bounded number of entries at a time.
//!
//! `cargo bench --bench growth`. Printed, not asserted: a call that is interrupted counts as long as it took.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use hashbrown::HashTable;
use moormq::deadlines::Deadlines;
use moormq::tables::{Chunks, PartedTable};
use moormq::time::Time;
use moormq::topic::{FilterTree, TopicFilter};

const ENTRIES: u32 = 1_000_000;

/// An entry whose key lies elsewhere, as client ids and filters do.
type Entry = (Arc<str>, u64);

/// A record that lies in its list.
type Record = [u64; 8];

fn main() {
    tables();
    lists();
    filters();
    deadlines();
}

/// Does something for each of a million numbers, and gives the longest time that one took.
fn longest(mut each: impl FnMut(u32)) -> Duration {
    let longest = (0..ENTRIES).map(|number| {
        let begin = Instant::now();
        each(number);
        begin.elapsed()
    });
    longest.max().unwrap_or_default()
}

fn print(what: &str, insert: Duration, remove: Duration) {
    println!("{what:32} longest insert {insert:>12.3?}, longest remove {remove:>12.3?}");
}

fn tables() {
    let seeded = RandomState::with_seeds(1, 2, 3, 4);
    let keys: Vec<Arc<str>> = (0..ENTRIES).map(|number| format!("client {number:08}").into()).collect();
    let hash = |key: &str| seeded.hash_one(key);
    let hasher = |entry: &Entry| hash(&entry.0);

    let mut plain = HashTable::new();
    let insert = longest(|number| {
        let key = &keys[number as usize];
        plain.insert_unique(hash(key), (key.clone(), 0), hasher);
    });
    let remove = longest(|number| {
        let key = &keys[number as usize];
        if let Ok(entry) = plain.find_entry(hash(key), |other| other.0 == *key) {
            entry.remove();
        }
        if plain.capacity() >= 1024 && plain.len() < plain.capacity() / 4 {
            plain.shrink_to(2 * plain.len(), hasher);
        }
    });
    print("a hash table, plain", insert, remove);

    let mut parted = PartedTable::new();
    let insert = longest(|number| {
        let key = &keys[number as usize];
        parted.insert_unique(hash(key), (key.clone(), 0), hasher);
    });
    let remove = longest(|number| {
        let key = &keys[number as usize];
        parted.remove(hash(key), |other| other.0 == *key, hasher);
    });
    print("a hash table, in parts", insert, remove);
}

fn lists() {
    let record = |number: u32| -> Record { [u64::from(number); 8] };
    let mut plain = Vec::new();
    let insert = longest(|number| plain.push(record(number)));
    let remove = longest(|_| {
        black_box(plain.pop());
        if plain.len() < plain.capacity() / 4 {
            plain.shrink_to(2 * plain.len());
        }
    });
    print("a list of 64 bytes, plain", insert, remove);

    let mut chunks = Chunks::new();
    let insert = longest(|number| chunks.push(record(number)));
    let remove = longest(|_| {
        black_box(chunks.pop());
    });
    print("a list of 64 bytes, in chunks", insert, remove);
}

fn filters() {
    let filters = |wild: &str| -> Vec<TopicFilter> {
        let text = |number: u32| format!("site/{}/device/{number:07}/{wild}", number % 100);
        (0..ENTRIES).map(|number| TopicFilter::parse(&text(number), 128).expect("it is a filter")).collect()
    };
    for (what, wild) in [("filters without wildcards", "state"), ("filters with wildcards", "+")] {
        let (filters, mut tree) = (filters(wild), FilterTree::new(1));
        let insert = longest(|number| *tree.entry(&filters[number as usize], || 0) = number);
        let remove = longest(|number| {
            black_box(tree.remove(&filters[number as usize]));
        });
        print(what, insert, remove);
    }
}

/// A million that are armed for the same seconds, as those of clients that came together.
fn deadlines() {
    let mut deadlines = Deadlines::new(Time::ZERO);
    let arm = longest(|key| deadlines.arm(Time::from_millis(60_000 + u64::from(key) % 512), key));
    let (mut longest, mut calls) = (Duration::ZERO, 0);
    loop {
        let begin = Instant::now();
        let is_more_left = deadlines.expire(Time::from_millis(61_000), 4096, &mut |key| {
            black_box(key);
        });
        longest = longest.max(begin.elapsed());
        calls += 1;
        if !is_more_left {
            break;
        }
    }
    println!("{:32} longest arm    {arm:>12.3?}, longest expire {longest:>12.3?} ({calls} calls)", "deadlines");
}
