//! Store numbers.

pub use crate::session::StoreNumber;
