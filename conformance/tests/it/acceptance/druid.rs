//! etcd-druid and its sidecar, etcd-backup-restore: deltas by a watch of everything, backups, compaction.

use std::fs;

use etcd_client::{Client, CompactionOptions, GetOptions, SortOrder, SortTarget, WatchOptions};
use quoin_conformance::{Kind, Launch};

use super::{client, on_each, runtime, until_probed};
use crate::tls::free;

/// The configuration as the operator writes it.
const CONFIG: &str = "\
name: etcd-main-0
data-dir: data
metrics: extensive
snapshot-count: 75000
enable-v2: false
quota-backend-bytes: 8589934592
initial-cluster-token: new
initial-cluster-state: new
enable-grpc-gateway: true
next-cluster-version-compatible: true
auto-compaction-mode: periodic
auto-compaction-retention: \"30m\"
";

#[test]
fn etcd_druid_backs_up_a_member() {
    on_each(a_member_with_a_sidecar);
}

fn a_member_with_a_sidecar(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, peer) = (free(), free());
    let config = format!(
        "{CONFIG}listen-client-urls: http://{at}\nadvertise-client-urls: http://{at}\nlisten-peer-urls: http://{peer}\n\
         initial-advertise-peer-urls: http://{peer}\ninitial-cluster: etcd-main-0=http://{peer}\n"
    );
    let file = folder.path().join("etcd.conf.yaml");
    fs::write(&file, config).expect("a file");
    let launch = Launch::of(kind).expect("a program").alone().client(at);
    let launch = launch.flag(format!("--config-file={}", file.display()));
    let mut server = launch.spawn().expect("a process");
    until_probed(&mut server, at, "/health");
    runtime().block_on(async {
        let mut client = client(&server).await;
        let full = deltas_follow_the_full_backup(&mut client).await;
        client
            .compact(full, Some(CompactionOptions::new().with_physical()))
            .await
            .expect("a compaction");
        client.defragment().await.expect("a defragmentation");
        let status = client.status().await.expect("a status");
        assert!(status.db_size() > 0, "{status:?}");
        a_backup_is_whole(&mut client).await;
        its_url_is_updated(&mut client).await;
    });
    // The sidecar takes these for a sign of a member that has run.
    for part in ["member/snap", "member/wal"] {
        assert!(server.data_dir().join(part).is_dir(), "{part}");
    }
}

/// The key that was changed last, and everything after it. Returns the last revision.
async fn deltas_follow_the_full_backup(client: &mut Client) -> i64 {
    for number in 0..20 {
        client.put(format!("key{number}"), "value", None).await.expect("a put");
    }
    client.delete("key3", None).await.expect("a deletion");
    client.put("key7", "last", None).await.expect("a put");
    let last = GetOptions::new()
        .with_all_keys()
        .with_limit(1)
        .with_sort(SortTarget::Mod, SortOrder::Descend);
    let found = client.get("", Some(last)).await.expect("the last key");
    let [kv] = found.kvs() else { panic!("{found:?}") };
    assert_eq!((kv.key(), kv.value(), found.more()), (&b"key7"[..], &b"last"[..], true));
    let full = kv.mod_revision();
    assert_eq!(full, found.header().expect("a header").revision());

    let deltas = WatchOptions::new().with_prefix().with_start_revision(full + 1);
    let mut watch = client.watch("", Some(deltas)).await.expect("a watch");
    assert!(watch.message().await.expect("an answer").expect("it is open").created());
    client.put("key7", "newer", None).await.expect("a put");
    client.delete("key8", None).await.expect("a deletion");
    let mut revisions = Vec::new();
    while revisions.len() < 2 {
        let answer = watch.message().await.expect("an answer").expect("it is open");
        let events = answer.events().iter().filter_map(|event| event.kv());
        revisions.extend(events.map(|kv| (kv.key().to_vec(), kv.mod_revision())));
    }
    assert_eq!(revisions, [(b"key7".to_vec(), full + 1), (b"key8".to_vec(), full + 2)]);
    full
}

/// A backup is a file of whole pages of 512 bytes and a SHA-256 after it.
async fn a_backup_is_whole(client: &mut Client) {
    let mut stream = client.snapshot().await.expect("a backup");
    let (mut length, mut left) = (0, 1);
    while let Some(piece) = stream.message().await.expect("a piece") {
        length += piece.blob().len();
        left = piece.remaining_bytes();
    }
    assert_eq!((length % 512, left), (32, 0), "{length} bytes");
}

async fn its_url_is_updated(client: &mut Client) {
    let list = client.member_list().await.expect("a list");
    let [own] = list.members() else { panic!("{list:?}") };
    assert_eq!(own.name(), "etcd-main-0");
    let urls = own.peer_urls().to_vec();
    let updated = client.member_update(own.id(), urls.clone()).await.expect("an update");
    assert_eq!(updated.members()[0].peer_urls(), urls);
}
