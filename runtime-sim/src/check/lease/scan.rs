//! A cheap test of an entry's bytes: can it be about leases? Most entries are not, and every member hands over every
//! one.

/// The fields of `InternalRaftRequest` that are about leases: grants, revocations, checkpoints.
const LEASE_FIELDS: std::ops::RangeInclusive<u64> = 8..=11;

/// Field 10 is that of alarms.
const ALARM_FIELD: u64 = 10;

/// Whether these bytes of an entry may be a request about leases. False for bytes that are no message.
pub(super) fn is_about_leases(mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let Some(key) = varint(&mut data) else { return false };
        let field = key >> 3;
        if LEASE_FIELDS.contains(&field) && field != ALARM_FIELD {
            return true;
        }
        let skip = match key & 7 {
            0 => varint(&mut data).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut data),
            5 => Some(4),
            _ => None,
        };
        let rest = skip.and_then(|bytes| data.get(usize::try_from(bytes).ok()?..));
        let Some(rest) = rest else { return false };
        data = rest;
    }
    false
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << (7 * place).min(63);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use quoin_core::proto::etcdserverpb::{
        AlarmRequest, InternalRaftRequest, LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
        RequestHeader,
    };

    use super::is_about_leases;

    #[test]
    fn requests_about_leases_are_recognised() {
        let header = Some(RequestHeader {
            id: u64::MAX,
            ..RequestHeader::default()
        });
        let request = InternalRaftRequest {
            header,
            ..InternalRaftRequest::default()
        };
        let with = |change: fn(&mut InternalRaftRequest)| {
            let mut request = request.clone();
            change(&mut request);
            is_about_leases(&request.encode_to_vec())
        };
        assert!(with(|request| request.lease_grant = Some(LeaseGrantRequest::default())));
        assert!(with(|request| request.lease_revoke = Some(LeaseRevokeRequest { id: 7 })));
        assert!(with(
            |request| request.lease_checkpoint = Some(LeaseCheckpointRequest::default())
        ));
        assert!(!with(|request| request.alarm = Some(AlarmRequest::default())));
        assert!(!with(|request| {
            request.put = Some(PutRequest {
                key: vec![0x42; 300].into(),
                lease: 7,
                ..PutRequest::default()
            });
        }));
        assert!(!is_about_leases(&[]));
        assert!(!is_about_leases(&[0x22, 0x7f, 1]), "cut short");
        assert!(!is_about_leases(&[0xff; 12]), "no number ends");
    }
}
