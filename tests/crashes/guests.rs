//! Clients of other people, which outlive the broker and come back by themselves: paho-mqtt in Python, mosquitto_sub and mosquitto_pub.
//!
//! mosquitto_sub is at QoS 1 only, because it forgets with its connection what it has received at QoS 2; what paho publishes at QoS 2 may come twice, because
//! it forgets that PUBREC has come when it cannot connect again at once. Each mosquitto_pub publishes one message, and
//! has been acknowledged if it ends well.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use fastrand::Rng;
use moormq::codec::QoS;

use crate::message::{Kind, Mark, Sent, TOPICS};
use crate::publisher::Log;
use crate::round::{Common, Phase, Round};
use crate::subscriber::{Tally, count};

/// The environment variable that names a Python with paho-mqtt.
pub const PYTHON: &str = "MOORMQ_TEST_PYTHON";
/// What looks at its processes does so at most this often.
const LOOK: Duration = Duration::from_millis(2);
/// So often it may end in a round.
const MOST_ENDS: u32 = 3;
/// Whoever has not subscribed by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program whose lines are read.
struct Program {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot run {name} (tests/run installs it): {error}"));
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (to, lines) = channel();
        // It ends with the program's output, or when nobody reads any more.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Program { child, stdin, lines }
    }

    /// The next line, if there is one; an error if it has ended.
    fn line(&self) -> Result<Option<String>, String> {
        match self.lines.try_recv() {
            Ok(line) => Ok(Some(line)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err("it has ended".to_owned()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(script: &str) -> Command {
    let python = std::env::var_os(PYTHON)
        .unwrap_or_else(|| panic!("{PYTHON} is not set: run the tests with tests/run, which installs what they need"));
    let mut command = Command::new(python);
    // Nothing is left beside the scripts.
    command.args(["-u", "-B"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crashes/python").join(script));
    command
}

/// Subscribes to all plain messages.
pub struct GuestSubscriber {
    command: Command,
    /// None before there is a broker: not all try again to connect the first time.
    program: Option<Program>,
}

impl GuestSubscriber {
    /// paho of this version of MQTT (4 is 3.1.1), at QoS 2.
    pub fn paho(port: u16, version: &str, name: &str) -> Self {
        let mut command = python("guest_subscriber.py");
        command.args([&port.to_string(), version, name, &format!("{}/#", Kind::Plain.letter())]);
        GuestSubscriber { command, program: None }
    }

    /// mosquitto_sub, at QoS 1.
    pub fn mosquitto(port: u16, version: &str, name: &str) -> Self {
        let mut command = Command::new("stdbuf");
        let filter = format!("{}/#", Kind::Plain.letter());
        command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &port.to_string(), "-V", version, "-i", name]);
        command.args(["-c", "-d", "-k", "600", "-q", "1", "-t", &filter, "-F", "got %x %t"]);
        if version == "mqttv5" {
            command.args(["-x", "86400"]);
        }
        GuestSubscriber { command, program: None }
    }

    /// Counts what it says until the broker is killed or all is told to leave.
    pub fn run(&mut self, round: Round<'_>, tally: &Mutex<Tally>) {
        let began = Instant::now();
        if !tally.lock().expect("nobody panics").is_subscribed() {
            self.program = None;
        }
        let mut ended = 0;
        loop {
            let program = self.program.get_or_insert_with(|| Program::start(&mut self.command));
            let phase = round.common.phase();
            loop {
                match program.line() {
                    Ok(Some(line)) => heard(&line, &mut tally.lock().expect("nobody panics"), round.common),
                    Ok(None) => break,
                    // mosquitto_sub ends when a broker that stops has told it so, or is not there when it is started.
                    Err(_) if ended < MOST_ENDS => {
                        ended += 1;
                        self.program = None;
                        break;
                    }
                    Err(error) => {
                        let who = &tally.lock().expect("nobody panics").client_id;
                        return round.common.fault(format!("{who}: {error}"));
                    }
                }
            }
            if matches!(phase, Phase::Killed | Phase::Leave) {
                return;
            }
            let tally = tally.lock().expect("nobody panics");
            if phase == Phase::Drain && !tally.is_subscribed() && began.elapsed() > PATIENCE {
                return round.common.fault(format!("{}: it does not subscribe", tally.client_id));
            }
            drop(tally);
            sleep(LOOK);
        }
    }
}

fn heard(line: &str, tally: &mut Tally, common: &Common) {
    if line == "ready" || line.starts_with("Subscribed") {
        tally.granted(0, common);
    }
    if line == "lost its session" {
        common.fault(format!("{}: {line}", tally.client_id));
    }
    let Some((payload, topic)) = line.strip_prefix("got ").and_then(|rest| rest.split_once(' ')) else { return };
    match bytes(payload).and_then(|payload| Mark::of(&payload)) {
        Some(mark) => {
            tally.total += 1;
            count(tally, mark, topic, true, "", common);
        }
        None => common.fault(format!("{}: a spoilt payload: {line}", tally.client_id)),
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

/// Publishes to plain topics.
pub struct GuestPublisher {
    index: u16,
    make: Make,
    /// Messages that are not acknowledged.
    pending: BTreeSet<u32>,
    rng: Rng,
}

enum Make {
    Paho(Program),
    /// Which version.
    Mosquitto(&'static str),
}

impl GuestPublisher {
    /// paho of this version of MQTT.
    pub fn paho(port: u16, version: &str, index: u16, rng: Rng) -> Self {
        let name = format!("guest-publisher-{index}");
        let mut command = python("guest_publisher.py");
        command.args([&port.to_string(), version, &name, &index.to_string()]);
        GuestPublisher { index, make: Make::Paho(Program::start(&mut command)), pending: BTreeSet::new(), rng }
    }

    /// mosquitto_pub of this version of MQTT.
    pub fn mosquitto(version: &'static str, index: u16, rng: Rng) -> Self {
        GuestPublisher { index, make: Make::Mosquitto(version), pending: BTreeSet::new(), rng }
    }

    /// Publishes until the broker is killed or all is told to leave.
    pub fn run(&mut self, round: Round<'_>, log: &Mutex<Log>) {
        loop {
            let phase = round.common.phase();
            if matches!(phase, Phase::Killed | Phase::Leave) {
                return;
            }
            match self.act(phase, round, log) {
                Ok(()) => {}
                Err(error) => return round.common.fault(format!("guest publisher {}: {error}", self.index)),
            }
            log.lock().expect("nobody panics").is_busy = !self.pending.is_empty();
        }
    }

    fn act(&mut self, phase: Phase, round: Round<'_>, log: &Mutex<Log>) -> Result<(), String> {
        match &mut self.make {
            Make::Mosquitto(version) => {
                let version = *version;
                if phase == Phase::Load {
                    self.publish_once(version, round, log)?;
                }
                sleep(Duration::from_millis(self.rng.u64(1..100)));
            }
            Make::Paho(program) => {
                while let Some(line) = program.line()? {
                    let number = line.strip_prefix("acked ").and_then(|number| number.parse().ok());
                    let Some(number) = number.filter(|number| self.pending.remove(number)) else {
                        return Err(line);
                    };
                    acked(number, round.common, log);
                }
                if phase == Phase::Load && self.pending.len() < 20 {
                    let (number, sent) = begin(&mut self.rng, round.common, log);
                    self.pending.insert(number);
                    let length = self.rng.usize(..3000);
                    let order = format!("{number} {} {} {length}\n", sent.qos as u8, topic(self.index, &sent));
                    program.stdin.write_all(order.as_bytes()).map_err(|error| error.to_string())?;
                }
                sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Runs one mosquitto_pub, until the broker is killed at most.
    fn publish_once(&mut self, version: &str, round: Round<'_>, log: &Mutex<Log>) -> Result<(), String> {
        let (number, sent) = begin(&mut self.rng, round.common, log);
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &round.address.port().to_string(), "-V", version, "-s"]);
        command.args(["-i", &format!("guest-publisher-{}", self.index), "-q", &(sent.qos as u8).to_string()]);
        command.args(["-t", &topic(self.index, &sent)]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("mosquitto_pub: {error}"))?;
        let payload = Mark { publisher: self.index, number, qos: sent.qos }.payload(self.rng.usize(..3000), true);
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may not be able to connect, and end before it reads.
        let _ = stdin.write_all(&payload);
        drop(stdin);
        loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => {
                    acked(number, round.common, log);
                    return Ok(());
                }
                Some(_) => return Ok(()),
                None if matches!(round.common.phase(), Phase::Killed | Phase::Leave) => break,
                None => sleep(LOOK),
            }
        }
        // It may have ended.
        let _ = child.kill();
        child.wait().map_err(|error| error.to_string())?;
        Ok(())
    }
}

fn begin(rng: &mut Rng, common: &Common, log: &Mutex<Log>) -> (u32, Sent) {
    let qos = if rng.bool() { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
    let mut log = log.lock().expect("nobody panics");
    let sent = Sent::new(Kind::Plain, rng.u8(..TOPICS), qos, common);
    log.sent.push(sent);
    (log.sent.len() as u32 - 1, sent)
}

fn topic(index: u16, sent: &Sent) -> String {
    format!("{}/{index}/{}", sent.kind.letter(), sent.topic)
}

fn acked(number: u32, common: &Common, log: &Mutex<Log>) {
    let sent = &mut log.lock().expect("nobody panics").sent[number as usize];
    (sent.acked, sent.acked_round) = (Some(common.tick()), common.round());
}
