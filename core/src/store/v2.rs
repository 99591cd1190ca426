//! The state of etcd's v2 store, as JSON: the data of a snapshot's message.
//!
//! When etcd up to 3.7 receives a snapshot, it restores this state, ends if that fails, and compares the members in it
//! with those in the database. So the state has all members, the removed ids and the cluster version, and nothing else.

use serde_json::{Map, Value, json};

use crate::bug;
use crate::membership::Member;

use super::Cluster;

/// The capacity of the v2 store's event history. etcd writes into a list of exactly this length.
const EVENT_HISTORY: usize = 1_000;

/// Counts of operations, which etcd keeps for a page that no longer exists.
const COUNTS: [&str; 15] = [
    "getsSuccess",
    "getsFail",
    "setsSuccess",
    "setsFail",
    "deleteSuccess",
    "deleteFail",
    "updateSuccess",
    "updateFail",
    "createSuccess",
    "createFail",
    "compareAndSwapSuccess",
    "compareAndSwapFail",
    "compareAndDeleteSuccess",
    "compareAndDeleteFail",
    "expireCount",
];

impl Cluster {
    /// The v2 store of this state.
    pub(crate) fn v2_state(&self) -> Vec<u8> {
        let mut cluster = Map::new();
        let members = self
            .members()
            .filter(|member| member.is_started() || !bug!(ForgetsNewMember))
            .map(|member| (member.id.to_string(), member_node(member)));
        cluster.insert("members".into(), directory("/0/members", members.collect()));
        let removed = self.removed().map(|id| {
            let path = format!("/0/removed_members/{id}");
            (id.to_string(), file(&path, ""))
        });
        let removed: Map<String, Value> = removed.collect();
        if !removed.is_empty() {
            cluster.insert("removed_members".into(), directory("/0/removed_members", removed));
        }
        if let Some(version) = self.version() {
            cluster.insert("version".into(), file("/0/version", &version.to_string()));
        }
        let mut root = Map::new();
        root.insert("0".into(), directory("/0", cluster));
        root.insert("1".into(), directory("/1", Map::new()));
        let counts: Map<String, Value> = COUNTS.iter().map(|name| ((*name).to_owned(), json!(0))).collect();
        let queue = json!({
            "Events": vec![Value::Null; EVENT_HISTORY],
            "Size": 0,
            "Front": 0,
            "Back": 0,
            "Capacity": EVENT_HISTORY,
        });
        let state = json!({
            "Root": directory("/", root),
            "WatcherHub": { "EventHistory": { "Queue": queue, "StartIndex": 0, "LastIndex": 0 } },
            "CurrentIndex": 0,
            "Stats": counts,
            "CurrentVersion": 2,
        });
        state.to_string().into_bytes()
    }
}

/// A member's directory. Its attributes are JSON text inside the JSON; a member that has not published them has none.
fn member_node(member: &Member) -> Value {
    let path = format!("/0/members/{}", member.id);
    let mut raft = Map::new();
    raft.insert("peerURLs".into(), json!(member.peer_urls));
    if member.is_learner {
        raft.insert("isLearner".into(), json!(true));
    }
    let mut files = Map::new();
    let raft = Value::Object(raft).to_string();
    files.insert("raftAttributes".into(), file(&format!("{path}/raftAttributes"), &raft));
    if member.is_started() || !member.client_urls.is_empty() {
        let own = json!({ "name": member.name, "clientURLs": member.client_urls }).to_string();
        files.insert("attributes".into(), file(&format!("{path}/attributes"), &own));
    }
    directory(&path, files)
}

/// A directory. It has `Children` even if it is empty; a file has none.
fn directory(path: &str, children: Map<String, Value>) -> Value {
    node(path, "", Value::Object(children))
}

fn file(path: &str, value: &str) -> Value {
    node(path, value, Value::Null)
}

fn node(path: &str, value: &str, children: Value) -> Value {
    json!({
        "Path": path,
        "CreatedIndex": 0,
        "ModifiedIndex": 0,
        "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value,
        "Children": children,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MemberId;
    use crate::version::Version;

    #[test]
    fn the_v2_state_has_the_members_the_removed_ids_and_the_version() {
        let member = |number: u64| Member {
            id: MemberId(number),
            peer_urls: vec![format!("http://{number}:2380")],
            ..Member::default()
        };
        let started = Member {
            name: "a\"b".into(),
            client_urls: vec!["http://1:2379".into()],
            ..member(0x1a)
        };
        let learner = Member {
            is_learner: true,
            ..member(0x2b)
        };
        let cluster = Cluster {
            members: [started, learner].map(|member| (member.id, member)).into(),
            removed: [MemberId(0x3c)].into(),
            version: Some(Version::V3_5),
            ..Cluster::default()
        };
        let state: Value = serde_json::from_slice(&cluster.v2_state()).unwrap();
        let value = |path: &str| {
            state
                .pointer(&format!("/Root/Children/0/Children/{path}"))
                .unwrap()
                .clone()
        };
        let text = |path: &str| serde_json::from_str::<Value>(value(path)["Value"].as_str().unwrap()).unwrap();
        assert_eq!(
            text("members/Children/1a/Children/attributes"),
            json!({"name": "a\"b", "clientURLs": ["http://1:2379"]})
        );
        assert_eq!(
            text("members/Children/2b/Children/raftAttributes"),
            json!({"peerURLs": ["http://43:2380"], "isLearner": true})
        );
        assert_eq!(value("members/Children/2b/Children").as_object().unwrap().len(), 1);
        assert_eq!(
            value("members/Children/1a/Children/attributes")["Children"],
            Value::Null
        );
        assert_eq!(value("version")["Value"], "3.5.0");
        assert_eq!(value("removed_members/Children/3c")["Path"], "/0/removed_members/3c");
        let one = state.pointer("/Root/Children/1/Children").unwrap();
        assert!(one.as_object().unwrap().is_empty(), "an empty directory is no file");
        let events = state.pointer("/WatcherHub/EventHistory/Queue/Events").unwrap();
        assert_eq!(events.as_array().unwrap().len(), EVENT_HISTORY);
    }
}
