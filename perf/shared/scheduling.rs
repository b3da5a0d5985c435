//! Where threads run, and before whom.

use std::process::{Command, Stdio};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use crate::under_test::Failure;

/// Pins the calling thread, and all that it starts from now on, to these cores.
pub fn pin(cores: &[usize]) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|core| set.set(*core))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Lets the calling thread go before all others on its core, if the user may ask for it: the clients that ask for a lot are there, too.
pub fn go_first() {
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "10"]).arg(gettid().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without it the figures have the noise of the machine in them, which is measured.
    let _ = chrt.status();
}
