//! What is retained, sent to new subscribers as fast as they take it. How much of it in a turn is up to `portions`.

use super::agenda::FollowUp;
use super::clients::Clients;
use super::delivering::{Portioning, Routed};
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use super::recording;
use super::sending;
use crate::codec::QoS;
use crate::config::QueueType;
use crate::delivery::{self, Delivered, PublishWriter};
use crate::hooks::Chain;
use crate::message::Publication;
use crate::retained::{Retained, RetainedPage, RetainedQuestion};
use crate::routing::Routing;
use crate::session::{PROGRAM, PublicationId, Recipient, SubscriptionIds};

/// What it takes to replay what is retained, of one shard.
pub(super) struct Replaying<'a, C: Chain> {
    clients: &'a mut Clients<C>,
    routing: &'a mut Routing,
    retained: &'a mut Retained,
}

impl<'a, C: Chain> Replaying<'a, C> {
    pub fn of(pubsub: &'a mut PubSub<C>) -> Self {
        let PubSub { clients, routing, retained, .. } = pubsub;
        Replaying { clients, routing, retained }
    }

    /// If there is something to be sent or answered, has it done when what is being done is done.
    pub fn soon(&mut self) {
        if self.retained.needs_turn() {
            self.clients.agenda.follow_up(FollowUp::Replays);
        }
    }

    /// Sends a reader what is here for it, as far as it has room; if all was sent, asks for the next page.
    pub fn go_on(&mut self, reader: u32) {
        if reader & PROGRAM != 0 {
            self.send_to_program(reader);
        } else if self.send_to_session(reader) {
            if let Some(session) = self.clients.sessions.get_mut(reader) {
                session.outbound.replay_waits = true;
            }
            return;
        }
        for (owner, question) in self.retained.questions(reader) {
            if owner == self.clients.setup.id {
                self.asked(owner, question);
            } else {
                self.clients.agenda.post(owner, ShardMessage::AskRetained(Box::new(question)));
            }
        }
    }

    /// Sends what is here for a session, behind what was queued for it before and in front of what was queued later. Whether it waits for
    /// room.
    fn send_to_session(&mut self, reader: u32) -> bool {
        let Some(session) = self.clients.sessions.get_mut(reader) else { return false };
        // That is what happens now: it need not be told again.
        session.outbound.replay_waits = false;
        let queue = &session.outbound.queue;
        let end = match session.settings.queue.order {
            QueueType::Fifo => queue.next_place(),
            // There is no order to be kept.
            QueueType::Lifo => 0,
        };
        let before = self.retained.queued_before(reader, end);
        if session.outbound.has_unsent() || before.is_none_or(|before| queue.has_any_before(before)) {
            self.clients.send_waiting(reader);
        }
        let Some(before) = before else { return false };
        let session = self.clients.sessions.get(reader);
        if session.is_some_and(|session| session.outbound.queue.has_any_before(before)) || self.send_page(reader) {
            return true;
        }
        self.clients.send_waiting(reader);
        false
    }

    /// Sends a session the messages that are here for it, while there is room. Whether there are more.
    fn send_page(&mut self, reader: u32) -> bool {
        while let Some((filter, message)) = self.retained.next_message(reader) {
            if self.clients.agenda.turn.is_share_over() {
                sending::wait(self.clients, reader);
                return true;
            }
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
                self.clients.agenda.turn.did(1);
                if !self.send(&recipient, &message.publication()) {
                    return true;
                }
            }
            self.retained.message_done(reader);
        }
        false
    }

    /// Sends a message to a client, if there is room in the window and on the connection. False if it waits for that.
    fn send(&mut self, recipient: &Recipient, publication: &Publication<'_>) -> bool {
        let clients = &mut *self.clients;
        let Some(session) = clients.sessions.get_mut(recipient.session) else { return true };
        let Some(mut to) = session.connection.and_then(|id| clients.connections.writable(id)) else { return false };
        let qos = delivery::qos_for(session, recipient, publication);
        if qos == QoS::ExactlyOnce && session.stored.is_some() {
            return recording::store_retained(clients, recipient, publication);
        }
        let (chain, traffic, now) = (&mut clients.chain, &mut clients.delivery.traffic, clients.agenda.now());
        let mut writer = PublishWriter { chain, traffic, buffers: to.buffers, now };
        match writer.send_retained(session, to.connection, recipient, publication, qos, clients.flow.most()) {
            None => return false,
            Some(Delivered::Sent) => {
                clients.statistics.counters.messages_out += 1;
                to.queue_for_output();
            }
            Some(outcome) => {
                let (id, portioning) = (PublicationId::NONE, Portioning::AtOnce);
                let routed = Routed { publication, id, publisher: None, is_moved: false, portioning, at: 0 };
                clients.settle(recipient, &routed, (qos, true, false), outcome);
            }
        }
        true
    }

    /// Gives the program what is here for one of its subscriptions.
    fn send_to_program(&mut self, reader: u32) {
        let Some(subscription) = self.clients.program.number(reader) else { return };
        while let Some((_, message)) = self.retained.next_message(reader) {
            if message.expires() > self.clients.agenda.now() {
                self.clients.agenda.turn.did(1);
                self.clients.agenda.output(Output::Deliver { subscription, message: message.clone() });
            }
            self.retained.message_done(reader);
        }
    }

    /// Shard `from`, perhaps this one, wants to know what is retained here.
    pub fn asked(&mut self, from: usize, question: RetainedQuestion) {
        let mountpoint = self.routing.mountpoint(&question.mountpoint);
        self.retained.ask(from, mountpoint, question);
        self.soon();
    }

    /// An owner has answered.
    pub fn answered(&mut self, page: RetainedPage) {
        let fan_outs = &self.clients.delivery.fan_outs;
        self.retained.answered(page, (fan_outs.begun(), fan_outs.done()));
        self.soon();
    }

    /// Publications that are delivered in portions have gone on: takes in what has waited for them.
    pub fn take_in(&mut self) {
        self.retained.take_in(self.clients.delivery.fan_outs.done());
        self.soon();
    }

    /// The client of a session came or left: what is retained for it goes on, or waits.
    pub fn set_online(&mut self, index: u32, online: bool) {
        if self.retained.is_replaying(index) {
            self.retained.set_online(index, online);
            self.soon();
        }
    }

    /// A session, or a subscription of the program, has ended.
    pub fn ended(&mut self, reader: u32) {
        self.retained.forget_reader(reader);
        self.soon();
    }
}
