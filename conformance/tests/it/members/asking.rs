//! Questions about members and endpoints, and what does not change members: leaders and leases.

use quoin_conformance::Trouble;

use super::table::Table;

pub(crate) fn members_and_endpoints(table: &mut Table) -> Result<(), Trouble> {
    for form in ["", " -w json", " --hex -w json", " -w fields", " -w table"] {
        table.ctl("two", &format!("member list{form}"))?;
    }
    table.ctl("three", "put a 1")?;
    table.ctl("two", "get a")?;
    table.make_leader("one")?;
    for form in ["", " -w json", " -w fields", " -w table"] {
        table.ctl("one", &format!("endpoint status --cluster{form}"))?;
    }
    table.ctl("two", "endpoint health --cluster")?;
    for form in ["", " -w json", " -w fields", " -w table"] {
        table.ctl("three", &format!("endpoint hashkv --cluster{form}"))?;
    }
    table.ctl("two", "alarm list")?;
    table.ctl("two", "alarm disarm")?;
    table.ctl("two", "member update <three> --peer-urls=http://<two-peer>")?;
    table.ctl("two", "member update 1234 --peer-urls=http://127.0.0.1:9")?;
    table.ctl("two", "member update <three> --peer-urls=nonsense")?;
    table.ctl(
        "two",
        "member update <three> --peer-urls=http://<three-peer>,http://localhost:1",
    )?;
    table.shows("three", "member list", "localhost")?;
    table.ctl("one", "member update <three> --peer-urls=http://<three-peer>")?;
    table.ctl("one", "member promote <three>")?;
    table.ctl("two", "member promote <three>")?;
    table.ctl("two", "member promote 1234")?;
    table.ctl("two", "defrag --cluster")?;
    table.ctl("two", "compaction 2")?;
    table.shows("three", "get a --rev=1", "compacted")?;
    Ok(())
}

pub(crate) fn leaders_and_leases(table: &mut Table) -> Result<(), Trouble> {
    table.ctl("one", "move-leader <one>")?;
    table.make_leader("one")?;
    table.ctl("one", "move-leader 1234")?;
    table.make_leader("one")?;
    table.ctl("two", "move-leader <three>")?;
    table.make_leader("one")?;
    table.ctl("one", "move-leader <two>")?;
    table.shows("two", "endpoint status", "<two>, <version>")?;
    table.make_leader("one")?;
    table.ctl("two", "lease grant 600")?;
    table.ctl("three", "put a 1 --lease=<lease1>")?;
    table.ctl("one", "put b 1")?;
    for at in ["one", "two", "three"] {
        table.shows(at, "lease list", "<lease1>")?;
        table.ctl(at, "lease timetolive <lease1> --keys")?;
        table.ctl(at, "lease timetolive <lease1> --keys -w json")?;
        table.ctl(at, "lease keep-alive --once <lease1>")?;
        table.ctl(at, "lease timetolive 1234")?;
        table.ctl(at, "lease keep-alive --once 1234")?;
        table.ctl(at, "lease revoke 1234")?;
    }
    table.ctl("three", "lease revoke <lease1>")?;
    table.ctl("two", "get --prefix ''")?;
    table.ctl("two", "lease timetolive <lease1>")?;
    table.ctl("two", "lease grant 2")?;
    table.ctl("three", "put c 1 --lease=<lease2>")?;
    table.shows("three", "get c --count-only -w fields", "\"Count\" : 0")?;
    table.ctl("three", "lease list")?;
    Ok(())
}
