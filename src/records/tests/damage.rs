//! Records that were changed: reading ends, and what is read then is what would be written; folding goes on. The short form of `tests/fuzz`.

use proptest::prelude::*;

use super::made_up::{KINDS, Pool};
use super::*;
use crate::random::Random;
use crate::records::{Image, WallClock, WallTime};
use crate::session::Session;
use crate::time::Time;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_in_a_record_it_is_read_or_refused(seed: u64, changes in prop::collection::vec(any::<(u16, u8, u8)>(), 1..4)) {
        let mut random = Random::from_seed(seed);
        let pool = Pool::new(&mut random);
        let mut image = Image::new(WallClock::new(Time::ZERO, WallTime::default()), hasher());
        for kind in (1..=KINDS).cycle().take(3 * usize::from(KINDS)) {
            let Stored { mut body, .. } = Stored::of(&pool.record(kind, &mut random));
            image.apply(&pool.record(kind, &mut random));
            // Mostly near the front, where the structure is.
            for (place, byte, how) in &changes {
                let place = usize::from(*place) % (if how & 1 == 0 { 16 } else { body.len().max(1) });
                match how >> 1 & 3 {
                    0 => body.truncate(place),
                    1 if place <= body.len() => body.insert(place, *byte),
                    _ => body.iter_mut().skip(place).take(1).for_each(|old| *old = *byte),
                }
            }
            // As another kind, too.
            for kind in [kind, 1 + kind.wrapping_add(changes[0].1) % KINDS] {
                let Ok(record) = Record::decode(kind, &body) else { continue };
                let again = Stored::of(&record);
                prop_assert!(again == Stored { kind, body: body.clone() } || kind == 1, "{record:?}");
                prop_assert_eq!(again.record(), record.clone());
                image.apply(&record);
            }
        }
        let mut contents = image.finish();
        let counts = contents.counts();
        let clock = WallClock::new(Time::ZERO, WallTime::default());
        let sessions: Vec<Session<()>> = contents.sessions().map(|stored| stored.into_session(0, 1, clock)).collect();
        let is_to_be_sent_again = |session: &Session<()>| session.outbound.has_unsent() == (session.outbound.in_flight() > 0);
        prop_assert!(sessions.len() == counts.sessions && sessions.iter().all(is_to_be_sent_again));
        prop_assert_eq!(counts.retained, contents.into_retained().count());
    }
}
