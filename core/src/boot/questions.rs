//! The questions that a starting member asks other members, and the decoding of their answers.

use serde::Deserialize;

use crate::id::ClusterId;
use crate::membership::Member;

use super::found::RemoteAnswer;

/// A question: an HTTP `GET` on a peer's port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Question {
    /// The members of the peer's cluster.
    Members,
    /// The version that the peer runs, and the cluster version.
    Version,
    /// Whether the peer's cluster is being downgraded.
    Downgrade,
}

impl Question {
    /// All of them, in the order in which a peer is asked.
    pub const ALL: [Self; 3] = [Self::Members, Self::Version, Self::Downgrade];

    /// The path of the request.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Members => "/members",
            Self::Version => "/version",
            Self::Downgrade => "/downgrade/enabled",
        }
    }
}

/// The answer to `GET /version`.
#[derive(Deserialize)]
struct Versions {
    etcdserver: String,
    #[serde(default)]
    etcdcluster: String,
}

impl RemoteAnswer {
    /// Adds a peer's answer with status 200: the cluster id in its headers, and its body. An answer that cannot be read
    /// counts as none.
    pub fn hear(&mut self, question: Question, cluster: Option<&str>, body: &[u8]) {
        match question {
            Question::Members => {
                let cluster = cluster.and_then(ClusterId::parse);
                self.cluster = cluster.zip(Member::list_from_json(body).ok());
            }
            Question::Version => {
                if let Ok(versions) = serde_json::from_slice::<Versions>(body) {
                    self.server_version = Some(versions.etcdserver);
                    self.cluster_version = Some(versions.etcdcluster).filter(|version| !version.is_empty());
                }
            }
            Question::Downgrade => {
                let text = String::from_utf8_lossy(body);
                self.downgrade_enabled = text.trim().parse().ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MemberId;

    #[test]
    fn answers_of_an_etcd_are_read() {
        let mut answer = RemoteAnswer::default();
        let members = br#"[{"id":5,"peerURLs":["http://a:2380"],"name":"a","clientURLs":["http://a:2379"]}]"#;
        answer.hear(Question::Members, Some("c1"), members);
        answer.hear(
            Question::Version,
            None,
            br#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#,
        );
        answer.hear(Question::Downgrade, None, b"false");
        let (cluster, members) = answer.cluster.unwrap();
        assert_eq!(
            (cluster, members.len(), members[0].id),
            (ClusterId(0xc1), 1, MemberId(5))
        );
        assert_eq!(answer.server_version.as_deref(), Some("3.5.30"));
        assert_eq!(answer.cluster_version.as_deref(), Some("3.5.0"));
        assert_eq!(answer.downgrade_enabled, Some(false));
    }

    #[test]
    fn answers_that_cannot_be_read_count_as_none() {
        let mut answer = RemoteAnswer::default();
        answer.hear(Question::Members, None, b"[]");
        answer.hear(Question::Members, Some("c1"), b"{}");
        answer.hear(Question::Version, None, b"3.5.30");
        answer.hear(Question::Downgrade, None, b"perhaps");
        assert_eq!(answer, RemoteAnswer::default());
    }
}
