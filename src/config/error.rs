//! The one error of the configuration: a sentence that says where, what, and what to do.

use std::fmt;

/// Why a configuration cannot be used, in one sentence: `moormq.toml:12: limits.receive_maximum: must be 1 to 65535,
/// not 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named by whoever asked for it; none for a configuration built in code.
    pub file: Option<String>,
    /// The line in that file, counted from 1; none if the file does not mention the key.
    pub line: Option<usize>,
    /// The setting, with its sections: `limits.receive_maximum`. Empty if the file as a whole is at fault.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl ConfigError {
    /// An error about `key`, in no file yet.
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        ConfigError { file: None, line: None, key: key.into(), problem: problem.into() }
    }

    /// The same, found on `line`.
    pub(super) fn on_line(self, line: Option<usize>) -> Self {
        ConfigError { line, ..self }
    }

    /// The same, found in `file`.
    pub(super) fn in_file(self, file: &str) -> Self {
        ConfigError { file: Some(file.to_owned()), ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}
