//! Receives a snapshot on a thread of its own: writes its file, restores its state and gives that to the node.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use quoin_core::id::MemberId;
use quoin_core::node::Input;
use quoin_core::peer::{ExchangeId, PeerInput};
use quoin_core::proto::raftpb::Message;
use quoin_core::store::{Store, StoreConfig};

use super::Peers;
use super::window::{InFlight, Window};
use crate::clock::Time;
use crate::disk::{Disk, DiskFile};
use crate::drive::NodeQueue;
use crate::lanes::{Observation, Observe};
use crate::received::Arriving;
use crate::threads::guarded;

/// Where received snapshots are written, and the configuration of the stores that are restored from them.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) snap_dir: PathBuf,
    pub(crate) config: StoreConfig,
    pub(crate) clock: Arc<dyn Time>,
    pub(crate) observe: Observe,
}

/// A snapshot whose first bytes have arrived.
pub(super) struct Snapshot {
    pub(super) exchange: ExchangeId,
    pub(super) from: MemberId,
    pub(super) message: Box<Message>,
    pub(super) begun: Bytes,
}

/// A piece of the file, or its end.
enum Piece {
    Bytes(Bytes, InFlight),
    End,
}

/// Passes a snapshot's file to the thread that writes it. If it is dropped before the end of the file, the thread
/// removes what was written.
pub(super) struct Saver {
    window: Window,
    pieces: Sender<Piece>,
}

impl Saver {
    /// Starts the thread.
    pub(super) fn start(
        snapshot: Snapshot,
        window: Window,
        shelf: Shelf,
        node: NodeQueue,
        peers: Peers,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        #[expect(clippy::disallowed_methods, reason = "the window bounds what waits in it")]
        let (sender, pieces) = async_channel::unbounded();
        let exchange = snapshot.exchange;
        let work = move || {
            let saved = guarded(|| save(snapshot, &pieces, &shelf, &node));
            let result = saved.unwrap_or_else(|panic| Err(panic.to_string()));
            if let Err(error) = &result {
                tracing::warn!(error, "failed to receive a snapshot");
            }
            peers.report(PeerInput::Saved(exchange, result));
        };
        let thread = Builder::new().name("quoin-snap-save".to_owned()).spawn(work)?;
        let pieces = sender;
        Ok((Self { window, pieces }, thread))
    }

    /// Gives the thread the next bytes of the file.
    pub(super) fn write(&self, bytes: Bytes) {
        let held = self.window.hold(bytes.len());
        // A thread that has failed has reported its failure itself.
        let _failed = self.pieces.try_send(Piece::Bytes(bytes, held));
    }

    /// The file is complete.
    pub(super) fn end(self) {
        let _failed = self.pieces.try_send(Piece::End);
    }
}

fn save(snapshot: Snapshot, pieces: &Receiver<Piece>, shelf: &Shelf, node: &NodeQueue) -> Result<(), String> {
    let Snapshot {
        from, message, begun, ..
    } = snapshot;
    let index = message.get_snapshot().get_metadata().index;
    let (started, mut syncing) = (shelf.clock.now(), Duration::ZERO);
    tracing::info!("snapshot-index" = index, %from, "receiving database snapshot");
    let mut arriving =
        Arriving::begin(Arc::clone(&shelf.disk), &shelf.snap_dir, index).map_err(|fault| fault.to_string())?;
    let written = write_all(&mut arriving, &begun, pieces);
    let total = arriving.len();
    let store = match written {
        Ok(()) => {
            let sync = |file: &mut dyn DiskFile| {
                let before = shelf.clock.now();
                let synced = file.sync_data();
                syncing = shelf.clock.now().saturating_since(before);
                synced
            };
            arriving.finish(shelf.config, sync).map_err(|fault| fault.to_string())?
        }
        Err(why) => {
            arriving.give_up();
            return Err(why);
        }
    };
    let took = shelf.clock.now().saturating_since(started);
    (shelf.observe)(Observation::SnapReceived { syncing, took });
    tracing::info!(
        "snapshot-index" = index,
        "total-bytes" = total,
        "saved database snapshot"
    );
    give(node, from, message, store);
    Ok(())
}

fn give(node: &NodeQueue, from: MemberId, message: Box<Message>, store: Store) {
    let store = Box::new(store);
    let message = *message;
    node.input(Input::Snapshot { from, message, store });
}

fn write_all(arriving: &mut Arriving, begun: &[u8], pieces: &Receiver<Piece>) -> Result<(), String> {
    let text = |fault: quoin_core::error::Fault| fault.to_string();
    arriving.write(begun).map_err(text)?;
    loop {
        match pieces.recv_blocking() {
            Ok(Piece::Bytes(bytes, held)) => {
                arriving.write(&bytes).map_err(text)?;
                drop(held);
            }
            Ok(Piece::End) => return Ok(()),
            Err(_) => return Err("the snapshot broke off".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quoin_core::limits::PEER_BODY_WINDOW_BYTES;
    use quoin_core::peer::PeerInput;
    use quoin_core::proto::raftpb::{Snapshot as RaftSnapshot, SnapshotMetadata};
    use quoin_core::snapshot;
    use tempfile::TempDir;

    use super::*;
    use crate::disk::RealDisk;
    use crate::drive;
    use crate::peers::Event;

    const EXCHANGE: ExchangeId = ExchangeId::Incoming(7);

    struct Place {
        folder: TempDir,
        node: NodeQueue,
        peers: Peers,
    }

    impl Place {
        fn new() -> Self {
            let node = drive::queue();
            let peers = Peers::new(node.clone());
            let folder = tempfile::tempdir().unwrap();
            Self { folder, node, peers }
        }

        /// Starts to receive a snapshot whose message has this index. The file is that of an empty store, with index 0.
        fn begin(&self, index: u64, begun: Bytes) -> (Saver, JoinHandle<()>) {
            let metadata = SnapshotMetadata {
                index,
                ..SnapshotMetadata::default()
            };
            let snapshot = Snapshot {
                exchange: EXCHANGE,
                from: MemberId(3),
                message: Box::new(Message {
                    snapshot: Some(RaftSnapshot {
                        metadata: Some(metadata),
                        ..RaftSnapshot::default()
                    }),
                    ..Message::default()
                }),
                begun,
            };
            let shelf = Shelf {
                disk: Arc::new(RealDisk),
                snap_dir: self.folder.path().to_owned(),
                config: StoreConfig::default(),
                clock: Arc::new(crate::clock::Clock::new()),
                observe: Arc::new(|_| ()),
            };
            let window = Window::new(PEER_BODY_WINDOW_BYTES);
            Saver::start(snapshot, window, shelf, self.node.clone(), self.peers.clone()).unwrap()
        }

        /// The outcome that the machine gets, the number of snapshots that the node gets, and the files left on disk.
        fn outcome(&self, thread: JoinHandle<()>) -> (Result<(), String>, usize, Vec<String>) {
            thread.join().unwrap();
            let (mut events, mut inputs) = (Vec::new(), Vec::new());
            let soon = Some(Duration::ZERO);
            assert!(self.peers.0.mailbox.take(&mut events, soon) && self.node.take(&mut inputs, soon));
            let Some(Event::Input(PeerInput::Saved(EXCHANGE, saved))) = events.pop() else {
                panic!("the machine did not get the outcome: {events:?}")
            };
            let given = inputs.iter();
            let given = given.filter(|(input, _)| matches!(input, Input::Snapshot { from: MemberId(3), .. }));
            (saved, given.count(), RealDisk.list(self.folder.path()).unwrap())
        }
    }

    fn file() -> Bytes {
        snapshot::encode(&Store::new(StoreConfig::default()).view()).into()
    }

    #[test]
    fn a_complete_snapshot_is_kept_and_given_to_the_node() {
        let (place, file) = (Place::new(), file());
        let (saver, thread) = place.begin(0, file.slice(..100));
        saver.write(file.slice(100..5_000));
        saver.write(file.slice(5_000..));
        saver.end();
        let (saved, given, files) = place.outcome(thread);
        assert_eq!((saved, given), (Ok(()), 1));
        assert_eq!(files, ["0000000000000000.snap.db"]);
    }

    #[test]
    fn a_snapshot_that_breaks_off_leaves_nothing() {
        let (place, file) = (Place::new(), file());
        let (saver, thread) = place.begin(0, file.slice(..100));
        saver.write(file.slice(100..5_000));
        drop(saver);
        let outcome = place.outcome(thread);
        assert_eq!(outcome, (Err("the snapshot broke off".to_owned()), 0, vec![]));
    }

    #[test]
    fn a_damaged_snapshot_and_one_of_another_index_leave_nothing() {
        let place = Place::new();
        let mut damaged = file().to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let wrong = "0000000000000009.snap.db holds the state at index 0";
        for (index, file, why) in [
            (0, damaged.into(), "the checksum of the file does not match"),
            (9, file(), wrong),
        ] {
            let (saver, thread) = place.begin(index, file);
            saver.end();
            let (saved, given, files) = place.outcome(thread);
            let said = saved.unwrap_err();
            assert!(said.contains(why), "{said}");
            assert_eq!((given, files), (0, vec![]));
        }
    }
}
