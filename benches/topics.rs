//! What routing costs: finding filters by topic, topics by filter, and keeping both, at three sizes.
//!
//! `cargo bench --bench topics`. The memory of a million entries is measured once and printed first, as growth of the
//! resident set with values of 8 bytes; nothing but the trees is kept, their text included.

use std::fs;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use moormq::random::Random;
use moormq::topic::{FilterSet, FilterTree, Named, Sought, TopicFilter, TopicMap, TopicName};

const SIZES: [u32; 3] = [10, 10_000, 1_000_000];
const SITES: u32 = 100;
const MAX_LEVELS: usize = 128;
/// How many different topics are asked for in turn: enough not to sit in the cache when the tree does not.
const ASKED: usize = 1 << 16;

/// The state of device `n`, 30 bytes or so.
fn topic(n: u32) -> String {
    format!("site/{}/device/{n:07}/state", n % SITES)
}

/// Subscriptions without wildcards, one per device.
fn exact(n: u32) -> TopicFilter {
    parse(&topic(n))
}

/// Subscriptions of which one in two has wildcards, in the middle, at the end, or in front.
fn mixed(n: u32) -> TopicFilter {
    let site = n % SITES;
    parse(&match n % 8 {
        0 | 1 => format!("site/{site}/device/{n:07}/+"),
        2 => format!("site/{site}/device/{n:07}/#"),
        3 => format!("+/+/device/{n:07}/state"),
        _ => topic(n),
    })
}

fn parse(text: &str) -> TopicFilter {
    TopicFilter::parse(text, MAX_LEVELS).expect("a topic filter")
}

fn filters(size: u32, filter: fn(u32) -> TopicFilter) -> FilterTree<u64> {
    let mut tree = FilterTree::new(1);
    (0..size).for_each(|n| *tree.entry(&filter(n), || 0) = u64::from(n));
    tree
}

/// A value that is kept for a topic.
struct Kept(Box<str>, u64);

impl Named for Kept {
    fn topic(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn topics(size: u32) -> TopicMap<Kept> {
    let mut map = TopicMap::default();
    (0..size).for_each(|n| assert!(map.insert(Kept(topic(n).into(), u64::from(n))).is_none()));
    map
}

/// The sum of what is kept for the topics that `filter` matches, by a walk from the first to the last.
fn sum(map: &TopicMap<Kept>, filter: &TopicFilter) -> u64 {
    let set = FilterSet::new(vec![filter.clone()]);
    let (mut sum, mut from, mut looked_at): (u64, Box<str>, usize) = (0, "".into(), 0);
    'seek: loop {
        for Kept(topic, value) in map.from(&from) {
            match set.seek(topic, &mut looked_at) {
                Sought::Match(_) => sum += value,
                Sought::Next(next) => {
                    from = next;
                    continue 'seek;
                }
                Sought::End => return sum,
            }
        }
        return sum;
    }
}

/// Devices in random order, over and over.
fn devices(size: u32) -> impl Iterator<Item = u32> {
    let mut random = Random::from_seed(2);
    let order: Vec<u32> = (0..ASKED).map(|_| random.below(size as usize) as u32).collect();
    (0..ASKED).cycle().map(move |index| order[index])
}

fn matching(c: &mut Criterion) {
    for (name, filter) in [("exact", exact as fn(u32) -> TopicFilter), ("mixed", mixed)] {
        let mut group = c.benchmark_group(format!("topics/matching/{name}"));
        for size in SIZES {
            let tree = filters(size, filter);
            let names: Vec<String> = devices(size).take(ASKED).map(topic).collect();
            let names: Vec<_> = names.iter().map(|text| TopicName::trusted(text)).collect();
            let mut turn = 0;
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    turn = (turn + 1) % ASKED;
                    let mut sum = 0;
                    tree.matching(names[turn], &mut |value| sum += value);
                    sum
                });
            });
        }
    }
}

fn subscribing(c: &mut Criterion) {
    for (name, filter) in [("exact", exact as fn(u32) -> TopicFilter), ("mixed", mixed)] {
        let mut group = c.benchmark_group(format!("topics/remove and insert/{name}"));
        for size in SIZES {
            let mut tree = filters(size, filter);
            let mut filters = devices(size).map(filter);
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter_batched(
                    || filters.next().expect("they never end"),
                    |filter| {
                        let value = tree.remove(&filter).expect("it is there");
                        *tree.entry(&filter, || 0) = value;
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

fn retained(c: &mut Criterion) {
    for size in SIZES {
        let mut tree = topics(size);
        let mut group = c.benchmark_group(format!("topics/retained/{size}"));
        let mut asked = devices(size).map(exact);
        group.bench_function("exact", |b| {
            b.iter_batched(|| asked.next(), |filter| filter.map(|filter| sum(&tree, &filter)), BatchSize::SmallInput);
        });
        // One device, its site unknown: a hundred places to look.
        let mut asked = devices(size).map(|n| parse(&format!("site/+/device/{n:07}/state")));
        group.bench_function("plus in the middle", |b| {
            b.iter_batched(|| asked.next(), |filter| filter.map(|filter| sum(&tree, &filter)), BatchSize::SmallInput);
        });
        // A hundredth of all topics.
        let filter = parse("site/7/#");
        group.bench_function("one site", |b| b.iter(|| sum(&tree, black_box(&filter))));
        let mut asked = devices(size).map(topic);
        group.bench_function("clear and store", |b| {
            b.iter_batched(
                || asked.next().expect("they never end"),
                |topic| tree.remove(&topic).and_then(|kept| tree.insert(kept)),
                BatchSize::SmallInput,
            );
        });
    }
}

fn checking(c: &mut Criterion) {
    let text = topic(1);
    c.bench_function("topics/parse name", |b| b.iter(|| TopicName::parse(black_box(&text), MAX_LEVELS).is_ok()));
    c.bench_function("topics/parse filter", |b| b.iter(|| parse(black_box(&text))));
}

/// Prints what a million entries take.
fn memory(_: &mut Criterion) {
    const COUNT: u32 = 1_000_000;
    let report = |name: &str, before: u64| {
        println!("memory of {COUNT} {name}: {} bytes each", resident().saturating_sub(before) / u64::from(COUNT));
    };
    // Kept until all are measured: what is freed may not leave the process.
    let before = resident();
    let exact = filters(COUNT, exact);
    report("filters without wildcards", before);
    let before = resident();
    let mixed = filters(COUNT, mixed);
    report("filters, every other one with wildcards", before);
    let before = resident();
    let retained = topics(COUNT);
    report("retained topics", before);
    black_box((exact, mixed, retained));
}

/// The resident set of this process in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

criterion_group!(benches, memory, checking, matching, subscribing, retained);
criterion_main!(benches);
