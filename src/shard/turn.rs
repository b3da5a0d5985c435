//! How much is done before others have their turn.
//!
//! Work is counted in units of some 100 ns: a message to one client is one, reading a packet some. A client gets a share of each turn;
//! what it has sent beyond that waits, and is served when those before it have been, in the order in which they came to wait. So a client
//! that asks for a lot is slow itself, and nobody else is. What it asks of other shards counts, too, as far as they have said what messages
//! cost them: they are busy with it as long, and what comes behind it waits. When output of a client has left, it gets a share, too, of what
//! waits for it in its queue. A client that has asked for little lately does not wait behind those who ask for a lot.
//!
//! What a unit costs depends on what comes: of a message to many clients each gets a little, and the more of them come in a turn the more goes
//! to the kernel in one operation; much to a few who do not read is copied, and more than once. So a turn that took long makes the next ones
//! smaller, and while they are short they grow again, up to their limit.
//!
//! A turn is what happens at one time: the runtime reads the clock once for all that has come. When all that may be done in it is done,
//! what comes is put aside unread until the next [`Input::Tick`](super::Input::Tick), which begins a turn, too.

use std::collections::VecDeque;
use std::time::Duration;

use crate::client::ConnectionId;
use crate::message::Publication;

/// Reading a packet, whatever follows from it.
pub(super) const PACKET: u32 = 4;
/// A packet from so many bytes on is looked at for what is text in it, and for how many properties it has: shorter ones have
/// fewer than may be, whatever the setting.
pub(super) const LONG: usize = 256;
/// A topic alias that is set.
pub(super) const ALIAS: u32 = 2;
/// A connection that gets output, beyond what it is to write it: the kernel sends it.
const SEND: u32 = 40;
/// A CONNECT, with all that follows from it.
pub(super) const CONNECT: u32 = 128;
/// Nodes of the tree of filters that are looked at for a message without being counted.
const ORDINARY_LOOKS: usize = 16;
/// A topic filter that is subscribed to or no more.
pub(super) const FILTER: u32 = 16;
/// A page of retained messages that is looked for or sent, but for its topics and messages.
pub(super) const PAGE: u32 = 8;
/// A message from so many bytes on is work for each recipient beyond what a message is: the kernel copies it.
pub(super) const LARGE: usize = 8 * 1024;
/// Bytes of a message to several recipients that are handed to the kernel at once.
const SENT_AT_ONCE: usize = 8 * 1024 * 1024;
/// What the end of a session is, but for its topic filters and messages.
pub(super) const SESSION: u32 = 32;
/// A message that is dropped for a client, beyond that it was looked at for it: for very many that do not read there is nothing else to do.
pub(super) const DROP: u32 = 2;
/// A message that a session leaves.
pub(super) const LEFTOVER: u32 = 4;

/// Reading the topic of a PUBLISH, and its properties: each byte is looked at several times, and of properties each is a field of its own.
#[inline]
pub(super) fn texts(topic: usize, properties: usize) -> u32 {
    (topic >> 7) as u32 + fields(properties)
}

/// Reading so many bytes that consist of fields.
#[inline]
pub(super) fn fields(bytes: usize) -> u32 {
    (bytes >> 5) as u32
}

/// Reading so many bytes.
#[inline]
pub(super) fn read(bytes: usize) -> u32 {
    (bytes >> 9) as u32
}

/// So many bytes that have waited, or that are much at once, are put into output: the kernel copies them, too, most of the time to memory that
/// was used last long ago.
#[inline]
pub(super) fn output(bytes: usize) -> u32 {
    (bytes >> 7) as u32
}

/// So many bytes of messages that have waited become a page of the archive: they are copied, and go when that is persisted.
#[inline]
pub(super) fn paged(bytes: usize) -> u32 {
    (bytes >> 6) as u32
}

/// How much is done in a turn, in units of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnLimits {
    /// Most for one client.
    pub share: u32,
    /// Most for all. A single piece of work may go beyond it.
    pub turn: u32,
    /// Most recipients on a shard to which a message is delivered at once, most messages that a session may leave to be seen to at once, and
    /// most subscriptions and buffered messages of a session that come to another shard at once.
    pub at_once: usize,
    /// Recipients in a portion of a message to more. The kernel has to send to each of them. Subscriptions in a portion of those of a session
    /// with more, for which places are made in the trees of filters of all shards.
    pub portion: usize,
    /// Most recipients that may wait on a shard for their portion of a message before who publishes to very many waits.
    pub under_way: usize,
}

impl TurnLimits {
    /// Whether a message has more recipients than it is delivered to at once.
    #[inline]
    pub(super) fn is_to_many(&self, recipients: usize, publication: &Publication<'_>) -> bool {
        recipients > self.at_once || recipients > 1 && recipients * publication.bytes() > SENT_AT_ONCE
    }

    /// Recipients in a portion of a message of so many bytes: fewer of a large one.
    pub(super) fn portion_of(&self, bytes: usize) -> usize {
        self.portion.min(SENT_AT_ONCE / bytes.max(1)).max(1)
    }

    /// Most messages in a queue that give way to one at once: that may be so for each recipient. If more have to, they do so in portions.
    pub(super) fn give_way(&self) -> usize {
        (self.portion / 16).max(1)
    }
}

impl Default for TurnLimits {
    /// A millisecond or two for one client, and for all twice as much.
    fn default() -> Self {
        TurnLimits { share: 16 * 1024, turn: 32 * 1024, at_once: 1024, portion: 256, under_way: 64 * 1024 }
    }
}

/// What was done in a turn.
#[derive(Clone, Copy, Debug)]
pub struct TurnState {
    /// How much, in units of work.
    pub work: u32,
    /// Whether that is all that may be done in it: what comes now waits for [`Input::Tick`](super::Input::Tick), but for messages from
    /// other shards, which are better left where they are.
    pub is_over: bool,
    /// Whether it was twice as much: a message from another shard that was a lot of work.
    pub is_far_over: bool,
    /// Whether so much is under way that nothing more may come: [`Input::Tick`](super::Input::Tick) makes room.
    pub is_full: bool,
    /// Whether what the embedding program publishes has to wait: so much is under way, the queue to a shard is full that it has published
    /// to, or publishers are held for memory.
    pub program_waits: bool,
}

/// Which line a connection waits in for another turn. They take turns, but for half of what may be done in one the first goes before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// That of connected clients that have asked for little lately, and sent something when all was done that could be: they get a small share.
    Modest,
    /// That of clients that are connected.
    Clients,
    /// That of those who come, and of what is left of those who went: very many may do so at once.
    ComingAndGoing,
    /// That of clients for which something waits that was too much for one share.
    Sending,
}

/// All of them, in the order in which they take turns.
const LINES: [Line; 4] = [Line::Modest, Line::Clients, Line::ComingAndGoing, Line::Sending];
/// Which part of a share clients get that have asked for little lately.
const MODEST: u32 = 8;
/// What was too much for one turn is half as much in the next one if it took so long,
const TOO_LONG: Duration = Duration::from_millis(4);
/// and a little more if it took no longer than this.
const SHORT_ENOUGH: Duration = Duration::from_millis(2);
/// By which part turns grow.
const GROWTH: u32 = 8;
/// The smallest part of its limit that a turn may shrink to.
const LEAST: u32 = 16;

/// The present turn, and who waits for another one.
pub(super) struct Turn {
    /// As they are at present.
    limits: TurnLimits,
    /// The greatest that they may be.
    most: TurnLimits,
    /// Whether there was more to do since the clock was read last than fits into a turn.
    was_over: bool,
    /// How much of it the next client gets.
    share: u32,
    done: u32,
    /// When this is done, the client that is served has had its share; if there is none, what is due, or what was put off.
    share_ends: u32,
    /// The work of the sends that were caused in this share, and when as much has been done besides.
    sends: u32,
    sends_go_until: u32,
    /// By [`Line`].
    waiting: [VecDeque<ConnectionId>; LINES.len()],
    /// The line whose turn it is.
    line: usize,
    /// By shard: what a message costs it.
    costs: Vec<u32>,
    /// The bytes of messages that a member of a shared subscription had and that have gone to other shards in this turn.
    passed_on: usize,
}

impl Turn {
    /// The first turn.
    pub fn new(limits: TurnLimits) -> Self {
        let (waiting, costs) = (Default::default(), Vec::new());
        Turn {
            limits,
            most: limits,
            was_over: false,
            share: limits.share,
            done: 0,
            share_ends: limits.share,
            sends: 0,
            sends_go_until: 0,
            waiting,
            line: 0,
            costs,
            passed_on: 0,
        }
    }

    /// How much is done in a turn.
    #[inline]
    pub fn limits(&self) -> TurnLimits {
        self.limits
    }

    /// A turn begins.
    #[inline]
    pub fn begin(&mut self) {
        self.was_over |= self.is_over();
        (self.done, self.share_ends, self.passed_on) = (0, self.limits.share, 0);
        (self.sends, self.sends_go_until) = (0, 0);
    }

    /// So much time has passed since the clock was read last: a turn begins, and how much is done in it depends on how long the last one took.
    #[inline]
    pub fn begin_after(&mut self, passed: Duration) {
        if self.was_over | self.is_over() {
            self.resize(passed);
        }
        self.begin();
        self.was_over = false;
    }

    #[cold]
    fn resize(&mut self, passed: Duration) {
        let TurnLimits { share, turn, .. } = self.limits;
        let resized = |size: u32, most: u32| {
            if passed >= TOO_LONG {
                (size / 2).max(most.div_ceil(LEAST))
            } else if passed <= SHORT_ENOUGH {
                size.saturating_add(size.div_ceil(GROWTH)).min(most)
            } else {
                size
            }
        };
        (self.limits.share, self.limits.turn) = (resized(share, self.most.share), resized(turn, self.most.turn));
        self.serves(Line::Clients);
    }

    /// The share of a client begins.
    #[inline]
    pub fn begin_share(&mut self) {
        self.share_ends = self.done.saturating_add(self.share).min(self.limits.turn);
        (self.sends, self.sends_go_until) = (0, 0);
    }

    /// Clients of this line are served, until it is said of another one.
    pub fn serves(&mut self, line: Line) {
        self.share = if line == Line::Modest { self.limits.share.div_ceil(MODEST) } else { self.limits.share };
    }

    /// The share of what is due begins, or goes on: half of one.
    pub fn begin_due(&mut self) {
        self.share_ends = self.half_share();
    }

    /// How much will be done when the share of what was put off is over, which begins now: what is due has left the rest of a share, and half
    /// of one in any case.
    pub fn put_off_ends(&self) -> u32 {
        self.done.saturating_add(self.half_share()).max(self.limits.share.min(self.limits.turn))
    }

    /// The share of what is done next ends when so much is done.
    pub fn end_share_at(&mut self, done: u32) {
        self.share_ends = done;
    }

    fn half_share(&self) -> u32 {
        self.limits.share.min(self.limits.turn).div_ceil(2)
    }

    /// So much work was done.
    #[inline]
    pub fn did(&mut self, work: u32) {
        self.done = self.done.saturating_add(work);
    }

    /// So many nodes of the tree of filters were looked at for a message. Some belong to every message; a client that subscribes to ten
    /// thousand filters of many levels can make it very many.
    #[inline]
    pub fn did_look(&mut self, nodes: usize) {
        if nodes > ORDINARY_LOOKS {
            self.did(nodes as u32);
        }
    }

    /// A message to this shard costs it so much.
    pub fn set_cost(&mut self, shard: usize, work: u32) {
        if self.costs.len() <= shard {
            self.costs.resize(shard + 1, 0);
        }
        self.costs[shard] = work;
    }

    /// A message goes to this shard.
    #[inline]
    pub fn did_send(&mut self, shard: usize) {
        self.did(self.costs.get(shard).copied().unwrap_or(0));
    }

    /// A message of so many bytes that a member of a shared subscription had has gone to another shard.
    pub fn did_pass_on(&mut self, bytes: usize) {
        self.passed_on = self.passed_on.saturating_add(bytes);
    }

    /// The bytes of all of them in this turn.
    pub fn passed_on(&self) -> usize {
        self.passed_on
    }

    /// How much work was done in this turn.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// So many connections have got output that had none before.
    #[inline]
    pub fn did_sends(&mut self, connections: usize) {
        if connections == 0 {
            return;
        }
        let (work, is_in_share) = (SEND * connections as u32, !self.is_share_over());
        self.did(work);
        if is_in_share {
            self.sends = self.sends.saturating_add(work);
            self.sends_go_until = self.done.saturating_add(self.sends.min(self.most.share));
        }
    }

    /// Whether the client whose packets are served has had its share. What it publishes goes on with the sends that it has caused already, as much as
    /// those are work, and a share at most: in the next turn each of them would be caused once more, and for one message to many they are
    /// nearly all that there is to do.
    #[inline]
    pub fn has_had_share(&self) -> bool {
        self.is_share_over() && self.done >= self.sends_go_until
    }

    /// Whether the client that is served has had its share.
    #[inline]
    pub fn is_share_over(&self) -> bool {
        self.done >= self.share_ends
    }

    /// What is left of the share.
    #[inline]
    pub fn left(&self) -> u32 {
        self.share_ends.saturating_sub(self.done)
    }

    /// The client that is served gets no more in this turn.
    pub fn end_share(&mut self) {
        (self.share_ends, self.sends_go_until) = (0, 0);
    }

    /// Whether all was done that may be done in this turn.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.done >= self.limits.turn
    }

    /// Whether twice as much was done.
    #[inline]
    pub fn is_far_over(&self) -> bool {
        self.done / 2 >= self.limits.turn
    }

    /// A connection waits for its next share.
    pub fn wait(&mut self, id: ConnectionId, line: Line) {
        self.waiting[line as usize].push_back(id);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Who has waited longest in the line whose turn it is, and that line; if nobody waits in it, in the next one.
    pub fn next(&mut self) -> Option<(ConnectionId, Line)> {
        if self.done < self.limits.turn / 2
            && let Some(id) = self.waiting[Line::Modest as usize].pop_front()
        {
            return Some((id, Line::Modest));
        }
        let lines = (0..LINES.len()).map(|behind| (self.line + behind) % LINES.len());
        let at = lines.into_iter().find(|at| !self.waiting[*at].is_empty())?;
        self.line = (at + 1) % LINES.len();
        Some((self.waiting[at].pop_front()?, LINES[at]))
    }

    /// Who has waited longest for something to be sent.
    pub fn next_to_send(&mut self) -> Option<ConnectionId> {
        self.waiting[Line::Sending as usize].pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_all_have_the_turn() {
        let TurnLimits { share, turn: all, .. } = TurnLimits::default();
        let mut turn = Turn::new(TurnLimits::default());
        turn.begin_share();
        turn.did(share - 1);
        assert!(!turn.is_share_over() && !turn.is_over());
        turn.did(1);
        assert!(turn.is_share_over() && !turn.is_over());
        turn.begin_share();
        assert!(!turn.is_share_over(), "another one");
        turn.did(all);
        assert!(turn.is_share_over() && turn.is_over());
        turn.begin_share();
        assert!(turn.is_share_over(), "nothing is left of the turn");
        turn.begin();
        turn.begin_share();
        assert!(!turn.is_share_over() && !turn.is_over());
        turn.end_share();
        assert!(turn.is_share_over() && !turn.is_over());
    }

    #[test]
    fn who_has_caused_sends_goes_on_with_them_and_causes_no_more() {
        let limits = TurnLimits { share: 10_000, turn: 20_000, ..TurnLimits::default() };
        let mut turn = Turn::new(limits);
        turn.begin_share();
        turn.did(500);
        turn.did_sends(500);
        assert!(turn.is_share_over() && turn.is_over() && !turn.has_had_share());
        turn.did(9_999);
        assert!(!turn.has_had_share(), "a share of what goes with them");
        // Others besides give no more.
        turn.did_sends(1);
        assert!(turn.has_had_share());
        turn.begin_share();
        assert!(turn.has_had_share(), "the next one has nothing of that");
        turn.begin();
        turn.begin_share();
        for _ in 0..250 {
            assert!(!turn.has_had_share());
            turn.did_sends(1);
        }
        assert!(turn.is_share_over() && !turn.has_had_share(), "each to somebody else");
        (0..250).for_each(|_| turn.did_sends(1));
        assert!(turn.has_had_share());
    }

    #[test]
    fn a_turn_that_took_long_makes_the_next_ones_smaller_until_they_are_short() {
        let limits = TurnLimits { share: 320, turn: 1600, ..TurnLimits::default() };
        let mut turn = Turn::new(limits);
        let mut after = |done: u32, passed: Duration| {
            turn.did(done);
            turn.begin_after(passed);
            (turn.limits().share, turn.limits().turn)
        };
        assert_eq!(after(1599, TOO_LONG), (320, 1600), "there was no more to do");
        assert_eq!(after(1600, TOO_LONG), (160, 800));
        assert_eq!(after(800, TOO_LONG), (80, 400));
        assert_eq!(after(400, (TOO_LONG + SHORT_ENOUGH) / 2), (80, 400));
        assert_eq!(after(399, Duration::ZERO), (80, 400));
        assert_eq!(after(400, SHORT_ENOUGH), (90, 450));
        for _ in 0..9 {
            after(1600, TOO_LONG);
        }
        assert_eq!(after(1600, TOO_LONG), (20, 100));
        for _ in 0..40 {
            after(1600, Duration::ZERO);
        }
        assert_eq!(after(1600, Duration::ZERO), (320, 1600));
        turn.did(1600);
        turn.begin();
        turn.begin_after(TOO_LONG);
        assert_eq!(turn.limits().turn, 800, "it was over before it began anew");
        assert!(turn.left() == 160 && !turn.is_over());
    }

    #[test]
    fn who_asks_for_little_goes_first_in_half_of_the_turn() {
        let mut turn = Turn::new(TurnLimits { share: 80, turn: 100, ..TurnLimits::default() });
        let id = |index| ConnectionId::new(index, 0);
        for index in 0..3 {
            turn.wait(id(index), Line::Clients);
            turn.wait(id(index + 10), Line::Modest);
        }
        assert_eq!([turn.next(), turn.next()], [10, 11].map(|index| Some((id(index), Line::Modest))));
        turn.serves(Line::Modest);
        turn.begin_share();
        assert_eq!(turn.left(), 10);
        turn.serves(Line::Clients);
        turn.begin_share();
        assert_eq!(turn.left(), 80);
        turn.wait(id(13), Line::Modest);
        turn.did(50);
        let order: Vec<_> = std::iter::from_fn(|| turn.next()).map(|(id, _)| id.index()).collect();
        assert_eq!(order, [12, 0, 13, 1, 2]);
    }

    #[test]
    fn what_is_due_has_half_a_share_and_what_was_put_off_the_rest_or_half_of_one() {
        for (all, due, ends) in [(200, 0, 100), (200, 30, 100), (200, 50, 100), (200, 80, 130), (60, 0, 60)] {
            let mut turn = Turn::new(TurnLimits { share: 100, turn: all, ..TurnLimits::default() });
            turn.begin_due();
            turn.did(due);
            assert_eq!(turn.is_share_over(), due >= 50);
            assert_eq!(turn.put_off_ends(), ends, "{due} of {all}");
            turn.end_share_at(ends);
            turn.did(ends - due - 1);
            assert!(!turn.is_share_over());
            turn.did(1);
            assert!(turn.is_share_over());
        }
        let mut turn = Turn::new(TurnLimits { share: 1, ..TurnLimits::default() });
        turn.begin_due();
        assert!(!turn.is_share_over(), "something, however small a share is");
        turn.did(5);
        assert_eq!(turn.put_off_ends(), 6);
    }

    #[test]
    fn what_is_sent_to_a_shard_counts_as_what_it_costs_there() {
        let mut turn = Turn::new(TurnLimits::default());
        turn.did_send(2);
        assert_eq!(turn.done(), 0, "nothing is known of it");
        turn.set_cost(2, 250);
        [2, 1, 2].into_iter().for_each(|shard| turn.did_send(shard));
        assert_eq!(turn.done(), 500);
    }

    #[test]
    fn what_members_leave_to_other_shards_is_counted_in_each_turn() {
        let mut turn = Turn::new(TurnLimits::default());
        turn.did_pass_on(100);
        turn.did_pass_on(20);
        assert_eq!(turn.passed_on(), 120);
        turn.begin();
        assert_eq!(turn.passed_on(), 0);
    }

    #[test]
    fn who_waits_is_served_in_order_of_its_line_and_lines_take_turns() {
        let mut turn = Turn::new(TurnLimits::default());
        let [a, b, c, d, e, f, g] = [3, 1, 2, 5, 4, 7, 6].map(|index| ConnectionId::new(index, 1));
        [c, d, e].into_iter().for_each(|id| turn.wait(id, Line::ComingAndGoing));
        [a, b].into_iter().for_each(|id| turn.wait(id, Line::Clients));
        [f, g].into_iter().for_each(|id| turn.wait(id, Line::Sending));
        assert_eq!(turn.waiting(), 7);
        let in_order = std::iter::from_fn(|| turn.next()).map(|(id, _)| id);
        assert_eq!(in_order.collect::<Vec<_>>(), [a, c, f, b, d, g, e]);
    }
}
