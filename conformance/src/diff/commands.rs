//! A script as commands for etcdctl, or as requests if etcdctl cannot express a step.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, WatchCreateRequest};
use quoin_model::call::Call;

use super::step::Step;

/// The line for a step: a command, or a comment with the step itself if etcdctl cannot express it.
#[must_use]
pub fn command(step: &Step) -> String {
    let command = match step {
        Step::Ask(call) => ask(call),
        Step::Defragment => Some("defrag".to_owned()),
        Step::Watch(_, request) => match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => watch(create),
            Some(RequestUnion::CancelRequest(_) | RequestUnion::ProgressRequest(_)) | None => None,
        },
        Step::Pause => return "sleep 0.25".to_owned(),
        Step::Bare(_) | Step::Brief(_) | Step::Expire { .. } | Step::Reset(_) => None,
    };
    command.map_or_else(|| format!("# {step:?}"), |command| format!("etcdctl {command}"))
}

fn ask(call: &Call) -> Option<String> {
    match call {
        Call::Compact(request) => {
            let physical = if request.physical { " --physical" } else { "" };
            Some(format!("compaction {}{physical}", request.revision))
        }
        Call::DeleteRange(request) => delete(request),
        Call::LeaseKeepAlive { id } => Some(format!("lease keep-alive --once {id:x}")),
        Call::LeaseLeases => Some("lease list".to_owned()),
        Call::LeaseRevoke(request) => Some(format!("lease revoke {:x}", request.id)),
        Call::LeaseTimeToLive(request) => {
            let keys = if request.keys { " --keys" } else { "" };
            Some(format!("lease timetolive {:x}{keys}", request.id))
        }
        Call::MemberList(_) => Some("member list".to_owned()),
        Call::Put(request) => put(request),
        Call::Range(request) => range(request),
        Call::Status => Some("endpoint status".to_owned()),
        // etcdctl cannot express their ids, revisions or nesting.
        Call::Alarm(_)
        | Call::Auth(_)
        | Call::Authenticate(_)
        | Call::HashKv(_)
        | Call::LeaseGrant(_)
        | Call::Lock(_)
        | Call::MemberAdd(_)
        | Call::MemberPromote(_)
        | Call::MemberRemove(_)
        | Call::MemberUpdate(_)
        | Call::MoveLeader(_)
        | Call::Txn(_) => None,
    }
}

fn put(request: &PutRequest) -> Option<String> {
    let mut words = vec!["put".to_owned()];
    let flags = [
        (request.lease != 0, format!("--lease={:x}", request.lease)),
        (request.prev_kv, "--prev-kv".to_owned()),
        (request.ignore_value, "--ignore-value".to_owned()),
        (request.ignore_lease, "--ignore-lease".to_owned()),
    ];
    add(&mut words, flags);
    words.extend([String::from("--"), quoted(&request.key)?]);
    if !request.ignore_value {
        words.push(quoted(&request.value)?);
    }
    Some(words.join(" "))
}

fn delete(request: &DeleteRangeRequest) -> Option<String> {
    let mut words = vec!["del".to_owned()];
    add(&mut words, [(request.prev_kv, "--prev-kv".to_owned())]);
    key_range(&mut words, &request.key, &request.range_end)?;
    Some(words.join(" "))
}

fn range(request: &RangeRequest) -> Option<String> {
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    // etcdctl sorts in ascending order by default, and has no filters.
    if filters != [0; 4] || request.sort_order == 0 && request.sort_target != 0 {
        return None;
    }
    let order = ["", "ASCEND", "DESCEND"].get(request.sort_order as usize)?;
    let target = ["KEY", "VERSION", "CREATE", "MODIFY", "VALUE"].get(request.sort_target as usize)?;
    let mut words = vec!["get".to_owned()];
    let flags = [
        (request.revision != 0, format!("--rev={}", request.revision)),
        (request.limit != 0, format!("--limit={}", request.limit)),
        (request.sort_order != 0, format!("--order={order} --sort-by={target}")),
        (request.serializable, "--consistency=s".to_owned()),
        (request.keys_only, "--keys-only".to_owned()),
        (request.count_only, "--count-only".to_owned()),
    ];
    add(&mut words, flags);
    words.push("-w=fields".to_owned());
    key_range(&mut words, &request.key, &request.range_end)?;
    Some(words.join(" "))
}

fn watch(request: &WatchCreateRequest) -> Option<String> {
    if !request.filters.is_empty() || request.fragment || request.watch_id != 0 {
        return None;
    }
    let mut words = vec!["watch".to_owned()];
    let flags = [
        (request.start_revision != 0, format!("--rev={}", request.start_revision)),
        (request.prev_kv, "--prev-kv".to_owned()),
        (request.progress_notify, "--progress-notify".to_owned()),
    ];
    add(&mut words, flags);
    key_range(&mut words, &request.key, &request.range_end)?;
    Some(words.join(" "))
}

fn add<const N: usize>(words: &mut Vec<String>, flags: [(bool, String); N]) {
    words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag));
}

fn key_range(words: &mut Vec<String>, key: &Bytes, range_end: &Bytes) -> Option<()> {
    if range_end[..] == b"\0"[..] {
        words.push("--from-key".to_owned());
        words.extend([String::from("--"), quoted(key)?]);
        return Some(());
    }
    words.extend([String::from("--"), quoted(key)?]);
    if !range_end.is_empty() {
        words.push(quoted(range_end)?);
    }
    Some(())
}

/// A word in bash's syntax; `None` if it has a zero byte or more than 200 bytes.
fn quoted(bytes: &Bytes) -> Option<String> {
    if bytes.contains(&0) || bytes.len() > 200 {
        return None;
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    }
    let escaped = bytes.iter().map(|byte| match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    Some(format!("$'{}'", escaped.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_options_of_its_request() {
        let request = |range| command(&Step::Ask(Call::Range(range)));
        let range = RangeRequest {
            key: "a b".into(),
            range_end: "\0".into(),
            limit: 2,
            sort_order: 2,
            sort_target: 3,
            ..RangeRequest::default()
        };
        assert_eq!(
            request(range.clone()),
            "etcdctl get --limit=2 --order=DESCEND --sort-by=MODIFY -w=fields --from-key -- $'a b'"
        );
        assert!(
            request(RangeRequest {
                key: "a\0".into(),
                ..range
            })
            .starts_with("# Ask(Range("),
            "no shell can pass a zero byte"
        );
    }
}
