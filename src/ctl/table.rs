//! The answers of a broker as text for people and as JSON for programs.

use std::fmt::Write;

use moormq::client::SubscriberId;
use moormq::control::protocol::{Answer, Command};
use moormq::control::status::{
    ArchiveStatus, BackedUp, Berth, HookStatus, MemoryStatus, Moved, Progress, Rebalanced, SessionStatus, ShardStatus,
    ShardStore, SlotStatus, Status, StoreStatus,
};
use moormq::hooks::HookCounts;
use serde::Serialize;

/// The answer for programs: one line of JSON.
pub fn json(answer: &Answer) -> Result<String, String> {
    fn line(value: &impl Serialize) -> Result<String, String> {
        serde_json::to_string(value).map(|text| text + "\n").map_err(|error| error.to_string())
    }
    match answer {
        Answer::Status(status) => line(status),
        Answer::Moved(moved) => line(moved),
        Answer::Rebalanced(rebalanced) => line(rebalanced),
        Answer::Store(store) => line(store),
        Answer::BackedUp(backed_up) => line(backed_up),
        Answer::Hooks(hooks) => line(hooks),
        Answer::Berths(berths) => line(berths),
        Answer::Progress(progress) => line(progress),
        Answer::Disconnected(session) => line(session),
        Answer::Error(why) => line(&serde_json::json!({ "error": why })),
    }
}

/// The answer to `command`, for people.
pub fn text(command: &Command, answer: &Answer) -> String {
    match answer {
        Answer::Status(status) => shards(status),
        Answer::Moved(moved) => self::moved(moved),
        Answer::Rebalanced(rebalanced) => self::rebalanced(rebalanced),
        Answer::Store(store) => self::store(store),
        Answer::BackedUp(backed_up) => self::backed_up(backed_up),
        Answer::Hooks(hooks) => self::hooks(hooks),
        Answer::Berths(berths) => self::berths(berths),
        Answer::Disconnected(session) => disconnected(command, session.as_ref()),
        Answer::Progress(Progress::Move(progress)) => format!("{} slots left\n", progress.slots_left),
        Answer::Progress(Progress::Backup(progress)) => format!("{} bytes copied\n", progress.copied),
        Answer::Error(why) => format!("{why}\n"),
    }
}

fn shards(status: &Status) -> String {
    let mut rows =
        vec![["shard", "core", "slots", "sessions", "connections", "in/s", "out/s", "CPU %"].map(str::to_owned)];
    rows.extend(status.shards.iter().map(|shard| row(&shard.shard.to_string(), &shard.core.to_string(), shard)));
    if status.shards.len() > 1 {
        rows.push(row("all", "", &total(&status.shards)));
    }
    let mut text = aligned(&rows);
    if !status.slots.is_empty() {
        let mut rows = vec![["slot", "shard", "sessions", "messages/s", ""].map(str::to_owned)];
        rows.extend(status.slots.iter().map(|slot| {
            let SlotStatus { slot, shard, sessions, messages_per_second, is_moving } = slot;
            let moving = if *is_moving { "arriving" } else { "" };
            [slot.to_string(), shard.to_string(), sessions.to_string(), rate(*messages_per_second), moving.to_owned()]
        }));
        text.push('\n');
        text += &aligned(&rows);
    }
    text.push('\n');
    text += &memory(&status.memory);
    text
}

/// What the broker holds in memory, the largest kinds first.
fn memory(memory: &MemoryStatus) -> String {
    let mut rows = vec![["memory", "MiB"].map(str::to_owned)];
    let mut kinds: Vec<_> = memory.kinds.iter().filter(|(_, bytes)| *bytes > 0).collect();
    kinds.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    rows.extend(kinds.into_iter().map(|(name, bytes)| [name.clone(), mebibytes(*bytes)]));
    rows.push(["all".to_owned(), mebibytes(memory.held)]);
    rows.push(["limit".to_owned(), memory.limit.map_or("unlimited".to_owned(), mebibytes)]);
    aligned(&rows)
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

fn store(store: &StoreStatus) -> String {
    let heads = [
        "shard",
        "journal MiB",
        "limit",
        "segments",
        "of",
        "commit us",
        "sessions",
        "messages",
        "waiting MiB",
        "retained",
        "MiB",
        "publishers wait",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(store.shards.iter().map(|shard| store_row(&shard.shard.to_string(), shard)));
    if store.shards.len() > 1 {
        rows.push(store_row("all", &store_total(&store.shards)));
    }
    let mut text = format!("store {}\n\n{}", shown(&store.path), aligned(&rows));
    if let Some(ArchiveStatus { bytes, pages }) = store.archive {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\narchive: {} MiB, {}", mebibytes(bytes as usize), counted(pages, "page"));
    }
    text
}

fn backed_up(backed_up: &BackedUp) -> String {
    let BackedUp { path, bytes, cut_seconds, seconds } = backed_up;
    let (path, bytes, cut) = (shown(path), mebibytes(*bytes as usize), cut_seconds * 1000.0);
    format!(
        "backed up to {path}: {bytes} MiB in {seconds:.1} s; it has what there was within the first {cut:.1} ms of that\n"
    )
}

fn store_row(name: &str, shard: &ShardStore) -> [String; 12] {
    let waiting = match (shard.publishers_wait, shard.clients_waiting) {
        (false, 0) => "no".to_owned(),
        (_, clients) => format!("yes ({clients})"),
    };
    [
        name.to_owned(),
        mebibytes(shard.journal_bytes as usize),
        mebibytes(shard.journal_limit as usize),
        shard.segments_in_use.to_string(),
        shard.segments.to_string(),
        shard.last_commit_us.map_or(String::new(), |micros| micros.to_string()),
        shard.sessions.to_string(),
        shard.messages.to_string(),
        mebibytes(shard.waiting_bytes as usize),
        shard.retained.to_string(),
        mebibytes(shard.retained_bytes as usize),
        waiting,
    ]
}

/// The sum of all; of commits the one that took longest.
fn store_total(shards: &[ShardStore]) -> ShardStore {
    let mut total = ShardStore::default();
    for shard in shards {
        total.journal_bytes += shard.journal_bytes;
        total.journal_limit += shard.journal_limit;
        total.segments_in_use += shard.segments_in_use;
        total.segments += shard.segments;
        total.commits += shard.commits;
        total.last_commit_us = total.last_commit_us.max(shard.last_commit_us);
        total.sessions += shard.sessions;
        total.messages += shard.messages;
        total.waiting_bytes += shard.waiting_bytes;
        total.retained += shard.retained;
        total.retained_bytes += shard.retained_bytes;
        total.publishers_wait |= shard.publishers_wait;
        total.clients_waiting += shard.clients_waiting;
    }
    total
}

fn hooks(hooks: &[HookStatus]) -> String {
    if hooks.is_empty() {
        return "no hook was called yet\n".to_owned();
    }
    let heads =
        ["link", "hook", "calls", "next", "ok", "refused", "later", "late", "panics", "dropped", "us/call", "ms/later"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(hooks.iter().map(|status| {
        let HookStatus { link, hook, counts, .. } = status;
        let HookCounts { calls, next, ok, refusals, later, timeouts, panics, dropped, time, waited } = counts;
        // A link that does not have its time taken has none.
        let time = average(time.as_secs_f64() * 1e6, if time.is_zero() { 0 } else { *calls });
        let waited = average(waited.as_secs_f64() * 1e3, *later);
        let [calls, next, ok, refusals, later, timeouts, panics, dropped] =
            [calls, next, ok, refusals, later, timeouts, panics, dropped].map(u64::to_string);
        [link.clone(), hook.clone(), calls, next, ok, refusals, later, timeouts, panics, dropped, time, waited]
    }));
    aligned(&rows)
}

/// A total, divided; nothing if there is nothing to divide by.
fn average(total: f64, count: u64) -> String {
    if count == 0 { String::new() } else { format!("{:.1}", total / count as f64) }
}

fn berths(berths: &[Berth]) -> String {
    let heads = [
        "slot",
        "shard",
        "client",
        "state",
        "address",
        "listener",
        "user",
        "MQTT",
        "stored",
        "subscriptions",
        "queued",
        "in flight",
        "memory",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(berths.iter().map(|Berth { client_id, slot, shard, session, .. }| {
        let name = shown(client_id);
        let place = [slot.to_string(), shard.to_string(), name];
        let rest = match session {
            None => ["no such client", "", "", "", "", "", "", "", "", ""].map(str::to_owned),
            Some(session) => [
                if session.is_connected { "connected" } else { "offline" }.to_owned(),
                session.peer.to_string(),
                shown(&session.listener),
                session.username.as_deref().map(shown).unwrap_or_default(),
                session.protocol.clone(),
                session.durability.clone(),
                session.subscriptions.to_string(),
                session.queued.to_string(),
                session.in_flight.to_string(),
                session.memory.to_string(),
            ],
        };
        let mut cells = place.into_iter().chain(rest);
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    }));
    aligned(&rows)
}

/// Text that a client chose. It may contain control sequences of terminals.
fn shown(text: &str) -> String {
    SubscriberId::new("", text).to_string()
}

/// What became of `disconnect`.
fn disconnected(command: &Command, session: Option<&SessionStatus>) -> String {
    let Command::Disconnect { client, cleanup } = command else { return String::new() };
    let name = shown(&client.client_id);
    let Some(session) = session else { return format!("no such client: {name}\n") };
    let ends = *cleanup || session.is_connected && !session.is_kept;
    let what = match session.is_connected {
        true => format!("{name} was connected from {} and is disconnected", session.peer),
        false => format!("{name} was not connected"),
    };
    match (ends, session.is_connected) {
        (true, _) => format!("{what}; its session has ended\n"),
        (false, true) => format!("{what}; its session is kept\n"),
        (false, false) => format!("{what}; its session is kept, --cleanup ends it\n"),
    }
}

fn row(name: &str, core: &str, shard: &ShardStatus) -> [String; 8] {
    [
        name.to_owned(),
        core.to_owned(),
        shard.slots.to_string(),
        shard.sessions.to_string(),
        shard.connections.to_string(),
        rate(shard.messages_in_per_second),
        rate(shard.messages_out_per_second),
        shard.cpu_percent.map_or("?".to_owned(), |percent| format!("{percent:.1}")),
    ]
}

fn total(shards: &[ShardStatus]) -> ShardStatus {
    let mut total = ShardStatus { cpu_percent: Some(0.0), ..ShardStatus::default() };
    for shard in shards {
        total.slots += shard.slots;
        total.sessions += shard.sessions;
        total.connections += shard.connections;
        total.messages_in_per_second += shard.messages_in_per_second;
        total.messages_out_per_second += shard.messages_out_per_second;
        total.cpu_percent = total.cpu_percent.zip(shard.cpu_percent).map(|(sum, percent)| sum + percent);
    }
    total
}

fn moved(moved: &Moved) -> String {
    let Moved { to, slots, already_there, sessions, seconds } = moved;
    let mut text = match slots.is_empty() {
        true => "nothing had to move\n".to_owned(),
        false => format!(
            "moved {} with {} to shard {to} in {:.1} ms\n",
            counted(slots.len() as u64, "slot"),
            counted(*sessions, "session"),
            seconds * 1000.0
        ),
    };
    if !already_there.is_empty() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} there already", counted(already_there.len() as u64, "slot"));
    }
    text
}

fn rebalanced(rebalanced: &Rebalanced) -> String {
    if rebalanced.moves.is_empty() {
        return "nothing to move: the load is as even as it can be\n".to_owned();
    }
    let mut rows = vec![["slot", "from", "to", "sessions", "messages/s"].map(str::to_owned)];
    rows.extend(rebalanced.moves.iter().map(|one| {
        let numbers = [one.slot.to_string(), one.from.to_string(), one.to.to_string(), one.sessions.to_string()];
        let [slot, from, to, sessions] = numbers;
        [slot, from, to, sessions, rate(one.messages_per_second)]
    }));
    let mut text = aligned(&rows);
    let sessions = rebalanced.moves.iter().map(|one| one.sessions).sum();
    let done = if rebalanced.is_done { "moved" } else { "would move" };
    let slots = counted(rebalanced.moves.len() as u64, "slot");
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{done} {slots} with {}; messages/s by shard:", counted(sessions, "session"));
    let mut rows = vec![["shard", "before", "after"].map(str::to_owned)];
    let rates = rebalanced.before.iter().zip(&rebalanced.after).enumerate();
    rows.extend(rates.map(|(shard, (before, after))| [shard.to_string(), rate(*before), rate(*after)]));
    text += &aligned(&rows);
    text
}

fn rate(per_second: f64) -> String {
    format!("{:.0}", per_second.abs())
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Columns aligned to the right.
fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tables_are_aligned_and_add_up() {
        let shard = ShardStatus { slots: 2048, sessions: 9, cpu_percent: Some(12.34), ..ShardStatus::default() };
        let slot = SlotStatus { slot: 7, shard: 1, sessions: 3, messages_per_second: 99.6, is_moving: true };
        let kinds = [("queues", 1 << 20), ("messages", 5 << 19), ("unread", 0)];
        let kinds = kinds.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        let memory = MemoryStatus { held: 7 << 19, limit: Some(1 << 30), kinds };
        let status = Status {
            seconds: 1.0,
            shards: vec![shard.clone(), ShardStatus { shard: 1, ..shard }],
            slots: vec![slot],
            memory,
        };
        assert_eq!(
            shards(&status),
            "shard  core  slots  sessions  connections  in/s  out/s  CPU %
    0     0   2048         9            0     0      0   12.3
    1     0   2048         9            0     0      0   12.3
  all         4096        18            0     0      0   24.7

slot  shard  sessions  messages/s
   7      1         3         100  arriving

  memory     MiB
messages     2.5
  queues     1.0
     all     3.5
   limit  1024.0
"
        );
    }

    #[test]
    fn hooks_have_a_row_each_with_times_where_they_are_known() {
        let timed = HookStatus {
            link: "Stock".to_owned(),
            hook: "auth_on_publish".to_owned(),
            counts: HookCounts {
                calls: 8,
                ok: 7,
                refusals: 1,
                time: Duration::from_micros(10),
                ..HookCounts::default()
            },
            ..HookStatus::default()
        };
        let later = HookStatus {
            link: "Doorman".to_owned(),
            hook: "auth_on_register".to_owned(),
            counts: HookCounts {
                calls: 2,
                later: 2,
                timeouts: 1,
                waited: Duration::from_millis(5007),
                ..HookCounts::default()
            },
            ..HookStatus::default()
        };
        assert_eq!(
            hooks(&[timed, later]),
            "   link              hook  calls  next  ok  refused  later  late  panics  dropped  us/call  ms/later
  Stock   auth_on_publish      8     0   7        1      0     0       0        0      1.2
Doorman  auth_on_register      2     0   0        0      2     1       0        0             2503.5
"
        );
        assert_eq!(hooks(&[]), "no hook was called yet\n");
    }

    #[test]
    fn what_moved_is_said_in_words() {
        let moved = Moved { to: 1, slots: vec![3, 4], already_there: vec![9], sessions: 1, seconds: 0.0015 };
        assert_eq!(self::moved(&moved), "moved 2 slots with 1 session to shard 1 in 1.5 ms\n1 slot there already\n");
        assert!(json(&Answer::Moved(moved)).unwrap().contains("\"slots\":[3,4]"));
    }
}
