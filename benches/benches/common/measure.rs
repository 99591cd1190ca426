//! The settings of every bench.

use std::time::Duration;

use criterion::Criterion;

/// The harness for the benches of one file. Runs are short, so that a change can be tried against all benches in
/// minutes.
pub(crate) fn run(benches: &[fn(&mut Criterion)]) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    for bench in benches {
        bench(&mut criterion);
    }
    criterion.final_summary();
}
