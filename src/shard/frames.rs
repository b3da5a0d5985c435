//! Outgoing PUBLISH packets of the publications that are being delivered, encoded once for each protocol version and for
//! QoS 0 and the others: what goes to many differs in flags and packet id only.

use crate::codec::{Outgoing, PacketId, ProtocolVersion};

/// The encoded packets of the publications that are being delivered, one or a batch of them.
pub struct Frames {
    /// For each publication, at least one.
    frames: Vec<[Frame; 4]>,
    /// How many of them are in use.
    used: usize,
    /// The publication that is being delivered.
    chosen: usize,
    /// Whether more than one receiver is to be expected. For one alone, encoding straight into its outbox is cheaper.
    enabled: bool,
}

/// One encoded packet.
#[derive(Default)]
pub struct Frame {
    bytes: Vec<u8>,
    /// Where the packet id stands.
    packet_id: usize,
}

impl Frames {
    /// None yet.
    pub fn new() -> Self {
        Frames { frames: vec![Default::default()], used: 1, chosen: 0, enabled: false }
    }

    /// Forgets the last publications.
    pub fn begin(&mut self, many: bool) {
        if self.enabled {
            self.frames[..self.used].iter_mut().flatten().for_each(|frame| frame.bytes.clear());
        }
        (self.enabled, self.used, self.chosen) = (many, 1, 0);
    }

    /// Forgets the last publications; `count` are to come, for many receivers.
    pub fn begin_batch(&mut self, count: usize) {
        self.begin(true);
        if self.frames.len() < count {
            self.frames.resize_with(count, Default::default);
        }
        self.used = count;
    }

    /// It goes on with this one of the batch.
    #[inline]
    pub fn choose(&mut self, publication: usize) {
        self.chosen = publication;
    }

    /// Whether encoded packets are shared at the moment.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Encodes `outgoing`, to be appended for others, too, unless that was done since [`begin`](Self::begin).
    pub fn encode(&mut self, outgoing: &Outgoing<'_>, version: ProtocolVersion) -> &Frame {
        let frame = &mut self.frames[self.chosen][place(version, outgoing.packet_id)];
        if frame.bytes.is_empty() {
            outgoing.encode(version, &mut frame.bytes);
            frame.packet_id = outgoing.packet_id_offset(version).unwrap_or_default();
        }
        frame
    }

    /// The packet that was encoded since [`begin`](Self::begin) for a receiver of `version`, with a packet id if this is one.
    #[inline]
    pub fn encoded(&self, version: ProtocolVersion, packet_id: Option<PacketId>) -> Option<&Frame> {
        let frame = &self.frames[self.chosen][place(version, packet_id)];
        (self.enabled && !frame.bytes.is_empty()).then_some(frame)
    }
}

fn place(version: ProtocolVersion, packet_id: Option<PacketId>) -> usize {
    usize::from(version.is_v5()) * 2 + usize::from(packet_id.is_some())
}

impl Frame {
    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends it to `out` with these flags and this packet id.
    #[inline]
    pub fn append(&self, first_byte: u8, packet_id: Option<PacketId>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start] = first_byte;
        if let Some(id) = packet_id {
            out[start + self.packet_id..][..2].copy_from_slice(&id.get().to_be_bytes());
        }
    }
}
