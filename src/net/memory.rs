//! The memory of this process.

use std::fs;

/// The memory that this process has in use, in bytes, without what the kernel keeps for its sockets. None without `/proc`.
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
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
}
