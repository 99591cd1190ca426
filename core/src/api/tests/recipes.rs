//! Locks and elections: which calls and watches they consist of, what they answer, and what they clean up.

use super::World;
use crate::api::recipe::{Recipe, RecipeStep};
use crate::api::{Answer, Call, Observer, Step};
use crate::error::Error;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, RangeRequest, ResponseHeader, WatchCreateRequest, WatchResponse,
};
use crate::proto::mvccpb::event::EventType;
use crate::proto::mvccpb::{Event, KeyValue};
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};

/// A call in progress, and the key that it watches.
struct Waiting {
    recipe: Box<dyn Recipe>,
    watch: WatchCreateRequest,
}

/// A member with the leases 1 to 4.
fn world() -> World {
    let mut world = World::new();
    for id in 1..=4 {
        world.call(Call::LeaseGrant(LeaseGrantRequest { id, ttl: 60 })).unwrap();
    }
    world
}

impl World {
    fn recipe(&self, call: Call) -> Result<Box<dyn Recipe>, Error> {
        match self.begin(call)? {
            Step::Recipe(recipe) => Ok(recipe),
            other => panic!("{other:?}"),
        }
    }

    /// Takes a recipe on to its answer, or until it waits.
    fn follow(&mut self, mut recipe: Box<dyn Recipe>, mut step: RecipeStep) -> Result<Answer, Box<Waiting>> {
        loop {
            step = match step {
                RecipeStep::Answer(answer) => return Ok(answer),
                RecipeStep::Call(call) => {
                    let answer = self.call(call).unwrap();
                    recipe.answered(answer).unwrap()
                }
                RecipeStep::Watch(watch) => return Err(Box::new(Waiting { recipe, watch })),
                RecipeStep::Wait => panic!("{recipe:?} waits without a watch"),
            };
        }
    }

    fn start(&mut self, call: Call) -> Result<Answer, Box<Waiting>> {
        let mut recipe = self.recipe(call).unwrap();
        let step = recipe.begin();
        self.follow(recipe, step)
    }

    fn resume(&mut self, mut waiting: Waiting) -> Result<Answer, Box<Waiting>> {
        let deleted = self.deletion(&waiting.watch);
        let step = waiting.recipe.saw(&deleted).unwrap();
        self.follow(waiting.recipe, step)
    }

    /// Deletes a watched key, and makes the response of the watch.
    fn deletion(&mut self, watch: &WatchCreateRequest) -> WatchResponse {
        self.delete(&watch.key);
        WatchResponse {
            events: vec![event(EventType::Delete, &watch.key, "", self.revision())],
            ..WatchResponse::default()
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let key = key.to_vec().into();
        let request = DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        };
        self.call(Call::DeleteRange(request)).unwrap();
    }

    fn revision(&self) -> i64 {
        self.store.view().kv.revision()
    }

    /// All keys with their values.
    fn keys(&mut self) -> Vec<String> {
        let all = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let Ok(Answer::Range(found)) = self.call(Call::Range(all)) else {
            panic!("keys can be read");
        };
        let shown = |kv: &KeyValue| format!("{}={}", kv.key.escape_ascii(), kv.value.escape_ascii());
        found.kvs.iter().map(shown).collect()
    }
}

fn event(kind: EventType, key: &[u8], value: &'static str, revision: i64) -> Event {
    Event {
        r#type: kind.into(),
        kv: Some(KeyValue {
            key: key.to_vec().into(),
            value: value.into(),
            mod_revision: revision,
            ..KeyValue::default()
        }),
        ..Event::default()
    }
}

fn lock(lease: i64) -> Call {
    let name = "l".into();
    Call::Lock(LockRequest { name, lease })
}

fn campaign(lease: i64, value: &'static str) -> Call {
    Call::Campaign(CampaignRequest {
        name: "e".into(),
        lease,
        value: value.into(),
    })
}

fn locked(answer: Result<Answer, Box<Waiting>>) -> LockResponse {
    match answer {
        Ok(Answer::Lock(response)) => response,
        Ok(other) => panic!("{other:?}"),
        Err(waiting) => panic!("waits for {:?}", waiting.watch.key),
    }
}

fn elected(answer: Result<Answer, Box<Waiting>>) -> CampaignResponse {
    match answer {
        Ok(Answer::Campaign(response)) => response,
        Ok(other) => panic!("{other:?}"),
        Err(waiting) => panic!("waits for {:?}", waiting.watch.key),
    }
}

fn waits(answer: Result<Answer, Box<Waiting>>) -> Waiting {
    match answer {
        Err(waiting) => *waiting,
        Ok(answer) => panic!("{answer:?}"),
    }
}

fn revision_of(header: Option<ResponseHeader>) -> i64 {
    header.unwrap().revision
}

#[test]
fn a_free_lock_is_taken_at_once_and_again_by_the_same_lease() {
    let mut world = world();
    let first = locked(world.start(lock(1)));
    assert_eq!((&first.key[..], revision_of(first.header)), (&b"l/1"[..], 2));
    world.put("other");
    let again = locked(world.start(lock(1)));
    assert_eq!((&again.key[..], revision_of(again.header)), (&b"l/1"[..], 3));
    assert_eq!(world.keys(), ["l/1=", "other="]);
    let unlock = Call::Unlock(UnlockRequest { key: first.key });
    let Ok(Answer::Unlock(unlocked)) = world.start(unlock) else {
        panic!("a lock can be given back")
    };
    assert_eq!(revision_of(unlocked.header), 4);
    assert_eq!(world.keys(), ["other="]);
}

#[test]
fn a_lock_without_a_lease_is_granted_one_of_a_minute() {
    let mut recipe = World::new().recipe(lock(0)).unwrap();
    let RecipeStep::Call(Call::LeaseGrant(grant)) = recipe.begin() else {
        panic!("{recipe:?}")
    };
    assert_eq!((grant.id, grant.ttl), (0, 60));
}

#[test]
fn each_waiter_waits_for_the_key_before_its_own() {
    let mut world = world();
    let holder = locked(world.start(lock(1)));
    let second = waits(world.start(lock(2)));
    let third = waits(world.start(lock(3)));
    assert_eq!((&second.watch.key[..], second.watch.start_revision), (&b"l/1"[..], 3));
    assert_eq!((&third.watch.key[..], third.watch.start_revision), (&b"l/2"[..], 4));
    // The one in the middle gives up: the third waits for the holder now.
    let third = waits(world.resume(third));
    assert_eq!(third.watch.key, holder.key);
    let third = locked(world.resume(third));
    assert_eq!((&third.key[..], revision_of(third.header)), (&b"l/3"[..], 6));
}

#[test]
fn a_waiter_reads_its_own_key_again() {
    let mut world = world();
    locked(world.start(lock(1)));
    let mut second = waits(world.start(lock(2)));
    world.delete(b"l/2");
    let deleted = world.deletion(&second.watch);
    let mut step = second.recipe.saw(&deleted).unwrap();
    let mut calls = 0;
    let error = loop {
        let RecipeStep::Call(call) = step else {
            panic!("{step:?}")
        };
        calls += 1;
        let answer = world.call(call).unwrap();
        match second.recipe.answered(answer) {
            Ok(next) => step = next,
            Err(error) => break error,
        }
    };
    assert_eq!((error, calls), (Error::LockSessionExpired, 2));
    assert!(second.recipe.failed().is_none(), "there is no key to delete");
}

#[test]
fn a_waiter_that_gives_up_or_fails_deletes_its_key() {
    let mut world = world();
    let mut fresh = world.recipe(lock(2)).unwrap();
    fresh.begin();
    assert!(fresh.abandoned().is_none(), "its key does not exist yet");
    locked(world.start(lock(1)));
    for ended in [<dyn Recipe>::abandoned, <dyn Recipe>::failed] {
        let waiting = waits(world.start(lock(2)));
        assert_eq!(world.keys(), ["l/1=", "l/2="]);
        let cleanup = ended(&*waiting.recipe).expect("it has a key");
        world.call(cleanup).unwrap();
        assert_eq!(world.keys(), ["l/1="]);
    }
}

#[test]
fn a_watch_that_ends_ends_the_wait() {
    let mut world = world();
    locked(world.start(lock(1)));
    let mut waiting = waits(world.start(lock(2)));
    let nothing = WatchResponse::default();
    assert!(matches!(waiting.recipe.saw(&nothing), Ok(RecipeStep::Wait)));
    let canceled = |compact_revision| WatchResponse {
        canceled: true,
        compact_revision,
        ..WatchResponse::default()
    };
    assert_eq!(waiting.recipe.saw(&canceled(3)).unwrap_err(), Error::Compacted);
    assert_eq!(waiting.recipe.saw(&canceled(0)).unwrap_err(), Error::LostWatcher);
}

#[test]
fn a_candidate_is_elected_when_no_older_key_is_left() {
    let mut world = world();
    let first = elected(world.start(campaign(1, "a")));
    let leader = LeaderKey {
        name: "e".into(),
        key: "e/1".into(),
        rev: 2,
        lease: 1,
    };
    assert_eq!((first.leader, revision_of(first.header)), (Some(leader), 2));
    let second = waits(world.start(campaign(2, "b")));
    assert_eq!(second.watch.key, "e/1");
    let second = elected(world.resume(second));
    // The header is that of the entry of the candidate, not of its election.
    assert_eq!((second.leader.unwrap().rev, revision_of(second.header)), (3, 3));
}

#[test]
fn a_candidate_that_returns_announces_its_new_value() {
    let mut world = world();
    elected(world.start(campaign(1, "a")));
    elected(world.start(campaign(1, "a")));
    assert_eq!((world.keys(), world.revision()), (vec!["e/1=a".to_owned()], 2));
    let again = elected(world.start(campaign(1, "b")));
    assert_eq!((again.leader.unwrap().rev, world.revision()), (2, 3));
    assert_eq!(world.keys(), ["e/1=b"]);
}

#[test]
fn a_candidate_that_gives_up_resigns_and_one_that_fails_does_not() {
    let mut world = world();
    elected(world.start(campaign(1, "a")));
    let waiting = waits(world.start(campaign(2, "b")));
    assert!(waiting.recipe.failed().is_none());
    let cleanup = waiting.recipe.abandoned().expect("it has a key");
    world.call(cleanup).unwrap();
    assert_eq!(world.keys(), ["e/1=a"]);
}

#[test]
fn only_the_leader_proclaims_and_anyone_resigns() {
    let mut world = world();
    let leader = elected(world.start(campaign(1, "a"))).leader;
    let proclaim = |leader: &Option<LeaderKey>, value: &'static str| {
        Call::Proclaim(ProclaimRequest {
            leader: leader.clone(),
            value: value.into(),
        })
    };
    let Ok(Answer::Proclaim(proclaimed)) = world.start(proclaim(&leader, "b")) else {
        panic!("the leader proclaims")
    };
    assert_eq!(revision_of(proclaimed.header), 3);
    assert_eq!(world.keys(), ["e/1=b"]);
    let resign = |leader: &Option<LeaderKey>| Call::Resign(ResignRequest { leader: leader.clone() });
    for revision in [4, 4] {
        let Ok(Answer::Resign(resigned)) = world.start(resign(&leader)) else {
            panic!("a resignation has no error")
        };
        assert_eq!(revision_of(resigned.header), revision);
    }
    assert!(world.keys().is_empty());
    let mut late = world.recipe(proclaim(&leader, "c")).unwrap();
    let RecipeStep::Call(call) = late.begin() else {
        panic!("{late:?}")
    };
    let answer = world.call(call).unwrap();
    assert_eq!(late.answered(answer).unwrap_err(), Error::ElectionNotLeader);
    for without_leader in [proclaim(&None, "c"), resign(&None)] {
        assert_eq!(world.recipe(without_leader).unwrap_err(), Error::ElectionLeaderMissing);
    }
}

#[test]
fn the_leader_is_the_oldest_key() {
    let mut world = world();
    let ask = || Call::Leader(LeaderRequest { name: "e".into() });
    let mut none = world.recipe(ask()).unwrap();
    let RecipeStep::Call(call) = none.begin() else {
        panic!("{none:?}")
    };
    let answer = world.call(call).unwrap();
    assert_eq!(none.answered(answer).unwrap_err(), Error::ElectionNoLeader);
    elected(world.start(campaign(3, "c")));
    waits(world.start(campaign(1, "a")));
    let Ok(Answer::Leader(leader)) = world.start(ask()) else {
        panic!("there is a leader")
    };
    assert_eq!(
        (&leader.kv.unwrap().key[..], revision_of(leader.header)),
        (&b"e/3"[..], 3)
    );
}

/// The observer's next steps, until it watches.
fn observe(world: &mut World, observer: &mut Observer, mut step: RecipeStep) -> WatchCreateRequest {
    loop {
        step = match step {
            RecipeStep::Call(call) => observer.answered(world.call(call).unwrap()),
            RecipeStep::Watch(watch) => return watch,
            other => panic!("{other:?}"),
        };
    }
}

fn reported(observer: &mut Observer) -> Vec<(String, i64)> {
    let mut all = Vec::new();
    while let Some(LeaderResponse { header, kv }) = observer.next_response() {
        let kv = kv.unwrap();
        let leader = format!("{}={}", kv.key.escape_ascii(), kv.value.escape_ascii());
        all.push((leader, revision_of(header)));
    }
    all
}

#[test]
fn an_observer_reports_each_leader_and_each_value_of_it() {
    let mut world = world();
    let name = "e".into();
    let Ok(Step::Observe(mut observer)) = world.begin(Call::Observe(LeaderRequest { name })) else {
        panic!("an observer");
    };
    let step = observer.begin();
    let watch = observe(&mut world, &mut observer, step);
    let range = (&watch.key[..], &watch.range_end[..], watch.start_revision);
    assert_eq!(range, (&b"e/"[..], &b"e0"[..], 1));
    let response = |events| WatchResponse {
        header: Some(ResponseHeader {
            revision: 9,
            ..ResponseHeader::default()
        }),
        events,
        ..WatchResponse::default()
    };
    let put = |value, revision| event(EventType::Put, b"e/1", value, revision);
    let gone = || event(EventType::Delete, b"e/1", "", 9);

    // Deletions of earlier leaders are no news. The first leader's revision is that of its key.
    let step = observer.saw(response(vec![gone(), put("a", 4), put("b", 5)])).unwrap();
    let watch = observe(&mut world, &mut observer, step);
    assert_eq!((&watch.key[..], watch.start_revision), (&b"e/1"[..], 5));
    assert_eq!(reported(&mut observer), [("e/1=a".to_owned(), 4)]);

    assert!(matches!(
        observer.saw(response(vec![put("b", 5)])),
        Some(RecipeStep::Wait)
    ));
    assert_eq!(reported(&mut observer), [("e/1=b".to_owned(), 9)]);

    elected(world.start(campaign(2, "c")));
    let step = observer.saw(response(vec![gone()])).unwrap();
    let watch = observe(&mut world, &mut observer, step);
    assert_eq!((&watch.key[..], watch.start_revision), (&b"e/2"[..], 3));
    assert_eq!(reported(&mut observer), [("e/2=c".to_owned(), 2)]);

    let ended = WatchResponse {
        canceled: true,
        ..WatchResponse::default()
    };
    assert!(observer.saw(ended).is_none());
}
