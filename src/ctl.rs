//! `moormq ctl`: commands of operators to a running broker, over its control socket.

mod table;

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use moormq::config::Config;
use moormq::control::client::ask;
use moormq::control::protocol::{Answer, ClientName, Command};
use moormq::control::status::{BackupProgress, MoveProgress, Progress};

/// The arguments of `moormq ctl`: the broker and the command.
#[derive(Args)]
pub struct CtlArgs {
    /// The control socket of the broker
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The configuration file of the broker, which names its control socket
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show the shards; or move clients between them
    Shards(ShardsArgs),
    /// Show what the store has: the journal of each shard, sessions, messages, and the archive; or copy it
    Store(CtlStoreArgs),
    /// Show what each hook of each link was asked and answered since the start, and how long it took
    Hooks,
    /// Say whether clients are there, how they are, and which slots and shards they belong to. The exit code is 3 if one is
    /// not there
    Find {
        /// The client ids
        #[arg(value_name = "CLIENT", required = true)]
        clients: Vec<String>,
        /// Their mountpoint
        #[arg(long, value_name = "MOUNTPOINT", default_value = "")]
        mountpoint: String,
    },
    /// End the connection of a client. The exit code is 3 if there is no such client
    Disconnect {
        #[command(flatten)]
        client: ClientArgs,
        /// End its session, too: subscriptions, and messages that wait for it
        #[arg(long)]
        cleanup: bool,
    },
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
struct ShardsArgs {
    #[command(flatten)]
    show: ShowArgs,
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Args)]
struct CtlStoreArgs {
    #[command(subcommand)]
    change: Option<StoreChange>,
}

#[derive(Subcommand)]
enum StoreChange {
    /// Copy the store into a directory, while the broker goes on: with all that was acknowledged before. To use the copy, start a broker with --data
    /// DIR, or with a configuration whose storage.path it is
    Backup {
        /// The directory of the copy, on the broker's machine: empty, or not there yet. It becomes that of the broker's user alone
        #[arg(value_name = "DIR", value_parser = absolute)]
        dir: String,
    },
}

#[derive(Args)]
struct ShowArgs {
    /// Show the busiest slots, too, this many
    #[arg(long, value_name = "N", num_args = 0..=1, default_value_t = 0, default_missing_value = "20")]
    slots: usize,
    /// For how long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
}

#[derive(Subcommand)]
enum Change {
    /// Move slots to a shard, with all clients in them. They stay connected. Waits until all are there
    Move {
        /// Slots: numbers such as 7, and ranges such as 100-199
        #[arg(value_name = "SLOT", required_unless_present = "client", value_parser = slots)]
        slots: Vec<SlotRange>,
        /// The slot of this client; may be given several times
        #[arg(long, value_name = "ID")]
        client: Vec<String>,
        /// The mountpoint of these clients
        #[arg(long, value_name = "MOUNTPOINT", default_value = "", requires = "client")]
        mountpoint: String,
        /// The shard that they are to move to
        #[arg(long, value_name = "SHARD")]
        to: usize,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Move slots so that all shards have as many messages
    Rebalance {
        /// Only say what would move
        #[arg(long)]
        dry_run: bool,
        /// For how long to count messages first, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
        seconds: f64,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Args)]
struct WaitArgs {
    /// For how long to wait for the end of a move, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    timeout: f64,
}

#[derive(Args)]
struct ClientArgs {
    /// The client id
    #[arg(value_name = "CLIENT")]
    client_id: String,
    /// Its mountpoint
    #[arg(long, value_name = "MOUNTPOINT", default_value = "")]
    mountpoint: String,
}

/// Slots from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotRange(u16, u16);

fn slots(text: &str) -> Result<SlotRange, String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|slot| *slot < 4096);
    let range = match text.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).filter(|(first, last)| first <= last),
        None => number(text).map(|slot| (slot, slot)),
    };
    let (first, last) = range.ok_or("slots are numbers from 0 to 4095, or ranges of them such as 100-199")?;
    Ok(SlotRange(first, last))
}

/// The broker may have another working directory.
fn absolute(text: &str) -> Result<String, String> {
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    path.into_os_string().into_string().map_err(|_| "its path is not UTF-8".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds from 0.1 to 3600".to_owned())
}

impl From<ClientArgs> for ClientName {
    fn from(ClientArgs { client_id, mountpoint }: ClientArgs) -> Self {
        ClientName { mountpoint, client_id }
    }
}

impl From<What> for Command {
    fn from(what: What) -> Self {
        match what {
            What::Shards(ShardsArgs { change: None, show: ShowArgs { slots, seconds } }) => {
                Command::Shards { seconds, slots }
            }
            What::Shards(ShardsArgs { change: Some(Change::Move { slots, client, mountpoint, to, wait }), .. }) => {
                let named = |client_id| ClientName { mountpoint: mountpoint.clone(), client_id };
                Command::Move {
                    slots: slots.into_iter().flat_map(|SlotRange(first, last)| first..=last).collect(),
                    clients: client.into_iter().map(named).collect(),
                    to,
                    timeout: wait.timeout,
                }
            }
            What::Shards(ShardsArgs { change: Some(Change::Rebalance { dry_run, seconds, wait }), .. }) => {
                Command::Rebalance { seconds, dry_run, timeout: wait.timeout }
            }
            What::Store(CtlStoreArgs { change: None }) => Command::Store,
            What::Store(CtlStoreArgs { change: Some(StoreChange::Backup { dir }) }) => Command::Backup { path: dir },
            What::Hooks => Command::Hooks,
            What::Find { clients, mountpoint } => {
                let named = |client_id| ClientName { mountpoint: mountpoint.clone(), client_id };
                Command::Find(clients.into_iter().map(named).collect())
            }
            What::Disconnect { client, cleanup } => Command::Disconnect { client: client.into(), cleanup },
        }
    }
}

/// The exit code for a client that is not there.
pub const NO_SUCH_CLIENT: u8 = 3;

/// The answer of the broker.
pub struct Outcome {
    /// The answer as text.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// Sends the command to the broker.
pub fn run(args: CtlArgs) -> Result<Outcome, String> {
    let path = match (args.socket, args.config) {
        (Some(socket), _) => socket,
        (None, Some(file)) => socket_of(&file)?,
        (None, None) => {
            return Err("say which broker: --socket PATH, or --config FILE with its configuration".to_owned());
        }
    };
    let command = Command::from(args.what);
    let mut shown = ProgressLine::new();
    shown.announce(&command);
    let answer = ask(&path, command.clone(), &mut |progress| shown.show(progress)).map_err(|error| error.to_string());
    shown.clear();
    let answer = match answer? {
        Answer::Error(why) => return Err(why),
        answer => answer,
    };
    let text = if args.json { table::json(&answer)? } else { table::text(&command, &answer) };
    let is_missing = match &answer {
        Answer::Disconnected(session) => session.is_none(),
        Answer::Berths(berths) => berths.iter().any(|berth| berth.session.is_none()),
        _ => false,
    };
    Ok(Outcome { text, code: if is_missing { NO_SUCH_CLIENT } else { 0 } })
}

fn socket_of(file: &Path) -> Result<PathBuf, String> {
    let config = Config::load(file).map_err(|error| error.to_string())?;
    let missing = || {
        let file = file.display();
        format!("{file} sets no control.socket: add [control] with a path to it, and start the broker again")
    };
    config.control.socket.map(PathBuf::from).ok_or_else(missing)
}

/// A line of progress on a terminal. Nothing is written if standard error is not a terminal.
struct ProgressLine {
    is_shown: bool,
}

impl ProgressLine {
    fn new() -> Self {
        ProgressLine { is_shown: stderr().is_terminal() }
    }

    fn announce(&self, command: &Command) {
        if let Command::Shards { seconds, .. } | Command::Rebalance { seconds, .. } = command {
            self.say(&format!("measuring for {:?} ...", Duration::from_secs_f64(*seconds)));
        }
    }

    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Move(progress) => self.show_move(progress),
            Progress::Backup(BackupProgress { copied_of: 0, .. }) => self.say("journals are cut ..."),
            Progress::Backup(BackupProgress { copied, copied_of }) => {
                self.say(&format!("copied: {} of {} MiB ...", copied >> 20, copied_of >> 20));
            }
        }
    }

    fn show_move(&self, progress: MoveProgress) {
        let MoveProgress { slots, slots_left, sessions, sessions_left } = progress;
        let (slots_there, sessions_there) = (slots - slots_left, sessions.saturating_sub(sessions_left));
        self.say(&format!("moving: {slots_there} of {slots} slots, {sessions_there} of {sessions} sessions ..."));
    }

    fn clear(&self) {
        self.say("");
    }

    fn say(&self, what: &str) {
        if self.is_shown {
            // An error here does not matter: the line is for information only.
            let _ = write!(stderr(), "\r\x1b[K{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_numbers_and_ranges() {
        assert_eq!(slots("7"), Ok(SlotRange(7, 7)));
        assert_eq!(slots("100-4095"), Ok(SlotRange(100, 4095)));
        for wrong in ["", "-1", "4096", "9-8", "1-", "1-4096", "a", "65543"] {
            assert!(slots(wrong).is_err(), "{wrong}");
        }
    }
}
