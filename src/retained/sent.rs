//! How many messages to be retained every shard has sent every owner of topics, as far as this shard knows.

use std::sync::Arc;

/// Numbers of owners, each with a number of messages.
pub type Counts = Box<[(u16, u64)]>;

/// What this shard knows of the messages that shards send owners. Of itself it knows all. Of another shard it knows the numbers of the
/// messages that came here live, and what that shard said when it took filters in.
///
/// So of what matches a filter that all other shards have taken in it knows the last message that can have been sent: whatever has a
/// higher number is still on its way here.
pub(super) struct Sent {
    own: usize,
    /// By owner, how many messages each shard has sent it.
    by_owner: Vec<Arc<[u64]>>,
    /// How often this shard has told others what it has sent.
    told: u64,
    /// For each owner, what that number was to be next when this shard last sent it a message; zero if it never did.
    changed: Vec<u64>,
    /// For each shard, what that number was when it was told last.
    told_to: Vec<u64>,
}

impl Sent {
    /// Nothing has been sent, on shard `own` of `shards`.
    pub fn new(own: usize, shards: usize) -> Self {
        let by_owner = (0..shards).map(|_| vec![0; shards].into()).collect();
        Sent { own, by_owner, told: 0, changed: vec![0; shards], told_to: vec![0; shards] }
    }

    /// This shard sends an owner one more message. Gives its number.
    pub fn send(&mut self, owner: usize) -> u64 {
        self.changed[owner] = self.told + 1;
        let sent = &mut Arc::make_mut(&mut self.by_owner[owner])[self.own];
        *sent += 1;
        *sent
    }

    /// A shard has sent an owner so many messages at least.
    pub fn learn(&mut self, shard: usize, owner: usize, number: u64) {
        if self.by_owner[owner][shard] < number {
            Arc::make_mut(&mut self.by_owner[owner])[shard] = number;
        }
    }

    /// What shard `to` has not been told of what this one has sent; of these owners, or of all.
    pub fn tell(&mut self, to: usize, owners: Option<&[usize]>) -> Counts {
        let (told_to, changed) = (self.told_to[to], &self.changed);
        let is_news = |owner: &usize| changed[*owner] > told_to;
        let count = |owner: usize| (owner as u16, self.by_owner[owner][self.own]);
        match owners {
            Some(owners) => owners.iter().copied().filter(is_news).map(count).collect(),
            None => {
                let counts = (0..changed.len()).filter(is_news).map(count).collect();
                self.told += 1;
                self.told_to[to] = self.told;
                counts
            }
        }
    }

    /// By owner, how many messages each shard has sent it.
    pub fn by_owner(&self) -> Vec<Arc<[u64]>> {
        self.by_owner.clone()
    }

    /// For each shard, how many messages it has sent this owner.
    pub fn to(&self, owner: usize) -> &[u64] {
        &self.by_owner[owner]
    }

    /// For each owner, how many messages a shard has sent it.
    pub fn of(&self, shard: usize) -> impl Iterator<Item = u64> {
        self.by_owner.iter().map(move |sent| sent[shard])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(counts: &[(u16, u64)]) -> Counts {
        counts.into()
    }

    #[test]
    fn every_shard_is_told_once_what_is_new() {
        let mut one = Sent::new(0, 4);
        assert_eq!(one.tell(1, None), sent(&[]));
        assert_eq!([one.send(2), one.send(2), one.send(3)], [1, 2, 1]);
        assert_eq!(one.tell(1, None), sent(&[(2, 2), (3, 1)]));
        assert_eq!(one.tell(1, None), sent(&[]));
        one.send(3);
        assert_eq!((one.tell(1, None), one.tell(2, None)), (sent(&[(3, 2)]), sent(&[(2, 2), (3, 2)])));
        assert_eq!((one.tell(1, None), one.tell(2, None)), (sent(&[]), sent(&[])));
    }

    #[test]
    fn who_is_told_of_some_owners_is_told_of_the_others_later() {
        let mut one = Sent::new(0, 4);
        assert_eq!([1, 2, 2].map(|owner| one.send(owner)), [1, 1, 2]);
        assert_eq!(one.tell(3, Some(&[2, 0])), sent(&[(2, 2)]));
        assert_eq!(one.tell(3, None), sent(&[(1, 1), (2, 2)]));
        assert_eq!(one.tell(3, Some(&[1, 2])), sent(&[]));
    }

    #[test]
    fn what_is_known_of_others_only_rises_and_what_was_taken_of_it_stays() {
        let mut one = Sent::new(0, 3);
        one.learn(1, 2, 7);
        let before = one.by_owner();
        one.learn(1, 2, 5);
        one.learn(2, 2, 1);
        one.send(2);
        assert_eq!((&before[2][..], &one.by_owner()[2][..]), (&[0, 7, 0][..], &[1, 7, 1][..]));
        assert_eq!(one.of(1).collect::<Vec<_>>(), [0, 0, 7]);
    }
}
