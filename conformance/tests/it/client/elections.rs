//! Elections of the election service: campaigns, what the leader changes, and observers.

#![expect(clippy::disallowed_methods, reason = "the tests run on tokio only")]

use std::time::Duration;

use etcd_client::{CampaignResponse, Client, Error, LeaderKey, ObserveStream, ProclaimOptions, ResignOptions};
use tokio::task::JoinHandle;

use super::locks::{all, answer, leases, until};
use super::tale::{Tale, shown_error};

/// The limit for a message that must come.
const MESSAGE_LIMIT: Duration = Duration::from_secs(20);

/// One leader: what it announces, and all that can be asked wrongly.
pub(crate) async fn elections(tale: &mut Tale) {
    let mut client = tale.client();
    leases(&mut client, &[1, 2]).await;
    tale.tell("no leader", client.leader("e").await);
    let won = tale.tell("campaign with 1", client.campaign("e", "a", 1).await);
    let leader = won.and_then(|won| won.leader().cloned()).expect("a leader");
    tale.tell("the leader", client.leader("e").await);
    tale.tell("campaign with 1 again", client.campaign("e", "a", 1).await);
    tale.tell("campaign with 1 for another value", client.campaign("e", "b", 1).await);
    tale.tell("proclaim", proclaim(&mut client, "c", Some(leader.clone())).await);
    tale.tell("the leader", client.leader("e").await);
    let bound_to = |lease| Some(leader.clone().with_lease(lease));
    tale.tell("proclaim with 2", proclaim(&mut client, "d", bound_to(2)).await);
    tale.tell(
        "proclaim with an unknown lease",
        proclaim(&mut client, "d", bound_to(9)).await,
    );
    let stale = Some(leader.clone().with_rev(1));
    tale.tell(
        "proclaim of a stale revision",
        proclaim(&mut client, "x", stale.clone()).await,
    );
    tale.tell("proclaim without a leader", proclaim(&mut client, "x", None).await);
    let empty = || Some(LeaderKey::new());
    tale.tell("proclaim of an empty leader", proclaim(&mut client, "x", empty()).await);
    tale.tell("resign of a stale revision", resign(&mut client, stale).await);
    tale.tell("resign without a leader", resign(&mut client, None).await);
    tale.tell("resign of an empty leader", resign(&mut client, empty()).await);
    tale.tell("campaign with an unknown lease", client.campaign("e", "a", 9).await);
    tale.tell("all keys", all(&mut client).await);
    tale.tell("resign", resign(&mut client, Some(leader.clone())).await);
    tale.tell("resign again", resign(&mut client, Some(leader)).await);
    tale.tell("no leader", client.leader("e").await);
    tale.tell("campaign without name and value", client.campaign("", "", 2).await);
    tale.tell("campaign without a lease", client.campaign("f", "x", 0).await);
}

/// Candidates that wait: one is cancelled, one is outlived by its lease, one announces a new value, one wins.
pub(crate) async fn waiting_candidates(tale: &mut Tale) {
    let mut client = tale.client();
    leases(&mut client, &[1, 2, 3, 4]).await;
    tale.tell("campaign with 1", client.campaign("e", "a", 1).await);
    let cancelled = candidate(&mut client, 2, "b").await;
    let expired = candidate(&mut client, 3, "c").await;
    let last = candidate(&mut client, 4, "d").await;
    tale.tell("the candidates", all(&mut client).await);
    cancelled.abort();
    until(&mut client, "e/2", false).await;
    tale.tell("2 is cancelled", all(&mut client).await);
    tale.tell("revoke 3", client.lease_revoke(3).await);
    let leader = LeaderKey::new().with_key("e/1").with_rev(2).with_lease(1);
    tale.tell("1 resigns", resign(&mut client, Some(leader)).await);
    tale.tell("3 waited", answer(expired).await);
    tale.tell("4 waited", answer(last).await);
    tale.tell("the leader", client.leader("e").await);
}

/// An observer from before the first leader on, and one that comes later.
pub(crate) async fn observers(tale: &mut Tale) {
    let mut client = tale.client();
    leases(&mut client, &[1, 2]).await;
    let early = tokio::spawn({
        let mut client = client.clone();
        async move { client.observe("e").await }
    });
    // Its watch has begun by then; otherwise it finds the leader by reading.
    tokio::time::sleep(Duration::from_millis(300)).await;
    tale.tell("put beside the election", client.put("f/1", "x", None).await);
    let won = tale.tell("campaign with 1", client.campaign("e", "a", 1).await);
    let leader = won.and_then(|won| won.leader().cloned()).expect("a leader");
    let mut early = answer(early).await.expect("a stream");
    next(tale, "the first leader", &mut early).await;
    tale.tell("proclaim", proclaim(&mut client, "b", Some(leader.clone())).await);
    next(tale, "its new value", &mut early).await;
    let mut late = client.observe("e").await.expect("a stream");
    next(tale, "seen by one that comes later", &mut late).await;
    let waiting = candidate(&mut client, 2, "c").await;
    tale.tell("resign", resign(&mut client, Some(leader)).await);
    next(tale, "the next leader", &mut early).await;
    next(tale, "seen by both", &mut late).await;
    tale.tell("2 waited", answer(waiting).await);
    tale.tell("revoke 2", client.lease_revoke(2).await);
    leases(&mut client, &[3]).await;
    tale.tell("campaign with 3", client.campaign("e", "d", 3).await);
    next(tale, "a leader after a time without one", &mut early).await;
}

async fn proclaim(
    client: &mut Client,
    value: &str,
    leader: Option<LeaderKey>,
) -> Result<etcd_client::ProclaimResponse, Error> {
    let options = leader.map(|leader| ProclaimOptions::new().with_leader(leader));
    client.proclaim(value, options).await
}

async fn resign(client: &mut Client, leader: Option<LeaderKey>) -> Result<etcd_client::ResignResponse, Error> {
    let options = leader.map(|leader| ResignOptions::new().with_leader(leader));
    client.resign(options).await
}

/// A candidate that waits, and has its key.
async fn candidate(
    client: &mut Client,
    lease: i64,
    value: &'static str,
) -> JoinHandle<Result<CampaignResponse, Error>> {
    let mut asking = client.clone();
    let candidate = tokio::spawn(async move { asking.campaign("e", value, lease).await });
    until(client, &format!("e/{lease}"), true).await;
    candidate
}

async fn next(tale: &mut Tale, expected: &str, stream: &mut ObserveStream) {
    match tokio::time::timeout(MESSAGE_LIMIT, stream.message()).await {
        Ok(Ok(Some(leader))) => {
            tale.tell(expected, Ok(leader));
        }
        Ok(Ok(None)) => tale.line(format_args!("{expected}\n  the stream has ended")),
        Ok(Err(error)) => tale.line(format_args!("{expected}\n  {}", shown_error(&error))),
        Err(_) => tale.line(format_args!("{expected}\n  nothing came")),
    }
}
