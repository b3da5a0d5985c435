//! The memory of this process: how much it has in use, how much it may hold, and how near it is to that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Limit, LimitsConfig};
use crate::memory::{MemoryHeld, MemoryStage};
use crate::time::Time;

/// How often a shard adds up what all of them hold.
const LOOK: Duration = Duration::from_millis(10);
/// The part of the memory there is, in hundredths, that the broker takes if nothing is set. The rest is for what it does not
/// count: what an allocator cannot use, stacks, the program, and the kernel's buffers of sockets.
const SHARE: u64 = 70;

/// How near the process is to the memory that it may hold, as one shard sees it.
pub(super) struct MemoryBudget {
    most: Limit,
    /// The shard that it is for. The first one writes to the log.
    shard: usize,
    stage: MemoryStage,
    next_look: Time,
}

impl MemoryBudget {
    /// Nothing is held.
    pub fn new(most: Limit, shard: usize) -> Self {
        MemoryBudget { most, shard, stage: MemoryStage::Normal, next_look: Time::ZERO }
    }

    /// The stage, if it is another one than before. Adds up what is held, if it has not done so lately.
    pub fn look(&mut self, now: Time) -> Option<MemoryStage> {
        let most = self.most.get()?;
        if now < self.next_look {
            return None;
        }
        self.next_look = now + LOOK;
        let held = MemoryHeld::in_process().total();
        let stage = self.stage.next(held, most);
        if stage == self.stage {
            return None;
        }
        self.stage = stage;
        if self.shard == 0 {
            match stage {
                MemoryStage::Normal => tracing::info!(held, most, "memory: there is enough again"),
                MemoryStage::RetainedFull => tracing::warn!(held, most, "memory: nothing more is retained"),
                MemoryStage::PublishersHeld => tracing::warn!(held, most, "memory: publishers are held"),
                MemoryStage::Full => tracing::warn!(held, most, "memory: publishers are held, new clients are refused"),
            }
        }
        Some(stage)
    }

    /// When to look again, whether or not anything happens.
    pub fn next_deadline(&self) -> Time {
        if self.stage == MemoryStage::Normal { Time::NEVER } else { self.next_look }
    }
}

/// The memory that a broker with these limits may hold on this machine.
pub fn max_memory(limits: &LimitsConfig) -> Limit {
    limits.max_memory.unwrap_or_else(|| share_of(available(Path::new("/"))))
}

fn share_of(available: Option<u64>) -> Limit {
    let share = available.map(|bytes| (bytes / 100 * SHARE) as usize);
    share.map_or(Limit::UNLIMITED, Limit::at_most)
}

/// The memory that there is for this process, in bytes: that of the machine, or of the control groups that it is in, whichever has
/// least. None if the system does not say. `root` is where its files are.
fn available(root: &Path) -> Option<u64> {
    let machine = of_machine(&root.join("proc/meminfo"));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| {
        // A number, the controllers, the path: none are named in version 2.
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (folder, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            of if of.split(',').any(|name| name == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        of_group(&root.join(folder), path, file)
    });
    groups.chain(machine).min()
}

/// The least of what a control group and those above it allow. In a container the path may be that of the host, and the group at the top.
fn of_group(folder: &Path, path: &str, file: &str) -> Option<u64> {
    let own: PathBuf = folder.join(path.trim_start_matches('/'));
    let above = own.ancestors().take_while(|above| above.starts_with(folder));
    let limit = |group: &Path| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok();
    above.filter_map(limit).min()
}

fn of_machine(meminfo: &Path) -> Option<u64> {
    let text = fs::read_to_string(meminfo).ok()?;
    kibibytes(text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?)
}

fn kibibytes(text: &str) -> Option<u64> {
    let kibibytes: u64 = text.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The memory that this process has in use, in bytes, without what the kernel keeps for its sockets. None without `/proc`.
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_resident() {
        let before = resident().expect("there is /proc");
        let used = vec![1_u8; 64 * 1024 * 1024];
        let after = resident().expect("there is /proc");
        // Other tests may give some back at the same time.
        assert!(before > 0 && after > 32 * 1024 * 1024, "{before}, {after} with {}", used.len());
    }

    /// A machine with these files, and the memory it seems to have.
    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        available(root.path())
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:        1000 kB\nMemFree:  1 kB\n");

    #[test]
    fn the_machine_or_a_control_group_says_how_much_there_is() {
        assert_eq!((machine(&[]), share_of(None)), (None, Limit::UNLIMITED));
        assert_eq!((machine(&[MACHINE]), share_of(Some(1000))), (Some(1_024_000), Limit::at_most(700)));
        let (second, group) = (("proc/self/cgroup", "0::/a/b\n"), "sys/fs/cgroup/a/memory.max");
        assert_eq!(machine(&[MACHINE, second, (group, "5000\n")]), Some(5000), "the one above");
        let own = ("sys/fs/cgroup/a/b/memory.max", "3000\n");
        assert_eq!(machine(&[MACHINE, second, (group, "5000\n"), own]), Some(3000));
        assert_eq!(machine(&[MACHINE, second, (group, "max\n"), own]), Some(3000));
        assert_eq!(machine(&[MACHINE, second, (group, "max\n")]), Some(1_024_000));
        assert_eq!(machine(&[MACHINE, second, (group, "5000000\n")]), Some(1_024_000), "more than there is");
        let first = ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/id\n");
        let [other, top] = ["memory/other", "memory"].map(|of| format!("sys/fs/cgroup/{of}/memory.limit_in_bytes"));
        assert_eq!(machine(&[MACHINE, first, (&other, "7\n"), (&top, "9000\n")]), Some(9000), "in a container");
    }

    #[test]
    fn a_budget_without_limit_says_nothing_and_one_that_is_used_up_looks_again() {
        let at = Time::from_millis;
        let mut unlimited = MemoryBudget::new(Limit::UNLIMITED, 1);
        assert_eq!((unlimited.look(at(0)), unlimited.next_deadline()), (None, Time::NEVER));
        let mut budget = MemoryBudget::new(Limit::at_most(1), 1);
        let message = crate::memory::Held::<0>::new(1 << 20);
        assert_eq!((budget.look(at(0)), budget.next_deadline()), (Some(MemoryStage::Full), at(10)));
        budget.most = Limit::at_most(usize::MAX / 2);
        assert_eq!((budget.look(at(9)), budget.look(at(10))), (None, Some(MemoryStage::Normal)));
        assert_eq!((budget.look(at(20)), budget.next_deadline()), (None, Time::NEVER));
        drop(message);
    }
}
