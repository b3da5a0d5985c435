//! Configurations of other brokers, which are given to this one by mistake: what they look like, and what to do then.

/// What to do with the file of another broker.
const INSTEAD: &str = "moormq reads TOML: `moormq print-config > moormq.toml` writes a file with every setting, to which the \
                       values have to be taken over";

/// Words with which settings of Mosquitto begin, one setting a line, behind it a space and its value.
const MOSQUITTO: &[&str] = &[
    "acl_file",
    "allow_anonymous",
    "allow_zero_length_clientid",
    "autosave_interval",
    "bind_address",
    "bind_interface",
    "cafile",
    "capath",
    "certfile",
    "connection_messages",
    "include_dir",
    "keyfile",
    "listener",
    "log_dest",
    "log_timestamp",
    "log_type",
    "max_connections",
    "max_inflight_messages",
    "max_keepalive",
    "max_packet_size",
    "max_queued_messages",
    "message_size_limit",
    "password_file",
    "per_listener_settings",
    "persistence",
    "persistence_file",
    "persistence_location",
    "persistent_client_expiration",
    "pid_file",
    "plugin",
    "port",
    "protocol",
    "queue_qos0_messages",
    "require_certificate",
    "retain_available",
    "set_tcp_nodelay",
    "socket_domain",
    "sys_interval",
    "use_identity_as_username",
    "use_username_as_clientid",
    "user",
    "websockets_log_level",
];

/// Words with which settings of VerneMQ begin that TOML has no use for, an equals sign behind them.
const VERNEMQ: &[&str] = &[
    "listener.tcp.",
    "listener.ssl.",
    "listener.ws.",
    "plugins.",
    "vmq_",
    "nodename",
    "distributed_cookie",
    "erlang.",
];

/// Whose configuration `text` seems to be, which is not TOML: what is to be said then, and on which line it shows.
pub(super) fn hint(text: &str) -> Option<(String, usize)> {
    let lines =
        || (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let of_mosquitto = |line: &str| {
        let (word, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        MOSQUITTO.contains(&word) && !value.trim_start().starts_with('=')
    };
    let of_vernemq = |line: &str| line.contains('=') && VERNEMQ.iter().any(|word| line.starts_with(word));
    let found = |is_theirs: &dyn Fn(&str) -> bool| lines().find(|(_, line)| is_theirs(line));
    if let Some((number, line)) = found(&of_mosquitto) {
        let users = "its password and access files can be read as they are (password_file.path, acl_file.path)";
        return Some((format!("looks like a configuration of Mosquitto (`{line}`). {INSTEAD}; {users}"), number));
    }
    let (number, line) = found(&of_vernemq)?;
    Some((format!("looks like a configuration of VerneMQ (`{line}`). {INSTEAD}"), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_brokers_are_known_by_their_settings() {
        let mosquitto =
            "# Place your local configuration in /etc/mosquitto/conf.d/\n\npersistence true\nlistener 1883\n";
        let (said, line) = hint(mosquitto).expect("it is known");
        assert!(said.contains("Mosquitto (`persistence true`)") && said.contains("print-config"), "{said}");
        assert_eq!(line, 3);
        let (said, line) = hint("allow_anonymous = on\nlistener.tcp.default = 127.0.0.1:1883\n").expect("it is known");
        assert!(said.contains("VerneMQ (`listener.tcp.default") && line == 2, "{said}");
    }

    #[test]
    fn mistakes_in_toml_are_no_other_configuration() {
        for text in ["shards = ", "allow_anonymous = yes", "max_connections=\n", "[log]\nfilter = info", "hello world"]
        {
            assert_eq!(hint(text), None, "{text}");
        }
    }
}
