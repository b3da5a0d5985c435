//! The clients of a shard: their connections and sessions, the hooks that are told of them, and what is to be done for them.
//!
//! The lowest of the three layers of a shard. It brings one message to one client and says what became of it; who gets a message,
//! and how clients come and go, is decided above.

use std::sync::Arc;
use std::time::Duration;

use super::agenda::{Agenda, FollowUp};
use super::message::{Hold, ShardMessage};
use super::output::Output;
use super::program::Program;
use super::statistics::Statistics;
use super::turn::{Line, Turn, TurnLimits};
use crate::client::{Client, ConnectionId};
use crate::codec::ReasonCode;
use crate::config::{Config, SessionsFull};
use crate::connection::{Connection, ConnectionStage, Connections, PauseReason, Pending};
use crate::delivery::Delivering;
use crate::flow::Flow;
use crate::handshake::{AcceptedConnect, PendingConnect, Refusal, stranger};
use crate::hooks::Chain;
use crate::pending_hooks::PendingHooks;
use crate::persistence::Persistence;
use crate::session::{Session, SessionSettings, Sessions};
use crate::sharding::{Publisher, Quotas, hasher};
use crate::time::Time;

/// Why a connection is closed whose client closed it before its CONNECT was complete.
pub(super) const CLIENT_LEFT: &str = "the client left before its CONNECT was complete";

/// What a shard is told when it is made.
#[derive(Clone)]
pub struct Setup {
    /// Which shard it is, from 0.
    pub id: usize,
    /// How many there are, at most 256.
    pub shards: usize,
    /// The seed of hashes: random, and the same on every shard.
    pub seed: u64,
    /// How much is done in a turn.
    pub turn: TurnLimits,
    /// The version of the broker, as `$SYS` shows it.
    pub version: &'static str,
    /// The configuration, checked.
    pub config: Arc<Config>,
    /// What is left of the limits of the whole broker: the same on every shard.
    pub quotas: Arc<Quotas>,
}

impl Setup {
    /// About how many bytes may be under way to a shard: what comes yet when publishers everywhere are told to wait.
    pub(super) fn under_way(&self) -> usize {
        self.config.runtime.mailbox_bytes.saturating_mul(self.shards)
    }

    /// The name of a listener, for the log.
    pub(super) fn listener_name(&self, listener: usize) -> &str {
        self.config.listeners.get(listener).map_or("", |listener| &listener.name)
    }
}

/// The clients of one shard.
pub struct Clients<C: Chain> {
    pub(super) setup: Setup,
    pub(super) chain: C,
    pub(super) connections: Connections<PendingConnect<C::State>>,
    pub(super) sessions: Sessions<C::State>,
    pub(super) pending_hooks: PendingHooks,
    pub(super) delivery: Delivering,
    pub(super) flow: Flow,
    pub(super) program: Program,
    pub(super) statistics: Statistics,
    pub(super) agenda: Agenda<C::State>,
    /// What is kept on disk, if anything is.
    pub(super) persistence: Option<Box<Persistence>>,
}

impl<C: Chain> Clients<C> {
    /// No clients.
    pub(super) fn new(setup: Setup, chain: C, agenda: Agenda<C::State>) -> Self {
        let config = &setup.config;
        let orders_offline = config.limits.sessions_full == SessionsFull::Expire;
        let mut sessions = Sessions::new(hasher(setup.seed), orders_offline);
        sessions.seen_in(setup.quotas.clone(), setup.id);
        Clients {
            chain,
            connections: Connections::new(config.limits.max_unaccepted_bytes),
            sessions,
            pending_hooks: PendingHooks::new(setup.seed, config.hooks.max_message_tasks),
            delivery: Delivering::new(),
            flow: Flow::new(config, hasher(setup.seed)),
            program: Program::default(),
            statistics: Statistics::new(setup.shards),
            agenda,
            persistence: None,
            setup,
        }
    }

    /// What kept a connection from being served may have gone: it is served when what is being done is done.
    #[inline]
    pub(super) fn serve_later(&mut self, id: ConnectionId, reason: PauseReason) {
        if self.connections.resume(id, reason) {
            self.agenda.follow_up(FollowUp::Serve(id));
        }
    }

    /// A client has had its share of the turn: it is served on when those have been who wait already.
    #[cold]
    pub(super) fn share_is_over(&mut self, id: ConnectionId) {
        let now = self.agenda.now();
        if let Some(connection) = self.connections.get_mut(id) {
            connection.busy_until = now + BUSY;
        }
        self.wait_for_turn(id);
    }

    /// A client is served on when those have been who wait already; but for those who ask for more, if it has not had a whole share lately.
    #[cold]
    pub(super) fn wait_for_turn(&mut self, id: ConnectionId) {
        let now = self.agenda.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let line = match connection.session() {
            None => Line::ComingAndGoing,
            Some(_) if connection.busy_until > now => Line::Clients,
            Some(_) => Line::Modest,
        };
        wait_in(&mut self.agenda.turn, connection, line);
    }

    /// Whether a connection of a session that was lost has to wait: its session is still arriving, what it sent is held up by something that ends
    /// without it (the answer of a hook, the move of its session, room for what it publishes), or was by what it did not read, or all was done that may
    /// be done in this turn. Then it waits for that, too.
    pub(super) fn is_lost_later(&mut self, id: ConnectionId) -> bool {
        let Some(index) = self.connections.get(id).and_then(|connection| connection.session()) else { return false };
        let is_arriving = self.sessions.get(index).is_some_and(Session::is_arriving);
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if self.agenda.turn.is_over() {
            wait_in(&mut self.agenda.turn, connection, Line::ComingAndGoing);
        }
        let has_sent = !connection.unread.as_slice().is_empty() || connection.pauses.contains(PauseReason::HookAnswer);
        // Whether it read what it was sent matters no more.
        let goes_on = connection.pauses.remove(PauseReason::OutputFull) && connection.pauses.is_empty();
        let is_held_up = has_sent && (goes_on || connection.pauses.end_without_client());
        connection.is_lost = is_arriving || is_held_up || connection.pauses.is_only(PauseReason::Turn);
        if connection.is_lost && goes_on {
            self.agenda.follow_up(FollowUp::Serve(id));
        }
        connection.is_lost
    }

    /// The client of a connection, accepted by all.
    pub(super) fn accepted_at(&self, id: ConnectionId) -> Option<&AcceptedConnect<C::State>> {
        match &self.connections.get(id)?.stage {
            ConnectionStage::Connecting(pending) => pending.accepted(),
            ConnectionStage::Opening { .. } | ConnectionStage::Connected(_) => None,
        }
    }

    /// Takes it out of its connection, which is to belong to a session.
    pub(super) fn take_accepted(&mut self, id: ConnectionId) -> Option<Box<AcceptedConnect<C::State>>> {
        self.accepted_at(id)?;
        let connection = self.connections.get_mut(id)?;
        let stage = std::mem::replace(&mut connection.stage, ConnectionStage::Opening { due: Time::NEVER });
        match stage {
            ConnectionStage::Connecting(pending) => pending.into_accepted(),
            ConnectionStage::Opening { .. } | ConnectionStage::Connected(_) => None,
        }
    }

    /// Refuses a CONNECT, and closes the connection.
    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: &Refusal) {
        let counters = &mut self.statistics.counters;
        counters.refused += 1;
        counters.hook_failures += u64::from(refusal.hook_failed);
        self.connections.write_bytes(id, |out| refusal.encode(out));
        self.close(id);
    }

    /// Refuses the CONNECT of a connection that has no session yet; if there has not even been one, closes it without a word.
    pub(super) fn refuse_pending(&mut self, id: ConnectionId, code: ReasonCode, what: &'static str) {
        let Some(connection) = self.connections.get(id) else { return };
        match &connection.stage {
            ConnectionStage::Connecting(pending) => {
                let refusal = pending.refuse(code, what);
                self.refuse(id, &refusal);
            }
            _ => self.turn_away(id, what),
        }
    }

    /// Refuses a client that all have accepted, for a limit of the shard.
    pub(super) fn refuse_for_limit(&mut self, id: ConnectionId, code: ReasonCode, limit: &'static str) {
        if let Some(refusal) = self.accepted_at(id).map(|accepted| accepted.refuse(code, limit)) {
            self.refuse(id, &refusal);
        }
    }

    /// Closes a connection without a word that has sent no CONNECT, or not all of one. `why` is for the log. That a client came and
    /// went without a byte is logged at debug: load balancers look like that whether the broker is there.
    pub(super) fn turn_away(&mut self, id: ConnectionId, why: &str) {
        let Some(connection) = self.connections.get(id) else { return };
        let peer = connection.peer;
        let listener = self.setup.listener_name(connection.listener);
        if connection.unread.is_empty() && why == CLIENT_LEFT {
            tracing::debug!(%peer, listener, "connection closed: {why}");
        } else {
            tracing::info!(%peer, listener, "connection closed: {why}");
        }
        self.close(id);
    }

    /// Turns the client of a connection away whose first bytes are those of another protocol than MQTT. False if they are not, or
    /// are not the first.
    pub(super) fn turn_stranger_away(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let stage = self.connections.get(id).map(|connection| &connection.stage);
        let Some(ConnectionStage::Opening { .. }) = stage else { return false };
        let Some(what) = stranger(bytes) else { return false };
        self.turn_away(id, &format!("the client seems to speak {what}"));
        true
    }

    /// Has the runtime close the connection, after what it still has to send; here it is gone at once.
    pub(super) fn close(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.take_connection(id) else { return };
        if let Some(task) = task_of(&connection) {
            self.pending_hooks.end(task);
            self.agenda.output(Output::CancelHook { task });
        }
        // What CONNACK says is not on disk yet, and nothing is behind it that may come alone.
        let last = connection.outbox.take_last().filter(|_| !connection.pauses.contains(PauseReason::Commit));
        if let Some(output) = &last {
            self.statistics.counters.bytes_out += output.len() as u64;
        }
        let listener = connection.refused.is_none().then_some(connection.listener);
        self.agenda.output(Output::Close { connection: id, listener, last });
    }

    /// Takes a connection out of the table. Publishers that wait for it go on.
    pub(super) fn take_connection(&mut self, id: ConnectionId) -> Option<Box<Connection<PendingConnect<C::State>>>> {
        let connection = self.connections.remove(id)?;
        for publisher in self.flow.remove(id, self.agenda.now()) {
            self.release_publisher(publisher, Hold::WithCredit);
        }
        for publisher in self.flow.lossless.remove(id) {
            self.release_publisher(publisher, Hold::WithoutEnd);
        }
        Some(connection)
    }

    /// A publisher, perhaps of another shard, which is held so, waits for one client less.
    pub(super) fn release_publisher(&mut self, publisher: Publisher, hold: Hold) {
        let Publisher { shard, connection } = publisher;
        if shard == self.setup.id {
            self.agenda.follow_up(FollowUp::ReleasePublisher(connection, hold));
        } else {
            self.agenda.post(shard, ShardMessage::Publisher { connection, wait: false, hold });
        }
    }

    /// Begins a session without a connection, and gives its place.
    pub(super) fn new_session(
        &mut self,
        client: Client,
        settings: SessionSettings,
        slot: u16,
        takeovers: (u32, Time),
    ) -> u32 {
        let (instance, hasher) = (self.agenda.number(), self.sessions.hasher().clone());
        self.sessions.insert(Session::new(client, settings, slot, instance, takeovers, hasher))
    }
}

/// The hook that a connection waits for.
fn task_of<S>(connection: &Connection<PendingConnect<S>>) -> Option<u64> {
    match &connection.stage {
        ConnectionStage::Opening { .. } => None,
        ConnectionStage::Connecting(pending) => pending.task(),
        ConnectionStage::Connected(connected) => match connected.pending {
            Some(Pending::Hook { task, .. }) => Some(task),
            _ => None,
        },
    }
}

/// How long a client counts as one that asks for a lot when it has had a whole share.
const BUSY: Duration = Duration::from_millis(50);

/// Has a connection wait for its share of another turn, unless it does so already.
fn wait_in<A>(turn: &mut Turn, connection: &mut Connection<A>, line: Line) {
    if !connection.pauses.contains(PauseReason::Turn) {
        connection.pauses.insert(PauseReason::Turn);
        turn.wait(connection.id, line);
    }
}

#[cfg(test)]
mod tests;
