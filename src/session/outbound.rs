//! Messages to a client: the window of those in flight, their packet ids, and the queue behind the window.

use super::in_flight::{IDS, InFlight, Stage, packet_id};
use super::waiting::Look;
use super::window::Window;
use super::{Key, OutgoingMessage, Queue};
use crate::codec::PacketId;
use crate::config::QueueType;
use crate::message::Message;
use crate::time::Time;

/// Everything on its way to one client.
///
/// Each message in flight has a sequence, of which its packet id is made: 1 to 65535 and around; one that is still in use is skipped
/// [MQTT-2.2.1-3]. The window is ordered by the time of first sending, which is the order of redelivery [MQTT-4.6.0-1], and by sequence.
///
/// A message that is stored has its sequence, its [`Key`], from when that was: it is known then under which packet id it will be sent.
#[derive(Debug, Default)]
// The order matters to the session, see there.
#[repr(C)]
pub struct Outbound {
    window: Window,
    next_sequence: u64,
    /// Stored messages with keys below this one are on disk.
    pub on_disk_below: u64,
    /// The first sequence whose packet id may be in use. It spares a look at the oldest entry, which lies far from the newest.
    free_below: u64,
    /// How many messages at the end of the window are still to be sent again.
    unsent: usize,
    /// Retained messages wait for room in the window or on the connection, where the shard has them.
    pub replay_waits: bool,
    /// Messages behind the window.
    pub queue: Queue,
    /// The sequence of the first message that is still to be sent again, if there is one.
    unsent_from: u64,
    /// Of a member of shared subscriptions for which something waits: how it was when that was looked at last.
    pub stall_watch: Option<StallWatch>,
}

/// A look at a member for which something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallWatch {
    /// How many messages had been taken out of its queue to be sent.
    pub taken: u64,
    /// Whether it had taken none since the look before.
    pub is_stalled: bool,
    /// When the next look is due.
    pub next: Time,
}

/// A message that was stored, and has not been acknowledged.
#[derive(Debug)]
pub enum Restored {
    /// It was not sent; it has a key.
    Waiting(OutgoingMessage),
    /// It was sent, with QoS 1 or 2, under its key.
    Sent(OutgoingMessage),
    /// It was sent with QoS 2 under this key, and the client has it.
    Received(Key),
}

impl Restored {
    /// The sequence it was sent under, if it was.
    fn sequence(&self) -> Option<u64> {
        match self {
            Restored::Waiting(_) => None,
            Restored::Sent(delivery) => Some(delivery.key.get()),
            Restored::Received(key) => Some(key.get()),
        }
    }
}

/// The packet ids of a window that is being filled. Nearly always its sequences are so near to each other that no two have one.
#[derive(Default)]
struct UsedIds(Vec<bool>);

impl UsedIds {
    /// Takes the id of `sequence`, which is above all in `window`. Whether it was not in use, and there is another one left.
    fn take(&mut self, window: &Window, sequence: u64) -> bool {
        let Some(first) = window.first().map(InFlight::sequence) else { return true };
        if self.0.is_empty() && sequence - first >= IDS - 1 {
            self.0.resize(IDS as usize, false);
            window.in_order().for_each(|entry| self.0[(entry.sequence() % IDS) as usize] = true);
        }
        let Some(is_used) = self.0.get_mut((sequence % IDS) as usize) else { return true };
        let is_free = !*is_used && window.len() < IDS as usize - 1;
        *is_used |= is_free;
        is_free
    }
}

impl Outbound {
    /// What was stored before the broker started, in the order of the keys. All that was sent is in flight, and to be sent again. New messages get
    /// keys from `next_sequence` on, which is above all these.
    ///
    /// No two messages are in flight with one packet id: of two that are said to be, the later one waits, or is forgotten if the client has it.
    pub fn restored(messages: impl IntoIterator<Item = Restored>, next_sequence: u64) -> Self {
        let mut outbound = Outbound { next_sequence, on_disk_below: next_sequence, ..Outbound::default() };
        let mut ids = UsedIds::default();
        for message in messages {
            let is_taken = message.sequence().is_some_and(|sequence| {
                debug_assert!(sequence < next_sequence, "it is above all of them");
                !ids.take(&outbound.window, sequence)
            });
            match message {
                Restored::Sent(delivery) if !is_taken => {
                    outbound.window.push(InFlight::new(delivery.key.get(), delivery, None));
                }
                Restored::Waiting(delivery) | Restored::Sent(delivery) => outbound.queue.restore(delivery),
                Restored::Received(key) if !is_taken => outbound.window.push(InFlight::received_before(key.get())),
                Restored::Received(_) => {}
            }
        }
        outbound.send_again();
        outbound
    }

    /// Whether it is a member that took nothing between two looks, and has not since.
    pub fn is_stalled(&self) -> bool {
        self.stall_watch.is_some_and(|watch| watch.is_stalled && watch.taken == self.queue.taken())
    }

    /// The memory it takes, in bytes, with all messages.
    pub fn memory(&self) -> usize {
        self.window.memory() + self.queue.memory()
    }

    /// How many messages are in flight: what counts against the client's Receive Maximum [MQTT-3.3.4-9].
    pub fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Whether a message may be sent with `send_maximum` in flight at most. Not while others are to be sent again first.
    pub fn has_room(&self, send_maximum: u16) -> bool {
        self.unsent == 0 && self.window.len() < usize::from(send_maximum)
    }

    /// Everything in flight is to be sent again.
    pub fn send_again(&mut self) {
        self.unsent = self.window.len();
        self.unsent_from = self.oldest().unwrap_or(0);
    }

    /// Whether something waits to be sent, for the first time or again, here or with the retained messages.
    #[inline]
    pub fn is_anything_waiting(&self) -> bool {
        !self.queue.is_empty() || self.has_unsent() | self.replay_waits
    }

    /// Whether something is left that is to be sent again.
    pub fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// The next message to be sent again; none if there is none, or if it has to wait because `send_maximum` messages are
    /// unacknowledged: the client may have come back with a smaller Receive Maximum [MQTT-3.3.4-9].
    pub fn next_unsent(&self, send_maximum: u16) -> Option<&InFlight> {
        let entry = self.window.at(self.first_unsent()?);
        let before = self.window.len() - self.unsent;
        (entry.stage() == Stage::AwaitingPubcomp || before < usize::from(send_maximum)).then_some(entry)
    }

    /// The message from [`Outbound::next_unsent`] was sent.
    pub fn sent_again(&mut self) {
        self.unsent -= 1;
        self.unsent_from += 1;
        self.find_unsent();
    }

    /// The message from [`Outbound::next_unsent`] can never be sent.
    pub fn drop_unsent(&mut self) -> Option<InFlight> {
        let at = self.first_unsent()?;
        self.unsent -= 1;
        let dropped = self.window.remove(at);
        self.find_unsent();
        dropped
    }

    /// The place of the first message that is still to be sent again.
    fn first_unsent(&self) -> Option<usize> {
        if self.unsent == 0 { None } else { self.window.first_from(self.unsent_from) }
    }

    /// The first message that is still to be sent again is another one now. So no gap is passed over twice.
    fn find_unsent(&mut self) {
        if let Some(at) = self.window.first_from(self.unsent_from) {
            self.unsent_from = self.window.at(at).sequence();
        }
    }

    /// The sequence of the message that is put in flight next, from which its packet id follows. There must be room.
    #[inline]
    pub fn next_sequence(&mut self) -> u64 {
        debug_assert!(self.window.len() < IDS as usize, "a window pauses no more than there are packet ids");
        if self.next_sequence >= self.free_below {
            self.find_free();
        }
        self.next_sequence
    }

    /// The same of a message that has waited, with this key: that, if it is stored, unless what was sent before has a later one (the latest
    /// may be sent first, and retained messages go past), or its packet id is in use.
    pub fn next_sequence_for(&mut self, key: Key) -> u64 {
        if key.is_none() {
            return self.next_sequence();
        }
        let key = key.get();
        let comes_next = self.window.last().is_none_or(|last| last.sequence() < key);
        match comes_next && (key < self.free_below || self.window.find(packet_id(key)).is_none()) {
            true => key,
            false => self.next_sequence(),
        }
    }

    /// The key of the message that was put in flight last.
    pub fn last_key(&self) -> Option<Key> {
        self.window.last().map(|last| Key::new(last.sequence()))
    }

    /// The message under `id`, if that is in flight.
    pub fn under(&self, id: PacketId) -> Option<&InFlight> {
        self.window.find(id).map(|at| self.window.at(at))
    }

    /// Whether a message of QoS 2 that waits need not wait for the disk: its packet id must not be that of another message after a crash.
    pub fn is_on_disk(&self, key: Key) -> bool {
        key.is_none() || key.get() < self.on_disk_below
    }

    /// The message that comes next out of the queue gets another key.
    pub fn renumber_next(&mut self, order: QueueType) -> Key {
        let key = self.take_key();
        self.queue.renumber_next(order, key);
        key
    }

    /// The last key that was given.
    pub fn last_given(&self) -> Option<Key> {
        self.next_sequence.checked_sub(1).map(Key::new)
    }

    /// A message is stored that waits: its key.
    pub fn take_key(&mut self) -> Key {
        Self::next_key(&mut self.next_sequence)
    }

    /// The key that is given next.
    fn next_key(next_sequence: &mut u64) -> Key {
        *next_sequence += 1;
        Key::new(*next_sequence - 1)
    }

    /// Nothing of it is on disk, and all is to be: what waits and has no key gets one.
    pub fn is_on_disk_nowhere(&mut self) {
        let Outbound { queue, next_sequence, .. } = self;
        queue.give_keys(|| Self::next_key(next_sequence));
        self.on_disk_below = 0;
    }

    /// Skips sequences whose packet ids are in use, and sets the first sequence whose id may be in use: ids repeat after 65,535
    /// sequences.
    #[cold]
    fn find_free(&mut self) {
        while self.window.first().is_some_and(|oldest| self.next_sequence - oldest.sequence() >= IDS)
            && self.window.find(packet_id(self.next_sequence)).is_some()
        {
            self.next_sequence += 1;
        }
        let oldest = self.window.first().map_or(self.next_sequence, InFlight::sequence);
        self.free_below = (oldest + IDS).max(self.next_sequence + 1);
    }

    /// Puts a QoS 1 or 2 message in flight, under the sequence that [`next_sequence`](Self::next_sequence) or
    /// [`next_sequence_for`](Self::next_sequence_for) has given, with what a hook made of it.
    // Always inline, so that the entry is built where it stays.
    #[inline(always)]
    pub fn put_in_flight(&mut self, sequence: u64, delivery: OutgoingMessage, rewritten: Option<Message>) {
        self.window.push(InFlight::new(sequence, delivery, rewritten));
        self.next_sequence = self.next_sequence.max(sequence + 1);
    }

    /// Puts a message in flight, and gives its packet id.
    #[cfg(test)]
    pub fn launch(&mut self, delivery: OutgoingMessage) -> PacketId {
        let sequence = self.next_sequence_for(delivery.key);
        self.put_in_flight(sequence, delivery, None);
        packet_id(sequence)
    }

    /// PUBACK, or the end of a QoS 2 exchange by a PUBREC with an error: the message is out of the window. False if the id
    /// is not in flight at that stage.
    #[inline]
    pub fn complete(&mut self, id: PacketId, stage: Stage) -> bool {
        let Some(at) = self.window.find(id) else { return false };
        let entry = self.window.at(at);
        if entry.stage() != stage {
            return false;
        }
        let sequence = entry.sequence();
        drop(self.window.remove(at));
        if self.unsent > 0 {
            self.completed_unsent(sequence);
        }
        true
    }

    /// A message was acknowledged, perhaps before it was sent again: then it need not be.
    #[cold]
    fn completed_unsent(&mut self, sequence: u64) {
        if sequence >= self.unsent_from {
            self.unsent -= 1;
        }
        if sequence == self.unsent_from {
            self.find_unsent();
        }
    }

    /// PUBREC: the client has the message; PUBREL is to be sent. Also true for a repeated PUBREC [MQTT-4.3.3-4].
    pub fn received(&mut self, id: PacketId) -> bool {
        let Some(at) = self.window.find(id) else { return false };
        let entry = self.window.at_mut(at);
        if entry.stage() == Stage::AwaitingPuback {
            return false;
        }
        entry.received();
        true
    }

    /// What the message under `id` waits for; none if the id is not in flight.
    pub fn stage(&self, id: PacketId) -> Option<Stage> {
        self.under(id).map(InFlight::stage)
    }

    /// A number that stands for the oldest message in flight.
    pub fn oldest(&self) -> Option<u64> {
        self.window.first().map(InFlight::sequence)
    }

    /// Takes the oldest message out of the window of a session that has ended: nothing of it is sent again.
    pub fn take_in_flight(&mut self) -> Option<InFlight> {
        self.unsent = 0;
        self.window.remove(0)
    }

    /// The first message in flight whose sequence is not below `from`, which is that of the next one then.
    pub fn next_in_flight(&self, from: &mut u64) -> Option<&InFlight> {
        let entry = self.window.at(self.window.first_from(*from)?);
        *from = entry.sequence() + 1;
        Some(entry)
    }

    /// Looks at the first message in flight whose sequence is not below `from`, which is that of the next one then. Takes it out of the window
    /// if `which` is true.
    pub fn look_in_flight(&mut self, from: &mut u64, which: impl FnOnce(&InFlight) -> bool) -> Look<InFlight> {
        let Some(at) = self.window.first_from(*from) else { return Look::End };
        let entry = self.window.at(at);
        let sequence = entry.sequence();
        *from = sequence + 1;
        if !which(entry) {
            return Look::Kept;
        }
        let taken = self.window.remove(at);
        if self.unsent > 0 {
            self.completed_unsent(sequence);
        }
        taken.map_or(Look::Kept, Look::Taken)
    }

    /// Takes out of the window every message for which `which` is true.
    #[cfg(test)]
    pub fn extract(&mut self, mut which: impl FnMut(&InFlight) -> bool) -> Vec<InFlight> {
        let (mut from, mut taken) = (0, Vec::new());
        loop {
            match self.look_in_flight(&mut from, &mut which) {
                Look::Taken(entry) => taken.push(entry),
                Look::Kept => {}
                Look::End => return taken,
            }
        }
    }

    /// Whether any message in flight came through a shared subscription.
    pub fn is_any_in_flight_shared(&self) -> bool {
        self.window.in_order().any(|entry| entry.group().is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::QoS;
    use crate::config::QueueType;
    use crate::session::queue::tests::delivery;

    fn outbound(next_sequence: u64) -> Outbound {
        Outbound { next_sequence, ..Outbound::default() }
    }

    fn ids(outbound: &Outbound) -> Vec<u16> {
        outbound.window.in_order().map(|entry| entry.packet_id().get()).collect()
    }

    fn deliver(outbound: &mut Outbound, delivery: OutgoingMessage) -> PacketId {
        outbound.launch(delivery)
    }

    fn id(id: u16) -> PacketId {
        PacketId::new(id).expect("not zero")
    }

    /// [MQTT-2.2.1-3]
    #[test]
    fn ids_go_round_and_pass_over_those_in_use() {
        let mut outbound = outbound(IDS - 2);
        for expected in [65_534, 65_535, 1, 2] {
            assert_eq!(deliver(&mut outbound, delivery("x", QoS::AtLeastOnce)).get(), expected);
        }
        for done in [65_535, 1, 2] {
            assert!(outbound.complete(id(done), Stage::AwaitingPuback));
        }
        outbound.next_sequence = 2 * IDS - 2;
        assert_eq!(deliver(&mut outbound, delivery("x", QoS::AtLeastOnce)).get(), 65_535, "65534 is still in flight");
        assert_eq!(ids(&outbound), [65_534, 65_535]);
    }

    #[test]
    fn a_window_may_hold_every_id_there_is_but_one() {
        let mut outbound = Outbound::default();
        let message = delivery("x", QoS::AtLeastOnce);
        for _ in 0..IDS {
            deliver(&mut outbound, message.clone());
        }
        assert!(outbound.complete(id(4711), Stage::AwaitingPuback));
        assert_eq!(deliver(&mut outbound, message).get(), 4711);
        assert_eq!(outbound.in_flight(), 65_535);
        assert!(!outbound.has_room(u16::MAX));
    }

    #[test]
    fn a_handshake_takes_its_stages_in_order() {
        let mut outbound = Outbound::default();
        let (one, two) = (
            deliver(&mut outbound, delivery("1", QoS::AtLeastOnce)),
            deliver(&mut outbound, delivery("2", QoS::ExactlyOnce)),
        );
        assert!(!outbound.received(one) && !outbound.received(id(9)));
        assert!(!outbound.complete(one, Stage::AwaitingPubcomp));
        assert!(!outbound.complete(two, Stage::AwaitingPubcomp));
        assert!(outbound.received(two) && outbound.received(two), "PUBREC may come twice [MQTT-4.3.3-4]");
        assert_eq!(outbound.stage(two), Some(Stage::AwaitingPubcomp));
        assert!(outbound.complete(two, Stage::AwaitingPubcomp));
        assert!(outbound.complete(one, Stage::AwaitingPuback));
        assert_eq!((outbound.stage(one), outbound.oldest(), outbound.in_flight()), (None, None, 0));
    }

    fn stored(outbound: &mut Outbound) -> OutgoingMessage {
        OutgoingMessage { key: outbound.take_key(), ..delivery("x", QoS::ExactlyOnce) }
    }

    #[test]
    fn a_stored_message_is_sent_under_its_key_unless_a_later_one_was_before_it() {
        let mut outbound = Outbound::default();
        let [first, second, third] = [(); 3].map(|()| stored(&mut outbound));
        assert_eq!([&first, &second, &third].map(|one| one.key.get()), [0, 1, 2]);
        assert_eq!(deliver(&mut outbound, first), id(1));
        assert_eq!(deliver(&mut outbound, third), id(3));
        assert_eq!(deliver(&mut outbound, second), id(4), "behind the third");
        assert_eq!(deliver(&mut outbound, delivery("not stored", QoS::AtLeastOnce)), id(5));
        let key = outbound.take_key();
        assert_eq!((key.get(), outbound.next_sequence_for(key)), (5, 5));
    }

    /// [MQTT-2.2.1-3]
    #[test]
    fn a_stored_message_whose_id_is_in_use_is_sent_under_another_one() {
        let mut outbound = Outbound::default();
        deliver(&mut outbound, delivery("x", QoS::AtLeastOnce));
        let messages: Vec<_> = (1..=IDS).map(|_| stored(&mut outbound)).collect();
        let (last, others) = messages.split_last().expect("there are many");
        assert!(last.key.get() == IDS && packet_id(IDS) == id(1));
        assert_eq!(outbound.next_sequence_for(last.key), IDS + 1, "the first message has its id still");
        for message in others {
            deliver(&mut outbound, message.clone());
        }
        assert!(outbound.complete(id(1), Stage::AwaitingPuback));
        assert_eq!(outbound.next_sequence_for(last.key), IDS);
    }

    #[test]
    fn an_id_that_was_not_used_goes_to_the_next_message() {
        let mut outbound = Outbound::default();
        deliver(&mut outbound, delivery("1", QoS::AtLeastOnce));
        let two = packet_id(outbound.next_sequence());
        assert_eq!(deliver(&mut outbound, delivery("2", QoS::AtLeastOnce)), two);
    }

    /// [MQTT-3.3.4-9]
    #[test]
    fn what_is_sent_again_keeps_to_a_smaller_window() {
        let mut outbound = Outbound::default();
        for _ in 0..4 {
            deliver(&mut outbound, delivery("x", QoS::ExactlyOnce));
        }
        outbound.received(id(1));
        outbound.send_again();
        let mut sent = Vec::new();
        let mut send = |outbound: &mut Outbound| {
            while let Some(entry) = outbound.next_unsent(2) {
                sent.push(entry.packet_id().get());
                outbound.sent_again();
            }
            sent.clone()
        };
        assert_eq!(send(&mut outbound), [1, 2]);
        assert!(outbound.has_unsent() && !outbound.has_room(100), "nothing new before them");
        assert!(outbound.complete(id(1), Stage::AwaitingPubcomp));
        assert_eq!(send(&mut outbound), [1, 2, 3]);
        // One that is acknowledged before it was sent again needs no more.
        assert!(outbound.complete(id(4), Stage::AwaitingPubrec));
        assert!(!outbound.has_unsent() && outbound.has_room(3));
    }

    /// [MQTT-2.2.1-3]: two are said to have been sent under one packet id, and a third is said to have been received.
    #[test]
    fn no_two_restored_messages_have_one_id() {
        let sent = |key, payload| OutgoingMessage { key: Key::new(key), ..delivery(payload, QoS::ExactlyOnce) };
        let (far, farther) = (7 + IDS, 7 + 2 * IDS);
        let messages = [
            Restored::Sent(sent(7, "first")),
            Restored::Received(Key::new(8)),
            Restored::Waiting(sent(9, "waits")),
            Restored::Sent(sent(far, "second")),
            Restored::Received(Key::new(farther)),
        ];
        let mut outbound = Outbound::restored(messages, farther + 1);
        assert_eq!(ids(&outbound), [8, 9]);
        assert_eq!(
            [outbound.stage(id(8)), outbound.stage(id(9))],
            [Stage::AwaitingPubrec, Stage::AwaitingPubcomp].map(Some)
        );
        assert_eq!(
            (outbound.queue.len(), outbound.queue.next(QueueType::Fifo).map(|next| next.key.get())),
            (2, Some(9))
        );
        assert!(outbound.has_unsent() && outbound.next_sequence() == farther + 2, "the id of the one before is in use");
    }

    /// One that is never acknowledged does not make the others hard to find: there are 2³¹ sequences between these that have one id.
    #[test]
    fn messages_that_are_far_apart_are_found() {
        let sent = |key| Restored::Sent(OutgoingMessage { key: Key::new(key), ..delivery("x", QoS::AtLeastOnce) });
        let keys = [3, (1 << 47) + 1, (1 << 47) + 2];
        let mut outbound = Outbound::restored(keys.map(sent), 1 << 48);
        for _ in 0..100 {
            assert!(keys.iter().all(|key| outbound.stage(packet_id(*key)) == Some(Stage::AwaitingPuback)));
            assert!(outbound.stage(packet_id(4)).is_none());
        }
        assert!(outbound.complete(packet_id(keys[1]), Stage::AwaitingPuback));
        assert!(outbound.stage(packet_id(keys[1])).is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Deliver(bool),
        Complete(usize),
        Received(usize),
        Extract(u64),
        SendAgain,
        Send(u16),
        Drop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<bool>().prop_map(Step::Deliver),
            3 => any::<usize>().prop_map(Step::Complete),
            2 => any::<usize>().prop_map(Step::Received),
            1 => (1..4_u64).prop_map(Step::Extract),
            1 => Just(Step::SendAgain),
            2 => (1..6_u16).prop_map(Step::Send),
            1 => Just(Step::Drop),
        ]
    }

    proptest! {
        /// Against a list of ids with what was sent and what is to be sent again; near the end of the ids and far from it.
        #[test]
        fn agrees_with_a_list(start in prop_oneof![Just(0), IDS - 5..IDS], steps in prop::collection::vec(step(), 0..80)) {
            let mut outbound = outbound(start);
            let mut list: Vec<(u16, bool)> = Vec::new();
            for step in steps {
                match step {
                    Step::Deliver(twice) => {
                        if outbound.has_room(20) {
                            let qos = if twice { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                            list.push((deliver(&mut outbound, delivery("x", qos)).get(), true));
                        }
                    }
                    Step::Complete(at) if !list.is_empty() => {
                        let (packet_id, _) = list.remove(at % list.len());
                        let stage = outbound.stage(id(packet_id)).expect("it is in flight");
                        prop_assert!(outbound.complete(id(packet_id), stage));
                        prop_assert!(outbound.stage(id(packet_id)).is_none());
                    }
                    Step::Received(at) if !list.is_empty() => {
                        let (packet_id, _) = list[at % list.len()];
                        let once = outbound.stage(id(packet_id)) == Some(Stage::AwaitingPuback);
                        prop_assert_eq!(outbound.received(id(packet_id)), !once);
                    }
                    Step::Extract(every) => {
                        let which = |packet_id: u16| u64::from(packet_id).is_multiple_of(every + 1);
                        let taken = outbound.extract(|entry| which(entry.packet_id().get()));
                        let before = list.len();
                        list.retain(|(packet_id, _)| !which(*packet_id));
                        prop_assert_eq!(taken.len(), before - list.len());
                    }
                    Step::SendAgain => {
                        outbound.send_again();
                        list.iter_mut().for_each(|(_, sent)| *sent = false);
                    }
                    Step::Send(most) => {
                        if let Some(next) = outbound.next_unsent(most) {
                            let at = list.iter().position(|(_, sent)| !sent).expect("one is unsent");
                            prop_assert_eq!(next.packet_id().get(), list[at].0);
                            prop_assert!(at < most.into() || next.delivery().is_none());
                            outbound.sent_again();
                            list[at].1 = true;
                        }
                    }
                    Step::Drop => {
                        let at = list.iter().position(|(_, sent)| !sent);
                        prop_assert_eq!(outbound.drop_unsent().is_some(), at.is_some());
                        at.map(|at| list.remove(at));
                    }
                    Step::Complete(_) | Step::Received(_) => {}
                }
                prop_assert_eq!(ids(&outbound), list.iter().map(|(id, _)| *id).collect::<Vec<_>>());
                prop_assert_eq!(outbound.has_unsent(), list.iter().any(|(_, sent)| !sent));
            }
        }
    }
}
