//! Access rules: who may publish and subscribe to what.
//!
//! [`AclRules`] are the rules of a file, [`AclFile`] is the link that goes by them. What a rule is about is a topic filter,
//! or a *pattern*: a topic filter with places for what a client is called.

mod identity;
mod link;
mod parse;
#[cfg(test)]
mod plain;
mod rules;
mod scope;

pub use identity::Identity;
pub use link::AclFile;
pub use rules::{AclRules, Ruling};
