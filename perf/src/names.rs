//! The client ids of a round. Usually any do; where it matters which shard a client belongs to, they are chosen by looking where clients land.
//!
//! A broker of several shards gives every client id a shard by a hash that nobody can foresee. So clients with many ids connect first, the broker
//! writes down where each landed, and the round is run with those ids that landed where they are wanted.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::client::Client;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::run::Target;
use crate::scenario::{Messages, Placing};

/// How many ids are tried for each that is needed.
const TRIES: usize = 3;

/// How many clients connect at a time.
const AT_A_TIME: usize = 64;

/// Where clients land, and where they are wanted.
#[derive(Clone, Debug)]
pub struct Landings {
    /// The file in which the broker writes a line `SHARD CLIENT-ID` for each client that connects.
    pub file: PathBuf,
    /// Where they are wanted.
    pub placing: Placing,
}

/// The client ids of a round.
#[derive(Debug)]
pub struct Names {
    /// Those that were chosen: publisher and subscriber of each pair.
    pairs: Vec<(String, String)>,
}

impl Names {
    /// The ids for a round with `target`.
    ///
    /// # Errors
    ///
    /// If ids have to be tried, and the broker refuses one, or does not say where they landed.
    pub fn of(messages: &Messages, target: &Target, interrupt: &Interrupt) -> Result<Self, Failure> {
        let landings = match &target.landings {
            Some(landings) if landings.placing != Placing::Any => landings,
            _ => return Ok(Names { pairs: Vec::new() }),
        };
        let mut engine = Engine::new(interrupt)?;
        let tries = TRIES * (messages.publishers + messages.subscribers);
        let clients = (0..tries).map(|number| Client::idler(format!("perf-try-{number}")));
        engine.open(clients, target.address, AT_A_TIME)?;
        engine.close();
        let text = fs::read_to_string(&landings.file).map_err(Failure::system(landings.file.display()))?;
        let pairs = choose(&text, messages.publishers, landings.placing).ok_or_else(|| {
            Failure::Broker("its clients do not land on two shards, evenly: nobody can be placed".to_owned())
        })?;
        Ok(Names { pairs })
    }

    /// The client id of publisher number `number`.
    pub fn publisher(&self, number: usize) -> String {
        self.pairs.get(number).map_or_else(|| format!("perf-pub-{number}"), |(publisher, _)| publisher.clone())
    }

    /// The client id of subscriber number `number`.
    pub fn subscriber(&self, number: usize) -> String {
        self.pairs.get(number).map_or_else(|| format!("perf-sub-{number}"), |(_, subscriber)| subscriber.clone())
    }
}

/// So many pairs of ids out of the lines `SHARD CLIENT-ID` of `text`, placed as wanted on two shards in turn. None if there are not two shards, or
/// too few ids on one.
fn choose(text: &str, pairs: usize, placing: Placing) -> Option<Vec<(String, String)>> {
    let mut by_shard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (shard, id) in text.lines().filter_map(|line| line.split_once(' ')) {
        if id.starts_with("perf-try-") {
            by_shard.entry(shard).or_default().push(id);
        }
    }
    let [mut first, mut second] = <[Vec<&str>; 2]>::try_from(by_shard.into_values().collect::<Vec<_>>()).ok()?;
    let mut chosen = Vec::new();
    for number in 0..pairs {
        let (here, there) = if number % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let publisher = here.pop()?;
        let subscriber = if placing == Placing::Across { there.pop()? } else { here.pop()? };
        chosen.push((publisher.to_owned(), subscriber.to_owned()));
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANDED: &str = "shard-0 perf-probe\nshard-0 perf-try-0\nshard-1 perf-try-1\nshard-1 perf-try-2\n\
                          shard-0 perf-try-3\nshard-1 perf-try-4\nshard-0 perf-try-5\nshard-0 perf-try-6\nshard-1 perf-try-7\n";

    /// Whether publisher and subscriber of each pair landed on the same shard.
    fn same(pairs: &[(String, String)]) -> Vec<bool> {
        let shard = |id: &str| {
            LANDED.lines().find(|line| line.ends_with(&format!(" {id}"))).unwrap().split_once(' ').unwrap().0
        };
        pairs.iter().map(|(publisher, subscriber)| shard(publisher) == shard(subscriber)).collect()
    }

    #[test]
    fn pairs_are_placed_as_wanted_and_no_id_is_used_twice() {
        for (placing, together) in [(Placing::Within, true), (Placing::Across, false)] {
            let pairs = choose(LANDED, 4, placing).unwrap();
            assert_eq!(same(&pairs), [together; 4], "{placing:?}");
            let mut ids: Vec<_> = pairs.iter().flat_map(|(publisher, subscriber)| [publisher, subscriber]).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 8);
        }
    }

    #[test]
    fn without_two_shards_or_enough_ids_there_is_no_choice() {
        assert!(choose("shard-0 perf-try-0\nshard-0 perf-try-1\n", 1, Placing::Within).is_none());
        assert!(choose(LANDED, 5, Placing::Across).is_none());
    }
}
