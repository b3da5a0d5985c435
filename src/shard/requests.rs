//! What the embedding program and operators ask for. The program is a client of its own kind: it publishes and subscribes without a
//! connection, and without hooks.

use super::counting;
use super::cutting;
use super::machine::Shard;
use super::output::Output;
use super::program::{ProgramSubscription, Request};
use super::publications::PublishContext;
use super::replaying::Replaying;
use crate::client::{Asker, SessionAction, SessionRequest};
use crate::hooks::Chain;
use crate::message::Publication;
use crate::time::Time;
use crate::topic::TopicName;

impl<C: Chain> Shard<C> {
    /// The embedding program or an operator asks for something.
    pub(super) fn on_request(&mut self, request: Request) {
        let pubsub = &mut self.pubsub;
        match request {
            Request::Publish { mountpoint, topic, payload, qos, retain, properties, expiry } => {
                let Ok(topic) = TopicName::parse(&topic, usize::MAX) else { return };
                let mountpoint = pubsub.routing.mountpoint(&mountpoint);
                let mut publication = Publication::new(topic, &payload);
                (publication.qos, publication.retain) = (qos, retain);
                publication.properties = properties.as_bytes();
                publication.expires = expiry.map_or(Time::NEVER, |expiry| pubsub.clients.agenda.now() + expiry);
                let origin = pubsub.own_origin();
                let published = pubsub.publish(mountpoint, &publication, PublishContext::by_nobody(origin));
                pubsub.clients.flow.program_published(published.told);
            }
            Request::Subscribe { subscription, mountpoint, filter } => {
                let mountpoint = pubsub.routing.mountpoint(&mountpoint);
                pubsub.subscribe_program(mountpoint, subscription, filter);
            }
            Request::Unsubscribe { subscription } => {
                if let Some(ProgramSubscription { mountpoint, filter, place }) =
                    pubsub.clients.program.remove(subscription)
                {
                    Replaying::of(pubsub).ended(place);
                    pubsub.remove_subscription(mountpoint, &filter, place);
                }
            }
            Request::Session { subscriber, action, ticket } => {
                let asker = Asker { shard: pubsub.clients.setup.id, ticket };
                self.on_session_request(subscriber, SessionRequest { action, asked_by: Some(asker) });
            }
            Request::Disconnect { subscriber, cleanup } => {
                let action = SessionAction::Disconnect { cleanup };
                self.on_session_request(subscriber, SessionRequest { action, asked_by: None });
            }
            Request::Cut { number } => cutting::cut(self, number),
            Request::EndCut { number } => cutting::end(self, number),
            Request::CountStored => counting::count_stored(pubsub),
            Request::MoveSlots { slots, to } => {
                let moving = self.move_slots(&slots, to);
                self.pubsub.clients.agenda.output(Output::SlotsMoving(moving));
            }
        }
    }
}
