//! The door of a shard: inputs, then outputs until it is quiet.

use super::agenda::FollowUp;
use super::arriving;
use super::committing;
use super::cutting;
use super::holding;
use super::input::Input;
use super::last_bytes;
use super::machine::Shard;
use super::message::ShardMessage;
use super::migrating::send_subscriptions;
use super::output::Output;
use super::replaying::Replaying;
use super::restoring;
use super::sending;
use super::turn::{FILTER, Line, TurnState};
use super::unaccepted;
use super::wills;
use crate::connection::{Connection, ConnectionStage, PauseReason};
use crate::hooks::ask::Resumed;
use crate::hooks::{Chain, HookAnswer};
use crate::memory::MemoryStage;
use crate::migration::Flushed;
use crate::pending_hooks::Waiter;
use crate::retained::Counts;
use crate::session::PublicationId;
use crate::sharding::Publisher;
use crate::time::Time;

impl<C: Chain> Shard<C> {
    /// Handles something that happens, at this time, with all that follows from it. What the runtime is to do then is taken with
    /// [`next_output`](Self::next_output).
    pub fn handle(&mut self, input: Input<'_, C::State>, now: Time) {
        let clients = &mut self.pubsub.clients;
        clients.agenda.begin(now);
        match input {
            Input::Received { connection, bytes } => self.received(connection, bytes),
            Input::Sent { connection, emptied } => clients.sent(connection, emptied),
            Input::Message { from, message } => self.on_message(from, message),
            Input::Accepted { connection, listener, peer, connected_at, admission } => {
                clients.statistics.counters.accepted += 1;
                let (due, refused) = (self.handshake.accepted(listener, now), admission.refusal());
                let (stage, id) = (ConnectionStage::Opening { due }, connection);
                let connection = Connection::new(id, listener, peer, connected_at, now);
                clients.connections.insert(Connection { refused, stage, ..connection });
                clients.arm_connection(id, due);
            }
            Input::TurnedAway { listener, peer } => unaccepted::turned_away(clients, listener, peer),
            Input::Closed { connection } => self.pubsub.lost(connection),
            Input::Drained { connection } => last_bytes::drained(self, connection),
            Input::HandedOff { connection: id, mut accepted, unsent, unread } => {
                let peer = accepted.peer();
                let mut connection = Connection::new(id, accepted.listener, peer, accepted.client.connected_at, now);
                connection.outbox.still_sending(unsent);
                connection.unread.push(&std::mem::take(&mut accepted.unread));
                clients.statistics.counters.bytes_in += unread.len() as u64;
                connection.unread.push(unread);
                clients.connections.insert(connection);
                self.accepted(id, accepted);
                self.pubsub.clients.agenda.follow_up(FollowUp::Serve(id));
            }
            Input::Transferred { arrived, transfer } => arriving::transferred(self, arrived, *transfer),
            Input::HookAnswered { task, answer } => self.hook_answered(task, answer),
            Input::Congestion { to, congested } => {
                holding::set_congested(clients, to, congested);
                if !congested {
                    clients.agenda.remnants.there_is_room();
                    // Before any of these is served.
                    clients.agenda.turn.begin_share();
                    wills::go_on(&mut self.pubsub);
                }
            }
            Input::Cost { to, work } => clients.agenda.turn.set_cost(to, work),
            Input::Request(request) => self.on_request(request),
            Input::Memory(stage) => {
                self.pubsub.retained.may_grow = stage == MemoryStage::Normal;
                holding::set_memory(&mut self.pubsub.clients, stage);
            }
            Input::Undelivered => clients.statistics.counters.program_dropped += 1,
            Input::Restored => restoring::end_crashed(self),
            Input::Journal(answer) => committing::journal_answered(self, answer),
            Input::Archive(answer) => committing::archive_answered(self, answer),
            Input::Tick => self.tick(),
            Input::Stop => self.stop(),
        }
        loop {
            self.do_follow_ups();
            if self.pubsub.clients.persistence.is_some() {
                committing::settle(self);
                cutting::tell(self);
                self.do_follow_ups();
            }
            if !self.pubsub.clients.agenda.is_stopping() || !self.go_on_stopping() {
                break;
            }
        }
    }

    /// Does what has been set free, until nothing is left.
    // Every input ends here, and there is nothing to do nearly always.
    #[inline(always)]
    fn do_follow_ups(&mut self) {
        while let Some(follow_up) = self.pubsub.clients.agenda.next_follow_up() {
            self.do_follow_up(follow_up);
        }
    }

    /// Something that an input has set free.
    #[inline(never)]
    fn do_follow_up(&mut self, follow_up: FollowUp) {
        match follow_up {
            FollowUp::Serve(id) => self.serve_on(id),
            FollowUp::Violation(id, violation) => self.pubsub.violation(id, violation),
            FollowUp::ReleasePublisher(id, hold) => holding::end(&mut self.pubsub.clients, id, hold),
            FollowUp::Register(id) => {
                if self.pubsub.clients.connections.resume(id, PauseReason::Registration) {
                    self.register_when_possible(id);
                    self.serve_on(id);
                }
            }
            FollowUp::SessionCame(subscriber) => self.session_came(&subscriber),
            FollowUp::SessionEnded(slot, subscriber, leaving) => {
                leaving.into_iter().for_each(|token| self.migration.outgoing.abandon(token));
                self.session_left(slot, Some(&subscriber));
            }
            FollowUp::TasksDone(subscriber) => {
                let slot = self.migration.slots.slot(&subscriber);
                self.slot_may_be_empty(slot);
            }
            FollowUp::SessionMayLeave(token) => self.session_may_leave(token),
            FollowUp::BeginMigrations => self.begin_migrations(),
            FollowUp::SlotMayBeEmpty(slot) => self.slot_may_be_empty(slot),
            FollowUp::Replays => {
                self.pubsub.clients.agenda.turn.begin_share();
                self.pubsub.replay_some();
            }
            FollowUp::Replay(session) => Replaying::of(&mut self.pubsub).go_on(session),
        }
    }

    /// The next thing for the runtime to do; none if there is nothing until the next input. What is to be sent comes first, so that
    /// whatever else is done finds that it was; messages for other shards come last, so that they are few.
    pub fn next_output(&mut self) -> Option<Output<C::State>> {
        let clients = &mut self.pubsub.clients;
        debug_assert!(clients.delivery.batch.is_empty(), "nothing stays gathered");
        // No other shard hears of anything else before.
        if let Some((to, number)) = clients.agenda.next_cut() {
            return Some(Output::Messages { to, messages: vec![ShardMessage::Cut(number)] });
        }
        if let Some((connection, buffer)) = clients.connections.next_output() {
            clients.statistics.counters.bytes_out += buffer.len() as u64;
            return Some(Output::Send { connection, buffer });
        }
        if let Some(output) = clients.agenda.next_output() {
            return Some(output);
        }
        while let Some((id, to)) = clients.agenda.next_hand_off() {
            let Some(connection) = clients.take_connection(id) else { continue };
            let Connection { stage: ConnectionStage::Connecting(pending), unread, .. } = *connection else { continue };
            let Some(mut accepted) = pending.into_accepted() else { continue };
            accepted.unread = unread.as_slice().to_vec();
            return Some(Output::HandOff { connection: id, to, accepted });
        }
        if let Some((to, messages)) = clients.agenda.next_messages() {
            return Some(Output::Messages { to, messages });
        }
        let persistence = clients.persistence.as_mut()?;
        match persistence.next_effect() {
            Some(effect) => Some(Output::Journal(effect)),
            None => persistence.next_order().map(Output::Archive),
        }
    }

    /// Does what is due, and what did not fit into the last turn, as far as it fits into this one.
    fn tick(&mut self) {
        self.pubsub.clients.agenda.turn.begin();
        self.pubsub.clients.agenda.collect_due();
        // Each deadline with all that follows from it: one that comes later finds that it is done. However many there are, they have half
        // a share.
        while let Some(deadline) = self.pubsub.clients.agenda.next_due() {
            self.deadline_came(deadline);
            self.do_follow_ups();
        }
        self.pubsub.go_on();
        // Those that come to wait meanwhile are behind.
        for _ in 0..self.pubsub.clients.agenda.turn.waiting() {
            let clients = &mut self.pubsub.clients;
            if clients.agenda.turn.is_over() {
                break;
            }
            let Some((id, line)) = clients.agenda.turn.next() else { break };
            clients.agenda.turn.serves(line);
            if line == Line::Sending {
                sending::go_on(clients, id);
                self.do_follow_ups();
                continue;
            }
            let publisher = Publisher { shard: clients.setup.id, connection: id };
            if !clients.delivery.fan_outs.is_empty() && clients.delivery.fan_outs.has_of(publisher) {
                clients.agenda.turn.wait(id, Line::Clients);
                continue;
            }
            clients.serve_later(id, PauseReason::Turn);
            self.do_follow_ups();
        }
        self.pubsub.clients.agenda.turn.serves(Line::Clients);
    }

    /// When [`Input::Tick`] is to come next, at the latest.
    pub fn next_deadline(&self) -> Time {
        let agenda = &self.pubsub.clients.agenda;
        if self.is_behind() { agenda.now() } else { agenda.next_deadline() }
    }

    /// Whether work that did not fit into the last turn waits for [`Input::Tick`]. Messages from other shards are better left where they
    /// are until then.
    pub fn is_behind(&self) -> bool {
        self.pubsub.clients.agenda.is_behind() || !self.pubsub.clients.delivery.fan_outs.is_empty()
    }

    /// What was done in this turn.
    #[inline]
    pub fn turn(&self) -> TurnState {
        let clients = &self.pubsub.clients;
        let turn = &clients.agenda.turn;
        let fan_outs = &clients.delivery.fan_outs;
        let is_full = fan_outs.is_full(turn.limits().under_way, true);
        TurnState {
            work: turn.done(),
            is_over: turn.is_over() || !fan_outs.is_empty(),
            is_far_over: turn.is_far_over(),
            is_full,
            program_waits: is_full || clients.flow.program_waits() || self.pubsub.wills.is_full(),
        }
    }

    /// A hook's answer is here, or its future panicked.
    fn hook_answered(&mut self, task: u64, answer: Box<HookAnswer>) {
        let clients = &mut self.pubsub.clients;
        let Some(done) = clients.pending_hooks.end(task) else { return };
        let (hook, link) = (done.hook, done.link);
        let waited = done.waited(clients.agenda.now());
        // One that is still to be made is counted when it is.
        if let Some(outcome) = answer.outcome() {
            clients.chain.settle(link, hook, outcome, waited);
        }
        let failed = matches!(*answer, HookAnswer::Failed);
        if failed {
            tracing::error!(hook, "hook panicked in its later answer");
        }
        match done.waiter {
            // Who goes on with the packet counts the failure, as if it were one of now.
            Waiter::Connection(id) => self.resume(id, task, Resumed::Answered { link, answer, waited }),
            Waiter::Subscriber(subscriber) => {
                clients.statistics.counters.hook_failures += u64::from(failed);
                clients.task_done(&subscriber);
            }
            Waiter::Messages(subscriber) => {
                clients.statistics.counters.hook_failures += u64::from(failed);
                clients.message_task_done(subscriber, false);
            }
        }
    }

    /// A message from another shard.
    fn on_message(&mut self, from: usize, message: ShardMessage) {
        let pubsub = &mut self.pubsub;
        if let Some(persistence) = &mut pubsub.clients.persistence
            && message.leads_to_records()
        {
            persistence.letter_came(from);
        }
        match message {
            ShardMessage::Publish { sequence, mountpoint, message, number, publisher } => {
                let id = PublicationId { shard: from, sequence };
                pubsub.deliver_from_shard(id, &mountpoint, &message, number, publisher);
            }
            ShardMessage::Share(share) => pubsub.deliver_share(from, *share),
            ShardMessage::Subscribe { mountpoint, filters, flush } => {
                pubsub.take_in(from, &mountpoint, &filters);
                if let Some((shard, token)) = flush.filter(|(shard, _)| *shard != pubsub.clients.setup.id) {
                    let sequence = pubsub.routing.sequence();
                    pubsub.clients.agenda.post(shard, ShardMessage::Flushed { token, sequence });
                }
            }
            ShardMessage::Subscribed { sent, sequence } => self.taken_in(from, &sent, sequence),
            ShardMessage::Unsubscribe { mountpoint, filter } => {
                let mountpoint = pubsub.routing.mountpoint(&mountpoint);
                pubsub.routing.remove_interest(from, mountpoint, &filter);
                pubsub.clients.agenda.turn.did(FILTER);
            }
            ShardMessage::Group { mountpoint, filter, members } => {
                let mountpoint = pubsub.routing.mountpoint(&mountpoint);
                pubsub.routing.set_members(from, mountpoint, &filter, members);
                pubsub.clients.agenda.turn.did(FILTER);
            }
            ShardMessage::Retain { mountpoint, message } => {
                let mountpoint = pubsub.routing.mountpoint(&mountpoint);
                pubsub.apply_retained(from, mountpoint, message);
            }
            ShardMessage::AskRetained(question) => Replaying::of(pubsub).asked(from, *question),
            ShardMessage::Retained(page) => Replaying::of(pubsub).answered(*page),
            ShardMessage::Leaving { token } => {
                let sequence = pubsub.routing.sequence();
                pubsub.clients.agenda.post(from, ShardMessage::Flushed { token, sequence });
            }
            ShardMessage::Flushed { token, sequence } => {
                pubsub.routing.received(from, sequence);
                match self.migration.flushed(token) {
                    Flushed::Session => pubsub.clients.agenda.follow_up(FollowUp::SessionMayLeave(token)),
                    Flushed::Slots(slots) => slots_answered(self, slots),
                }
            }
            ShardMessage::SessionComes(announcement) => arriving::comes(self, from, *announcement),
            ShardMessage::AskSubscriptions { token, begin } => send_subscriptions(self, from, token, begin),
            ShardMessage::Subscriptions { token, portion } => arriving::come_on(self, from, token, *portion),
            ShardMessage::Abandoned { token } => arriving::abandoned(self, from, token),
            ShardMessage::SlotsMoved(moved) => self.slots_moved(from, &moved),
            ShardMessage::SlotsSeen { token } => {
                let slots = self.migration.slots.answered(token);
                slots_answered(self, slots);
            }
            ShardMessage::SlotEmptied { slot } => self.migration.slots.slot_emptied(slot),
            ShardMessage::Pull { subscriber } => self.pulled(from, subscriber),
            ShardMessage::NotHere { subscriber } => self.not_here(&subscriber),
            ShardMessage::MakeRoom => {
                pubsub.end_longest_offline();
                pubsub.clients.setup.quotas.sessions.take_anyway(pubsub.clients.setup.id);
            }
            ShardMessage::SessionRequest { subscriber, request } => self.on_session_request(subscriber, request),
            ShardMessage::SessionAnswer { ticket, found } => {
                pubsub.clients.agenda.output(Output::SessionAnswer { ticket, found });
            }
            ShardMessage::Publisher { connection, wait: true, hold } => {
                holding::begin(&mut pubsub.clients, connection, hold);
            }
            ShardMessage::Publisher { connection, wait: false, hold } => {
                holding::end(&mut pubsub.clients, connection, hold);
            }
            ShardMessage::WillsPublished => pubsub.clients.agenda.stop.other_has_published(),
            ShardMessage::Committed(committed) => {
                if let Some(persistence) = &mut pubsub.clients.persistence {
                    persistence.letters_committed(from, committed);
                }
            }
            ShardMessage::Stored { token } => {
                if let Some(persistence) = &mut pubsub.clients.persistence {
                    persistence.stored_elsewhere(token);
                }
            }
            ShardMessage::Decided(below) => {
                if let Some(persistence) = &mut pubsub.clients.persistence {
                    persistence.decisions_made(from, below);
                }
            }
            ShardMessage::Cut(number) => cutting::cut(self, number),
            ShardMessage::Counters(counted) => pubsub.clients.statistics.others[from] = *counted,
        }
    }

    /// Shard `from` has taken in what this one announced: filters of a client, or of a session that is to come.
    fn taken_in(&mut self, from: usize, sent: &Counts, sequence: u64) {
        self.pubsub.routing.received(from, sequence);
        let announcement = self.pubsub.announcement_answered(from, sent);
        if let Some(portion) = self.migration.incoming.announcement_answered(announcement) {
            arriving::taken_in(self, portion);
        }
    }
}

/// Every shard has answered what it was told of these slots, which left.
fn slots_answered<C: Chain>(shard: &mut Shard<C>, slots: Vec<u16>) {
    slots.into_iter().for_each(|slot| shard.pubsub.clients.agenda.follow_up(FollowUp::SlotMayBeEmpty(slot)));
}
