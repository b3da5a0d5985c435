//! What the kernel knows about a broker: the processor time and the memory of its process and of all that descend from it.
//!
//! Processor time is the kernel's account of the whole process, threads that have ended included, in nanoseconds, user and system
//! together: what `/proc/PID/stat` shows in hundredths of a second.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::failure::Failure;

/// A process and its descendants, as they were when it was looked at: to read a figure must not take long, and brokers start
/// what helps them before they listen.
#[derive(Clone, Debug)]
pub struct ProcessTree(Vec<u32>);

impl ProcessTree {
    /// The process with this id, and its descendants.
    ///
    /// # Errors
    ///
    /// If there are no processes to look at.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc").map_err(Failure::system("/proc"))?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Processes come and go; one that is gone is nobody's descendant.
            if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
                && let Some(parent) = parent_in(&stat)
            {
                all.push((pid, parent));
            }
        }
        Ok(ProcessTree(with_descendants(pid, &all)))
    }

    /// The processor time that it took so far.
    ///
    /// # Errors
    ///
    /// If one of the processes is gone.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        self.0.iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// The memory it has resident, in KiB.
    ///
    /// # Errors
    ///
    /// If one of the processes is gone.
    pub fn resident(&self) -> Result<u64, Failure> {
        self.0.iter().map(|pid| resident_of(*pid)).sum()
    }

    /// How many bytes it has written to files so far: past the page cache, or into pages that were not to be written before.
    ///
    /// # Errors
    ///
    /// If one of the processes is gone.
    pub fn written(&self) -> Result<u64, Failure> {
        self.0.iter().map(|pid| written_by(*pid).ok_or_else(|| gone(*pid))).sum()
    }

    /// The most memory that it ever had resident, in KiB.
    ///
    /// # Errors
    ///
    /// If one of the processes is gone.
    pub fn peak_resident(&self) -> Result<u64, Failure> {
        self.0.iter().map(|pid| memory(*pid, "status", "VmHWM:").ok_or_else(|| gone(*pid))).sum()
    }
}

/// The processor time of one process.
fn cpu_of(pid: u32) -> Result<Duration, Failure> {
    ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32))
        .and_then(ClockId::now)
        .map(Duration::from)
        .map_err(|_| gone(pid))
}

/// The processor time of this process.
///
/// # Errors
///
/// If the kernel has no such clock.
pub fn own_cpu() -> Result<Duration, Failure> {
    ClockId::CLOCK_PROCESS_CPUTIME_ID.now().map(Duration::from).map_err(|errno| system("processor time", errno))
}

/// The resident memory of one process: the exact figure if the kernel has it, else the rough one.
fn resident_of(pid: u32) -> Result<u64, Failure> {
    memory(pid, "smaps_rollup", "Rss:").or_else(|| memory(pid, "status", "VmRSS:")).ok_or_else(|| gone(pid))
}

/// What a file of `/proc/PID` says for `key`, in KiB.
fn memory(pid: u32, file: &str, key: &str) -> Option<u64> {
    kib_in(&fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?, key)
}

/// What `/proc/PID/io` says that it has written, in bytes.
fn written_by(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

fn gone(pid: u32) -> Failure {
    Failure::Broker(format!("process {pid} is gone"))
}

/// The parent in the text of `/proc/PID/stat`. The name of the program, in parentheses, may contain anything.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The number in the line `KEY   NUMBER kB`.
fn kib_in(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// `root` and its descendants, out of pairs of process and parent.
fn with_descendants(root: u32, all: &[(u32, u32)]) -> Vec<u32> {
    let mut family = vec![root];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(all.iter().filter(|(pid, of)| *of == parent && *pid != root).map(|(pid, _)| *pid));
        at += 1;
    }
    family
}

/// Pins the calling thread, and all that it starts from now on, to these cores.
///
/// # Errors
///
/// If the process may not run on one of them.
pub fn pin(cores: &[usize]) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    cores
        .iter()
        .try_for_each(|core| set.set(*core))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| system(&format!("cannot run on cores {cores:?}"), errno))
}

/// The cores that the calling thread may run on.
///
/// # Errors
///
/// If the kernel refuses.
pub fn cores() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|errno| system("cores", errno))?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// Allows this process, and all that it starts from now on, as many open files as the system lets it have. Gives that number.
///
/// # Errors
///
/// If the kernel refuses.
pub fn lift_open_files() -> Result<u64, Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| system("open files", errno))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|errno| system("open files", errno))?;
    Ok(hard)
}

fn system(what: &str, errno: Errno) -> Failure {
    Failure::System(format!("{what}: {errno}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_in("42 (a) R 7 (b)) S 17 42 0"), Some(17));
        assert_eq!(parent_in("42 (mosquitto) S 1 42 42 0 -1"), Some(1));
        assert_eq!(parent_in(""), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        let text = "VmHWM:\t  999 kB\nVmRSS:\t   5120 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(kib_in(text, "VmRSS:"), Some(5120));
        assert_eq!(kib_in(text, "Rss:"), None);
    }

    #[test]
    fn descendants_of_descendants_belong_to_the_tree_and_nobody_else() {
        let all = [(1, 0), (2, 1), (10, 2), (11, 10), (12, 11), (13, 1)];
        assert_eq!(with_descendants(10, &all), [10, 11, 12]);
        assert_eq!(with_descendants(0, &[(0, 0)]), [0]);
    }

    #[test]
    fn this_process_takes_time_and_memory() {
        let tree = ProcessTree(vec![std::process::id()]);
        assert!(tree.cpu().unwrap() > Duration::ZERO);
        tree.written().unwrap();
        assert!((100..=tree.peak_resident().unwrap() + 1024).contains(&tree.resident().unwrap()));
        assert!(own_cpu().unwrap() > Duration::ZERO);
        assert!(!cores().unwrap().is_empty());
    }
}
