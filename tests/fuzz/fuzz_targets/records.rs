//! Records with anything in them: each is refused, or is what would be written; what they say together becomes sessions.
//!
//! `tests/fuzz/run records`

#![no_main]

use libfuzzer_sys::fuzz_target;
use moormq::records::{BadRecord, Image, Record, WallClock, WallTime};
use moormq::session::Session;
use moormq::time::Time;

/// The kind whose fields may be some that are not known: they are not written again.
const SESSION: u8 = 1;

fn body(record: &Record<'_>) -> (u8, Vec<u8>) {
    let mut buffer = Vec::new();
    let encoded = record.encode(&mut buffer);
    (encoded.kind, encoded.parts().concat())
}

// Pieces of: kind, length (two bytes, the lower first), body.
fuzz_target!(|input: &[u8]| {
    let clock = WallClock::new(Time::from_millis(1000), WallTime::from_millis(1_700_000_000_000));
    let mut image = Image::new(clock, ahash::RandomState::with_seeds(1, 2, 3, 4));
    let mut rest = input;
    while let [kind, low, high, tail @ ..] = rest {
        let length = usize::from(*low) | usize::from(*high) << 8;
        let (piece, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        match Record::decode(*kind, piece) {
            Ok(record) => {
                let (also, again) = body(&record);
                assert!(also == *kind && (again == piece || *kind == SESSION));
                assert_eq!(Record::decode(*kind, &again).as_ref(), Ok(&record));
                record.class();
                image.apply(&record);
            }
            Err(error @ BadRecord::UnknownKind(_)) => assert!(!(1..16).contains(kind), "{error}"),
            Err(error) => drop(error.to_string()),
        }
    }
    let mut contents = image.finish();
    let counts = contents.counts();
    let mut messages = 0;
    for (instance, stored) in (1..).zip(contents.sessions()) {
        messages += stored.messages().len();
        let session: Session<()> = stored.into_session(0, instance, clock);
        assert_eq!(session.outbound.has_unsent(), session.outbound.in_flight() > 0);
    }
    assert!(counts.messages == messages && counts.retained == contents.into_retained().count());
});
