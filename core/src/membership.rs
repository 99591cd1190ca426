//! A member of the cluster in etcd's format: the JSON in bucket `members`, in the contexts of conf changes and in the
//! answer to `GET /members`.
//!
//! This file has the format only; `member` decides who may be added, removed or promoted.

use serde::{Deserialize, Serialize};

use crate::id::MemberId;

/// A member with all its attributes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// Its id; never 0 for a real member.
    pub id: MemberId,
    /// Its name; empty until it has published itself.
    pub name: String,
    /// The URLs at which other members reach it.
    pub peer_urls: Vec<String>,
    /// The URLs at which clients reach it; empty until it has published itself.
    pub client_urls: Vec<String>,
    /// It gets the log and has no vote.
    pub is_learner: bool,
}

/// The context of a conf change. It distinguishes adding a voter from promoting a learner: both are
/// `ConfChangeAddNode`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfChangeContext {
    /// The member; a promotion gives its id only.
    pub member: Member,
    /// The member is a learner that becomes a voter.
    pub is_promote: bool,
}

/// The text is not a member, or not a list of members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadJson {
    why: String,
}

impl std::fmt::Display for BadJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not the JSON of a member: {}", self.why)
    }
}

impl std::error::Error for BadJson {}

impl Member {
    /// Whether the member has ever started: its first start publishes its name.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The member in etcd's bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        go_json(&MemberJson::from(self))
    }

    /// Reads a member.
    ///
    /// # Errors
    /// The place at which the text is not the JSON of a member.
    pub fn from_json(text: &[u8]) -> Result<Self, BadJson> {
        serde_json::from_slice::<MemberJson>(text)
            .map(|json| Self::from(&json))
            .map_err(BadJson::from)
    }

    /// A list of members as `GET /members` answers it.
    #[must_use]
    pub fn list_to_json(members: &[Self]) -> Vec<u8> {
        let list: Vec<MemberJson> = members.iter().map(MemberJson::from).collect();
        go_json(&list)
    }

    /// Reads the answer to `GET /members`.
    ///
    /// # Errors
    /// The place at which the text is not the JSON of a list of members.
    pub fn list_from_json(text: &[u8]) -> Result<Vec<Self>, BadJson> {
        let list: Vec<MemberJson> = serde_json::from_slice(text).map_err(BadJson::from)?;
        Ok(list.iter().map(Self::from).collect())
    }
}

impl ConfChangeContext {
    /// The context that promotes the learner `id` to a voter.
    #[must_use]
    pub fn promotion(id: MemberId) -> Self {
        Self {
            member: Member {
                id,
                ..Member::default()
            },
            is_promote: true,
        }
    }

    /// The context in etcd's bytes: additions and updates write the member alone, promotions write `isPromote` too.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = MemberJson::from(&self.member);
        json.is_promote = self.is_promote.then_some(true);
        go_json(&json)
    }

    /// Reads the context of a conf change.
    ///
    /// # Errors
    /// The place at which the text is not the JSON of a context.
    pub fn from_json(text: &[u8]) -> Result<Self, BadJson> {
        let json: MemberJson = serde_json::from_slice(text).map_err(BadJson::from)?;
        Ok(Self {
            member: Member::from(&json),
            is_promote: json.is_promote.unwrap_or(false),
        })
    }
}

/// The fields in etcd's order. As in etcd, an empty `peerURLs` is written as `null`, and other empty fields are left
/// out.
#[derive(Deserialize, Serialize)]
struct MemberJson {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "Option::is_none")]
    is_learner: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Option::is_none")]
    client_urls: Option<Vec<String>>,
    #[serde(rename = "isPromote", default, skip_serializing_if = "Option::is_none")]
    is_promote: Option<bool>,
}

impl From<&Member> for MemberJson {
    fn from(member: &Member) -> Self {
        let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
        Self {
            id: member.id.0,
            peer_urls: some(&member.peer_urls),
            is_learner: member.is_learner.then_some(true),
            name: Some(member.name.clone()).filter(|name| !name.is_empty()),
            client_urls: some(&member.client_urls),
            is_promote: None,
        }
    }
}

impl From<&MemberJson> for Member {
    fn from(json: &MemberJson) -> Self {
        Self {
            id: MemberId(json.id),
            name: json.name.clone().unwrap_or_default(),
            peer_urls: json.peer_urls.clone().unwrap_or_default(),
            client_urls: json.client_urls.clone().unwrap_or_default(),
            is_learner: json.is_learner.unwrap_or(false),
        }
    }
}

impl From<serde_json::Error> for BadJson {
    fn from(error: serde_json::Error) -> Self {
        Self { why: error.to_string() }
    }
}

/// JSON as Go writes it: characters that could end a script element are escaped. They occur only inside strings.
fn go_json(value: &impl Serialize) -> Vec<u8> {
    let text = serde_json::to_string(value).expect("numbers, texts and lists always have a JSON form");
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: Vec<u8>) -> String {
        String::from_utf8(json).unwrap()
    }

    fn infra() -> Member {
        Member {
            id: MemberId(7_383_792_418_829_112_008),
            name: "infra0".into(),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: vec!["http://127.0.0.1:2379".into()],
            is_learner: false,
        }
    }

    #[test]
    fn members_have_etcds_bytes_and_read_back() {
        let learner = Member {
            is_learner: true,
            ..infra()
        };
        let added = Member {
            name: String::new(),
            client_urls: Vec::new(),
            ..infra()
        };
        let odd = Member {
            name: "a<&>b".into(),
            ..added.clone()
        };
        for (member, json) in [
            (
                infra(),
                r#"{"id":7383792418829112008,"peerURLs":["http://127.0.0.1:2380"],"name":"infra0","clientURLs":["http://127.0.0.1:2379"]}"#,
            ),
            (
                learner,
                r#"{"id":7383792418829112008,"peerURLs":["http://127.0.0.1:2380"],"isLearner":true,"name":"infra0","clientURLs":["http://127.0.0.1:2379"]}"#,
            ),
            (
                added,
                r#"{"id":7383792418829112008,"peerURLs":["http://127.0.0.1:2380"]}"#,
            ),
            (
                odd,
                r#"{"id":7383792418829112008,"peerURLs":["http://127.0.0.1:2380"],"name":"a\u003c\u0026\u003eb"}"#,
            ),
            (
                Member {
                    id: MemberId(1),
                    ..Member::default()
                },
                r#"{"id":1,"peerURLs":null}"#,
            ),
        ] {
            assert_eq!(text(member.to_json()), json);
            assert_eq!(Member::from_json(json.as_bytes()), Ok(member));
        }
    }

    #[test]
    fn promotions_and_additions_have_different_contexts() {
        let promotion = ConfChangeContext::promotion(MemberId(5));
        assert_eq!(
            text(promotion.to_json()),
            r#"{"id":5,"peerURLs":null,"isPromote":true}"#
        );
        assert_eq!(ConfChangeContext::from_json(&promotion.to_json()), Ok(promotion));
        let addition = ConfChangeContext {
            member: infra(),
            is_promote: false,
        };
        assert_eq!(addition.to_json(), infra().to_json());
        // Some versions of etcd always write the field.
        let written = br#"{"id":5,"peerURLs":["http://a:1"],"isPromote":false}"#;
        assert!(!ConfChangeContext::from_json(written).unwrap().is_promote);
    }

    #[test]
    fn lists_of_members_are_read_and_other_texts_are_refused() {
        let list = vec![
            infra(),
            Member {
                id: MemberId(2),
                ..infra()
            },
        ];
        assert_eq!(Member::list_from_json(&Member::list_to_json(&list)), Ok(list));
        assert_eq!(text(Member::list_to_json(&[])), "[]");
        for bad in [
            "",
            "{}",
            "[",
            r#"{"id":-1}"#,
            r#"{"id":"1"}"#,
            r#"{"id":1,"peerURLs":"x"}"#,
        ] {
            assert!(Member::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Member::list_from_json(b"{}").is_err());
    }
}
