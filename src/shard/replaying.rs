//! What is retained, sent to new subscribers as fast as they take it.

use super::agenda::{Deadline, FollowUp};
use super::delivering::Retained as RetainedMessage;
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use crate::hooks::Chain;
use crate::retained::{RetainedPage, RetainedQuestion, Work};
use crate::session::{PROGRAM, Recipient, SubscriptionIds};

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
            self.clients.agenda.next_turn(Deadline::Replays);
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

    /// Sends what is here for a session, behind what was queued for it before. Whether it waits for room.
    fn replay_to_session(&mut self, reader: u32) -> bool {
        if let Some(session) = self.clients.sessions.get_mut(reader) {
            // That is what happens now: it need not be told again.
            session.outbound.replay_waits = false;
        }
        self.clients.send_waiting(reader);
        let Some(queue) = self.clients.sessions.get(reader).map(|session| &session.outbound.queue) else {
            return false;
        };
        let before = self.retained.queued_before(reader, queue.end());
        if before.is_some_and(|before| queue.left() < before) {
            return true;
        }
        let waits = self.send_page(reader);
        self.clients.send_waiting(reader);
        waits
    }

    /// Sends a session the messages that are here for it, while there is room. Whether there are more.
    fn send_page(&mut self, reader: u32) -> bool {
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
                if self.clients.send_retained(&recipient, &message.publication()) == RetainedMessage::Waits {
                    return true;
                }
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
