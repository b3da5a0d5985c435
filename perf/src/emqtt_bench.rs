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
use moormq::codec::QoS;

/// What it calls what it counts; older versions have more than one word for some.
const CONNECTED: &[&str] = &["connect_succ", "connected"];
const SUBSCRIBED: &[&str] = &["sub"];
const PUBLISHED: &[&str] = &["pub", "sent"];
const RECEIVED: &[&str] = &["recv"];
/// Messages that were sent later than they should have been: it does not keep up.
const OVERRUN: &[&str] = &["pub_overrun"];

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
    // Not what was published: one client can publish as often as there are clients.
    publishers.wait_for(CONNECTED, bench.publishers as f64, interrupt)?;
    subscribers.rest(timing.warm_up, interrupt)?;
    let (published, received) = (publishers.said()?.len(), subscribers.said()?.len());
    let (before, start) = (target.processes.cpu()?, Instant::now());
    subscribers.rest(timing.window.max(SHORTEST_WINDOW), interrupt)?;
    let (after, wall) = (target.processes.cpu()?, start.elapsed());
    publishers.rest(Duration::ZERO, interrupt)?;
    let rate = |text: &str, names: &[&str]| {
        rate(text, names).ok_or_else(|| {
            Failure::System(format!("emqtt_bench printed no two totals of {} in the window: {text}", names[0]))
        })
    };
    let publishing = publishers.said()?;
    Ok(BenchSample {
        wall,
        broker_cpu: after.saturating_sub(before),
        offered: bench.publishers as f64 * 1000.0 / bench.interval.max(1) as f64,
        // Versions of it count a message at QoS 0 twice, when it is handed over and when it is sent.
        published: match bench.qos {
            QoS::AtMostOnce => None,
            _ => Some(rate(&publishing[published..], PUBLISHED)?),
        },
        received: rate(&subscribers.said()?[received..], RECEIVED)?,
        overrun: total(&publishing, OVERRUN).unwrap_or(0.0) - total(&publishing[..published], OVERRUN).unwrap_or(0.0),
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

/// The rate between the first and the last total of one of `names` that were printed, by the times that stand beside them: what the tool
/// calls the rate of a line is that of the line before as often as not, and lines are left out while nothing happens.
fn rate(text: &str, names: &[&str]) -> Option<f64> {
    let totals: Vec<(f64, f64)> =
        lines_of(text, names).filter_map(|line| Some((seconds(line)?, number_after(line, "total=")?))).collect();
    let ((begin, first), (end, last)) = (totals.first()?, totals.last()?);
    (end > begin).then(|| (last - first) / (end - begin))
}

/// When a line was printed, in seconds since the start: `1m1s recv ...`, or of older versions `recv(61001): ...`.
fn seconds(line: &str) -> Option<f64> {
    let word = line.split_whitespace().next()?;
    if let Some((_, milliseconds)) = word.split_once('(') {
        return milliseconds.trim_end_matches([':', ')']).parse().ok().map(|milliseconds: f64| milliseconds / 1000.0);
    }
    let mut seconds = 0.0;
    let mut rest = word;
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
        let count: f64 = rest[..end].parse().ok()?;
        seconds += count
            * match rest.as_bytes()[end] {
                b'd' => 86_400.0,
                b'h' => 3600.0,
                b'm' => 60.0,
                b's' => 1.0,
                _ => return None,
            };
        rest = &rest[end + 1..];
    }
    rest.is_empty().then_some(seconds)
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
        assert_eq!((total(NEW, CONNECTED), total(NEW, OVERRUN)), (Some(100.0), None));
        let from = NEW.find("6s").unwrap();
        assert_eq!(rate(&NEW[from..], RECEIVED), Some(9000.0));
        assert_eq!(rate(OLD, RECEIVED), Some(10100.0));
    }

    /// Lines that were left out, and a first second that was printed late, make no other rate.
    #[test]
    fn a_rate_is_that_between_the_first_and_the_last_total() {
        let text = "58s recv total=100 rate=7.00/sec\n1m2s recv total=500 rate=300.00/sec\n1m3s pub_overrun total=4 rate=1/sec\n\
                    1h1m0s recv total=500 rate=0.00/sec\n";
        assert_eq!(rate(&text[..text.find("1h").unwrap()], RECEIVED), Some(100.0));
        assert_eq!(total(text, OVERRUN), Some(4.0));
        assert_eq!(seconds("1h1m0s recv total=5"), Some(3660.0));
    }

    #[test]
    fn what_is_not_understood_is_no_figure() {
        assert_eq!(total(NEW, PUBLISHED), None);
        assert_eq!(rate("recv total=x rate=/sec\nrecv rate=..\nsomething recv of rate=5 else", RECEIVED), None);
        assert_eq!(rate("1s recv total=5 rate=5/sec\n", RECEIVED), None, "one total is no rate");
        assert_eq!(rate("", RECEIVED), None);
    }

    #[test]
    fn its_command_line_has_one_flag_for_each_value() {
        let bench =
            Bench { publishers: 3, subscribers: 4, topic: "b/%i", qos: QoS::AtLeastOnce, payload: 64, interval: 10 };
        let processes = crate::process::ProcessTree::of(std::process::id()).unwrap();
        let target = Target {
            address: "127.0.0.1:1884".parse().unwrap(),
            processes,
            client_shards: None,
            watcher: None,
            store: None,
        };
        assert_eq!(bench.publish(&target).join(" "), "-h 127.0.0.1 -p 1884 -V 4 -c 3 -i 1 -t b/%i -q 1 -I 10 -s 64");
        assert!(bench.subscribe(&target).join(" ").contains("-c 4"));
    }
}
