//! Disks in memory, and how a broker begins with what is on them: for the tests of the core, and for the simulator.

pub mod disk;
pub mod opening;
