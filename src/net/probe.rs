//! The check, at start, that this machine can run a broker; and the errors that say what is missing and how to get it.
//!
//! The check sets up a ring as a shard does, under the same kernel and limits. Version numbers would not do:
//! distributions port features back, and containers take them away.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use glommio::{GlommioError, LocalExecutorBuilder, Placement, ReactorErrorKind};

use super::ring::{Ring, RingSize, SetupStep};
use super::ring_wakeup::Eventfd;

/// The lowest limit on locked memory that the executor of a shard accepts, in bytes.
pub const EXECUTOR_MEMORY_LOCK: u64 = 512 * 1024;

/// The reason why the broker cannot start on this machine. The message says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// There is no io_uring: the kernel is too old or was built without it, or a sandbox hides it.
    Missing {
        /// The kernel's release.
        release: String,
    },
    /// io_uring is switched off by `kernel.io_uring_disabled`.
    Disabled {
        /// The setting: 1 (for all but the members of a group and root) or 2 (for all).
        level: u8,
    },
    /// io_uring is forbidden by a sandbox.
    Sandboxed,
    /// io_uring lacks a feature.
    TooOld {
        /// The kernel's release.
        release: String,
        /// The missing feature.
        lacks: &'static str,
    },
    /// The limit on locked memory is too low.
    MemoryLock {
        /// The present limit in bytes, if known.
        limit: Option<u64>,
    },
    /// The process, or the system, has no file descriptors left.
    Descriptors,
    /// A shard cannot be pinned to a core: the core does not exist, or the process may not use it.
    Core {
        /// The number of the core.
        cpu: usize,
        /// The error of the system.
        reason: String,
    },
    /// Any other error.
    Other {
        /// The step that failed.
        doing: &'static str,
        /// The error of the system.
        reason: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Missing { release } => write!(
                f,
                "io_uring is missing: Linux 6.1 or newer is needed, built with CONFIG_IO_URING. This is {release}. If that \
                 should do, the sandbox or container around the broker hides io_uring: permit the system calls \
                 io_uring_setup, io_uring_enter and io_uring_register"
            ),
            StartError::Disabled { level } => write!(
                f,
                "io_uring is switched off: kernel.io_uring_disabled is {level}. Set it to 0 (sysctl -w \
                 kernel.io_uring_disabled=0), or to 1 and put the broker's user into the group that \
                 kernel.io_uring_group names"
            ),
            StartError::Sandboxed => write!(
                f,
                "io_uring is forbidden to this process, as the seccomp profiles of containers often do: permit the system \
                 calls io_uring_setup, io_uring_enter and io_uring_register (docker run --security-opt \
                 seccomp=<profile>.json, systemd: SystemCallFilter=@aio)"
            ),
            StartError::TooOld { release, lacks } => {
                write!(f, "Linux {release} is too old: its io_uring lacks {lacks}. Linux 6.1 or newer is needed")
            }
            StartError::MemoryLock { limit } => {
                write!(f, "the limit on locked memory is too low for the rings of the shards")?;
                if let Some(limit) = limit {
                    write!(f, ": it is {} KiB", limit / 1024)?;
                }
                write!(
                    f,
                    ". Raise it to 8 MiB or more (ulimit -l 8192; systemd: LimitMEMLOCK=8M; docker run --ulimit \
                     memlock=8388608), or run fewer shards"
                )
            }
            StartError::Descriptors => write!(
                f,
                "no file descriptors are left: raise the limit (ulimit -n; systemd: LimitNOFILE; fs.file-max for the system)"
            ),
            StartError::Core { cpu, reason } => {
                write!(f, "cannot pin a shard to core {cpu}: {reason}. Name cores that the broker may run on")
            }
            StartError::Other { doing, reason } => write!(f, "cannot start: {doing}: {reason}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Facts about the machine that help to explain an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The kernel's release: `uname -r`.
    pub release: String,
    /// The sysctl `kernel.io_uring_disabled`, where there is one.
    pub io_uring_disabled: Option<u8>,
    /// The soft limit on locked memory in bytes, unless unlimited or unknown.
    pub memory_lock: Option<u64>,
}

impl Surroundings {
    /// The facts about this machine and process.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Surroundings {
            release: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            io_uring_disabled: text("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            memory_lock: memory_lock(&text("/proc/self/limits")),
        }
    }

    /// The reason why a step of setting up a ring failed with `error`.
    pub fn explain(&self, step: SetupStep, error: &io::Error) -> StartError {
        let release = || self.release.clone();
        match (step, error.raw_os_error()) {
            (_, Some(libc::ENOSYS)) => StartError::Missing { release: release() },
            (_, Some(libc::EPERM | libc::EACCES)) => match self.io_uring_disabled {
                Some(level @ 1..) => StartError::Disabled { level },
                _ => StartError::Sandboxed,
            },
            (_, Some(libc::ENOMEM)) => StartError::MemoryLock { limit: self.memory_lock },
            (_, Some(libc::EMFILE | libc::ENFILE)) => StartError::Descriptors,
            (SetupStep::Ring, Some(libc::EINVAL)) => {
                StartError::TooOld { release: release(), lacks: "IORING_SETUP_DEFER_TASKRUN (Linux 6.1)" }
            }
            (SetupStep::Ring, None) => StartError::TooOld {
                release: release(),
                lacks: "IORING_FEAT_NODROP or IORING_FEAT_EXT_ARG (Linux 5.11)",
            },
            (SetupStep::Buffers, Some(libc::EINVAL)) => {
                StartError::TooOld { release: release(), lacks: "IORING_REGISTER_PBUF_RING (Linux 5.19)" }
            }
            (step, _) => {
                let doing = match step {
                    SetupStep::Ring => "creating an io_uring",
                    SetupStep::Buffers => "registering receive buffers with an io_uring",
                    SetupStep::Eventfd => "registering an eventfd with an io_uring",
                    SetupStep::Enter => "entering an io_uring",
                };
                StartError::Other { doing, reason: error.to_string() }
            }
        }
    }

    /// The reason why the executor of a shard, pinned to `cpu` if given, could not be made.
    pub fn explain_executor(&self, cpu: Option<usize>, error: &GlommioError<()>) -> StartError {
        match (error, cpu) {
            (GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit, _)), _) => {
                StartError::MemoryLock { limit: Some(*limit) }
            }
            (GlommioError::IoError(error), Some(cpu)) if error.raw_os_error() == Some(libc::EINVAL) => {
                StartError::Core { cpu, reason: error.to_string() }
            }
            (GlommioError::IoError(error), _) => self.explain(SetupStep::Ring, error),
            (GlommioError::BuilderError(_), Some(cpu)) => StartError::Core { cpu, reason: error.to_string() },
            _ => StartError::Other { doing: "making the executor of a shard", reason: error.to_string() },
        }
    }
}

/// The soft limit in the text of `/proc/self/limits`.
fn memory_lock(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Sets up, on this thread, what every shard needs: a ring of this size, and an executor. Both are dropped at once.
///
/// # Errors
///
/// The first thing that is missing. The executor comes after the ring, because it ends the process where no ring works.
pub fn probe(size: RingSize) -> Result<(), StartError> {
    let surroundings = Surroundings::read();
    if let Some(limit) = surroundings.memory_lock
        && limit < EXECUTOR_MEMORY_LOCK
    {
        return Err(StartError::MemoryLock { limit: Some(limit) });
    }
    let bell = Eventfd::new().map_err(|error| surroundings.explain(SetupStep::Eventfd, &error))?;
    let ring = Ring::<Vec<u8>>::new(size, bell.as_fd());
    drop(ring.map_err(|(step, error)| surroundings.explain(step, &error))?);
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(0).make();
    executor.map(drop).map_err(|error| surroundings.explain_executor(None, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(step: SetupStep, errno: i32, surroundings: &Surroundings) -> StartError {
        surroundings.explain(step, &io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn each_missing_thing_has_its_own_error() {
        let release = || "5.15.0-generic".to_owned();
        let open = Surroundings { release: release(), io_uring_disabled: None, memory_lock: Some(65536) };
        let off = Surroundings { io_uring_disabled: Some(2), ..open.clone() };
        let on = Surroundings { io_uring_disabled: Some(0), ..open.clone() };
        assert_eq!(explain(SetupStep::Ring, libc::ENOSYS, &open), StartError::Missing { release: release() });
        assert_eq!(explain(SetupStep::Ring, libc::EPERM, &off), StartError::Disabled { level: 2 });
        assert_eq!(explain(SetupStep::Ring, libc::EPERM, &on), StartError::Sandboxed);
        assert_eq!(explain(SetupStep::Ring, libc::EACCES, &open), StartError::Sandboxed);
        assert_eq!(explain(SetupStep::Buffers, libc::ENOMEM, &on), StartError::MemoryLock { limit: Some(65536) });
        assert_eq!(explain(SetupStep::Eventfd, libc::EMFILE, &on), StartError::Descriptors);
        for (step, feature) in [(SetupStep::Ring, "DEFER_TASKRUN"), (SetupStep::Buffers, "PBUF_RING")] {
            let StartError::TooOld { lacks, .. } = explain(step, libc::EINVAL, &on) else { panic!("not too old") };
            assert!(lacks.contains(feature));
        }
        let lacking = on.explain(SetupStep::Ring, &io::ErrorKind::Unsupported.into());
        assert!(matches!(lacking, StartError::TooOld { lacks, .. } if lacks.contains("NODROP")));
        assert!(matches!(explain(SetupStep::Eventfd, libc::EINVAL, &on), StartError::Other { .. }));
    }

    #[test]
    fn errors_of_the_executor_are_explained() {
        let here = Surroundings::default();
        let too_low = GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(65536, 524_288));
        assert_eq!(here.explain_executor(Some(1), &too_low), StartError::MemoryLock { limit: Some(65536) });
        let no_core = LocalExecutorBuilder::new(Placement::Fixed(100_000)).make().unwrap_err();
        assert!(matches!(here.explain_executor(Some(100_000), &no_core), StartError::Core { cpu: 100_000, .. }));
    }

    #[test]
    fn messages_name_the_remedy() {
        let message = StartError::MemoryLock { limit: Some(65536) }.to_string();
        assert!(message.contains("64 KiB") && message.contains("LimitMEMLOCK"), "{message}");
        assert!(StartError::Disabled { level: 1 }.to_string().contains("kernel.io_uring_disabled is 1"));
        assert!(StartError::Sandboxed.to_string().contains("seccomp"));
    }

    #[test]
    fn the_limit_on_locked_memory_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max locked memory         8388608              unlimited            bytes\n";
        assert_eq!(memory_lock(limits), Some(8_388_608));
        assert_eq!(memory_lock(&limits.replace("8388608", "unlimited")), None);
        assert_eq!(memory_lock(""), None);
    }

    #[test]
    fn this_machine_will_do() {
        let size = RingSize { submissions: 64, completions: 256, buffers: 16, buffer_bytes: 4096 };
        assert_eq!(probe(size), Ok(()));
        assert!(!Surroundings::read().release.is_empty());
    }
}
