//! What other threads have asked of a shard, and where the answers go.

use std::collections::{HashMap, HashSet, VecDeque};

use crossbeam::channel::Sender;

use super::command::{Command, FoundSender, OfShard, Sink, SubscriptionEvent};
use crate::client::SessionFound;
use crate::hooks::Chain;
use crate::shard::{CutNews, Input, Request, Shard, SlotsMoving, StoreReport};
use crate::time::Time;

/// The open requests of one shard.
pub(super) struct Requests {
    /// The number of the shard.
    shard: usize,
    /// The receivers of the embedding program's subscriptions, by the number of the subscription.
    sinks: HashMap<u64, Sink>,
    /// Those that ended before they began: their beginning is still in the inbox.
    ended_early: HashSet<u64>,
    /// Who waits for answers to requests to move slots, in order.
    moves: VecDeque<Sender<OfShard<SlotsMoving>>>,
    /// Who waits for answers about sessions, by ticket.
    sessions: HashMap<u64, (usize, FoundSender)>,
    next_ticket: u64,
    /// Who waits for what is in the store.
    counts: Vec<Sender<OfShard<StoreReport>>>,
    /// The last copy of the store that the journal was cut for.
    cut: Cut,
}

/// A copy of the store.
#[derive(Default)]
struct Cut {
    number: u64,
    /// Who waits for what becomes of it, and what nobody has waited for yet.
    answer: Option<Sender<OfShard<CutNews>>>,
    news: Vec<CutNews>,
}

impl Cut {
    /// That with this number.
    fn with(&mut self, number: u64) -> &mut Self {
        if number > self.number {
            *self = Cut { number, ..Cut::default() };
        }
        self
    }

    fn tell(&mut self, shard: usize) {
        if let Some(answer) = &self.answer {
            self.news.drain(..).for_each(|news| drop(answer.try_send((shard, news))));
        }
    }
}

impl Requests {
    /// None.
    pub fn new(shard: usize) -> Self {
        let (sinks, ended_early) = (HashMap::new(), HashSet::new());
        let (moves, sessions, counts) = (VecDeque::new(), HashMap::new(), Vec::new());
        Requests { shard, sinks, ended_early, moves, sessions, next_ticket: 0, counts, cut: Cut::default() }
    }

    /// Hands a command to the core. That to stop is none of them.
    pub fn hand_in<C: Chain>(&mut self, command: Command, shard: &mut Shard<C>, now: Time) {
        let mut request = |request| shard.handle(Input::Request(request), now);
        match command {
            Command::Request(wanted) => request(wanted),
            Command::Report { answer } => drop(answer.try_send((self.shard, shard.report()))),
            Command::MoveSlots { slots, to, answer } => {
                self.moves.push_back(answer);
                request(Request::MoveSlots { slots: slots.to_vec(), to });
            }
            Command::Session { subscriber, action, number, answer } => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.sessions.insert(ticket, (number, answer));
                request(Request::Session { subscriber, action, ticket });
            }
            Command::Cut { number, answer } => {
                self.cut.with(number).answer = Some(answer);
                self.cut.tell(self.shard);
                request(Request::Cut { number });
            }
            Command::EndCut { number } => {
                if number >= self.cut.number {
                    self.cut = Cut { number, ..Cut::default() };
                }
                request(Request::EndCut { number });
            }
            Command::CountStored { answer } => {
                self.counts.push(answer);
                request(Request::CountStored);
            }
            Command::Hooks { answer } => drop(answer.try_send((self.shard, shard.hook_reports()))),
            Command::Subscribe { subscription, mountpoint, filter, sink } => {
                if !self.ended_early.remove(&subscription) {
                    self.sinks.insert(subscription, sink);
                    request(Request::Subscribe { subscription, mountpoint, filter });
                }
            }
            Command::Unsubscribe { subscription } => {
                if self.sinks.remove(&subscription).is_some() {
                    request(Request::Unsubscribe { subscription });
                } else {
                    self.ended_early.insert(subscription);
                }
            }
            Command::Stop | Command::Prepared(_) | Command::Archived(_) => {}
        }
    }

    /// Hands an event to a subscription of the program. Whether there was room for it.
    pub fn notify(&mut self, subscription: u64, event: SubscriptionEvent) -> bool {
        self.sinks.get_mut(&subscription).is_none_or(|sink| sink(event))
    }

    /// Something has become of the cut of the journal for the copy with this number.
    pub fn journal_was_cut(&mut self, number: u64, news: CutNews) {
        let cut = self.cut.with(number);
        if cut.number == number {
            cut.news.push(news);
            cut.tell(self.shard);
        }
    }

    /// This is in the store.
    pub fn stored_was_counted(&mut self, report: StoreReport) {
        for answer in self.counts.drain(..) {
            let _ = answer.try_send((self.shard, report));
        }
    }

    /// These slots move, as the oldest request to move some wanted it.
    pub fn slots_are_moving(&mut self, moving: SlotsMoving) {
        if let Some(answer) = self.moves.pop_front() {
            drop(answer.try_send((self.shard, moving)));
        }
    }

    /// The session that was asked for with this ticket, as it was; none if there is none.
    pub fn session_was_found(&mut self, ticket: u64, found: Option<Box<SessionFound>>) {
        if let Some((number, answer)) = self.sessions.remove(&ticket) {
            drop(answer.try_send((number, found)));
        }
    }
}
