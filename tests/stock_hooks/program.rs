//! The program under test, in a directory of its own, and the clients of Mosquitto.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory, for configuration and files.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file there, or another one in its place.
    pub fn write(&self, name: &str, text: &str) {
        let draft = self.path("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `moormq` with these arguments, in this directory, and with this standard input.
    pub fn run(&self, args: &[&str], input: &str) -> Output {
        run(Command::new(env!("CARGO_BIN_EXE_moormq")).args(args).current_dir(self.0.path()), input)
    }

    /// `moormq passwd`, which must work.
    pub fn passwd(&self, args: &[&str], password: &str) -> String {
        let output = self.run(&[&["passwd"], args].concat(), &format!("{password}\n"));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `mosquitto_passwd`, which must work.
    pub fn mosquitto_passwd(&self, args: &[&str]) {
        let output = run(Command::new("mosquitto_passwd").args(args).current_dir(self.0.path()), "");
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts a broker with this configuration and what every test wants: any free port, two shards, a log to read, and
    /// all the time that a password takes on a busy machine.
    pub fn start(self, config: &str) -> Program {
        let common = "shards = 2\nlog.format = 'json'\nlisteners.default.address = '127.0.0.1:0'";
        self.write("moormq.toml", &format!("{common}\nhooks.later_deadline = '1m'\n{config}"));
        Program::start(self)
    }
}

fn run(command: &mut Command, input: &str) -> Output {
    let name = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", name.display()));
    // One that ends without reading its input is none the worse for it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// A running broker.
pub struct Program {
    pub place: Place,
    child: Child,
    log: Receiver<String>,
    addresses: Vec<(String, SocketAddr)>,
}

impl Program {
    fn start(place: Place) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_moormq"))
            .args(["--config", "moormq.toml"])
            .current_dir(place.0.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut program = Program { place, child, log, addresses: Vec::new() };
        let listeners = 1 + program.place.read("moormq.toml").matches("\n[listeners.").count();
        for _ in 0..listeners {
            let line = program.wait_for("\"message\":\"listening\"");
            let field = |name: &str| {
                let start = line.find(&format!("\"{name}\":\"")).expect("a field") + name.len() + 4;
                line[start..].split('"').next().expect("a value").to_owned()
            };
            program.addresses.push((field("listener"), field("address").parse().unwrap()));
        }
        program
    }

    /// The first line logged from now on, or not yet waited for, that has `text` in it.
    pub fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{text} was not logged"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Where the default listener listens.
    pub fn address(&self) -> SocketAddr {
        self.address_of("default")
    }

    pub fn address_of(&self, listener: &str) -> SocketAddr {
        let found = self.addresses.iter().find(|(name, _)| name == listener);
        found.unwrap_or_else(|| panic!("no listener {listener}")).1
    }

    /// The memory that it has of the system's, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends a signal.
    pub fn kill(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Whether a client with these options may connect to `address`, and publish to `unused`; otherwise the error.
    pub fn connect(&self, address: SocketAddr, options: &[&str]) -> Result<(), String> {
        let output = mosquitto("mosquitto_pub", address, &[options, &["-t", "unused", "-m", "x"]].concat());
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Whether a client with these options, MQTT 5.0, may publish to `topic`.
    pub fn may_publish(&self, options: &[&str], topic: &str) -> bool {
        let options = [&["-V", "5", "-q", "1", "-d", "-m", "x", "-t", topic], options].concat();
        let output = mosquitto("mosquitto_pub", self.address(), &options);
        let text = String::from_utf8_lossy(&output.stdout);
        let code = text.split("received PUBACK (Mid: 1, RC:").nth(1).and_then(|rest| rest.split(')').next());
        match code.unwrap_or_else(|| panic!("no PUBACK: {output:?}")) {
            "0" | "16" => true,
            "135" => false,
            other => panic!("PUBACK with {other}"),
        }
    }

    /// The codes of the SUBACK for a client with these options, MQTT 5.0.
    pub fn subscribe(&self, options: &[&str], filters: &[&str]) -> Vec<u8> {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["-t", filter]).collect();
        let output =
            mosquitto("mosquitto_sub", self.address(), &[&["-V", "5", "-E", "-d"], options, &filters].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let codes = text.split("Subscribed (mid: 1): ").nth(1).and_then(|rest| rest.lines().next());
        let codes = codes.unwrap_or_else(|| panic!("no SUBACK: {output:?}"));
        codes.split(", ").map(|code| code.parse().unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already: the test checks that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mosquitto(client: &str, address: SocketAddr, options: &[&str]) -> Output {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    run(Command::new(client).args(["-h", &host, "-p", &port]).args(options), "")
}
