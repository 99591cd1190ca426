//! Changes of members, of the leader, and starts of members that fail, played by etcdctl on clusters of three. The files
//! in `scripts/members` have what a cluster of real etcds printed.
//!
//! `UPDATE=1 cargo test -p quoin-conformance --test it members::real_etcd` records them again.

mod adding;
mod asking;
mod plain;
mod removing;
mod starting;
mod table;

use std::thread;

use quoin_conformance::{Kind, Trouble, clients, fetch, golden, paths};
use table::Table;

/// The members of a cluster, by kind.
type Kinds = [Kind; 3];
/// What etcdctl and the members printed is left in the table.
type Story = fn(&mut Table) -> Result<(), Trouble>;

const STORIES: [(&str, Story); 6] = [
    ("asking", asking::members_and_endpoints),
    ("leading", asking::leaders_and_leases),
    ("adding", adding::a_learner_is_added_promoted_and_removed),
    ("voting", adding::voters_are_added_one_after_another),
    ("removing", removing::a_follower_and_the_leader_are_removed),
    (
        "starting",
        starting::servers_that_do_not_belong_to_the_cluster_cannot_join_it,
    ),
];

#[test]
fn real_etcd() {
    play([Kind::Etcd; 3]);
}

#[test]
fn quoin_tokio() {
    play([Kind::QuoinTokio; 3]);
}

#[test]
fn quoin_smol() {
    play([Kind::QuoinSmol; 3]);
}

#[test]
fn one_of_each_runtime() {
    play(Kind::OURS);
}

/// An older etcdctl prints other texts, so its output with a real etcd is compared with that with ours.
#[test]
fn an_older_etcdctl() {
    let played = |kinds: Kinds| {
        let mut table = Table::start(kinds, clients::etcdctl_34()?)?;
        asking::members_and_endpoints(&mut table)?;
        adding::voters_are_added_one_after_another(&mut table)?;
        Ok(table.printed().to_owned())
    };
    let (etcds, ours) = thread::scope(|scope| {
        let etcds = scope.spawn(|| played([Kind::Etcd; 3]));
        let ours = played([Kind::QuoinTokio; 3]);
        (etcds.join().expect("it does not panic"), ours)
    });
    let (etcds, ours): (Result<String, Trouble>, Result<String, Trouble>) = (etcds, ours);
    let (etcds, ours) = (etcds.expect("a real etcd's cluster"), ours.expect("ours"));
    let difference = golden::difference(&etcds, &ours);
    assert!(difference.is_none(), "{}", difference.unwrap_or_default());
}

/// Plays all stories at the same time, because they mostly wait, and compares each with its file.
fn play(kinds: Kinds) {
    let failed: Vec<String> = thread::scope(|scope| {
        let stories = STORIES.map(|(name, story)| scope.spawn(move || played(name, story, kinds)));
        let ended = stories.into_iter().map(|story| story.join().expect("no story panics"));
        let failed = ended.filter_map(Result::err);
        failed.map(|trouble| trouble.to_string()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn played(name: &str, story: Story, kinds: Kinds) -> Result<(), Trouble> {
    let mut table = Table::start(kinds, fetch::etcd()?.etcdctl)?;
    if let Err(trouble) = story(&mut table) {
        return Err(Trouble::new(format!("{name}: {trouble}; so far:\n{}", table.printed())));
    }
    let file = paths::scripts().join("members").join(format!("{name}.txt"));
    golden::check(&file, kinds[0], table.printed())
}
