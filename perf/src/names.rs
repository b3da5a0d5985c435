//! The client ids of a round. Most scenarios use any ids. Scenarios that need clients on certain shards choose ids by their shards.
//!
//! A broker of several shards gives every client id a shard by a hash with a random seed. So clients with many ids connect first, the broker
//! writes the shard of each into a file, and the round uses the ids whose shards fit.

use std::collections::BTreeMap;
use std::fs;

use crate::client::Client;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::scenario::{Messages, ShardPlacement};
use crate::target::Target;

/// How many ids are tried for each that is needed.
const TRIES: usize = 3;

/// How many clients connect at a time.
const AT_A_TIME: usize = 64;

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
    /// If ids have to be tried, and the broker refuses one or does not write their shards.
    pub fn of(messages: &Messages, target: &Target, interrupt: &Interrupt) -> Result<Self, Failure> {
        let client_shards = match &target.client_shards {
            Some(client_shards) if client_shards.placement != ShardPlacement::Any => client_shards,
            _ => return Ok(Names { pairs: Vec::new() }),
        };
        let mut engine = Engine::new(interrupt)?;
        let tries = TRIES * (messages.publishers + messages.subscribers);
        let clients = (0..tries).map(|number| Client::idle(format!("perf-try-{number}")));
        engine.open(clients, target.address, AT_A_TIME)?;
        engine.close();
        let text = fs::read_to_string(&client_shards.file).map_err(Failure::system(client_shards.file.display()))?;
        let pairs = choose(&text, messages.publishers, client_shards.placement).ok_or_else(|| {
            Failure::Broker("its clients do not spread over two shards evenly: they cannot be placed".to_owned())
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
fn choose(text: &str, pairs: usize, placement: ShardPlacement) -> Option<Vec<(String, String)>> {
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
        let subscriber = if placement == ShardPlacement::Across { there.pop()? } else { here.pop()? };
        chosen.push((publisher.to_owned(), subscriber.to_owned()));
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: &str = "shard-0 perf-probe\nshard-0 perf-try-0\nshard-1 perf-try-1\nshard-1 perf-try-2\n\
                          shard-0 perf-try-3\nshard-1 perf-try-4\nshard-0 perf-try-5\nshard-0 perf-try-6\nshard-1 perf-try-7\n";

    /// Whether publisher and subscriber of each pair are on the same shard.
    fn same(pairs: &[(String, String)]) -> Vec<bool> {
        let shard = |id: &str| {
            SHARDS.lines().find(|line| line.ends_with(&format!(" {id}"))).unwrap().split_once(' ').unwrap().0
        };
        pairs.iter().map(|(publisher, subscriber)| shard(publisher) == shard(subscriber)).collect()
    }

    #[test]
    fn pairs_are_placed_as_wanted_and_no_id_is_used_twice() {
        for (placement, together) in [(ShardPlacement::Within, true), (ShardPlacement::Across, false)] {
            let pairs = choose(SHARDS, 4, placement).unwrap();
            assert_eq!(same(&pairs), [together; 4], "{placement:?}");
            let mut ids: Vec<_> = pairs.iter().flat_map(|(publisher, subscriber)| [publisher, subscriber]).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 8);
        }
    }

    #[test]
    fn without_two_shards_or_enough_ids_there_is_no_choice() {
        assert!(choose("shard-0 perf-try-0\nshard-0 perf-try-1\n", 1, ShardPlacement::Within).is_none());
        assert!(choose(SHARDS, 5, ShardPlacement::Across).is_none());
    }
}
