//! Tests of serving for every runtime: a real loopback socket, a small client, and a member in the same process. A
//! runtime crate's test names its runtime with [`serving_tests`].

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

pub(crate) mod client;
pub(crate) mod embedding;
pub(crate) mod fair;
pub(crate) mod grpc;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod inline;
pub(crate) mod member;
pub(crate) mod raw;
pub(crate) mod streams;
pub(crate) mod users;

use std::net::SocketAddr;
use std::sync::Arc;

use quoin_core::config::{Config, Url};
use quoin_runtime::seam::{Address, Runtime, block_on};
use quoin_runtime::server::{Handle, Role, Server};

/// A server with an inline member.
pub(crate) struct World {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) handle: Handle,
    pub(crate) control: inline::Control,
    pub(crate) client: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

/// The configuration of a test: any free ports on loopback.
pub(crate) fn config() -> Config {
    let any = Url::parse_list("http://127.0.0.1:0").unwrap();
    Config {
        listen_client_urls: any.clone(),
        listen_metrics_urls: any,
        listen_peer_urls: Vec::new(),
        ..Config::with_defaults()
    }
}

impl World {
    /// Starts a server and waits until it serves.
    pub(crate) fn start(runtime: Arc<dyn Runtime>) -> Self {
        Self::start_with(runtime, &config())
    }

    /// The same with this configuration.
    pub(crate) fn start_with(runtime: Arc<dyn Runtime>, config: &Config) -> Self {
        Self::start_on(runtime, config, |_| {})
    }

    /// The same; `look` gets the handle before any request is made.
    pub(crate) fn start_on(runtime: Arc<dyn Runtime>, config: &Config, look: impl FnOnce(&Handle)) -> Self {
        let mut control = None;
        let member = |_: &_, clock, _: &_| {
            let (running, inline) = inline::start(clock);
            control = Some(inline);
            Ok(running)
        };
        let handle = Server::start_with(config.clone(), Arc::clone(&runtime), member).unwrap();
        block_on(handle.ready());
        look(&handle);
        let address = |role| handle.addresses(role).find_map(Address::tcp).unwrap();
        let (client, metrics) = (address(Role::Client), address(Role::Metrics));
        Self {
            runtime,
            control: control.unwrap(),
            client,
            metrics,
            handle,
        }
    }

    /// Stops the server and waits until it has stopped.
    pub(crate) fn stop(self) {
        block_on(self.handle.stop());
    }
}

/// Declares every test of serving for the runtime that `$start` makes.
#[macro_export]
macro_rules! serving_tests {
    ($start:expr) => {
        $crate::serving_tests! { $start;
            grpc: keys_are_written_read_compared_and_deleted, headers_have_the_member_the_term_and_the_revision,
                errors_have_etcds_code_and_text, alarms_are_checked_before_the_length_of_a_ttl,
                unknown_methods_are_refused, malformed_frames_are_refused,
                too_large_messages_are_refused, compression_is_answered_with_compression, a_deadline_is_kept,
                a_call_that_requires_a_leader_fails_without_one, a_learner_serves_only_serializable_reads_and_status,
                a_long_range_arrives_whole_at_a_slow_reader, many_calls_share_a_connection,
                a_range_of_many_keys_is_answered_like_any_other, a_backup_arrives_whole_at_a_slow_reader,
                status_and_member_list_describe_the_member, bytes_of_no_protocol_end_the_connection;
            fair: long_reads_leave_the_worker, a_txn_of_long_reads_leaves_the_worker_and_is_answered_whole,
                a_writing_txn_that_would_read_too_much_is_refused, long_answers_to_writes_arrive_whole,
                many_leases_and_keys_of_a_lease_leave_the_worker, heavy_writes_take_turns_and_lose_none,
                a_long_watch_response_arrives_whole, metrics_are_rendered_once_for_simultaneous_requests;
            hostile: odd_headers_are_served_as_in_etcd, bursts_of_cancelled_calls_do_not_end_a_watch_of_the_connection,
                a_flood_of_resets_ends_only_its_connection,
                the_bytes_of_incomplete_messages_of_a_connection_are_bounded,
                many_large_messages_at_once_all_arrive, max_concurrent_streams_0_means_unlimited,
                a_cancelled_call_frees_its_place, malformed_calls_get_etcds_codes,
                refusals_before_a_call_have_http_statuses, auth_calls_are_answered_as_in_etcd_while_auth_is_off;
            embedding: unix_sockets_serve_like_ports, a_start_that_fails_leaves_no_socket,
                a_free_port_is_advertised_as_it_was_bound, dropping_a_handle_ends_its_member;
            member: a_member_keeps_acknowledged_writes, a_table_that_lost_a_bucket_is_rebuilt_from_the_log;
            http: health_gives_the_reason_of_a_failure, a_stuck_thread_shows_in_every_check,
                livez_and_readyz_run_their_checks, the_version_is_served,
                other_paths_and_methods_are_refused, origins_and_hosts_are_checked, metrics_are_counted,
                debug_paths_answer_as_far_as_they_have_a_meaning, the_metrics_port_serves_nothing_else;
            streams: watchers_see_events_and_end, a_watch_survives_the_end_of_its_input, leases_are_kept_alive,
                the_health_stream_sends_its_state_and_stays_open, a_stream_ends_when_the_leader_is_lost,
                a_stopping_server_ends_streams_and_answers_calls, a_member_that_ends_is_reported,
                a_member_that_failed_is_not_waited_for;
            users: a_lock_is_as_permitted_as_its_user,
                a_user_is_known_by_its_token_in_either_header,
                a_watch_without_permission_is_refused_and_its_stream_goes_on;
        }
    };
    ($start:expr; $($module:ident: $($test:ident),*;)*) => {
        $($(
            #[test]
            fn $test() {
                $crate::support::$module::$test($start);
            }
        )*)*
    };
}
