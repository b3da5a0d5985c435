//! What the programs that measure share: links of hooks, which the bench of hooks has, too, and the broker that some of them start.

#[path = "../../benches/links/mod.rs"]
pub mod links;
pub mod under_test;
