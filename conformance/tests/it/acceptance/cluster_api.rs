//! Cluster API: the member of a machine that goes away gives up the lead and is removed.

use etcd_client::{AlarmAction, AlarmType, Client};
use quoin_conformance::{Kind, Launch, Server, members, wait};

use super::{PATIENCE, STEP, client, on_each, runtime, status};

#[test]
fn cluster_api_removes_the_member_of_a_machine() {
    on_each(the_leader_is_removed);
}

async fn own_and_leader(server: &Server) -> (u64, u64) {
    let status = client(server).await.status().await.expect("a status");
    (status.header().expect("a header").member_id(), status.leader())
}

fn the_leader_is_removed(kind: Kind) {
    let launch = Launch::of(kind).expect("a program");
    let servers = members::start_together(vec![launch; 3]).expect("three healthy members");
    let runtime = runtime();
    let find = || {
        let ids: Vec<(u64, u64)> = servers
            .iter()
            .map(|server| runtime.block_on(own_and_leader(server)))
            .collect();
        let leader = ids.iter().position(|(own, leader)| own == leader)?;
        let (old, _) = ids[leader];
        ids.iter()
            .all(|(_, said)| *said == old)
            .then_some((leader, old, ids[(leader + 1) % 3].0))
    };
    let (leader, old, new) = wait::until(PATIENCE, STEP, find).expect("the members agree on a leader");
    runtime.block_on(async {
        let mut at_old = client(&servers[leader]).await;
        let alarms = at_old.alarm(AlarmAction::Get, AlarmType::None, None).await;
        assert!(alarms.expect("an answer").alarms().is_empty());
        assert_eq!(names(&mut at_old).await, ["one", "three", "two"]);

        let mut at_new = client(&servers[(leader + 1) % 3]).await;
        let refused = at_new.move_leader(new).await.expect_err("a refusal");
        assert_eq!(status(refused), (9, "etcdserver: not leader".to_owned()));
        at_old.move_leader(new).await.expect("the lead moves");
        assert_eq!(at_old.status().await.expect("a status").leader(), new);

        remove(&mut at_new, old).await;
        assert_eq!(names(&mut at_new).await.len(), 2);
        let again = at_new.member_remove(old).await.expect_err("a refusal");
        assert_eq!(status(again), (5, "etcdserver: member not found".to_owned()));
        at_new.put("key", "value", None).await.expect("two of two agree");
    });
}

/// Removes a member once the members have been connected long enough.
async fn remove(client: &mut Client, id: u64) {
    let deadline = wait::Deadline::after(PATIENCE);
    while let Err(refused) = client.member_remove(id).await {
        let (_, text) = status(refused);
        assert_eq!(text, "etcdserver: unhealthy cluster");
        assert!(!deadline.passed(), "the cluster does not settle");
        tokio::time::sleep(STEP).await;
    }
}

async fn names(client: &mut Client) -> Vec<String> {
    let list = client.member_list().await.expect("a list");
    let mut names: Vec<String> = list.members().iter().map(|member| member.name().to_owned()).collect();
    names.sort();
    names
}
