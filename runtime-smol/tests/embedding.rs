//! Tests of embedding that are specific to smol: the example, and the threads.

use quoin_runtime::clock::Clock;
use quoin_runtime_smol::SmolRuntime;

#[path = "../examples/embed_smol.rs"]
mod example;
#[path = "../../runtime/tests/support/workers.rs"]
mod workers;

#[test]
fn the_example_runs() {
    example::main().expect("the example runs to its end");
}

#[test]
fn a_runtime_that_is_dropped_ends_its_threads() {
    workers::end_with_their_runtime(SmolRuntime::start(Clock::new(), 2).expect("threads can be started"));
}
