//! The broker under test, for programs that start the real one and measure it: where it is, how it runs, and what a report says of both.

use std::error::Error;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Any failure; it ends the measurement.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How long the broker may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running broker; it is killed when this is dropped.
pub struct UnderTest {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl UnderTest {
    /// Starts it on a free port, in a folder of its own that is named for `measurement`, and waits until it listens. `configure` gets port and
    /// folder, and gives the configuration; `command` is the program, without arguments.
    pub fn start(
        measurement: &str,
        command: Command,
        configure: impl FnOnce(u16, &Path) -> Result<String, Failure>,
    ) -> Result<Self, Failure> {
        Self::start_with(measurement, command, "--config", configure)
    }

    /// The same with another broker, which has another flag for the file with its configuration.
    pub fn start_with(
        measurement: &str,
        mut command: Command,
        flag: &str,
        configure: impl FnOnce(u16, &Path) -> Result<String, Failure>,
    ) -> Result<Self, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("{measurement}-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("moormq.toml");
        fs::write(&config, configure(port, &folder)?)?;
        let log = File::create(folder.join("log"))?;
        command.arg(flag).arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let mut broker = UnderTest { child, folder, address: (Ipv4Addr::LOCALHOST, port).into() };
        let address = broker.address;
        broker.wait_until(|_| TcpStream::connect(address).is_ok())?;
        Ok(broker)
    }

    /// Ends it with SIGKILL. What it has in its folder stays.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`kill`](Self::kill), with the same configuration, and does not wait until it listens.
    pub fn start_again(&mut self, mut command: Command) -> Result<(), Failure> {
        let log = File::options().append(true).open(self.folder.join("log"))?;
        command.arg("--config").arg(self.folder.join("moormq.toml"));
        self.child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(())
    }

    /// A figure of `/proc/PID/status`, such as "VmRSS:", in KiB; 0 if there is none.
    pub fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let figure = status.lines().find_map(|line| line.strip_prefix(key));
        figure.and_then(|figure| figure.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
    }

    /// Waits for something that is there when it has started. What that is may lie in its folder.
    pub fn wait_until(&mut self, is_there: impl Fn(&Path) -> bool) -> Result<(), Failure> {
        let start = Instant::now();
        while !is_there(&self.folder) {
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

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for UnderTest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The program: as it was named, or else the one that lies beside this program.
pub fn program(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("moormq"));
    named.map_or_else(beside, |named| Ok(named.to_owned()))
}

/// What the program says about its version.
pub fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Where and when it was measured, in a line.
pub fn machine(version: &str) -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    format!("{version}; {model}, {cores} cores; Linux {}; {date}; load average at the end {load}.", kernel.trim())
}

/// Allows this process, and the brokers it starts, so many open files, or as many as the system lets it have if that is more; or as it lets
/// it have at all, since only some users may have more than the hard limit. Gives that number.
pub fn lift_open_files(wanted: u64) -> Result<u64, Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.max(wanted);
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
