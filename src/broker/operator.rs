//! The commands of the control socket, carried out through the same [`Handle`] that embedding programs use.

use std::path::Path;
use std::time::Duration;

use super::handle::{Handle, RequestError};
use super::operations::OperationError;
use crate::client::SubscriberId;
use crate::control::protocol::{Answer, ClientName, Command};
use crate::control::server::Operator;
use crate::control::status::{HookStatus, Progress};
use crate::sharding::slot_of;

/// The longest measurement, and the longest wait for a move, that an operator may ask for.
const LONGEST: Duration = Duration::from_secs(60 * 60);

impl Operator for Handle {
    fn carry_out(&self, command: Command, report: &mut dyn FnMut(Progress) -> bool) -> Answer {
        match execute(self, command, report) {
            Ok(answer) => answer,
            Err(why) => Answer::Error(why),
        }
    }
}

fn execute(handle: &Handle, command: Command, report: &mut dyn FnMut(Progress) -> bool) -> Result<Answer, String> {
    match command {
        Command::Shards { seconds, slots } => {
            handle.status(duration(seconds)?, slots).map(Answer::Status).map_err(request)
        }
        Command::Move { mut slots, clients, to, timeout } => {
            slots.extend(clients.iter().map(|ClientName { mountpoint, client_id }| {
                slot_of(&SubscriberId::new(mountpoint.as_str(), client_id.as_str()), handle.seed)
            }));
            if slots.is_empty() {
                return Err("nothing to move: name slots or clients".to_owned());
            }
            let report = |progress| report(Progress::Move(progress));
            handle.move_slots(&slots, to, duration(timeout)?, report).map(Answer::Moved).map_err(operation)
        }
        Command::Rebalance { seconds, dry_run, timeout } => {
            let (window, timeout) = (duration(seconds)?, duration(timeout)?);
            let report = |progress| report(Progress::Move(progress));
            handle.rebalance(window, dry_run, timeout, report).map(Answer::Rebalanced).map_err(operation)
        }
        Command::Store => handle.store_status().map(Answer::Store).map_err(|error| error.to_string()),
        Command::Backup { path } => {
            let report = |progress| report(Progress::Backup(progress));
            handle.back_up(Path::new(&path), report).map(Answer::BackedUp).map_err(|error| error.to_string())
        }
        Command::Hooks => {
            let reports = handle.hooks().map_err(request)?;
            Ok(Answer::Hooks(reports.into_iter().map(HookStatus::from).collect()))
        }
        Command::Find(clients) => {
            let clients = clients.iter().map(|name| (name.mountpoint.as_str(), name.client_id.as_str()));
            handle.find(clients).map(Answer::Berths).map_err(request)
        }
        Command::Disconnect { client: ClientName { mountpoint, client_id }, cleanup } => {
            handle.end_connection(&mountpoint, &client_id, cleanup).map(Answer::Disconnected).map_err(request)
        }
    }
}

fn duration(seconds: f64) -> Result<Duration, String> {
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| format!("{seconds} is not a number of seconds from 0 to {}", LONGEST.as_secs()))
}

fn request(error: RequestError) -> String {
    error.to_string()
}

fn operation(error: OperationError) -> String {
    error.to_string()
}
