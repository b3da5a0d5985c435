//! What was counted of hooks, as operators and embedding programs see it.

use super::chain::Chain;
use super::counts::{HookCounts, LinkCounts};

/// One hook of one link that was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReport {
    /// The place of the link in the chain, from 0. The parts of [`Stock`](super::stock::Stock) have the same.
    pub position: usize,
    /// The name of the link ([`Hook::name`](super::Hook::name)), or of its part, as one level of a topic, followed by `-2`, `-3` and so on if
    /// a link before it has the same.
    pub link: String,
    /// The hook.
    pub hook: &'static str,
    /// What was counted.
    pub counts: HookCounts,
}

impl HookReport {
    /// What the links of `chain` counted, in their order.
    pub(crate) fn of<C: Chain>(chain: &C) -> Vec<HookReport> {
        let mut links = Vec::new();
        chain.counts(&mut links);
        let mut names: Vec<String> = Vec::new();
        let mut reports = Vec::new();
        for LinkCounts { position, name, counts } in links {
            let link = distinct(&level(name), &names);
            names.push(link.clone());
            reports.extend(counts.into_iter().map(|(hook, counts)| HookReport {
                position,
                link: link.clone(),
                hook,
                counts,
            }));
        }
        reports
    }

    /// Adds what another shard's copy of the same chain counted.
    pub fn add(all: &mut Vec<HookReport>, others: &[HookReport]) {
        for other in others {
            let is_same = |own: &&mut HookReport| {
                (own.position, own.hook) == (other.position, other.hook) && own.link == other.link
            };
            match all.iter_mut().find(is_same) {
                Some(own) => own.counts += other.counts,
                None => all.push(other.clone()),
            }
        }
        let place = |report: &HookReport| (report.position, report.link.clone(), report.hook);
        all.sort_by_cached_key(place);
    }
}

/// A name as one level of a topic name.
fn level(name: &str) -> String {
    let name = if name.is_empty() { "unnamed" } else { name };
    name.replace(['/', '+', '#', '\0'], "_")
}

/// The name, or the first one made of it that nobody has.
fn distinct(name: &str, taken: &[String]) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
    candidates.find(|candidate| !taken.contains(candidate)).expect("numbers do not run out")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_topic_levels_and_nobody_shares_one() {
        let mut taken: Vec<String> = Vec::new();
        for name in ["Acl", "Acl-2", "Acl", "a/b#", ""] {
            taken.push(distinct(&level(name), &taken));
        }
        assert_eq!(taken, ["Acl", "Acl-2", "Acl-3", "a_b_", "unnamed"]);
    }

    #[test]
    fn reports_of_shards_are_added_by_link_and_hook() {
        let report = |position, hook, calls| HookReport {
            position,
            link: format!("l{position}"),
            hook,
            counts: HookCounts { calls, time: Duration::from_micros(calls), ..HookCounts::default() },
        };
        let mut all = vec![report(0, "on_publish", 1), report(1, "on_publish", 2)];
        HookReport::add(&mut all, &[report(1, "on_publish", 4), report(0, "on_deliver", 8)]);
        assert_eq!(all, [report(0, "on_deliver", 8), report(0, "on_publish", 1), report(1, "on_publish", 6)]);
        assert_eq!(all[2].counts.values()[8], ("time_us", 6));
    }
}
