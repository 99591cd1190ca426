//! Locks of the lock service: their keys, the queue for one, and how a wait ends.

#![expect(clippy::disallowed_methods, reason = "the tests run on tokio only")]

use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, Error, GetOptions, LeaseGrantOptions, LockOptions, LockResponse, PutOptions,
};
use tokio::task::JoinHandle;

use super::tale::Tale;

/// Longer than it takes until a waiter has its place in the queue, or has given it up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Locks that are free, held by the caller, given back, or asked for wrongly.
pub(crate) async fn locks(tale: &mut Tale) {
    let mut client = tale.client();
    leases(&mut client, &[1, 10, -10]).await;
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    tale.tell("lock a with 10", client.lock("a", with(10)).await);
    tale.tell("its key", client.get("a/a", None).await);
    tale.tell("put", client.put("other", "x", None).await);
    tale.tell("lock a with 10 again", client.lock("a", with(10)).await);
    tale.tell("lock b with -10", client.lock("b", with(-10)).await);
    tale.tell("lock without a name", client.lock("", with(1)).await);
    tale.tell("lock a name with a slash", client.lock("x/y", with(1)).await);
    tale.tell("lock with an unknown lease", client.lock("c", with(99)).await);
    tale.tell("all keys", all(&mut client).await);
    tale.tell("unlock a", client.unlock("a/a").await);
    tale.tell("unlock a again", client.unlock("a/a").await);
    tale.tell("unlock any key", client.unlock("other").await);
    tale.tell("unlock no key", client.unlock("").await);
    tale.tell("all keys", all(&mut client).await);

    let own = tale.tell("lock d without a lease", client.lock("d", None).await);
    let key = own.expect("a free lock").key().to_vec();
    let found = client.get(key, None).await.expect("an answer");
    let lease = found.kvs().first().map_or(0, |kv| kv.lease());
    tale.tell("its lease", client.lease_time_to_live(lease, None).await);
}

/// Three waiters: one is cancelled, one loses its lease, one gets the lock.
pub(crate) async fn waiting_for_a_lock(tale: &mut Tale) {
    let mut client = tale.client();
    leases(&mut client, &[1, 2, 3, 4]).await;
    tale.tell("lock with 1", lock(&client, 1).await);
    let cancelled = waiter(&mut client, 2).await;
    let expired = waiter(&mut client, 3).await;
    let last = waiter(&mut client, 4).await;
    tale.tell("the queue", all(&mut client).await);
    cancelled.abort();
    until(&mut client, "l/2", false).await;
    tale.tell("2 is cancelled", all(&mut client).await);
    tale.tell("revoke 3", client.lease_revoke(3).await);
    tale.tell("unlock 1", client.unlock("l/1").await);
    tale.tell("3 waited", answer(expired).await);
    tale.tell("4 waited", answer(last).await);
    tale.tell("the queue", all(&mut client).await);
    tale.tell("lock with 4 again", lock(&client, 4).await);
}

/// A lock that is freed by the end of its holder's lease, and a waiter that asks twice.
pub(crate) async fn locks_of_the_dead(tale: &mut Tale) {
    let mut client = tale.client();
    leases(&mut client, &[1, 2]).await;
    let short = client.lease_grant(2, Some(LeaseGrantOptions::new().with_id(5))).await;
    tale.tell("grant 5", short);
    tale.tell("lock with 5", lock(&client, 5).await);
    let first = waiter(&mut client, 2).await;
    let twice = tokio::spawn({
        let client = client.clone();
        async move { lock(&client, 2).await }
    });
    tale.tell("2 waited", answer(first).await);
    tale.tell("2 waited a second time", answer(twice).await);
    tale.tell("the queue", all(&mut client).await);
    // A key that is no place in the queue counts as one.
    let before = Some(PutOptions::new().with_lease(1));
    tale.tell("a key of someone else", client.put("m/zzz", "x", before).await);
    let other = tokio::spawn({
        let mut client = client.clone();
        async move { client.lock("m", Some(LockOptions::new().with_lease(2))).await }
    });
    until(&mut client, "m/2", true).await;
    tale.tell("compact", client.compact(6, Some(CompactionOptions::new())).await);
    tale.tell("revoke 1", client.lease_revoke(1).await);
    tale.tell("2 waited for it", answer(other).await);
}

async fn lock(client: &Client, lease: i64) -> Result<LockResponse, Error> {
    let mut client = client.clone();
    client.lock("l", Some(LockOptions::new().with_lease(lease))).await
}

/// Grants leases with these ids.
pub(crate) async fn leases(client: &mut Client, ids: &[i64]) {
    for id in ids {
        let options = Some(LeaseGrantOptions::new().with_id(*id));
        client.lease_grant(600, options).await.expect("a lease");
    }
}

/// A call that waits for the lock `l`, and has its key.
async fn waiter(client: &mut Client, lease: i64) -> JoinHandle<Result<LockResponse, Error>> {
    let asking = client.clone();
    let waiter = tokio::spawn(async move { lock(&asking, lease).await });
    until(client, &format!("l/{lease}"), true).await;
    waiter
}

/// Waits until a key exists, or does not.
pub(crate) async fn until(client: &mut Client, key: &str, exists: bool) {
    let change = async {
        while (client.get(key, None).await.expect("an answer").count() > 0) != exists {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, change)
        .await
        .unwrap_or_else(|_| panic!("{key} should exist: {exists}"));
}

/// The answer to a call that must not wait any longer.
pub(crate) async fn answer<T>(call: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(PATIENCE, call).await;
    answer.expect("the wait is over").expect("the call is not cancelled")
}

/// All keys.
pub(crate) async fn all(client: &mut Client) -> Result<etcd_client::GetResponse, Error> {
    client.get("", Some(GetOptions::new().with_all_keys())).await
}
