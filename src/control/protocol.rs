//! The protocol of the control socket: lines of JSON.
//!
//! ```text
//! → {"version":2,"command":{"move":{"slots":[7],"clients":[],"to":1,"timeout":60.0}}}
//! ← {"version":2,"answer":{"progress":{"slots":1,"slots_left":1,"sessions":900,"sessions_left":512}}}
//! ← {"version":2,"answer":{"moved":{ ... }}}
//! ```
//!
//! A connection carries one command. `progress` is sent with each change; any other answer is the last. An unknown
//! version or command is answered with an error.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::status::{BackedUp, Berth, HookStatus, Moved, Progress, Rebalanced, SessionStatus, Status, StoreStatus};
use crate::client::SubscriberId;

/// The version of the protocol.
pub const VERSION: u32 = 2;
/// The longest command, in bytes. It has room for all slots and some thousand clients.
pub const MAX_COMMAND: usize = 256 * 1024;
/// The longest answer that a client accepts, in bytes.
pub const MAX_ANSWER: usize = 4 << 20;

/// A line from the client to the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The command.
    pub command: Command,
}

/// A command of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// The status of the shards. Answered with [`Answer::Status`].
    Shards {
        /// The time to measure for, in seconds.
        seconds: f64,
        /// The number of busiest slots in the answer.
        slots: usize,
    },
    /// A move of slots, and of the slots of clients, to a shard. Answered with [`Answer::Moved`] when all of them are
    /// there.
    Move {
        /// The numbers of the slots.
        slots: Vec<u16>,
        /// The clients whose slots move.
        clients: Vec<ClientName>,
        /// The number of the shard.
        to: usize,
        /// The longest wait for the end of the moves, in seconds.
        timeout: f64,
    },
    /// Rebalancing of the load. Answered with [`Answer::Rebalanced`].
    Rebalance {
        /// The time to measure for, before the moves, in seconds.
        seconds: f64,
        /// Whether to plan the moves only.
        dry_run: bool,
        /// The longest wait for the end of the moves, in seconds.
        timeout: f64,
    },
    /// How the store is. Answered with [`Answer::Store`].
    Store,
    /// A copy of the store, in a directory that is empty or does not exist. Answered with [`Answer::BackedUp`].
    Backup {
        /// The path of the directory, absolute.
        path: String,
    },
    /// The counters of the hooks since the start. Answered with [`Answer::Hooks`].
    Hooks,
    /// The slots and shards of clients, and their sessions. Answered with [`Answer::Berths`].
    Find(Vec<ClientName>),
    /// The end of a client's connection, if it has one. Answered with [`Answer::Disconnected`].
    Disconnect {
        /// The client.
        client: ClientName,
        /// End its session, too.
        cleanup: bool,
    },
}

impl Command {
    /// How long the broker may have nothing to say about it, if all shards answer at once.
    pub fn longest_silence(&self) -> Duration {
        let seconds = match self {
            Command::Shards { seconds, .. } => *seconds,
            Command::Move { timeout, .. } => *timeout,
            Command::Rebalance { seconds, timeout, .. } => seconds + timeout,
            // Then copying begins, of which there is something to tell.
            Command::Backup { .. } => 90.0,
            Command::Store | Command::Hooks | Command::Find(_) | Command::Disconnect { .. } => 0.0,
        };
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// The command as an operator would write it, on one line and not too long.
    pub(super) fn summary(&self) -> String {
        match self {
            Command::Shards { .. } => "shards".to_owned(),
            Command::Move { slots, clients, to, .. } => {
                format!("shards move, {} slots and {} clients, --to {to}", slots.len(), clients.len())
            }
            Command::Rebalance { dry_run, .. } => {
                format!("shards rebalance{}", if *dry_run { " --dry-run" } else { "" })
            }
            Command::Store => "store".to_owned(),
            Command::Backup { path } => format!("store backup {path}"),
            Command::Hooks => "hooks".to_owned(),
            Command::Find(clients) if clients.len() > 4 => {
                format!("find {} and {} more", names(&clients[..3]), clients.len() - 3)
            }
            Command::Find(clients) => format!("find {}", names(clients)),
            Command::Disconnect { client, cleanup } => {
                format!("disconnect {client}{}", if *cleanup { " --cleanup" } else { "" })
            }
        }
    }

    /// Whether it only reads numbers, as a monitoring system does again and again.
    pub(super) fn is_monitoring(&self) -> bool {
        matches!(
            self,
            Command::Shards { .. } | Command::Store | Command::Hooks | Command::Rebalance { dry_run: true, .. }
        )
    }
}

fn names(clients: &[ClientName]) -> String {
    clients.iter().map(ClientName::to_string).collect::<Vec<_>>().join(" ")
}

impl Answer {
    /// What became of the command, in a word or a sentence.
    pub(super) fn summary(&self) -> String {
        match self {
            Answer::Error(why) => why.clone(),
            Answer::Disconnected(None) => "no such client".to_owned(),
            Answer::Berths(berths) => {
                let there = berths.iter().filter(|berth| berth.session.is_some()).count();
                format!("{there} of {} are there", berths.len())
            }
            _ => "done".to_owned(),
        }
    }
}

/// A client, by its subscriber id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientName {
    /// The mountpoint; empty is the default one.
    pub mountpoint: String,
    /// The client id.
    pub client_id: String,
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SubscriberId::new(self.mountpoint.as_str(), self.client_id.as_str()).fmt(f)
    }
}

/// A line from the broker to the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`].
    pub version: u32,
    /// The answer.
    pub answer: Answer,
}

/// An answer of the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The progress of the command. More answers follow.
    Progress(Progress),
    /// The status of the shards.
    Status(Status),
    /// The slots that have moved.
    Moved(Moved),
    /// The slots that have moved, or would move.
    Rebalanced(Rebalanced),
    /// The store.
    Store(StoreStatus),
    /// The backup that was made.
    BackedUp(BackedUp),
    /// The counters of each hook that was called, in the order of the links.
    Hooks(Vec<HookStatus>),
    /// The slots and shards of clients, in the order of the command.
    Berths(Vec<Berth>),
    /// The session whose connection was ended, as it was before. None if there is no such client.
    Disconnected(Option<SessionStatus>),
    /// The reason why the command was not carried out, or not completely.
    Error(String),
}

/// Writes one line.
pub(super) fn write_line(to: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    to.write_all(&text)?;
    to.flush()
}

/// Reads one line of at most `most` bytes. None at the end of the stream. A line that is longer or malformed gives
/// [`io::ErrorKind::InvalidData`].
pub(super) fn read_line<T: DeserializeOwned>(from: &mut impl BufRead, most: usize) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let read = from.by_ref().take(most as u64 + 1).read_until(b'\n', &mut line)?;
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line).map(Some).map_err(|error| wrong(error.to_string())),
        Some(_) if read > most => Err(wrong(format!("a line of more than {most} bytes"))),
        Some(_) => Err(wrong("it ends in the middle of a line".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_they_were_and_none_is_too_long() {
        let command = Command::Move {
            slots: (0..4096).collect(),
            clients: vec![ClientName { mountpoint: "m".to_owned(), client_id: "ann".to_owned() }],
            to: 3,
            timeout: 0.5,
        };
        let mut bytes = Vec::new();
        write_line(&mut bytes, &Request { version: VERSION, command: command.clone() }).unwrap();
        let mut lines = &bytes[..];
        let read: Request = read_line(&mut lines, MAX_COMMAND).unwrap().expect("there is one");
        assert_eq!((read.command, read_line::<Request>(&mut lines, MAX_COMMAND).unwrap()), (command, None));
        for (bytes, why) in [
            (&bytes[..], "a line of more than 1000 bytes"),
            (&bytes[..900], "it ends in the middle of a line"),
            (b"{}\n", "missing field `version` at line 1 column 2"),
            (b"{\"version\":2,\"command\":{\"fly\":{}}}\n", "unknown variant `fly`"),
        ] {
            let error = read_line::<Request>(&mut &bytes[..], 1000).unwrap_err();
            assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().starts_with(why), "{error}");
        }
    }
}
