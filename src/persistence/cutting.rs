//! How far the cut of a journal is, for a copy of the store while it is used: see `copying`.

use crate::journal::Piece;

/// How far the cut is.
#[derive(Debug, Default)]
pub(super) struct Cutting {
    /// The number of the copy: later ones have higher numbers.
    pub number: u64,
    pub stage: Stage,
}

#[derive(Debug, Default)]
pub(super) enum Stage {
    /// There is no copy, or it is made.
    #[default]
    Idle,
    /// The copy has so many records, which the journal has not all taken yet.
    Waiting(u64),
    /// It has these pieces, when so many records are on disk.
    Cut(u64, Vec<Piece>),
    /// It is being made.
    Held,
}
