//! The hooks that come with the program: which files they read, and how.

use std::time::Duration;

use super::kinds::{Word, path};
use super::numbers::{Count, HOUR, Span};
use super::walk::settings;

settings! {
    /// Users and their passwords. Written by `moormq passwd`; files of Mosquitto and of VerneMQ are read as they are.
    pub struct PasswordFileConfig {
        /// The file, in lines `user:hash`; a relative path counts from where the broker was started. `./none` is a file
        /// of that name.
        /// Allowed: "none" or the path of a file, such as "/etc/moormq/users"; default "none".
        pub path: Option<String> = None, Word("none", path());
        /// Threads that check passwords. Each check of an Argon2id hash costs one of them some 20 ms and 19 MiB.
        /// Allowed: 1 to 64; default 2.
        pub threads: usize = 2, Count(1..=64);
        /// Passwords that may wait to be checked. Clients of one address may use as much of it as they leave free. A client
        /// for whom there is no room is refused as "unavailable".
        /// Allowed: 1 to 1000000; default 1024.
        pub max_waiting: usize = 1024, Count(1..=1_000_000);
        /// How long an attempt to log in waits at most before it is checked, after failures of its address or its user name in
        /// the last minute. The first three cost nothing, the next one 100 ms, and each that follows twice as much. It is never
        /// more than half of the time that the hook auth_on_register may take. It holds for users of scram_file, too.
        /// Allowed: a duration from "0s" to "1m"; default "2s".
        pub max_delay: Duration = Duration::from_secs(2), Span(Duration::ZERO..=Duration::from_secs(60));
    }
}

settings! {
    /// Who may publish and subscribe to what, in the format of VerneMQ: `topic`, `user`, `pattern`, and also `deny`. At a
    /// listener without it every client that may connect may publish and subscribe to everything.
    pub struct AclFileConfig {
        /// The file; a relative path counts from where the broker was started.
        /// Allowed: "none" or the path of a file, such as "/etc/moormq/users"; default "none".
        pub path: Option<String> = None, Word("none", path());
    }
}

settings! {
    /// Users of enhanced authentication with the method SCRAM-SHA-256 (MQTT 5.0 section 4.12, RFC 7677), and their keys.
    /// Written by `moormq passwd --scram`.
    pub struct ScramFileConfig {
        /// The file; a relative path counts from where the broker was started.
        /// Allowed: "none" or the path of a file, such as "/etc/moormq/users"; default "none".
        pub path: Option<String> = None, Word("none", path());
    }
}

settings! {
    /// How changes of the files of `password_file`, `acl_file` and `scram_file` are noticed. SIGHUP has all of them read
    /// at once. One that cannot be used is logged, and what was read before stays in force. What is changed holds for
    /// whoever connects, publishes or subscribes from then on.
    pub struct ReloadConfig {
        /// How often to look for changes. A file that was changed is read when it has stayed the same from one look to
        /// the next, lest it is still being written. "never" leaves it to SIGHUP.
        /// Allowed: "never" or a duration from "10ms" to "1h"; default "1s".
        pub interval: Option<Duration> = Some(Duration::from_secs(1)),
            Word("never", Span(Duration::from_millis(10)..=HOUR));
    }
}
