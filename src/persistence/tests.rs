use super::*;
use crate::client::ConnectionId;
use crate::codec::{AckKind, ReasonCode};
use crate::journal::{Answer as Done, Effect, Recovered, Settings, StoreId};
use crate::message::{Message, Publication};
use crate::records::WallTime;
use crate::sharding::ShardSet;
use crate::time::Time;
use crate::topic::TopicName;

const SEGMENT: u64 = 4 << 20;

/// That of a shard of two, whose journal is carried out at once.
struct Rig {
    persistence: Persistence,
}

impl Rig {
    fn new(segments: u32) -> Self {
        let settings = Settings {
            segment_bytes: SEGMENT,
            segments,
            commit_interval: Duration::ZERO,
            sync: Sync::Never,
            ..Settings::new(StoreId([1; 16]), 0)
        };
        let settings = settings.check().expect("they hold");
        let journal = Journal::new(settings, Recovered::nothing(), 1).expect("there are numbers");
        let setup = PersistenceSetup {
            journal,
            paging: None,
            boot: 1,
            sync: Sync::Never,
            durability: Durability::Flushed,
            clock: Box::new(|| Duration::from_secs(1)),
            wall: WallClock::new(Time::ZERO, WallTime::default()),
            beginning: Beginning::default(),
        };
        let mut rig = Rig { persistence: Persistence::new(setup, 0, 2) };
        rig.carry_out();
        rig
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.persistence.next_effect() {
            match effect {
                Effect::Write(write) => {
                    let result = Ok(write.bytes);
                    self.persistence.done(Done::Written { buffer: write.buffer, result });
                }
                Effect::Prepare(preparation) => {
                    self.persistence.done(Done::Prepared { file: preparation.file, result: Ok(()) });
                }
                Effect::Remove { .. } | Effect::SetAside { .. } => {}
            }
        }
    }

    /// Something is recorded until so many segments have records.
    fn fill(&mut self, live: usize) {
        while self.persistence.setup.journal.fullness().live < live {
            self.persistence.record_retained("", &message(100_000));
            self.carry_out();
        }
    }

    /// All that is needed is written once more: so many messages. False if that is not to be done.
    fn rewrite(&mut self, messages: usize) -> bool {
        let mut left = messages;
        let mut is_any = false;
        for _ in 0..10_000 {
            let Some(cursor) = self.persistence.next_to_rewrite() else {
                self.carry_out();
                if matches!(self.persistence.rewriting, Rewriting::UnderWay { .. }) {
                    continue;
                }
                return is_any;
            };
            is_any = true;
            let next = match (cursor, left) {
                (Cursor::End, _) | (_, 0) => Cursor::End,
                (cursor, _) => {
                    left -= 1;
                    self.persistence.record_retained("", &message(100_000));
                    cursor
                }
            };
            self.persistence.rewritten(next);
            self.carry_out();
        }
        panic!("it does not end");
    }

    fn live(&self) -> usize {
        self.persistence.setup.journal.fullness().live
    }
}

fn message(bytes: usize) -> Message {
    let payload = vec![0; bytes];
    let topic = TopicName::parse("t", 1).expect("it is one");
    Publication::new(topic, &payload).keep()
}

#[test]
fn what_is_needed_is_written_again_when_half_is_full_and_not_sooner_again() {
    let mut rig = Rig::new(8);
    rig.fill(3);
    assert!(!rig.rewrite(10));
    rig.fill(4);
    assert!(rig.rewrite(10));
    assert!(rig.live() <= 2, "the others are given back");
    assert!(!rig.rewrite(10), "there is room again");
}

#[test]
fn what_is_needed_may_be_more_than_there_is_room_for() {
    let mut rig = Rig::new(4);
    rig.fill(3);
    // Three segments.
    assert!(rig.rewrite(120));
    assert!(rig.live() <= 5, "{}", rig.live());
    assert!(!rig.rewrite(120), "that would make no room");
}

/// Otherwise it would be passed over when it is sent again, and nobody would have it. Its client is told when that is on disk.
#[test]
fn that_a_message_was_taken_is_recorded_when_all_shards_have_it() {
    let mut rig = Rig::new(8);
    let (session, client) = (rig.persistence.next_number(), ConnectionId::new(7, 0));
    let mut told = ShardSet::default();
    told.insert(1);
    let both = |sent| Committed { flushed: sent, fsynced: sent };
    let mut last = DecisionNumber::default();
    for (sent, is_released) in [(1, false), (2, true)] {
        let persistence = &mut rig.persistence;
        let id = PacketId::new(sent as u16).expect("it is one");
        let answer = || Answer::Ack(AckKind::Pubrec, id, ReasonCode::Success);
        persistence.sent_letters(1, sent);
        let before = persistence.recorded();
        let decision = persistence.decide(session, last);
        persistence.take_incoming(decision, id, (told, false));
        assert_eq!(persistence.incoming(session, id), Some(decision.number));
        assert_eq!(
            persistence.answer((client, Durability::Flushed), (told, false), Some(decision.number), answer()),
            None
        );
        // Once more, on another connection: behind the first.
        let again = persistence.incoming(session, id);
        assert_eq!(
            persistence.answer((client, Durability::Flushed), (ShardSet::default(), false), again, answer()),
            None
        );
        assert_eq!((persistence.next_answer(), persistence.recorded()), (None, before));
        if is_released {
            persistence.record_released(session, id);
        }
        persistence.letters_committed(1, both(sent));
        let records = if is_released { 2 } else { 1 };
        assert_eq!(persistence.recorded(), before + records, "that it was taken, and that it was released");
        assert_eq!((persistence.next_answer(), persistence.next_decisions()), (None, None), "that is not on disk");
        rig.carry_out();
        let persistence = &mut rig.persistence;
        assert_eq!(persistence.next_answer(), Some((client, answer())));
        assert_eq!(persistence.next_answer(), Some((client, answer())));
        assert_eq!(persistence.next_decisions(), Some(decision.number.count() + 1));
        last = decision.number;
    }
    let persistence = &mut rig.persistence;
    let id = PacketId::MIN;
    let before = persistence.recorded();
    let decision = persistence.decide(session, last);
    persistence.take_incoming(decision, id, (ShardSet::default(), true));
    assert_eq!(persistence.recorded(), before, "behind the message, which is gathered");
    persistence.record_noted(std::iter::empty());
    assert_eq!(persistence.recorded(), before + 1);
}
