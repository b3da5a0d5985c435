//! Kinds of words, lists and texts.
//!
//! Kinds combine: `Word("never", Span(..))` is a duration or the word `never`, `Limited(Count(..))` a count or -1.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::SocketAddr;

use toml::de::DeValue;
use tracing_subscriber::EnvFilter;

use super::kind::{Kind, quoted, text};
use super::numbers::Count;
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

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn allows(&self, _: &bool) -> bool {
        true
    }
}

/// A number of another kind, or -1 for unlimited.
pub(super) struct Limited<K>(pub(super) K);

impl<K: Kind<Value = usize>> Kind for Limited<K> {
    type Value = Limit;

    fn expected(&self) -> String {
        format!("-1 (unlimited) or {}", self.0.expected())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Limit> {
        match Count(-1..=-1).read(value) {
            Some(-1) => Some(Limit::UNLIMITED),
            Some(_) | None => self.0.read(value).map(Limit::at_most),
        }
    }

    fn write(&self, value: &Limit) -> String {
        value.get().map_or_else(|| "-1".to_owned(), |number| self.0.write(&number))
    }

    fn allows(&self, value: &Limit) -> bool {
        value.get().is_none_or(|number| self.0.allows(&number))
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
        match value {
            DeValue::Array(items) => items.iter().map(|item| text(item.get_ref()).map(str::to_owned)).collect(),
            _ => None,
        }
    }

    fn write(&self, value: &Vec<String>) -> String {
        let topics: Vec<String> = value.iter().map(quoted).collect();
        format!("[{}]", topics.join(", "))
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

/// What is written as a string: what is expected of it, and how it is read.
pub(super) struct Text<T>(&'static str, fn(&str) -> Option<T>);

impl<T: Display> Kind for Text<T> {
    type Value = T;

    fn expected(&self) -> String {
        self.0.to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        (self.1)(text(value)?)
    }

    fn write(&self, value: &T) -> String {
        quoted(value)
    }

    fn allows(&self, value: &T) -> bool {
        (self.1)(&value.to_string()).is_some()
    }
}

/// Where a listener listens.
pub(super) fn address() -> Text<SocketAddr> {
    Text("an IP address and port, such as \"127.0.0.1:1883\"", |text| text.parse().ok())
}

/// Cores to run on.
pub(super) fn cores() -> Text<CpuSet> {
    Text("core numbers, such as \"0-3,6\"", |text| text.parse().ok())
}

/// A namespace of clients and topics.
pub(super) fn mountpoint() -> Text<String> {
    Text("at most 64 bytes of text without control characters, + and #", |text| {
        let forbidden = |c: char| c.is_control() || c == '+' || c == '#';
        (text.len() <= 64 && !text.contains(forbidden)).then(|| text.to_owned())
    })
}

/// A file on this machine.
pub(super) fn path() -> Text<String> {
    Text("the path of a file, such as \"/etc/moormq/users\"", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
    })
}

/// A Unix socket on this machine. The kernel takes 107 bytes; some are left for where it is made.
pub(super) fn socket_path() -> Text<String> {
    Text("the path of a socket, of at most 90 bytes, such as \"/run/moormq/control\"", |text| {
        (!text.is_empty() && text.len() <= 90 && !text.contains('\0')).then(|| text.to_owned())
    })
}

/// What is logged. A bare word that is not a level would be taken for a target and silence all else; it is a slip more
/// often than that, and a target can be written with its level.
pub(super) fn log_filter() -> Text<String> {
    Text("a level such as \"info\", or directives such as \"info,moormq::net=debug\"", |text| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let plain = |directive: &str| directive.contains(['=', '[']) || levels.contains(&directive);
        (text.split(',').all(|directive| plain(directive.trim())) && EnvFilter::try_new(text).is_ok())
            .then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kind::tests::{accepts, refuses};
    use crate::config::numbers::{MIB, SECOND, Size, Span};
    use crate::config::values::{Protocol, QueueType};

    #[test]
    fn kinds_combine() {
        accepts(&Limited(Size(1..=MIB)), &[("-1", "-1"), ("\"4KiB\"", "\"4KiB\""), ("5", "\"5B\"")]);
        refuses(&Limited(Count(1..=9)), &["-2", "0", "10", "\"unlimited\""]);
        let never = Word("never", Span(SECOND..=60 * SECOND));
        accepts(&never, &[("\"never\"", "\"never\""), ("\"1m\"", "\"1m\"")]);
        refuses(&never, &["\"Never\"", "\"61s\"", "0"]);
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
        accepts(&address(), &[("\"[::1]:1883\"", "\"[::1]:1883\"")]);
        refuses(&address(), &["\"localhost:1883\"", "\"127.0.0.1\"", "\"127.0.0.1:70000\"", "1883"]);
        accepts(&mountpoint(), &[("\"\"", "\"\""), ("\"tenant a\"", "\"tenant a\"")]);
        refuses(&mountpoint(), &["\"a/+\"", "\"#\"", "\"\\u0000\"", &format!("\"{}\"", "x".repeat(65))]);
        accepts(
            &log_filter(),
            &[("\"info\"", "\"info\""), ("\"warn,moormq::net=debug\"", "\"warn,moormq::net=debug\"")],
        );
        refuses(&log_filter(), &["\"verbose\"", "\"inof\"", "\"moormq=loud\"", "\"\"", "3"]);
    }
}
