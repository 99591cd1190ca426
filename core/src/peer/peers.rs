//! The state of one peer.

use std::collections::{BTreeSet, VecDeque};

use crate::proto::raftpb::Message;
use crate::time::Instant;

use super::line::StreamKind;
use super::queue::OpenStream;

/// A stream that this member opens at the peer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dial {
    /// Not open; this member opens it at this time.
    Waits(Instant),
    /// Being opened, or open.
    Runs,
}

/// A peer: another member, or a sender that is not in the table of members yet.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) urls: Vec<String>,
    pick: usize,
    /// It is not in the table of members. Messages for it are posted, and this member opens no stream at it.
    pub(super) is_remote: bool,
    /// The last exchange with it succeeded.
    pub(super) is_active: bool,
    /// The streams that this member reads, by [`StreamKind`].
    pub(super) readers: [Dial; 2],
    /// The streams that the peer has opened, by [`StreamKind`].
    pub(super) streams: [Option<OpenStream>; 2],
    /// Messages to post.
    pub(super) pipeline: VecDeque<Message>,
    /// Messages that are being posted.
    pub(super) posts: usize,
    /// When this member asks it for its version next.
    pub(super) version_at: Instant,
    /// The refusals that were logged since the peer last became active.
    pub(super) said: BTreeSet<String>,
}

impl PeerState {
    pub(super) fn new(now: Instant, urls: Vec<String>, is_remote: bool) -> Self {
        Self {
            urls,
            pick: 0,
            is_remote,
            is_active: false,
            readers: [Dial::Waits(now); 2],
            streams: [None, None],
            pipeline: VecDeque::new(),
            posts: 0,
            version_at: now,
            said: BTreeSet::new(),
        }
    }

    /// The URL to use.
    pub(super) fn url(&self) -> Option<&String> {
        self.urls.get(self.pick)
    }

    /// Picks the next URL, if `url`, which did not answer, is still the one in use.
    pub(super) fn avoid(&mut self, url: &str) {
        if self.url().is_none_or(|picked| picked != url) {
            return;
        }
        self.pick = (self.pick + 1) % self.urls.len().max(1);
    }

    /// Replaces the URLs.
    pub(super) fn set_urls(&mut self, urls: &[String]) {
        if self.urls != urls {
            self.urls = urls.to_vec();
            self.pick = 0;
        }
    }

    pub(super) fn stream(&mut self, kind: StreamKind) -> &mut Option<OpenStream> {
        &mut self.streams[kind as usize]
    }

    pub(super) fn reader(&mut self, kind: StreamKind) -> &mut Dial {
        &mut self.readers[kind as usize]
    }

    /// Whether the machine must act for this peer now.
    pub(super) fn has_work(&self, now: Instant) -> bool {
        let has_waiting = self.streams.iter().flatten().any(OpenStream::can_write);
        has_waiting || !self.pipeline.is_empty() || self.deadline().is_some_and(|at| at <= now)
    }

    /// When the machine must act for this peer, at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let dials = self.readers.iter().filter_map(|reader| match reader {
            Dial::Waits(at) => Some(*at),
            Dial::Runs => None,
        });
        let has_url = self.url().is_some();
        let own = dials.chain([self.version_at]).filter(|_| !self.is_remote && has_url);
        own.chain(self.streams.iter().flatten().map(OpenStream::deadline)).min()
    }
}
