//! Publications on their way to recipients that are too many for one turn.
//!
//! They are delivered in portions, in the order in which they were published. While one is under way, what is published after it to the same
//! topic waits behind it, so that no recipient gets two messages of a topic in another order than others do; so does what comes from the
//! same client, or from nobody, as wills do. All else goes past. A client is not served while a publication of it is here, so
//! there is no more than one of each, and messages of other shards wait where they are.
//!
//! How many recipients wait in all is bounded: beyond that who has just published to very many publishes nothing more until there are fewer, no
//! will does, and beyond a few times that nobody does. A list of recipients is memory, and a publication that waits behind many others comes late.
//!
//! A publication to one is here, too, if it is large and very many small messages have to give way to it in a queue: some of them do so in each
//! portion, until it has room.
//!
//! A recipient is known by the place of its session, and by the session's instance number: the session may have ended when its portion
//! comes, and another one have its place.

use std::collections::VecDeque;

use crate::memory::{Held, MemoryKind, allocated_for};
use crate::message::{Message, Publication};
use crate::session::{PublicationId, Recipient};
use crate::sharding::Publisher;

/// A publication, and who is still to get it.
pub struct FanOut {
    /// The message.
    pub message: Message,
    /// Which of all publications it is.
    pub id: PublicationId,
    /// Who published it, if a client did.
    pub publisher: Option<Publisher>,
    /// The mountpoint it was published in.
    pub mountpoint: u32,
    /// A member of a shared subscription had it waiting, or it waited for one to come.
    pub is_moved: bool,
    /// The recipients, each with the instance number of its session, or the number of the program's subscription.
    pub recipients: VecDeque<(Recipient, u64)>,
}

impl FanOut {
    /// The same publication for these recipients alone.
    fn with(&self, recipients: VecDeque<(Recipient, u64)>) -> Self {
        FanOut { message: self.message.clone(), recipients, ..*self }
    }
}

/// When this many times as many recipients wait as may, nobody publishes.
pub const FULL: usize = 8;
/// Most publications that are under way when they are not full: who looks for one goes through all of them.
const MOST: usize = 1024;

/// All that are under way on a shard, in order.
#[derive(Default)]
pub struct FanOuts {
    /// Each with its number.
    waiting: VecDeque<(u64, FanOut)>,
    /// How many there were in all.
    begun: u64,
    /// Recipients that wait, of all together.
    recipients: usize,
    /// How many there had been when a will was published last.
    begun_at_will: u64,
    /// Whether the next room is for wills.
    is_room_kept: bool,
    held: Held<{ MemoryKind::Queues as u8 }>,
}

impl FanOuts {
    /// Whether none is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a publication has to go behind what is under way.
    pub fn holds_up(&self, mountpoint: u32, publication: &Publication<'_>, publisher: Option<Publisher>) -> bool {
        let topic = publication.topic;
        self.waiting.iter().any(|(_, fan_out)| {
            publisher.is_none()
                || fan_out.publisher == publisher
                || fan_out.mountpoint == mountpoint && fan_out.message.topic() == topic
        })
    }

    /// Whether a publication of this client is under way.
    pub fn has_of(&self, publisher: Publisher) -> bool {
        self.waiting.iter().any(|(_, fan_out)| fan_out.publisher == Some(publisher))
    }

    /// Whether a client waits before it publishes: it is one that has just published to very many, and more recipients wait than `most`; or
    /// many times as many do.
    #[inline]
    pub fn is_full(&self, most: usize, to_many: bool) -> bool {
        if to_many { self.is_room_kept || self.has_many(most) } else { self.has_many(most.saturating_mul(FULL)) }
    }

    /// Whether a will waits before it is published: more recipients wait than `most`.
    #[inline]
    pub fn has_many(&self, most: usize) -> bool {
        self.recipients > most || self.waiting.len() >= MOST
    }

    /// Wills wait until there is room: the next is kept for them, if others had the last. Who publishes to very many again and again leaves none.
    pub fn keep_room(&mut self) {
        self.is_room_kept = self.begun > self.begun_at_will;
    }

    /// Keeps no room any more.
    pub fn keep_no_room(&mut self) {
        self.is_room_kept = false;
    }

    /// A will has been published: others have the next room.
    pub fn note_will(&mut self) {
        self.begun_at_will = self.begun;
    }

    /// The message whose next portion comes first.
    pub fn first(&self) -> Option<&Message> {
        self.waiting.front().map(|(_, first)| &first.message)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many recipients wait.
    pub fn recipients(&self) -> usize {
        self.recipients
    }

    /// One more, behind the others; or more recipients of the last one.
    pub fn push(&mut self, fan_out: FanOut) {
        if fan_out.recipients.is_empty() {
            return;
        }
        self.recipients += fan_out.recipients.len();
        match self.waiting.back_mut() {
            Some((_, last)) if last.id == fan_out.id && last.id != PublicationId::NONE => {
                last.recipients.extend(fan_out.recipients);
            }
            _ => {
                self.waiting.push_back((self.begun, fan_out));
                self.begun += 1;
            }
        }
        self.count();
    }

    /// The last portion, of the publication with this number, was too much for some: these are to have it before anything else.
    pub fn put_back(&mut self, number: u64, fan_out: FanOut) {
        self.recipients += fan_out.recipients.len();
        match self.waiting.front_mut() {
            Some((first, rest)) if *first == number => rest.recipients.extend(fan_out.recipients),
            _ => self.waiting.push_front((number, fan_out)),
        }
        self.count();
    }

    /// Has what is held counted. Lists keep their memory until they are done; of what is left of them, much may have gone.
    fn count(&mut self) {
        self.held.set(allocated_for::<(Recipient, u64)>(self.recipients));
    }

    /// How many have been pushed.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// How many of these are done: all before the first that is not.
    pub fn done(&self) -> u64 {
        self.waiting.front().map_or(self.begun, |(number, _)| *number)
    }

    /// The next portion, of `most` recipients at most: the first publication, with these alone, and its number.
    pub fn portion(&mut self, most: usize) -> Option<(u64, FanOut)> {
        let (number, first) = self.waiting.front_mut()?;
        let number = *number;
        if first.recipients.len() <= most {
            let (_, last) = self.waiting.pop_front()?;
            self.recipients -= last.recipients.len();
            self.count();
            return Some((number, last));
        }
        let recipients = first.recipients.drain(..most).collect();
        self.recipients -= most;
        // Else all of it would stay until its last portion.
        if first.recipients.len() < first.recipients.capacity() / 2 {
            first.recipients.shrink_to_fit();
        }
        Some((number, first.with(recipients)))
    }

    /// All of it, in order.
    pub fn take_all(&mut self) -> Vec<FanOut> {
        self.recipients = 0;
        self.count();
        std::mem::take(&mut self.waiting).into_iter().map(|(_, fan_out)| fan_out).collect()
    }

    /// What is under way to one session, in order: it is about to leave.
    #[cold]
    pub fn take_for(&mut self, session: u32) -> Vec<FanOut> {
        let mut taken = Vec::new();
        for (_, fan_out) in &mut self.waiting {
            let found = fan_out.recipients.iter().filter(|(recipient, _)| recipient.session == session);
            let recipients: VecDeque<_> = found.cloned().collect();
            if !recipients.is_empty() {
                fan_out.recipients.retain(|(recipient, _)| recipient.session != session);
                taken.push(fan_out.with(recipients));
            }
        }
        self.waiting.retain(|(_, fan_out)| !fan_out.recipients.is_empty());
        self.recipients -= taken.iter().map(|fan_out| fan_out.recipients.len()).sum::<usize>();
        self.count();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ConnectionId;
    use crate::codec::QoS;
    use crate::session::SubscriptionIds;
    use crate::topic::TopicName;

    fn fan_out(sequence: u64, sessions: &[u32]) -> FanOut {
        let recipient = |session: &u32| {
            let (qos, ids) = (QoS::AtMostOnce, SubscriptionIds::new());
            let recipient = Recipient { session: *session, qos, retain_as_published: false, ids, group: None };
            (recipient, u64::from(*session))
        };
        FanOut {
            message: Publication::new(TopicName::trusted("t"), b"x").keep(),
            id: PublicationId { shard: 0, sequence },
            publisher: None,
            mountpoint: 0,
            is_moved: false,
            recipients: sessions.iter().map(recipient).collect(),
        }
    }

    fn seen(fan_out: &FanOut) -> (u64, Vec<u32>) {
        (fan_out.id.sequence, fan_out.recipients.iter().map(|(recipient, _)| recipient.session).collect())
    }

    #[test]
    fn portions_come_in_order_and_one_publication_after_the_other() {
        let mut fan_outs = FanOuts::default();
        [fan_out(1, &[1, 2, 3, 4, 5]), fan_out(2, &[]), fan_out(3, &[1])]
            .into_iter()
            .for_each(|one| fan_outs.push(one));
        let portions: Vec<_> = std::iter::from_fn(|| fan_outs.portion(2)).map(|(_, portion)| seen(&portion)).collect();
        assert_eq!(portions, [(1, vec![1, 2]), (1, vec![3, 4]), (1, vec![5]), (3, vec![1])]);
        assert!(fan_outs.is_empty());
    }

    #[test]
    fn what_is_put_back_stays_in_front_and_is_one_publication() {
        let mut fan_outs = FanOuts::default();
        [fan_out(1, &[1, 2, 3, 4]), fan_out(1, &[5]), fan_out(2, &[6])].into_iter().for_each(|one| fan_outs.push(one));
        let (number, portion) = fan_outs.portion(2).expect("there are some");
        assert_eq!(seen(&portion), (1, vec![1, 2]));
        fan_outs.put_back(number, fan_out(1, &[2]));
        let (number, portion) = fan_outs.portion(9).expect("there are some");
        assert_eq!((seen(&portion), fan_outs.done()), ((1, vec![3, 4, 5, 2]), 1));
        fan_outs.put_back(number, fan_out(1, &[4]));
        assert_eq!((fan_outs.done(), fan_outs.begun(), fan_outs.recipients()), (0, 2, 2));
        let portions: Vec<_> = std::iter::from_fn(|| fan_outs.portion(9)).map(|(_, portion)| seen(&portion)).collect();
        assert_eq!(portions, [(1, vec![4]), (2, vec![6])]);
    }

    #[test]
    fn they_are_full_sooner_for_who_publishes_to_many() {
        let mut fan_outs = FanOuts::default();
        let full = |fan_outs: &FanOuts| [true, false].map(|to_many| fan_outs.is_full(4, to_many));
        fan_outs.push(fan_out(1, &[1, 2, 3, 4]));
        assert_eq!(full(&fan_outs), [false, false]);
        fan_outs.push(fan_out(2, &[1]));
        assert_eq!(full(&fan_outs), [true, false]);
        (0..28).for_each(|sequence| fan_outs.push(fan_out(sequence, &[1])));
        assert_eq!(full(&fan_outs), [true, true]);
        fan_outs.portion(1);
        assert_eq!(full(&fan_outs), [true, false]);
        fan_outs.take_for(1);
        assert_eq!(full(&fan_outs), [false, false]);
        fan_outs.take_all();
        (0..MOST as u64).for_each(|sequence| fan_outs.push(fan_out(sequence, &[1])));
        assert!(fan_outs.is_full(usize::MAX, false), "so many publications");
    }

    #[test]
    fn room_is_kept_from_who_publishes_to_very_many_alone() {
        let mut fan_outs = FanOuts::default();
        let full = |fan_outs: &FanOuts| [true, false].map(|to_many| fan_outs.is_full(2, to_many));
        fan_outs.push(fan_out(1, &[1, 2]));
        assert_eq!(full(&fan_outs), [false, false]);
        fan_outs.keep_room();
        assert_eq!(full(&fan_outs), [true, false]);
        assert!(!fan_outs.has_many(2) && fan_outs.has_many(1), "a will may take it");
        fan_outs.note_will();
        fan_outs.keep_room();
        assert_eq!(full(&fan_outs), [false, false], "others have the next");
        fan_outs.push(fan_out(2, &[]));
        fan_outs.keep_room();
        assert_eq!(full(&fan_outs), [false, false], "that was for nobody");
        fan_outs.push(fan_out(2, &[1]));
        fan_outs.portion(1);
        fan_outs.keep_room();
        assert_eq!(full(&fan_outs), [true, false], "they had it");
        fan_outs.keep_no_room();
        assert_eq!(full(&fan_outs), [false, false]);
    }

    #[test]
    fn what_goes_past_is_of_another_topic_and_another_client() {
        let publisher = |index| Some(Publisher { shard: 0, connection: ConnectionId::new(index, 0) });
        let to = |topic| Publication::new(TopicName::trusted(topic), b"y");
        let mut fan_outs = FanOuts::default();
        assert!(!fan_outs.holds_up(0, &to("t"), None));
        fan_outs.push(FanOut { publisher: publisher(1), ..fan_out(1, &[1, 2, 3]) });
        assert!(!fan_outs.holds_up(0, &to("u"), publisher(2)));
        assert!(!fan_outs.holds_up(1, &to("t"), publisher(2)), "in another mountpoint it is another topic");
        assert!(fan_outs.holds_up(0, &to("t"), publisher(2)));
        assert!(fan_outs.holds_up(0, &to("u"), publisher(1)));
        assert!(fan_outs.holds_up(0, &to("u"), None));
        assert!(publisher(1).is_some_and(|publisher| fan_outs.has_of(publisher)));
        assert!(publisher(2).is_some_and(|publisher| !fan_outs.has_of(publisher)));
    }

    #[test]
    fn who_leaves_takes_along_what_is_on_its_way_to_it() {
        let mut fan_outs = FanOuts::default();
        [fan_out(1, &[1, 2, 3]), fan_out(2, &[2]), fan_out(3, &[1])].into_iter().for_each(|one| fan_outs.push(one));
        let taken: Vec<_> = fan_outs.take_for(2).iter().map(seen).collect();
        assert_eq!(taken, [(1, vec![2]), (2, vec![2])]);
        assert!(fan_outs.take_for(2).is_empty());
        let left: Vec<_> = std::iter::from_fn(|| fan_outs.portion(9)).map(|(_, portion)| seen(&portion)).collect();
        assert_eq!(left, [(1, vec![1, 3]), (3, vec![1])]);
    }
}
