//! The outcome of one scenario on one server: a row of the report.
//!
//! Every suite (client scenarios, differential requests, histories, crash points) reports its amount of work and every
//! finished step through [`Tell`], so that progress is visible while it runs. The report consists of the outcomes only.

use crate::binaries::Kind;

/// The verdict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed; the reason in words.
    Failed(String),
    /// The result differs from a real etcd's; the shortest script that shows it.
    Differs(String),
}

/// One row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The suite: `clients`, `differential`, `histories`, `crash-points`.
    pub suite: &'static str,
    /// The client and its language; empty if the suite has no clients.
    pub client: String,
    /// The main API method, such as `KV.Put`; empty if there are many.
    pub method: String,
    /// The scenario.
    pub scenario: String,
    /// The server.
    pub server: Kind,
    /// The verdict.
    pub verdict: Verdict,
}

/// The reports of a suite while it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Told {
    /// This many more steps are planned.
    Planned(u64),
    /// A step is finished; in words.
    Step(String),
    /// An outcome.
    Outcome(Outcome),
}

/// Takes the reports as they come.
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

    /// Whether it passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Passed
    }
}
