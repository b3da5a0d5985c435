//! The routing of messages between connections: received bytes in, output bytes out.

use std::collections::{HashMap, VecDeque};

use crate::packets::{Packet, acknowledge, connack, length, parse, suback};

/// All connections, and their subscriptions.
#[derive(Default)]
pub struct Router {
    connections: Vec<Connection>,
    /// The subscribers of a topic.
    exact: HashMap<String, Vec<usize>>,
    /// The subscribers of all topics: the scenarios have no other wildcard.
    all: Vec<usize>,
    /// The members of the shared subscription to all topics.
    shared: Vec<usize>,
    turn: usize,
    /// Connections with output, each once.
    ready: VecDeque<usize>,
    /// The recipients of one message; kept to save allocations.
    recipients: Vec<usize>,
}

/// The state of one connection.
#[derive(Default)]
struct Connection {
    v5: bool,
    /// The received beginning of an incomplete packet.
    partial: Vec<u8>,
    output: Vec<u8>,
    /// Whether it is in `ready`, or an output of it is being sent.
    busy: bool,
    /// The last packet identifier in use.
    packet_id: u16,
}

impl Router {
    /// Adds a connection.
    pub fn open(&mut self, index: usize) {
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, Connection::default);
        }
        self.connections[index] = Connection::default();
    }

    /// Removes a connection and its subscriptions.
    pub fn close(&mut self, index: usize) {
        let subscribers = self.exact.values_mut().chain([&mut self.all, &mut self.shared]);
        subscribers.for_each(|subscribers| subscribers.retain(|subscriber| *subscriber != index));
        self.exact.retain(|_, subscribers| !subscribers.is_empty());
        self.connections[index] = Connection::default();
    }

    /// The next connection with output, none of which is being sent.
    pub fn next_ready(&mut self) -> Option<usize> {
        self.ready.pop_front()
    }

    /// All of its output, to be sent now.
    pub fn take_output(&mut self, index: usize) -> Vec<u8> {
        std::mem::take(&mut self.connections[index].output)
    }

    /// Handles the end of a send; `emptied` is the memory of the output.
    pub fn sent(&mut self, index: usize, mut emptied: Vec<u8>) {
        let connection = &mut self.connections[index];
        if connection.output.is_empty() {
            emptied.clear();
            connection.output = emptied;
            connection.busy = false;
        } else {
            self.ready.push_back(index);
        }
    }

    /// Handles received bytes of a connection.
    pub fn receive(&mut self, index: usize, bytes: &[u8]) {
        let mut partial = std::mem::take(&mut self.connections[index].partial);
        if partial.is_empty() {
            let taken = self.receive_packets(index, bytes);
            partial.extend_from_slice(&bytes[taken..]);
        } else {
            partial.extend_from_slice(bytes);
            let taken = self.receive_packets(index, &partial);
            partial.drain(..taken);
        }
        self.connections[index].partial = partial;
    }

    /// Handles the complete packets. Returns the number of their bytes.
    fn receive_packets(&mut self, index: usize, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some((end, body)) = length(&bytes[taken..]) {
            self.receive_packet(index, &bytes[taken..taken + end], body);
            taken += end;
        }
        taken
    }

    fn receive_packet(&mut self, index: usize, packet: &[u8], body: usize) {
        let v5 = self.connections[index].v5;
        match parse(packet, body, v5) {
            Packet::Connect { v5 } => {
                self.connections[index].v5 = v5;
                self.output_of(index).extend_from_slice(connack(v5));
            }
            Packet::Subscribe { packet_id, filter, qos } => {
                match filter {
                    filter if filter.starts_with("$share/") => self.shared.push(index),
                    filter if filter.contains('+') => self.all.push(index),
                    topic => self.exact.entry(topic.to_owned()).or_default().push(index),
                }
                suback(packet_id, qos, v5, self.output_of(index));
            }
            Packet::Publish { qos, topic, id_at } => self.publish(index, packet, qos, topic, id_at),
            Packet::Pubrec(id) => acknowledge(0x62, id, self.output_of(index)),
            Packet::Pubrel(id) => acknowledge(0x70, id, self.output_of(index)),
            Packet::Ping => self.output_of(index).extend_from_slice(&[0xD0, 0]),
            Packet::Nothing => {}
        }
    }

    fn publish(&mut self, publisher: usize, packet: &[u8], qos: u8, topic: &str, id_at: usize) {
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        recipients.extend(self.exact.get(topic).into_iter().flatten());
        recipients.extend(&self.all);
        if !self.shared.is_empty() {
            self.turn = (self.turn + 1) % self.shared.len();
            recipients.push(self.shared[self.turn]);
        }
        for subscriber in recipients.drain(..) {
            let connection = &mut self.connections[subscriber];
            connection.packet_id = connection.packet_id.checked_add(1).unwrap_or(1);
            let packet_id = connection.packet_id.to_be_bytes();
            let output = self.output_of(subscriber);
            let start = output.len();
            output.extend_from_slice(packet);
            if qos > 0 {
                output[start + id_at..start + id_at + 2].copy_from_slice(&packet_id);
            }
        }
        self.recipients = recipients;
        if qos > 0 {
            let first = if qos == 1 { 0x40 } else { 0x50 };
            acknowledge(first, [packet[id_at], packet[id_at + 1]], self.output_of(publisher));
        }
    }

    /// The output of a connection, to append to.
    fn output_of(&mut self, index: usize) -> &mut Vec<u8> {
        let connection = &mut self.connections[index];
        if !connection.busy {
            connection.busy = true;
            self.ready.push_back(index);
        }
        &mut connection.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_pieces_is_delivered_and_acknowledged() {
        let mut router = Router::default();
        router.open(0);
        router.open(1);
        router.connections[0].packet_id = u16::MAX;
        router.receive(0, b"\x82\x06\0\x07\0");
        router.receive(0, b"\x01a\x01");
        assert_eq!((router.next_ready(), router.take_output(0)), (Some(0), b"\x90\x03\0\x07\x01".to_vec()));
        router.sent(0, Vec::new());
        router.receive(1, b"\x32\x06\0\x01a\0\x09x");
        assert_eq!((router.next_ready(), router.take_output(0)), (Some(0), b"\x32\x06\0\x01a\0\x01x".to_vec()));
        assert_eq!((router.next_ready(), router.take_output(1)), (Some(1), b"\x40\x02\0\x09".to_vec()));
        assert_eq!(router.next_ready(), None);
    }
}
