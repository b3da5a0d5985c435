//! From bytes to packets.
//!
//! Bytes are parsed where they lie. Only a packet that straddles two reads is put together in a buffer of its connection,
//! which grows with what arrives, never with what a length field alone announces. If the packet is large, that buffer is then
//! shared by all who keep its payload.

use super::draining;
use super::due_wills;
use super::holding::{hold_begun, hold_for_memory};
use super::machine::Shard;
use super::output::Output;
use super::packets::PacketResult;
use super::turn;
use crate::client::ConnectionId;
use crate::codec::{
    Ack, AckKind, Auth, DecodeError, Frame, Packet, PacketType, ProtocolVersion, ReasonCode, Sender, Split, decode,
    decode_publish, has_more_properties, split,
};
use crate::connection::{Connection, ConnectionStage, PauseReason, Pending, SPLICE_FROM, Unread, Violation};
use crate::handshake::{Handshake, LiveConnection, Reauthentication, Refusal};
use crate::hooks::Chain;
use crate::hooks::ask::Resumed;
use crate::message::Block;
use crate::persistence::Persistence;
use crate::publishing::RawPacket;

/// So many bytes of a client may wait for its share of a turn before no more of them are read.
const MOST_BEHIND: usize = 64 * 1024;

/// What a connection's bytes begin with.
enum FrontPacket {
    /// A whole packet of this length was served.
    Packet(usize),
    /// What was gathered had to be delivered first: the packet is looked at again.
    Again,
    /// Nothing more of them is served for now.
    Stop,
    /// They are no packet: the connection has ended.
    Unreadable,
}

impl<C: Chain> Shard<C> {
    /// Bytes came from a client.
    #[inline]
    pub(super) fn received(&mut self, id: ConnectionId, bytes: &[u8]) {
        let clients = &mut self.pubsub.clients;
        clients.statistics.counters.bytes_in += bytes.len() as u64;
        if clients.agenda.turn.is_over() {
            clients.wait_for_turn(id);
        }
        let Some(connection) = clients.connections.get_mut(id) else { return };
        if !connection.pauses.is_empty() {
            connection.last_heard = clients.agenda.now();
            connection.unread.push(bytes);
            // Its turn comes soon: most of the time it is cheaper to read on.
            let mut reads_on = connection.pauses.is_only(PauseReason::Turn) && connection.unread.len() < MOST_BEHIND;
            if clients.agenda.is_stopping() {
                reads_on |= draining::serve_acks(self, id);
            }
            let clients = &mut self.pubsub.clients;
            if !reads_on
                && let Some(connection) = clients.connections.get_mut(id)
                && !std::mem::replace(&mut connection.reading_stopped, true)
            {
                clients.agenda.output(Output::Pause(id));
            }
            return clients.hold_unaccepted(id);
        }
        let rest = if connection.unread.is_empty() {
            bytes
        } else {
            let rest = self.complete_straddling(id, bytes);
            self.pubsub.clients.hold_unaccepted(id);
            rest
        };
        if !rest.is_empty() {
            let served = self.serve(id, rest, None);
            if served < rest.len() {
                self.pubsub.clients.keep_unread(id, &rest[served..]);
            }
        }
        self.pubsub.clients.pause_if_not_reading(id);
    }

    /// Adds to the packet that straddles two reads what it lacks, and serves it. Gives back the bytes behind it.
    fn complete_straddling<'a>(&mut self, id: ConnectionId, mut bytes: &'a [u8]) -> &'a [u8] {
        let now = self.pubsub.clients.agenda.now();
        if let Some(connection) = self.pubsub.clients.connections.get_mut(id) {
            connection.last_heard = now;
            connection.progress.add(bytes.len());
        }
        loop {
            let Some(connection) = self.pubsub.clients.connections.get_mut(id) else { return &[] };
            let is_served = connection.pauses.is_empty();
            if connection.unread.is_empty() && is_served {
                return bytes;
            }
            match split(connection.unread.as_slice(), packet_limit(connection, &self.handshake)) {
                Ok(Split::Incomplete { missing }) if !bytes.is_empty() && is_served => {
                    let (more, rest) = bytes.split_at(missing.clamp(1, bytes.len()));
                    connection.unread.complete(more, missing);
                    bytes = rest;
                }
                Ok(Split::Frame(frame)) if is_served => {
                    let length = frame.length;
                    // What has to wait for memory stays where it is.
                    let stays = length < SPLICE_FROM || self.pubsub.clients.flow.holds_publishers();
                    match if stays { None } else { connection.unread.take_whole(length) } {
                        Some(whole) => {
                            let block = Block::new(whole);
                            let served = self.serve(id, &block, Some(&block));
                            if served < block.len() {
                                // It has to wait for what goes to very many.
                                self.pubsub.clients.keep_unread(id, &block[served..]);
                            }
                        }
                        None => self.serve_unread(id),
                    }
                }
                Ok(Split::Incomplete { .. }) if is_served => {
                    let (first, begun) = (connection.unread.as_slice().first().copied(), connection.unread.len());
                    hold_begun(&mut self.pubsub.clients, id, first, begun);
                    return &[];
                }
                Ok(_) => {
                    connection.unread.push(bytes);
                    return &[];
                }
                Err(error) => {
                    connection.unread.push(bytes);
                    let begun = connection.unread.take();
                    unreadable(self, id, begun.as_slice(), error);
                    return &[];
                }
            }
        }
    }

    /// Serves whole packets at the front of `bytes` and says how many bytes that were. Stops when the connection is paused. `block` is
    /// the memory that they are in, if it may be shared.
    fn serve(&mut self, id: ConnectionId, bytes: &[u8], block: Option<&Block>) -> usize {
        let mut at = 0;
        self.pubsub.clients.agenda.turn.begin_share();
        loop {
            match self.serve_packet(id, &bytes[at..], block) {
                FrontPacket::Packet(length) => {
                    at += length;
                    if self.pubsub.clients.agenda.turn.has_had_share() && at < bytes.len() {
                        self.pubsub.clients.share_is_over(id);
                        break;
                    }
                }
                FrontPacket::Again => self.pubsub.clients.deliver_batch(),
                FrontPacket::Stop => break,
                FrontPacket::Unreadable => {
                    at = bytes.len();
                    break;
                }
            }
        }
        self.pubsub.clients.deliver_batch();
        at
    }

    /// Serves the packet at the front of `bytes`, if it is whole.
    #[inline]
    fn serve_packet(&mut self, id: ConnectionId, bytes: &[u8], block: Option<&Block>) -> FrontPacket {
        let clients = &mut self.pubsub.clients;
        let Some(connection) = clients.connections.get_mut(id) else { return FrontPacket::Unreadable };
        if !connection.pauses.is_empty() {
            return FrontPacket::Stop;
        }
        let frame = match split(bytes, packet_limit(connection, &self.handshake)) {
            Ok(Split::Frame(frame)) => frame,
            Ok(Split::Incomplete { .. }) => {
                let strange = bytes.first().is_some_and(|first| first >> 4 != PacketType::Connect as u8);
                if strange && matches!(connection.stage, ConnectionStage::Opening { .. }) {
                    // Another protocol, most likely: its client need not be waited for.
                    if !clients.turn_stranger_away(id, bytes) {
                        clients.turn_away(id, "what came is not the beginning of a CONNECT");
                    }
                } else {
                    hold_begun(clients, id, bytes.first().copied(), bytes.len());
                }
                return FrontPacket::Stop;
            }
            Err(error) => {
                unreadable(self, id, bytes, error);
                return FrontPacket::Unreadable;
            }
        };
        if let Some(persistence) = &mut clients.persistence
            && waits_for_journal(persistence, connection, frame.packet_type())
        {
            return FrontPacket::Stop;
        }
        if frame.packet_type() != Some(PacketType::Publish) {
            if !clients.delivery.batch.is_empty() {
                // After that the connection may be paused.
                return FrontPacket::Again;
            }
            clients.statistics.counters.others_in += 1;
            clients.agenda.turn.did(turn::fields(frame.length));
        } else if clients.flow.holds_publishers()
            && let Some(look) = hold_for_memory(connection, &mut clients.flow, clients.agenda.now())
        {
            clients.arm_connection(id, look);
            return FrontPacket::Stop;
        } else if !self.pubsub.wills.is_empty() && due_wills::holds(&self.pubsub.wills, connection, &mut clients.flow) {
            return FrontPacket::Stop;
        } else if !clients.delivery.fan_outs.is_empty() {
            let most = clients.agenda.turn.limits().under_way;
            if clients.delivery.fan_outs.is_full(most, connection.publishes_to_many) {
                clients.share_is_over(id);
                return FrontPacket::Stop;
            }
            connection.publishes_to_many = false;
        }
        connection.last_heard = clients.agenda.now();
        let length = frame.length;
        clients.agenda.turn.did(turn::PACKET + turn::read(length));
        let raw = RawPacket { bytes: &bytes[..length], block, more_follows: length < bytes.len() };
        if let ConnectionStage::Connected(connected) = &connection.stage {
            let (session, version) = (connected.session, connected.version);
            // Acknowledgements are many and cheap: a call more for each would be seen.
            let outcome = match Ack::of_short(frame) {
                Some((kind, ack)) => clients.on_ack(id, session, kind, ack),
                None => self.on_packet(id, session, version, frame, &raw, None),
            };
            if let Err(violation) = outcome {
                self.pubsub.violation(id, violation);
            }
        } else if self.pubsub.clients.turn_stranger_away(id, bytes) {
            return FrontPacket::Unreadable;
        } else {
            self.pubsub.clients.agenda.turn.did(turn::CONNECT);
            self.on_early_packet(id, raw.bytes);
        }
        FrontPacket::Packet(length)
    }

    /// Serves one whole packet of the client of `session`; a second time, with the answer, if a hook put it off the first time.
    #[inline]
    fn on_packet(
        &mut self,
        id: ConnectionId,
        session: u32,
        version: ProtocolVersion,
        frame: Frame<'_>,
        raw: &RawPacket<'_>,
        resumed: Option<Resumed>,
    ) -> PacketResult {
        if frame.packet_type() == Some(PacketType::Connect) {
            // Whatever is in it.
            return Err(Violation::protocol("a second CONNECT [MQTT-3.1.0-2]"));
        }
        let pubsub = &mut self.pubsub;
        let most = || pubsub.clients.setup.config.limits.max_properties.get().unwrap_or(usize::MAX);
        if frame.length >= turn::LONG && has_more_properties(&frame, version, most()) {
            return Err(Violation::new(ReasonCode::QuotaExceeded, "more properties than max_properties"));
        }
        if frame.packet_type() == Some(PacketType::Publish) {
            let publish = decode_publish(frame, version, Sender::Client)?;
            if frame.length >= turn::LONG {
                let (topic, properties) = (publish.topic.len(), publish.properties.block.len());
                pubsub.clients.agenda.turn.did(turn::texts(topic, properties));
            }
            return pubsub.on_publish(id, session, &publish, raw, resumed);
        }
        on_other_packet(self, (id, session), version, frame, raw, resumed)
    }

    /// AUTH on a live connection: re-authentication [MQTT-4.12.1-1].
    fn on_auth(
        &mut self,
        id: ConnectionId,
        index: u32,
        auth: Auth<'_>,
        raw: &RawPacket<'_>,
        resumed: Option<Resumed>,
    ) -> PacketResult {
        let clients = &mut self.pubsub.clients;
        let Some(session) = clients.sessions.get_mut(index) else { return Ok(()) };
        let Some(connection) = clients.connections.get_mut(id) else { return Ok(()) };
        let listener = connection.listener;
        let Some(connected) = connection.connected_mut() else { return Ok(()) };
        let live = LiveConnection { connected, session, listener };
        let now = clients.agenda.now();
        let outcome = self.handshake.reauthenticate(&mut clients.chain, live, &auth, resumed, now)?;
        clients.arm_connected(id);
        match outcome {
            Reauthentication::Answer(bytes) => clients.connections.write_bytes(id, |out| out.extend_from_slice(&bytes)),
            Reauthentication::Later(pending) => clients.put_off(id, raw, pending),
            Reauthentication::TooLarge => return Err(Violation::ANSWER_TOO_LARGE),
            Reauthentication::Ended { reason, code, what, hook_failed } => {
                clients.statistics.counters.hook_failures += u64::from(hook_failed);
                self.pubsub.end_connection(id, reason, Some((code, &what)));
            }
        }
        Ok(())
    }

    /// Serves what waits in the connection's own buffer.
    pub(super) fn serve_unread(&mut self, id: ConnectionId) {
        let Some(connection) = self.pubsub.clients.connections.get_mut(id) else { return };
        let mut unread: Unread = connection.unread.take();
        let served = self.serve(id, unread.as_slice(), None);
        unread.advance(served);
        if let Some(connection) = self.pubsub.clients.connections.get_mut(id) {
            connection.unread.put_back(unread);
        }
    }

    /// Serves what waits, unless the connection is paused, and has the runtime read on.
    pub(super) fn serve_on(&mut self, id: ConnectionId) {
        self.serve_unread(id);
        if self.pubsub.clients.connections.get(id).is_some_and(|connection| connection.is_lost) {
            return self.pubsub.lost(id);
        }
        let clients = &mut self.pubsub.clients;
        clients.pause_if_not_reading(id);
        if let Some(connection) = clients.connections.get_mut(id)
            && connection.pauses.is_empty()
        {
            // What it sent meanwhile is still to be read, and how fast it comes could not be seen.
            connection.last_heard = clients.agenda.now();
            connection.progress.begin(0, clients.agenda.now());
            if connection.reading_stopped {
                connection.reading_stopped = false;
                clients.agenda.output(Output::Resume(id));
            }
        }
    }

    /// The hook that a connection waits for has answered, or is given up. The packet is served again, with what came of it.
    pub(super) fn resume(&mut self, id: ConnectionId, task: u64, resumed: Resumed) {
        let Some(connection) = self.pubsub.clients.connections.get_mut(id) else { return };
        match &mut connection.stage {
            ConnectionStage::Opening { .. } => return,
            ConnectionStage::Connecting(_) => self.resume_connecting(id, task, resumed),
            ConnectionStage::Connected(connected) => {
                let (session, version) = (connected.session, connected.version);
                let is_waiting =
                    |pending: &mut Pending| matches!(pending, Pending::Hook { task: one, .. } if *one == task);
                if let Some(Pending::Hook { frame, .. }) = connected.pending.take_if(is_waiting) {
                    connection.pauses.remove(PauseReason::HookAnswer);
                    if let Ok(Split::Frame(whole)) = split(&frame, frame.len()) {
                        let raw = RawPacket { bytes: &frame, block: None, more_follows: false };
                        let outcome = self.on_packet(id, session, version, whole, &raw, Some(resumed));
                        outcome.unwrap_or_else(|violation| self.pubsub.violation(id, violation));
                    }
                }
            }
        }
        self.serve_on(id);
    }
}

/// The same of one that is no PUBLISH: its answer may be long. That of a PUBLISH is looked at where it is written, if it is.
fn on_other_packet<C: Chain>(
    shard: &mut Shard<C>,
    (id, session): (ConnectionId, u32),
    version: ProtocolVersion,
    frame: Frame<'_>,
    raw: &RawPacket<'_>,
    resumed: Option<Resumed>,
) -> PacketResult {
    let pubsub = &mut shard.pubsub;
    let outcome = match decode(frame, version, Sender::Client)? {
        Packet::Publish(publish) => pubsub.on_publish(id, session, &publish, raw, resumed),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            let kind = frame.packet_type().and_then(AckKind::of).expect("such a packet was decoded");
            pubsub.clients.on_ack(id, session, kind, ack)
        }
        Packet::Subscribe(subscribe) => pubsub.on_subscribe(id, session, subscribe, raw, resumed),
        Packet::Unsubscribe(unsubscribe) => pubsub.on_unsubscribe(id, session, unsubscribe, raw, resumed),
        Packet::Pingreq => {
            pubsub.clients.connections.write(id, |version, out| Packet::Pingresp.encode(version, out));
            Ok(())
        }
        Packet::Disconnect(disconnect) => pubsub.on_disconnect(id, session, disconnect),
        Packet::Auth(auth) => shard.on_auth(id, session, auth, raw, resumed),
        Packet::Connect(_) | Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
            Err(Violation::protocol("a packet that only servers send"))
        }
    };
    shard.pubsub.clients.pause_if_not_reading(id);
    outcome
}

/// What begins at the front of `bytes` is no packet, or one that is too large.
fn unreadable<C: Chain>(shard: &mut Shard<C>, id: ConnectionId, bytes: &[u8], error: DecodeError) {
    if shard.pubsub.clients.turn_stranger_away(id, bytes) {
        return;
    }
    let Some(connection) = shard.pubsub.clients.connections.get(id) else { return };
    let is_connect = bytes.first().is_some_and(|first| first >> 4 == PacketType::Connect as u8);
    match connection.stage {
        ConnectionStage::Opening { .. } if is_connect => {
            let listener = &shard.handshake.listener(connection.listener).name;
            let refusal = Refusal::malformed(bytes, connection.peer, listener, error);
            shard.pubsub.clients.refuse(id, &refusal);
        }
        _ => shard.pubsub.violation(id, error.into()),
    }
}

/// The largest packet that is taken from a connection, in bytes.
#[inline]
fn packet_limit<A>(connection: &Connection<A>, handshake: &Handshake) -> usize {
    match &connection.stage {
        ConnectionStage::Connected(connected) => connected.maximum_incoming,
        _ => handshake.listener(connection.listener).max_connect_size,
    }
}

/// Whether a packet has to wait, since the journal has no room for what may have to be recorded of it.
#[inline(never)]
fn waits_for_journal<A>(
    persistence: &mut Persistence,
    connection: &mut Connection<A>,
    packet_type: Option<PacketType>,
) -> bool {
    let may_be_stored = matches!(packet_type, Some(PacketType::Publish | PacketType::Subscribe));
    let waits = may_be_stored && persistence.is_crowded();
    if waits {
        connection.pauses.insert(PauseReason::Disk);
        persistence.wait_for_room(connection.id);
    }
    waits
}
