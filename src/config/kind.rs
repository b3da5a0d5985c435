//! What a kind of value is: how it is read from TOML, written as TOML, bounded, and described.

use std::fmt::Display;

use toml::de::DeValue;

/// A kind of value.
pub(super) trait Kind {
    /// What it is in the program.
    type Value;

    /// What is allowed, to stand between "must be" and "not ..".
    fn expected(&self) -> String;

    /// The value; none if it is not of this kind. Whether it is within bounds, [`Kind::allows`] says.
    fn read(&self, value: &DeValue<'_>) -> Option<Self::Value>;

    /// What to write instead of `value`, which is not allowed, if that can be guessed: the end of a sentence.
    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        let _ = value;
        None
    }

    /// The value as TOML.
    fn write(&self, value: &Self::Value) -> String;

    /// Whether the value is within bounds.
    fn allows(&self, value: &Self::Value) -> bool;
}

/// Text within a value, if it is a string.
pub(super) fn text<'a>(value: &'a DeValue<'_>) -> Option<&'a str> {
    match value {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

/// The texts within a value, if it is a list of strings.
pub(super) fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref()).map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A TOML list of strings.
pub(super) fn quoted_list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

/// A TOML string.
pub(super) fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What `kind` makes of the TOML value `source`: what it would write back, or nothing.
    pub(in crate::config) fn read<K: Kind>(kind: &K, source: &str) -> Option<String> {
        let value = DeValue::parse(source).expect("the test writes valid TOML");
        kind.read(value.get_ref()).filter(|value| kind.allows(value)).map(|value| kind.write(&value))
    }

    pub(in crate::config) fn accepts<K: Kind>(kind: &K, cases: &[(&str, &str)]) {
        for (source, written) in cases {
            assert_eq!(read(kind, source).as_deref(), Some(*written), "{source}");
        }
    }

    pub(in crate::config) fn advises<K: Kind>(kind: &K, cases: &[(&str, &str)]) {
        for (source, advice) in cases {
            assert_eq!(read(kind, source), None, "{source}");
            let value = DeValue::parse(source).expect("the test writes valid TOML");
            assert_eq!(kind.advice(value.get_ref()).as_deref(), Some(*advice), "{source}");
        }
    }

    pub(in crate::config) fn refuses<K: Kind>(kind: &K, cases: &[&str]) {
        for source in cases {
            assert_eq!(read(kind, source), None, "{source}");
        }
    }
}
