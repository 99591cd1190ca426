//! How every bench is run, and for how long. Nothing here knows what is measured.

use std::time::Duration;

use criterion::Criterion;

/// Runs the benches of one file. Short, so that a change can be tried against all of them in minutes.
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
