//! Runs many seeds against one of ours, several at the same time, and sums the results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::{Report, Sides, run};
use crate::trouble::Trouble;

/// The largest number of differing scripts that are kept, because each takes minutes to shrink.
const MOST_SHOWN: usize = 5;

/// The seeds of a campaign.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Requests of each.
    pub requests: u64,
    /// How many are run at the same time.
    pub jobs: u64,
}

/// The results.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The sums over all seeds.
    pub total: Report,
    /// The seeds that were run: once a few differ, no further one is started.
    pub ran: BTreeSet<u64>,
    /// By seed, the scripts that differ, as commands of etcdctl.
    pub divergences: BTreeMap<u64, String>,
}

/// Runs the seeds; calls `progress` for each finished one.
///
/// # Errors
/// If a server cannot be started or reached.
///
/// # Panics
/// If there are no seeds.
pub fn campaign(seeds: Seeds, sides: &Sides, progress: &(dyn Fn(&Report) + Sync)) -> Result<Campaign, Trouble> {
    let next = AtomicU64::new(0);
    let done = Mutex::new(Vec::<Report>::new());
    let trouble = Mutex::new(None);
    let differing = |reports: &[Report]| reports.iter().filter(|report| report.divergence.is_some()).count();
    thread::scope(|scope| {
        for _ in 0..seeds.jobs.clamp(1, seeds.count.max(1)) {
            scope.spawn(|| {
                loop {
                    let seed = seeds.first + next.fetch_add(1, Ordering::Relaxed);
                    let is_enough = differing(&done.lock().expect("no seed panics")) >= MOST_SHOWN
                        || trouble.lock().expect("no seed panics").is_some();
                    if seed >= seeds.first + seeds.count || is_enough {
                        return;
                    }
                    match run(seed, seeds.requests, sides) {
                        Ok(report) => {
                            progress(&report);
                            done.lock().expect("no seed panics").push(report);
                        }
                        Err(error) => *trouble.lock().expect("no seed panics") = Some(error),
                    }
                }
            });
        }
    });
    if let Some(error) = trouble.into_inner().expect("no seed panics") {
        return Err(error);
    }
    let done = done.into_inner().expect("no seed panics");
    let ran = done.iter().map(|report| report.seed).collect();
    let mut divergences = BTreeMap::new();
    let mut total: Option<Report> = None;
    for report in done {
        if let Some(divergence) = &report.divergence {
            divergences.insert(report.seed, format!("QUOIN_SEED={}\n{divergence}", report.seed));
        }
        match &mut total {
            Some(total) => total.add(&report),
            None => total = Some(report),
        }
    }
    Ok(Campaign {
        total: total.expect("there was a seed"),
        ran,
        divergences,
    })
}
