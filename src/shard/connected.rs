//! Connections that belong to sessions: how they come to, what they are answered, and when they are not served.

use super::clients::Clients;
use super::holding;
use super::input::ArrivedConnection;
use super::recording;
use super::sending;
use crate::client::ConnectionId;
use crate::codec::{Ack, AckKind, Disconnect, Explained, PacketType, Publish, QoS, ReasonCode};
use crate::connection::{Connected, Connection, ConnectionStage, PauseReason, Rate, Violation, code_for};
use crate::delivery;
use crate::handshake::{AcceptedConnect, PendingConnect};
use crate::hooks::Chain;
use crate::persistence::Answer;
use crate::publishing;
use crate::session::Stage;
use crate::sharding::ShardSet;
use crate::time::Time;

impl<C: Chain> Clients<C> {
    /// Connection and session belong together from here on.
    pub(super) fn attach(
        &mut self,
        id: ConnectionId,
        index: u32,
        accepted: &mut AcceptedConnect<C::State>,
        state: C::State,
        allows_anonymous: bool,
    ) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.client = accepted.client.clone();
        session.state = state;
        session.settings = accepted.settings.clone();
        session.connection = Some(id);
        session.expires = Time::NEVER;
        // The will of the last connection is forgotten, not only put off [MQTT-3.1.3-9].
        session.will = accepted.will.take();
        session.will_due = Time::NEVER;
        self.sessions.came_online(index);
        self.statistics.counters.connected += 1;
        self.connections.release(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let now = self.agenda.now();
        connection.stage = ConnectionStage::Connected(Connected {
            session: index,
            version: accepted.client.version,
            maximum_incoming: accepted.settings.maximum_incoming,
            aliases: None,
            pending: None,
            rate: Rate::default(),
            registered: now,
            retried: now,
            oldest_in_flight: None,
            reauthentication_due: Time::NEVER,
            allows_anonymous,
            auth_method: accepted.auth_method().map(Into::into),
        });
        if self.pending_hooks.is_busy(&accepted.client.subscriber) {
            self.connections.pause(id, PauseReason::Notification);
        }
        self.arm_connected(id);
    }

    /// Takes in a connection that came with its session.
    pub(super) fn settle_in(
        &mut self,
        arrived: ArrivedConnection<'_>,
        index: u32,
        mut connection: Connection<PendingConnect<C::State>>,
    ) {
        let ArrivedConnection { connection: id, unread, unsent } = arrived;
        self.statistics.counters.bytes_in += unread.len() as u64;
        connection.arrive(id, index, unread, unsent);
        self.connections.insert(connection);
        self.connections.requeue_for_output(id);
        self.arm_connected(id);
    }

    /// What was handed over for a connection has left: there is room for more.
    #[inline]
    pub(super) fn sent(&mut self, id: ConnectionId, emptied: Vec<u8>) {
        let Some(connection) = self.connections.sent(id, emptied) else { return };
        let Some(session) = connection.session() else { return };
        if self.sessions.get(session).is_some_and(|session| session.outbound.is_anything_waiting()) {
            sending::has_room(self, session);
        }
        if self.flow.has_slow_clients() {
            self.flow.took(id, self.agenda.now());
            holding::backlog_shrank(self, id, session);
        }
        self.serve_later(id, PauseReason::OutputFull);
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP from the client of a session.
    #[inline(always)]
    pub(super) fn on_ack(
        &mut self,
        id: ConnectionId,
        index: u32,
        kind: AckKind,
        ack: Ack<'_>,
    ) -> Result<(), Violation> {
        let Some(session) = self.sessions.get_mut(index) else { return Ok(()) };
        if session.stored.is_some() {
            return on_stored_ack(self, (id, index), kind, ack);
        }
        let follows = delivery::acknowledge(session, kind, ack)?;
        if let Some((kind, packet_id, code)) = follows.answer {
            self.connections.write(id, |version, out| Ack::new(packet_id, code).encode(kind, version, out));
        }
        if follows.window_opened {
            self.send_waiting(index);
        }
        Ok(())
    }

    /// PUBACK or PUBREC, with a reason string if there is one.
    pub(super) fn answer_publish(
        &mut self,
        id: ConnectionId,
        index: u32,
        publish: &Publish<'_>,
        code: ReasonCode,
        reason: Option<&str>,
    ) {
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        let Some(session) = self.sessions.get_mut(index) else { return };
        let Some(answer) = publishing::answer(session, publish, code) else { return };
        if self.persistence.is_some() {
            return recording::answer_publish(self, (id, index), answer, (code, reason));
        }
        match reason {
            None => self.connections.write(id, |version, out| Ack::new(answer.1, code).encode(answer.0, version, out)),
            Some(reason) => {
                self.connections.write(id, |version, out| {
                    publishing::write_explained(answer, code, reason, &session.settings, version, out);
                });
                self.pause_if_not_reading(id);
            }
        }
    }

    /// Writes the DISCONNECT, with a Reason String if the client takes one: without any property, paho-mqtt 2.1 and rumqttc
    /// 0.25 do not see the reason code either.
    pub(super) fn write_disconnect(&mut self, id: ConnectionId, index: u32, code: ReasonCode, what: &str) {
        let most = self.sessions.get(index).map_or(0, |session| session.settings.maximum_outgoing);
        self.connections.write(id, |version, out| {
            let mut disconnect = Disconnect::new(code_for(PacketType::Disconnect, code));
            disconnect.reason_string = Some(if what.is_empty() { disconnect.code.name() } else { what });
            disconnect.shorten(version, most);
            disconnect.encode(version, out);
        });
    }

    /// The client is not served until `until`.
    pub(super) fn throttle(&mut self, id: ConnectionId, until: Time) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pauses.insert(PauseReason::Throttle);
        connection.throttled_until = connection.throttled_until.max(until);
        self.arm_connection(id, until);
    }

    /// Counts a message against the client's rate; when it is used up, the client is not served for the rest of the second.
    #[inline]
    pub(super) fn count_rate(&mut self, id: ConnectionId, index: u32) {
        let most = self.sessions.get(index).map_or(0, |session| session.settings.message_rate);
        if most > 0
            && let now = self.agenda.now()
            && let Some(connected) = self.connections.get_mut(id).and_then(|connection| connection.connected_mut())
            && let Some(until) = connected.rate.count(most, now)
        {
            self.throttle(id, until);
        }
    }

    /// A client that sends but does not read what it is answered is not served until it does. That is looked at when a read was served, and
    /// after each packet whose answer may be long; of short ones few fit into a share of the turn.
    #[inline]
    pub(super) fn pause_if_not_reading(&mut self, id: ConnectionId) {
        let most = self.flow.most();
        if let Some(connection) = self.connections.get_mut(id)
            && connection.outbox.waiting() > most
            && !connection.is_lost
        {
            connection.pauses.insert(PauseReason::OutputFull);
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP from the client of a stored session.
fn on_stored_ack<C: Chain>(
    clients: &mut Clients<C>,
    (id, index): (ConnectionId, u32),
    kind: AckKind,
    ack: Ack<'_>,
) -> Result<(), Violation> {
    let Some((persistence, session)) = clients.persistence.as_mut().zip(clients.sessions.get_mut(index)) else {
        return Ok(());
    };
    let (number, packet_id) = (session.stored, ack.packet_id);
    let (key, stage) = session.outbound.under(packet_id).map(|entry| (entry.key(), entry.stage())).unzip();
    let follows = delivery::acknowledge(session, kind, ack)?;
    if let Some(number) = number {
        match (kind, key) {
            (AckKind::Pubrel, _) if follows.answer.is_some_and(|(.., code)| code == ReasonCode::Success) => {
                persistence.record_released(number, packet_id);
            }
            (AckKind::Pubrec, Some(key)) if !follows.window_opened && stage != Some(Stage::AwaitingPubcomp) => {
                persistence.record_received(number, key);
            }
            (_, Some(key)) if follows.window_opened => persistence.record_removed(number, key),
            _ => {}
        }
    }
    if let Some((kind, packet_id, code)) = follows.answer {
        recording::answer_when_stored(clients, id, ShardSet::default(), Answer::Ack(kind, packet_id, code));
    }
    if follows.window_opened {
        clients.send_waiting(index);
    }
    Ok(())
}
