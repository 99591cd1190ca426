//! Responses as lines of text: every field that is the same in every run, without zero values.

use std::fmt::Write as _;

use etcd_client::{
    CampaignResponse, CompactionResponse, DeleteResponse, DowngradeResponse, EventType, GetResponse, KeyValue,
    LeaderResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse, LockResponse, ProclaimResponse, PutResponse, ResignResponse, ResponseHeader,
    TxnOpResponse, TxnResponse, UnlockResponse, WatchResponse,
};

/// Values longer than this are shown by their length.
const LONGEST: usize = 40;
/// More keys than this are shown by their first and last.
const MOST_KEYS: usize = 12;

/// The identity of the answering server; all headers must have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    cluster: u64,
    member: u64,
    term: u64,
}

impl Identity {
    /// The identity in a header.
    pub(crate) fn of(header: &ResponseHeader) -> Self {
        Self {
            cluster: header.cluster_id(),
            member: header.member_id(),
            term: header.raft_term(),
        }
    }

    /// A header as text: its revision, and any deviation in its other fields.
    fn header(&self, header: Option<&ResponseHeader>) -> String {
        let Some(header) = header else {
            return "no header".to_owned();
        };
        let whose = match Self::of(header) {
            same if same == *self => "",
            Self {
                cluster: 0,
                member: 0,
                term: 0,
            } => " (revision only)",
            _ => " (of another cluster, member or term)",
        };
        format!("rev={}{whose}", header.revision())
    }
}

/// A response that can be recorded.
pub(crate) trait Shown {
    /// Adds this response's lines.
    fn show(&self, identity: &Identity, lines: &mut Vec<String>);
}

impl Shown for PutResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
        lines.extend(self.prev_key().map(|kv| format!("before: {}", key_value(kv))));
    }
}

impl Shown for GetResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        let more = if self.more() { " more" } else { "" };
        lines.push(format!(
            "{} count={}{more}",
            identity.header(self.header()),
            self.count()
        ));
        show_keys("", self.kvs(), lines);
    }
}

impl Shown for DeleteResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(format!("{} deleted={}", identity.header(self.header()), self.deleted()));
        show_keys("before: ", self.prev_kvs(), lines);
    }
}

impl Shown for CompactionResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
    }
}

impl Shown for TxnResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        let branch = if self.succeeded() { "succeeded" } else { "failed" };
        lines.push(format!("{} {branch}", identity.header(self.header())));
        for response in self.op_responses() {
            let mut inner = Vec::new();
            let kind = match &response {
                TxnOpResponse::Put(response) => {
                    response.show(identity, &mut inner);
                    "put"
                }
                TxnOpResponse::Get(response) => {
                    response.show(identity, &mut inner);
                    "get"
                }
                TxnOpResponse::Delete(response) => {
                    response.show(identity, &mut inner);
                    "delete"
                }
                TxnOpResponse::Txn(response) => {
                    response.show(identity, &mut inner);
                    "txn"
                }
            };
            let mut inner = inner.into_iter();
            lines.push(format!("  {kind} {}", inner.next().unwrap_or_default()));
            lines.extend(inner.map(|line| format!("    {line}")));
        }
    }
}

impl Shown for WatchResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        let mut line = format!("watch {} {}", self.watch_id(), identity.header(self.header()));
        if self.created() {
            line.push_str(" created");
        }
        if self.canceled() {
            line.push_str(" canceled");
        }
        if self.compact_revision() != 0 {
            let _ = write!(line, " compact_revision={}", self.compact_revision());
        }
        if !self.cancel_reason().is_empty() {
            let _ = write!(line, " reason={:?}", self.cancel_reason());
        }
        // The crate has no accessor for this field.
        if format!("{self:?}").contains("fragment: true") {
            line.push_str(" fragment");
        }
        lines.push(line);
        for event in self.events() {
            let kind = match event.event_type() {
                EventType::Put => "PUT",
                EventType::Delete => "DELETE",
            };
            lines.push(format!(
                "{kind} {}",
                event.kv().map_or_else(|| "nothing".to_owned(), key_value)
            ));
            lines.extend(event.prev_kv().map(|kv| format!("  before: {}", key_value(kv))));
        }
    }
}

impl Shown for LeaseGrantResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        let error = if self.error().is_empty() {
            String::new()
        } else {
            format!(" error={:?}", self.error())
        };
        lines.push(format!(
            "{} id={} ttl={}{error}",
            identity.header(self.header()),
            lease(self.id()),
            self.ttl()
        ));
    }
}

impl Shown for LeaseRevokeResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
    }
}

impl Shown for LeaseKeepAliveResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(format!(
            "{} id={} ttl={}",
            identity.header(self.header()),
            lease(self.id()),
            self.ttl()
        ));
    }
}

impl Shown for LeaseTimeToLiveResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        let header = identity.header(self.header());
        // The remaining time depends on the machine's speed: only its plausibility is shown.
        let left = match self.ttl() {
            ttl if ttl >= 0 && ttl <= self.granted_ttl() => "within".to_owned(),
            ttl => ttl.to_string(),
        };
        lines.push(format!(
            "{header} id={} ttl={left} granted={}",
            lease(self.id()),
            self.granted_ttl()
        ));
        let mut keys: Vec<String> = self.keys().iter().map(|key| text(key)).collect();
        keys.sort();
        lines.extend(keys.into_iter().map(|key| format!("key {key}")));
    }
}

impl Shown for LeaseLeasesResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        let ids: Vec<String> = self.leases().iter().map(|status| lease(status.id())).collect();
        lines.push(format!("{} leases: {}", identity.header(self.header()), ids.join(" ")));
    }
}

impl Shown for LockResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        let key = own_key(self.key());
        lines.push(format!("{} key={key}", identity.header(self.header())));
    }
}

impl Shown for UnlockResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
    }
}

impl Shown for CampaignResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
        lines.extend(self.leader().map(|leader| {
            let (name, key) = (text(leader.name()), own_key(leader.key()));
            format!(
                "name={name} key={key} rev={} lease={}",
                leader.rev(),
                lease(leader.lease())
            )
        }));
    }
}

impl Shown for ProclaimResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
    }
}

impl Shown for LeaderResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
        lines.extend(self.kv().map(key_value));
    }
}

impl Shown for ResignResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(identity.header(self.header()));
    }
}

impl Shown for DowngradeResponse {
    fn show(&self, identity: &Identity, lines: &mut Vec<String>) {
        lines.push(format!("{} version={}", identity.header(self.header()), self.version()));
    }
}

/// The key of a lock or an election, which ends with the lease.
fn own_key(key: &[u8]) -> String {
    let shown = text(key);
    let chosen = shown
        .rsplit_once('/')
        .filter(|(_, lease)| lease.trim_start_matches('-').len() > 8);
    chosen.map_or_else(|| shown.clone(), |(name, _)| format!("{name}/chosen"))
}

/// Ids that the server chose differ from run to run; the stories' own are small.
fn lease(id: i64) -> String {
    if id > 1_000_000 {
        "chosen".to_owned()
    } else {
        id.to_string()
    }
}

fn show_keys(prefix: &str, kvs: &[KeyValue], lines: &mut Vec<String>) {
    if kvs.len() <= MOST_KEYS {
        lines.extend(kvs.iter().map(|kv| format!("{prefix}{}", key_value(kv))));
    } else if let [first, .., last] = kvs {
        lines.push(format!("{prefix}{}", key_value(first)));
        lines.push(format!("{prefix}... {} more ...", kvs.len() - 2));
        lines.push(format!("{prefix}{}", key_value(last)));
    }
}

fn key_value(kv: &KeyValue) -> String {
    let mut line = format!("{}={}", text(kv.key()), text(kv.value()));
    for (name, number) in [
        ("create", kv.create_revision()),
        ("mod", kv.mod_revision()),
        ("version", kv.version()),
        ("lease", kv.lease()),
    ] {
        if number != 0 {
            let _ = write!(line, " {name}={number}");
        }
    }
    line
}

fn text(bytes: &[u8]) -> String {
    if bytes.len() > LONGEST {
        format!("<{} bytes>", bytes.len())
    } else {
        bytes.escape_ascii().to_string()
    }
}
