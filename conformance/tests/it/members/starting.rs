//! Servers that do not belong to the cluster: those that must end at their start, and one whose messages the cluster
//! refuses.

use quoin_conformance::Trouble;

use super::table::Table;

const THREE: &str = "--initial-cluster=one=http://<one-peer>,two=http://<two-peer>,three=http://<three-peer>";
const FOUR: &str =
    "--initial-cluster=one=http://<one-peer>,two=http://<two-peer>,three=http://<three-peer>,four=http://<four-peer>";
const ALONE: &str = "--initial-cluster=four=http://<four-peer>";
const EXISTING: &str = "--initial-cluster-state=existing";

pub(crate) fn servers_that_do_not_belong_to_the_cluster_cannot_join_it(table: &mut Table) -> Result<(), Trouble> {
    table.expect("four")?;
    table.expect("other")?;
    for flags in [
        &[THREE, EXISTING][..],
        &[FOUR, EXISTING],
        &[ALONE, EXISTING],
        &["--initial-cluster=four=http://<one-peer>"],
        &[
            "--initial-cluster=one=http://<one-peer>,two=http://<two-peer>,four=http://<four-peer>",
            EXISTING,
        ],
        &[
            "--initial-cluster=one=http://<one-peer>,one=http://<two-peer>,four=http://<one-peer>",
            EXISTING,
        ],
    ] {
        table.join("four", 1, flags)?;
        table.ends("four")?;
    }
    table.ctl("one", "put a 1")?;
    table.kill("three")?;
    table.wipe("three")?;
    table.again("three", &[])?;
    table.ends("three")?;
    table.again("three", &[EXISTING])?;
    table.ends_again("three")?;
    table.join("other", 2, &["--initial-cluster=other=http://<other-peer>"])?;
    table.healthy("other")?;
    table.learn("other")?;
    table.join(
        "four",
        1,
        &[
            "--initial-cluster=other=http://<other-peer>,four=http://<four-peer>",
            EXISTING,
        ],
    )?;
    table.ends("four")?;
    table.join("four", 1, &[FOUR, "--initial-cluster-token=another"])?;
    table.logs("four", "cluster ID mismatch")?;
    table.logs("one", "cluster ID mismatch")?;
    table.ctl("one", "get a")?;
    Ok(())
}
