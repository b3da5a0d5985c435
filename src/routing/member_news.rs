//! Shared subscriptions of which the other shards are to know how many members they have here.
//!
//! That there are members at all, and that some are online, decides whether messages come to this shard: the others know of it before a
//! client is answered. How many there are decides how the load is shared out: while thousands come and go, the others are told once a turn,
//! not once for each.

use std::sync::Arc;

use super::group::{Group, MemberCounts};
use crate::topic::TopicFilter;

/// Those that wait to be told, each once.
#[derive(Default)]
pub struct MemberNews {
    waiting: Vec<(u32, Arc<TopicFilter>)>,
    /// Whether there are other shards.
    has_others: bool,
}

impl MemberNews {
    /// None. `shards`: how many there are.
    pub fn new(shards: usize) -> Self {
        MemberNews { has_others: shards > 1, ..MemberNews::default() }
    }

    /// A shared subscription had so many members here `before` it changed: how many it has, if the other shards have to know at once. If it
    /// is news that can wait, it waits.
    pub(super) fn of(&mut self, mountpoint: u32, group: &mut Group, before: MemberCounts) -> Option<MemberCounts> {
        let now = group.counts();
        if !self.has_others || now == before {
            return None;
        }
        let are_there = |counts: MemberCounts| (counts.online > 0, counts.online + counts.offline > 0);
        if are_there(now) != are_there(before) {
            return Some(now);
        }
        if !std::mem::replace(&mut group.is_news, true) {
            self.waiting.push((mountpoint, group.filter.clone()));
        }
        None
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes one out.
    pub(super) fn pop(&mut self) -> Option<(u32, Arc<TopicFilter>)> {
        self.waiting.pop()
    }
}
