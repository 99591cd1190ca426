//! Requests of clients: create a watch, cancel it, report progress.

use super::WatchOutput;
use super::hub::Hub;
use super::range::KeyRange;
use super::response::{NO_WATCH, Response};
use super::stream::{Progress, Watcher};
use crate::error::Error;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{WatchCreateRequest, WatchRequest};

/// etcd's reason for the refusal of a watch without keys.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

/// etcd's reason for the refusal of a watch id that is in use.
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

impl Hub {
    /// Answers `request`; an empty one is ignored, as in etcd.
    pub(super) fn request(&mut self, stream: u32, request: WatchRequest, out: &mut Vec<WatchOutput>) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(stream, create, out),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(stream, cancel.watch_id, out),
            Some(RequestUnion::ProgressRequest(_)) => self.progress(stream, out),
            None => {}
        }
    }

    /// Refuses a watch because the permission is missing.
    pub(super) fn deny(&mut self, stream: u32, request: &WatchCreateRequest, error: Error, out: &mut Vec<WatchOutput>) {
        // etcd checks the revision before the permission.
        if request.start_revision < 0 {
            return self.refuse(stream, Error::Compacted.message().into(), out);
        }
        let error = match error {
            Error::InvalidAuthToken | Error::AuthOldRevision | Error::UserEmpty => error,
            _ => Error::PermissionDenied,
        };
        let reason = format!("rpc error: code = {:?} desc = {error}", error.code());
        self.refuse(stream, reason.into(), out);
    }

    fn create(&mut self, stream: u32, request: WatchCreateRequest, out: &mut Vec<WatchOutput>) {
        if request.start_revision < 0 {
            return self.refuse(stream, Error::Compacted.message().into(), out);
        }
        let filters: Vec<FilterType> = request.filters().collect();
        let Some(range) = KeyRange::new(request.key, request.range_end) else {
            return self.refuse(stream, EMPTY_RANGE.into(), out);
        };
        let Some(id) = self.streams[stream].take_id(request.watch_id) else {
            return self.refuse(stream, DUPLICATE_ID.into(), out);
        };
        let revision = self.view.revision();
        let start = request.start_revision;
        let has_past = start != 0 && start <= revision;
        let slot = self.insert_watcher(Watcher {
            stream,
            id,
            range,
            start,
            next: if has_past { start } else { start.max(revision + 1) },
            slow: false,
            no_put: filters.contains(&FilterType::Noput),
            no_delete: filters.contains(&FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: if request.progress_notify {
                Progress::Due
            } else {
                Progress::Off
            },
        });
        let created = Response {
            watch_id: id,
            created: true,
            revision,
            ..Response::default()
        };
        self.send(stream, created, out);
        if has_past {
            self.enter_slow(slot);
        }
    }

    fn refuse(&mut self, stream: u32, cancel_reason: std::borrow::Cow<'static, str>, out: &mut Vec<WatchOutput>) {
        let refused = Response {
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason,
            revision: self.view.revision(),
            ..Response::default()
        };
        self.send(stream, refused, out);
    }

    fn cancel(&mut self, stream: u32, id: i64, out: &mut Vec<WatchOutput>) {
        if let Some(slot) = self.streams[stream].watchers.get(&id).copied() {
            self.remove_watcher(slot);
        } else if !self.streams[stream].compacted.remove(&id) {
            return;
        }
        let canceled = Response {
            watch_id: id,
            canceled: true,
            revision: self.view.revision(),
            ..Response::default()
        };
        self.send(stream, canceled, out);
    }

    /// Reports progress if all watchers of the stream have received everything; otherwise the client will ask again.
    fn progress(&mut self, stream: u32, out: &mut Vec<WatchOutput>) {
        let revision = self.view.revision();
        let books = &self.streams[stream];
        let all = books
            .watchers
            .values()
            .all(|slot| self.watchers[*slot].has_all(revision));
        if all && !books.watchers.is_empty() && books.room() > 0 {
            let progress = Response {
                watch_id: NO_WATCH,
                revision,
                ..Response::default()
            };
            self.send(stream, progress, out);
        }
    }
}
