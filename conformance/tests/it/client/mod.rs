//! Stories played with the `etcd-client` crate and with raw HTTP/2, the same for every server.
//!
//! A story calls the server and records its answers, field by field; `scripts/client/<story>.txt` has the answers of a
//! real etcd. `UPDATE=1 cargo test -p quoin-conformance --test it client::real_etcd` records them again.

mod downgrades;
mod elections;
mod errors;
mod kv;
mod lease;
mod limits;
mod locks;
mod raw;
mod tale;
mod txn;
mod watch;

use std::time::Duration;

use quoin_conformance::{Kind, Launch, golden, on_every_server, paths};

use downgrades::downgrades;
use elections::{elections, observers, waiting_candidates};
use errors::{bad_requests, compacted_and_future_revisions, refused_leases};
use kv::{deletes, gets, puts};
use lease::{lease_lives_and_ends, leases_and_their_keys};
use limits::{big_values, many_keys, many_operations};
use locks::{locks, locks_of_the_dead, waiting_for_a_lock};
use raw::{deadlines, malformed_messages, unknown_methods, unknown_sorts, wrong_http};
use tale::Tale;
use txn::{compares, nested_transactions, range_compares, refused_transactions, transactions};
use watch::{cancelled_watches, filters, fragments, live_events, past_events, progress, progress_notify, watch_ids};

on_every_server!(
    bad_requests,
    big_values,
    cancelled_watches,
    compacted_and_future_revisions,
    compares,
    deadlines,
    deletes,
    downgrades,
    elections,
    filters,
    fragments,
    gets,
    lease_lives_and_ends,
    leases_and_their_keys,
    live_events,
    locks,
    locks_of_the_dead,
    malformed_messages,
    many_keys,
    many_operations,
    nested_transactions,
    observers,
    past_events,
    progress,
    progress_notify,
    puts,
    range_compares,
    refused_leases,
    refused_transactions,
    transactions,
    unknown_methods,
    waiting_candidates,
    waiting_for_a_lock,
    watch_ids,
    wrong_http,
);

/// Played with ours only: the real etcd answers differently, or crashes.
mod ours_alone {
    use super::{play, unknown_sorts};

    quoin_conformance::on_every_server!(@ours unknown_sorts);
}

/// Longer than any story takes, even on a busy machine.
const STORY_LIMIT: Duration = Duration::from_mins(2);

fn play(kind: Kind, name: &str, story: impl AsyncFn(&mut Tale)) {
    let mut launch = Launch::of(kind).expect("a server program");
    if name == "progress_notify" {
        launch = launch.flag("--experimental-watch-progress-notify-interval=200ms");
    }
    if name == "downgrades" && kind != Kind::Etcd {
        // The cluster version of the real etcd.
        launch = launch.flag("--max-cluster-version=3.5");
    }
    let server = launch.start().expect("a healthy server");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the client");
    let told = runtime.block_on(async {
        tokio::time::timeout(STORY_LIMIT, async {
            let mut tale = Tale::begin(&server).await;
            story(&mut tale).await;
            tale.end()
        })
        .await
        .expect("a story ends in time")
    });
    let file = paths::scripts().join("client").join(format!("{name}.txt"));
    golden::check(&file, kind, &told).expect("the answers are the real etcd's");
}
