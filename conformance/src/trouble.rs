//! The error type of this crate: a sentence for the reader of a failed test.

use std::{error::Error, fmt};

/// An error in words, with the action that failed.
pub struct Trouble(String);

impl Trouble {
    /// An error with this text.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

// A failed `expect` prints Debug, so Debug is the sentence without quotes and escapes.
impl fmt::Debug for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Error for Trouble {}

/// Adds the failed action to an error.
pub trait During<T> {
    /// Converts the error into [`Trouble`] that names the action.
    ///
    /// # Errors
    /// The same error, described.
    fn during(self, doing: impl fmt::Display) -> Result<T, Trouble>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, doing: impl fmt::Display) -> Result<T, Trouble> {
        self.map_err(|error| Trouble(format!("{doing}: {error}")))
    }
}
