//! Rounds: a fresh server, clients, one disturbance, and the check.

use std::{fmt, thread};

use super::check::{self, Summary};
use super::clients::{self, Shared};
use super::nemesis::Nemesis;
use crate::binaries::Kind;
use crate::outcome::{Outcome, Tell, Told, Verdict};
use crate::rng::Rng;
use crate::setup::Setup;
use crate::trouble::{During as _, Trouble};

/// A history with fewer acknowledged requests is too short to count.
const ACKNOWLEDGED_MIN: usize = 100;

/// The rounds of one disturbance on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The server.
    pub kind: Kind,
    /// The disturbance.
    pub nemesis: Nemesis,
    /// Rounds without a violation.
    pub rounds: u64,
    /// The sum of all their histories.
    pub total: Summary,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, nemesis) = (self.kind.name(), self.nemesis.name());
        write!(out, "{server}, {nemesis}: {} rounds, {}", self.rounds, self.total)
    }
}

/// Plays `rounds` rounds of every disturbance on every server, and reports one outcome for each pair.
///
/// # Errors
/// If a server cannot be started or disturbed. A violation is an outcome.
pub fn run(setup: Setup, kinds: &[Kind], rounds: u64, seed: u64, tell: &mut Tell<'_>) -> Result<Vec<Figures>, Trouble> {
    let mut all = Vec::new();
    tell(Told::Planned(kinds.len() as u64 * Nemesis::ALL.len() as u64 * rounds));
    for kind in kinds {
        for nemesis in Nemesis::ALL {
            let (figures, verdict) = play(setup, *kind, nemesis, rounds, seed, tell)?;
            tell(Told::Outcome(Outcome {
                suite: "histories",
                client: String::new(),
                method: String::new(),
                scenario: nemesis.name().to_owned(),
                server: *kind,
                verdict,
            }));
            all.push(figures);
        }
    }
    Ok(all)
}

fn play(
    setup: Setup,
    kind: Kind,
    nemesis: Nemesis,
    rounds: u64,
    seed: u64,
    tell: &mut Tell<'_>,
) -> Result<(Figures, Verdict), Trouble> {
    let mut figures = Figures {
        kind,
        nemesis,
        rounds: 0,
        total: Summary::default(),
    };
    for seed in seed..seed + rounds {
        match round(setup, kind, nemesis, seed)? {
            Ok(summary) => {
                figures.total.add(summary);
                tell(Told::Step(format!("{}, seed {seed}", nemesis.name())));
            }
            Err(words) => return Ok((figures, Verdict::Failed(format!("seed {seed}: {words}")))),
        }
        figures.rounds += 1;
    }
    Ok((figures, Verdict::Passed))
}

/// Plays one round; returns the counts of the history, or the violation in words.
///
/// # Errors
/// If the server cannot be started or disturbed.
pub fn round(setup: Setup, kind: Kind, nemesis: Nemesis, seed: u64) -> Result<Result<Summary, String>, Trouble> {
    let mut rng = Rng::new(seed);
    let mut server = setup.launch(kind)?.start()?;
    let shared = Shared::new(server.address());
    let loading = {
        let (shared, rng) = (shared.clone(), Rng::new(rng.bits()));
        thread::spawn(move || -> Result<(), Trouble> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .during("a runtime for the clients")?;
            runtime.block_on(clients::load(shared, rng));
            Ok(())
        })
    };
    let disturbed = nemesis.disturb(&mut server, &shared, &mut rng);
    shared.stop();
    loading.join().map_err(|_| Trouble::new("the clients panicked"))??;
    disturbed?;
    let history = std::mem::take(&mut *shared.history());
    let acknowledged = history.operations.iter().filter(|one| one.returned.is_some()).count();
    Ok(match check::all(&history) {
        Ok(summary) if acknowledged >= ACKNOWLEDGED_MIN => Ok(summary),
        Ok(_) => Err(format!("only {acknowledged} requests were answered")),
        Err(violation) => Err(check::tell(&history, &violation)),
    })
}
