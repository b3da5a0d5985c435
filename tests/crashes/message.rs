//! The messages: each has a number, which says of whom it is.

use moormq::codec::QoS;

use crate::round::Common;

/// What a topic is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    Plain,
    Shared,
    Retained,
    /// For those who are hardly ever there.
    Rare,
    Will,
    /// It expires.
    Brief,
}

impl Kind {
    pub const fn letter(self) -> char {
        match self {
            Kind::Plain => 'm',
            Kind::Shared => 's',
            Kind::Retained => 'r',
            Kind::Rare => 'a',
            Kind::Will => 'w',
            Kind::Brief => 'e',
        }
    }
}

/// So many topics of a kind has each publisher.
pub const TOPICS: u8 = 4;

/// A message as its publisher knows it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub kind: Kind,
    pub topic: u8,
    pub qos: QoS,
    /// It has no payload: it cannot be told from others, and clears what is retained.
    pub is_clearing: bool,
    /// Before it was sent first, and the round then.
    pub first: u64,
    pub round: u32,
    /// When PUBACK or PUBREC had come.
    pub acked: Option<u64>,
    pub acked_round: u32,
    /// It may never come.
    pub is_void: bool,
}

impl Sent {
    /// One that is about to be sent, and has a payload.
    pub fn new(kind: Kind, topic: u8, qos: QoS, common: &Common) -> Self {
        let (first, round) = (common.tick(), common.round());
        Sent { kind, topic, qos, is_clearing: false, first, round, acked: None, acked_round: 0, is_void: false }
    }
}

/// What a payload begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub publisher: u16,
    pub number: u32,
    pub qos: QoS,
}

const MARK: usize = 7;
/// It was sent once more. What is so may come behind what was published later.
const AGAIN: u8 = 0x80;

impl Mark {
    pub fn payload(self, length: usize, is_again: bool) -> Vec<u8> {
        let mut payload = self.publisher.to_be_bytes().to_vec();
        payload.extend(self.number.to_be_bytes());
        payload.push(self.qos as u8 | if is_again { AGAIN } else { 0 });
        payload.resize(length.max(MARK), self.number as u8);
        payload
    }

    /// Whether it is of a message that was sent once more.
    pub fn is_again(payload: &[u8]) -> bool {
        payload.get(MARK - 1).is_some_and(|byte| byte & AGAIN != 0)
    }

    /// None if it is none that was sent.
    pub fn of(payload: &[u8]) -> Option<Mark> {
        let (mark, rest) = payload.split_at_checked(MARK)?;
        let mark = Mark {
            publisher: u16::from_be_bytes([mark[0], mark[1]]),
            number: u32::from_be_bytes([mark[2], mark[3], mark[4], mark[5]]),
            qos: QoS::from_u8(mark[6] & !AGAIN)?,
        };
        rest.iter().all(|byte| *byte == mark.number as u8).then_some(mark)
    }
}
