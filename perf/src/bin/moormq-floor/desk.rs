//! Who gets what: bytes in, bytes out.

use std::collections::{HashMap, VecDeque};

use crate::speech::{Heard, acknowledge, connack, length, suback, understand};

/// All connections, and who subscribed to what.
#[derive(Default)]
pub struct Desk {
    seats: Vec<Seat>,
    /// Who wants a topic.
    exact: HashMap<String, Vec<usize>>,
    /// Who wants all topics: the one wildcard that the scenarios have.
    all: Vec<usize>,
    /// Who takes turns with all topics.
    shared: Vec<usize>,
    turn: usize,
    /// Connections with output, each once.
    talkers: VecDeque<usize>,
    /// Who gets the message at hand.
    audience: Vec<usize>,
}

/// One connection.
#[derive(Default)]
struct Seat {
    v5: bool,
    /// The beginning of a packet whose rest has not come.
    partial: Vec<u8>,
    output: Vec<u8>,
    /// Listed among the talkers, or with an output on its way.
    busy: bool,
    /// The last packet identifier that was given out.
    packet_id: u16,
}

impl Desk {
    /// A connection takes its seat.
    pub fn open(&mut self, index: usize) {
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, Seat::default);
        }
        self.seats[index] = Seat::default();
    }

    /// A connection is gone.
    pub fn close(&mut self, index: usize) {
        let subscribers = self.exact.values_mut().chain([&mut self.all, &mut self.shared]);
        subscribers.for_each(|subscribers| subscribers.retain(|subscriber| *subscriber != index));
        self.exact.retain(|_, subscribers| !subscribers.is_empty());
        self.seats[index] = Seat::default();
    }

    /// A connection with output, none of which is on its way.
    pub fn next_talker(&mut self) -> Option<usize> {
        self.talkers.pop_front()
    }

    /// Its output, all of which goes out now.
    pub fn take_output(&mut self, index: usize) -> Vec<u8> {
        std::mem::take(&mut self.seats[index].output)
    }

    /// Its output has left; `emptied` is the memory.
    pub fn sent(&mut self, index: usize, mut emptied: Vec<u8>) {
        let seat = &mut self.seats[index];
        if seat.output.is_empty() {
            emptied.clear();
            seat.output = emptied;
            seat.busy = false;
        } else {
            self.talkers.push_back(index);
        }
    }

    /// Takes in what a connection sent.
    pub fn hear(&mut self, index: usize, bytes: &[u8]) {
        let mut partial = std::mem::take(&mut self.seats[index].partial);
        if partial.is_empty() {
            let taken = self.hear_packets(index, bytes);
            partial.extend_from_slice(&bytes[taken..]);
        } else {
            partial.extend_from_slice(bytes);
            let taken = self.hear_packets(index, &partial);
            partial.drain(..taken);
        }
        self.seats[index].partial = partial;
    }

    /// The bytes of the packets that were whole.
    fn hear_packets(&mut self, index: usize, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some((end, body)) = length(&bytes[taken..]) {
            self.hear_packet(index, &bytes[taken..taken + end], body);
            taken += end;
        }
        taken
    }

    fn hear_packet(&mut self, index: usize, packet: &[u8], body: usize) {
        let v5 = self.seats[index].v5;
        match understand(packet, body, v5) {
            Heard::Connect { v5 } => {
                self.seats[index].v5 = v5;
                self.talk(index).extend_from_slice(connack(v5));
            }
            Heard::Subscribe { packet_id, filter, qos } => {
                match filter {
                    filter if filter.starts_with("$share/") => self.shared.push(index),
                    filter if filter.contains('+') => self.all.push(index),
                    topic => self.exact.entry(topic.to_owned()).or_default().push(index),
                }
                suback(packet_id, qos, v5, self.talk(index));
            }
            Heard::Publish { qos, topic, id_at } => self.publish(index, packet, qos, topic, id_at),
            Heard::Pubrec(id) => acknowledge(0x62, id, self.talk(index)),
            Heard::Pubrel(id) => acknowledge(0x70, id, self.talk(index)),
            Heard::Ping => self.talk(index).extend_from_slice(&[0xD0, 0]),
            Heard::Nothing => {}
        }
    }

    fn publish(&mut self, publisher: usize, packet: &[u8], qos: u8, topic: &str, id_at: usize) {
        let mut audience = std::mem::take(&mut self.audience);
        audience.clear();
        audience.extend(self.exact.get(topic).into_iter().flatten());
        audience.extend(&self.all);
        if !self.shared.is_empty() {
            self.turn = (self.turn + 1) % self.shared.len();
            audience.push(self.shared[self.turn]);
        }
        for subscriber in audience.drain(..) {
            let seat = &mut self.seats[subscriber];
            seat.packet_id = seat.packet_id.checked_add(1).unwrap_or(1);
            let packet_id = seat.packet_id.to_be_bytes();
            let output = self.talk(subscriber);
            let start = output.len();
            output.extend_from_slice(packet);
            if qos > 0 {
                output[start + id_at..start + id_at + 2].copy_from_slice(&packet_id);
            }
        }
        self.audience = audience;
        if qos > 0 {
            let first = if qos == 1 { 0x40 } else { 0x50 };
            acknowledge(first, [packet[id_at], packet[id_at + 1]], self.talk(publisher));
        }
    }

    /// Where to write what a connection is to be told.
    fn talk(&mut self, index: usize) -> &mut Vec<u8> {
        let seat = &mut self.seats[index];
        if !seat.busy {
            seat.busy = true;
            self.talkers.push_back(index);
        }
        &mut seat.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_pieces_is_delivered_and_acknowledged() {
        let mut desk = Desk::default();
        desk.open(0);
        desk.open(1);
        desk.seats[0].packet_id = u16::MAX;
        desk.hear(0, b"\x82\x06\0\x07\0");
        desk.hear(0, b"\x01a\x01");
        assert_eq!((desk.next_talker(), desk.take_output(0)), (Some(0), b"\x90\x03\0\x07\x01".to_vec()));
        desk.sent(0, Vec::new());
        desk.hear(1, b"\x32\x06\0\x01a\0\x09x");
        assert_eq!((desk.next_talker(), desk.take_output(0)), (Some(0), b"\x32\x06\0\x01a\0\x01x".to_vec()));
        assert_eq!((desk.next_talker(), desk.take_output(1)), (Some(1), b"\x40\x02\0\x09".to_vec()));
        assert_eq!(desk.next_talker(), None);
    }
}
