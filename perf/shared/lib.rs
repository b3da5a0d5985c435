//! What the programs that measure share: links of hooks, which the bench of hooks has, too, and the broker that some of them start, with its store and
//! the sessions in it.

pub mod kept_sessions;
#[path = "../../benches/links/mod.rs"]
pub mod links;
pub mod scheduling;
pub mod store;
pub mod under_test;
pub mod waiting_client;
