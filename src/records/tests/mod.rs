//! Records made up at random: they come back as they were, and all of them say in the end what those meant who wrote them.

mod damage;
mod folding;
mod made_up;
mod pages;
mod paging;
mod restoring;
mod round_trip;
mod writer;

use super::Record;

/// A record as it is in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    kind: u8,
    body: Vec<u8>,
}

impl Stored {
    fn of(record: &Record<'_>) -> Self {
        let mut buffer = Vec::new();
        let encoded = record.encode(&mut buffer);
        let stored = Stored { kind: encoded.kind, body: encoded.parts().concat() };
        assert_eq!(stored.body.len(), encoded.bytes());
        stored
    }

    fn record(&self) -> Record<'_> {
        Record::decode(self.kind, &self.body).expect("it was written")
    }
}

fn hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}
