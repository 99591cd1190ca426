//! Plays scripts: one command a line, and its answer after `=>`.
//!
//! `put K V [LEASE]`, `delete K [END]`, `txn COMMAND, COMMAND..`, `range K [to=END] [..]`, `hash REV`, `compact REV`,
//! `sweep` (finish the compaction), `restart` (from the rows of the table). `-` is an empty value, `x*9` nine times an
//! x, `\0` a zero byte. A pair prints as `key=value@created/modified/version!lease`.

use std::fmt::Write as _;

use bytes::Bytes;

use super::Table;
use crate::error::Error;
use crate::mvcc::{CompactHashes, CompactProgress, HashKv, Mvcc, Write};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::proto::mvccpb::KeyValue;

/// Plays a script against a new store and asserts every answer.
pub(super) fn play(story: &str) {
    let mut player = Player::default();
    for (number, line) in story.lines().enumerate() {
        let command = line.split(" =>").next().expect("a split has a first part").trim_end();
        let played = if command.is_empty() || command.starts_with('#') {
            line.to_owned()
        } else {
            match player.play(command) {
                None => command.to_owned(),
                Some(answer) => format!("{command} => {answer}").trim_end().to_owned(),
            }
        };
        assert_eq!(played, line, "line {}", number + 1);
        player.table.check(&player.mvcc);
    }
}

#[derive(Default)]
struct Player {
    mvcc: Mvcc,
    table: Table,
    hashes: CompactHashes,
    /// To be remembered when the compaction finishes.
    hash_of_compaction: Option<HashKv>,
}

impl Player {
    fn play(&mut self, command: &str) -> Option<String> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "put" | "delete" => self.write(&[command]),
            "txn" => self.write(&rest.split(", ").collect::<Vec<_>>()),
            "range" => {
                return Some(
                    self.mvcc
                        .view()
                        .range(&range_request(rest))
                        .map_or_else(text, response_text),
                );
            }
            "hash" => return Some(self.hash(rest.parse().unwrap())),
            "compact" => return self.compact(rest.parse().unwrap()).err().map(text),
            "sweep" => self.sweep(),
            "restart" => {
                self.mvcc = self.table.restore();
                self.hashes = CompactHashes::default();
            }
            _ => panic!("unknown command {command}"),
        }
        None
    }

    fn write(&mut self, commands: &[&str]) {
        let mut write = self.mvcc.begin();
        for command in commands {
            change(&mut write, command);
        }
        let mut ops = Vec::new();
        write.end(&mut Vec::new(), &mut ops);
        self.table.write(ops);
    }

    fn hash(&self, revision: i64) -> String {
        let hash = self
            .hashes
            .find(revision)
            .map_or_else(|| self.mvcc.view().hash_kv(revision), Ok);
        hash.map_or_else(text, |hash| {
            format!("{:08x} compact {}", hash.hash, hash.compact_revision)
        })
    }

    fn compact(&mut self, revision: i64) -> Result<(), Error> {
        let before = self.mvcc.view();
        let former_done = !self.mvcc.is_compacting();
        let mut ops = Vec::new();
        self.mvcc.compact(revision, &mut ops)?;
        self.table.write(ops);
        self.hash_of_compaction = former_done.then(|| before.hash_compaction(revision));
        Ok(())
    }

    fn sweep(&mut self) {
        loop {
            let mut ops = Vec::new();
            let progress = self.mvcc.compact_step(3, &mut ops);
            self.table.write(ops);
            if progress != CompactProgress::More {
                break;
            }
        }
        if let Some(hash) = self.hash_of_compaction.take() {
            self.hashes.remember(hash);
        }
    }
}

/// The text of an error without its prefix, which differs between interfaces.
fn text(error: Error) -> String {
    error.message().replace("etcdserver: ", "")
}

fn change(write: &mut Write<'_>, command: &str) {
    let words: Vec<_> = command.split_whitespace().collect();
    match words[..] {
        ["put", key, value] => drop(write.put(bytes(key), bytes(value), 0)),
        ["put", key, value, lease] => drop(write.put(bytes(key), bytes(value), lease.parse().unwrap())),
        ["delete", key] => drop(write.delete_range(&bytes(key), b"")),
        ["delete", key, end] => drop(write.delete_range(&bytes(key), &bytes(end))),
        _ => panic!("unknown change {command}"),
    }
}

fn bytes(word: &str) -> Bytes {
    match word.split_once('*') {
        Some((part, times)) => Bytes::from(part.repeat(times.parse().unwrap())),
        None if word == "-" => Bytes::new(),
        None => Bytes::from(word.replace("\\0", "\0")),
    }
}

fn range_request(words: &str) -> RangeRequest {
    let mut words = words.split_whitespace();
    let mut request = RangeRequest {
        key: bytes(words.next().unwrap()),
        ..RangeRequest::default()
    };
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<i64>().unwrap();
        match name {
            "to" => request.range_end = bytes(value),
            "limit" => request.limit = number(),
            "rev" => request.revision = number(),
            "order" => request.sort_order = SortOrder::from_str_name(value).unwrap().into(),
            "by" => request.sort_target = SortTarget::from_str_name(value).unwrap().into(),
            "keys_only" => request.keys_only = true,
            "count_only" => request.count_only = true,
            "min_mod" => request.min_mod_revision = number(),
            "max_mod" => request.max_mod_revision = number(),
            "min_create" => request.min_create_revision = number(),
            "max_create" => request.max_create_revision = number(),
            _ => panic!("unknown option {word}"),
        }
    }
    request
}

fn response_text(response: RangeResponse) -> String {
    let mut text = format!("{}{}:", response.count, if response.more { " more" } else { "" });
    for kv in &response.kvs {
        text.push(' ');
        text.push_str(&pair_text(kv));
    }
    text
}

fn pair_text(kv: &KeyValue) -> String {
    let mut text = String::from_utf8_lossy(&kv.key).into_owned();
    if !kv.value.is_empty() {
        write!(text, "={}", String::from_utf8_lossy(&kv.value)).unwrap();
    }
    write!(text, "@{}/{}/{}", kv.create_revision, kv.mod_revision, kv.version).unwrap();
    if kv.lease != 0 {
        write!(text, "!{}", kv.lease).unwrap();
    }
    text
}
