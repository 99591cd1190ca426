//! Tests of a whole process for every runtime: the program's own `main` runs in a child process of this test binary.
//!
//! A program for users cannot be made to misbehave. The child can: each of its log lines passes a [`trap`], which
//! panics or hangs on the thread that the test names. A runtime crate's test names its runtime with [`process_tests`].

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "a process is watched by real time, and started by its environment"
)]

pub(crate) mod alarms;
pub(crate) mod member;
pub(crate) mod panics;
pub(crate) mod signals;
pub(crate) mod stuck;
pub(crate) mod trap;

/// Declares every test of a process for the runtime that `$start` makes, and that `$host` makes together with its
/// signals.
#[macro_export]
macro_rules! process_tests {
    ($start:expr, $host:expr) => {
        $crate::process_tests! { $start;
            panics: a_panic_of_the_node_ends_the_process, a_panic_of_the_log_lane_ends_the_process,
                a_panic_of_the_table_lane_ends_the_process, a_panic_of_the_watch_thread_ends_the_process,
                a_panic_of_fjalls_own_thread_ends_the_process, a_panic_of_a_call_ends_only_that_call,
                a_panic_of_a_hash_ends_only_that_hash, an_error_names_the_file_and_the_errno;
            alarms: alarms_are_logged;
            signals: a_second_process_says_what_it_waits_for_and_obeys_signals, a_slow_start_obeys_signals,
                signals_that_etcd_ignores_are_ignored;
            stuck: a_stuck_log_shows_in_every_check, a_stuck_table_fails_health;
        }

        /// The child process of the other tests; it does nothing unless they start it.
        #[test]
        #[ignore = "started by the other tests, as their child"]
        fn child() {
            process::member::be_the_child($host);
        }
    };
    ($start:expr; $($module:ident: $($test:ident),*;)*) => {
        $($(
            #[test]
            fn $test() {
                process::$module::$test($start);
            }
        )*)*
    };
}
