//! A start with a log: the member continues in its cluster or, with `--force-new-cluster`, as its only member.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use crate::boot::found::{Damage, Found, MarkerId, WalFound};
use crate::boot::fresh::{check_learners, conf_change_entry};
use crate::boot::plan::{Plan, StoreSource};
use crate::boot::refusal::Refusal;
use crate::bug;
use crate::config::Config;
use crate::id::MemberId;
use crate::membership::{ConfChangeContext, Member};
use crate::proto::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};
use crate::version::Version;

/// The peer URL that etcd gives this member if its own log does not contain it. The operator corrects the URL
/// afterwards.
const FORCED_PEER_URL: &str = "http://localhost:2380";

/// What the log holds from the plan's marker on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadLog {
    /// The marker from which the log was read; zeros for the beginning.
    pub from: MarkerId,
    /// The membership at that point.
    pub conf_state: ConfState,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The entries after the marker.
    pub entries: Vec<Entry>,
    /// The index of the last entry that the store has applied.
    pub consistent_index: u64,
    /// The term of that entry; 0 if the store does not have it.
    pub store_term: u64,
    /// This member.
    pub member: MemberId,
    /// Whether this member is in the store's list of members.
    pub is_known: bool,
}

/// What raft starts with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartLog {
    /// The hard state.
    pub hard_state: HardState,
    /// The entries after the marker.
    pub entries: Vec<Entry>,
    /// How many entries at the end are new. The host makes them and the hard state durable before raft starts.
    pub appended: usize,
}

/// Decides where a member with a log continues. The flags `--initial-*` have no effect.
pub(super) fn decide(found: &Found, wal: &WalFound, config: &Config) -> Result<Plan, Refusal> {
    found.access.wal_dir.clone().map_err(Refusal::WalDir)?;
    if wal.member == MemberId::NONE {
        return Err(Refusal::NoMemberId);
    }
    let (from, store) = match &found.damage {
        Some(damage) => beginning_anew(found, damage, wal, config)?,
        None => beginning(found, wal, config)?,
    };
    if let Some(found) = &found.store {
        if found.removed.contains(&wal.member) {
            return Err(Refusal::Removed(wal.member));
        }
        if found.consistent_index > 0 && found.members.is_empty() {
            return Err(Refusal::Inconsistent(format!(
                "the table ({} index {}) has no member of the cluster, although the first entry of every log adds one",
                table_path(config),
                found.consistent_index
            )));
        }
        if let Some(cluster) = found.cluster_version.filter(|version| *version > Version::own_minor()) {
            return Err(Refusal::Downgrade(cluster));
        }
        check_learners(&found.members, config)?;
    }
    let (member, cluster) = (wal.member, wal.cluster);
    Ok(if config.force_new_cluster {
        Plan::RestartForceNewCluster {
            member,
            cluster,
            from,
            store,
        }
    } else {
        Plan::Restart {
            member,
            cluster,
            from,
            store,
        }
    })
}

/// Where to begin reading the log, and where the applied state is.
///
/// A marker is usable if its file exists, the log contains the marker (a crash may leave a file without its marker),
/// and the log continues from there. The newest usable marker that the store has reached is taken, so that a store that
/// is behind catches up from the log without skipping an entry. A store that is ahead of the log is refused: the log
/// has lost entries.
fn beginning(found: &Found, wal: &WalFound, config: &Config) -> Result<(Option<MarkerId>, StoreSource), Refusal> {
    let marked = found.marker_files.intersection(&wal.markers).copied();
    let mut usable = marked
        .filter(|from| from.index >= wal.starts_after)
        .collect::<BTreeSet<_>>();
    if wal.starts_after == 0 {
        usable.insert(MarkerId::default());
    }
    let Some(newest) = usable.last().copied() else {
        return Err(Refusal::Inconsistent(format!(
            "the write-ahead log in {} begins after index {} and no readable snapshot reaches that far",
            wal_path(config),
            wal.starts_after
        )));
    };
    let path = || table_path(config);
    let reached = found.store.as_ref().map_or(0, |store| store.consistent_index);
    if reached > wal.last_index {
        return Err(Refusal::Inconsistent(format!(
            "database file ({} index {reached}) is ahead of the write-ahead log ({} index {}): the log has lost entries",
            path(),
            wal_path(config),
            wal.last_index
        )));
    }
    let received = found
        .store
        .as_ref()
        .is_some_and(|store| store.received.contains(&newest.index));
    if reached < newest.index && received {
        return Ok((Some(newest), StoreSource::Received(newest.index)));
    }
    let source = if found.store.is_some() {
        StoreSource::InPlace
    } else {
        StoreSource::Empty
    };
    match usable.into_iter().rfind(|from| from.index <= reached) {
        Some(from) => Ok((Some(from).filter(|from| from.index > 0), source)),
        None if found.store.is_none() => Err(Refusal::StoreMissing(path())),
        None => Err(Refusal::Inconsistent(format!(
            "database file ({} index {reached}) does not match with snapshot (index {})",
            path(),
            newest.index
        ))),
    }
}

pub(super) fn wal_path(config: &Config) -> String {
    match config.wal_dir.as_deref() {
        None | Some("") => format!("{}/member/wal", config.data_dir),
        Some(dir) => dir.to_owned(),
    }
}

fn table_path(config: &Config) -> String {
    format!("{}/member/snap/fjall", config.data_dir)
}

/// As [`beginning`], for a damaged applied state. All of it is rebuilt, from the log or from a received snapshot.
fn beginning_anew(
    found: &Found,
    damage: &Damage,
    wal: &WalFound,
    config: &Config,
) -> Result<(Option<MarkerId>, StoreSource), Refusal> {
    let refuse = |obstacle: String| Refusal::TableDamaged {
        path: table_path(config),
        cause: damage.cause.clone(),
        obstacle,
    };
    if config.force_new_cluster {
        // Only the applied state shows which entries were committed last; without it they would be dropped as
        // uncommitted.
        return Err(refuse(
            "--force-new-cluster needs the applied state, so start without it first".to_owned(),
        ));
    }
    if damage.index > wal.last_index {
        return Err(refuse(format!(
            "the log has lost entries, too: it ends at index {}, and index {} was applied",
            wal.last_index, damage.index
        )));
    }
    beginning(found, wal, config).map_err(|_| {
        refuse(format!(
            "it begins after index {}, and no received snapshot has the entries before",
            wal.starts_after
        ))
    })
}

/// What raft starts with after an ordinary restart.
///
/// # Errors
/// If the log has a gap or ends too early.
pub fn restart(log: ReadLog) -> Result<StartLog, Refusal> {
    check_whole(&log)?;
    Ok(StartLog {
        hard_state: log.hard_state,
        entries: log.entries,
        appended: 0,
    })
}

/// What raft starts with if this member continues alone. Uncommitted entries are dropped. New entries, committed at
/// once, add this member if it is missing and then remove every other voter and learner.
///
/// # Errors
/// If the log has a gap or ends too early, or holds a change of membership that cannot be read.
pub fn force_new_cluster(member: MemberId, log: ReadLog) -> Result<StartLog, Refusal> {
    check_whole(&log)?;
    let ReadLog {
        from,
        conf_state,
        mut hard_state,
        mut entries,
        consistent_index,
        ..
    } = log;
    // A hard state in which only the commit index grew is not written at once, so the store's index may be higher.
    hard_state.commit = hard_state.commit.max(consistent_index).max(from.index);
    entries.retain(|entry| entry.index <= hard_state.commit);
    let present = members_after(&conf_state, &entries)?;
    let mut changes = Vec::new();
    // This member is added first: raft needs at least one voter at all times, even between two entries.
    match present.get(&member) {
        Some(Role::Voter) => {}
        Some(Role::Learner) => {
            let context = ConfChangeContext::promotion(member).to_json();
            changes.push(change(ConfChangeType::AddNode, member, context));
        }
        None => {
            let own = Member {
                id: member,
                peer_urls: vec![FORCED_PEER_URL.to_owned()],
                ..Member::default()
            };
            changes.push(change(ConfChangeType::AddNode, member, own.to_json()));
        }
    }
    let others = present.into_keys().filter(|other| *other != member);
    changes.extend(others.map(|other| change(ConfChangeType::RemoveNode, other, Vec::new())));
    let appended = changes.len();
    let first = hard_state.commit + 1;
    entries.extend(
        (first..)
            .zip(changes)
            .map(|(index, change)| conf_change_entry(hard_state.term, index, &change)),
    );
    hard_state.commit = entries.last().map_or(hard_state.commit, |entry| entry.index);
    Ok(StartLog {
        hard_state,
        entries,
        appended,
    })
}

fn change(change_type: ConfChangeType, member: MemberId, context: Vec<u8>) -> ConfChange {
    ConfChange {
        id: 0,
        change_type: change_type.into(),
        node_id: member.0,
        context: context.into(),
    }
}

/// Checks that the entries have no gap and reach the commit index and the consistent index.
fn check_whole(log: &ReadLog) -> Result<(), Refusal> {
    let mut last = log.from.index;
    for entry in &log.entries {
        if entry.index != last + 1 {
            return Err(Refusal::Inconsistent(format!(
                "the write-ahead log has entry {} where entry {} belongs",
                entry.index,
                last + 1
            )));
        }
        last = entry.index;
    }
    check_table(log, last)?;
    let promised = log.hard_state.commit.max(log.consistent_index);
    if promised > last {
        return Err(Refusal::Inconsistent(format!(
            "the write-ahead log ends at index {last} and index {promised} was committed: the log has lost entries"
        )));
    }
    Ok(())
}

/// Checks that the table can belong to this log.
fn check_table(log: &ReadLog, last: u64) -> Result<(), Refusal> {
    let index = log.consistent_index;
    let entry = log.entries.iter().find(|entry| entry.index == index);
    let logged = match entry {
        Some(entry) => Some(entry.term),
        None => Some(log.from.term).filter(|_| log.from.index == index),
    };
    if let Some(term) = logged.filter(|term| log.store_term > 0 && index > 0 && *term != log.store_term) {
        return Err(Refusal::Inconsistent(format!(
            "the table holds entry {index} of term {}, and the write-ahead log has that entry in term {term}: they \
             belong to different members",
            log.store_term
        )));
    }
    if index > 0 && index <= last && !log.is_known && was_member(log) {
        return Err(Refusal::Inconsistent(format!(
            "the table (index {index}) does not have this member ({}), although the write-ahead log had it before",
            log.member
        )));
    }
    Ok(())
}

/// Whether this member was in the cluster where the log begins: in the configuration there, or as a founder. A member
/// that joined later may have applied entries from before it was added.
fn was_member(log: &ReadLog) -> bool {
    if log.from.index > 0 {
        let ConfState { voters, learners, .. } = &log.conf_state;
        return log.from.index <= log.consistent_index && voters.iter().chain(learners).any(|id| *id == log.member.0);
    }
    let is_change = |entry: &&Entry| entry.term == 1 && entry.entry_type == EntryType::EntryConfChange as i32;
    let founding = log
        .entries
        .iter()
        .take_while(is_change)
        .take_while(|entry| entry.index <= log.consistent_index);
    founding
        .filter_map(|entry| ConfChange::decode(entry.data.clone()).ok())
        .any(|change| change.change_type == ConfChangeType::AddNode as i32 && change.node_id == log.member.0)
}

#[derive(Clone, Copy)]
enum Role {
    Learner,
    Voter,
}

/// The members after these entries.
fn members_after(conf_state: &ConfState, entries: &[Entry]) -> Result<BTreeMap<MemberId, Role>, Refusal> {
    let voters = conf_state.voters.iter().map(|id| (MemberId(*id), Role::Voter));
    let learners = conf_state
        .learners
        .iter()
        .filter(|_| !bug!(ForgetsLearners))
        .map(|id| (MemberId(*id), Role::Learner));
    let mut members = voters.chain(learners).collect::<BTreeMap<_, _>>();
    for entry in entries {
        let unreadable = || {
            Refusal::Inconsistent(format!(
                "entry {} is no change of membership that etcd makes",
                entry.index
            ))
        };
        match EntryType::try_from(entry.entry_type) {
            Ok(EntryType::EntryNormal) => continue,
            Ok(EntryType::EntryConfChange) => {}
            Ok(EntryType::EntryConfChangeV2) | Err(_) => return Err(unreadable()),
        }
        let change = ConfChange::decode(entry.data.clone()).map_err(|_| unreadable())?;
        if change.change_type == ConfChange::UPDATE_NODE || change.node_id == 0 {
            continue;
        }
        let member = MemberId(change.node_id);
        match ConfChangeType::try_from(change.change_type) {
            Ok(ConfChangeType::AddNode) => members.insert(member, Role::Voter),
            Ok(ConfChangeType::AddLearnerNode) => members.insert(member, Role::Learner),
            Ok(ConfChangeType::RemoveNode) => members.remove(&member),
            Err(_) => return Err(unreadable()),
        };
    }
    Ok(members)
}
