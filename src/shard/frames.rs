//! Outgoing PUBLISH packets of one publication, encoded once for each protocol version and for QoS 0 and the others: what
//! goes to many differs in flags and packet id only.

use crate::codec::{Outgoing, PacketId, ProtocolVersion};

/// The encoded packets of the publication that is being delivered.
#[derive(Default)]
pub struct Frames {
    frames: [Frame; 4],
    /// Whether more than one receiver is to be expected. For one alone, encoding straight into its outbox is cheaper.
    enabled: bool,
}

#[derive(Default)]
struct Frame {
    bytes: Vec<u8>,
    /// Where the packet id stands.
    packet_id: usize,
}

impl Frames {
    /// Forgets the last publication.
    pub fn begin(&mut self, many: bool) {
        if self.enabled {
            self.frames.iter_mut().for_each(|frame| frame.bytes.clear());
        }
        self.enabled = many;
    }

    /// Whether encoded packets are shared at the moment.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Appends `outgoing` to `out`. It may differ from those appended since [`Frames::begin`] only in flags, packet id and
    /// version.
    pub fn append(&mut self, outgoing: &Outgoing<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
        let with_id = outgoing.packet_id.is_some();
        let frame = &mut self.frames[usize::from(version.is_v5()) * 2 + usize::from(with_id)];
        if frame.bytes.is_empty() {
            outgoing.encode(version, &mut frame.bytes);
            frame.packet_id = outgoing.packet_id_offset(version).unwrap_or_default();
        }
        let start = out.len();
        out.extend_from_slice(&frame.bytes);
        out[start] = outgoing.first_byte();
        if let Some(id) = outgoing.packet_id {
            write_packet_id(&mut out[start + frame.packet_id..], id);
        }
    }
}

fn write_packet_id(at: &mut [u8], id: PacketId) {
    at[..2].copy_from_slice(&id.get().to_be_bytes());
}
