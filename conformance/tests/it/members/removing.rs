//! Members that are removed.

use quoin_conformance::Trouble;

use super::table::Table;

pub(crate) fn a_follower_and_the_leader_are_removed(table: &mut Table) -> Result<(), Trouble> {
    table.settled("two", "member remove 1234")?;
    table.ctl("two", "member remove nonsense")?;
    table.settled("two", "member remove <three>")?;
    table.ends("three")?;
    table.ctl("one", "member remove <three>")?;
    table.ctl("one", "member list")?;
    table.again("three", &[])?;
    table.ends_again("three")?;
    table.ctl("one", "put a 1")?;
    table.kill("two")?;
    table.ctl("one", "member remove <one>")?;
    table.ctl("one", "member add four --peer-urls=http://127.0.0.1:9")?;
    table.ctl("one", "member list --command-timeout=1s")?;
    table.ctl("one", "put a 2 --command-timeout=1s")?;
    table.ctl("one", "get a --consistency=s")?;
    table.restart("two", &[])?;
    table.make_leader("one")?;
    table.settled("one", "member remove <one>")?;
    table.ends("one")?;
    table.shows("two", "member list", "two")?;
    table.shows("two", "put b 1", "OK")?;
    table.ctl("two", "endpoint status")?;
    table.ctl("two", "member remove <two>")?;
    table.ctl("two", "get b")?;
    Ok(())
}
