//! Links that come with the broker.

mod allow;

pub use allow::AllowAll;
