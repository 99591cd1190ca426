//! The one error type here: a sentence for the person who reads the failed test.

use std::{error::Error, fmt};

/// What went wrong, in words, with what was being done.
pub struct Trouble(String);

impl Trouble {
    /// A failure described by its own sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

// A failed `expect` prints Debug: the sentence reads better bare than quoted and escaped.
impl fmt::Debug for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Error for Trouble {}

/// Says what was being done when an error arose.
pub trait During<T> {
    /// Turns the error into [`Trouble`] that names the doing.
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
