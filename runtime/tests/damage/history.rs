//! A history with everything that makes rows: values, deletions, transactions, leases, alarms and compactions. Its
//! directory is copied at several moments.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quoin_core::node::Request;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RequestOp, TxnRequest,
};
use quoin_core::random::Prng;

use super::member::{Keeps, Member};

/// Requests of a history.
const REQUESTS: u64 = 700;
/// The directory is copied once in this many requests.
const COPIED_EVERY: u64 = 140;
/// Each rarer kind of request is made once in this many requests.
const ROUND: u64 = 35;
/// The request that raises an alarm; the next one clears it.
const ALARM_ON: u64 = 28;
const KEYS: u64 = 60;
/// How long no file may change before the directory is copied.
const STILL: Duration = Duration::from_millis(100);
const STILL_TRIES: usize = 100;

/// One base directory.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// How much of the log it has.
    pub(crate) keeps: Keeps,
    /// The directory.
    pub(crate) dir: PathBuf,
    /// Its earlier copies, oldest first.
    pub(crate) older: Vec<PathBuf>,
}

/// A journal of the table is full after this many values of this size. Then there is a second journal, and the first is
/// still needed for buckets with few changes.
const LARGE_BYTES: usize = 1_000_000;
const LARGE_VALUES: u64 = 68;
/// Requests before and after those values.
const AROUND_LARGE: u64 = 80;

/// Number of the base with two journals.
pub(crate) const TWO_JOURNALS: usize = 4;

/// Every base: with all of the log or its end, stopped or killed; and one with two journals.
pub(crate) fn bases(root: &Path) -> Vec<Base> {
    let mut bases = Vec::new();
    for keeps in [Keeps::Everything, Keeps::Little] {
        for end in ["stopped", "killed"] {
            let name = |moment: &str| root.join(format!("{keeps:?}-{moment}").to_lowercase());
            bases.push(Base {
                keeps,
                dir: name(end),
                older: (1..REQUESTS / COPIED_EVERY)
                    .map(|moment| name(&moment.to_string()))
                    .collect(),
            });
        }
    }
    bases.push(Base {
        keeps: Keeps::Everything,
        dir: root.join("large"),
        older: vec![root.join("large-1")],
    });
    bases
}

/// Makes the directories of all bases below `root`.
pub(crate) fn make(root: &Path) {
    for keeps in [Keeps::Everything, Keeps::Little] {
        let copy_to = |moment: &str| root.join(format!("{keeps:?}-{moment}").to_lowercase());
        let live = copy_to("live");
        let mut member = Member::start(&live, keeps).unwrap();
        let mut prng = Prng::new(1);
        for number in 1..=REQUESTS {
            play(&mut member, number, &mut prng);
            if number == REQUESTS / 3 {
                member.defragment();
            }
            if number % COPIED_EVERY == 0 && number < REQUESTS {
                copy_still(&live, &copy_to(&(number / COPIED_EVERY).to_string()));
            }
        }
        // While the alarm is raised, no write is accepted, so it comes last.
        play(&mut member, ALARM_ON, &mut prng);
        copy_still(&live, &copy_to("killed"));
        member.stop();
        copy_still(&live, &copy_to("stopped"));
        fs::remove_dir_all(&live).unwrap();
    }
    make_large(root);
}

fn make_large(root: &Path) {
    let live = root.join("large-live");
    let mut member = Member::start(&live, Keeps::Everything).unwrap();
    let mut prng = Prng::new(2);
    (1..=AROUND_LARGE).for_each(|number| play(&mut member, number, &mut prng));
    copy_still(&live, &root.join("large-1"));
    for number in 0..LARGE_VALUES {
        let value = vec![u8::try_from(number).unwrap(); LARGE_BYTES];
        let request = PutRequest {
            key: "large".into(),
            value: value.into(),
            ..PutRequest::default()
        };
        member.ask(Request::Put(request)).unwrap();
    }
    let delete = DeleteRangeRequest {
        key: "large".into(),
        ..DeleteRangeRequest::default()
    };
    member.ask(Request::DeleteRange(delete)).unwrap();
    (1..=AROUND_LARGE).for_each(|number| play(&mut member, number, &mut prng));
    member.settle();
    let journals = files(&live)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "jnl"));
    assert_eq!(journals.count(), 2, "the first journal is full and still needed");
    copy_still(&live, &root.join("large"));
    member.stop();
    fs::remove_dir_all(&live).unwrap();
}

/// Plays a request of the history and waits for the answer.
fn play(member: &mut Member, number: u64, prng: &mut Prng) {
    let lease = |number: u64| i64::try_from(1 + number % 9).unwrap();
    let request = match number % ROUND {
        7 => Request::LeaseGrant(LeaseGrantRequest {
            id: lease(number / ROUND),
            ttl: 100_000,
        }),
        19 => Request::LeaseRevoke(LeaseRevokeRequest {
            id: lease(number / ROUND + 3),
        }),
        12 => Request::Compact(CompactionRequest {
            revision: member.view().kv.revision() - 20,
            physical: number.is_multiple_of(2),
        }),
        16 | 30 => Request::DeleteRange(DeleteRangeRequest {
            key: key(prng),
            ..DeleteRangeRequest::default()
        }),
        22 => Request::Txn(TxnRequest {
            success: (0..3).map(|_| op(Op::RequestPut(put(prng, 0)))).collect(),
            ..TxnRequest::default()
        }),
        ALARM_ON => Request::Alarm(AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: number,
            alarm: AlarmType::Corrupt as i32,
        }),
        29 => Request::Alarm(AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: number - 1,
            alarm: AlarmType::Corrupt as i32,
        }),
        5 | 9 => Request::Put(put(prng, lease(number / ROUND))),
        _ => Request::Put(put(prng, 0)),
    };
    // Errors are answers too: for a missing lease, or a compacted revision.
    let _answer = member.ask(request);
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn key(prng: &mut Prng) -> bytes::Bytes {
    format!("key{:03}", prng.below(KEYS)).into()
}

fn put(prng: &mut Prng, lease: i64) -> PutRequest {
    let length = [3, 40, 400, 2_500][usize::try_from(prng.below(4)).unwrap()];
    let value: Vec<u8> = (0..length)
        .map(|_| b'a' + u8::try_from(prng.below(26)).unwrap())
        .collect();
    PutRequest {
        key: key(prng),
        value: value.into(),
        lease,
        ..PutRequest::default()
    }
}

/// Copies a directory once the table's own threads are idle.
fn copy_still(from: &Path, to: &Path) {
    for _ in 0..STILL_TRIES {
        let before = listing(from);
        std::thread::park_timeout(STILL);
        if listing(from) == before {
            return copy(from, to);
        }
    }
    panic!("the files of {} never rest", from.display());
}

fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = files(dir);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let length = fs::metadata(&path).map_or(0, |meta| meta.len());
            (path, length)
        })
        .collect()
}

/// Every file below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Copies a directory and everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
