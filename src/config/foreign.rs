//! Configuration files of other brokers, given by mistake: recognised, so that nobody has to guess from errors of TOML.

use super::error::ConfigError;

/// First words of lines of a `mosquitto.conf`, which has no `=`.
const MOSQUITTO: [&str; 18] = [
    "acl_file",
    "allow_anonymous",
    "autosave_interval",
    "bind_address",
    "cafile",
    "certfile",
    "connection",
    "include_dir",
    "keyfile",
    "listener",
    "log_dest",
    "log_type",
    "max_keepalive",
    "password_file",
    "per_listener_settings",
    "persistence",
    "pid_file",
    "port",
];

/// How lines of other configurations begin, and whose they are.
const OTHERS: [(&str, &str); 5] = [
    ("listener.tcp.", "VerneMQ"),
    ("listener.ssl.", "VerneMQ"),
    ("plugins.vmq_", "VerneMQ"),
    ("listeners.tcp.default.bind", "EMQX"),
    ("<hivemq", "HiveMQ"),
];

/// The error for the configuration of another broker; none if `text` is none that is known. `is_faulty`: it is not TOML.
pub(super) fn recognised(text: &str, is_faulty: bool) -> Option<ConfigError> {
    if !is_faulty {
        return None;
    }
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let is_mosquitto = MOSQUITTO.contains(&first) && second.is_some_and(|second| !second.starts_with('='));
        let other = OTHERS.iter().find(|(start, _)| line.starts_with(start)).map(|(_, whose)| *whose);
        if let Some(whose) = other.or(is_mosquitto.then_some("Mosquitto")) {
            let problem = format!(
                "this looks like a configuration of {whose}: moormq has its own, in TOML. `moormq print-config` prints one to \
                 start from; files of passwords and of access rules can be taken over as they are"
            );
            return Some(ConfigError::new("", problem).on_line(Some(at + 1)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_others_are_recognised() {
        let whose = |text| recognised(text, true).map(|error| (error.line, error.problem));
        for (text, line, name) in [
            ("# Default listener\nlistener 1883\nallow_anonymous true\n", 2, "Mosquitto"),
            ("persistence true", 1, "Mosquitto"),
            ("allow_anonymous = off\nlistener.tcp.default = 127.0.0.1:1883\n", 2, "VerneMQ"),
            ("listeners.tcp.default.bind = 0.0.0.0:1883", 1, "EMQX"),
        ] {
            let (at, problem) = whose(text).expect(text);
            assert!(at == Some(line) && problem.contains(name), "{text}: {problem}");
        }
        assert_eq!(whose("[listeners.default]\naddress = 127.0.0.1:1883\n"), None);
        assert_eq!(whose("allow_anonymous = yes\n"), None);
        assert_eq!(recognised("listener 1883", false), None, "what is TOML is ours");
    }
}
