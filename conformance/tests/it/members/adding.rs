//! Members that are added.

use quoin_conformance::Trouble;

use super::table::Table;

const FOUR: &str =
    "--initial-cluster=one=http://<one-peer>,two=http://<two-peer>,three=http://<three-peer>,four=http://<four-peer>";
const EXISTING: &str = "--initial-cluster-state=existing";

pub(crate) fn a_learner_is_added_promoted_and_removed(table: &mut Table) -> Result<(), Trouble> {
    table.expect("four")?;
    table.settled("two", "member add four --learner --peer-urls=http://<four-peer>")?;
    table.ctl("three", "member list")?;
    table.ctl("one", "member add five --learner --peer-urls=http://127.0.0.1:10")?;
    table.settled(
        "one",
        "member add five --peer-urls=http://<four-peer>,http://127.0.0.1:12",
    )?;
    table.ctl("one", "member promote <member4>")?;
    table.ctl("two", "member promote <member4>")?;
    table.ctl("one", "move-leader <member4>")?;
    table.make_leader("one")?;
    table.join("four", 1, &[FOUR, EXISTING])?;
    table.logs("four", "published local member to cluster through raft")?;
    table.shows("two", "member list", "started, four")?;
    table.ctl("four", "put a 1")?;
    table.ctl("four", "get a")?;
    table.ctl("three", "put a 1")?;
    table.shows("four", "get a --consistency=s", "a")?;
    table.ctl("four", "endpoint status")?;
    table.ctl("four", "endpoint health")?;
    table.ctl("four", "member list")?;
    table.ctl("four", "member promote <member4>")?;
    table.settled("two", "member promote <member4>")?;
    table.ctl("one", "member promote <member4>")?;
    table.ctl("one", "member list")?;
    table.shows("four", "put b 1", "OK")?;
    table.ctl("four", "get b")?;
    table.settled("three", "member remove <member4>")?;
    table.ends("four")?;
    table.again("four", &[])?;
    table.ends_again("four")?;
    table.wipe("four")?;
    table.again("four", &[])?;
    table.ends("four")?;
    table.ctl("one", "member list")?;
    Ok(())
}

pub(crate) fn voters_are_added_one_after_another(table: &mut Table) -> Result<(), Trouble> {
    table.expect("four")?;
    table.settled("one", "member add two --peer-urls=http://<two-peer>")?;
    table.settled("one", "member add four --peer-urls=http://<four-peer>")?;
    table.ctl("one", "member add five --peer-urls=http://127.0.0.1:9")?;
    table.ctl("one", "member add six --peer-urls=http://127.0.0.1:10")?;
    table.ctl("two", "member list")?;
    table.ctl("two", "member remove <member5>")?;
    table.join("four", 0, &[FOUR, EXISTING])?;
    table.healthy("four")?;
    table.ctl("four", "member list")?;
    table.ctl("four", "put a 1")?;
    table.ctl("four", "get a")?;
    table.ctl("one", "move-leader <member4>")?;
    table.shows("four", "endpoint status", "true, false")?;
    table.settled("two", "member add five --peer-urls=http://127.0.0.1:11")?;
    table.ctl("two", "member remove <member6>")?;
    table.settled("two", "member remove <member4>")?;
    table.ends("four")?;
    table.shows("two", "put b 1", "OK")?;
    table.ctl("three", "get b")?;
    Ok(())
}
