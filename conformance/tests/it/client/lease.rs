//! Leases: ids, TTLs, keys, and the keep-alive stream.

use std::time::Duration;

use etcd_client::{GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions};

use super::tale::Tale;

/// Which keys a lease holds, through puts, deletes and its end.
pub(crate) async fn leases_and_their_keys(tale: &mut Tale) {
    let mut client = tale.client();
    let with = |lease| Some(PutOptions::new().with_lease(lease));
    let keys = || Some(LeaseTimeToLiveOptions::new().with_keys());
    tale.tell(
        "grant 1",
        client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(1))).await,
    );
    tale.tell(
        "grant 2",
        client.lease_grant(200, Some(LeaseGrantOptions::new().with_id(2))).await,
    );
    tale.tell("grant one of the server's choice", client.lease_grant(300, None).await);
    tale.tell("all, the first to end first", client.leases().await);
    for key in ["c", "a", "b"] {
        tale.tell(&format!("put {key} with 1"), client.put(key, "x", with(1)).await);
    }
    tale.tell("keys of 1", client.lease_time_to_live(1, keys()).await);
    tale.tell("not asked for keys", client.lease_time_to_live(1, None).await);
    tale.tell("put a with 2", client.put("a", "y", with(2)).await);
    tale.tell("delete b", client.delete("b", None).await);
    tale.tell("keys of 1", client.lease_time_to_live(1, keys()).await);
    tale.tell("keys of 2", client.lease_time_to_live(2, keys()).await);
    tale.tell("put d with 1", client.put("d", "x", with(1)).await);

    let mut watch = client
        .watch("", Some(WatchOptions::new().with_all_keys()))
        .await
        .expect("a watch stream");
    tale.next("watch everything", &mut watch).await;
    tale.tell("revoke 1", client.lease_revoke(1).await);
    tale.next("its keys go in order, in one revision", &mut watch).await;
    tale.tell(
        "a belongs to 2",
        client.get("", Some(GetOptions::new().with_all_keys())).await,
    );
    tale.tell("a second time", client.lease_revoke(1).await);
    tale.tell("time of the revoked 1", client.lease_time_to_live(1, keys()).await);
    tale.tell("delete a", client.delete("a", None).await);
    tale.tell("revoke 2, which has no keys left", client.lease_revoke(2).await);
    tale.tell(
        "grant 1 again",
        client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(1))).await,
    );
    tale.tell("it has no keys", client.lease_time_to_live(1, keys()).await);
}

/// Renewal, and expiry without it.
pub(crate) async fn lease_lives_and_ends(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell(
        "grant 5, too short a life",
        client.lease_grant(1, Some(LeaseGrantOptions::new().with_id(5))).await,
    );
    tale.tell(
        "grant 6",
        client.lease_grant(3, Some(LeaseGrantOptions::new().with_id(6))).await,
    );
    for (key, lease) in [("five", 5), ("six", 6)] {
        tale.tell(
            &format!("put {key}"),
            client.put(key, "x", Some(PutOptions::new().with_lease(lease))).await,
        );
    }
    let mut watch = client
        .watch("", Some(WatchOptions::new().with_all_keys()))
        .await
        .expect("a watch stream");
    tale.next("watch everything", &mut watch).await;

    let (mut keeper, mut answers) = client.lease_keep_alive(6).await.expect("a keep-alive stream");
    // Without renewal 6 would expire after 3 seconds; 5 expires after 2, so it is the first to end only if the renewal
    // works.
    for beat in 0..8 {
        keeper.keep_alive().await.expect("the stream is open");
        let answer = answers.message().await.expect("an answer").expect("the stream is open");
        if beat == 0 {
            tale.tell("keep 6 alive", Ok(answer));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tale.next("5 has ended", &mut watch).await;
    tale.tell("5 is unknown", client.lease_time_to_live(5, None).await);
    tale.tell(
        "6 lives",
        client
            .lease_time_to_live(6, Some(LeaseTimeToLiveOptions::new().with_keys()))
            .await,
    );
    tale.next("6 has ended, left alone", &mut watch).await;
    keeper.keep_alive().await.expect("the stream is open");
    let answer = answers.message().await.expect("an answer").expect("the stream is open");
    tale.tell("keep the expired 6 alive", Ok(answer));
    tale.tell("no leases", client.leases().await);
    tale.tell("no keys", client.get("", Some(GetOptions::new().with_all_keys())).await);
}
