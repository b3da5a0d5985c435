//! The retained messages of one mountpoint, as far as this shard owns their topics.

use std::sync::Arc;

use super::page::{PageLimits, RetainedQuestion};
use crate::config::Limit;
use crate::memory::{Held, MemoryKind, allocated_in_tree};
use crate::message::Message;
use crate::sharding::Quotas;
use crate::time::Time;
use crate::topic::{Named, Sought, TopicMap, after};

/// A retained message, and where it came from: one for each topic.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The message.
    pub message: Message,
    /// The shard it was published on.
    pub shard: usize,
    /// Which of the messages it is that this shard has sent the owner of its topics.
    pub number: u64,
}

impl Named for Kept {
    fn topic(&self) -> &[u8] {
        self.message.topic_bytes()
    }
}

/// The retained messages of one mountpoint.
#[derive(Default)]
pub(super) struct Store {
    messages: TopicMap<Kept>,
    bytes: usize,
    /// How many of them expire some time.
    expiring: usize,
    held: Held<{ MemoryKind::Retained as u8 }>,
}

/// About what the place of a message takes in the tree, and of the nodes above it.
const PLACE: usize = allocated_in_tree(size_of::<Kept>()) + 6;

/// The limits of retained messages, and what is left of those that all shards share.
pub(super) struct Room {
    /// Whether there is memory for more than there is.
    pub may_grow: bool,
    pub most_of_one: Limit,
    pub quotas: Arc<Quotas>,
    pub shard: usize,
}

impl Room {
    /// Takes the place of one more message.
    fn enter(&self, size: usize) -> bool {
        let Quotas { retained_messages, retained_bytes, .. } = &*self.quotas;
        if !self.may_grow || !retained_messages.take(self.shard, 1) {
            return false;
        }
        let has_room = retained_bytes.take(self.shard, size);
        if !has_room {
            retained_messages.give_back(self.shard, 1);
        }
        has_room
    }

    /// A message takes the place of another one. Nothing has changed if there is no room for that.
    fn resize(&self, from: usize, to: usize) -> bool {
        let bytes = &self.quotas.retained_bytes;
        match to.checked_sub(from) {
            Some(0) => true,
            Some(more) => self.may_grow && bytes.take(self.shard, more),
            None => {
                bytes.give_back(self.shard, from - to);
                true
            }
        }
    }

    /// Gives the place of a message back.
    fn leave(&self, size: usize) {
        self.quotas.retained_messages.give_back(self.shard, 1);
        self.quotas.retained_bytes.give_back(self.shard, size);
    }
}

/// Messages that a walk has found, each with the place of the filter that matches.
pub(super) struct Found {
    pub messages: Vec<(u32, Message)>,
    /// Where the walk is to go on; none if it is at the end.
    pub next: Option<Box<str>>,
    /// How many topics, and nodes of the set of filters, were looked at.
    pub looked_at: usize,
}

/// What became of a message that was to be retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is kept.
    Kept,
    /// It had no payload: what was kept is forgotten [MQTT-3.3.1-6].
    Cleared,
    /// A limit is reached; what was kept before for this topic is forgotten, since it is no longer the last message.
    Refused,
}

impl Store {
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages from this topic on, `most` at most; and the topic to go on at.
    pub fn portion(&self, from: &str, most: usize) -> (Vec<Message>, Option<Box<str>>) {
        let messages: Vec<_> = self.messages.from(from).take(most).map(|kept| kept.message.clone()).collect();
        let next = messages.last().filter(|_| messages.len() == most).map(|last| after(last.topic().as_str()));
        (messages, next)
    }

    /// Keeps `kept` as the last message of its topic, if there is `room`. Messages about the broker itself are as many as it has
    /// counters, and no limit concerns them: a store that clients have filled must not keep anybody from seeing that.
    pub fn store(&mut self, kept: Kept, room: &Room) -> Retention {
        let message = kept.message.clone();
        let topic = message.topic();
        if message.payload().is_empty() {
            self.remove(topic.as_str(), room);
            return Retention::Cleared;
        }
        let fits = is_own(&message)
            || room.most_of_one.allows(message.payload().len())
                && match self.messages.get(topic.as_str()) {
                    Some(old) => room.resize(old.message.size(), message.size()),
                    None => room.enter(message.size()),
                };
        if !fits {
            self.remove(topic.as_str(), room);
            return Retention::Refused;
        }
        self.note_in(&message);
        if let Some(old) = self.messages.insert(kept) {
            self.note_out(&old.message);
        }
        self.held.set(PLACE * self.messages.len());
        Retention::Kept
    }

    /// A page of what the question asks for: from where it says on, no more than the limits allow, and no further than the topics that
    /// may be looked at for one page. Left out is what has expired, and what comes live to who asks.
    pub fn page(&self, question: &RetainedQuestion, limits: &PageLimits, now: Time) -> Found {
        let mut messages = Vec::new();
        let (mut nodes, mut topics, mut bytes) = (0, 0, 0);
        let mut from = question.from.clone();
        'seek: loop {
            for kept in self.messages.from(&from) {
                let message = &kept.message;
                let topic = message.topic();
                let is_full =
                    messages.len() >= limits.messages || !messages.is_empty() && bytes + message.size() > limits.bytes;
                if is_full || topics >= limits.topics || nodes >= limits.nodes {
                    return Found { messages, next: Some(topic.as_str().into()), looked_at: topics + nodes };
                }
                topics += 1;
                match question.filters.seek(topic.as_str(), &mut nodes) {
                    Sought::Match(place) => {
                        let comes_live = question.sent.get(kept.shard).is_some_and(|sent| kept.number > *sent);
                        if !comes_live && message.expires() > now {
                            bytes += message.size();
                            messages.push((place, message.clone()));
                        }
                    }
                    Sought::Next(next) => {
                        from = next;
                        continue 'seek;
                    }
                    Sought::End => break 'seek,
                }
            }
            break;
        }
        Found { messages, next: None, looked_at: topics + nodes }
    }

    /// Forgets what has expired among so many topics from `from` on, which makes `room`. Gives where to go on; none if it is at the end.
    pub fn forget_expired(&mut self, from: &str, topics: usize, now: Time, room: &Room) -> Option<Box<str>> {
        if self.expiring == 0 {
            return None;
        }
        let mut expired: Vec<Message> = Vec::new();
        let mut next = None;
        for (at, Kept { message, .. }) in self.messages.from(from).enumerate() {
            if at == topics {
                next = Some(message.topic().as_str().into());
                break;
            }
            expired.extend((message.expires() <= now).then(|| message.clone()));
        }
        expired.iter().for_each(|message| self.remove(message.topic().as_str(), room));
        next
    }

    fn remove(&mut self, topic: &str, room: &Room) {
        if let Some(old) = self.messages.remove(topic) {
            self.note_out(&old.message);
            self.held.set(PLACE * self.messages.len());
            if !is_own(&old.message) {
                room.leave(old.message.size());
            }
        }
    }

    fn note_in(&mut self, message: &Message) {
        self.bytes += message.size();
        self.expiring += usize::from(message.expires() != Time::NEVER);
    }

    fn note_out(&mut self, message: &Message) {
        self.bytes -= message.size();
        self.expiring -= usize::from(message.expires() != Time::NEVER);
    }
}

/// Whether a message is one about the broker itself. Nobody else publishes there: what clients send to these topics is not routed.
fn is_own(message: &Message) -> bool {
    message.topic().as_str().starts_with("$SYS/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RetainedConfig};
    use crate::message::Publication;
    use crate::topic::{FilterSet, TopicFilter, TopicName};

    const ALL: PageLimits =
        PageLimits { messages: usize::MAX, bytes: usize::MAX, topics: usize::MAX, nodes: usize::MAX };

    fn kept(topic: &str, payload: &[u8], expires: Time) -> Kept {
        let mut publication = Publication::new(TopicName::trusted(topic), payload);
        publication.expires = expires;
        Kept { message: publication.keep(), shard: 0, number: 1 }
    }

    /// The room that two shards share.
    fn room(limits: &RetainedConfig, shard: usize) -> Room {
        let config = Config { retained: limits.clone(), ..Config::default() };
        Room { may_grow: true, most_of_one: limits.max_message_bytes, quotas: Quotas::new(&config, 2), shard }
    }

    fn store_of(topics: &[&str]) -> Store {
        let mut store = Store::default();
        for topic in topics {
            let outcome = store.store(kept(topic, b"x", Time::NEVER), &room(&RetainedConfig::default(), 0));
            assert_eq!(outcome, Retention::Kept);
        }
        store
    }

    fn question(filters: &[&str]) -> RetainedQuestion {
        let filters = filters.iter().map(|filter| TopicFilter::parse(filter, 8).expect("a valid filter")).collect();
        let (filters, sent) = (Arc::new(FilterSet::new(filters)), Arc::from([u64::MAX]));
        RetainedQuestion { token: 1, mountpoint: "".into(), filters, from: "".into(), sent, after: [0].into() }
    }

    fn matching(store: &Store, filter: &str, now: Time) -> Vec<Vec<u8>> {
        let found = store.page(&question(&[filter]), &ALL, now);
        assert_eq!(found.next, None);
        found.messages.iter().map(|(_, message)| message.payload().to_vec()).collect()
    }

    /// The topics of each page.
    fn pages(store: &Store, filters: &[&str], limits: &PageLimits) -> Vec<Vec<String>> {
        let (mut question, mut pages) = (question(filters), Vec::new());
        loop {
            let found = store.page(&question, limits, Time::ZERO);
            pages.push(found.messages.iter().map(|(_, message)| message.topic().as_str().to_owned()).collect());
            let Some(next) = found.next else { return pages };
            question.from = next;
        }
    }

    /// [MQTT-3.3.1-5], [MQTT-3.3.1-6]
    #[test]
    fn the_last_message_of_a_topic_is_kept_until_an_empty_one_clears_it() {
        let (mut store, room) = (Store::default(), room(&RetainedConfig::default(), 0));
        assert_eq!(store.store(kept("a", b"1", Time::NEVER), &room), Retention::Kept);
        assert_eq!(store.store(kept("a", b"2", Time::NEVER), &room), Retention::Kept);
        assert_eq!((store.len(), matching(&store, "+", Time::ZERO)), (1, vec![b"2".to_vec()]));
        assert_eq!(store.store(kept("a", b"", Time::NEVER), &room), Retention::Cleared);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    /// What one shard leaves, another may use.
    #[test]
    fn a_limit_refuses_what_is_new_and_forgets_what_was_there_for_the_topic() {
        let (mut store, mut other) = (Store::default(), Store::default());
        let limits = RetainedConfig {
            max_messages: Limit::at_most(4),
            max_message_bytes: Limit::at_most(2),
            ..Default::default()
        };
        let room = room(&limits, 0);
        let on_other = Room { quotas: room.quotas.clone(), shard: 1, ..room };
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &room);
        assert_eq!(["a", "b", "c"].map(|topic| stored(topic, b"1")), [Retention::Kept; 3]);
        assert_eq!(other.store(kept("d", b"1", Time::NEVER), &on_other), Retention::Kept);
        assert_eq!(other.store(kept("e", b"1", Time::NEVER), &on_other), Retention::Refused, "there are four");
        assert_eq!(stored("b", b""), Retention::Cleared);
        assert_eq!(other.store(kept("e", b"1", Time::NEVER), &on_other), Retention::Kept);
        assert_eq!(stored("a", b"too long"), Retention::Refused);
        assert_eq!((store.len(), matching(&store, "#", Time::ZERO)), (1, vec![b"1".to_vec()]));
    }

    /// What replaces a message and is not larger is kept, and so is what the broker says about itself.
    #[test]
    fn without_memory_nothing_grows() {
        let mut store = store_of(&["a", "b", "$SYS/x"]);
        let mut room = room(&RetainedConfig::default(), 0);
        room.quotas.retained_messages.take(0, 2);
        room.may_grow = false;
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &room);
        assert_eq!([stored("a", b"y"), stored("c", b"1")], [Retention::Kept, Retention::Refused]);
        assert_eq!([stored("$SYS/x", b"more"), stored("$SYS/y", b"1")], [Retention::Kept; 2]);
        assert_eq!([stored("b", b"larger"), stored("b", b"1")], [Retention::Refused; 2]);
        assert_eq!(stored("a", b""), Retention::Cleared);
        room.may_grow = true;
        assert_eq!(store.store(kept("b", b"1", Time::NEVER), &room), Retention::Kept);
    }

    #[test]
    fn what_is_about_the_broker_itself_is_kept_whatever_clients_have_filled() {
        let mut store = Store::default();
        let bytes = kept("a", b"1", Time::NEVER).message.size();
        let limits = RetainedConfig {
            max_messages: Limit::at_most(1),
            max_total_bytes: Limit::at_most(bytes),
            max_message_bytes: Limit::at_most(1),
            ..Default::default()
        };
        let room = room(&limits, 0);
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &room);
        assert_eq!(stored("$SYS/broker/uptime", b"1"), Retention::Kept);
        assert_eq!(stored("a", b"1"), Retention::Kept, "the other one does not count");
        assert_eq!(stored("b", b"1"), Retention::Refused);
        assert_eq!(stored("$SYS/broker/uptime", b"21"), Retention::Kept);
        assert_eq!(stored("$SYS/broker/version", b"1"), Retention::Kept);
        assert_eq!(stored("a", b"2"), Retention::Kept);
        assert_eq!(stored("$SYS/broker/version", b""), Retention::Cleared);
        assert_eq!(stored("$SYSTEM", b"1"), Retention::Refused, "that is somebody else");
        assert_eq!((store.len(), matching(&store, "$SYS/#", Time::ZERO)), (2, vec![b"21".to_vec()]));
        let expiring = kept("$SYS/broker/uptime", b"3", Time::from_millis(5));
        store.store(expiring, &room);
        assert_eq!(store.forget_expired("", 9, Time::from_millis(5), &room), None);
        assert_eq!((store.len(), store.bytes()), (1, bytes));
        assert_eq!(store.store(kept("b", b"1", Time::NEVER), &room), Retention::Refused, "that made no room");
    }

    #[test]
    fn the_bytes_of_all_shards_are_limited_together() {
        let size = kept("a", b"1", Time::NEVER).message.size();
        let limits = RetainedConfig { max_total_bytes: Limit::at_most(2 * size + 1), ..Default::default() };
        let (mut store, room) = (Store::default(), room(&limits, 0));
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &room);
        assert_eq!(
            ["a", "b", "c"].map(|topic| stored(topic, b"1")),
            [Retention::Kept, Retention::Kept, Retention::Refused]
        );
        assert_eq!(
            [&b"12"[..], b"123", b"1"].map(|payload| stored("a", payload)),
            [Retention::Kept, Retention::Refused, Retention::Kept,]
        );
        assert_eq!(store.bytes(), 2 * size);
    }

    #[test]
    fn what_has_expired_is_not_found_and_is_forgotten_in_portions() {
        let (mut store, room, at) =
            (store_of(&["a", "c", "e"]), room(&RetainedConfig::default(), 0), Time::from_millis(5));
        assert_eq!(
            store.forget_expired("", 0, at, &room),
            None,
            "none of them ever will: there is nothing to look for"
        );
        for topic in ["b", "d", "f"] {
            store.store(kept(topic, b"soon", at), &room);
        }
        assert_eq!(matching(&store, "#", at).len(), 3);
        assert_eq!(store.forget_expired("", 4, at, &room), Some("e".into()));
        assert_eq!((store.len(), store.expiring), (4, 1));
        assert_eq!(store.forget_expired("e", 4, Time::ZERO, &room), None, "it is not time yet");
        assert_eq!(store.forget_expired("e", 4, at, &room), None);
        assert_eq!((store.len(), store.expiring), (3, 0));
        assert_eq!(store.bytes(), 3 * kept("a", b"x", Time::NEVER).message.size());
    }

    #[test]
    fn a_page_has_so_many_messages_or_bytes_but_one_at_least() {
        let store = store_of(&["a", "b", "c", "d", "e"]);
        let two = [&["a", "b"][..], &["c", "d"], &["e"]];
        assert_eq!(pages(&store, &["#"], &PageLimits { messages: 2, ..ALL }), two);
        let size = kept("a", b"x", Time::NEVER).message.size();
        assert_eq!(pages(&store, &["#"], &PageLimits { bytes: 2 * size, ..ALL }), two);
        assert_eq!(pages(&store, &["#"], &PageLimits { bytes: 1, ..ALL }).concat(), two.concat());
    }

    #[test]
    fn a_page_ends_when_enough_was_looked_at() {
        let topics: Vec<_> = (100..200).map(|number| format!("t/{number}/x")).collect();
        let store = store_of(&topics.iter().map(String::as_str).collect::<Vec<_>>());
        let found = pages(&store, &["+/+/y"], &PageLimits { topics: 7, ..ALL });
        assert_eq!((found.len(), found.concat().len()), (100_usize.div_ceil(7), 0));
        let found = pages(&store, &["+/+/x"], &PageLimits { nodes: 40, ..ALL });
        assert!(found.iter().all(|page| page.len() <= 10) && found.concat() == topics, "{found:?}");
        let found = pages(&store, &["t/150/x", "t/160/x"], &PageLimits { topics: 5, ..ALL });
        assert_eq!(found, [["t/150/x", "t/160/x"]], "the walk passes over what cannot match");
    }

    #[test]
    fn a_walk_goes_on_behind_a_topic_though_it_has_gone_and_others_have_come() {
        let (mut store, room) = (store_of(&["a", "b", "c", "d"]), room(&RetainedConfig::default(), 0));
        let found = store.page(&question(&["#"]), &PageLimits { messages: 2, ..ALL }, Time::ZERO);
        assert_eq!(found.next.as_deref(), Some("c"));
        store.store(kept("c", b"", Time::NEVER), &room);
        store.store(kept("a2", b"x", Time::NEVER), &room);
        store.store(kept("c2", b"x", Time::NEVER), &room);
        let next = RetainedQuestion { from: "c".into(), ..question(&["#"]) };
        let found = store.page(&next, &ALL, Time::ZERO);
        let topics: Vec<_> = found.messages.iter().map(|(_, message)| message.topic().as_str()).collect();
        assert_eq!(topics, ["c2", "d"]);
    }

    #[test]
    fn what_comes_live_is_left_out() {
        let (mut store, room) = (Store::default(), room(&RetainedConfig::default(), 0));
        for (topic, shard, number) in [("a", 0, 5), ("b", 0, 6), ("c", 1, 2), ("d", 1, 3)] {
            store.store(Kept { shard, number, ..kept(topic, topic.as_bytes(), Time::NEVER) }, &room);
        }
        let asked = RetainedQuestion { sent: Arc::from([5, 2]), ..question(&["#"]) };
        let found = store.page(&asked, &ALL, Time::ZERO).messages;
        assert_eq!(found.iter().map(|(_, message)| message.payload()).collect::<Vec<_>>(), [b"a", b"c"]);
    }
}
