//! Why a server did not start, in words for its process or its embedder.

use std::fmt;

use crate::assemble::AssembleError;
use crate::running::Ended;
use crate::threads::Panic;

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener could not be opened.
    Listen(String),
    /// The member could not be started.
    Boot(AssembleError),
    /// The keys of signed tokens cannot be used.
    Token(String),
    /// A thread could not be started.
    Thread(std::io::Error),
    /// The start itself panicked.
    Panic(Panic),
    /// The member ended before it served.
    Ended(Ended),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(why) | Self::Token(why) => f.write_str(why),
            Self::Boot(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Panic(panic) => panic.fmt(f),
            Self::Ended(Ended::Failed(why)) => write!(f, "the member failed before it served: {why}"),
            Self::Ended(Ended::Removed) => f.write_str("the member was removed from the cluster before it served"),
            Self::Ended(Ended::Stopped) => f.write_str("the member was stopped before it served"),
        }
    }
}

impl std::error::Error for StartError {}
