//! Scripts of commands with the hub's answers. `UPDATE=1 cargo test` rewrites the answers.
//!
//! A line that begins with `>` is a command and the lines up to the next command or blank line are the answers to it.
//! `#` begins a comment. After each command the hub is woken until its deadline is in the future.
//!
//! - `put KEY VALUE [lease=N]`, `delete KEY [END]`: one revision; `txn put KEY VALUE; delete KEY; ..`: one revision of
//!   several changes. A value `*N` is N bytes long. `compact REV`.
//! - `COMMAND + COMMAND`: the hub is woken after the last one only.
//! - `repeat N COMMAND`: a `%` in it counts from 1. `quietly COMMAND`: the answer has only numbers of responses.
//! - `hold`: changes are kept from the hub, until `tell` (all at once), `tell-nothing` (without events) or `restore`.
//! - `open S`, `close S`, `sent S N|all`, `tick DURATION`, `counts`.
//! - `create S [key=K] [end=K] [rev=N] [id=N] [prev_kv] [progress] [fragment] [noput] [nodelete]`, `deny ERROR S ..`,
//!   `cancel S ID`, `progress S`, `nothing S`. In keys `\0` is the zero byte.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::error::Error;
use quoin_core::limits::{GRPC_OVERHEAD_BYTES, MAX_REQUEST_BYTES};
use quoin_core::proto::etcdserverpb::watch_create_request::FilterType;
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use quoin_core::proto::mvccpb::event::EventType;
use quoin_core::proto::mvccpb::{Event, KeyValue};
use quoin_core::watch::{StreamId, WatchInput};

use crate::world::{Change, World};

/// Plays the script of the same name, one test each.
macro_rules! stories {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            tell(stringify!($name));
        })*

        /// The scripts that are played.
        const TOLD: &[&str] = &[$(stringify!($name)),*];
    };
}

stories! {
    cancel
    catch_up
    compaction
    create
    events
    fragments
    future
    merged_inputs
    passes
    prev_kv
    progress
    slow
    d01_a_snapshot_loses_no_event
    d02_a_future_watch_survives_a_snapshot
    d03_no_travel_back_after_a_snapshot
    d04_progress_follows_the_events_it_covers
    d05_more_than_a_thousand_revisions_come_once
    d06_progress_without_any_event
    d07_a_slow_watch_passed_by_compaction_is_told
    d08_a_deletion_at_the_compacted_revision_is_seen
    d09_a_watch_from_the_compacted_revision_sees_its_deletion
    d10_a_future_watch_gets_nothing_earlier
    d11_a_negative_start_is_refused
    d12_watch_zero_is_a_watch
    d14_a_stream_closed_while_it_catches_up_is_forgotten
    d16_no_stale_event_after_several_passes
    d17_a_denied_watch_watches_nothing
    d18_a_forgotten_previous_value_is_left_out
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/watch")
}

#[test]
fn every_script_is_played() {
    let mut found: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    let mut told = TOLD.to_vec();
    told.sort_unstable();
    assert_eq!(found, told);
}

fn tell(name: &str) {
    let path = folder().join(name).with_extension("txt");
    let script = fs::read_to_string(&path).unwrap();
    let mut world = World::new(1, MAX_REQUEST_BYTES + GRPC_OVERHEAD_BYTES);
    let mut told = String::new();
    let mut answering = false;
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            let answer = obey(&mut world, command).unwrap_or_else(|wrong| panic!("{name}: {command}: {wrong}"));
            writeln!(told, "{line}\n{}", answer.trim_end()).unwrap();
            if answer.is_empty() {
                told.pop();
            }
            answering = true;
        } else if line.is_empty() || line.starts_with('#') || !answering {
            writeln!(told, "{line}").unwrap();
            answering = false;
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(&path).unwrap(), "{name}");
}

/// Carries out a command; the answers to it, a line each.
fn obey(world: &mut World, command: &str) -> Result<String, String> {
    if command == "counts" {
        let counts = world.hub.counts();
        return Ok(format!(
            "streams={} watchers={} slow={} pending={} total={}\n",
            counts.streams, counts.watchers, counts.slow_watchers, counts.pending_events, counts.events_total
        ));
    }
    let (quietly, command) = match command.strip_prefix("quietly ") {
        Some(command) => (true, command),
        None => (false, command),
    };
    match command.strip_prefix("repeat ") {
        Some(rest) => {
            let (times, command) = rest.split_once(' ').ok_or("repeat what?")?;
            for time in 1..=number(times)? {
                act(world, &command.replace('%', &time.to_string()))?;
                world.settle();
            }
        }
        None => command.split(" + ").try_for_each(|command| act(world, command))?,
    }
    world.settle();
    let fresh = world.fresh();
    Ok(if quietly {
        summary(&fresh)
    } else {
        fresh.iter().map(describe).collect()
    })
}

fn act(world: &mut World, command: &str) -> Result<(), String> {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    match (verb, &words[..]) {
        ("put" | "delete", _) => world.write(&[change(command)?]),
        ("txn", _) => {
            let changes: Result<Vec<_>, _> = rest.split("; ").map(change).collect();
            world.write(&changes?);
        }
        ("compact", [revision]) => {
            if !world.compact(number(revision)?) {
                return Err("cannot compact".into());
            }
        }
        ("hold", []) => world.holding = true,
        ("tell", []) => {
            world.holding = false;
            world.tell(true);
        }
        ("tell-nothing", []) => {
            world.holding = false;
            world.tell(false);
        }
        ("restore", []) => {
            world.holding = false;
            world.restore();
        }
        ("tick", [time]) => world.now = world.now + duration(time)?,
        ("open", [name]) => world.step(WatchInput::Open { stream: stream(name)? }),
        ("close", [name]) => world.close(stream(name)?),
        ("sent", [name, "all"]) => {
            world.sent(stream(name)?, usize::MAX);
        }
        ("sent", [name, responses]) => {
            world.sent(stream(name)?, number(responses)?);
        }
        ("create", [name, options @ ..]) => world.create(stream(name)?, request(options)?),
        ("deny", [error, name, options @ ..]) => {
            let of_name = |e: &&Error| format!("{e:?}") == *error;
            let error = *Error::ALL.iter().find(of_name).ok_or("no such error")?;
            let (stream, request) = (stream(name)?, request(options)?);
            world.step(WatchInput::Deny { stream, request, error });
        }
        ("cancel", [name, id]) => world.cancel(stream(name)?, number(id)?),
        ("progress", [name]) => world.progress(stream(name)?),
        ("nothing", [name]) => {
            let (stream, request) = (stream(name)?, WatchRequest::default());
            world.step(WatchInput::Request { stream, request });
        }
        _ => return Err("what?".into()),
    }
    Ok(())
}

fn change(text: &str) -> Result<Change, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words[..] {
        ["put", key, value] => Change::Put {
            key: key_of(key),
            value: value_of(value)?,
            lease: 0,
        },
        ["put", key, value, lease] => Change::Put {
            key: key_of(key),
            value: value_of(value)?,
            lease: number(lease.strip_prefix("lease=").ok_or("what?")?)?,
        },
        ["delete", key] => Change::Delete {
            key: key_of(key),
            range_end: Bytes::new(),
        },
        ["delete", key, end] => Change::Delete {
            key: key_of(key),
            range_end: key_of(end),
        },
        _ => return Err("no such change".into()),
    })
}

fn request(options: &[&str]) -> Result<WatchCreateRequest, String> {
    let mut request = WatchCreateRequest::default();
    for option in options {
        match option.split_once('=').unwrap_or((option, "")) {
            ("key", key) => request.key = key_of(key),
            ("end", key) => request.range_end = key_of(key),
            ("rev", revision) => request.start_revision = number(revision)?,
            ("id", id) => request.watch_id = number(id)?,
            ("prev_kv", "") => request.prev_kv = true,
            ("progress", "") => request.progress_notify = true,
            ("fragment", "") => request.fragment = true,
            ("noput", "") => request.filters.push(FilterType::Noput.into()),
            ("nodelete", "") => request.filters.push(FilterType::Nodelete.into()),
            _ => return Err(format!("no option {option}")),
        }
    }
    Ok(request)
}

fn key_of(text: &str) -> Bytes {
    text.replace("\\0", "\0").into()
}

fn value_of(text: &str) -> Result<Bytes, String> {
    Ok(match text.strip_prefix('*') {
        Some(bytes) => vec![b'v'; number(bytes)?].into(),
        None => text.to_owned().into(),
    })
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let (value, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).ok_or("no unit")?);
    let value: u64 = number(value)?;
    match unit {
        "ms" => Ok(Duration::from_millis(value)),
        "s" => Ok(Duration::from_secs(value)),
        "m" => Ok(Duration::from_secs(value * 60)),
        _ => Err("no such unit".into()),
    }
}

fn stream(name: &str) -> Result<StreamId, String> {
    number(name.strip_prefix('s').ok_or("streams are called s1, s2, ..")?).map(StreamId)
}

/// For each watch: the number of responses and of events, and the revisions.
fn summary(fresh: &[(StreamId, WatchResponse)]) -> String {
    let mut lines = std::collections::BTreeMap::new();
    for (stream, response) in fresh {
        let line = lines.entry((*stream, response.watch_id)).or_insert((0, 0, i64::MAX, 0));
        line.0 += 1;
        line.1 += response.events.len();
        for kv in response.events.iter().filter_map(|event| event.kv.as_ref()) {
            line.2 = line.2.min(kv.mod_revision);
            line.3 = line.3.max(kv.mod_revision);
        }
    }
    let mut text = String::new();
    for ((stream, id), (responses, events, first, last)) in lines {
        write!(text, "s{} watch {id}: {responses} responses, {events} events", stream.0).unwrap();
        if events > 0 {
            write!(text, " of {first}..={last}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn describe((stream, response): &(StreamId, WatchResponse)) -> String {
    let revision = response.header.expect("checked on arrival").revision;
    let mut text = format!("s{} watch {} rev {revision}", stream.0, response.watch_id);
    for (set, name) in [
        (response.created, "created"),
        (response.canceled, "canceled"),
        (response.fragment, "fragment"),
    ] {
        if set {
            write!(text, " {name}").unwrap();
        }
    }
    if response.compact_revision != 0 {
        write!(text, " compact_revision {}", response.compact_revision).unwrap();
    }
    if !response.cancel_reason.is_empty() {
        write!(text, " {:?}", response.cancel_reason).unwrap();
    }
    let events: Vec<String> = response.events.iter().map(describe_event).collect();
    if !events.is_empty() {
        write!(text, ": {}", events.join(", ")).unwrap();
    }
    text + "\n"
}

fn describe_event(event: &Event) -> String {
    let kind = match event.r#type() {
        EventType::Delete => "delete",
        EventType::Put => "put",
    };
    let kv = event.kv.as_ref().map(describe_kv).unwrap_or_default();
    let prev = event.prev_kv.as_ref().map(|kv| format!(" was {}", describe_kv(kv)));
    format!("{kind} {kv}{}", prev.unwrap_or_default())
}

/// Key and value, then revisions of creation and change, version and lease.
fn describe_kv(kv: &KeyValue) -> String {
    let value = match kv.value.len() {
        0..20 => kv.value.escape_ascii().to_string(),
        bytes => format!("*{bytes}"),
    };
    let lease = if kv.lease == 0 {
        String::new()
    } else {
        format!(" lease={}", kv.lease)
    };
    format!(
        "{}={value} ({} {} {}{lease})",
        kv.key.escape_ascii(),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    )
}
