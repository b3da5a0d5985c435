//! Which lifecycle hook, exactly: each row of the table in `tests/lifecycle.md` with real connections, on 1, 2 and 4 shards.
//!
//! The broker is the example `recorder`; what it wrote about a client is compared word by word. When a scenario is over, the
//! recorder is stopped, nothing more than was expected may have been written, and everything must spell the grammar.

mod peer;
mod reasons;
mod recorder;
mod rows;
mod storms;
mod trace;
