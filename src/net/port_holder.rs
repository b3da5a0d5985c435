//! The program that listens on an address: read from `/proc`, for a message that says what to stop.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A program that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The name of the program, as the kernel has it: 15 bytes at most.
    pub name: String,
    /// The number of its process.
    pub pid: u32,
}

/// The program that keeps `address` from being listened on. None if there is none, or if it is another user's and this one
/// may not look at its files.
pub fn holder_of(address: SocketAddr) -> Option<Holder> {
    let sockets = listening(address);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| holds(*pid, &sockets)).map(
        |pid: u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder { name: name.trim().to_owned(), pid }
        },
    )
}

/// Whether a process has one of these sockets open, by the text of its links below `/proc`.
fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)))
}

/// The sockets that listen on `address`, or on all addresses with its port, as links below `/proc` name them.
fn listening(address: SocketAddr) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let sockets = lines.filter_map(|line| {
        let (own, inode) = listener_in(line)?;
        let conflicts = own.port() == address.port()
            && (own.ip() == address.ip() || own.ip().is_unspecified() || address.ip().is_unspecified());
        conflicts.then(|| format!("socket:[{inode}]"))
    });
    sockets.collect()
}

/// The address and the inode of a listening socket in a line of `/proc/net/tcp` or `tcp6`.
fn listener_in(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, own, _, "0A", _, _, _, _, _, inode, ..] = fields[..] else { return None };
    let (ip, port) = own.split_once(':')?;
    // Each group of four bytes is a number in the order of this machine.
    let bytes: Vec<u8> = ip
        .as_bytes()
        .chunks(8)
        .map(|group| u32::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok())
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).ok()?),
    };
    Some((SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), inode.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_found_with_its_process() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            for asked in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0, 0, 0, 0], port))] {
                let holder = holder_of(asked).expect("this process holds it");
                assert_eq!(holder.pid, std::process::id(), "{address} {asked}");
                assert!(!holder.name.is_empty());
            }
            drop(listener);
            assert_eq!(holder_of(SocketAddr::from(([127, 0, 0, 1], port))), None, "nobody any more");
        }
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48213 1 0 100 0";
        let ip = Ipv4Addr::from(0x0100_007F_u32.to_ne_bytes());
        assert_eq!(listener_in(line), Some((SocketAddr::from((ip, 1883)), 48213)));
        assert_eq!(listener_in(&line.replace(" 0A ", " 01 ")), None, "a connection, no listener");
        assert_eq!(listener_in(""), None);
    }
}
