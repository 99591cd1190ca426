//! A start without a log: founding a cluster or joining one.

use bytes::Bytes;
use prost::Message as _;

use crate::boot::address::{Sameness, compare};
use crate::boot::found::{Found, RemoteAnswer};
use crate::boot::plan::{Plan, Why};
use crate::boot::refusal::Refusal;
use crate::boot::restart::wal_path;
use crate::config::{Config, InitialCluster, Url, join_urls};
use crate::id::{ClusterId, MemberId};
use crate::member::Recovered;
use crate::membership::{ConfChangeContext, Member};
use crate::proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, HardState};
use crate::version::{MIN_CLUSTER_VERSION, MIN_PEER_VERSION, Version};

/// The term in which a new cluster begins.
const FIRST_TERM: u64 = 1;

/// `--initial-cluster-state new`.
pub(super) fn found_cluster(found: &Found, config: &Config) -> Result<Plan, Refusal> {
    check_nothing_lost(found, config)?;
    let cluster = initial_cluster(config)?;
    let own_urls = local_urls(&cluster, config)?;
    match compare(&config.advertise_peer_urls, own_urls, &found.addresses) {
        Sameness::Same => {}
        Sameness::Different(why) => return Err(Refusal::Advertise(mismatch(config, own_urls, &why))),
        Sameness::Unknown(urls) => return Ok(Plan::NeedAddresses { urls }),
    }
    check_duplicates(&cluster)?;
    let members = founders(&cluster, &config.initial_cluster_token)?;
    let local = members
        .iter()
        .find(|member| member.name == config.name)
        .map(|member| member.id);
    let local = local.ok_or_else(|| Refusal::LocalNameMissing(config.name.clone()))?;
    let others = peer_urls_of_others(&cluster, config);
    if others.iter().any(|url| !found.answers.contains_key(url)) {
        return Ok(Plan::NeedRemoteAnswers {
            urls: others,
            why: Why::DuplicateBootstrap,
        });
    }
    check_servers(others.iter().filter_map(|url| found.answers.get(url)))?;
    let known = others
        .iter()
        .filter_map(|url| found.answers.get(url)?.cluster.as_ref())
        .flat_map(|(_, members)| members);
    if known
        .into_iter()
        .any(|member| member.id == local && !member.client_urls.is_empty())
    {
        return Err(Refusal::AlreadyBootstrapped(local));
    }
    let ids = members.iter().map(|member| member.id).collect::<Vec<_>>();
    let Recovered {
        entries, hard_state, ..
    } = founding(&members);
    Ok(Plan::StartNew {
        member: local,
        cluster: ClusterId::compute(&ids),
        members,
        entries,
        hard_state,
    })
}

/// `--initial-cluster-state existing`.
pub(super) fn join_cluster(found: &Found, config: &Config) -> Result<Plan, Refusal> {
    check_nothing_lost(found, config)?;
    let cluster = initial_cluster(config)?;
    local_urls(&cluster, config)?;
    check_duplicates(&cluster)?;
    let others = peer_urls_of_others(&cluster, config);
    if others.iter().any(|url| !found.answers.contains_key(url)) {
        return Ok(Plan::NeedRemoteAnswers {
            urls: others,
            why: Why::Join,
        });
    }
    let mut clusters = others.iter().filter_map(|url| found.answers.get(url)?.cluster.as_ref());
    let none = Refusal::CannotFetchCluster("could not retrieve cluster information from the given URLs");
    let (cluster_id, remote) = clusters.next().ok_or(none)?;
    if remote.is_empty() {
        return Err(Refusal::CannotFetchCluster(
            "failed to get raft cluster member(s) from the given URLs",
        ));
    }
    let mut members = remote.clone();
    members.sort_by_key(|member| member.id);
    let local = match match_members(&cluster, &members, *cluster_id, found, config)? {
        Matched::Local(local) => local,
        Matched::Unknown(urls) => return Ok(Plan::NeedAddresses { urls }),
    };
    check_versions(&members, local, found)?;
    check_learners(&members, config)?;
    let own = members.iter().find(|member| member.id == local);
    // A learner is refused too: the leader sends only entries after those that this member acknowledged, and those are
    // gone.
    if own.is_some_and(Member::is_started) {
        return Err(Refusal::Wiped(local));
    }
    Ok(Plan::JoinExisting {
        member: local,
        cluster: *cluster_id,
        members,
    })
}

/// Refuses a start with more learners than the configuration allows.
pub(super) fn check_learners(members: &[Member], config: &Config) -> Result<(), Refusal> {
    let learners = members.iter().filter(|member| member.is_learner).count();
    let too_many = u64::try_from(learners).is_ok_and(|learners| learners > config.max_learners);
    if too_many {
        Err(Refusal::TooManyLearners)
    } else {
        Ok(())
    }
}

/// Refuses applied state without the log it came from: the votes and entries that this member acknowledged are gone. (A
/// crash during the first start may leave an empty store.)
fn check_nothing_lost(found: &Found, config: &Config) -> Result<(), Refusal> {
    let missing = |what| Refusal::LogMissing {
        what,
        path: wal_path(config),
    };
    if found.damage.is_some() {
        return Err(missing("a damaged store"));
    }
    if found
        .store
        .as_ref()
        .is_some_and(|store| store.consistent_index > 0 || !store.members.is_empty())
    {
        return Err(missing("a store with data"));
    }
    if found.marker_files.is_empty() {
        Ok(())
    } else {
        Err(missing("snapshot files"))
    }
}

fn initial_cluster(config: &Config) -> Result<InitialCluster, Refusal> {
    InitialCluster::parse(&config.initial_cluster).map_err(Refusal::InitialCluster)
}

fn local_urls<'a>(cluster: &'a InitialCluster, config: &Config) -> Result<&'a [Url], Refusal> {
    cluster
        .urls_of(&config.name)
        .ok_or_else(|| Refusal::LocalNameMissing(config.name.clone()))
}

fn check_duplicates(cluster: &InitialCluster) -> Result<(), Refusal> {
    if cluster.has_duplicate_url() {
        Err(Refusal::DuplicateUrl(cluster.to_string()))
    } else {
        Ok(())
    }
}

/// etcd's message when the advertised peer URLs are not those of the initial cluster.
fn mismatch(config: &Config, own_urls: &[Url], why: &str) -> String {
    let advertised = &config.advertise_peer_urls;
    let missing = |from: &[Url], to: &[Url]| {
        let mut urls = from
            .iter()
            .filter(|url| !to.contains(url))
            .map(Url::to_string)
            .collect::<Vec<_>>();
        urls.sort();
        urls.dedup();
        urls
    };
    // etcd prints the advertised URLs for `--initial-cluster`, too.
    let as_cluster = InitialCluster::single(&config.name, advertised).to_string();
    let not_advertised = missing(own_urls, advertised);
    let not_in_cluster = missing(advertised, own_urls);
    if !not_advertised.is_empty() {
        let pairs = not_advertised
            .iter()
            .map(|url| format!("{}={url}", config.name))
            .collect::<Vec<_>>()
            .join(",");
        let advertised = join_urls(advertised);
        format!("--initial-cluster has {pairs} but missing from --initial-advertise-peer-urls={advertised} ({why})")
    } else if !not_in_cluster.is_empty() {
        let urls = not_in_cluster.join(",");
        format!("--initial-advertise-peer-urls has {urls} but missing from --initial-cluster={as_cluster}")
    } else {
        format!(
            "failed to resolve {} to match --initial-cluster={as_cluster} ({why})",
            join_urls(advertised)
        )
    }
}

/// The founders, by id.
fn founders(cluster: &InitialCluster, token: &str) -> Result<Vec<Member>, Refusal> {
    let mut members = Vec::with_capacity(cluster.len());
    for (name, urls) in cluster.iter() {
        let peer_urls = urls.iter().map(Url::to_string).collect::<Vec<_>>();
        let id = MemberId::compute(&peer_urls, token, None);
        if id == MemberId::NONE {
            return Err(Refusal::NoMemberId);
        }
        members.push(Member {
            id,
            name: name.to_owned(),
            peer_urls,
            ..Member::default()
        });
    }
    members.sort_by_key(|member| member.id);
    match members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => Err(Refusal::MemberIdTwice(pair[0].id)),
        None => Ok(members),
    }
}

/// The log of a new cluster of these members: an entry that adds each, in the order given, all committed in term 1.
/// Every founder writes the same entries, so their logs agree before they exchange a message.
#[must_use]
pub fn founding(members: &[Member]) -> Recovered {
    let changes = members.iter().map(|member| ConfChange {
        id: 0,
        change_type: ConfChangeType::AddNode.into(),
        node_id: member.id.0,
        context: ConfChangeContext {
            member: member.clone(),
            is_promote: false,
        }
        .to_json()
        .into(),
    });
    let entries = (1..).zip(changes);
    let entries = entries.map(|(index, change)| conf_change_entry(FIRST_TERM, index, &change));
    Recovered {
        hard_state: HardState {
            term: FIRST_TERM,
            vote: 0,
            commit: members.len() as u64,
        },
        entries: entries.collect(),
        ..Recovered::default()
    }
}

/// An entry with one change of the membership.
pub(super) fn conf_change_entry(term: u64, index: u64, change: &ConfChange) -> Entry {
    Entry {
        entry_type: EntryType::EntryConfChange.into(),
        term,
        index,
        data: Bytes::from(change.encode_to_vec()),
        ..Entry::default()
    }
}

/// The peer URLs of the others, in the order in which etcd asks them.
fn peer_urls_of_others(cluster: &InitialCluster, config: &Config) -> Vec<String> {
    let others = cluster.iter().filter(|(name, _)| *name != config.name);
    let mut urls = others
        .flat_map(|(_, urls)| urls)
        .map(Url::to_string)
        .collect::<Vec<_>>();
    urls.sort();
    urls
}

enum Matched {
    /// The id that the cluster gave this member.
    Local(MemberId),
    /// These URLs must be resolved first.
    Unknown(Vec<Url>),
}

/// Each member of the cluster must match one of the initial cluster by its peer URLs; one of them is this member.
fn match_members(
    cluster: &InitialCluster,
    members: &[Member],
    id: ClusterId,
    found: &Found,
    config: &Config,
) -> Result<Matched, Refusal> {
    let refuse = |why: String| Refusal::PeerUrls {
        cluster: describe(id, members),
        why,
    };
    if cluster.len() != members.len() {
        return Err(refuse("member count is unequal".to_owned()));
    }
    let mut local = None;
    let mut unknown = Vec::new();
    let mut left = cluster.iter().collect::<Vec<_>>();
    for member in members {
        let urls = member
            .peer_urls
            .iter()
            .map(|url| Url::parse(url))
            .collect::<Result<Vec<_>, _>>();
        let urls = urls.map_err(|why| refuse(format!("failed to parse string to URL: {why}")))?;
        let mut last_difference = "nothing to compare with".to_owned();
        let mut must_wait = false;
        let mut place = None;
        for (i, (_, configured)) in left.iter().enumerate() {
            match compare(&urls, configured, &found.addresses) {
                Sameness::Same => place = Some(i),
                Sameness::Different(why) => last_difference = why,
                Sameness::Unknown(urls) => {
                    must_wait = true;
                    unknown.extend(urls);
                }
            }
            if place.is_some() {
                break;
            }
        }
        match place {
            Some(i) if left.remove(i).0 == config.name => local = Some(member.id),
            Some(_) => {}
            None if must_wait => {}
            None => {
                return Err(refuse(format!(
                    "PeerURLs: no match found for existing member ({}, [{}]), last resolver error ({last_difference})",
                    member.id,
                    member.peer_urls.join(" ")
                )));
            }
        }
    }
    match local {
        Some(local) if unknown.is_empty() => Ok(Matched::Local(local)),
        None if unknown.is_empty() => Err(Refusal::LocalNameMissing(config.name.clone())),
        Some(_) | None => {
            unknown.sort();
            unknown.dedup();
            Ok(Matched::Unknown(unknown))
        }
    }
}

/// The cluster as etcd prints it in this message.
fn describe(id: ClusterId, members: &[Member]) -> String {
    let members = members.iter().map(|member| {
        format!(
            "&{{ID:{} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            member.id,
            member.peer_urls.join(" "),
            member.is_learner,
            member.name,
            member.client_urls.join(" ")
        )
    });
    format!(
        "{{ClusterID:{id} Members:[{}] RemovedMemberIDs:[]}}",
        members.collect::<Vec<_>>().join(" ")
    )
}

/// Refuses if a member that answered runs an etcd that panics on entries of this version. The cluster version cannot be
/// used for this check: it is 3.0 until the leader knows the version of every member.
fn check_servers<'a>(answers: impl Iterator<Item = &'a RemoteAnswer>) -> Result<(), Refusal> {
    let oldest = Version::parse(MIN_PEER_VERSION).unwrap_or_default();
    let mut versions = answers.filter_map(|answer| Version::parse(answer.server_version.as_deref()?));
    match versions.find(|version| *version < oldest) {
        Some(version) => Err(Refusal::OldPeer(version)),
        None => Ok(()),
    }
}

/// At least one other member must report a cluster version that this program can join, and none may report one that it
/// cannot.
fn check_versions(members: &[Member], local: MemberId, found: &Found) -> Result<(), Refusal> {
    let others = || members.iter().filter(|member| member.id != local);
    let answers = |member: &'_ Member| -> Vec<&RemoteAnswer> {
        member
            .peer_urls
            .iter()
            .filter_map(|url| found.answers.get(url))
            .collect()
    };
    check_servers(others().flat_map(answers))?;
    let downgrading = others().find_map(|member| answers(member).iter().find_map(|answer| answer.downgrade_enabled));
    let own = Version::own_minor();
    let (oldest, newest) = if downgrading == Some(true) {
        let above = Version {
            minor: own.minor + 1,
            ..own
        };
        (above, above)
    } else {
        (Version::parse(MIN_CLUSTER_VERSION).unwrap_or_default(), own)
    };
    let mut joinable = false;
    for member in others() {
        let told = answers(member)
            .into_iter()
            .find_map(|answer| answer.cluster_version.as_deref());
        let Some(version) = told.and_then(Version::parse) else {
            continue;
        };
        if version < oldest || version > newest {
            return Err(Refusal::Incompatible);
        }
        joinable = true;
    }
    if joinable { Ok(()) } else { Err(Refusal::Incompatible) }
}
