//! Receives a snapshot on a thread of its own: writes its file, restores its state and gives that to the node.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use quoin_core::id::MemberId;
use quoin_core::node::Input;
use quoin_core::peer::{ExchangeId, PeerInput};
use quoin_core::proto::raftpb::Message;
use quoin_core::store::{Store, StoreConfig};

use super::Peers;
use super::window::{Held, Window};
use crate::disk::Disk;
use crate::drive::NodeQueue;
use crate::received::Arriving;
use crate::threads::guarded;

/// Where received snapshots are put.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) snap_dir: PathBuf,
    pub(crate) config: StoreConfig,
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
    Bytes(Bytes, Held),
    End,
}

/// The way to a thread that writes a snapshot. If it is dropped before the end of the file, what was written is
/// removed.
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

    /// Gives it the next bytes of the file.
    pub(super) fn write(&self, bytes: Bytes) {
        let held = self.window.hold(bytes.len());
        // A thread that has failed reports that.
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
    tracing::info!("snapshot-index" = index, %from, "receiving database snapshot");
    let mut arriving = Arriving::begin(&*shelf.disk, &shelf.snap_dir, index).map_err(|fault| fault.to_string())?;
    let written = write_all(&mut arriving, &begun, pieces);
    let total = arriving.len();
    let store = match written {
        Ok(()) => arriving.finish(shelf.config).map_err(|fault| fault.to_string())?,
        Err(why) => {
            arriving.give_up();
            return Err(why);
        }
    };
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

fn write_all(arriving: &mut Arriving<'_>, begun: &[u8], pieces: &Receiver<Piece>) -> Result<(), String> {
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
