//! Serializable reads return a state that existed, and no read returns an older revision than one seen before it.

use quoin_model::linear::kv::{Op, OpReply, Reply, Request};

use super::writes::Claims;
use super::{Past, Violation};
use crate::histories::record::{History, Moment, Recorded};

pub(super) fn check(history: &History, past: &Past, claims: &Claims) -> Result<(), Violation> {
    for read in history.operations.iter().filter(|one| one.serializable) {
        of_the_past(read, history, past, claims)?;
    }
    never_back(history, past)
}

fn of_the_past(read: &Recorded, history: &History, past: &Past, claims: &Claims) -> Result<(), Violation> {
    let (Some(Reply::One { revision, reply }), Request::One(Op::Range { key, end, .. })) = (&read.reply, &read.request)
    else {
        return Ok(());
    };
    let there = OpReply::Range(past.range(key, end.as_deref(), *revision));
    let fails = |words| Err(Violation::new("serializable reads are of the past", *revision, words));
    if *revision > past.last() || *reply != there {
        return fails(format!(
            "client {} read {reply:?}, at revision {revision} it was {there:?}",
            read.client
        ));
    }
    let writer = claims
        .get(revision)
        .copied()
        .flatten()
        .map(|index| &history.operations[index]);
    if let (Some(writer), Some(returned)) = (writer, read.returned)
        && writer.invoked > returned
    {
        return fails(format!(
            "client {} read revision {revision} before its write was requested",
            read.client
        ));
    }
    Ok(())
}

/// A request made after a revision was seen is answered from that revision or a later one; serializable reads may lag.
fn never_back(history: &History, past: &Past) -> Result<(), Violation> {
    let answered = history
        .operations
        .iter()
        .filter_map(|one| Some((one.returned?, one.revision()?)));
    let watched = past.groups().map(|(revision, group)| (group.at, revision));
    let mut seen: Vec<(Moment, i64)> = answered.chain(watched).collect();
    seen.sort_unstable();
    let mut asked: Vec<&Recorded> = history.operations.iter().filter(|one| !one.serializable).collect();
    asked.sort_by_key(|one| one.invoked);
    let (mut next, mut floor) = (0, 0);
    for operation in asked {
        while let Some((_, revision)) = seen.get(next).filter(|(at, _)| *at < operation.invoked) {
            floor = floor.max(*revision);
            next += 1;
        }
        if let Some(revision) = operation.revision()
            && revision < floor
        {
            let words = format!(
                "client {} asked at {} and was answered from revision {revision}, when {floor} had been seen: {:?}",
                operation.client, operation.invoked, operation.request
            );
            return Err(Violation::new("revisions never go back", revision, words));
        }
    }
    Ok(())
}
