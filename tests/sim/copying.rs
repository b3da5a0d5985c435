//! A copy of the store while the broker goes on, and the end of that broker: the next one has the copy.
//!
//! From when the copy is wanted until then no client receives anything. So what clients know is what was acknowledged before, all of which the copy has to
//! have; and what it has besides is what the end of a broker could have left, by the same rules as without a copy.

use std::collections::BTreeMap;
use std::time::Duration;

use moormq::archive::MemoryArchive;
use moormq::codec::QoS;
use moormq::journal::Piece;
use moormq::random::Random;
use moormq::shard::{CutNews, Request};
use moormq::sharding::slot_of;

use crate::broker::{Broker, HASH_SEED};
use crate::client::Outgoing;
use crate::history::{CLIENTS, FIRST_SHARED_TOPIC, Plan};
use crate::play::{Play, subscriber};
use crate::store::disk::Disk;

const PROGRESS: &str = "progress: a copy is made";
const ONCE: &str = "copies: each shard cuts its journal once";

/// So many turns it may take.
const LONGEST: usize = 5000;

/// The disks of a copy by shard, and its archive if there is one.
pub type Copied = (BTreeMap<u32, Disk>, Option<MemoryArchive>);

/// A copy in the making.
#[derive(Default)]
pub struct Copying {
    number: u64,
    pub made: Vec<usize>,
    /// By shard: what is to be copied, and what was.
    pieces: BTreeMap<usize, Vec<Piece>>,
    copied: BTreeMap<u32, Disk>,
    /// What the archive had when it began. Nothing more is persisted there before each shard has cut its journal.
    archive: Option<MemoryArchive>,
    /// What is not as it should be.
    pub broken: Option<(&'static str, String)>,
}

impl Copying {
    /// A shard has told something about a copy.
    pub fn hear(&mut self, shard: usize, number: u64, news: CutNews) {
        let is_made = self.made.contains(&shard);
        match news {
            _ if number != self.number => self.broken = Some((ONCE, format!("{number} on shard {shard}"))),
            CutNews::Made if !is_made => self.made.push(shard),
            CutNews::OnDisk(pieces) if is_made && !self.pieces.contains_key(&shard) => {
                self.pieces.insert(shard, pieces);
            }
            news => self.broken = Some((ONCE, format!("{news:?} on shard {shard}"))),
        }
    }
}

impl Broker {
    fn begin_copy(&mut self, shard: usize) {
        let number = self.copies + 1;
        let archive = self.disks.as_mut().and_then(|disks| disks.hold_archive());
        self.copying = Some(Copying { number, archive, ..Copying::default() });
        self.copies = number;
        self.request(shard, Request::Cut { number });
    }

    /// Copies the journal of a shard that is cut, picked at random.
    fn copy_one(&mut self, random: &mut Random) -> bool {
        let (Some(copying), Some(disks)) = (&mut self.copying, &mut self.disks) else { return false };
        let left = copying.pieces.iter().filter(|(shard, _)| !copying.copied.contains_key(&(**shard as u32)));
        let left: Vec<_> = left.map(|(shard, pieces)| (*shard, pieces.clone())).collect();
        if left.is_empty() {
            return false;
        }
        let (shard, pieces) = &left[random.below(left.len())];
        let copy = disks.copy_of(*shard, pieces);
        copying.copied.insert(*shard as u32, copy);
        let number = copying.number;
        self.request(*shard, Request::EndCut { number });
        true
    }

    /// The copy, if all is copied; else it is not wanted any more.
    fn end_copy(&mut self) -> Option<Copied> {
        let Copying { number, copied, archive, .. } = self.copying.take()?;
        if copied.len() == self.shards.len() {
            return Some((copied, archive));
        }
        self.disks.iter_mut().for_each(|disks| disks.release_archive());
        (0..self.shards.len()).for_each(|shard| self.request(shard, Request::EndCut { number }));
        None
    }

    fn is_copied(&self) -> bool {
        self.copying.as_ref().is_some_and(|copying| copying.copied.len() == self.shards.len())
    }
}

impl Play {
    /// Copies the store, while the broker goes on for so many turns more; then the broker ends, and the next one, with so many shards, has the copy.
    pub fn restore_copy(&mut self, (turns, down): (usize, u64), shards: usize) {
        if self.broker.disks.is_none() || self.judge.violation.is_some() {
            return;
        }
        self.broker.reaches_nobody = true;
        let shard = self.random.below(self.broker.shards.len());
        self.broker.begin_copy(shard);
        self.observe();
        let mut left = turns;
        for _ in 0..LONGEST {
            if self.broker.is_copied() {
                match left.checked_sub(1) {
                    Some(less) => left = less,
                    None => break,
                }
            }
            self.do_something();
            if self.random.below(8) == 0 && self.broker.copy_one(&mut self.random) {
                self.observe();
            }
            if !self.turn() {
                self.pass_until(self.broker.now + Duration::from_millis(5));
            }
            if let Some((rule, detail)) = self.broker.copying.as_mut().and_then(|copying| copying.broken.take()) {
                self.judge.find(rule, detail);
            }
            if self.judge.violation.is_some() {
                return;
            }
        }
        let has_failed = self.broker.disks.as_ref().is_some_and(|disks| disks.has_failed());
        match self.broker.end_copy() {
            Some(copy) => self.go_on_with(copy, down, shards),
            // A full disk may have no room for what the copy would have.
            None if has_failed || self.broker.waits_for_disks() => {}
            None => self.judge.find(PROGRESS, format!("it is not in {LONGEST} turns")),
        }
        self.broker.reaches_nobody = false;
        self.observe();
    }

    /// Now and then a client publishes, or moves.
    fn do_something(&mut self) {
        let client = self.random.below(CLIENTS);
        match self.random.below(24) {
            0 => {
                let topic = self.random.below(FIRST_SHARED_TOPIC);
                let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][self.random.below(2)];
                let (retain, large) = (self.random.below(4) == 0, self.random.below(8) == 0);
                let (plan, received) = (Plan::Accept, false);
                let outgoing =
                    Outgoing { message: 0, packet_id: 0, topic, qos, retain, large, expiry: None, plan, received };
                self.publish(client, outgoing, 0);
            }
            1 => {
                let slots = vec![slot_of(&subscriber(client, 0), HASH_SEED)];
                let to = self.random.below(self.broker.shards.len());
                for shard in 0..self.broker.shards.len() {
                    self.broker.request(shard, Request::MoveSlots { slots: slots.clone(), to });
                    self.observe();
                }
            }
            _ => {}
        }
    }
}
