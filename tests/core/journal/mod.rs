//! The journal of a shard, on disks in memory: what is acknowledged is there after a crash, and nothing else is.

mod crashes;
mod damage;
mod files;
mod format;
mod found;
mod limits;
mod rig;
mod wiring;
