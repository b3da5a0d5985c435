//! The packet identifiers of one publisher, and how far each of its messages got.

use std::collections::VecDeque;

use moormq::codec::{AckKind, PacketId, QoS};

/// What a message waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaits {
    Nothing,
    Puback,
    Pubrec,
    Pubcomp,
}

/// The packet identifiers of one publisher.
#[derive(Debug)]
pub struct Window {
    qos: QoS,
    /// Free identifiers; the one that was free for longest is used first.
    free: VecDeque<PacketId>,
    /// By packet identifier less one.
    awaits: Vec<Awaits>,
    /// How many identifiers there are, free or not.
    size: usize,
}

impl Window {
    /// `size` identifiers for messages of `qos`; at QoS 0 none are needed.
    pub fn new(qos: QoS, size: u16) -> Self {
        let size = if qos == QoS::AtMostOnce { 0 } else { size };
        let free = (1..=size).filter_map(PacketId::new).collect();
        let size = usize::from(size);
        Window { qos, free, awaits: vec![Awaits::Nothing; size], size }
    }

    /// Takes in the server's Receive Maximum `[MQTT-3.3.4-7]`. To be called before the first message.
    pub fn limit(&mut self, receive_maximum: u16) {
        self.free.retain(|id| id.get() <= receive_maximum);
        self.size = self.free.len();
    }

    /// The identifier for the next message: none within at QoS 0; none at all if every identifier is in use.
    #[inline]
    pub fn take(&mut self) -> Option<Option<PacketId>> {
        if self.qos == QoS::AtMostOnce {
            return Some(None);
        }
        let id = self.free.pop_front()?;
        self.awaits[usize::from(id.get()) - 1] = match self.qos {
            QoS::ExactlyOnce => Awaits::Pubrec,
            _ => Awaits::Puback,
        };
        Some(Some(id))
    }

    /// Takes in an acknowledgement. False if no message waits for it.
    #[inline]
    pub fn acknowledge(&mut self, kind: AckKind, id: PacketId) -> bool {
        let Some(awaits) = self.awaits.get_mut(usize::from(id.get()) - 1) else {
            return false;
        };
        match (kind, *awaits) {
            (AckKind::Pubrec, Awaits::Pubrec) => *awaits = Awaits::Pubcomp,
            (AckKind::Puback, Awaits::Puback) | (AckKind::Pubcomp, Awaits::Pubcomp) => {
                *awaits = Awaits::Nothing;
                self.free.push_back(id);
            }
            _ => return false,
        }
        true
    }

    /// How many messages are not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        self.size - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn identifiers_are_used_again_when_acknowledged_and_not_before() {
        let mut window = Window::new(QoS::AtLeastOnce, 2);
        assert_eq!((window.take(), window.take()), (Some(Some(id(1))), Some(Some(id(2)))));
        assert_eq!((window.take(), window.in_flight()), (None, 2));
        assert!(window.acknowledge(AckKind::Puback, id(2)));
        assert_eq!(window.take(), Some(Some(id(2))));
    }

    #[test]
    fn qos_2_goes_step_by_step() {
        let mut window = Window::new(QoS::ExactlyOnce, 1);
        window.take();
        for (kind, expected) in [
            (AckKind::Pubcomp, false),
            (AckKind::Puback, false),
            (AckKind::Pubrec, true),
            (AckKind::Pubrec, false),
            (AckKind::Pubcomp, true),
            (AckKind::Pubcomp, false),
        ] {
            assert_eq!(window.acknowledge(kind, id(1)), expected, "{kind:?}");
        }
        assert_eq!(window.in_flight(), 0);
    }

    #[test]
    fn qos_0_needs_no_identifier_and_strangers_are_noticed() {
        let mut window = Window::new(QoS::AtMostOnce, 5);
        assert_eq!(window.take(), Some(None));
        assert!(!window.acknowledge(AckKind::Puback, id(1)));
    }

    #[test]
    fn the_server_can_make_it_smaller() {
        let mut window = Window::new(QoS::AtLeastOnce, 10);
        window.limit(1);
        assert_eq!((window.take(), window.take()), (Some(Some(id(1))), None));
        assert_eq!(window.in_flight(), 1);
    }
}
