//! A simulated table: ordered rows in memory, of which a crash keeps a prefix of the unsynced batches.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quoin_core::random::Prng;
use quoin_core::table::{Bucket, TableOp};
use quoin_runtime::table::{Rows, Table};

type Content = BTreeMap<(Bucket, Bytes), Bytes>;

/// A table whose batches are atomic and become durable in order; handles share it.
#[derive(Clone, Debug)]
pub struct SimTable {
    world: Arc<Mutex<World>>,
}

#[derive(Debug)]
struct World {
    current: Content,
    durable: Content,
    pending: Vec<Vec<TableOp>>,
    calls: u64,
    crash_at: Option<u64>,
    prng: Prng,
}

impl SimTable {
    /// An empty table; `seed` decides what every crash keeps.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let prng = Prng::new(seed).fork("table");
        let world = World {
            current: Content::new(),
            durable: Content::new(),
            pending: Vec::new(),
            calls: 0,
            crash_at: None,
            prng,
        };
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Lets the process die at the `ahead`-th call from here, before it has any effect.
    pub fn crash_after(&self, ahead: u64) {
        let mut world = self.lock();
        world.crash_at = Some(world.calls + ahead);
    }

    /// Loses power and comes back with a prefix of the unsynced batches.
    pub fn restart(&self) {
        let mut world = self.lock();
        let pending = std::mem::take(&mut world.pending);
        let kept = world.prng.below(pending.len() as u64 + 1);
        for ops in pending.iter().take(usize::try_from(kept).unwrap_or(usize::MAX)) {
            write(&mut world.durable, ops);
        }
        world.current = world.durable.clone();
        world.crash_at = None;
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.lock();
        let call = world.calls;
        world.calls += 1;
        match world.crash_at {
            Some(at) if call >= at => Err(io::Error::other("simulated crash")),
            _ => Ok(world),
        }
    }
}

fn write(rows: &mut Content, ops: &[TableOp]) {
    for op in ops {
        match &op.value {
            Some(value) => drop(rows.insert((op.bucket, op.key.clone()), value.clone())),
            None => drop(rows.remove(&(op.bucket, op.key.clone()))),
        }
    }
}

impl Table for SimTable {
    fn write(&mut self, ops: &[TableOp]) -> io::Result<()> {
        let mut world = self.enter()?;
        write(&mut world.current, ops);
        world.pending.push(ops.to_vec());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.enter()?;
        world.durable = world.current.clone();
        world.pending.clear();
        Ok(())
    }

    fn scan(&self, bucket: Bucket) -> Rows<'_> {
        match self.enter() {
            Ok(world) => {
                let rows = world.current.range((bucket, Bytes::new())..).take_while(|((of, _), _)| *of == bucket);
                let rows: Vec<_> = rows.map(|((_, key), value)| Ok((key.clone(), value.clone()))).collect();
                Box::new(rows.into_iter())
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self
            .enter()?
            .current
            .iter()
            .map(|((_, key), value)| (key.len() + value.len()) as u64)
            .sum())
    }

    fn defragment(&mut self) -> io::Result<()> {
        self.enter().map(drop)
    }
}
