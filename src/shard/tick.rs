//! What is done when time has passed.

use std::sync::Arc;

use super::agenda::{Deadline, NEXT_PORTION, SWEEP, Swept};
use super::counters::Counted;
use super::draining;
use super::machine::Shard;
use super::message::{Hold, ShardMessage};
use super::output::Output;
use super::publications::{self, PublishContext};
use super::pubsub::PubSub;
use super::stalled;
use super::sys;
use crate::config::OnDeadline;
use crate::hooks::ask::Resumed;
use crate::hooks::{Chain, HookAnswer, Outcome};
use crate::message::Publication;
use crate::pending_hooks::Waiter;
use crate::session::MigrationState;
use crate::topic::TopicName;

impl<C: Chain> Shard<C> {
    /// Does what is due at a deadline that has come.
    pub(super) fn deadline_came(&mut self, deadline: Deadline) {
        match deadline {
            Deadline::Connection(index) => self.pubsub.look_at_connection(index),
            Deadline::Session(index) => self.pubsub.look_at_session(index),
            Deadline::Hook(task) => self.hook_due(task),
            Deadline::Consumer(id) => {
                let clients = &mut self.pubsub.clients;
                let over = clients.flow.due(id, clients.agenda.now());
                if let Some(at) = over.look_at {
                    clients.agenda.arm(at, Deadline::Consumer(id));
                }
                over.released.into_iter().for_each(|publisher| clients.release_publisher(publisher, Hold::WithCredit));
            }
            Deadline::Stalled(index) => stalled::look(&mut self.pubsub, index),
            Deadline::Sys => self.publish_sys(),
            Deadline::Migrations => self.begin_migrations(),
            Deadline::Stop if self.pubsub.clients.agenda.stop.is_closing() => draining::look(self),
            Deadline::Stop => self.pubsub.clients.agenda.stop.wait_no_longer(),
            Deadline::Sweep => self.sweep(),
        }
    }

    /// A hook has not answered in time.
    fn hook_due(&mut self, task: u64) {
        let clients = &mut self.pubsub.clients;
        let Some(due) = clients.pending_hooks.end(task) else { return };
        let (hook, link) = (due.hook, due.link);
        let waited = due.waited(clients.agenda.now());
        clients.chain.settle(link, hook, Outcome::TimedOut, waited);
        clients.agenda.output(Output::CancelHook { task });
        tracing::error!(hook, "hook did not answer before its deadline");
        let (_, on_deadline) = clients.setup.config.hooks.deadline_of(hook);
        match (due.waiter, on_deadline) {
            // Who refuses the packet counts the failure.
            (Waiter::Connection(id), OnDeadline::Refuse) => {
                let answer = Box::new(HookAnswer::TooLate);
                self.resume(id, task, Resumed::Answered { link, answer, waited });
            }
            (Waiter::Connection(id), OnDeadline::Allow) => {
                clients.statistics.counters.hook_failures += 1;
                self.resume(id, task, Resumed::Allowed);
            }
            (Waiter::Subscriber(subscriber), _) => {
                clients.statistics.counters.hook_failures += 1;
                clients.task_done(&subscriber);
            }
            (Waiter::Messages(subscriber), _) => {
                clients.statistics.counters.hook_failures += 1;
                clients.message_task_done(subscriber, true);
            }
        }
    }

    /// Forgets what has expired, and what migrations have left behind: a portion of that, and soon the next, until all was looked at.
    fn sweep(&mut self) {
        let PubSub { clients, routing, .. } = &mut self.pubsub;
        let now = clients.agenda.now();
        let (own, received) = (clients.setup.id, routing.received_up_to());
        // Each to its end, however long the other one takes.
        if !clients.agenda.swept.credits {
            clients.agenda.swept.credits = clients.flow.forget_whole(now);
        }
        if !clients.agenda.swept.arrivals {
            // Of what is under way, some was perhaps delivered where a session was before.
            clients.agenda.swept.arrivals = !clients.delivery.fan_outs.is_empty()
                || self.migration.incoming.forget_arrived(|index| {
                    let session = clients.sessions.get_mut(index);
                    session.is_none_or(|session| MigrationState::forget_arrival(&mut session.migration, own, received))
                });
        }
        let is_over = clients.agenda.swept.credits && clients.agenda.swept.arrivals;
        clients.agenda.arm(now + if is_over { SWEEP } else { NEXT_PORTION }, Deadline::Sweep);
        if is_over {
            clients.agenda.swept = Swept::default();
            self.pubsub.forget_expired();
        }
    }

    /// The interval of `$SYS` has passed: the others report to the first shard, which publishes what it knows.
    fn publish_sys(&mut self) {
        let mut total = Counted { counters: self.counters(), hooks: self.hook_reports() };
        let clients = &mut self.pubsub.clients;
        let now = clients.agenda.now();
        clients.agenda.arm(now + clients.setup.config.sys.interval, Deadline::Sys);
        // Nobody waits for what the broker says of itself: on its way to a shard to which the queue is full it would pile up.
        let congested = clients.flow.congested();
        if clients.setup.id != sys::PUBLISHER {
            if !congested.contains(sys::PUBLISHER) {
                clients.agenda.post(sys::PUBLISHER, ShardMessage::Counters(Box::new(total)));
            }
            return;
        }
        clients.statistics.others.iter().for_each(|other| total.add(other));
        let mut lines = sys::lines(&total, now, clients.setup.version);
        lines.extend(clients.statistics.lines(&total.counters, now));
        let (mountpoint, origin) = (self.pubsub.routing.mountpoint(&Arc::from("")), self.pubsub.own_origin());
        for (topic, value) in lines {
            let mut publication = Publication::new(TopicName::trusted(&topic), value.as_bytes());
            publication.retain = true;
            let mut shards = || publications::shards_of(&mut self.pubsub, mountpoint, &publication, origin).0;
            if !congested.is_empty() && !congested.intersection(&shards()).is_empty() {
                continue;
            }
            self.pubsub.publish(mountpoint, &publication, PublishContext::by_nobody(origin));
        }
    }
}
