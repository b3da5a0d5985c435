//! The broker under test: the real program, a shard on each of its cores, limits lifted where a case asks for more than they allow.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

use moormq_perf_shared::under_test::{Failure, UnderTest};

/// The user that may log in, and the password.
pub const USER: (&str, &str) = ("canary", "sings");

/// How much the broker goes before what else the machine has to do, where the user may ask for it.
const NICE: &str = "-19";

/// A running broker.
pub struct Broker(UnderTest);

impl Broker {
    /// Starts `program` with a shard on each of these cores. With `logins`, clients need a password. `settings` are further ones.
    pub fn start(program: &Path, cores: &[usize], logins: bool, settings: &str) -> Result<Broker, Failure> {
        let command = if may_go_first() {
            // In a session of its own: the kernel weighs sessions against each other first.
            let mut nice = Program::new("setsid");
            nice.args(["nice", "-n", NICE]).arg(program);
            nice
        } else {
            Program::new(program)
        };
        let broker = UnderTest::start("moormq-canary", command, |port, folder| {
            let passwords = folder.join("passwords");
            if logins {
                add_user(program, &passwords)?;
            }
            Ok(configuration(port, cores, logins.then_some(&passwords), settings))
        })?;
        if may_go_first() {
            // Not every kernel has it.
            let _ = fs::write(format!("/proc/{}/autogroup", broker.pid()), NICE);
        }
        Ok(Broker(broker))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The most memory that it ever had resident, in MiB.
    pub fn peak_mib(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        Ok(peak.ok_or("the broker is gone")?.parse::<u64>()? / 1024)
    }
}

/// Whether this user may have programs go before those of others.
pub fn may_go_first() -> bool {
    Program::new("nice")
        .args(["-n", NICE, "true"])
        .stderr(Stdio::piped())
        .output()
        .is_ok_and(|done| done.stderr.is_empty())
}

fn add_user(program: &Path, file: &Path) -> Result<(), Failure> {
    let mut passwd = Program::new(program);
    passwd.arg("passwd").arg(file).arg(USER.0).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut passwd = passwd.spawn()?;
    if let Some(mut input) = passwd.stdin.take() {
        writeln!(input, "{}", USER.1)?;
    }
    if passwd.wait()?.success() { Ok(()) } else { Err("the password file cannot be written".into()) }
}

fn configuration(port: u16, cores: &[usize], passwords: Option<&PathBuf>, settings: &str) -> String {
    let who = passwords.map_or("allow_anonymous = true".to_owned(), |file| {
        format!("allow_anonymous = false\npassword_file.path = \"{}\"", file.display())
    });
    let shards = cores.len();
    let cpus = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    format!(
        r#"shards = {shards}
cpus = "{cpus}"
{who}
limits.max_subscriptions_per_client = "unlimited"
limits.max_topic_bytes_per_client = "unlimited"
{settings}

[log]
filter = "error"

[listeners.default]
address = "127.0.0.1:{port}"

[retained]
max_messages = "unlimited"
max_total_bytes = "unlimited"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_accepts_its_configuration() {
        let config =
            |passwords| moormq::config::Config::from_toml(&configuration(1883, &[0], passwords, ""), "test").unwrap();
        assert_eq!((config(None).shards, config(None).allow_anonymous), (Some(1), true));
        assert!(!config(Some(&PathBuf::from("/tmp/passwords"))).allow_anonymous);
    }
}
