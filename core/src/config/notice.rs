//! What configuration wants said in the log. The log itself is the host's.

/// How grave a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Info,
    /// Probably not what was meant.
    Warn,
    /// The reason why the process ends.
    Fatal,
}

/// One log line: etcd's message where tools look for it, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How grave it is.
    pub level: Level,
    /// The message.
    pub msg: String,
    /// Names and values beside the message, in order.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    /// A line worth knowing.
    #[must_use]
    pub fn info(msg: impl Into<String>) -> Self {
        Self::new(Level::Info, msg)
    }

    /// A line worth acting on.
    #[must_use]
    pub fn warn(msg: impl Into<String>) -> Self {
        Self::new(Level::Warn, msg)
    }

    /// The last line of a process.
    #[must_use]
    pub fn fatal(msg: impl Into<String>) -> Self {
        Self::new(Level::Fatal, msg)
    }

    /// The same line with one field more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    fn new(level: Level, msg: impl Into<String>) -> Self {
        Self {
            level,
            msg: msg.into(),
            fields: Vec::new(),
        }
    }
}
