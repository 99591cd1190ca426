//! Draws single requests: keys, ranges, options, and revisions at the edges of what the clients have seen. Transactions
//! are drawn in `txn`; the clients decide when a request is sent and to which member.

use bytes::Bytes;
use quoin_core::limits::MAX_LEASE_TTL_SECONDS;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, MoveLeaderRequest, PutRequest, RangeRequest,
};
use quoin_core::random::Prng;

use super::mind::Mind;
use super::plan::{Feature, Kind, Plan};
use crate::choose::{one_of, weighted};
use crate::cluster::ports::Endpoints;
use quoin_model::call::Call;

/// Leases whose ids clients choose.
const LEASES: std::ops::Range<u64> = 1..9;
/// The furthest that reads and watches go into the future.
const AHEAD_MAX: u64 = 5;

/// The sources of a random request.
pub struct Draw<'a> {
    /// The client's random numbers.
    pub prng: &'a mut Prng,
    /// The seed's plan.
    pub plan: &'a Plan,
    /// What the clients have seen.
    pub mind: &'a mut Mind,
    /// The members.
    pub world: &'a Endpoints,
}

impl Draw<'_> {
    /// Any request the plan allows.
    pub fn call(&mut self) -> Call {
        match weighted(self.prng, &self.plan.kinds).unwrap_or(Kind::Put) {
            Kind::Alarm => Call::Alarm(self.alarm()),
            Kind::Compact => Call::Compact(self.compact()),
            Kind::DeleteRange => Call::DeleteRange(self.delete_range()),
            Kind::HashKv => Call::HashKv(HashKvRequest {
                revision: if self.chance(2) { 0 } else { self.other_revision() },
            }),
            Kind::LeaseGrant => Call::LeaseGrant(self.grant()),
            Kind::LeaseKeepAlive => Call::LeaseKeepAlive {
                id: self.lease_or_none(),
            },
            Kind::LeaseLeases => Call::LeaseLeases,
            Kind::LeaseRevoke => Call::LeaseRevoke(LeaseRevokeRequest {
                id: self.lease_or_none(),
            }),
            Kind::LeaseTimeToLive => Call::LeaseTimeToLive(LeaseTimeToLiveRequest {
                id: self.lease_or_none(),
                keys: self.chance(2),
            }),
            Kind::MemberList => Call::MemberList(MemberListRequest {
                linearizable: self.chance(2),
            }),
            Kind::MoveLeader => Call::MoveLeader(MoveLeaderRequest {
                target_id: self.member(),
            }),
            Kind::Put => Call::Put(self.put()),
            Kind::Range => Call::Range(self.range()),
            Kind::Status => Call::Status,
            Kind::Txn => Call::Txn(self.txn()),
        }
    }

    /// A write of a key.
    pub fn put(&mut self) -> PutRequest {
        let mut put = PutRequest {
            key: self.key(),
            prev_kv: self.has(Feature::PrevKv) && self.chance(2),
            ..PutRequest::default()
        };
        let ignores = self.has(Feature::Ignore);
        put.ignore_value = ignores && self.chance(8);
        put.ignore_lease = ignores && self.chance(8);
        if !put.ignore_value || self.wrong(20) {
            put.value = self.value();
        }
        if self.has(Feature::Leases) && (!put.ignore_lease || self.wrong(20)) && self.chance(3) {
            put.lease = self.lease_or_none();
        }
        if self.wrong(100) {
            put.key = Bytes::new();
        }
        put
    }

    /// A read.
    pub fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.span(2);
        let mut range = RangeRequest {
            key,
            range_end,
            serializable: self.chance(3),
            keys_only: self.chance(8),
            count_only: self.chance(10),
            ..RangeRequest::default()
        };
        if self.has(Feature::OtherRevisions) && self.chance(3) {
            range.revision = self.other_revision();
        }
        if self.chance(4) {
            range.limit = signed(self.prng.range(1..6));
        }
        if self.has(Feature::Sorts) && self.chance(3) {
            let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
            let targets = [
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ];
            range.sort_order = one_of(self.prng, &orders) as i32;
            range.sort_target = one_of(self.prng, &targets) as i32;
        }
        if self.has(Feature::Filters) && self.chance(4) {
            range.min_mod_revision = self.bound();
            range.max_mod_revision = self.bound();
            range.min_create_revision = self.bound();
            range.max_create_revision = self.bound();
        }
        if self.wrong(60) {
            match self.prng.below(4) {
                0 => range.key = Bytes::new(),
                1 => range.sort_order = 9,
                2 => range.sort_target = -1,
                _ => range.limit = -1,
            }
        }
        range
    }

    /// A deletion: mostly of one key, so that not everything is deleted all the time.
    pub fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.span(5);
        DeleteRangeRequest {
            key: if self.wrong(60) { Bytes::new() } else { key },
            range_end,
            prev_kv: self.has(Feature::PrevKv) && self.chance(2),
        }
    }

    /// A value that was never written before, or the empty one.
    pub fn value(&mut self) -> Bytes {
        if self.has(Feature::EmptyValues) && self.chance(20) {
            return Bytes::new();
        }
        // Long ones are rare, as in practice.
        let longest = if self.chance(4) { self.plan.value_bytes } else { 20 };
        let length = self.prng.below(longest + 1);
        self.mind.value(length)
    }

    /// A key.
    pub fn key(&mut self) -> Bytes {
        self.plan.keys.one(self.prng)
    }

    /// A key, or in one of `odds` cases a range.
    pub fn span(&mut self, odds: u64) -> (Bytes, Bytes) {
        if self.has(Feature::Ranges) && self.chance(odds) {
            self.plan.keys.range(self.prng)
        } else {
            (self.key(), Bytes::new())
        }
    }

    /// A lease: mostly one that was granted.
    pub fn lease_or_none(&mut self) -> i64 {
        if self.wrong(12) {
            return self.mind.no_lease(self.prng);
        }
        match self.mind.lease(self.prng) {
            Some(id) => id,
            None => self.chosen_lease(),
        }
    }

    /// A revision other than the current one, mostly at the edges: the compact revision and its neighbours, the newest,
    /// the future.
    pub fn other_revision(&mut self) -> i64 {
        let (compacted, newest) = (self.mind.compacted, self.mind.revision);
        match self.prng.below(9) {
            0 => compacted,
            1 => compacted - 1,
            2 => compacted + 1,
            3 => newest,
            4 => newest + 1,
            5 => newest + signed(self.prng.range(2..AHEAD_MAX)),
            6 => (newest - signed(self.prng.below(8))).max(1),
            _ => {
                let between = u64::try_from(newest - compacted).unwrap_or(0);
                compacted + signed(self.prng.below(between + 1))
            }
        }
    }

    /// True with a probability of one in `odds`.
    pub fn chance(&mut self, odds: u64) -> bool {
        self.prng.below(odds) == 0
    }

    /// True with a probability of one in `odds`, if the plan has requests that must be refused.
    pub fn wrong(&mut self, odds: u64) -> bool {
        self.has(Feature::Wrong) && self.chance(odds)
    }

    /// Whether the plan has this option.
    pub const fn has(&self, feature: Feature) -> bool {
        self.plan.has(feature)
    }

    fn alarm(&mut self) -> AlarmRequest {
        let action = one_of(
            self.prng,
            &[AlarmAction::Get, AlarmAction::Get, AlarmAction::Deactivate],
        );
        let alarm = match action {
            AlarmAction::Get => one_of(self.prng, &[AlarmType::None, AlarmType::None, AlarmType::Nospace]),
            AlarmAction::Activate | AlarmAction::Deactivate => {
                one_of(self.prng, &[AlarmType::Nospace, AlarmType::Nospace, AlarmType::None])
            }
        };
        AlarmRequest {
            action: action as i32,
            member_id: if action == AlarmAction::Get { 0 } else { self.member() },
            alarm: alarm as i32,
        }
    }

    fn compact(&mut self) -> CompactionRequest {
        let (compacted, newest) = (self.mind.compacted, self.mind.revision);
        let revision = match self.prng.below(10) {
            0 => newest,
            1 if self.has(Feature::Wrong) => compacted,
            2 if self.has(Feature::Wrong) => newest + signed(self.prng.range(1..4)),
            _ => (newest - signed(self.prng.below(20))).max(1),
        };
        CompactionRequest {
            revision,
            physical: self.chance(2),
        }
    }

    fn grant(&mut self) -> LeaseGrantRequest {
        let ttl = if self.wrong(10) {
            one_of(self.prng, &[0, -1, MAX_LEASE_TTL_SECONDS, MAX_LEASE_TTL_SECONDS + 1])
        } else {
            one_of(self.prng, self.plan.ttls)
        };
        let id = match self.prng.below(8) {
            0..3 => 0,
            3 => -signed(self.prng.range(1..4)),
            _ => self.chosen_lease(),
        };
        LeaseGrantRequest { id, ttl }
    }

    fn chosen_lease(&mut self) -> i64 {
        signed(self.prng.range(LEASES))
    }

    /// A revision to filter by; often none.
    fn bound(&mut self) -> i64 {
        if self.chance(2) {
            return 0;
        }
        let newest = u64::try_from(self.mind.revision).unwrap_or(0);
        signed(self.prng.range(newest.saturating_sub(20)..newest + 2))
    }

    /// A member, rarely one that does not exist.
    fn member(&mut self) -> u64 {
        if self.wrong(8) {
            return 77;
        }
        let at = self.prng.below(self.world.members.len() as u64);
        let member = self.world.members.get(usize::try_from(at).unwrap_or(0));
        member.map_or(0, |endpoint| endpoint.id.0)
    }
}

/// A small number as the API has it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
