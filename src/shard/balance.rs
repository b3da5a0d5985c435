//! Which slots should move so that all shards have as much to do: decided from reports, without doing anything.
//!
//! [`plan`] looks at one measurement. It takes shards that have too much, busiest first, and moves slots from each to the shard
//! with the least, as long as a move makes the busier of the two less busy by more than a trifle. A slot that would keep any
//! shard busier than the average stays where it is, and the others make room for it.
//!
//! [`Balancer`] looks again and again, and moves something only when the same shard was too busy several times in a row; then it
//! rests. What it moves by is all that was measured meanwhile, not the last moment.

use std::cmp::Reverse;
use std::time::Duration;

use super::load::{Load, SlotLoad};
use super::report::Report;
use crate::config::RebalanceConfig;
use crate::time::Time;

/// A shard is even when it has at most this much, in percent of what all have on average.
const EVEN: u64 = 105;
/// What a move has to gain, in percent of that average.
const GAIN: u64 = 1;

/// When to move something, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceLimits {
    /// A shard has too much from here on, in percent of what the others have on average.
    pub threshold: u64,
    /// A shard with fewer messages than this never has too much.
    pub min_messages: u64,
    /// Slots that move, at most.
    pub max_slots: usize,
    /// Sessions that move, at most.
    pub max_sessions: u64,
}

/// A slot that should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotMove {
    /// Which.
    pub slot: u16,
    /// From this shard.
    pub from: usize,
    /// To this one.
    pub to: usize,
    /// Messages of its clients while it was measured.
    pub messages: u64,
    /// Sessions in it.
    pub sessions: u64,
}

/// The slots that should move. None while some still do: what they will be like is not known.
pub fn plan(load: &Load, limits: &BalanceLimits) -> Vec<SlotMove> {
    let mut moves = Vec::new();
    if load.slots.iter().any(|slot| slot.is_moving) {
        return moves;
    }
    let mut totals: Vec<u64> = load.shards.iter().map(|shard| shard.messages).collect();
    let mut rest: Vec<usize> = (0..totals.len()).collect();
    let mut left = *limits;
    // What is done with a shard, others cannot even out any more; they are compared among themselves.
    while rest.len() > 1
        && let Some(&from) = rest.iter().max_by_key(|shard| (totals[**shard], Reverse(**shard)))
    {
        rest.retain(|shard| *shard != from);
        let others = rest.iter().map(|shard| totals[*shard]).sum::<u64>();
        let all = others + totals[from];
        let is_too_much = totals[from] * 100 * rest.len() as u64 >= left.threshold * others;
        if totals[from] >= left.min_messages.max(1) && is_too_much {
            let average = all / (rest.len() as u64 + 1);
            relieve(from, average, load, &mut totals, &mut left, &mut moves);
        }
    }
    moves
}

/// Moves slots from one shard until it has what is even, or nothing more can be gained.
fn relieve(
    from: usize,
    average: u64,
    load: &Load,
    totals: &mut [u64],
    left: &mut BalanceLimits,
    moves: &mut Vec<SlotMove>,
) {
    let mut slots: Vec<&SlotLoad> = load.slots.iter().filter(|slot| slot.shard == from && slot.messages > 0).collect();
    if let Some(at) = (0..slots.len()).max_by_key(|at| slots[*at].messages)
        && slots[at].messages > average
    {
        slots.swap_remove(at);
    }
    while left.max_slots > 0
        && totals[from] * 100 > average * EVEN
        && let Some(to) = (0..totals.len()).min_by_key(|shard| totals[*shard])
        && let Some(at) = best(&slots, totals[from], totals[to], left.max_sessions)
    {
        let SlotLoad { slot, messages, sessions, .. } = *slots.swap_remove(at);
        let busier = (totals[from] - messages).max(totals[to] + messages);
        if totals[from].saturating_sub(busier) * 100 < (average * GAIN).max(100) {
            return;
        }
        totals[from] -= messages;
        totals[to] += messages;
        left.max_slots -= 1;
        left.max_sessions -= sessions;
        moves.push(SlotMove { slot, from, to, messages, sessions });
    }
}

/// The slot after whose move the busier of the two shards has least to do; of several the one with fewer messages.
fn best(slots: &[&SlotLoad], from: u64, to: u64, max_sessions: u64) -> Option<usize> {
    let movable = slots.iter().enumerate().filter(|(_, slot)| slot.sessions <= max_sessions);
    let busier = |messages: u64| (from - messages).max(to + messages);
    movable.min_by_key(|(_, slot)| (busier(slot.messages), slot.messages, slot.slot)).map(|(at, _)| at)
}

/// Decides, from one look to the next, whether slots should move.
pub struct Balancer {
    config: RebalanceConfig,
    last: Option<Look>,
    busy: Option<Busy>,
    rests_until: Time,
}

/// How all shards were doing at some time.
#[derive(Clone)]
struct Look {
    at: Time,
    reports: Vec<Report>,
}

/// A shard that has had too much for some time.
struct Busy {
    shard: usize,
    intervals: u32,
    /// How it was when that began.
    since: Look,
}

impl Balancer {
    /// One that has seen nothing yet.
    pub fn new(config: RebalanceConfig) -> Self {
        Balancer { config, last: None, busy: None, rests_until: Time::ZERO }
    }

    /// Looks at all shards, in their order; to be called once per interval. What it says should move, it takes as moved.
    pub fn look(&mut self, reports: Vec<Report>, now: Time) -> Vec<SlotMove> {
        let look = Look { at: now, reports };
        if now < self.rests_until {
            return Vec::new();
        }
        let Some(last) = self.last.replace(look.clone()) else { return Vec::new() };
        let Some(first) = self.plan(&last, &look).first().copied() else {
            self.busy = None;
            return Vec::new();
        };
        let busy = match self.busy.take() {
            Some(busy) if busy.shard == first.from => Busy { intervals: busy.intervals + 1, ..busy },
            _ => Busy { shard: first.from, intervals: 1, since: last },
        };
        if busy.intervals < self.config.intervals {
            self.busy = Some(busy);
            return Vec::new();
        }
        let moves = self.plan(&busy.since, &look);
        if !moves.is_empty() {
            self.rests_until = now + self.config.cool_down;
            self.last = None;
        }
        moves
    }

    fn plan(&self, earlier: &Look, later: &Look) -> Vec<SlotMove> {
        let limits = BalanceLimits {
            threshold: self.config.threshold.into(),
            min_messages: messages_in(self.config.min_rate as u64, later.at.since(earlier.at)),
            max_slots: self.config.max_slots,
            max_sessions: self.config.max_sessions as u64,
        };
        plan(&Load::between(&earlier.reports, &later.reports), &limits)
    }
}

fn messages_in(rate: u64, time: Duration) -> u64 {
    rate.saturating_mul(time.as_millis() as u64) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Counters, SlotMigration, SlotReport};

    const LIMITS: BalanceLimits =
        BalanceLimits { threshold: 150, min_messages: 10, max_slots: 4096, max_sessions: u64::MAX };

    /// Shards with one report each, and what their slots count; slots are numbered through.
    struct Trial {
        slots: Vec<(usize, u32, u32)>,
        shards: usize,
        now: Time,
        moving: Option<u16>,
    }

    impl Trial {
        /// `shards[n]` are the messages per second of each slot of shard n.
        fn new(shards: &[&[u32]]) -> Self {
            let slots =
                shards.iter().enumerate().flat_map(|(shard, slots)| slots.iter().map(move |rate| (shard, *rate, 0)));
            Trial { slots: slots.collect(), shards: shards.len(), now: Time::ZERO, moving: None }
        }

        fn reports(&self) -> Vec<Report> {
            let migration =
                |slot| if self.moving == Some(slot) { SlotMigration::Arriving } else { SlotMigration::None };
            let report = |shard| {
                let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.0 == shard);
                let slots = slots.map(|(slot, (_, _, messages))| (slot as u16, *messages)).map(|(slot, messages)| {
                    SlotReport { slot, is_own: true, migration: migration(slot), sessions: 10, messages }
                });
                Report { shard, counters: Counters::default(), hooks: Vec::new(), slots: slots.collect() }
            };
            (0..self.shards).map(report).collect()
        }

        fn pass(&mut self, seconds: u64) {
            self.now = self.now + Duration::from_secs(seconds);
            self.slots.iter_mut().for_each(|(_, rate, messages)| *messages += *rate * seconds as u32);
        }

        /// What one second of it is like.
        fn load(&mut self) -> Load {
            let earlier = self.reports();
            self.pass(1);
            Load::between(&earlier, &self.reports())
        }

        fn carry_out(&mut self, moves: &[SlotMove]) {
            for SlotMove { slot, from, to, .. } in moves {
                assert_eq!(self.slots[usize::from(*slot)].0, *from, "it moves from where it is");
                self.slots[usize::from(*slot)].0 = *to;
            }
        }

        fn totals(&mut self) -> Vec<u64> {
            self.load().shards.iter().map(|shard| shard.messages).collect()
        }

        /// One interval of ten seconds, and what it leads to.
        fn look(&mut self, balancer: &mut Balancer) -> usize {
            self.pass(10);
            let moves = balancer.look(self.reports(), self.now);
            // A slot's count stays behind when it moves; here it starts anew, where it is.
            self.carry_out(&moves);
            moves.len()
        }
    }

    fn config() -> RebalanceConfig {
        RebalanceConfig { enabled: true, min_rate: 10, ..RebalanceConfig::default() }
    }

    #[test]
    fn what_is_skewed_is_evened_out() {
        for shards in [&[&[100; 8][..], &[10; 8]][..], &[&[50; 30], &[5; 30], &[5; 30], &[1; 30]]] {
            let mut trial = Trial::new(shards);
            let moves = plan(&trial.load(), &LIMITS);
            trial.carry_out(&moves);
            let totals = trial.totals();
            let average = totals.iter().sum::<u64>() / totals.len() as u64;
            assert!(totals.iter().all(|total| total.abs_diff(average) * 5 < average), "{totals:?}");
            assert!(plan(&trial.load(), &LIMITS).is_empty(), "once is enough: {totals:?}");
        }
    }

    #[test]
    fn nothing_moves_below_the_threshold_or_when_idle() {
        assert!(plan(&Trial::new(&[&[14, 15], &[10, 10]]).load(), &LIMITS).is_empty());
        assert!(!plan(&Trial::new(&[&[5; 6], &[10, 10]]).load(), &LIMITS).is_empty());
        assert!(plan(&Trial::new(&[&[1; 9], &[0; 9]]).load(), &LIMITS).is_empty(), "too few to matter");
        let no_minimum = BalanceLimits { min_messages: 0, ..LIMITS };
        assert!(plan(&Trial::new(&[&[0; 9], &[0; 9], &[0; 9]]).load(), &no_minimum).is_empty());
        assert!(plan(&Trial::new(&[&[1000; 9]]).load(), &LIMITS).is_empty(), "there is one shard only");
    }

    #[test]
    fn a_hot_slot_stays_and_makes_room_for_itself() {
        assert!(plan(&Trial::new(&[&[1000], &[10, 10]]).load(), &LIMITS).is_empty());
        let mut trial = Trial::new(&[&[1000, 90, 80], &[10, 10]]);
        let moves = plan(&trial.load(), &LIMITS);
        assert_eq!(moves.iter().map(|one| one.slot).collect::<Vec<_>>(), [1, 2]);
        trial.carry_out(&moves);
        assert!(plan(&trial.load(), &LIMITS).is_empty());
        // Two hot ones on one shard part.
        let moves = plan(&Trial::new(&[&[1000, 900], &[], &[], &[]]).load(), &LIMITS);
        assert_eq!(moves.iter().map(|one| (one.slot, one.from)).collect::<Vec<_>>(), [(1, 0)]);
        // What the hot one cannot share does not keep the others from sharing.
        let mut trial = Trial::new(&[&[1000], &[60, 60, 60], &[10], &[10]]);
        let moves = plan(&trial.load(), &LIMITS);
        assert!(!moves.is_empty() && moves.iter().all(|one| one.from == 1 && one.to > 1), "{moves:?}");
    }

    #[test]
    fn a_round_has_its_limits_and_waits_for_what_is_under_way() {
        let mut trial = Trial::new(&[&[100; 8], &[0; 8]]);
        assert_eq!(plan(&trial.load(), &LIMITS).len(), 4);
        assert_eq!(plan(&trial.load(), &BalanceLimits { max_slots: 2, ..LIMITS }).len(), 2);
        assert_eq!(plan(&trial.load(), &BalanceLimits { max_sessions: 39, ..LIMITS }).len(), 3);
        trial.moving = Some(3);
        assert!(plan(&trial.load(), &LIMITS).is_empty());
    }

    #[test]
    fn only_what_lasts_leads_to_a_move_and_then_there_is_rest() {
        let mut balancer = Balancer::new(config());
        let mut trial = Trial::new(&[&[100; 8], &[1; 8]]);
        let moved: Vec<usize> = (0..4).map(|_| trial.look(&mut balancer)).collect();
        assert_eq!(moved, [0, 0, 0, 4], "the first look measures nothing, the third interval in a row counts");
        // As busy the other way round: not before the minute is over, and then not at once.
        trial.slots.iter_mut().for_each(|slot| slot.1 = if slot.0 == 1 { 100 } else { 1 });
        let moved: Vec<usize> = (0..10).map(|_| trial.look(&mut balancer)).collect();
        assert_eq!(moved.iter().position(|moved| *moved > 0), Some(8), "{moved:?}");
    }

    #[test]
    fn a_load_that_swings_moves_nothing() {
        let mut balancer = Balancer::new(config());
        let mut trial = Trial::new(&[&[100; 8], &[1; 8]]);
        for round in 0..50 {
            assert_eq!(trial.look(&mut balancer), 0, "round {round}");
            if round % 2 == 1 {
                trial.slots.iter_mut().for_each(|slot| slot.1 = 101 - slot.1);
            }
        }
    }
}
