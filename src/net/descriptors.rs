//! The file descriptors of this process: how many it may have, and room for them.

use std::io;

use rustix::io::fcntl_dupfd_cloexec;

/// Descriptors that room is made for at most: 2 MiB of the kernel's memory.
const ROOM_MOST: usize = 256 * 1024;

/// Raises the limit of this process as far as it is allowed to. How many descriptors it may have then.
///
/// # Errors
///
/// When the system does not tell or take the limit.
pub fn raise_limit() -> io::Result<usize> {
    rlimit::increase_nofile_limit(u64::MAX).map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Has the kernel make room for `count` descriptors now, as far as that is sensible.
///
/// Left to itself it doubles the table whenever it is full and, in a process of several threads, waits for all cores before
/// it goes on: 8 to 25 ms were seen, during which a shard that accepts connections stands still.
pub fn make_room(count: usize) {
    let Some(last) = count.min(ROOM_MOST).checked_sub(1).and_then(|last| i32::try_from(last).ok()) else { return };
    let spare = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    // Whatever fails, the table grows as it always did. A duplicate with a number that high makes it grow, and is closed here.
    let _ = spare.map(|spare| fcntl_dupfd_cloexec(&spare, last));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The descriptors that the kernel has room for, as it tells itself.
    fn room() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        size.trim().parse().unwrap()
    }

    #[test]
    fn room_is_made_and_costs_no_descriptor() {
        let limit = raise_limit().unwrap();
        let wanted = limit.min(5000);
        make_room(wanted);
        assert!(room() >= wanted, "{} of {wanted}", room());
        assert!(!std::path::Path::new(&format!("/proc/self/fd/{}", wanted - 1)).exists());
        // More than is allowed does no harm.
        make_room(usize::MAX);
        make_room(0);
    }
}
