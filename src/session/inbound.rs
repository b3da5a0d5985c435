//! Incoming QoS 2: which packet ids wait for their PUBREL.

use std::collections::BTreeSet;

use crate::codec::PacketId;

/// The packet ids of incoming QoS 2 messages that were routed and not yet released. A PUBLISH with one of them is a
/// repetition, and is not routed again [MQTT-4.3.3-10]. Survives the connection for kept sessions of every version.
#[derive(Debug, Default)]
pub struct Inbound {
    unreleased: BTreeSet<PacketId>,
}

impl Inbound {
    /// Whether a PUBLISH with this id was taken and not released yet.
    pub fn contains(&self, id: PacketId) -> bool {
        self.unreleased.contains(&id)
    }

    /// Adds the id of a PUBLISH that was routed.
    pub fn take(&mut self, id: PacketId) {
        self.unreleased.insert(id);
    }

    /// The client released `id` with PUBREL; false if it was not there.
    pub fn release(&mut self, id: PacketId) -> bool {
        self.unreleased.remove(&id)
    }

    /// How many are incomplete.
    pub fn len(&self) -> usize {
        self.unreleased.len()
    }

    /// Whether none is incomplete.
    pub fn is_empty(&self) -> bool {
        self.unreleased.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-4.3.3-10]
    #[test]
    fn an_id_is_taken_until_it_is_released() {
        let id = PacketId::new(7).expect("not zero");
        let mut inbound = Inbound::default();
        assert!(!inbound.contains(id) && !inbound.release(id) && inbound.is_empty());
        inbound.take(id);
        inbound.take(id);
        assert!(inbound.contains(id));
        assert_eq!(inbound.len(), 1);
        assert!(inbound.release(id) && !inbound.release(id) && inbound.is_empty());
    }
}
