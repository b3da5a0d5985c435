//! From bytes to packets, and from packets to those who handle them.
//!
//! Bytes are parsed where they lie. Only a packet that straddles two reads is put together in a buffer of its connection,
//! which grows with what arrives, never with what a length field alone announces. If the packet is large, that buffer is then
//! shared by all who keep its payload.

use crate::hooks::ask::Resumed;
use super::listener::Listener;
use super::{Shard, Task, Waits};
use crate::client::{ConnectionId, EndReason};
use crate::codec::{DecodeError, Frame, Packet, PacketType, ProtocolVersion, ReasonCode, Sender, Split, decode, split};
use crate::connection::{Connection, ConnectionStage, PauseReason, Pending, SPLICE_FROM, Unread, Violation};
use crate::hooks::{Chain, HookAnswer, HookFuture};
use crate::message::Block;
use crate::time::Time;

impl<C: Chain> Shard<C> {
    /// Bytes came from a client.
    pub fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Time) {
        self.now = now;
        self.counters.bytes_in += bytes.len() as u64;
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.pauses.is_empty() {
            connection.last_heard = now;
            connection.unread.push(bytes);
            if !connection.paused {
                connection.paused = true;
                self.effects.push(super::Effect::Pause(id));
            }
            return;
        }
        let rest = if connection.unread.is_empty() { bytes } else { self.complete_straddling(id, bytes) };
        if !rest.is_empty() {
            let served = self.serve(id, rest);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.unread.push(&rest[served..]);
            }
        }
        self.hold_if_not_reading(id);
    }

    /// Adds to the packet that straddles two reads what it lacks, and serves it. Gives back the bytes behind it.
    fn complete_straddling<'a>(&mut self, id: ConnectionId, mut bytes: &'a [u8]) -> &'a [u8] {
        loop {
            let Some(connection) = self.connections.get_mut(id) else { return &[] };
            if connection.unread.is_empty() && connection.pauses.is_empty() {
                return bytes;
            }
            match split(connection.unread.as_slice(), packet_limit(connection, &self.listeners)) {
                Ok(Split::Incomplete { missing }) if !bytes.is_empty() && connection.pauses.is_empty() => {
                    let (more, rest) = bytes.split_at(missing.clamp(1, bytes.len()));
                    connection.unread.complete(more, missing);
                    bytes = rest;
                }
                Ok(Split::Frame(frame)) if connection.pauses.is_empty() => {
                    let length = frame.length;
                    match if length < SPLICE_FROM { None } else { connection.unread.take_whole(length) } {
                        Some(whole) => self.serve_block(id, Block::new(whole)),
                        None => self.serve_unread(id),
                    }
                }
                Ok(_) => {
                    connection.unread.push(bytes);
                    return &[];
                }
                Err(error) => {
                    connection.unread.push(bytes);
                    let begun = connection.unread.take();
                    self.unreadable(id, begun.as_slice(), error);
                    return &[];
                }
            }
        }
    }

    /// Serves whole packets at the front of `bytes` and says how many bytes that were. Stops when the connection is held.
    fn serve(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let served = self.serve_packets(id, bytes);
        self.deliver_batch();
        self.batch.more_follows = false;
        served
    }

    fn serve_packets(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let Some(connection) = self.connections.get_mut(id) else { return bytes.len() };
            if !connection.pauses.is_empty() {
                return at;
            }
            match split(&bytes[at..], packet_limit(connection, &self.listeners)) {
                Ok(Split::Frame(frame))
                    if frame.packet_type() != Some(PacketType::Publish) && !self.batch.is_empty() =>
                {
                    // After that the connection may be held.
                    self.deliver_batch();
                }
                Ok(Split::Frame(frame)) => {
                    connection.last_heard = self.now;
                    let raw = &bytes[at..at + frame.length];
                    at += frame.length;
                    self.batch.more_follows = at < bytes.len();
                    let outcome = match &connection.stage {
                        ConnectionStage::Opening => self.on_first_packet(id, raw),
                        ConnectionStage::Connecting(_) => self.on_packet_while_connecting(id, raw),
                        ConnectionStage::Connected(connected) => {
                            let (session, version) = (connected.session, connected.version);
                            self.on_packet(id, session, version, frame, raw, None)
                        }
                    };
                    if let Err(violation) = outcome {
                        self.violation(id, violation);
                    }
                }
                Ok(Split::Incomplete { .. }) => {
                    let strange = bytes.get(at).is_some_and(|first| first >> 4 != PacketType::Connect as u8);
                    if strange && matches!(connection.stage, ConnectionStage::Opening) {
                        // Another protocol, most likely: its client need not be waited for.
                        self.forget_connection(id, None);
                    }
                    return at;
                }
                Err(error) => {
                    self.unreadable(id, &bytes[at..], error);
                    return bytes.len();
                }
            }
        }
    }

    /// What begins at the front of `bytes` is no packet, or one that is too large.
    fn unreadable(&mut self, id: ConnectionId, bytes: &[u8], error: DecodeError) {
        let Some(connection) = self.connections.get(id) else { return };
        let is_connect = bytes.first().is_some_and(|first| first >> 4 == PacketType::Connect as u8);
        match connection.stage {
            ConnectionStage::Opening if is_connect => self.refuse_malformed(id, bytes, error),
            _ => self.violation(id, error.into()),
        }
    }

    /// Serves a large packet in the memory in which it was put together, which is shared by whoever needs it for longer.
    fn serve_block(&mut self, id: ConnectionId, block: Block) {
        let outer = self.block.replace(block.clone());
        let served = self.serve(id, &block);
        self.block = outer;
        debug_assert_eq!(served, block.len(), "a whole packet of a connection that is not held is served");
    }

    /// Serves what waits in the connection's own buffer.
    pub(super) fn serve_unread(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut unread: Unread = connection.unread.take();
        let served = self.serve(id, unread.as_slice());
        unread.advance(served);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.unread.put_back(unread);
        }
    }

    /// Serves one whole packet, the bytes `raw`, of which `frame` was made; a second time, with the answer, if a hook put it off
    /// the first time.
    #[inline]
    fn on_packet(
        &mut self,
        id: ConnectionId,
        session: u32,
        version: ProtocolVersion,
        frame: Frame<'_>,
        raw: &[u8],
        resumed: Option<Resumed>,
    ) -> Result<(), Violation> {
        if frame.packet_type() == Some(PacketType::Connect) {
            // Whatever is in it.
            return Err(Violation::protocol("a second CONNECT [MQTT-3.1.0-2]"));
        }
        match decode(frame, version, Sender::Client)? {
            Packet::Publish(publish) => self.on_publish_packet(id, session, publish, raw, resumed),
            Packet::Puback(ack) => self.on_puback(session, ack),
            Packet::Pubrec(ack) => self.on_pubrec(id, session, ack),
            Packet::Pubrel(ack) => self.on_pubrel(id, session, ack),
            Packet::Pubcomp(ack) => self.on_pubcomp(session, ack),
            Packet::Subscribe(subscribe) => self.on_subscribe_packet(id, session, subscribe, raw, resumed),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe_packet(id, session, unsubscribe, raw, resumed),
            Packet::Pingreq => {
                self.write(id, |version, out| Packet::Pingresp.encode(version, out));
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.on_disconnect_packet(id, session, disconnect),
            Packet::Auth(auth) => self.on_auth_packet(id, session, auth, raw, resumed),
            Packet::Connect(_) | Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(Violation::protocol("a packet that only servers send"))
            }
        }
    }

    /// The client did something it must not: it is told, and its connection ends.
    pub(super) fn violation(&mut self, id: ConnectionId, violation: Violation) {
        let Some(connection) = self.connections.get(id) else { return };
        tracing::info!(peer = %connection.peer, code = %violation.code, "connection closed: {}", violation.what);
        match connection.stage {
            ConnectionStage::Connected(_) => {
                self.end_connection(id, violation.end_reason(), Some((violation.code, violation.what)))
            }
            _ => self.refuse(id, violation.code, violation.what),
        }
    }

    /// Puts a packet off until a hook has answered. Its connection is not served until then.
    pub(super) fn put_off(
        &mut self,
        id: ConnectionId,
        raw: &[u8],
        link: usize,
        future: HookFuture,
        hook: &'static str,
    ) {
        let task = self.run_hook(Waits::Connection(id), link, future, hook);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pauses.insert(PauseReason::Hook);
        if let ConnectionStage::Connected(connected) = &mut connection.stage {
            connected.pending = Some(Pending::Hook { task, link, frame: raw.to_vec() });
        }
    }

    /// Has the runtime run a later answer of the link at this place, with the deadline of its hook.
    pub(super) fn run_hook(&mut self, waits: Waits, link: usize, future: HookFuture, hook: &'static str) -> u64 {
        let task = self.number();
        let due = self.now + self.config.hooks.deadline_of(hook).0;
        self.tasks.insert(task, Task { waits, hook, link, asked: self.now });
        self.deadlines.arm(due, super::clock::Deadline::Hook(task));
        self.effects.push(super::Effect::RunHook { task, future });
        task
    }

    fn on_packet_again(
        &mut self,
        id: ConnectionId,
        session: u32,
        version: ProtocolVersion,
        raw: &[u8],
        resumed: Resumed,
    ) -> Result<(), Violation> {
        match split(raw, raw.len())? {
            Split::Frame(frame) => self.on_packet(id, session, version, frame, raw, Some(resumed)),
            Split::Incomplete { .. } => Ok(()),
        }
    }

    /// A hook has answered (or failed to: `None` lets the client pass). The packet is served again, with the answer.
    pub(super) fn resume_hook(&mut self, id: ConnectionId, task: u64, answer: Option<HookAnswer>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let outcome = match &mut connection.stage {
            ConnectionStage::Opening => return,
            ConnectionStage::Connecting(_) => self.resume_connecting(id, task, answer),
            ConnectionStage::Connected(connected) => match connected.pending.take() {
                Some(Pending::Hook { task: waiting, link, frame }) if waiting == task => {
                    connection.pauses.release(PauseReason::Hook);
                    let resumed = match answer {
                        Some(answer) => Resumed::Answered { link, answer: Box::new(answer) },
                        None => Resumed::Allowed,
                    };
                    let (session, version) = (connected.session, connected.version);
                    self.on_packet_again(id, session, version, &frame, resumed)
                }
                pending => {
                    connected.pending = pending;
                    Ok(())
                }
            },
        };
        if let Err(violation) = outcome {
            self.violation(id, violation);
        }
        self.go_on(id);
    }

    /// Takes away a reason not to serve a connection; if it was the last one, what came in the meantime is served.
    pub(super) fn release(&mut self, id: ConnectionId, hold: PauseReason) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.pauses.contains(hold) {
            connection.pauses.release(hold);
            self.go_on(id);
        }
    }

    /// Serves what waits, unless something holds the connection, and has the runtime read on.
    pub(super) fn go_on(&mut self, id: ConnectionId) {
        self.serve_unread(id);
        self.hold_if_not_reading(id);
        if let Some(connection) = self.connections.get_mut(id)
            && connection.pauses.is_empty()
            && connection.paused
        {
            connection.paused = false;
            self.effects.push(super::Effect::Resume(id));
        }
    }

    /// A client that sends but does not read what it is answered is not served until it does.
    fn hold_if_not_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.outbox.waiting() > self.config.queue.max_waiting_output_bytes {
            connection.pauses.insert(PauseReason::Outbox);
        }
    }

    /// What a client has to be answered is larger than it accepts, so that it can never be [MQTT-3.1.2-24].
    pub(super) fn answer_too_large(&mut self, id: ConnectionId) {
        tracing::info!("connection closed: an answer is larger than the Maximum Packet Size of the client");
        self.end_with(id, EndReason::ProtocolError(ReasonCode::PacketTooLarge), ReasonCode::PacketTooLarge);
    }

    /// The connection broke without a word.
    pub(super) fn connection_lost(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        match connection.stage {
            ConnectionStage::Connected(_) => self.end_connection(id, EndReason::ConnectionLost, None),
            _ => self.forget_connection(id, None),
        }
    }

    /// An operator's or the broker's own wish to end a connection.
    pub(super) fn end_with(&mut self, id: ConnectionId, reason: EndReason, code: ReasonCode) {
        let Some(connection) = self.connections.get(id) else { return };
        match connection.stage {
            ConnectionStage::Connected(_) => self.end_connection(id, reason, Some((code, ""))),
            _ => self.refuse(id, code, "the broker ends the connection"),
        }
    }
}

/// The largest packet that is taken from this connection.
fn packet_limit<A>(connection: &Connection<A>, listeners: &[Listener]) -> usize {
    match &connection.stage {
        ConnectionStage::Connected(connected) => connected.maximum_incoming,
        _ => listeners[connection.listener].max_packet_size,
    }
}
