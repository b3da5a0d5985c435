//! Kinds of words, lists and texts.
//!
//! Kinds combine: `Word("auto", Count(..))` is a count or the word `auto`, `Limited(Count(..))` a count or no limit.
//!
//! No limit is written "unlimited" everywhere, and what does not happen at all is "never". What other brokers write for
//! them (-1, 0) is read where it can mean nothing else.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeValue;
use tracing_subscriber::EnvFilter;

use super::host;
use super::kind::{Kind, quoted, quoted_list, text, texts};
use super::numbers::{Count, Span};
use super::values::{Choice, CpuSet, Limit};

/// True or false.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<bool> {
        match value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => None,
        }
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        let meant = match (text(value)?.to_ascii_lowercase().as_str(), value) {
            ("true" | "yes" | "on", _) => true,
            ("false" | "no" | "off", _) => false,
            _ => return None,
        };
        Some(format!("write {meant}, without quotation marks"))
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn allows(&self, _: &bool) -> bool {
        true
    }
}

/// The word for no limit.
const UNLIMITED: &str = "unlimited";

/// Whether `value` stands for no limit: the word, or -1 as VerneMQ has it.
fn is_unlimited(value: &DeValue<'_>) -> bool {
    text(value) == Some(UNLIMITED) || Count(-1..=-1).read(value) == Some(-1)
}

/// What to do about a word that somebody else has for no limit.
fn unlimited_in_other_words(value: &DeValue<'_>) -> Option<String> {
    let words = ["unlimited", "infinity", "infinite", "inf", "never", "none", "no", "off"];
    let text = text(value)?.to_ascii_lowercase();
    words.contains(&&*text).then(|| format!("write {}", quoted(UNLIMITED)))
}

/// A number of another kind, or no limit.
pub(super) struct Limited<K>(pub(super) K);

impl<K: Kind<Value = usize>> Kind for Limited<K> {
    type Value = Limit;

    fn expected(&self) -> String {
        format!("{} or {}", quoted(UNLIMITED), self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Limit> {
        match is_unlimited(value) {
            true => Some(Limit::UNLIMITED),
            false => self.0.read(value).map(Limit::at_most),
        }
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        unlimited_in_other_words(value).or_else(|| self.0.advice(value))
    }

    fn write(&self, value: &Limit) -> String {
        value.get().map_or_else(|| quoted(UNLIMITED), |number| self.0.write(&number))
    }

    fn allows(&self, value: &Limit) -> bool {
        value.get().is_none_or(|number| self.0.allows(&number))
    }
}

/// How much a second, or no limit; that is 0 in the program.
pub(super) struct Rate<K>(pub(super) K);

impl<K: Kind> Kind for Rate<K>
where
    K::Value: Copy + Default + PartialEq,
{
    type Value = K::Value;

    fn expected(&self) -> String {
        format!("{} or {}", quoted(UNLIMITED), self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<K::Value> {
        if is_unlimited(value) { Some(K::Value::default()) } else { self.0.read(value) }
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        unlimited_in_other_words(value).or_else(|| self.0.advice(value))
    }

    fn write(&self, value: &K::Value) -> String {
        if *value == K::Value::default() { quoted(UNLIMITED) } else { self.0.write(value) }
    }

    fn allows(&self, value: &K::Value) -> bool {
        *value == K::Value::default() || self.0.allows(value)
    }
}

/// How often something happens, or never; that is no time at all in the program.
pub(super) struct Never(pub(super) Span);

impl Kind for Never {
    type Value = Duration;

    fn expected(&self) -> String {
        format!("\"never\" or {}", self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Duration> {
        if text(value) == Some("never") { Some(Duration::ZERO) } else { self.0.read(value) }
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        match Count(0..=0).read(value) {
            Some(0) => Some("write \"never\"".to_owned()),
            _ => self.0.advice(value),
        }
    }

    fn write(&self, value: &Duration) -> String {
        if value.is_zero() { quoted("never") } else { self.0.write(value) }
    }

    fn allows(&self, value: &Duration) -> bool {
        value.is_zero() || self.0.allows(value)
    }
}

/// A value of another kind, or a word for none.
pub(super) struct Word<K>(pub(super) &'static str, pub(super) K);

impl<K: Kind> Kind for Word<K> {
    type Value = Option<K::Value>;

    fn expected(&self) -> String {
        format!("{} or {}", quoted(self.0), self.1.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Option<K::Value>> {
        if text(value) == Some(self.0) { Some(None) } else { self.1.read(value).map(Some) }
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        match text(value) {
            Some(text) if text.eq_ignore_ascii_case(self.0) => Some(format!("write {}", quoted(self.0))),
            Some(_) if self.0 == UNLIMITED => unlimited_in_other_words(value).or_else(|| self.1.advice(value)),
            _ => self.1.advice(value),
        }
    }

    fn write(&self, value: &Option<K::Value>) -> String {
        value.as_ref().map_or_else(|| quoted(self.0), |value| self.1.write(value))
    }

    fn allows(&self, value: &Option<K::Value>) -> bool {
        value.as_ref().is_none_or(|value| self.1.allows(value))
    }
}

/// One of a few words.
pub(super) struct OneOf<T>(PhantomData<T>);

/// One of the words of `T`.
pub(super) const fn one_of<T: Choice>() -> OneOf<T> {
    OneOf(PhantomData)
}

impl<T: Choice> Kind for OneOf<T> {
    type Value = T;

    fn expected(&self) -> String {
        let words: Vec<String> = T::WORDS.iter().map(|(_, word)| quoted(word)).collect();
        match words.split_last() {
            Some((last, [_, ..])) => format!("{} or {last}", words[..words.len() - 1].join(", ")),
            _ => words.concat(),
        }
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        T::from_word(text(value)?)
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        let written = text(value)?;
        let (_, word) = T::WORDS.iter().find(|(_, word)| word.eq_ignore_ascii_case(written))?;
        Some(format!("write {}", quoted(word)))
    }

    fn write(&self, value: &T) -> String {
        quoted(value.word())
    }

    fn allows(&self, _: &T) -> bool {
        true
    }
}

/// A list of words, at least one, each once.
pub(super) struct ListOf<T>(pub(super) OneOf<T>);

impl<T: Choice> Kind for ListOf<T> {
    type Value = Vec<T>;

    fn expected(&self) -> String {
        format!("a list of at least one, each once, of {}", self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Vec<T>> {
        match value {
            DeValue::Array(items) => items.iter().map(|item| self.0.read(item.get_ref())).collect(),
            _ => None,
        }
    }

    fn write(&self, value: &Vec<T>) -> String {
        let words: Vec<String> = value.iter().map(|item| self.0.write(item)).collect();
        format!("[{}]", words.join(", "))
    }

    fn allows(&self, value: &Vec<T>) -> bool {
        !value.is_empty() && value.iter().enumerate().all(|(at, item)| !value[..at].contains(item))
    }
}

/// A list of words, each once; perhaps none at all.
pub(super) struct SomeOf<T>(pub(super) OneOf<T>);

impl<T: Choice> Kind for SomeOf<T> {
    type Value = Vec<T>;

    fn expected(&self) -> String {
        format!("a list, each at most once, of {}", self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Vec<T>> {
        ListOf(one_of()).read(value)
    }

    fn write(&self, value: &Vec<T>) -> String {
        ListOf(one_of()).write(value)
    }

    fn allows(&self, value: &Vec<T>) -> bool {
        value.is_empty() || ListOf(one_of()).allows(value)
    }
}

/// Topics that begin with `$` and belong to others than the broker.
pub(super) struct DollarTopics;

impl Kind for DollarTopics {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of topics that begin with $, none of them $SYS or $share, such as [\"$aws\", \"$hw/events\"]".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Vec<String>> {
        texts(value)
    }

    fn write(&self, value: &Vec<String>) -> String {
        quoted_list(value)
    }

    fn allows(&self, value: &Vec<String>) -> bool {
        value.iter().all(|topic| {
            // $SYS is the broker's own. What begins with $share/ is never a topic that can be subscribed to (4.8.2).
            let mut levels = topic.split('/');
            let is_free = levels
                .next()
                .is_some_and(|first| first.len() > 1 && first.starts_with('$') && !["$SYS", "$share"].contains(&first));
            is_free && levels.all(|level| !level.is_empty()) && !topic.contains(['+', '#', '\0'])
        })
    }
}

/// What is written as a string: what is expected of it, how it is read, and what to do if it cannot be.
pub(super) struct Text<T> {
    expected: &'static str,
    read: fn(&str) -> Option<T>,
    advice: fn(&DeValue<'_>) -> Option<String>,
}

impl<T> Text<T> {
    const fn new(expected: &'static str, read: fn(&str) -> Option<T>) -> Self {
        Text { expected, read, advice: |_| None }
    }
}

impl<T: Display> Kind for Text<T> {
    type Value = T;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        (self.read)(text(value)?)
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        (self.advice)(value)
    }

    fn write(&self, value: &T) -> String {
        quoted(value)
    }

    fn allows(&self, value: &T) -> bool {
        (self.read)(&value.to_string()).is_some()
    }
}

/// Where a listener listens.
pub(super) fn address() -> Text<SocketAddr> {
    Text {
        expected: "an address and port, such as \"127.0.0.1:1883\" or \"localhost:1883\"",
        read: |text| host::address(text).ok(),
        advice: |value| match (text(value), value) {
            (Some(text), _) => host::address(text).err(),
            (None, DeValue::Integer(port)) => Some(host::port_only(port.as_str())),
            _ => None,
        },
    }
}

/// Cores to run on.
pub(super) fn cores() -> Text<CpuSet> {
    Text {
        expected: "core numbers, such as \"0-3,6\"",
        read: |text| text.parse().ok(),
        advice: |value| match value {
            DeValue::Integer(_) => {
                Some("write the numbers of the cores as text; how many shards run is set by shards".to_owned())
            }
            DeValue::Array(_) => Some("write them as one text, such as \"0,1\"".to_owned()),
            _ => None,
        },
    }
}

/// A namespace of clients and topics.
pub(super) fn mountpoint() -> Text<String> {
    Text::new("at most 64 bytes of text without control characters, + and #", |text| {
        let forbidden = |c: char| c.is_control() || c == '+' || c == '#';
        (text.len() <= 64 && !text.contains(forbidden)).then(|| text.to_owned())
    })
}

/// A file on this machine.
pub(super) fn path() -> Text<String> {
    Text::new("the path of a file, such as \"/etc/moormq/users\"", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
    })
}

/// A Unix socket on this machine. The kernel takes 107 bytes; some are left for where it is made.
pub(super) fn socket_path() -> Text<String> {
    Text::new("the path of a socket, of at most 90 bytes, such as \"/run/moormq/control\"", |text| {
        (!text.is_empty() && text.len() <= 90 && !text.contains('\0')).then(|| text.to_owned())
    })
}

/// A directory on this machine.
pub(super) fn directory() -> Text<String> {
    Text::new("the path of a directory, such as \"/var/lib/moormq\"", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
    })
}

/// What is logged. A bare word that is not a level would be taken for a target and silence all else; it is a slip more
/// often than that, and a target can be written with its level.
pub(super) fn log_filter() -> Text<String> {
    Text::new("a level such as \"info\", or directives such as \"info,moormq::net=debug\"", |text| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let plain = |directive: &str| directive.contains(['=', '[']) || levels.contains(&directive);
        (text.split(',').all(|directive| plain(directive.trim())) && EnvFilter::try_new(text).is_ok())
            .then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kind::tests::{accepts, advises, refuses};
    use crate::config::numbers::{MIB, SECOND, Size, Span};
    use crate::config::values::{Protocol, QueueType};

    #[test]
    fn kinds_combine() {
        let unlimited = "\"unlimited\"";
        let size = Limited(Size(1..=MIB));
        accepts(&size, &[(unlimited, unlimited), ("-1", unlimited), ("\"4KiB\"", "\"4KiB\""), ("5", "\"5B\"")]);
        refuses(&Limited(Count(1..=9)), &["-2", "0", "10", "\"Unlimited\""]);
        accepts(&Rate(Count(1..=9)), &[(unlimited, unlimited), ("-1", unlimited), ("0", unlimited), ("9", "9")]);
        refuses(&Rate(Count(1..=9)), &["10", "\"0\"", "-2"]);
        let often = Never(Span(SECOND..=60 * SECOND));
        accepts(&often, &[("\"never\"", "\"never\""), ("\"0s\"", "\"never\""), ("\"1s\"", "\"1s\"")]);
        refuses(&often, &["0", "\"1ms\"", "\"unlimited\""]);
        let never = Word("never", Span(SECOND..=60 * SECOND));
        accepts(&never, &[("\"never\"", "\"never\""), ("\"1m\"", "\"1m\"")]);
        refuses(&never, &["\"Never\"", "\"61s\"", "0"]);
    }

    #[test]
    fn what_was_meant_is_guessed() {
        advises(
            &Flag,
            &[
                ("\"yes\"", "write true, without quotation marks"),
                ("\"False\"", "write false, without quotation marks"),
            ],
        );
        advises(&one_of::<QueueType>(), &[("\"FIFO\"", "write \"fifo\"")]);
        advises(&Word("never", Span(SECOND..=60 * SECOND)), &[("\"Never\"", "write \"never\"")]);
        let unlimited = [("\"infinity\"", "write \"unlimited\""), ("\"never\"", "write \"unlimited\"")];
        advises(&Limited(Count(1..=9)), &unlimited);
        advises(&Word(UNLIMITED, Span(SECOND..=60 * SECOND)), &unlimited);
        advises(&Never(Span(SECOND..=60 * SECOND)), &[("0", "write \"never\"")]);
        advises(&cores(), &[("[0, 1]", "write them as one text, such as \"0,1\"")]);
        advises(
            &address(),
            &[("1883", "write \"127.0.0.1:1883\" for this machine alone, or \"0.0.0.0:1883\" for the network")],
        );
    }

    #[test]
    fn words_and_lists_of_words() {
        assert_eq!(one_of::<QueueType>().expected(), "\"fifo\" or \"lifo\"");
        refuses(&one_of::<QueueType>(), &["\"FIFO\"", "1"]);
        let protocols = ListOf(one_of::<Protocol>());
        assert_eq!(protocols.expected(), "a list of at least one, each once, of \"3.1\", \"3.1.1\" or \"5\"");
        accepts(&protocols, &[("[\"5\", \"3.1\"]", "[\"5\", \"3.1\"]")]);
        refuses(&protocols, &["[]", "[\"5\", \"5\"]", "[5]", "\"5\"", "[\"4\"]"]);
    }

    #[test]
    fn topics_of_others() {
        let several = "[\"$aws\", \"$hw/events\"]";
        accepts(&DollarTopics, &[("[]", "[]"), (several, several)]);
        for topic in [
            "aws",
            "$",
            "",
            "$SYS",
            "$SYS/broker",
            "$share",
            "$share/g",
            "$aws/",
            "$a//b",
            "$aws/#",
            "$+/a",
            "$a\\u0000",
        ] {
            refuses(&DollarTopics, &[&format!("[\"{topic}\"]")]);
        }
        refuses(&DollarTopics, &["\"$aws\"", "[1]"]);
    }

    #[test]
    fn text_with_a_meaning() {
        accepts(&address(), &[("\"[::1]:1883\"", "\"[::1]:1883\""), ("\"localhost:1883\"", "\"127.0.0.1:1883\"")]);
        refuses(&address(), &["\"localhost\"", "\"127.0.0.1\"", "\"127.0.0.1:70000\"", "1883"]);
        accepts(&mountpoint(), &[("\"\"", "\"\""), ("\"tenant a\"", "\"tenant a\"")]);
        refuses(&mountpoint(), &["\"a/+\"", "\"#\"", "\"\\u0000\"", &format!("\"{}\"", "x".repeat(65))]);
        accepts(
            &log_filter(),
            &[("\"info\"", "\"info\""), ("\"warn,moormq::net=debug\"", "\"warn,moormq::net=debug\"")],
        );
        refuses(&log_filter(), &["\"verbose\"", "\"inof\"", "\"moormq=loud\"", "\"\"", "3"]);
    }
}
