//! The errors of the configuration: sentences that say where, what, and what to do.

use std::fmt;

/// A fault of a configuration, in one sentence: `moormq.toml:12: limits.receive_maximum: must be 1 to 65535,
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
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
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

/// Every fault that a configuration has, one at least, in the order of the file. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// These faults; none if there are none.
    pub(super) fn of(mut errors: Vec<ConfigError>) -> Result<(), Self> {
        // Those about what the file leaves out come last.
        errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// The faults, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// The same, found in `file`.
    pub fn in_file(self, file: &str) -> Self {
        ConfigErrors(self.0.into_iter().map(|error| error.in_file(file)).collect())
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }
}

impl IntoIterator for ConfigErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, error)| {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")
        })
    }
}

impl std::error::Error for ConfigErrors {}
