//! The broker under test: the real program, one shard on a core of its own, limits lifted where a case asks for more than they allow.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// The user that may log in, and the password.
pub const USER: (&str, &str) = ("canary", "sings");

/// How long the broker may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How much the broker goes before what else the machine has to do, where the user may ask for it.
const NICE: &str = "-19";

/// A running broker; it is killed when this is dropped.
pub struct Broker {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Broker {
    /// Starts `program` on a free port with its shard on `core`, and waits until it listens. With `logins`, clients need a password.
    /// `settings` are further ones.
    pub fn start(program: &Path, core: usize, logins: bool, settings: &str) -> Result<Broker, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("moormq-canary-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let passwords = folder.join("passwords");
        if logins {
            add_user(program, &passwords)?;
        }
        let config = folder.join("moormq.toml");
        fs::write(&config, configuration(port, core, logins.then_some(&passwords), settings))?;
        let log = File::create(folder.join("log"))?;
        let mut command = if may_go_first() {
            // In a session of its own: the kernel weighs sessions against each other first.
            let mut nice = Program::new("setsid");
            nice.args(["nice", "-n", NICE]).arg(program);
            nice
        } else {
            Program::new(program)
        };
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut broker = Broker { child, folder, address: (Ipv4Addr::LOCALHOST, port).into() };
        broker.wait_until_ready()?;
        if may_go_first() {
            // Not every kernel has it.
            let _ = fs::write(format!("/proc/{}/autogroup", broker.pid()), NICE);
        }
        Ok(broker)
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait()?.map(|status| format!("ended with {status}"));
            let late = (start.elapsed() > START_TIMEOUT).then(|| "does not listen".to_owned());
            if let Some(problem) = ended.or(late) {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("the broker {problem}: {log}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had resident, in MiB.
    pub fn peak_mib(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        Ok(peak.ok_or("the broker is gone")?.parse::<u64>()? / 1024)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
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

/// What the program says about its version.
pub fn version(program: &Path) -> String {
    let output = Program::new(program).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
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

fn configuration(port: u16, core: usize, passwords: Option<&PathBuf>, settings: &str) -> String {
    let who = passwords.map_or("allow_anonymous = true".to_owned(), |file| {
        format!("allow_anonymous = false\npassword_file.path = \"{}\"", file.display())
    });
    format!(
        r#"shards = 1
cpus = "{core}"
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
            |passwords| moormq::config::Config::from_toml(&configuration(1883, 0, passwords, ""), "test").unwrap();
        assert_eq!((config(None).shards, config(None).allow_anonymous), (Some(1), true));
        assert!(!config(Some(&PathBuf::from("/tmp/passwords"))).allow_anonymous);
    }
}
