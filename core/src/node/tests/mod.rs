//! Tests of the node: golden stories of one node, and clusters in a small world of wires, disks and time.

mod cluster;
mod disk;
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
use crate::proto::etcdserverpb::{PutRequest, RangeRequest};
use crate::store;

/// A write.
fn put(key: &str, value: &str) -> super::Request {
    super::Request::Put(PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    })
}

/// The value a view has of a key.
fn value(view: &store::View, key: &str) -> Option<String> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    let found = view.range(&request).unwrap().kvs.pop()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

/// Effects in a line each, short enough to be read as a story.
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
        Effect::Install {
            batch,
            index,
            term,
            hard_state,
            ..
        } => {
            let commit = hard_state.commit;
            format!("install {} index={index} term={term} commit={commit}", batch.0)
        }
        Effect::Persist {
            batch,
            hard_state,
            entries,
            sync,
        } => {
            let mut text = format!("persist {}", batch.0);
            if let Some(hard) = hard_state {
                write!(text, " term={} vote={} commit={}", hard.term, hard.vote, hard.commit).unwrap();
            }
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                write!(text, " entries={}..={}", first.index, last.index).unwrap();
            }
            text + if *sync { " sync" } else { "" }
        }
        Effect::Publish {
            view,
            events,
            restored,
            status,
            ..
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
        Effect::Send { to, messages } => {
            let kinds: Vec<_> = messages
                .iter()
                .map(|message| format!("{:?}", message.get_msg_type()))
                .collect();
            format!("send {to} {}", kinds.join(" "))
        }
        Effect::Replace { batch, index, .. } => format!("replace {} index={index}", batch.0),
        Effect::SendSnapshot { to, message, .. } => {
            format!(
                "send {to} a snapshot of {}",
                message.get_snapshot().get_metadata().index
            )
        }
        Effect::Snapshot {
            index,
            term,
            conf_state,
        } => {
            format!("snapshot index={index} term={term} voters={:?}", conf_state.voters)
        }
        Effect::Store { batch, ops, index, .. } => format!("store {} rows={} index={index}", batch.0, ops.len()),
    }
}
