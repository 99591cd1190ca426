//! The disk's part of a member's start: gathers the facts, lets core decide, carries the plan out.
//!
//! Core's `boot` decides what the facts mean. A crash at any point is harmless: the log appears complete, with the
//! entries that found the cluster, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quoin_core::boot::{
    Damage, DataDir as DirKind, Found, MarkerId, Plan, ReadLog, Refusal, RemoteAnswer, StartLog, StoreFound,
    StoreSource, WalFound, Why, decide, force_new_cluster, remarks, restart,
};
use quoin_core::config::{Config, Notice, Url};
use quoin_core::error::Fault;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::member::Recovered;
use quoin_core::membership::Member;
use quoin_core::proto::raftpb::{ConfState, Entry, HardState};
use quoin_core::snap;
use quoin_core::store::{Restore, Store, StoreConfig, Unusable};
use quoin_core::version::Version;
use quoin_core::wal::{HEAD_BYTES, Identity, Marker, Save, begun_by_etcd, select, survey};

use crate::datadir::{DataDir, ETCD_DATABASE};
use crate::disk::{Disk, DiskFile, exists, read_all};
use crate::lanes::disk_fault;
use crate::lanes::wal::{LaneContext, Log, marker_files, open, segments};
use crate::progress::Progress;
use crate::received;
use crate::table::Table;

/// Opens the table at a path.
pub type OpenTable<'a> = dyn Fn(&Path) -> io::Result<Box<dyn Table>> + 'a;

/// Resolves the host name of a URL; the error is a text.
pub type Resolve<'a> = dyn Fn(&Url) -> Result<String, String> + 'a;

/// Asks the peers at these URLs the questions of core's boot. The purpose determines how long to wait for an answer. A
/// peer without an answer could not be reached.
pub type Ask<'a> = dyn Fn(&[String], Why) -> BTreeMap<String, RemoteAnswer> + 'a;

/// The interfaces that a start uses.
pub struct World<'a> {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Opens the table.
    pub open_table: &'a OpenTable<'a>,
    /// Resolves host names.
    pub resolve: &'a Resolve<'a>,
    /// Asks peers.
    pub ask: &'a Ask<'a>,
    /// Takes lines for the log, in order.
    pub notify: &'a dyn Fn(&Notice),
    /// How far the start is.
    pub progress: Progress,
}

/// A member ready to run: its state is read, its files are locked, no thread is started.
pub struct Booted {
    /// This member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The state that consensus starts with.
    pub recovered: Recovered,
    /// The applied state.
    pub store: Store,
    /// The log, open for appending.
    pub log: Log,
    /// The table, which covers the log up to `recovered.applied`.
    pub table: Box<dyn Table>,
    /// Owns the data directory until it is dropped.
    pub lock: Box<dyn DiskFile>,
    /// The members to connect with at first, including this one. Later the applied state has them.
    pub peers: Vec<Member>,
    /// The damage of the table, if the table was set aside and is rebuilt.
    pub damage: Option<Damage>,
}

impl fmt::Debug for Booted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Booted")
            .field("member", &self.member)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Why a member does not start.
#[derive(Clone, Debug)]
pub enum BootError {
    /// The disk failed or is damaged.
    Fault(Fault),
    /// The facts and the configuration do not allow this start.
    Refused(Refusal),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for BootError {}

impl From<Fault> for BootError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for BootError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Locks the data directory, decides how to start, and prepares the start. `context.snap_dir` is in `config`'s data
/// directory.
pub fn boot(
    config: &Config,
    store_config: StoreConfig,
    context: LaneContext,
    world: &World<'_>,
) -> Result<Booted, BootError> {
    let dirs = DataDir::new(&config.data_dir, config.wal_dir.as_deref().unwrap_or_default());
    let disk = &*world.disk;
    let mut found = look_at_directories(&dirs, disk)?;
    found.restored = restored(&found, &dirs, store_config, world)?;
    // A refusal that needs only these facts leaves the directory untouched.
    let is_etcds = found.etcd_file.is_some() && found.restored.is_none();
    if matches!(found.data_dir, DirKind::Both | DirKind::Proxy) || is_etcds {
        decide(&found, config)?;
    }
    for notice in remarks(&found, config) {
        (world.notify)(&notice);
    }
    let lock = take_lock(&dirs, &context, world)?;
    if let Some(index) = found.restored {
        take_over_database(&dirs, disk, index, world)?;
    }
    found.access.wal_dir = wal_access(&dirs, disk);
    found.wal = look_at_log(&dirs, disk, &world.progress)?;
    found.marker_files = look_at_snapshots(&dirs, disk)?;
    let site = Site {
        dirs: &dirs,
        store_config,
        context,
        world,
    };
    let opened = match site.open_store() {
        Ok(opened) => Ok(opened),
        Err(Unusable::Fault(fault)) => return Err(fault.into()),
        Err(Unusable::Damaged { cause, index }) => Err(Damage { cause, index }),
    };
    let received = received::find(disk, &site.context.snap_dir)?;
    found.store = describe(opened.as_ref().ok().map(|(_, store)| store), received);
    found.damage = opened.as_ref().err().cloned();
    let plan = settle(&mut found, config, world)?;
    let opened = match opened {
        Ok(opened) => opened,
        Err(damage) => site.begin_table_anew(&damage)?,
    };
    let mut booted = carry_out(plan, opened, lock, &site)?;
    booted.damage = found.damage;
    Ok(booted)
}

fn look_at_directories(dirs: &DataDir, disk: &dyn Disk) -> Result<Found, Fault> {
    let names = dirs
        .names(disk)
        .map_err(|error| disk_fault("list", &dirs.root, &error))?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let data_dir = match (has("member"), has("proxy")) {
        (true, true) => DirKind::Both,
        (true, false) => DirKind::Member,
        (false, true) => DirKind::Proxy,
        (false, false) => DirKind::Empty,
    };
    let unknown = names
        .into_iter()
        .filter(|name| !matches!(name.as_str(), "member" | "proxy" | "fixtures"));
    Ok(Found {
        data_dir,
        etcd_file: etcd_file(dirs, disk)?,
        unknown_files: unknown.collect(),
        ..Found::default()
    })
}

/// The index of the state in etcd's database, if that and the log are what `etcdutl snapshot restore` makes, and this
/// member can take them over.
fn restored(found: &Found, dirs: &DataDir, config: StoreConfig, world: &World<'_>) -> Result<Option<u64>, Fault> {
    let disk = &*world.disk;
    let database = dirs.snap().join(ETCD_DATABASE);
    if found.etcd_file.as_deref() != database.to_str() {
        return Ok(None);
    }
    // If the log cannot be read, the directory counts as an etcd's and is refused.
    let log = look_at_log(dirs, disk, &world.progress).ok().flatten();
    let index = log.and_then(|log| log.restored_at());
    // No etcd starts on the directory after the rename, so this member must be sure beforehand that it can.
    Ok(index.filter(|index| received::can_take_over(disk, &database, *index, config)))
}

/// Gives etcd's database the name of a received snapshot of this index. The table is then made from it, at once or,
/// after a crash, by the next start.
fn take_over_database(dirs: &DataDir, disk: &dyn Disk, index: u64, world: &World<'_>) -> Result<(), Fault> {
    let (from, to) = (
        dirs.snap().join(ETCD_DATABASE),
        dirs.snap().join(snap::database_name(index)),
    );
    let rename = disk.rename(&from, &to).and_then(|()| disk.sync_dir(&dirs.snap()));
    rename.map_err(|error| disk_fault("rename", &from, &error))?;
    let notice = Notice::info("the database that etcdutl restored is taken over");
    (world.notify)(
        &notice
            .with("path", from.display().to_string())
            .with("as", to.display().to_string()),
    );
    Ok(())
}

/// A file that shows that the directory is an etcd's and not this program's: etcd's database, or a log that etcd began.
/// A received snapshot without etcd's database shows that a start of this program renamed the database and was
/// interrupted.
fn etcd_file(dirs: &DataDir, disk: &dyn Disk) -> Result<Option<String>, Fault> {
    let snap = dirs.snap();
    let is_ours = dirs
        .has_table(disk)
        .map_err(|error| disk_fault("list", &snap, &error))?;
    if is_ours {
        return Ok(None);
    }
    let database = snap.join(ETCD_DATABASE);
    if exists(disk, &database).map_err(|error| disk_fault("look at", &database, &error))? {
        return Ok(Some(database.display().to_string()));
    }
    let Some(first) = segments(disk, &dirs.wal)?.into_iter().min() else {
        return Ok(None);
    };
    if received::find(disk, &snap).is_ok_and(|received| !received.is_empty()) {
        return Ok(None);
    }
    let path = dirs.wal.join(first.to_string());
    let head = read_head(disk, &path).map_err(|error| disk_fault("read", &path, &error))?;
    Ok(begun_by_etcd(&head).then(|| path.display().to_string()))
}

fn read_head(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let mut head = vec![0; HEAD_BYTES];
    let read = disk.open(path)?.read_at(0, &mut head)?;
    head.truncate(read);
    Ok(head.into())
}

fn take_lock(dirs: &DataDir, context: &LaneContext, world: &World<'_>) -> Result<Box<dyn DiskFile>, BootError> {
    let disk = &*world.disk;
    dirs.create(disk)
        .map_err(|error| Refusal::DataDir(format!("{}: {error}", dirs.root.display())))?;
    for (path, mode) in dirs
        .loose_permissions(disk)
        .map_err(|error| disk_fault("look at", &dirs.root, &error))?
    {
        let notice =
            Notice::warn("directory exists, but the permission is loose; consider restricting it to the owner");
        (world.notify)(
            &notice
                .with("dir", path.display().to_string())
                .with("permission", format!("{mode:o}")),
        );
    }
    world
        .progress
        .begin("waiting for the data directory's lock", &dirs.member(), 0);
    dirs.lock(disk, &*context.clock, world.notify)
        .map_err(|error| disk_fault("lock", &dirs.member(), &error).into())
}

fn wal_access(dirs: &DataDir, disk: &dyn Disk) -> Result<(), String> {
    match exists(disk, &dirs.wal) {
        Ok(false) => Ok(()),
        Ok(true) => try_writing(disk, &dirs.wal).map_err(|error| format!("{}: {error}", dirs.wal.display())),
        Err(error) => Err(format!("{}: {error}", dirs.wal.display())),
    }
}

/// Creates and removes a file, as etcd does to check that it can.
fn try_writing(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let path = dir.join(".touch");
    if !exists(disk, &path)? {
        drop(disk.create(&path)?);
    }
    disk.remove(&path)
}

fn look_at_log(dirs: &DataDir, disk: &dyn Disk, progress: &Progress) -> Result<Option<WalFound>, Fault> {
    let mut names = segments(disk, &dirs.wal)?;
    names.sort_unstable();
    let Some(first) = names.first().copied() else {
        return Ok(None);
    };
    let segments = open(disk, &dirs.wal, &names)?;
    let survey = survey(progress.reading("looking through the write-ahead log", &dirs.wal, segments))?;
    Ok(Some(WalFound {
        member: survey.identity.member,
        cluster: survey.identity.cluster,
        starts_after: first.first_index.saturating_sub(1),
        last_index: survey.last_index,
        commit: survey.hard_state.commit,
        markers: survey
            .markers
            .iter()
            .map(|marker| MarkerId {
                index: marker.index,
                term: marker.term,
            })
            .collect(),
        has_requests: survey.has_requests,
    }))
}

fn look_at_snapshots(dirs: &DataDir, disk: &dyn Disk) -> Result<BTreeSet<MarkerId>, Fault> {
    let names = marker_files(disk, &dirs.snap())?;
    // A file that cannot be read is not needed: the marker in the log has the configuration too.
    let sound = names
        .into_iter()
        .filter(|name| read_snapshot(dirs, disk, name.index, name.term).is_ok());
    Ok(sound
        .map(|name| MarkerId {
            index: name.index,
            term: name.term,
        })
        .collect())
}

fn read_snapshot(dirs: &DataDir, disk: &dyn Disk, index: u64, term: u64) -> Result<ConfState, Fault> {
    let file = snap::MarkerName { term, index }.to_string();
    let path = dirs.snap().join(&file);
    let bytes = read_all(disk, &path).map_err(|error| disk_fault("read", &path, &error))?;
    let snapshot = snap::decode(&file, Bytes::from(bytes))?;
    Ok(snapshot.metadata.unwrap_or_default().conf_state.unwrap_or_default())
}

type Opened = (Box<dyn Table>, Store);

/// The facts in the applied state, and the snapshots received to replace it; `None` if there is neither.
fn describe(store: Option<&Store>, received: BTreeSet<u64>) -> Option<StoreFound> {
    let Some(store) = store else {
        return (!received.is_empty()).then(|| StoreFound {
            received,
            ..StoreFound::default()
        });
    };
    let view = store.view();
    (view.applied_index > 0 || !received.is_empty()).then(|| StoreFound {
        consistent_index: view.applied_index,
        cluster_version: view
            .cluster
            .version()
            .and_then(|version| Version::parse(&version.to_string())),
        members: view.cluster.members().cloned().collect(),
        removed: view.cluster.removed().collect(),
        received,
    })
}

/// Asks core, and gathers the facts it needs, until it has a plan.
fn settle(found: &mut Found, config: &Config, world: &World<'_>) -> Result<Plan, BootError> {
    loop {
        match decide(found, config)? {
            Plan::NeedAddresses { urls } => {
                found.addresses.extend(urls.into_iter().map(|url| {
                    let address = (world.resolve)(&url);
                    (url, address)
                }));
            }
            Plan::NeedRemoteAnswers { urls, why } => {
                let mut answers = (world.ask)(&urls, why);
                found.answers.extend(urls.into_iter().map(|url| {
                    let answer = answers.remove(&url).unwrap_or_default();
                    (url, answer)
                }));
            }
            plan => return Ok(plan),
        }
    }
}

/// Classifies an error of the table: content that the table never wrote is damage; all else is a fault of disk or
/// system.
fn table_error(operation: &'static str, path: &Path, error: &io::Error) -> Unusable {
    match error.kind() {
        io::ErrorKind::InvalidData => Unusable::Damaged {
            cause: error.to_string(),
            index: 0,
        },
        _ => Unusable::Fault(disk_fault(operation, path, error)),
    }
}

/// The fault of a row that cannot be read.
fn row_fault(path: &Path, error: &io::Error) -> Fault {
    match table_error("read", path, error) {
        Unusable::Damaged { cause, .. } => Fault::Inconsistent { cause },
        Unusable::Fault(fault) => fault,
    }
}

/// Closes a table that cannot be used. The remarks of its engine are added to the cause.
fn abandon(table: Box<dyn Table>, unusable: Unusable, path: &Path) -> Unusable {
    let remarks = table.remarks().join("; ");
    let closed = table.close();
    match (unusable, closed) {
        (Unusable::Fault(fault), _) => Unusable::Fault(fault),
        (Unusable::Damaged { cause, .. }, Err(error)) => Unusable::Fault(Fault::Inconsistent {
            cause: format!("the table in {} is damaged: {cause}; {error}", path.display()),
        }),
        (Unusable::Damaged { cause, index }, Ok(())) if remarks.is_empty() => Unusable::Damaged { cause, index },
        (Unusable::Damaged { cause, index }, Ok(())) => Unusable::Damaged {
            cause: format!("{cause}; {remarks}"),
            index,
        },
    }
}

/// The context in which a plan is carried out.
struct Site<'a> {
    dirs: &'a DataDir,
    store_config: StoreConfig,
    context: LaneContext,
    world: &'a World<'a>,
}

fn carry_out(plan: Plan, opened: Opened, lock: Box<dyn DiskFile>, site: &Site<'_>) -> Result<Booted, BootError> {
    let (table, store) = site.put_in_place(&plan, opened)?;
    // From here on, no received snapshot is needed.
    received::clear(&*site.world.disk, &site.context.snap_dir)?;
    let known = store.view().cluster.members().cloned().collect();
    let (member, cluster, (recovered, log), peers) = match plan {
        Plan::StartNew {
            member,
            cluster,
            members,
            entries,
            hard_state,
        } => {
            let begun = site.begin_log(Identity { member, cluster }, entries, Some(hard_state))?;
            (member, cluster, begun, members)
        }
        Plan::JoinExisting {
            member,
            cluster,
            members,
        } => {
            let begun = site.begin_log(Identity { member, cluster }, Vec::new(), None)?;
            (member, cluster, begun, members)
        }
        Plan::Restart {
            member, cluster, from, ..
        } => {
            site.tell_restart(member, cluster);
            (member, cluster, site.read_log(from, member, false, &store)?, known)
        }
        Plan::RestartForceNewCluster {
            member, cluster, from, ..
        } => {
            site.tell_restart(member, cluster);
            (member, cluster, site.read_log(from, member, true, &store)?, known)
        }
        Plan::NeedAddresses { .. } | Plan::NeedRemoteAnswers { .. } => {
            unreachable!("facts are gathered before a plan is carried out")
        }
    };
    Ok(Booted {
        member,
        cluster,
        recovered,
        store,
        log,
        table,
        lock,
        peers,
        damage: None,
    })
}

impl Site<'_> {
    fn tell_restart(&self, member: MemberId, cluster: ClusterId) {
        let notice = Notice::info("restarting local member").with("cluster-id", cluster.to_string());
        (self.world.notify)(
            &notice
                .with("local-member-id", member.to_string())
                .with("data-dir", self.dirs.root.display().to_string()),
        );
    }

    /// Opens the table and reads it; a table that was never written gives an empty store.
    fn open_store(&self) -> Result<Opened, Unusable> {
        let (path, progress) = (self.dirs.table(), &self.world.progress);
        progress.begin("opening the table", &path, 0);
        let mut table = (self.world.open_table)(&path).map_err(|error| table_error("open", &path, &error))?;
        progress.begin("reading the table's rows", &path, 0);
        if !self.context.unsafe_no_fsync {
            // Rows of a killed process may be readable but not durable. They must be durable before log files are
            // removed because of them.
            table
                .sync()
                .map_err(|error| Unusable::Fault(disk_fault("sync", &path, &error)))?;
        }
        let store = Restore::from_sealed_table(self.store_config, |bucket| {
            let (path, progress) = (path.clone(), progress.clone());
            table
                .scan(bucket)
                .inspect(move |_| progress.advance(1))
                .map(move |row| row.map_err(|error| row_fault(&path, &error)))
        });
        match store {
            Ok(store) => Ok((table, store)),
            Err(unusable) => Err(abandon(table, unusable, &path)),
        }
    }

    /// Sets a damaged table aside and begins an empty one in its place, to be filled from the log. A crash meanwhile
    /// leaves the damaged table in its place, or none.
    fn begin_table_anew(&self, damage: &Damage) -> Result<Opened, BootError> {
        let (disk, path) = (&*self.world.disk, self.dirs.table());
        let aside = self.dirs.damaged_table();
        disk.remove_dir(&aside)
            .map_err(|error| disk_fault("remove", &aside, &error))?;
        if exists(disk, &path).map_err(|error| disk_fault("look at", &path, &error))? {
            disk.rename(&path, &aside)
                .map_err(|error| disk_fault("set aside", &path, &error))?;
        }
        let parent = self.dirs.snap();
        disk.sync_dir(&parent)
            .map_err(|error| disk_fault("sync", &parent, &error))?;
        let notice = Notice::warn("the table is damaged and is rebuilt from the write-ahead log")
            .with("path", path.display().to_string())
            .with("cause", damage.cause.clone())
            .with("set-aside-as", aside.display().to_string());
        (self.world.notify)(&notice);
        let table = (self.world.open_table)(&path).map_err(|error| disk_fault("open", &path, &error))?;
        Ok((table, Store::new(self.store_config)))
    }

    /// Puts a received state into the table, if the plan needs one. A crash meanwhile leaves the whole state in the
    /// table or none of it, and the received file is still there for the next start.
    fn put_in_place(&self, plan: &Plan, (mut table, store): Opened) -> Result<Opened, BootError> {
        let (Plan::Restart {
            store: StoreSource::Received(index),
            ..
        }
        | Plan::RestartForceNewCluster {
            store: StoreSource::Received(index),
            ..
        }) = plan
        else {
            return Ok((table, store));
        };
        let store = received::load(&*self.world.disk, &self.context.snap_dir, *index, self.store_config)?;
        let view = store.view();
        received::put_in_place(&mut *table, &self.dirs.table(), &view)?;
        if !self.context.unsafe_no_fsync {
            let path = self.dirs.table();
            table.sync().map_err(|error| disk_fault("sync", &path, &error))?;
        }
        Ok((table, store))
    }

    /// Begins the log of a new member.
    fn begin_log(
        &self,
        identity: Identity,
        entries: Vec<Entry>,
        state: Option<HardState>,
    ) -> Result<(Recovered, Log), BootError> {
        let first = Save {
            marker: None,
            entries,
            state,
        };
        let disk = Arc::clone(&self.world.disk);
        let log = Log::create(disk, &self.dirs.wal, identity, &first, self.context.clone())?;
        let recovered = Recovered {
            hard_state: state.unwrap_or_default(),
            entries: first.entries,
            ..Recovered::default()
        };
        Ok((recovered, log))
    }

    /// Reads the log from the marker `from` on and opens it for appending. If `forced` (`--force-new-cluster`), the
    /// member becomes the only one.
    fn read_log(
        &self,
        from: Option<MarkerId>,
        member: MemberId,
        forced: bool,
        store: &Store,
    ) -> Result<(Recovered, Log), BootError> {
        let (dirs, disk) = (self.dirs, &*self.world.disk);
        let from = from.unwrap_or_default();
        let conf_state = if from.index == 0 {
            ConfState::default()
        } else {
            read_snapshot(dirs, disk, from.index, from.term)?
        };
        let names = select(segments(disk, &dirs.wal)?, from.index)?;
        let marker = Marker {
            index: from.index,
            term: from.term,
            conf_state: None,
        };
        let segments =
            self.world
                .progress
                .reading("reading the write-ahead log", &dirs.wal, open(disk, &dirs.wal, &names)?);
        let mut replay = quoin_core::wal::replay(segments, &marker)?;
        let read = ReadLog {
            from,
            conf_state,
            hard_state: replay.hard_state,
            entries: std::mem::take(&mut replay.entries),
            consistent_index: store.consistent_index(),
            store_term: store.term(),
            member,
            is_known: store.view().cluster.members().any(|known| known.id == member),
        };
        let StartLog {
            hard_state,
            entries,
            appended,
        } = if forced {
            force_new_cluster(member, read)
        } else {
            restart(read)
        }
        .map_err(|refusal| naming(&dirs.wal, refusal))?;
        let mut log = Log::resume(Arc::clone(&self.world.disk), &dirs.wal, &replay, self.context.clone())?;
        // The commit index is not written with every entry, but applied entries were committed. It is written now: a
        // marker that is taken before the next commit counts only if the log has a commit index at or above it.
        let applied = HardState {
            commit: hard_state.commit.max(store.consistent_index()),
            ..hard_state
        };
        if appended > 0 || applied.commit > hard_state.commit {
            log.save([&Save {
                marker: None,
                entries: entries[entries.len() - appended..].to_vec(),
                state: Some(applied),
            }])?;
        }
        let recovered = Recovered {
            hard_state: applied,
            snapshot_index: from.index,
            snapshot_term: from.term,
            entries,
            applied: store.consistent_index(),
            conf_state: store.conf_state().clone(),
        };
        Ok((recovered, log))
    }
}

/// Adds the log's path to a refusal that is about the log.
fn naming(wal: &Path, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Inconsistent(why) => Refusal::Inconsistent(format!("{}: {why}", wal.display())),
        other => other,
    }
}
