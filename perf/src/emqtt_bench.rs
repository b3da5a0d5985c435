//! A round in which `emqtt_bench` makes the load, for those who know its figures. It has to be on the PATH.
//!
//! What it counts is taken from what it prints every second; the processor time of the broker is the kernel's account, as everywhere here.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::sample::BenchSample;
use crate::scenario::Bench;
use crate::target::Target;
use crate::timing::Timing;

/// What it calls what it counts; older versions have more than one word for some.
const SUBSCRIBED: &[&str] = &["sub"];
const PUBLISHED: &[&str] = &["pub", "sent"];
const RECEIVED: &[&str] = &["recv"];

/// How long its clients may take to connect and subscribe.
const OPENING_TIMEOUT: Duration = Duration::from_secs(60);

/// It prints once a second: a window must hold several lines.
const SHORTEST_WINDOW: Duration = Duration::from_secs(5);

/// How long the loop sleeps before it looks again.
const LOOK: Duration = Duration::from_millis(100);

/// Where the program is; none if it is not installed.
pub fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("emqtt_bench")).find(|program| program.is_file())
}

/// Runs one round.
///
/// # Errors
///
/// If it is not installed, ends before its time, or prints nothing that is understood.
pub fn round(bench: &Bench, target: &Target, timing: Timing, interrupt: &Interrupt) -> Result<BenchSample, Failure> {
    let program = program().ok_or_else(|| Failure::System("emqtt_bench is not on the PATH".to_owned()))?;
    let folder = Folder::new(target.address.port())?;
    let mut subscribers = folder.start(&program, "sub", &bench.subscribe(target))?;
    subscribers.wait_for(SUBSCRIBED, bench.subscribers as f64, interrupt)?;
    let mut publishers = folder.start(&program, "pub", &bench.publish(target))?;
    publishers.wait_for(PUBLISHED, bench.publishers as f64, interrupt)?;
    subscribers.rest(timing.warm_up, interrupt)?;
    let (published, received) = (publishers.said()?.len(), subscribers.said()?.len());
    let (before, start) = (target.processes.cpu()?, Instant::now());
    subscribers.rest(timing.window.max(SHORTEST_WINDOW), interrupt)?;
    let (after, wall) = (target.processes.cpu()?, start.elapsed());
    publishers.rest(Duration::ZERO, interrupt)?;
    let rate = |text: &str, names: &[&str]| {
        mean_rate(text, names)
            .ok_or_else(|| Failure::System(format!("emqtt_bench printed no rate of {}: {text}", names[0])))
    };
    Ok(BenchSample {
        wall,
        broker_cpu: after.saturating_sub(before),
        published: rate(&publishers.said()?[published..], PUBLISHED)?,
        received: rate(&subscribers.said()?[received..], RECEIVED)?,
    })
}

impl Bench {
    fn subscribe(&self, target: &Target) -> Vec<String> {
        self.arguments(target, self.subscribers)
    }

    fn publish(&self, target: &Target) -> Vec<String> {
        let mut arguments = self.arguments(target, self.publishers);
        arguments.extend(["-I".to_owned(), self.interval.to_string(), "-s".to_owned(), self.payload.to_string()]);
        arguments
    }

    fn arguments(&self, target: &Target, count: usize) -> Vec<String> {
        let pairs = [
            ("-h", target.address.ip().to_string()),
            ("-p", target.address.port().to_string()),
            ("-V", "4".to_owned()),
            ("-c", count.to_string()),
            ("-i", "1".to_owned()),
            ("-t", self.topic.to_owned()),
            ("-q", (self.qos as u8).to_string()),
        ];
        pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

/// A folder for what is printed, gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(port: u16) -> Result<Self, Failure> {
        let folder = env::temp_dir().join(format!("moormq-perf-bench-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).map_err(Failure::system(folder.display()))?;
        Ok(Folder(folder))
    }

    /// Starts it with a command, on the cores of this thread.
    fn start(&self, program: &Path, command: &str, arguments: &[String]) -> Result<Running, Failure> {
        let output = self.0.join(command);
        let failed = |error| Failure::system(program.display())(error);
        let file = File::create(&output).map_err(failed)?;
        let copy = file.try_clone().map_err(failed)?;
        let mut process = Command::new(program);
        process.arg(command).args(arguments).stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        Ok(Running { child: process.spawn().map_err(failed)?, output })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// It, at work; killed when this is dropped.
struct Running {
    child: Child,
    output: PathBuf,
}

impl Running {
    /// What it printed so far.
    fn said(&self) -> Result<String, Failure> {
        fs::read_to_string(&self.output).map_err(Failure::system(self.output.display()))
    }

    /// Waits until it has counted so many of one of `names`.
    fn wait_for(&mut self, names: &[&str], count: f64, interrupt: &Interrupt) -> Result<(), Failure> {
        let deadline = Instant::now() + OPENING_TIMEOUT;
        while total(&self.said()?, names).is_none_or(|total| total < count) {
            if Instant::now() > deadline {
                return Err(Failure::System(format!(
                    "emqtt_bench does not get to {count} of {}: {}",
                    names[0],
                    self.said()?
                )));
            }
            self.rest(LOOK, interrupt)?;
        }
        Ok(())
    }

    /// Lets it run for `duration`.
    fn rest(&mut self, duration: Duration, interrupt: &Interrupt) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        loop {
            interrupt.check()?;
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::System(format!("emqtt_bench ended ({status}): {}", self.said()?)));
            }
            if Instant::now() >= end {
                return Ok(());
            }
            thread::sleep(LOOK.min(end - Instant::now()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It leads a process group of its own: it may be a script that starts the Erlang machine. An error means that there is nobody left.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The last total of one of `names` that was printed.
fn total(text: &str, names: &[&str]) -> Option<f64> {
    lines_of(text, names).filter_map(|line| number_after(line, "total=")).next_back()
}

/// The mean of the rates of one of `names` that were printed.
fn mean_rate(text: &str, names: &[&str]) -> Option<f64> {
    let rates: Vec<f64> = lines_of(text, names).filter_map(|line| number_after(line, "rate=")).collect();
    (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)
}

/// The lines about one of `names`: `1s recv total=40 rate=39.92/sec`, or of older versions `recv(1001): total=40, rate=40(msg/sec)`. Progress is
/// printed over itself with carriage returns.
fn lines_of<'a>(text: &'a str, names: &'a [&str]) -> impl DoubleEndedIterator<Item = &'a str> {
    let about = |line: &&str| line.split([' ', '(']).take(2).any(|word| names.contains(&word));
    text.split(['\r', '\n']).filter(move |line| line.contains("total=") && about(line))
}

/// The number that follows `key`.
fn number_after(line: &str, key: &str) -> Option<f64> {
    let rest = line.split_once(key)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use moormq::codec::QoS;

    use super::*;

    const NEW: &str = "Start with 2 workers, addrs pool size: 1 and req interval: 2 ms \n\n\
                       1s sub total=98 rate=97.90/sec\r1s connect_succ total=100 rate=99.90/sec\n2s sub total=100 rate=2.00/sec\n\
                       5s publish_latency avg=1ms\n5s recv total=2 rate=0.40/sec\n6s recv total=10002 rate=10000.00/sec\n\
                       7s recv total=19002 rate=9000.00/sec\n1m1s recv_fail total=3 rate=1.00/sec\n";

    const OLD: &str = "connected: 1\rconnected: 100\n\rsub(1001): total=100, rate=100(msg/sec)\n\
                       \rrecv(2002): total=9900, rate=9900(msg/sec)\n\rrecv(3002): total=20000, rate=10100(msg/sec)\n";

    #[test]
    fn totals_and_rates_of_new_and_old_versions_are_read() {
        assert_eq!((total(NEW, SUBSCRIBED), total(NEW, RECEIVED)), (Some(100.0), Some(19002.0)));
        assert_eq!((total(OLD, SUBSCRIBED), total(OLD, RECEIVED)), (Some(100.0), Some(20000.0)));
        let from = NEW.find("6s").unwrap();
        assert_eq!(mean_rate(&NEW[from..], RECEIVED), Some(9500.0));
        assert_eq!(mean_rate(OLD, RECEIVED), Some(10000.0));
    }

    #[test]
    fn what_is_not_understood_is_no_figure() {
        assert_eq!(total(NEW, PUBLISHED), None);
        assert_eq!(mean_rate("recv total=x rate=/sec\nrecv rate=..\nsomething recv of rate=5 else", RECEIVED), None);
        assert_eq!(mean_rate("", RECEIVED), None);
    }

    #[test]
    fn its_command_line_has_one_flag_for_each_value() {
        let bench =
            Bench { publishers: 3, subscribers: 4, topic: "b/%i", qos: QoS::AtLeastOnce, payload: 64, interval: 10 };
        let processes = crate::process::ProcessTree::of(std::process::id()).unwrap();
        let target =
            Target { address: "127.0.0.1:1884".parse().unwrap(), processes, client_shards: None, watcher: None };
        assert_eq!(bench.publish(&target).join(" "), "-h 127.0.0.1 -p 1884 -V 4 -c 3 -i 1 -t b/%i -q 1 -I 10 -s 64");
        assert!(bench.subscribe(&target).join(" ").contains("-c 4"));
    }
}
