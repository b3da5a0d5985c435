//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::broker::{Broker, Kind};
use crate::catalogue::{self, SCENARIOS};
use crate::cores::Cores;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::process;
use crate::scenario::Scenario;
use crate::timing::Timing;

/// Load generator for MQTT brokers, and a harness that measures them side by side.
#[derive(Parser)]
#[command(name = "moormq-perf", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Say which scenarios there are
    List,
    /// Measure a broker that is running
    Run(RunArgs),
    /// Start brokers in turn, measure each, and print a table
    Compare(CompareArgs),
}

/// What a broker that is running is measured with.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1883")]
    pub address: SocketAddr,
    /// Its process id
    #[arg(long)]
    pub pid: u32,
    /// A program that watches the broker while messages are measured, and is interrupted after that: a shell command, in which
    /// {pid} is replaced
    #[arg(long, value_name = "COMMAND")]
    pub watch: Option<String>,
    /// The core to run on, instead of any
    #[arg(long)]
    pub core: Option<usize>,
    #[command(flatten)]
    pub scenarios: ScenarioArgs,
    #[command(flatten)]
    pub timing: TimingArgs,
}

/// What to compare.
#[derive(clap::Args)]
pub struct CompareArgs {
    #[command(flatten)]
    pub scenarios: ScenarioArgs,
    #[command(flatten)]
    pub timing: TimingArgs,
    /// The brokers that this program knows how to run: moormq, mosquitto, floor (what their sockets alone cost), or "" for none
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "moormq,mosquitto")]
    brokers: Vec<String>,
    /// Another broker: a shell command, in which {port}, {core} and {dir}, an empty folder, are replaced
    #[arg(long = "broker", value_name = "NAME=COMMAND", value_parser = Broker::parse)]
    more: Vec<Broker>,
    /// The moormq program, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    moormq: Option<PathBuf>,
    /// The mosquitto program
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/mosquitto")]
    mosquitto: PathBuf,
    /// The core of the brokers, instead of the first one
    #[arg(long, value_name = "CORE")]
    broker_core: Option<usize>,
    /// The core of the generator, instead of the last one
    #[arg(long, value_name = "CORE")]
    generator_core: Option<usize>,
    /// A file for the report, besides standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Which scenarios.
#[derive(clap::Args)]
pub struct ScenarioArgs {
    /// The scenarios, instead of all
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = named)]
    scenarios: Vec<&'static Scenario>,
}

/// How long and how often.
#[derive(clap::Args)]
pub struct TimingArgs {
    /// Rounds of each scenario
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The window that is measured, in seconds
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// What goes before it, in seconds
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warm_up: Duration,
}

impl ScenarioArgs {
    /// Those that were named; all if none was.
    pub fn all(&self) -> Vec<&'static Scenario> {
        if self.scenarios.is_empty() { SCENARIOS.iter().collect() } else { self.scenarios.clone() }
    }
}

impl TimingArgs {
    /// How long.
    pub fn timing(&self) -> Timing {
        Timing { warm_up: self.warm_up, window: self.seconds }
    }
}

impl CompareArgs {
    /// What to do about it.
    ///
    /// # Errors
    ///
    /// A broker that is not known or not there; too few cores.
    pub fn plan(self) -> Result<Plan, Failure> {
        let cores = Cores::choose(&process::cores()?, self.broker_core, self.generator_core)?;
        let mut brokers = Vec::new();
        for name in self.brokers.iter().filter(|name| !name.is_empty()) {
            let kind = match name.as_str() {
                "moormq" => Kind::Moormq(existing(&self.moormq.clone().unwrap_or_else(|| beside_us("moormq")))?),
                "floor" => Kind::Floor(existing(&beside_us("moormq-floor"))?),
                "mosquitto" => Kind::Mosquitto(existing(&self.mosquitto)?),
                other => return Err(Failure::System(format!("unknown broker {other}: describe it with --broker"))),
            };
            brokers.push(Broker { name: name.clone(), kind });
        }
        brokers.extend(self.more);
        let scenarios = self.scenarios.all();
        let ours = brokers.iter().any(|broker| matches!(broker.kind, Kind::Moormq(_)));
        let needs = |of: fn(&Scenario) -> bool| ours && scenarios.iter().any(|scenario| of(scenario));
        let program = |name| existing(&beside_us(name));
        let embedded = needs(|scenario| scenario.is_of_variants() || scenario.is_of_stores())
            .then(|| program("moormq-embedded"))
            .transpose()?;
        let disk_floor = needs(Scenario::is_of_stores).then(|| program("moormq-disk-floor")).transpose()?;
        Ok(Plan {
            scenarios,
            embedded,
            disk_floor,
            brokers,
            rounds: self.timing.rounds,
            timing: self.timing.timing(),
            cores,
        })
    }
}

/// A program that was built with this one.
fn beside_us(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

/// The absolute path of a program that is there.
fn existing(program: &Path) -> Result<PathBuf, Failure> {
    program.canonicalize().map_err(Failure::system(format_args!("{} (build or install it)", program.display())))
}

fn named(name: &str) -> Result<&'static Scenario, String> {
    catalogue::named(name).ok_or_else(|| "no such scenario; `moormq-perf list` names them".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn scenarios_are_named_or_all_run() {
        let scenarios = |arguments: &[&str]| {
            let arguments = ["moormq-perf", "compare"].iter().chain(arguments);
            match Args::try_parse_from(arguments).map(|args| args.command) {
                Ok(Command::Compare(args)) => Some(args.scenarios.all().iter().map(|scenario| scenario.name).collect()),
                _ => None,
            }
        };
        assert_eq!(scenarios(&["--scenarios", "conn,p2p_q0"]), Some(vec!["conn", "p2p_q0"]));
        assert_eq!(scenarios(&[]).map(|all| all.len()), Some(SCENARIOS.len()));
        assert_eq!(scenarios(&["--scenarios", "p2p"]), None);
    }
}
