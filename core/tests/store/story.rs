//! Scripts: files in `tests/scripts/store` with commands and, below a line of dashes, the results of each.
//!
//! `UPDATE=1 cargo test` writes the results into the files. The commands are in [`Story::run`].

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::error::Fault;
use quoin_core::id::MemberId;
use quoin_core::membership::{ConfChangeContext, Member};
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthEnableRequest, CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest,
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, Request,
    RequestOp, TxnRequest,
};
use quoin_core::proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType, EntryType};
use quoin_core::store::Applied;
use quoin_core::table::TableOp;

use crate::harness::{Harness, fingerprint};
use crate::show;

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/store");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let found = play(&expected);
        if update() {
            std::fs::write(&file, found).unwrap();
        } else {
            assert_eq!(found, expected, "{} differs; UPDATE=1 rewrites it", file.display());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may ask whether to rewrite its files")]
fn update() -> bool {
    std::env::var("UPDATE").is_ok_and(|value| value == "1")
}

/// Runs a script and returns it with the results.
fn play(text: &str) -> String {
    let mut story = Story {
        harness: Harness::new(),
    };
    let mut out = String::new();
    let mut expected = false;
    for line in text.lines() {
        if expected && !line.is_empty() {
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            expected = false;
            writeln!(out, "{line}").unwrap();
        } else if line == "----" {
            expected = true;
        } else {
            writeln!(out, "{line}\n----\n{}", story.run(line)).unwrap();
        }
    }
    out
}

struct Story {
    harness: Harness,
}

type Outcome = Result<(Applied, Vec<TableOp>), Fault>;

impl Story {
    /// Runs one command.
    fn run(&mut self, line: &str) -> String {
        let words = Words::of(line);
        let (name, mut words) = words.take();
        let applied = match name.as_str() {
            "remote" => {
                self.harness.wanted = false;
                let rest = line.strip_prefix("remote ").unwrap();
                let shown = self.run(rest);
                self.harness.wanted = true;
                return shown;
            }
            "quota" => {
                self.harness.quota_bytes = words.next().parse().ok();
                return "ok".to_owned();
            }
            "view" => return self.view(words),
            "sweep" => {
                let (progress, ops) = self.harness.sweep(words.number() as usize);
                let rows = ops.iter().filter_map(show::row);
                return [format!("{progress:?}")]
                    .into_iter()
                    .chain(rows)
                    .collect::<Vec<_>>()
                    .join("\n");
            }
            "restart" => return self.restart(),
            "replay" => return self.replay(words.number() as usize),
            "member" => self.harness.conf_change(words.conf_change()),
            "term" => {
                let entry = self.harness.entry(EntryType::EntryNormal, Vec::new());
                self.harness.apply(entry)
            }
            "skip" => {
                let mut entry = self.harness.entry(EntryType::EntryNormal, Vec::new());
                entry.index += 1;
                self.harness.apply(entry)
            }
            "joint" => {
                let entry = self.harness.entry(EntryType::EntryConfChangeV2, Vec::new());
                self.harness.apply(entry)
            }
            "v2" => {
                let [method, path, val] = [words.next(), words.next(), words.rest().join(" ")];
                let request = Request {
                    id: 1,
                    method,
                    path,
                    val,
                    ..Request::default()
                };
                let entry = self.harness.entry(EntryType::EntryNormal, request.encode_to_vec());
                self.harness.apply(entry)
            }
            _ => self.harness.request(request(&name, words)),
        };
        shown(applied)
    }

    fn view(&self, mut words: Words) -> String {
        let view = self.harness.store.view();
        match words.next().as_str() {
            "range" => view
                .range(&words.range())
                .map_or_else(|error| format!("error {error}"), |r| show::range(&r)),
            "txn" => view
                .txn(&words.txn())
                .map_or_else(|error| format!("error {error}"), |r| show::txn(&r)),
            "leases" => {
                let lines = view.leases.iter().map(|(id, lease)| {
                    let keys: Vec<_> = lease.keys().map(|key| key.escape_ascii().to_string()).collect();
                    format!("{id}: {lease:?} [{}]", keys.join(", "))
                });
                lines.collect::<Vec<_>>().join("\n")
            }
            other => panic!("no view of {other}"),
        }
    }

    /// Continues with the store that the rows restore, and lists its differences.
    fn restart(&mut self) -> String {
        let store = match self.harness.restored() {
            Err(fault) => return format!("fault {fault}"),
            Ok(store) => store,
        };
        store.check();
        let (before, after) = (fingerprint(&self.harness.store), fingerprint(&store));
        self.harness.store = store;
        let pairs = before
            .lines()
            .zip(after.lines())
            .filter(|(before, after)| before != after);
        let differences: Vec<_> = pairs
            .map(|(before, after)| format!("was {before}\nis  {after}"))
            .collect();
        if differences.is_empty() {
            "same".to_owned()
        } else {
            differences.join("\n")
        }
    }

    fn replay(&mut self, count: usize) -> String {
        let before = fingerprint(&self.harness.store);
        let mut applied = self.harness.replay(count);
        assert_eq!(fingerprint(&self.harness.store), before);
        let ops = self.harness.take_ops(&mut applied);
        or_nothing(show::applied(&applied, &ops))
    }
}

fn shown(outcome: Outcome) -> String {
    match outcome {
        Ok((applied, ops)) => or_nothing(show::applied(&applied, &ops)),
        Err(fault) => format!("fault {fault}"),
    }
}

fn or_nothing(text: String) -> String {
    if text.is_empty() { "nothing".to_owned() } else { text }
}

/// A request of the log by its name.
fn request(name: &str, mut words: Words) -> InternalRaftRequest {
    let mut request = InternalRaftRequest::default();
    match name {
        "put" => request.put = Some(words.put()),
        "del" => request.delete_range = Some(words.delete_range()),
        "range" => request.range = Some(words.range()),
        "txn" => request.txn = Some(words.txn()),
        "compact" => {
            request.compaction = Some(CompactionRequest {
                revision: words.number(),
                ..CompactionRequest::default()
            });
        }
        "grant" => {
            request.lease_grant = Some(LeaseGrantRequest {
                id: words.number(),
                ttl: words.number(),
            })
        }
        "revoke" => request.lease_revoke = Some(LeaseRevokeRequest { id: words.number() }),
        "checkpoint" => {
            let checkpoints = vec![LeaseCheckpoint {
                id: words.number(),
                remaining_ttl: words.number(),
            }];
            request.lease_checkpoint = Some(LeaseCheckpointRequest { checkpoints });
        }
        "alarm" => request.alarm = Some(words.alarm()),
        "version" => request.cluster_version_set = Some(ClusterVersionSetRequest { ver: words.next() }),
        "downgrade" => {
            let ver = words.rest().join("");
            request.downgrade_info_set = Some(DowngradeInfoSetRequest {
                enabled: !ver.is_empty(),
                ver,
            });
        }
        "publish" => {
            let member_id = words.member().0;
            let attributes = Attributes {
                name: words.next(),
                client_urls: words.rest(),
            };
            request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                member_id,
                member_attributes: Some(attributes),
            });
        }
        "auth" => request.auth_enable = Some(AuthEnableRequest {}),
        "unknown" => {}
        other => panic!("no command {other}"),
    }
    request
}

/// The words of a command; round brackets are words of their own.
struct Words {
    words: std::vec::IntoIter<String>,
}

impl Words {
    fn of(line: &str) -> Self {
        let spaced = line.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
        Self {
            words: words.into_iter(),
        }
    }

    fn take(mut self) -> (String, Self) {
        (self.next(), self)
    }

    fn next(&mut self) -> String {
        self.words.next().unwrap_or_default()
    }

    fn peek(&self) -> &str {
        self.words.as_slice().first().map_or("", String::as_str)
    }

    /// The remaining words, up to a closing bracket.
    fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while !self.peek().is_empty() && self.peek() != ")" {
            rest.push(self.next());
        }
        rest
    }

    fn number(&mut self) -> i64 {
        let word = self.next();
        word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
    }

    fn member(&mut self) -> MemberId {
        MemberId::parse(&self.next()).expect("a member id in hex")
    }

    /// `a` is one key, `a..c` a range, `a..` all keys from `a`.
    fn keys(&mut self) -> (Bytes, Bytes) {
        let word = self.next();
        match word.split_once("..") {
            None => (word.into(), Bytes::new()),
            Some((key, "")) => (key.to_owned().into(), b"\0"[..].into()),
            Some((key, end)) => (key.to_owned().into(), end.to_owned().into()),
        }
    }

    /// Options such as `prev` and `lease=7`.
    fn options(&mut self, mut set: impl FnMut(&str, i64)) {
        for word in self.rest() {
            let (name, value) = word.split_once('=').unwrap_or((&word, "1"));
            set(name, value.parse().unwrap_or_else(|_| panic!("{word:?}")));
        }
    }

    fn put(&mut self) -> PutRequest {
        let (key, value) = (self.next().into(), self.next());
        let value = if value == "-" { Bytes::new() } else { value.into() };
        let mut put = PutRequest {
            key,
            value,
            ..PutRequest::default()
        };
        self.options(|name, value| match name {
            "lease" => put.lease = value,
            "prev" => put.prev_kv = true,
            "ignore_value" => put.ignore_value = true,
            "ignore_lease" => put.ignore_lease = true,
            "big" => put.value = vec![b'x'; value as usize].into(),
            _ => panic!("no option {name}"),
        });
        put
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.keys();
        let mut delete = DeleteRangeRequest {
            key,
            range_end,
            ..DeleteRangeRequest::default()
        };
        self.options(|name, _| match name {
            "prev" => delete.prev_kv = true,
            _ => panic!("no option {name}"),
        });
        delete
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.keys();
        let mut range = RangeRequest {
            key,
            range_end,
            ..RangeRequest::default()
        };
        self.options(|name, value| match name {
            "rev" => range.revision = value,
            "limit" => range.limit = value,
            "count" => range.count_only = true,
            _ => panic!("no option {name}"),
        });
        range
    }

    /// `if (COMPARE).. then (OP).. else (OP)..`, each part optional.
    fn txn(&mut self) -> TxnRequest {
        let mut txn = TxnRequest::default();
        let mut part = String::new();
        loop {
            match self.peek() {
                "if" | "then" | "else" => part = self.next(),
                "(" => {
                    self.next();
                    match part.as_str() {
                        "if" => txn.compare.push(self.compare()),
                        "then" => txn.success.push(self.op()),
                        _ => txn.failure.push(self.op()),
                    }
                    assert_eq!(self.next(), ")");
                }
                _ => return txn,
            }
        }
    }

    fn op(&mut self) -> RequestOp {
        let request = match self.next().as_str() {
            "put" => Some(Op::RequestPut(self.put())),
            "del" => Some(Op::RequestDeleteRange(self.delete_range())),
            "range" => Some(Op::RequestRange(self.range())),
            "txn" => Some(Op::RequestTxn(self.txn())),
            "nothing" => None,
            other => panic!("no operation {other}"),
        };
        RequestOp { request }
    }

    /// `value KEYS = v`; without the last word there is nothing to compare with.
    fn compare(&mut self) -> Compare {
        let target = self.next();
        let (key, range_end) = self.keys();
        let result = match self.next().as_str() {
            "=" => CompareResult::Equal as i32,
            ">" => CompareResult::Greater as i32,
            "<" => CompareResult::Less as i32,
            "!=" => CompareResult::NotEqual as i32,
            _ => 99,
        };
        let wanted = self.rest().pop();
        let number = || wanted.as_ref().map(|text| text.parse::<i64>().unwrap());
        let (target, target_union) = match target.as_str() {
            "version" => (CompareTarget::Version as i32, number().map(TargetUnion::Version)),
            "create" => (CompareTarget::Create as i32, number().map(TargetUnion::CreateRevision)),
            "mod" => (CompareTarget::Mod as i32, number().map(TargetUnion::ModRevision)),
            "value" => (
                CompareTarget::Value as i32,
                wanted.clone().map(|text| TargetUnion::Value(text.into())),
            ),
            "lease" => (CompareTarget::Lease as i32, number().map(TargetUnion::Lease)),
            _ => (99, number().map(TargetUnion::Version)),
        };
        Compare {
            result,
            target,
            key,
            range_end,
            target_union,
        }
    }

    /// `get|on|off TYPE [MEMBER]`.
    fn alarm(&mut self) -> AlarmRequest {
        let action = match self.next().as_str() {
            "get" => AlarmAction::Get,
            "on" => AlarmAction::Activate,
            _ => AlarmAction::Deactivate,
        };
        let alarm = AlarmType::from_str_name(&self.next()).expect("an alarm's name");
        let member_id = MemberId::parse(&self.next()).unwrap_or_default().0;
        AlarmRequest {
            action: action as i32,
            member_id,
            alarm: alarm as i32,
        }
    }

    /// `add|learn|promote|remove|update|broken ID [URL]..`.
    fn conf_change(&mut self) -> ConfChange {
        let kind = self.next();
        let id = self.member();
        let member = Member {
            id,
            peer_urls: self.rest(),
            is_learner: kind == "learn",
            ..Member::default()
        };
        let context = match kind.as_str() {
            "promote" => ConfChangeContext::promotion(id).to_json(),
            "remove" => Vec::new(),
            "broken" => b"{".to_vec(),
            "other" => Member {
                id: MemberId(1),
                ..member
            }
            .to_json(),
            _ => member.to_json(),
        };
        let change_type = match kind.as_str() {
            "learn" => ConfChangeType::AddLearnerNode as i32,
            "remove" => ConfChangeType::RemoveNode as i32,
            "update" => ConfChange::UPDATE_NODE,
            _ => ConfChangeType::AddNode as i32,
        };
        ConfChange {
            id: 0,
            change_type,
            node_id: id.0,
            context: context.into(),
        }
    }
}
