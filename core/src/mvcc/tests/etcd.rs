//! Scripts with the answers that a running etcd 3.5.30 gave to the same commands.

use super::story::play;

#[test]
fn ranges() {
    play(include_str!("etcd/ranges.txt"));
}

#[test]
fn hashes() {
    play(include_str!("etcd/hash_basic.txt"));
}

#[test]
fn hashes_where_no_key_is_left() {
    play(include_str!("etcd/hash_nothing_left.txt"));
}

#[test]
fn hashes_of_random_changes_and_compactions() {
    play(include_str!("etcd/hash_random.txt"));
}

#[test]
fn hashes_during_compactions_and_after_restarts() {
    play(include_str!("etcd/hash_interrupted.txt"));
}
