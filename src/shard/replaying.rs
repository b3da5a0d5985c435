//! What is retained, sent to new subscribers as fast as they take it.

use super::agenda::{Deadline, FollowUp};
use super::delivering::Retained as RetainedMessage;
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use crate::hooks::Chain;
use crate::retained::{RetainedPage, RetainedQuestion, Work};
use crate::session::{PROGRAM, Recipient, SubscriptionIds};
use crate::time::Time;

/// Pages that are walked or sent in one turn: what is left waits for the next.
const WORK_PER_TURN: usize = 8;

impl<C: Chain> PubSub<C> {
    /// If there is something to be sent or answered, has it done when what is being done is done.
    pub(super) fn replay_soon(&mut self) {
        if self.retained.needs_turn() {
            self.clients.agenda.follow_up(FollowUp::Replays);
        }
    }

    /// Answers and sends what can be, as much as one turn may take.
    pub(super) fn replay_some(&mut self) {
        for _ in 0..WORK_PER_TURN {
            match self.retained.next_work(self.clients.agenda.now()) {
                Some(Work::Answer(to, page)) if to == self.clients.setup.id => self.retained.answered(page),
                Some(Work::Answer(to, page)) => self.clients.agenda.post(to, ShardMessage::Retained(Box::new(page))),
                Some(Work::Reader(reader)) => self.replay_to(reader),
                None => break,
            }
        }
        if self.retained.end_turn() {
            // It has come already: that is the next turn.
            self.clients.agenda.arm(Time::ZERO, Deadline::Replays);
        }
    }

    /// Sends a reader what is here for it, as far as it has room; if all was sent, asks for the next page.
    pub(super) fn replay_to(&mut self, reader: u32) {
        if reader & PROGRAM != 0 {
            self.replay_to_program(reader);
        } else if self.replay_to_session(reader) {
            if let Some(session) = self.clients.sessions.get_mut(reader) {
                session.outbound.replay_waits = true;
            }
            return;
        }
        if let Some((owner, question)) = self.retained.question(reader) {
            if owner == self.clients.setup.id {
                self.ask_owner(owner, question);
            } else {
                self.clients.agenda.post(owner, ShardMessage::AskRetained(Box::new(question)));
            }
        }
    }

    /// Sends what is here for a session, in turn with what is queued for it. Whether it waits for room.
    fn replay_to_session(&mut self, reader: u32) -> bool {
        let Some(session) = self.clients.sessions.get(reader) else { return false };
        let room = usize::from(session.settings.send_maximum).saturating_sub(session.outbound.in_flight());
        let most = match session.outbound.is_anything_waiting() {
            false => usize::MAX,
            true if self.retained.take_turn(reader) => room.div_ceil(2).max(1),
            true => 0,
        };
        let waits = self.send_page(reader, most);
        self.clients.send_waiting(reader);
        let is_queue_empty =
            self.clients.sessions.get(reader).is_some_and(|session| !session.outbound.is_anything_waiting());
        if waits && is_queue_empty { self.send_page(reader, usize::MAX) } else { waits }
    }

    /// Sends a session so many of the messages that are here for it at most. Whether there are more.
    fn send_page(&mut self, reader: u32, most: usize) -> bool {
        let mut left = most;
        while let Some((filter, message)) = self.retained.next_message(reader) {
            let message = message.clone();
            let subscription = self.clients.sessions.get(reader).and_then(|session| session.subscriptions.get(filter));
            if let Some(subscription) = subscription
                && message.expires() > self.clients.agenda.now()
            {
                let recipient = Recipient {
                    session: reader,
                    qos: subscription.options.qos,
                    retain_as_published: true,
                    ids: SubscriptionIds::from(subscription.id),
                    group: None,
                };
                if left == 0 || self.clients.send_retained(&recipient, &message.publication()) == RetainedMessage::Waits {
                    return true;
                }
                left -= 1;
            }
            self.retained.message_done(reader);
        }
        false
    }

    /// Gives the program what is here for one of its subscriptions.
    fn replay_to_program(&mut self, reader: u32) {
        let Some(subscription) = self.clients.program.number(reader) else { return };
        while let Some((_, message)) = self.retained.next_message(reader) {
            if message.expires() > self.clients.agenda.now() {
                self.clients.agenda.output(Output::Deliver { subscription, message: message.clone() });
            }
            self.retained.message_done(reader);
        }
    }

    /// Shard `from`, perhaps this one, wants to know what is retained here.
    pub(super) fn ask_owner(&mut self, from: usize, question: RetainedQuestion) {
        let mountpoint = self.routing.mountpoint(&question.mountpoint);
        self.retained.ask(from, mountpoint, question);
        self.replay_soon();
    }

    /// An owner has answered.
    pub(super) fn owner_answered(&mut self, page: RetainedPage) {
        self.retained.answered(page);
        self.replay_soon();
    }

    /// The client of a session came or left: what is retained for it goes on, or waits.
    pub(super) fn set_replay_online(&mut self, index: u32, online: bool) {
        if self.retained.is_replaying(index) {
            self.retained.set_online(index, online);
            self.replay_soon();
        }
    }
}
