//! Log lines about the configuration. The host writes them.

use std::fmt;
use std::panic::Location;

/// The level of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Information.
    Info,
    /// Probably a mistake.
    Warn,
    /// The reason why the process ends.
    Fatal,
}

/// One log line: a message and fields. The message is etcd's if tools search for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its level.
    pub level: Level,
    /// The message.
    pub msg: String,
    /// Names and values after the message, in order.
    pub fields: Vec<(&'static str, Field)>,
    /// The place in the source that made the notice.
    pub source: Source,
}

/// A place in the source. It does not count in comparisons: any two are equal.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub &'static Location<'static>);

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Source {}

/// The value of a field, with the type that etcd gives it in its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A list of texts.
    List(Vec<String>),
    /// A text.
    Text(String),
    /// A whole number from 0 on.
    Uint(u64),
}

impl Notice {
    /// A notice of level info.
    #[must_use]
    #[track_caller]
    pub fn info(msg: impl Into<String>) -> Self {
        Self::new(Level::Info, msg)
    }

    /// A notice of level warn.
    #[must_use]
    #[track_caller]
    pub fn warn(msg: impl Into<String>) -> Self {
        Self::new(Level::Warn, msg)
    }

    /// The last line of a process.
    #[must_use]
    #[track_caller]
    pub fn fatal(msg: impl Into<String>) -> Self {
        Self::new(Level::Fatal, msg)
    }

    /// The same notice with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Field>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    #[track_caller]
    fn new(level: Level, msg: impl Into<String>) -> Self {
        Self {
            level,
            msg: msg.into(),
            fields: Vec::new(),
            source: Source(Location::caller()),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(on) => on.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::List(texts) => f.write_str(&texts.join(",")),
            Self::Text(text) => f.write_str(text),
            Self::Uint(number) => number.fmt(f),
        }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Field {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for Field {
    fn from(texts: Vec<String>) -> Self {
        Self::List(texts)
    }
}

impl From<bool> for Field {
    fn from(on: bool) -> Self {
        Self::Bool(on)
    }
}

impl From<i64> for Field {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Uint(number)
    }
}
