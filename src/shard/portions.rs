//! Work that is too much for one turn, in portions: a publication to very many recipients, what a session leaves behind, what is retained
//! for new subscribers.

use super::agenda::PutOff;
use super::buffered;
use super::counting;
use super::delivering::{Portioning, Routed};
use super::leftovers;
use super::members;
use super::memberships;
use super::message::ShardMessage;
use super::pubsub::PubSub;
use super::remnants::Remnant;
use super::replaying::Replaying;
use super::rewriting;
use super::turn;
use super::wills;
use crate::delivery::FanOut;
use crate::hooks::Chain;
use crate::retained::{SWEPT, Work};
use crate::routing::Turn;
use crate::topic::TopicFilter;

/// Topics, and nodes of sets of filters, that are looked at in a unit of work.
const LOOKS: usize = 2;

impl<C: Chain> PubSub<C> {
    /// Does what was put off, in its share of this turn: clients that wait for theirs have the rest. Each kind does what it can; that whose turn
    /// comes next when the share is over is the first one in the next turn.
    pub(super) fn go_on(&mut self) {
        if self.clients.delivery.fan_outs.is_empty() && !self.clients.agenda.has_put_off() {
            return;
        }
        let kinds: [fn(&mut Self); 8] = [
            deliver_some,
            buffered::go_on,
            memberships::go_on,
            clear_up_some,
            leftovers::drop_some,
            leftovers::give_some,
            leftovers::end_some,
            do_what_was_left,
        ];
        let ends = self.clients.agenda.turn.put_off_ends();
        for _ in kinds {
            self.clients.agenda.turn.end_share_at(ends);
            if self.clients.agenda.turn.is_share_over() {
                break;
            }
            let kind = self.clients.agenda.remnants.next_kind(kinds.len());
            kinds[kind](self);
        }
    }

    /// Answers what is asked of what is retained, and sends it, as much as a share of the turn: what is left waits for the next.
    pub(super) fn replay_some(&mut self) {
        while !self.clients.agenda.turn.is_share_over()
            && let Some(work) = self.retained.next_work(self.clients.agenda.now())
        {
            self.clients.agenda.turn.did(turn::PAGE);
            match work {
                Work::Answer(to, page, looked_at) => {
                    self.clients.agenda.turn.did((looked_at / LOOKS) as u32);
                    if to == self.clients.setup.id {
                        Replaying::of(self).answered(page);
                    } else {
                        self.clients.agenda.post(to, ShardMessage::Retained(Box::new(page)));
                    }
                }
                Work::Reader(reader) => Replaying::of(self).go_on(reader),
                Work::Begin(token) => {
                    if let Some(pending) = self.subscribing.take(token) {
                        self.complete_subscribe(token, pending);
                    }
                }
            }
        }
        if self.retained.end_turn() {
            self.clients.agenda.next_turn(PutOff::Replays);
        }
    }

    /// Forgets some of the retained messages that have expired; the others in the next turns.
    pub(super) fn forget_expired(&mut self) {
        self.clients.agenda.turn.did((SWEPT / LOOKS) as u32);
        if self.retained.forget_expired(self.clients.agenda.now()) {
            self.clients.agenda.next_turn(PutOff::Expiry);
        }
    }

    /// Delivers all of these at once: the broker stops, or a session is about to leave.
    pub(super) fn deliver_at_once(&mut self, fan_outs: Vec<FanOut>) {
        fan_outs.into_iter().for_each(|fan_out| self.deliver_portion(fan_out, Portioning::AtOnce));
    }

    /// Delivers one portion. What is for a member of a shared subscription that has left meanwhile goes to another one.
    fn deliver_portion(&mut self, fan_out: FanOut, portioning: Portioning) {
        let FanOut { message, id, publisher, mountpoint, is_moved, recipients } = fan_out;
        let mut there = Vec::with_capacity(recipients.len());
        for (recipient, number) in recipients {
            let is_there = self.clients.instance_of(&recipient) == Some(number);
            // The client of a session that is to come is elsewhere still, and may well be connected.
            let is_offline = || {
                let session = self.clients.sessions.get(recipient.session);
                session.is_some_and(|session| session.connection.is_none() && !session.is_arriving())
            };
            let has_another = |filter: &TopicFilter| self.routing.has_other_member(mountpoint, filter, false);
            match &recipient.group {
                Some(filter) if !is_there || is_offline() && has_another(filter) => {
                    self.clients.agenda.turn.did(1);
                    let turn = Turn::new(self.own_origin().policy, 0);
                    self.offer_to_group(mountpoint, filter, &message, turn, publisher);
                }
                _ if is_there => there.push(recipient),
                _ => {}
            }
        }
        let publication = message.publication();
        self.clients
            .deliver_all(&there, &Routed { publication: &publication, id, publisher, is_moved, portioning, at: 0 });
    }

    /// Ends the subscriptions of a session that is about to be gone from the table, as far as that fits into this turn; what is left is for
    /// [`clear_up`](Self::clear_up).
    pub(super) fn begin_to_clear_up(&mut self, index: u32) -> Option<Remnant> {
        let session = self.clients.sessions.get_mut(index)?;
        let mountpoint = self.routing.mountpoint(&session.client.subscriber.mountpoint);
        self.clients.statistics.counters.subscriptions -= session.subscriptions.len() as u64;
        // A member that is gone must not be chosen.
        let shared = session.subscriptions.shared_filters();
        let subscriptions = session.subscriptions.take();
        for filter in &shared {
            self.remove_subscription(mountpoint, filter, index);
        }
        let mut remnant = Remnant { session: index, mountpoint, filters: subscriptions.into_filters() };
        self.remove_in_turn(&mut remnant);
        Some(remnant)
    }

    /// Ends what is left of the subscriptions of a session that is gone from the table, in portions if they are many. Its place is free
    /// when the last one has ended: until then what is routed there finds nobody.
    pub(super) fn clear_up(&mut self, mut remnant: Remnant) {
        self.remove_in_turn(&mut remnant);
        if remnant.filters.len() == 0 {
            self.clients.sessions.free_place(remnant.session);
        } else {
            self.clients.agenda.remnants.subscriptions.push_back(remnant);
        }
    }

    fn remove_in_turn(&mut self, remnant: &mut Remnant) {
        while !self.clients.agenda.turn.is_share_over()
            && let Some(filter) = remnant.filters.next()
        {
            // Those of shared subscriptions have ended.
            if filter.share_name().is_some() {
                continue;
            }
            self.remove_subscription(remnant.mountpoint, &filter, remnant.session);
        }
    }
}

/// Goes on with publications to very many.
fn deliver_some<C: Chain>(pubsub: &mut PubSub<C>) {
    while !pubsub.clients.agenda.turn.is_share_over()
        && let Some(message) = pubsub.clients.delivery.fan_outs.first()
        && let bytes = message.publication().bytes()
        && let most = pubsub.clients.agenda.turn.limits().portion_of(bytes)
        && let Some((number, fan_out)) = pubsub.clients.delivery.fan_outs.portion(most)
    {
        pubsub.clients.agenda.turn.did(turn::output(bytes));
        let portioning = Portioning::InFront { mountpoint: fan_out.mountpoint, number };
        pubsub.deliver_portion(fan_out, portioning);
        Replaying::of(pubsub).take_in();
    }
}

/// Goes on with subscriptions of sessions that are gone.
fn clear_up_some<C: Chain>(pubsub: &mut PubSub<C>) {
    while !pubsub.clients.agenda.turn.is_share_over()
        && let Some(remnant) = pubsub.clients.agenda.remnants.subscriptions.pop_front()
    {
        pubsub.clear_up(remnant);
    }
}

/// Goes on with what was left for this turn.
fn do_what_was_left<C: Chain>(pubsub: &mut PubSub<C>) {
    while !pubsub.clients.agenda.turn.is_share_over()
        && let Some(left) = pubsub.clients.agenda.next_left()
    {
        match left {
            PutOff::Expiry => pubsub.forget_expired(),
            PutOff::Replays => pubsub.replay_some(),
            PutOff::Wills => wills::begin_turn(pubsub),
            PutOff::Members => members::tell_some(pubsub),
            PutOff::Counting => counting::count_some(pubsub),
            PutOff::Rewriting => {
                rewriting::adopt_some(pubsub);
                rewriting::rewrite_some(pubsub);
            }
        }
    }
}
