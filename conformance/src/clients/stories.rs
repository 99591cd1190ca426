//! Rust's etcd-client: the stories of `tests/it/client`, run as tests, and their results as outcomes.

use std::{process::Command, time::Duration};

use quoin_tools::Progress;

use crate::{
    binaries::Kind,
    command,
    outcome::{Outcome, Tell, Told, Verdict},
    paths,
    trouble::Trouble,
};

/// Includes a cold build of the tests.
const LIMIT: Duration = Duration::from_mins(20);
const CLIENT: &str = "Rust etcd-client, and raw HTTP/2";

/// Plays every story against a real etcd and these servers.
///
/// # Errors
/// If the tests cannot be built or run.
pub(super) fn play(kinds: &[Kind], tell: &mut Tell<'_>) -> Result<(), Trouble> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(paths::workspace())
        .env("CARGO_TARGET_DIR", paths::target())
        .args(["test", "--quiet", "-p", "quoin-conformance", "--test", "it"])
        .args(["client::", "--", "--format=pretty", "--test-threads=4"]);
    let shown = Progress::waiting(format!("building and playing the stories of {CLIENT}"));
    let finished = command::run(&mut cargo, b"", LIMIT)?;
    drop(shown);
    let outcomes = outcomes(&finished.stdout);
    if outcomes.is_empty() {
        let said = finished.success("the stories of etcd-client")?;
        return Err(Trouble::new(format!(
            "the stories of etcd-client printed no results: {said}"
        )));
    }
    for outcome in outcomes {
        if outcome.server == Kind::Etcd || kinds.contains(&outcome.server) {
            tell(Told::Outcome(outcome));
        }
    }
    Ok(())
}

/// The test runner's output as outcomes.
fn outcomes(printed: &str) -> Vec<Outcome> {
    let told = printed.lines().filter_map(|line| {
        let (test, ended) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let mut names = test.rsplit("::");
        let (story, server) = (names.next()?, server(names.next()?)?);
        let verdict = match ended {
            "ok" => Verdict::Passed,
            _ => Verdict::Differs(complaint(printed, test)),
        };
        Some(Outcome {
            suite: super::SUITE,
            client: CLIENT.to_owned(),
            method: method(story).to_owned(),
            scenario: story.to_owned(),
            server,
            verdict,
        })
    });
    told.collect()
}

/// The server of a module of tests.
fn server(module: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| match kind {
        Kind::Etcd => module == "real_etcd",
        Kind::QuoinTokio | Kind::QuoinSmol | Kind::QuoinAsyncStd => kind.name().replace('-', "_") == module,
    })
}

/// The output of a failed test.
fn complaint(printed: &str, test: &str) -> String {
    let begun = printed.split_once(&format!("---- {test} stdout ----\n"));
    let said = begun.map_or("it failed", |(_, said)| said.split("\n---- ").next().unwrap_or(said));
    said.trim().to_owned()
}

/// The main API method of a story; empty if there are many.
fn method(story: &str) -> &'static str {
    match story {
        "puts" | "big_values" => "KV.Put",
        "gets" | "many_keys" | "unknown_sorts" => "KV.Range",
        "deletes" => "KV.DeleteRange",
        "compacted_and_future_revisions" => "KV.Compact",
        "compares"
        | "many_operations"
        | "nested_transactions"
        | "range_compares"
        | "refused_transactions"
        | "transactions" => "KV.Txn",
        "lease_lives_and_ends" => "Lease.LeaseKeepAlive",
        "leases_and_their_keys" | "refused_leases" => "Lease.LeaseGrant",
        "cancelled_watches" | "filters" | "fragments" | "live_events" | "past_events" | "progress"
        | "progress_notify" | "watch_ids" => "Watch.Watch",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_runners_lines_become_outcomes() {
        let printed = "test quoin_async_std::puts ... ok\ntest tale::tests::other ... ok\ntest real_etcd::wrong_http ... FAILED\n\
                       \nfailures:\n\n---- real_etcd::wrong_http stdout ----\nthey differ\n\n---- next stdout ----\nno\n";
        let told: Vec<(String, Kind, Verdict)> = outcomes(printed)
            .into_iter()
            .map(|one| (one.method + "/" + &one.scenario, one.server, one.verdict))
            .collect();
        let expected = [
            ("KV.Put/puts".to_owned(), Kind::QuoinAsyncStd, Verdict::Passed),
            (
                "/wrong_http".to_owned(),
                Kind::Etcd,
                Verdict::Differs("they differ".to_owned()),
            ),
        ];
        assert_eq!(told, expected);
    }
}
