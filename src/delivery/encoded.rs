//! Outgoing PUBLISH packets of one publication, encoded once for each protocol version and for QoS 0 and the others: what goes to
//! many recipients differs in flags and packet id only.

use crate::codec::{Outgoing, PacketId, ProtocolVersion};

/// The packets of one publication that were encoded so far. Used again for the next one, so that encoding costs no allocation.
#[derive(Default)]
pub struct EncodedForms([Form; 4]);

/// One encoded packet; empty before the first recipient that it suits.
#[derive(Default)]
pub struct Form {
    bytes: Vec<u8>,
    /// Where the packet id stands.
    packet_id: usize,
}

impl EncodedForms {
    /// Forgets the packets of the last publication.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|form| form.bytes.clear());
    }

    /// The packet for recipients of `version`, with a packet id if `outgoing` has one; encoded if that was not done yet.
    pub fn encode(&mut self, outgoing: &Outgoing<'_>, version: ProtocolVersion) -> &Form {
        let form = &mut self.0[place(version, outgoing.packet_id)];
        if form.bytes.is_empty() {
            outgoing.encode(version, &mut form.bytes);
            form.packet_id = outgoing.packet_id_offset(version).unwrap_or_default();
        }
        form
    }

    /// The packet for recipients of `version`, with a packet id if this is one, if it was encoded already.
    #[inline]
    pub fn encoded(&self, version: ProtocolVersion, packet_id: Option<PacketId>) -> Option<&Form> {
        let form = &self.0[place(version, packet_id)];
        (!form.bytes.is_empty()).then_some(form)
    }
}

fn place(version: ProtocolVersion, packet_id: Option<PacketId>) -> usize {
    usize::from(version.is_v5()) * 2 + usize::from(packet_id.is_some())
}

impl Form {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::QoS;

    fn outgoing(packet_id: Option<PacketId>) -> Outgoing<'static> {
        Outgoing {
            dup: false,
            qos: if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            retain: false,
            topic: "t",
            packet_id,
            alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: &[],
            payload: b"payload",
        }
    }

    #[test]
    fn what_is_appended_is_what_would_have_been_encoded() {
        let mut forms = EncodedForms::default();
        for version in ProtocolVersion::ALL {
            for packet_id in [None, PacketId::new(7), PacketId::new(0x1234)] {
                let (mut appended, mut wanted) = (Vec::new(), Vec::new());
                let outgoing = outgoing(packet_id);
                outgoing.encode(version, &mut wanted);
                let first_byte = Outgoing::first_byte(outgoing.dup, outgoing.qos, outgoing.retain);
                forms.encode(&outgoing, version).append(first_byte, packet_id, &mut appended);
                assert_eq!(appended, wanted);
                assert_eq!(forms.encoded(version, packet_id).map(Form::len), Some(wanted.len()));
            }
        }
        forms.clear();
        assert!(forms.encoded(ProtocolVersion::V311, None).is_none());
    }

    proptest! {
        /// Whoever was first: flags and packet ids are each recipient's own, and everything else is that of the publication.
        #[test]
        fn every_recipient_gets_the_packet_that_is_encoded_for_it(
            topic in "[a-z/]{1,200}",
            payload in prop::collection::vec(any::<u8>(), 0..20_000),
            properties in prop::collection::vec(any::<u8>(), 0..200),
            message_expiry in any::<Option<u32>>(),
            recipients in prop::collection::vec((0..3_usize, 0..3_u8, any::<bool>(), 1..=u16::MAX), 1..12),
        ) {
            let mut forms = EncodedForms::default();
            for (version, qos, retain, id) in recipients {
                let (version, qos) = (ProtocolVersion::ALL[version], QoS::from_u8(qos).expect("0 to 2"));
                let packet_id = PacketId::new(id).filter(|_| qos != QoS::AtMostOnce);
                let outgoing = Outgoing {
                    qos,
                    retain,
                    topic: &topic,
                    packet_id,
                    message_expiry,
                    properties: &properties,
                    payload: &payload,
                    ..Outgoing::default()
                };
                let (mut wanted, mut appended) = (vec![1, 2, 3], vec![1, 2, 3]);
                outgoing.encode(version, &mut wanted);
                forms.encode(&outgoing, version).append(Outgoing::first_byte(false, qos, retain), packet_id, &mut appended);
                prop_assert!(appended == wanted);
                prop_assert_eq!(forms.encoded(version, packet_id).map(Form::len), Some(wanted.len() - 3));
            }
        }
    }
}
