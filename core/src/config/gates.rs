//! Feature gates: the named switches of `--feature-gates` and the older boolean flags they replaced.

use std::collections::BTreeMap;

use super::gotext::{parse_bool, quote};

/// A feature that etcd lets an operator switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The leader compares members' hashes after each compaction.
    CompactHashCheck,
    /// Lease keep-alives are answered without waiting for the apply loop.
    FastLeaseKeepAlive,
    /// Data is compared with the peers' before a restarted member serves.
    InitialCorruptCheck,
    /// The leader sends the leases' remaining time to the other members.
    LeaseCheckpoint,
    /// Lease checkpoints are stored.
    LeaseCheckpointPersist,
    /// Requests that keep the cluster alive have priority over others.
    PriorityRequest,
    /// Peers are dialled from the advertised address.
    SetMemberLocalAddr,
    /// gRPC health says "not serving" while the store is defragmented.
    StopGRPCServiceOnDefrag,
    /// Write transactions evaluate their compares on a shared buffer.
    TxnModeWriteWithSharedBuffer,
}

/// etcd's stage of a feature; `AllAlpha` and `AllBeta` switch by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default.
    Alpha,
    /// On by default.
    Beta,
}

impl Gate {
    /// Every gate, in the order of its name.
    pub const ALL: [Self; 9] = [
        Self::CompactHashCheck,
        Self::FastLeaseKeepAlive,
        Self::InitialCorruptCheck,
        Self::LeaseCheckpoint,
        Self::LeaseCheckpointPersist,
        Self::PriorityRequest,
        Self::SetMemberLocalAddr,
        Self::StopGRPCServiceOnDefrag,
        Self::TxnModeWriteWithSharedBuffer,
    ];

    /// The name in `--feature-gates`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CompactHashCheck => "CompactHashCheck",
            Self::FastLeaseKeepAlive => "FastLeaseKeepAlive",
            Self::InitialCorruptCheck => "InitialCorruptCheck",
            Self::LeaseCheckpoint => "LeaseCheckpoint",
            Self::LeaseCheckpointPersist => "LeaseCheckpointPersist",
            Self::PriorityRequest => "PriorityRequest",
            Self::SetMemberLocalAddr => "SetMemberLocalAddr",
            Self::StopGRPCServiceOnDefrag => "StopGRPCServiceOnDefrag",
            Self::TxnModeWriteWithSharedBuffer => "TxnModeWriteWithSharedBuffer",
        }
    }

    /// The feature's stage; beta features are on by default.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::FastLeaseKeepAlive | Self::TxnModeWriteWithSharedBuffer => Stage::Beta,
            Self::CompactHashCheck
            | Self::InitialCorruptCheck
            | Self::LeaseCheckpoint
            | Self::LeaseCheckpointPersist
            | Self::PriorityRequest
            | Self::SetMemberLocalAddr
            | Self::StopGRPCServiceOnDefrag => Stage::Alpha,
        }
    }

    /// Why switching the gate has no effect in this version, if it has none.
    #[must_use]
    pub fn idle(self) -> Option<&'static str> {
        match self {
            Self::CompactHashCheck
            | Self::InitialCorruptCheck
            | Self::LeaseCheckpoint
            | Self::LeaseCheckpointPersist => None,
            Self::FastLeaseKeepAlive => Some("has no effect: keep-alives never wait for the apply loop"),
            Self::PriorityRequest => Some("has no effect yet: no request goes before others"),
            Self::SetMemberLocalAddr => Some("has no effect yet: the system chooses the local address"),
            Self::StopGRPCServiceOnDefrag => Some("has no effect: a defragmentation stops nothing"),
            Self::TxnModeWriteWithSharedBuffer => Some("has no effect: there are no separate read and write buffers"),
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gate| gate.name() == name)
    }
}

/// The state of every gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    explicit: BTreeMap<Gate, bool>,
    all_alpha: Option<bool>,
    all_beta: Option<bool>,
}

impl FeatureGates {
    /// Reads `Name=true,Other=false`; gates that are not named keep their default.
    ///
    /// # Errors
    /// etcd's message for the mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut gates = Self::default();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(format!("missing bool value for {}", pair.trim()));
            };
            let (name, value) = (name.trim(), value.trim());
            let Some(on) = parse_bool(value) else {
                let why = format!("strconv.ParseBool: parsing {}: invalid syntax", quote(value));
                return Err(format!("invalid value of {name}={value}, err: {why}"));
            };
            match (name, Gate::by_name(name)) {
                ("AllAlpha", _) => gates.all_alpha = Some(on),
                ("AllBeta", _) => gates.all_beta = Some(on),
                (_, Some(gate)) => gates.set(gate, on),
                (_, None) => return Err(format!("unrecognized feature gate: {name}")),
            }
        }
        Ok(gates)
    }

    /// The gates that were named, as written on the command line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let named = Gate::ALL.into_iter().filter(|gate| self.names(*gate));
        named
            .map(|gate| format!("{}={}", gate.name(), self.enabled(gate)))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Switches one gate.
    pub fn set(&mut self, gate: Gate, on: bool) {
        self.explicit.insert(gate, on);
    }

    /// True if the gate was named itself, not through a group.
    #[must_use]
    pub fn names(&self, gate: Gate) -> bool {
        self.explicit.contains_key(&gate)
    }

    /// Whether the feature is on. Naming the gate overrides its group, which overrides the default.
    #[must_use]
    pub fn enabled(&self, gate: Gate) -> bool {
        let (group, default) = match gate.stage() {
            Stage::Alpha => (self.all_alpha, false),
            Stage::Beta => (self.all_beta, true),
        };
        self.explicit.get(&gate).copied().or(group).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_stage() {
        let on = Gate::ALL
            .into_iter()
            .filter(|gate| FeatureGates::default().enabled(*gate))
            .collect::<Vec<_>>();
        assert_eq!(on, [Gate::FastLeaseKeepAlive, Gate::TxnModeWriteWithSharedBuffer]);
    }

    #[test]
    fn a_named_gate_overrides_its_group() {
        let gates = FeatureGates::parse("LeaseCheckpoint=false,AllAlpha=true, AllBeta = f ,").unwrap();
        assert!(!gates.enabled(Gate::LeaseCheckpoint));
        assert!(gates.enabled(Gate::CompactHashCheck));
        assert!(!gates.enabled(Gate::FastLeaseKeepAlive));
    }

    #[test]
    fn bad_gates_are_refused_with_etcds_message() {
        for (text, error) in [
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
            (
                "LeaseCheckpoint=yes",
                "invalid value of LeaseCheckpoint=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
        ] {
            assert_eq!(FeatureGates::parse(text), Err(error.to_owned()));
        }
    }
}
