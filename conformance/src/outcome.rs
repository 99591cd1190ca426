//! What came of one thing that was tried with one server: the rows of the report.
//!
//! Every suite (client scenarios, differential requests, histories, crash points) tells through [`Tell`] how much there is to
//! do and what is done, step by step, so that progress shows while it runs. The report is made of its outcomes and nothing
//! else.

use crate::binaries::Kind;

/// How it went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// As it should.
    Passed,
    /// It did not work; in words.
    Failed(String),
    /// It worked otherwise than with a real etcd; the shortest script that shows it.
    Differs(String),
}

/// One row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Which suite: `clients`, `differential`, `histories`, `crash-points`.
    pub suite: &'static str,
    /// With which client, in which language; empty where the suite has no such thing.
    pub client: String,
    /// The API method that this is about most, `KV.Put` say; empty where it is about many.
    pub method: String,
    /// The scenario.
    pub scenario: String,
    /// Against which server.
    pub server: Kind,
    /// How it went.
    pub verdict: Verdict,
}

/// What a suite tells while it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Told {
    /// So many more steps there are.
    Planned(u64),
    /// One of them is done; in words.
    Step(String),
    /// What came of something.
    Outcome(Outcome),
}

/// Takes what is told as it comes.
pub type Tell<'a> = dyn FnMut(Told) + 'a;

impl Told {
    /// The outcome, if it is one.
    #[must_use]
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Outcome(outcome) => Some(outcome),
            Self::Planned(_) | Self::Step(_) => None,
        }
    }
}

impl Outcome {
    /// The suite and the client.
    #[must_use]
    pub fn origin(&self) -> Vec<String> {
        vec![self.suite.to_owned(), self.client.clone()]
    }

    /// Whether it is as it should be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Passed
    }
}
