//! The file descriptors of this process: their limit, and the kernel's table of them.

use std::io;

use rustix::io::fcntl_dupfd_cloexec;

/// The largest table that [`make_room`] asks for, in descriptors: 2 MiB of the kernel's memory.
const ROOM_MOST: usize = 256 * 1024;

/// Raises the limit on descriptors of this process as far as permitted. Returns the new limit.
///
/// # Errors
///
/// The system does not give the limit, or does not accept the new one.
pub fn raise_limit() -> io::Result<usize> {
    rlimit::increase_nofile_limit(u64::MAX).map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Makes the kernel enlarge its table to `count` descriptors now, but not beyond 256 Ki.
///
/// Otherwise the kernel doubles the table whenever it is full. In a process of several threads it then waits for all
/// cores: 8 to 25 ms were measured, in which a shard that accepts connections stands still.
pub fn make_room(count: usize) {
    let Some(last) = count.min(ROOM_MOST).checked_sub(1).and_then(|last| i32::try_from(last).ok()) else { return };
    let spare = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    // A duplicate with the highest number makes the table grow; it is closed here. If anything fails, the table grows
    // later.
    let _ = spare.map(|spare| fcntl_dupfd_cloexec(&spare, last));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the kernel's table, in descriptors.
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
