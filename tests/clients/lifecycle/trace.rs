//! The output of the recorder: its lines, their short form for the tests, and the grammar that they must spell.

use std::collections::BTreeSet;

/// One call of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The session number.
    pub number: u64,
    /// The protocol version.
    pub version: String,
    /// The hook.
    pub hook: String,
    /// Its arguments.
    pub arguments: String,
}

/// NUMBER "SUBSCRIBER" VERSION HOOK ARGUMENTS: see the example. The tests use ids that need no escapes.
fn parse(line: &str) -> Option<(&str, Line)> {
    let (number, rest) = line.split_once(" \"")?;
    let (client, rest) = rest.split_once("\" ")?;
    let mut words = rest.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    Some((client, Line { number: number.parse().ok()?, version: word(), hook: word(), arguments: word() }))
}

/// Who is written about.
pub fn clients(lines: &[String]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| parse(line)).map(|(client, _)| client.to_owned()).collect()
}

/// The lines about `id`, in order.
pub fn lines_of(lines: &[String], id: &str) -> Vec<Line> {
    lines.iter().filter_map(|line| parse(line)).filter(|(client, _)| *client == id).map(|(_, line)| line).collect()
}

/// The lifecycle of `id` in short words: each line the number of the connection, counted from 1, and what happened to it.
/// Session numbers must rise from one connection to the next; one that does not is counted as 0.
pub fn lifecycle_of(lines: &[String], id: &str) -> Vec<String> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut lifecycle = Vec::new();
    for line in lines_of(lines, id) {
        let Some(word) = short(&line) else { continue };
        if numbers.last().is_none_or(|last| *last < line.number) {
            numbers.push(line.number);
        }
        let place = numbers.iter().position(|number| *number == line.number).map_or(0, |place| place + 1);
        lifecycle.push(format!("{place} {word}"));
    }
    lifecycle
}

/// A lifecycle hook, or the publication of a will, in short. Of hooks that differ by version it must be the right one.
fn short(line: &Line) -> Option<String> {
    let reason = line.arguments.strip_prefix("reason=").unwrap_or_default();
    let hook = match (line.hook.strip_suffix("_m5"), line.version.as_str()) {
        (Some(hook), "5") => hook,
        (None, "5") if ["on_register", "on_publish"].contains(&line.hook.as_str()) => return Some(line.hook.clone()),
        (None, _) => &line.hook,
        (Some(_), _) => return Some(line.hook.clone()),
    };
    match hook {
        "on_register" => Some("register".to_owned()),
        "on_client_wakeup" if line.arguments == "session_present=true" => Some("wakeup present".to_owned()),
        "on_client_wakeup" => Some("wakeup".to_owned()),
        "on_client_offline" => Some(format!("offline {reason}")),
        "on_client_gone" => Some(format!("gone {reason}")),
        "on_session_expired" => Some(format!("expired {reason}")),
        "on_topic_unsubscribed" if line.arguments == "topics=All" => Some("unsubscribed all".to_owned()),
        "on_publish" if line.arguments.ends_with(" will=true") => Some("will".to_owned()),
        _ => None,
    }
}

/// Where a subscriber id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NoSession,
    Online,
    Offline,
}

/// The whole of what is written about `id` spells the grammar: states follow each other as they may, every end is that of the
/// connection that woke up last, and between `on_register` and `on_client_wakeup` of one connection nothing happens but the
/// end of the one before. Everybody was sent away at the end.
pub fn check_grammar(id: &str, lines: &[Line]) {
    let (mut state, mut registered, mut awake) = (State::NoSession, 0, 0);
    for line in lines {
        let wrong = || panic!("{line:?} when {id} is {state:?}, connection {awake}: {lines:#?}");
        let is_current = line.number == awake;
        state = match (state, line.hook.as_str(), line.arguments.as_str()) {
            (_, "on_register" | "on_register_m5", _) if registered == awake && line.number > awake => {
                registered = line.number;
                state
            }
            (State::NoSession, "on_client_wakeup", "session_present=false")
            | (State::Offline, "on_client_wakeup", "session_present=true")
                if line.number == registered && registered > awake =>
            {
                awake = registered;
                State::Online
            }
            (State::Online, "on_client_offline", _) if is_current => State::Offline,
            (State::Online, "on_client_gone", _) if is_current => State::NoSession,
            (State::Offline, "on_session_expired", _) if is_current => State::NoSession,
            (_, "on_register" | "on_register_m5" | "on_client_wakeup" | "on_client_offline", _) => wrong(),
            (_, "on_client_gone" | "on_session_expired", _) => wrong(),
            _ => state,
        };
    }
    assert!(state != State::Online && registered == awake, "{id} was left {state:?}: {lines:#?}");
}
