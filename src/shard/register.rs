//! A client that was accepted meets its session.
//!
//! Registrations of one subscriber id are served one after the other, in the order in which they come: the whole of one
//! happens in one event of the shard that owns the id. The hooks are called in the order of the lifecycle:
//! `on_register`, then whatever ends for the connection or session before, then `on_client_wakeup`, then CONNACK.

use super::attempt::{Arrival, Attempt, Step, decoded};
use super::slot_moves::Waiting;
use super::terms::Welcome;
use super::{Effect, Shard};
use crate::client::{Client, ConnectionId, EndReason, ExpiredReason};
use crate::codec::ReasonCode;
use crate::connection::{Connected, ConnectionStage, PauseReason, Rate};
use crate::hooks::Chain;
use crate::session::{Inbound, Outbound, Session};
use crate::time::Time;

impl<C: Chain> Shard<C> {
    /// A connection that another shard accepted, and that belongs to a client of this one.
    pub fn arrived(&mut self, id: ConnectionId, mut arrival: Box<Arrival<C::State>>, now: Time) {
        self.now = now;
        let unread = std::mem::take(&mut arrival.unread);
        self.add_connection(id, arrival.listener, arrival.client.peer, arrival.connected_at);
        self.register(id, arrival);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.unread.push(&unread);
        }
        self.go_on(id);
    }

    /// Registers a client with its session: on another shard if the slot has moved meanwhile, not before its session is here if
    /// that is still to come, and not before what was begun for it is done.
    pub(super) fn register(&mut self, id: ConnectionId, arrival: Box<Arrival<C::State>>) {
        let owner = self.slots.owner(&arrival.client.subscriber);
        if owner != self.id {
            return self.hand_off(id, owner, arrival);
        }
        if self.stopping {
            // Not even to wait for its session: that moves no more.
            return self.refuse_arrival(id, *arrival, ReasonCode::ServerShuttingDown);
        }
        if self.must_wait(&arrival.client.subscriber) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.pauses.insert(PauseReason::Hook);
            }
            let subscriber = arrival.client.subscriber.clone();
            return self.wait_for(subscriber, Waiting::Register(id, arrival));
        }
        if let Some(arrival) = self.wait_for_notices(id, arrival) {
            self.register_here(id, arrival);
        }
    }

    /// Registers a client with its session. From here on it is one, or it was refused for a limit.
    pub(super) fn register_here(&mut self, id: ConnectionId, arrival: Box<Arrival<C::State>>) {
        if let Some(code) = self.refuse_registration(&arrival) {
            return self.refuse_arrival(id, *arrival, code);
        }
        let Arrival { frame, mut client, mut state, auth, modifiers, assigned_id, will, clean_start, terms, .. } =
            *arrival;
        let Ok(connect) = decoded(&frame) else { return };
        client.session_number = self.number();
        self.tell_registered(&client, &mut state, &connect.properties);

        // A fight for an id goes on across the sessions that end with each takeover.
        let takeovers =
            self.sessions.find(&client.subscriber).and_then(|old| self.sessions.get(old)).map(|s| s.takeovers);
        let existing = self.end_previous(&client, clean_start);
        let session_present = existing.is_some();
        let session = match existing {
            Some(session) => session,
            None => self.new_session(client.clone(), terms.clone(), takeovers.unwrap_or((0, self.now))),
        };
        self.attach(id, session, client, state, terms, will);
        if let Some(connection) = self.connections.get_mut(id)
            && let ConnectionStage::Connected(connected) = &mut connection.stage
        {
            connected.auth_method = connect.properties.authentication_method.map(Into::into);
        }
        if let Some(record) = self.sessions.get_mut(session) {
            let notified = self.chain.on_client_wakeup(&record.client, &mut record.state, session_present);
            self.notified(session, notified, "on_client_wakeup");
        }
        let welcome = Welcome { session_present, connect: &connect, auth: auth.as_ref(), by: &modifiers };
        if !self.welcome(id, session, welcome, assigned_id) {
            // Without a word: DISCONNECT must not come before CONNACK [MQTT-3.14.0-1].
            return self.end_connection(id, EndReason::ProtocolError(ReasonCode::PacketTooLarge), None);
        }
        self.effects.push(Effect::ReadContinuously(id));
        self.resend(session);
        self.pump(session);
    }

    /// Ends the connection that the subscriber id had, and its session if it is not to be resumed. What is left is resumed.
    fn end_previous(&mut self, client: &Client, clean_start: bool) -> Option<u32> {
        let old = self.sessions.find(&client.subscriber)?;
        if let Some(connection) = self.sessions.get(old).and_then(|session| session.connection) {
            self.counters.takeovers += 1;
            self.end_connection(connection, EndReason::TakenOver, Some((ReasonCode::SessionTakenOver, "")));
        }
        let kept = self.sessions.find(&client.subscriber)?;
        if clean_start {
            self.expire_session(kept, ExpiredReason::CleanStart);
            return None;
        }
        Some(kept)
    }

    pub(super) fn new_session(&mut self, client: Client, terms: crate::session::SessionSettings, takeovers: (u32, Time)) -> u32 {
        let slot = self.slots.slot(&client.subscriber);
        let instance = self.number();
        self.sessions.insert(Session {
            client,
            instance,
            slot,
            state: C::State::default(),
            connection: None,
            settings: terms,
            outbound: Outbound::default(),
            inbound: Inbound::default(),
            subscriptions: hashbrown::HashMap::with_hasher(self.hasher.clone()),
            will: None,
            expires: Time::NEVER,
            will_due: Time::NEVER,
            migration: None,
            takeovers,
        })
    }

    /// Connection and session belong together from here on.
    fn attach(
        &mut self,
        id: ConnectionId,
        index: u32,
        client: Client,
        state: C::State,
        terms: crate::session::SessionSettings,
        will: Option<crate::session::Will>,
    ) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        self.absent.forget(index);
        self.counters.connected += 1;
        session.client = client;
        session.state = state;
        session.settings = terms;
        session.connection = Some(id);
        session.expires = Time::NEVER;
        // The will of the last connection is forgotten, not only put off [MQTT-3.1.3-9].
        session.will = will;
        session.will_due = Time::NEVER;
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pauses.release(PauseReason::Hook);
        connection.stage = ConnectionStage::Connected(Connected {
            session: index,
            version: session.client.version,
            maximum_incoming: session.settings.maximum_incoming,
            aliases: None,
            pending: None,
            rate: Rate::default(),
            registered: self.now,
            retried: self.now,
            oldest_in_flight: None,
            reauthentication_due: Time::NEVER,
            auth_method: None,
        });
        let subscriber = session.client.subscriber.clone();
        self.hold_if_noticed(id, &subscriber);
        self.members_turn_online(index, true);
        self.arm_connected(id);
    }

    fn tell_registered(
        &mut self,
        client: &Client,
        state: &mut C::State,
        properties: &crate::codec::ConnectProperties<'_>,
    ) {
        let (notified, hook) = if client.version.is_v5() {
            (self.chain.on_register_m5(client, state, properties), "on_register_m5")
        } else {
            (self.chain.on_register(client, state), "on_register")
        };
        self.notified_without_session(&client.subscriber, notified, hook);
    }

    /// Writes the CONNACK; false if it is larger than the client accepts.
    fn welcome(&mut self, id: ConnectionId, session: u32, welcome: Welcome<'_>, assigned_id: bool) -> bool {
        let (Some(session), Some(connection)) = (self.sessions.get(session), self.connections.get_mut(id)) else {
            return true;
        };
        let client = &session.client;
        let assigned = assigned_id.then_some(&*client.subscriber.client_id);
        let out = connection.outbox.bytes(&mut self.spare);
        if !welcome.encode(client.version, &session.settings, assigned, out) {
            return false;
        }
        let present = welcome.session_present;
        tracing::debug!(client = %client.subscriber, peer = %client.peer, session_present = present, "connected");
        self.mark_dirty(id);
        true
    }

    /// Why a client that the hooks accepted cannot be registered: limits that only the owner of the session knows.
    fn refuse_registration(&mut self, arrival: &Arrival<C::State>) -> Option<ReasonCode> {
        if self.stopping {
            return Some(ReasonCode::ServerShuttingDown);
        }
        let limits = &self.config.session;
        let Some(index) = self.sessions.find(&arrival.client.subscriber) else {
            return (!self.make_room()).then_some(ReasonCode::QuotaExceeded);
        };
        let session = self.sessions.get_mut(index)?;
        session.connection?;
        let most = limits.takeover_limit?;
        let (count, since) = session.takeovers;
        if self.now.since(since) >= limits.takeover_window {
            session.takeovers = (1, self.now);
            return None;
        }
        session.takeovers.0 += 1;
        (count >= most).then_some(ReasonCode::ConnectionRateExceeded)
    }

    /// Whether there is room for one more session; perhaps because another one ends for it.
    fn make_room(&mut self) -> bool {
        loop {
            // The limit is shared out among the shards, rounded up.
            let others = self.sessions.len() * self.shards;
            if self.config.limits.max_sessions.allows(others + 1) {
                return true;
            }
            let Some(longest) = self.absent.longest() else { return false };
            self.expire_session(longest, ExpiredReason::Limit);
        }
    }

    fn refuse_arrival(&mut self, id: ConnectionId, arrival: Arrival<C::State>, code: ReasonCode) {
        let Arrival { frame, client, state, auth, modifiers, assigned_id, will, .. } = arrival;
        let attempt = Attempt {
            frame,
            client,
            state,
            step: Step::Will,
            waiting: None,
            auth_frame: Vec::new(),
            auth,
            modifiers,
            assigned_id,
            will,
            due: Time::NEVER,
        };
        tracing::info!(client = %attempt.client.subscriber, %code, "connection refused: a limit is reached");
        self.set_stage(id, ConnectionStage::Connecting(Box::new(attempt)));
        self.refuse(id, code, "a limit of the broker is reached");
    }
}
