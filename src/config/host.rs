//! Addresses as people write them: an IP address or the name of a host, and a port.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// The address that `text` means. A name is looked up, as the system does it; of several addresses that it has, the first of
/// IPv4 counts, or else the first of all. `localhost` is 127.0.0.1 without asking anybody (RFC 6761, 6.3).
///
/// # Errors
///
/// What to write instead, as the end of a sentence.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.parse::<u16>().is_ok() {
        return Err(port_only(text));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.starts_with('['))
    else {
        return Err(match text.contains(':') {
            true => format!("put the IPv6 address in brackets and the port behind it, such as \"[{text}]:1883\""),
            false => format!("add the port, such as \"{text}:1883\""),
        });
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(format!("the port is a number from 0 to 65535, not {port}"));
    };
    match host {
        "" | "*" => {
            return Err(format!(
                "write \"0.0.0.0:{port}\" for all addresses of IPv4, \"[::]:{port}\" for those of IPv6"
            ));
        }
        name if name.eq_ignore_ascii_case("localhost") => return Ok((Ipv4Addr::LOCALHOST, port).into()),
        _ => {}
    }
    let found: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => return Err(format!("{host} is not an IP address, and looking it up as a name failed: {error}")),
    };
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| format!("the name {host} has no address"))
}

/// What to write instead of a port alone.
pub(super) fn port_only(port: &str) -> String {
    format!("write \"127.0.0.1:{port}\" for this machine alone, or \"0.0.0.0:{port}\" for the network")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, address) in [
            ("127.0.0.1:1883", "127.0.0.1:1883"),
            ("[::1]:1", "[::1]:1"),
            ("localhost:0", "127.0.0.1:0"),
            ("LOCALHOST:7", "127.0.0.1:7"),
        ] {
            assert_eq!(super::address(text), Ok(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, advice) in [
            ("1883", "write \"127.0.0.1:1883\" for this machine alone, or \"0.0.0.0:1883\" for the network"),
            ("localhost", "add the port, such as \"localhost:1883\""),
            ("::1", "put the IPv6 address in brackets and the port behind it, such as \"[::1]:1883\""),
            (
                "fe80::1:1883",
                "put the IPv6 address in brackets and the port behind it, such as \"[fe80::1:1883]:1883\"",
            ),
            ("127.0.0.1:mqtt", "the port is a number from 0 to 65535, not mqtt"),
            ("127.0.0.1:70000", "the port is a number from 0 to 65535, not 70000"),
            ("*:1883", "write \"0.0.0.0:1883\" for all addresses of IPv4, \"[::]:1883\" for those of IPv6"),
            (":1883", "write \"0.0.0.0:1883\" for all addresses of IPv4, \"[::]:1883\" for those of IPv6"),
        ] {
            assert_eq!(address(text), Err(advice.to_owned()), "{text}");
        }
        // The top-level domain that never exists (RFC 6761, 6.4); what the system says differs.
        let error = address("nowhere.invalid:1883").unwrap_err();
        assert!(
            error.starts_with("nowhere.invalid is not an IP address, and looking it up as a name failed: "),
            "{error}"
        );
    }
}
