//! The real hub over random writes, watches, compactions and snapshots: the checker finds nothing. If the hub's
//! responses are changed on their way, it finds the change.

use std::collections::VecDeque;

use prost::Message as _;
use quoin_core::limits::WATCH_STREAM_QUEUE_RESPONSES;
use quoin_core::random::Prng;
use quoin_core::watch::{Hub, HubConfig, Origin, StreamId as HubStream, WatchInput, WatchOutput};

use super::*;

/// The change of responses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mutilation {
    None,
    DropEvent,
    DropResponse,
    RepeatResponse,
    SplitRevision,
    WrongPrevKv,
    LostPrevKv,
    EarlyProgress,
}

const STREAMS: u64 = 3;

const ORIGIN: Origin = Origin {
    cluster_id: 1,
    member_id: MEMBER.0,
    raft_term: TERM,
};

/// A run of the hub.
struct Run {
    story: Story,
    hub: Hub,
    prng: Prng,
    mutilation: Mutilation,
    /// Responses that were made and have not left the member.
    queues: Vec<VecDeque<WatchResponse>>,
    events: usize,
}

impl Run {
    fn new(seed: u64, mutilation: Mutilation) -> Self {
        let story = Story::empty();
        let config = HubConfig {
            progress_interval: Duration::from_secs(1),
            max_response_bytes: 400,
            seed,
            ..HubConfig::default()
        };
        let hub = Hub::new(config, story.mvcc.view());
        let mut run = Self {
            story,
            hub,
            prng: Prng::new(seed),
            mutilation,
            queues: vec![VecDeque::new(); STREAMS as usize],
            events: 0,
        };
        for stream in 0..STREAMS {
            run.story.open(stream);
            run.step(WatchInput::Open {
                stream: HubStream(stream),
            });
        }
        run
    }

    fn step(&mut self, input: WatchInput) {
        let mut out = Vec::new();
        self.hub.step(self.story.at, input, &mut out);
        for WatchOutput { stream, response } in out {
            let mut bytes = Vec::new();
            response.encode(ORIGIN, &mut bytes);
            let response = WatchResponse::decode(&bytes[..]).expect("responses are messages");
            self.queues[stream.0 as usize].push_back(response);
        }
    }

    fn key(&mut self) -> Bytes {
        vec![b'a' + self.prng.below(6) as u8].into()
    }

    fn write(&mut self) {
        let first = self.key();
        let mut changes = vec![match self.prng.below(4) {
            0 => Change::Delete(first),
            _ => Change::Put(first, vec![b'v'; self.prng.below(90) as usize].into()),
        }];
        let second = self.key();
        if self.prng.below(3) == 0 && second != changes_key(&changes[0]) {
            changes.push(Change::Put(second, "second".into()));
        }
        self.story.happen(&changes);
    }

    fn tell(&mut self, restored: bool) {
        self.story.publish(restored);
        let events = shared(&mut self.story.events);
        let view = self.story.mvcc.view();
        self.step(if restored {
            WatchInput::Restored { view }
        } else {
            WatchInput::Applied { view, events }
        });
    }

    fn request(&mut self, stream: u64, union: RequestUnion) {
        if self.queues[stream as usize].len() >= WATCH_STREAM_QUEUE_RESPONSES {
            return;
        }
        let request = WatchRequest {
            request_union: Some(union),
        };
        let asked = Observation::WatchRequested {
            stream: StreamId(stream),
            request: &request,
        };
        self.story.see(&asked).expect("a request is no violation");
        self.step(WatchInput::Request {
            stream: HubStream(stream),
            request,
        });
    }

    fn create(&mut self, stream: u64) {
        let key = self.key();
        let now = self.hub.revision();
        let request = WatchCreateRequest {
            range_end: match self.prng.below(4) {
                0 => Bytes::from_static(b"\0"),
                1 => vec![key[0] + self.prng.below(3) as u8].into(),
                _ => Bytes::new(),
            },
            key,
            start_revision: match self.prng.below(5) {
                0 => 0,
                1 => now + 1 + self.prng.below(8) as i64,
                2 => -(self.prng.below(2) as i64),
                _ => (now - self.prng.below(60) as i64).max(1),
            },
            progress_notify: self.prng.below(2) == 0,
            filters: match self.prng.below(6) {
                0 => vec![0],
                1 => vec![1],
                _ => Vec::new(),
            },
            prev_kv: self.prng.below(2) == 0,
            watch_id: if self.prng.below(4) == 0 {
                self.prng.below(12) as i64
            } else {
                0
            },
            fragment: self.prng.below(2) == 0,
        };
        self.request(stream, RequestUnion::CreateRequest(request));
    }

    /// One random action.
    fn act(&mut self) -> Verdict {
        let stream = self.prng.below(STREAMS);
        match self.prng.below(100) {
            0..45 => {
                self.write();
                // Sometimes the hub gets several writes at once.
                if self.prng.below(6) > 0 {
                    self.tell(false);
                }
            }
            45..52 => self.create(stream),
            52..54 => {
                let watch_id = self.prng.below(8) as i64;
                self.request(stream, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            }
            54..58 => self.request(stream, RequestUnion::ProgressRequest(WatchProgressRequest {})),
            58..60 => {
                let revision = self.story.mvcc.revision() - self.prng.below(20) as i64;
                if revision > self.story.mvcc.compact_revision().max(1) {
                    self.story.compact(revision);
                    self.tell(false);
                }
            }
            60 => self.tell(true),
            61..64 => self.story.at = self.story.at + Duration::from_millis(self.prng.below(900)),
            64..84 if self.prng.below(1 + stream * 8) == 0 => return self.leave(stream, usize::MAX),
            _ => self.step(WatchInput::Wake),
        }
        Ok(())
    }

    /// Lets responses of a stream leave the member; returns their number.
    fn leave(&mut self, stream: u64, most: usize) -> Verdict {
        let queue = &mut self.queues[stream as usize];
        let gone: Vec<_> = queue.drain(..most.min(queue.len())).collect();
        let responses = gone.len();
        for response in gone {
            for response in self.mutilate(response) {
                self.events += response.events.len();
                self.story.see(&Observation::Watched {
                    stream: StreamId(stream),
                    response: &response,
                })?;
            }
        }
        self.step(WatchInput::Sent {
            stream: HubStream(stream),
            responses,
        });
        Ok(())
    }

    fn mutilate(&mut self, mut response: WatchResponse) -> Vec<WatchResponse> {
        let nth = self.prng.below(response.events.len().max(1) as u64) as usize;
        let strikes = self.prng.below(8) == 0 && !response.fragment;
        match self.mutilation {
            Mutilation::DropEvent if strikes && response.events.len() > 1 => {
                response.events.remove(nth);
            }
            Mutilation::DropResponse if strikes && !response.events.is_empty() => return Vec::new(),
            Mutilation::RepeatResponse if strikes && !response.events.is_empty() => {
                return vec![response.clone(), response];
            }
            Mutilation::SplitRevision => {
                let pair = response.events.windows(2).position(|pair| {
                    let revision = |event: &mvccpb::Event| event.kv.as_ref().map(|kv| kv.mod_revision);
                    revision(&pair[0]) == revision(&pair[1])
                });
                if let Some(place) = pair.filter(|_| !response.fragment) {
                    let rest = response.events.split_off(place + 1);
                    let second = WatchResponse {
                        events: rest,
                        ..response.clone()
                    };
                    return vec![response, second];
                }
            }
            Mutilation::WrongPrevKv => {
                if let Some(prev_kv) = response.events.get_mut(nth).and_then(|event| event.prev_kv.as_mut()) {
                    prev_kv.version += 1;
                }
            }
            Mutilation::LostPrevKv if strikes => {
                response.events.iter_mut().for_each(|event| event.prev_kv = None);
            }
            Mutilation::EarlyProgress if response.created && !response.canceled => {
                let early = WatchResponse {
                    created: false,
                    ..response.clone()
                };
                return vec![response, early];
            }
            _ => {}
        }
        vec![response]
    }

    /// All clients read everything; then every watch must be complete.
    fn finish(&mut self) -> Verdict {
        self.tell(false);
        loop {
            while self.hub.deadline().is_some_and(|at| at <= self.story.at) {
                self.step(WatchInput::Wake);
            }
            if self.queues.iter().all(VecDeque::is_empty) {
                break;
            }
            for stream in 0..STREAMS {
                self.leave(stream, usize::MAX)?;
            }
        }
        self.story.heal(Duration::from_secs(10))
    }
}

fn changes_key(change: &Change) -> Bytes {
    match change {
        Change::Delete(key) | Change::DeleteFrom(key) | Change::Put(key, _) => key.clone(),
    }
}

fn run(seed: u64, mutilation: Mutilation) -> (Run, Verdict) {
    let mut run = Run::new(seed, mutilation);
    for _ in 0..1_000 {
        if let Err(violation) = run.act() {
            return (run, Err(violation));
        }
    }
    let verdict = run.finish();
    (run, verdict)
}

#[test]
fn the_hub_keeps_every_promise() {
    let mut met = Vec::new();
    for seed in 0..25 {
        println!("seed {seed}");
        let (run, verdict) = run(seed, Mutilation::None);
        assert_eq!(verdict, Ok(()), "seed {seed}");
        assert!(run.events > 100, "seed {seed}: {} events", run.events);
        met.extend(run.story.checker.sometimes().counts());
    }
    for (point, _) in Story::empty().checker.sometimes().counts() {
        let times: u64 = met
            .iter()
            .filter(|(name, _)| *name == point)
            .map(|(_, times)| times)
            .sum();
        let is_of_many_lives = point == "a member ends with watches open";
        assert!(times > 0 || is_of_many_lives, "never met: {point}");
    }
}

#[test]
fn a_mutilated_response_is_found() {
    let table: &[(Mutilation, &[&str])] = &[
        (
            Mutilation::DropEvent,
            &["C12", "C13", "C14", "C15", "C19", "C21", "C22"],
        ),
        (
            Mutilation::DropResponse,
            &["C12", "C13", "C14", "C15", "C19", "C21", "C22"],
        ),
        (Mutilation::RepeatResponse, &["C11"]),
        (Mutilation::SplitRevision, &["C12"]),
        (Mutilation::WrongPrevKv, &["C16"]),
        (Mutilation::LostPrevKv, &["C16"]),
        (Mutilation::EarlyProgress, &["C15", "C18"]),
    ];
    for (mutilation, numbers) in table {
        for seed in 0..5 {
            let (_, verdict) = run(seed, *mutilation);
            let violation = verdict.expect_err("it was mutilated");
            assert!(
                numbers.contains(&violation.checker),
                "{mutilation:?}, seed {seed}: {}: {}",
                violation.checker,
                violation.words
            );
        }
    }
}
