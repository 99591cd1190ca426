//! Every combination of disk × flags × initial cluster × other members. `table.txt` has the outcome of each.
//!
//! Values of an axis with the same outcome share a line, and `*` stands for all of them.

use super::*;

type Case<T> = (&'static str, T);

/// A member that ran, with one change to its disk.
fn ran_but(change: fn(&mut Found)) -> Found {
    let mut found = ran();
    change(&mut found);
    found
}

fn disks() -> Vec<Case<Found>> {
    [
        disks_with_a_usable_or_cut_log(),
        disks_with_something_wrong(),
        disks_with_a_damaged_store(),
    ]
    .concat()
}

fn disks_with_a_usable_or_cut_log() -> Vec<Case<Found>> {
    let empty_store = StoreFound::default();
    vec![
        ("nothing", Found::default()),
        (
            "member dir",
            Found {
                data_dir: DataDir::Member,
                store: Some(empty_store),
                ..Found::default()
            },
        ),
        (
            "proxy dir",
            Found {
                data_dir: DataDir::Proxy,
                ..Found::default()
            },
        ),
        (
            "both dirs",
            Found {
                data_dir: DataDir::Both,
                ..ran()
            },
        ),
        ("log+store", ran()),
        ("log+store, no snapshot", ran_but(|found| found.marker_files.clear())),
        (
            "log only",
            ran_but(|found| {
                found.marker_files.clear();
                found.store = None;
            }),
        ),
        ("log+snapshot", ran_but(|found| found.store = None)),
        (
            "cut log+snapshot",
            ran_but(|found| {
                found.store = None;
                found.wal.as_mut().unwrap().starts_after = 50;
            }),
        ),
        (
            "cut log, store behind",
            ran_but(|found| {
                found.store.as_mut().unwrap().consistent_index = 49;
                found.wal.as_mut().unwrap().starts_after = 50;
            }),
        ),
        (
            "cut log, older snapshot",
            ran_but(|found| {
                found.marker_files = BTreeSet::from([at(30), at(50)]);
                found.store.as_mut().unwrap().consistent_index = 49;
                let wal = found.wal.as_mut().unwrap();
                (wal.starts_after, wal.markers) = (20, BTreeSet::from([at(30), at(50)]));
            }),
        ),
        (
            "cut log only",
            ran_but(|found| {
                found.marker_files.clear();
                found.wal.as_mut().unwrap().starts_after = 50;
            }),
        ),
        (
            "unmarked snapshot",
            ran_but(|found| found.marker_files = BTreeSet::from([at(50), at(70)])),
        ),
    ]
}

fn damage(index: u64) -> Option<Damage> {
    Some(Damage {
        cause: "bucket key has lost rows".into(),
        index,
    })
}

fn disks_with_a_damaged_store() -> Vec<Case<Found>> {
    let damaged = |index, starts_after| {
        let mut found = ran();
        (found.store, found.damage) = (None, damage(index));
        found.wal.as_mut().unwrap().starts_after = starts_after;
        found
    };
    let received = StoreFound {
        received: BTreeSet::from([50]),
        ..StoreFound::default()
    };
    vec![
        ("damaged store", damaged(80, 0)),
        ("damaged store, unreadable", damaged(0, 0)),
        ("damaged store, cut log", damaged(80, 50)),
        ("damaged store, log behind it", damaged(91, 0)),
        (
            "damaged store, another received",
            Found {
                store: Some(received),
                ..damaged(10, 50)
            },
        ),
        (
            "damaged store only",
            Found {
                wal: None,
                ..damaged(80, 0)
            },
        ),
        (
            "store without members",
            ran_but(|found| found.store.as_mut().unwrap().members.clear()),
        ),
    ]
}

fn disks_with_something_wrong() -> Vec<Case<Found>> {
    vec![
        (
            "snapshot only",
            ran_but(|found| (found.wal, found.store) = (None, None)),
        ),
        (
            "store only",
            ran_but(|found| (found.wal, found.marker_files) = (None, BTreeSet::new())),
        ),
        (
            "store behind",
            ran_but(|found| found.store.as_mut().unwrap().consistent_index = 49),
        ),
        (
            "store received",
            ran_but(|found| {
                let store = found.store.as_mut().unwrap();
                (store.consistent_index, store.received) = (10, BTreeSet::from([50]));
            }),
        ),
        (
            "store ahead",
            ran_but(|found| found.store.as_mut().unwrap().consistent_index = 91),
        ),
        (
            "removed member",
            ran_but(|found| found.store.as_mut().unwrap().removed = BTreeSet::from([MemberId(0xa)])),
        ),
        (
            "newer cluster",
            ran_but(|found| found.store.as_mut().unwrap().cluster_version = crate::version::Version::parse("3.7.0")),
        ),
        (
            "log read-only",
            ran_but(|found| found.access.wal_dir = Err("permission denied".into())),
        ),
        (
            "dir read-only",
            ran_but(|found| found.access.member_dir = Err("permission denied".into())),
        ),
        (
            "etcd's dir",
            ran_but(|found| {
                found.store = None;
                found.etcd_file = Some("data/member/snap/db".into());
            }),
        ),
    ]
}

fn flags() -> Vec<Case<fn(&mut Config)>> {
    vec![
        ("new", |_| {}),
        ("existing", |config| {
            config.initial_cluster_state = ClusterState::Existing
        }),
        ("new+force", |config| config.force_new_cluster = true),
        ("existing+force", |config| {
            config.initial_cluster_state = ClusterState::Existing;
            config.force_new_cluster = true;
        }),
    ]
}

fn clusters() -> Vec<Case<&'static str>> {
    vec![
        ("matches", THREE),
        ("alone", "a=http://127.0.0.1:1"),
        ("name missing", "x=http://127.0.0.1:1,b=http://127.0.0.1:2"),
        (
            "url differs",
            "a=http://127.0.0.1:7,b=http://127.0.0.1:2,c=http://127.0.0.1:3",
        ),
        (
            "duplicate",
            "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:1",
        ),
        ("unreadable", "a=127.0.0.1"),
    ]
}

fn others() -> Vec<Case<BTreeMap<String, RemoteAnswer>>> {
    let (id, members) = cluster_of_three();
    let mut known = members.clone();
    known[1] = Member {
        name: "a".into(),
        client_urls: vec!["http://127.0.0.1:9".into()],
        ..known[1].clone()
    };
    let mut founded = known.clone();
    founded[1].id = founder("http://127.0.0.1:1");
    let strangers = vec![Member {
        id: MemberId(1),
        peer_urls: vec!["http://10.0.0.1:1".into()],
        ..known[0].clone()
    }];
    vec![
        ("not asked", BTreeMap::new()),
        ("silent", told(RemoteAnswer::default())),
        ("same", told(answer((id, members.clone()), "3.6.0"))),
        ("same, a ran", told(answer((id, known), "3.6.0"))),
        ("same, a founded", told(answer((id, founded), "3.6.0"))),
        ("other cluster", told(answer((ClusterId(0xc2), strangers), "3.6.0"))),
        ("no version", told(answer((id, members.clone()), "not_decided"))),
        ("too old", told(answer((id, members.clone()), "2.3.0"))),
        ("too new", told(answer((id, members), "3.7.0"))),
    ]
}

fn outcome(found: &Found, config: &Config) -> String {
    match decide(found, config) {
        Err(refusal) => format!("refused ({}): {refusal}", refusal.exit()),
        Ok(Plan::JoinExisting {
            member,
            cluster,
            members,
        }) => {
            format!("join cluster {cluster} of {} as {member}", members.len())
        }
        Ok(Plan::NeedAddresses { urls }) => format!("resolve {}", crate::config::join_urls(&urls)),
        Ok(Plan::NeedRemoteAnswers { urls, why }) => format!("ask {} ({why:?})", urls.join(",")),
        Ok(Plan::Restart {
            member,
            cluster,
            from,
            store,
        }) => {
            let from = from.map_or("the beginning".to_owned(), |from| format!("snapshot {}", from.index));
            format!("restart {member} of {cluster} from {from}, store {store:?}")
        }
        Ok(Plan::RestartForceNewCluster {
            member,
            cluster,
            from,
            store,
        }) => {
            let from = from.map_or("the beginning".to_owned(), |from| format!("snapshot {}", from.index));
            format!("force new cluster: restart {member} of {cluster} from {from}, store {store:?}")
        }
        Ok(Plan::StartNew {
            member,
            cluster,
            members,
            entries,
            hard_state,
        }) => {
            assert_eq!(
                (entries.len(), hard_state.commit),
                (members.len(), members.len() as u64)
            );
            format!("found cluster {cluster} of {} as {member}", members.len())
        }
    }
}

/// Keys with the names that share them, in order of appearance.
fn grouped<K: PartialEq>(pairs: impl IntoIterator<Item = (&'static str, K)>) -> Vec<(K, Vec<&'static str>)> {
    let mut groups = Vec::<(K, Vec<&'static str>)>::new();
    for (name, key) in pairs {
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, names)) => names.push(name),
            None => groups.push((key, vec![name])),
        }
    }
    groups
}

/// The outcomes for one disk and one set of flags, as `cluster × others: outcome`.
fn chapter(disk: &Found, flag: fn(&mut Config), cases: &mut usize) -> String {
    let (clusters, others) = (clusters(), others());
    let of_cluster = clusters.iter().map(|(name, cluster)| {
        let outcomes = others.iter().map(|(other, answers)| {
            let mut config = Config {
                initial_cluster: (*cluster).into(),
                ..config()
            };
            flag(&mut config);
            *cases += 1;
            let found = Found {
                answers: answers.clone(),
                addresses: numeric(&[1, 2, 3, 7]),
                ..disk.clone()
            };
            (*other, outcome(&found, &config))
        });
        (*name, grouped(outcomes))
    });
    let of_cluster = grouped(of_cluster);
    let mut text = String::new();
    for (outcomes, names) in &of_cluster {
        let names = if of_cluster.len() == 1 {
            "*".to_owned()
        } else {
            names.join(" | ")
        };
        for (outcome, others) in outcomes {
            let others = if outcomes.len() == 1 {
                "*".to_owned()
            } else {
                others.join(" | ")
            };
            text += &format!("    {names} × {others}:\n        {outcome}\n");
        }
    }
    text
}

/// To change the table on purpose, replace `table.txt` with what this test prints, and explain each changed line.
#[test]
fn every_case_has_its_written_outcome() {
    let mut cases = 0;
    let of_disk = disks().into_iter().map(|(name, disk)| {
        let chapters = flags()
            .into_iter()
            .map(|(flag, set)| (flag, chapter(&disk, set, &mut cases)));
        (name, grouped(chapters))
    });
    let mut text = String::new();
    for (chapters, disks) in grouped(of_disk) {
        for (chapter, flags) in chapters {
            text += &format!("{} × {}\n{chapter}\n", disks.join(" | "), flags.join(" | "));
        }
    }
    text += &format!("{cases} cases\n");
    assert!(text == include_str!("table.txt"), "the table is now:\n{text}");
}
