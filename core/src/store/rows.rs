//! Rows of the table except those of keys, in etcd's format: leases, alarms, the cluster, and the consistent index.

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::id::MemberId;
use crate::membership::Member;
use crate::proto::etcdserverpb::AlarmMember;
use crate::proto::leasepb;
use crate::proto::raftpb::ConfState;
use crate::table::{Bucket, TableOp};
use crate::version::Version;

use super::cluster::Downgrade;
use super::lease::Lease;

/// Row of bucket `meta`: the index of the last applied entry.
pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
/// The term of the entry at the consistent index.
pub(super) const TERM: &[u8] = b"term";
/// The configuration of consensus.
pub(super) const CONF_STATE: &[u8] = b"confState";
/// The storage version of these rows; absent before 3.6.
const STORAGE_VERSION: &[u8] = b"storageVersion";

/// Row of bucket `cluster`: the cluster version.
pub(super) const CLUSTER_VERSION: &[u8] = b"clusterVersion";
/// The downgrade.
pub(super) const DOWNGRADE: &[u8] = b"downgrade";

/// The consistent index.
pub(super) fn progress(index: u64, term: u64, ops: &mut Vec<TableOp>) {
    ops.push(put(Bucket::Meta, CONSISTENT_INDEX, index.to_be_bytes().to_vec()));
    if term > 0 {
        ops.push(put(Bucket::Meta, TERM, term.to_be_bytes().to_vec()));
    }
}

/// The configuration of consensus.
pub(super) fn conf_state(state: &ConfState) -> TableOp {
    put(Bucket::Meta, CONF_STATE, json(&ConfStateJson::from(state)))
}

/// A lease.
pub(super) fn lease(id: i64, lease: &Lease) -> TableOp {
    let stored = leasepb::Lease {
        id,
        ttl: lease.ttl(),
        remaining_ttl: lease.remaining_ttl(),
    };
    TableOp::put(Bucket::Lease, id.to_be_bytes().to_vec(), stored.encode_to_vec())
}

/// The deletion of a lease's row.
pub(super) fn lease_gone(id: i64) -> TableOp {
    TableOp::delete(Bucket::Lease, id.to_be_bytes().to_vec())
}

/// An alarm, raised or cleared. The row's key encodes the whole alarm.
pub(super) fn alarm(alarm: &AlarmMember, on: bool) -> TableOp {
    let value = on.then(Bytes::new);
    TableOp {
        bucket: Bucket::Alarm,
        key: alarm.encode_to_vec().into(),
        value,
    }
}

/// A member.
pub(super) fn member(member: &Member) -> TableOp {
    TableOp::put(Bucket::Members, member.id.to_string(), member.to_json())
}

/// A removed member: its id is kept for good.
pub(super) fn member_removed(id: MemberId, ops: &mut Vec<TableOp>) {
    ops.push(TableOp::delete(Bucket::Members, id.to_string()));
    ops.push(TableOp::put(Bucket::MembersRemoved, id.to_string(), "removed"));
}

/// The cluster version, and the storage version, which etcd has since 3.6.
pub(super) fn cluster_version(version: Version, ops: &mut Vec<TableOp>) {
    ops.push(put(Bucket::Cluster, CLUSTER_VERSION, version.to_string().into_bytes()));
    ops.push(if version >= Version::V3_6 {
        put(Bucket::Meta, STORAGE_VERSION, version.to_string().into_bytes())
    } else {
        TableOp::delete(Bucket::Meta, STORAGE_VERSION)
    });
}

/// The downgrade.
pub(super) fn downgrade(downgrade: &Downgrade) -> TableOp {
    let form = DowngradeJson {
        target: downgrade.target.clone(),
        enabled: downgrade.enabled,
    };
    put(Bucket::Cluster, DOWNGRADE, json(&form))
}

/// Reads a number of bucket `meta`.
pub(super) fn read_number(name: &'static [u8], value: &[u8]) -> Result<u64, Fault> {
    let bytes = value
        .try_into()
        .map_err(|_| corrupt(Bucket::Meta, name, "not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Reads the configuration of consensus.
pub(super) fn read_conf_state(value: &[u8]) -> Result<ConfState, Fault> {
    let form: ConfStateJson = from_json(Bucket::Meta, CONF_STATE, value)?;
    if !form.voters_outgoing.is_empty() || !form.learners_next.is_empty() {
        return Err(corrupt(
            Bucket::Meta,
            CONF_STATE,
            "a joint configuration, which etcd never has",
        ));
    }
    let sorted = |mut list: Vec<u64>| {
        list.sort_unstable();
        list.dedup();
        list
    };
    Ok(ConfState {
        voters: sorted(form.voters),
        learners: sorted(form.learners),
        ..ConfState::default()
    })
}

/// Reads a lease.
pub(super) fn read_lease(key: &[u8], value: Bytes) -> Result<(i64, leasepb::Lease), Fault> {
    let corrupt = |why: &str| corrupt(Bucket::Lease, key, why);
    let id = i64::from_be_bytes(key.try_into().map_err(|_| corrupt("the key is not 8 bytes"))?);
    let lease = leasepb::Lease::decode(value).map_err(|error| corrupt(&error.to_string()))?;
    if lease.id != id || id == 0 {
        return Err(corrupt("key and value have different ids"));
    }
    Ok((id, lease))
}

/// Reads an alarm.
pub(super) fn read_alarm(key: Bytes) -> Result<AlarmMember, Fault> {
    AlarmMember::decode(key.clone()).map_err(|error| corrupt(Bucket::Alarm, &key, &error.to_string()))
}

/// Reads a member.
pub(super) fn read_member(key: &[u8], value: &[u8]) -> Result<Member, Fault> {
    let id = read_member_id(Bucket::Members, key)?;
    let member = Member::from_json(value).map_err(|error| corrupt(Bucket::Members, key, &error.to_string()))?;
    if member.id != id {
        return Err(corrupt(Bucket::Members, key, "key and value have different ids"));
    }
    Ok(member)
}

/// Reads a member's id from a row's key.
pub(super) fn read_member_id(bucket: Bucket, key: &[u8]) -> Result<MemberId, Fault> {
    let id = std::str::from_utf8(key).ok().and_then(MemberId::parse);
    id.ok_or_else(|| corrupt(bucket, key, "the key is no member id"))
}

/// Reads the cluster version.
pub(super) fn read_cluster_version(value: &[u8]) -> Result<Version, Fault> {
    let version = std::str::from_utf8(value).ok().and_then(Version::parse);
    version.ok_or_else(|| corrupt(Bucket::Cluster, CLUSTER_VERSION, "not a version"))
}

/// Reads the downgrade.
pub(super) fn read_downgrade(value: &[u8]) -> Result<Downgrade, Fault> {
    let form: DowngradeJson = from_json(Bucket::Cluster, DOWNGRADE, value)?;
    Ok(Downgrade {
        enabled: form.enabled,
        target: form.target,
    })
}

/// The fault of a malformed row.
pub(super) fn corrupt(bucket: Bucket, key: &[u8], why: &str) -> Fault {
    Fault::Inconsistent {
        cause: format!("bucket {}, row \"{}\": {why}", bucket.name(), key.escape_ascii()),
    }
}

fn put(bucket: Bucket, name: &'static [u8], value: Vec<u8>) -> TableOp {
    TableOp {
        bucket,
        key: Bytes::from_static(name),
        value: Some(value.into()),
    }
}

fn json(form: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(form).expect("numbers, texts and lists always have a JSON form")
}

fn from_json<'a, T: Deserialize<'a>>(bucket: Bucket, name: &[u8], value: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(value).map_err(|error| corrupt(bucket, name, &error.to_string()))
}

/// etcd's fields in etcd's order.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct ConfStateJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners_next: Vec<u64>,
    auto_leave: bool,
}

impl From<&ConfState> for ConfStateJson {
    fn from(state: &ConfState) -> Self {
        let ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        } = state.clone();
        Self {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        }
    }
}

#[derive(Deserialize, Serialize)]
struct DowngradeJson {
    #[serde(rename = "target-version", default)]
    target: String,
    #[serde(default)]
    enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(op: &TableOp) -> &str {
        std::str::from_utf8(op.value.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn json_rows_have_etcds_bytes_and_read_back() {
        let state = ConfState {
            voters: vec![1, u64::MAX],
            learners: vec![2],
            ..ConfState::default()
        };
        let row = conf_state(&state);
        assert_eq!(
            value(&row),
            r#"{"voters":[1,18446744073709551615],"learners":[2],"auto_leave":false}"#
        );
        assert_eq!(read_conf_state(row.value.as_ref().unwrap()), Ok(state));
        assert_eq!(value(&conf_state(&ConfState::default())), r#"{"auto_leave":false}"#);

        let job = Downgrade {
            enabled: true,
            target: "3.5".into(),
        };
        let row = downgrade(&job);
        assert_eq!(value(&row), r#"{"target-version":"3.5","enabled":true}"#);
        assert_eq!(read_downgrade(row.value.as_ref().unwrap()), Ok(job));
    }

    #[test]
    fn lease_and_alarm_rows_have_etcds_bytes_and_read_back() {
        let row = lease(-2, &Lease::new(60, 0));
        assert_eq!(&row.key[..], [255, 255, 255, 255, 255, 255, 255, 254]);
        let stored = row.value.unwrap();
        assert_eq!(&stored[..], [8, 254, 255, 255, 255, 255, 255, 255, 255, 255, 1, 16, 60]);
        assert_eq!(
            read_lease(&row.key, stored),
            Ok((
                -2,
                leasepb::Lease {
                    id: -2,
                    ttl: 60,
                    remaining_ttl: 0
                }
            ))
        );

        let on = AlarmMember { member_id: 5, alarm: 1 };
        let row = alarm(&on, true);
        assert_eq!(
            (&row.key[..], row.value.clone()),
            (&[8, 5, 16, 1][..], Some(Bytes::new()))
        );
        assert_eq!(read_alarm(row.key), Ok(on));
    }

    #[test]
    fn a_broken_row_is_named() {
        let texts = [
            read_number(CONSISTENT_INDEX, b"1").unwrap_err(),
            read_conf_state(b"{").unwrap_err(),
            read_conf_state(br#"{"voters":[1],"voters_outgoing":[2]}"#).unwrap_err(),
            read_lease(b"\0\x01", Bytes::new()).unwrap_err(),
            read_lease(&[1; 8], Bytes::from_static(b"\x08\x02")).unwrap_err(),
            read_alarm(Bytes::from_static(b"\x08")).unwrap_err(),
            read_member(b"2", br#"{"id":3}"#).unwrap_err(),
            read_member(b"zz", b"{}").unwrap_err(),
            read_cluster_version(b"three").unwrap_err(),
            read_downgrade(b"1").unwrap_err(),
        ];
        let places = [
            r#"bucket meta, row "consistent_index": "#,
            r#"bucket meta, row "confState": "#,
            r#"bucket meta, row "confState": "#,
            r#"bucket lease, row "\x00\x01": "#,
            r#"bucket lease, row "\x01\x01\x01\x01\x01\x01\x01\x01": "#,
            r#"bucket alarm, row "\x08": "#,
            r#"bucket members, row "2": "#,
            r#"bucket members, row "zz": "#,
            r#"bucket cluster, row "clusterVersion": "#,
            r#"bucket cluster, row "downgrade": "#,
        ];
        for (fault, place) in texts.iter().zip(places) {
            assert!(fault.to_string().starts_with(place), "{fault}");
        }
    }
}
