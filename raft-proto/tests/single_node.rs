//! The published `raft` crate running on these messages: one member elects itself and commits.

use raft::eraftpb::{ConfChange, ConfChangeType, Entry, EntryType, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

/// A group of one, already leading.
fn leader() -> RawNode<MemStorage> {
    let storage = MemStorage::new_with_conf_state(([1], []));
    let config = Config {
        id: 1,
        election_tick: 10,
        heartbeat_tick: 1,
        ..Config::default()
    };
    let mut node = RawNode::new(&config, storage, &Logger::root(Discard, o!())).expect("a valid configuration");
    node.campaign().expect("a voter");
    drain(&mut node);
    assert_eq!(node.raft.state, StateRole::Leader);
    node
}

/// Carries out the node's work until there is none, and returns the committed entries.
fn drain(node: &mut RawNode<MemStorage>) -> Vec<Entry> {
    let mut committed = Vec::new();
    while node.has_ready() {
        let mut ready = node.ready();
        committed.extend(ready.take_committed_entries());
        node.mut_store().wl().append(ready.entries()).expect("entries in order");
        if let Some(state) = ready.hs() {
            node.mut_store().wl().set_hardstate(*state);
        }
        let mut light = node.advance(ready);
        committed.extend(light.take_committed_entries());
        node.advance_apply();
    }
    committed
}

#[test]
fn a_proposal_commits() {
    let mut node = leader();
    node.propose(vec![], b"hello".to_vec()).unwrap();
    let committed = drain(&mut node);
    assert_eq!(committed.last().unwrap().get_data(), b"hello");
}

#[test]
fn a_learner_joins_with_etcds_number() {
    let mut node = leader();
    let change = ConfChange {
        node_id: 2,
        change_type: 3,
        ..ConfChange::default()
    };
    assert_eq!(change.get_change_type(), ConfChangeType::AddLearnerNode);
    node.propose_conf_change(vec![], change.clone()).unwrap();
    let entry = drain(&mut node).pop().unwrap();
    assert_eq!(entry.get_entry_type(), EntryType::EntryConfChange);
    let state = node.apply_conf_change(&change).unwrap();
    assert_eq!((state.voters, state.learners), (vec![1], vec![2]));
}

#[test]
fn a_change_of_addresses_does_not_change_the_configuration() {
    let mut node = leader();
    let learner = ConfChange {
        node_id: 2,
        change_type: 3,
        ..ConfChange::default()
    };
    node.apply_conf_change(&learner).unwrap();
    let update = ConfChange {
        node_id: 2,
        change_type: ConfChange::UPDATE_NODE,
        ..ConfChange::default()
    };
    node.propose_conf_change(vec![], update.clone()).unwrap();
    drain(&mut node);
    let state = node.apply_conf_change(&update).unwrap();
    assert_eq!(
        (state.voters, state.learners),
        (vec![1], vec![2]),
        "the learner remains a learner"
    );
}

#[test]
fn a_message_of_unknown_type_is_refused_and_does_not_start_an_election() {
    let mut node = leader();
    let term = node.raft.term;
    let message = Message {
        msg_type: 23,
        from: 2,
        to: 1,
        ..Message::default()
    };
    assert!(node.step(message).is_err());
    assert_eq!(node.raft.term, term);
}
