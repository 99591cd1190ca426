//! Tests of the node: the effects of one node as text, and clusters in a small simulated world.

mod auth;
mod cluster;
mod disk;
mod hostile;
mod leases;
mod membership;
mod repeat;
mod rough;
mod single;
mod snapshot;
mod tally;
mod watching;
mod world;

use std::fmt::Write as _;

use super::{Effect, Response};
use crate::jobs::{LogJob, PeerJob, TableJob, TableRows};
use crate::proto::etcdserverpb::{PutRequest, RangeRequest};
use crate::store;
use crate::wal::Save;

/// A write.
fn put(key: &str, value: &str) -> super::Request {
    super::Request::Put(PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    })
}

/// The value of a key in a view.
fn value(view: &store::View, key: &str) -> Option<String> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    let found = view.range(&request).unwrap().kvs.pop()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

/// One line for each effect.
fn story(effects: &[Effect]) -> String {
    let mut text = String::new();
    for effect in effects {
        writeln!(text, "{}", brief(effect)).unwrap();
    }
    text
}

fn brief(effect: &Effect) -> String {
    match effect {
        Effect::Halt(halt) => format!("halt {halt:?}"),
        Effect::Log(job) => brief_log(job),
        Effect::Peer(PeerJob::Messages { to, messages }) => {
            let kinds: Vec<_> = messages
                .iter()
                .map(|message| format!("{:?}", message.get_msg_type()))
                .collect();
            format!("send {to} {}", kinds.join(" "))
        }
        Effect::Peer(PeerJob::Snapshot(job)) => {
            let index = job.message.get_snapshot().get_metadata().index;
            format!("send {} a snapshot of {index}", job.to)
        }
        Effect::Hash(compaction) => format!("hash {compaction:?}"),
        Effect::Tokens(changes) => format!("tokens {changes:?}"),
        Effect::Publish {
            view,
            events,
            restored,
            status,
        } => format!(
            "publish revision={} applied={} events={}{}{}{}",
            view.kv.revision(),
            status.applied_index,
            events.len(),
            if *restored { " restored" } else { "" },
            if status.leads { " leads" } else { "" },
            if status.published { " published" } else { "" },
        ),
        Effect::Reply { token, result } => match result {
            Ok(Response::Applied(response)) => {
                let text = format!("{response:?}");
                format!("reply {} {}", token.0, text.split(['(', ' ']).next().unwrap())
            }
            Ok(other) => format!("reply {} {other:?}", token.0),
            Err(error) => format!("reply {} {error:?}", token.0),
        },
        Effect::Table(TableJob { batch, index, rows }) => match rows {
            TableRows::Changed(ops) => format!("store {} rows={} index={index}", batch.0, ops.len()),
            TableRows::All(_) => format!("replace {} index={index}", batch.0),
        },
    }
}

fn brief_log(job: &LogJob) -> String {
    let Save { marker, entries, state } = &job.save;
    let mut text = match (marker, state) {
        (None, _) => format!("persist {}", job.batch.0),
        (Some(_), None) => format!("mark {}", job.batch.0),
        (Some(_), Some(_)) => format!("install {}", job.batch.0),
    };
    if let Some(marker) = marker {
        let voters = &marker.conf_state.as_ref().unwrap().voters;
        write!(text, " index={} term={} voters={voters:?}", marker.index, marker.term).unwrap();
    }
    if let Some(hard) = state {
        write!(text, " term={} vote={} commit={}", hard.term, hard.vote, hard.commit).unwrap();
    }
    if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
        write!(text, " entries={}..={}", first.index, last.index).unwrap();
    }
    text + if job.sync { " sync" } else { "" }
}
