//! Where a measurement was made, for reports.

use std::fs;
use std::time::SystemTime;

use crate::process;

/// What a reader has to know about the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor, and how many cores of it this process may use.
    pub processor: String,
    /// The kernel.
    pub kernel: String,
    /// When: UTC, to the minute.
    pub date: String,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let model = model_in(&read("/proc/cpuinfo")).unwrap_or("unknown processor").to_owned();
        let cores = process::cores().map_or(0, |cores| cores.len());
        let memory = memory_in(&read("/proc/meminfo")).unwrap_or_default();
        let second = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Machine {
            processor: format!("{model}, {cores} cores, {memory} GiB"),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            date: format!("{} UTC", second[..16].replace('T', " ")),
        }
    }
}

fn model_in(cpuinfo: &str) -> Option<&str> {
    Some(cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?.split_once(':')?.1.trim())
}

/// The memory in GiB, rounded.
fn memory_in(meminfo: &str) -> Option<u64> {
    let kib: u64 =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
    Some((kib + (1 << 19)) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        assert_eq!(model_in("processor\t: 0\nmodel name\t: AMD EPYC: 2\n"), Some("AMD EPYC: 2"));
        assert_eq!(memory_in("MemFree: 1 kB\nMemTotal:       24572120 kB\n"), Some(23));
        assert_eq!(Machine::here().date.len(), "2026-01-31 23:59 UTC".len());
    }
}
