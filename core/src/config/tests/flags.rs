//! The command line by Go's rules, and the effects of flags.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::flag::{Disposition, Flag, Kind, Value};
use super::super::table::{FLAGS, find};
use super::super::{AllowList, AutoCompaction, ClusterState, Config, Gate, Keepalive, LogFormat, LogLevel, LogOutput};
use super::{Outcome, outcome, refused, run, warnings};
use crate::config::gotext::quote;
use crate::version::Version;

#[test]
fn every_default_of_the_table_is_a_value_of_its_kind() {
    for flag in FLAGS {
        let value = flag.default_value();
        // An empty default is not parsed: etcd's lists would read it as a list with one empty text.
        let text = Some(value.to_text()).filter(|text| !text.is_empty());
        let again = text.map_or_else(|| Ok(flag.default_value()), |text| flag.parse(&text, None));
        assert_eq!(again.as_ref(), Ok(&value), "--{}", flag.name);
    }
}

#[test]
fn names_are_unique_and_other_spellings_have_their_flag() {
    let names = FLAGS.iter().map(|flag| flag.name).collect::<BTreeSet<_>>();
    assert_eq!(names.len(), FLAGS.len());
    for flag in FLAGS {
        if let Disposition::AliasOf(new) = flag.disposition {
            let target = find(new).unwrap_or_else(|| panic!("--{} leads nowhere", flag.name));
            assert_eq!(target.kind, flag.kind, "--{}", flag.name);
            assert!(
                !matches!(target.disposition, Disposition::AliasOf(_)),
                "--{}",
                flag.name
            );
        }
        if matches!(flag.disposition, Disposition::GateOf(_)) {
            assert_eq!(flag.kind, Kind::Bool, "--{}", flag.name);
        }
    }
}

/// Flags that etcd does not have.
const OURS: [&str; 2] = ["check-config", "max-cluster-version"];

/// Every flag of etcd 3.4 to 3.8.
#[test]
fn every_flag_of_etcd_is_known() {
    let known = include_str!("etcd_flags.txt")
        .split_whitespace()
        .collect::<BTreeSet<_>>();
    let ours = FLAGS.iter().map(|flag| flag.name).collect::<BTreeSet<_>>();
    assert_eq!(
        known.difference(&ours).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "missing"
    );
    assert_eq!(ours.difference(&known).copied().collect::<Vec<_>>(), OURS, "invented");
}

#[test]
fn the_highest_cluster_version_is_one_that_this_program_knows() {
    let version = |line: &[&str]| run(line).0.max_cluster_version.map(|version| version.to_string());
    assert_eq!(version(&[]), None);
    assert_eq!(version(&["--max-cluster-version=auto"]), None);
    assert_eq!(version(&["--max-cluster-version=3.5"]).as_deref(), Some("3.5.0"));
    let own = Version::own_minor();
    let newest = format!("--max-cluster-version={}.{}", own.major, own.minor);
    assert_eq!(version(&[&newest]), Some(own.to_string()));
    for text in ["3.4", "3.7", "3.5.0", ""] {
        let given = format!("--max-cluster-version={text}");
        let (exit, why) = refused(outcome(&[&given], &[]));
        assert!(exit != 0 && why.contains("max-cluster-version"), "{why}");
    }
}

/// A value other than the default, if the flag accepts one.
fn another_value(flag: &Flag) -> Option<&'static str> {
    Some(match flag.kind {
        Kind::Bool => match flag.default_value() {
            Value::Bool(true) => "false",
            _ => "true",
        },
        Kind::Duration => "7s",
        Kind::Gates => "LeaseCheckpoint=true",
        Kind::Uint if flag.name == "election-timeout" => "700",
        Kind::Int | Kind::Uint | Kind::Uint32 => "7",
        Kind::Legacy => "x",
        Kind::List if flag.name == "cipher-suites" => "TLS_AES_128_GCM_SHA256",
        Kind::List | Kind::Set => "x",
        Kind::OneOf(words) | Kind::SomeOf(words) => words.last().copied()?,
        Kind::Urls | Kind::UrlsOrAny => "http://127.0.0.1:7",
        Kind::Text => match flag.name {
            "log-level" => "debug",
            "log-rotation-config-json" => "{\"maxsize\": 1}",
            "log-format" => "console",
            "auto-compaction-mode" => "revision",
            "auto-compaction-retention" => "7",
            "tls-min-version" => "TLS1.3",
            "tls-max-version" => "TLS1.2",
            "initial-cluster" => "default=http://127.0.0.1:7",
            "metrics" => "extensive",
            "config-file" | "logger" | "auth-token" => return None,
            _ => "x",
        },
    })
}

/// A command line with this one flag, and the flags it requires.
fn line_with<'a>(flag: &Flag, given: &'a str) -> Vec<&'a str> {
    let mut line = vec!["--auto-compaction-retention=5", given];
    match flag.name {
        "listen-client-urls" => line.push("--advertise-client-urls=http://localhost:2379"),
        "enable-log-rotation" => line.push("--log-outputs=etcd.log"),
        "log-rotation-config-json" => line.extend(["--enable-log-rotation", "--log-outputs=etcd.log"]),
        "experimental-enable-lease-checkpoint-persist" => line.push("--experimental-enable-lease-checkpoint"),
        _ => {}
    }
    line
}

#[test]
fn a_flag_has_an_effect_or_a_notice_that_it_has_none() {
    let (plain, quiet) = run(&["--auto-compaction-retention=5"]);
    for flag in FLAGS
        .iter()
        .filter(|flag| !matches!(flag.name, "check-config" | "version" | "discovery-fallback"))
    {
        let Some(value) = another_value(flag) else { continue };
        let given = format!("--{}={value}", flag.name);
        let line = line_with(flag, &given);
        let outcome = outcome(&line, &[]);
        if let Disposition::Refused(_) = flag.disposition {
            let (exit, why) = refused(outcome);
            assert_eq!(exit, 1);
            assert!(why.contains(flag.name) || why.contains("discovery"), "{given}: {why}");
            continue;
        }
        let (config, notices) = super::accepted(&line, outcome);
        match flag.disposition {
            Disposition::Silent => assert_eq!((&config, notices.len()), (&plain, quiet.len()), "{given}"),
            Disposition::Accepted(why) => {
                assert!(
                    warnings(&notices).contains(&format!("--{} {why}", flag.name)),
                    "{given}"
                );
            }
            _ => {
                let said = warnings(&notices)
                    .iter()
                    .any(|line| line.contains("has no effect") || line.contains("applies only to"));
                assert!(config != plain || said, "{given} changed nothing");
            }
        }
    }
}

#[test]
fn flags_can_be_written_in_every_way_that_go_accepts() {
    for line in [
        &["--name=a"][..],
        &["-name=a"],
        &["--name", "a"],
        &["-name", "a"],
        &["--name=b", "--name=a"],
        &["--name", "a", "--"],
        &["--force-new-cluster=false", "--name=a"],
    ] {
        assert_eq!(run(line).0.name, "a", "{line:?}");
    }
    assert_eq!(run(&["--name="]).0.name, "");
    assert_eq!(run(&["--name=x=y"]).0.name, "x=y");
    for line in ["--pre-vote=false", "--pre-vote=0", "-pre-vote=F", "--pre-vote=False"] {
        assert!(!run(&[line]).0.pre_vote, "{line}");
    }
    assert!(run(&["--force-new-cluster"]).0.force_new_cluster);
    assert_eq!(run(&["--max-txn-ops=0x10"]).0.max_txn_ops, 16);
}

/// A list of URLs that is set a second time, to the empty text or to one of its URLs, stays unchanged, as in etcd.
#[test]
fn a_flag_given_twice_has_its_last_value() {
    let two = "--listen-peer-urls=http://127.0.0.1:1,http://127.0.0.1:2";
    for (again, urls) in [
        ("--listen-peer-urls=http://127.0.0.1:3", "http://127.0.0.1:3"),
        ("--listen-peer-urls=", "http://127.0.0.1:1,http://127.0.0.1:2"),
        (
            "--listen-peer-urls=http://127.0.0.1:2",
            "http://127.0.0.1:1,http://127.0.0.1:2",
        ),
    ] {
        assert_eq!(
            super::super::join_urls(&run(&[two, again]).0.listen_peer_urls),
            urls,
            "{again}"
        );
    }
    assert_eq!(
        run(&["--listen-peer-urls="]).0.listen_peer_urls,
        Config::with_defaults().listen_peer_urls
    );
    assert!(!run(&["--host-whitelist="]).0.host_whitelist.allows("localhost"));
}

#[test]
fn a_command_line_that_cannot_be_read_is_exit_code_2() {
    for (line, error) in [
        (&["--nope"][..], "flag provided but not defined: -nope"),
        (&["-nope=1"], "flag provided but not defined: -nope"),
        (&["---name"], "bad flag syntax: ---name"),
        (&["--=a"], "bad flag syntax: --=a"),
        (&["--name"], "flag needs an argument: -name"),
        (
            &["--pre-vote=maybe"],
            "invalid boolean value \"maybe\" for -pre-vote: parse error",
        ),
        (
            &["--heartbeat-interval=abc"],
            "invalid value \"abc\" for flag -heartbeat-interval: parse error",
        ),
        (
            &["--heartbeat-interval=-1"],
            "invalid value \"-1\" for flag -heartbeat-interval: parse error",
        ),
        (
            &["--snapshot-count", "18446744073709551616"],
            "invalid value \"18446744073709551616\" for flag -snapshot-count: value out of range",
        ),
        (
            &["--quota-backend-bytes=1.5"],
            "invalid value \"1.5\" for flag -quota-backend-bytes: parse error",
        ),
        (
            &["--corrupt-check-time=5"],
            "invalid value \"5\" for flag -corrupt-check-time: parse error",
        ),
        (
            &["--max-concurrent-streams=4294967296"],
            "invalid value \"4294967296\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \"4294967296\": \
             value out of range",
        ),
        (
            &["--initial-cluster-state=old"],
            "invalid value \"old\" for flag -initial-cluster-state: invalid value",
        ),
        (
            &["--listen-client-urls=127.0.0.1:2379"],
            "invalid value \"127.0.0.1:2379\" for flag -listen-client-urls: parse \"127.0.0.1:2379\": first path \
             segment in URL cannot contain colon",
        ),
        (
            &["--listen-peer-urls", "localhost:2380"],
            "invalid value \"localhost:2380\" for flag -listen-peer-urls: URL scheme must be http, https, unix, or \
             unixs: localhost:2380",
        ),
        (
            &["--feature-gates=Nope=true"],
            "invalid value \"Nope=true\" for flag -feature-gates: unrecognized feature gate: Nope",
        ),
        (
            &["--v2-deprecation=never"],
            "invalid value \"never\" for flag -v2-deprecation: invalid value \"never\"",
        ),
    ] {
        assert_eq!(refused(outcome(line, &[])), (2, error.to_owned()), "{line:?}");
    }
}

#[test]
fn bad_flags_print_the_usage_and_nothing_else() {
    let Outcome::Refuse(refusal) = outcome(&["--nope"], &[]) else {
        panic!("--nope was taken")
    };
    let lines = refusal.stderr.lines().take(4).collect::<Vec<_>>();
    assert_eq!(
        lines,
        ["flag provided but not defined: -nope", "Usage:", "", "  quoin [flags]"]
    );
    let Outcome::Refuse(refusal) = outcome(&["--listen-client-url=http://127.0.0.1:0"], &[]) else {
        panic!("a mistyped flag was taken")
    };
    let hint = refusal.stderr.lines().nth(1);
    assert_eq!(hint, Some("Did you mean --listen-client-urls?"));
}

#[test]
fn an_argument_that_is_no_flag_is_exit_code_1() {
    for (line, arg) in [
        (&["start"][..], "start"),
        (&["--name=a", "b"], "b"),
        (&["--", "--name"], "--name"),
        (&["-"], "-"),
    ] {
        assert_eq!(
            refused(outcome(line, &[])),
            (1, format!("{} is not a valid flag", quote(arg))),
            "{line:?}"
        );
    }
    // A boolean flag takes no separate word as its value.
    assert_eq!(
        refused(outcome(&["--pre-vote", "false"], &[])).1,
        "\"false\" is not a valid flag"
    );
    assert_eq!(
        refused(outcome(&["help"], &[])).1,
        "\"help\" is not a valid flag; did you mean --help?"
    );
    assert_eq!(
        refused(outcome(&["gateway", "start"], &[])).1,
        "the command gateway is not supported by this version"
    );
}

#[test]
fn help_and_version_are_printed_without_an_error() {
    for line in [&["-h"][..], &["--help"], &["--name=a", "-help"]] {
        let Outcome::Print { stdout, stderr } = outcome(line, &[]) else {
            panic!("{line:?}")
        };
        assert_eq!(stderr, "");
        let first = stdout.lines().next().unwrap();
        assert!(first.starts_with("Quoin 0.1.0: an etcd v3 server"), "{first}");
        for text in [
            "\nUsage:\n\n  quoin [flags]\n",
            // envtest looks for this line.
            "\n  --unsafe-no-fsync ",
            "In this version it has no effect: the store is not bbolt.",
            "\nMember:\n  --name 'default'\n",
            "\nUnsafe feature:\n",
            "--data-dir '${name}.etcd'",
        ] {
            assert!(stdout.contains(text), "{text}");
        }
        for flag in FLAGS.iter().filter(|flag| flag.kind != Kind::Legacy) {
            assert!(stdout.contains(&format!("  --{} '", flag.name)), "--{}", flag.name);
        }
    }
    let version = "etcd Version: 3.6.5 (Quoin 0.1.0)\nGit SHA: abc1234\nGo Version: none (rustc 1.95.0)\nGo OS/Arch: linux/amd64\n";
    let Outcome::Print { stdout, stderr } = outcome(&["--version", "--heartbeat-interval=0"], &[]) else {
        panic!()
    };
    assert_eq!((stdout.as_str(), stderr.as_str()), (version, ""));
    assert_eq!(refused(outcome(&["--version", "--nope"], &[])).0, 2);
}

#[test]
fn a_member_without_settings_has_etcds_defaults() {
    let (config, notices) = run(&[]);
    assert_eq!(config, Config::with_defaults());
    assert_eq!(config.data_dir, "default.etcd");
    assert_eq!(config.initial_cluster, "default=http://localhost:2380");
    assert_eq!(
        (config.election_ticks(), config.snapshot_count, config.max_txn_ops),
        (10, 10_000, 128)
    );
    assert_eq!(config.max_request_bytes, 1_572_864);
    assert_eq!(config.quota_backend_bytes, Some(2_147_483_648));
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    let keepalive = Keepalive {
        interval: Duration::from_secs(7_200),
        timeout: Duration::from_secs(20),
    };
    assert_eq!(config.grpc_keepalive, Some(keepalive));
    assert_eq!((config.cors, config.host_whitelist), (AllowList::Any, AllowList::Any));
    assert_eq!((config.log.level, config.log.format), (LogLevel::Info, LogFormat::Json));
    let texts = warnings(&notices);
    assert_eq!(texts[0], "'data-dir' was empty; using default");
    assert!(
        texts[1].starts_with("it isn't recommended to use default name"),
        "{texts:?}"
    );
    assert_eq!(texts.len(), 2);
}

#[test]
fn omitted_settings_are_derived_from_others() {
    let named = run(&["--name=a"]).0;
    assert_eq!(
        (named.initial_cluster.as_str(), named.data_dir.as_str()),
        ("a=http://localhost:2380", "a.etcd")
    );
    let moved = run(&[
        "--name=a",
        "--initial-advertise-peer-urls=http://10.0.0.1:1,http://10.0.0.2:2",
    ])
    .0;
    assert_eq!(moved.initial_cluster, "a=http://10.0.0.1:1,a=http://10.0.0.2:2");
    // etcd gives the default cluster to the default name; bootstrap then reports the mismatch.
    let nameless = run(&["--initial-advertise-peer-urls=http://10.0.0.1:1"]).0;
    assert_eq!(nameless.initial_cluster, "default=http://localhost:2380");
    let zeros = run(&[
        "--snapshot-count=0",
        "--snapshot-catchup-entries=0",
        "--compaction-batch-limit=0",
        "--backend-batch-interval=0",
        "--warning-unary-request-duration=0",
        "--watch-progress-notify-interval=0",
    ]);
    assert_eq!(zeros.0, Config::with_defaults());
    let raised = run(&["--raft-read-timeout=1s"]);
    assert_eq!(raised.0.raft_read_timeout, Duration::from_secs(5));
    assert!(
        raised
            .1
            .iter()
            .any(|notice| notice.msg == "raft-read-timeout increased to minimum value: 5s")
    );
}

#[test]
fn a_member_that_listens_on_every_address_advertises_the_default_host() {
    let host = |line: &[&str]| {
        let (args, env) = (super::words(line), super::variables(&[]));
        let invocation = super::Invocation {
            program: std::ffi::OsStr::new("quoin"),
            args: &args,
            env: &env,
            default_host: Some("10.1.2.3"),
            build: super::BUILD,
        };
        let (config, notices) = super::accepted(line, invocation.parse());
        let told = notices
            .iter()
            .any(|notice| notice.msg == "detected default host for advertise");
        let urls =
            [&config.advertise_peer_urls, &config.advertise_client_urls].map(|urls| super::super::join_urls(urls));
        (urls, config.initial_cluster, told)
    };
    let ([peer, client], cluster, told) = host(&[
        "--name=a",
        "--listen-peer-urls=http://0.0.0.0:1",
        "--listen-client-urls=http://0.0.0.0:2",
        "--advertise-client-urls=http://localhost:2379",
    ]);
    assert_eq!(
        (peer.as_str(), client.as_str(), told),
        ("http://10.1.2.3:1", "http://10.1.2.3:2", true)
    );
    assert_eq!(cluster, "a=http://10.1.2.3:1");
    let ([peer, _], _, told) = host(&[
        "--listen-peer-urls=http://0.0.0.0:1",
        "--initial-advertise-peer-urls=http://h:1",
    ]);
    assert_eq!((peer.as_str(), told), ("http://h:1", false));
    assert!(!host(&["--listen-peer-urls=http://127.0.0.1:1"]).2);
}

#[test]
fn values_reach_the_configuration() {
    let config = run(&[
        "--listen-client-urls=http://127.0.0.1:0,http://[::1]:0,unix:///run/q.sock",
        "--advertise-client-urls=http://h:1",
        "--listen-client-http-urls=http://localhost:0",
        "--initial-cluster-state=existing",
        "--quota-backend-bytes=-1",
        "--grpc-keepalive-interval=0",
        "--grpc-keepalive-min-time=0s",
        "--cors=http://b:1,http://a:1",
        "--host-whitelist=a,b",
        "--log-outputs=stderr,etcd.log",
        "--log-level=WARN",
        "--log-format=console",
        "--metrics=extensive",
        "--wal-dir=w",
        "--corrupt-check-time=1h",
        "--feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=true",
        "--experimental-compact-hash-check-enabled",
    ])
    .0;
    assert_eq!(config.listen_client_urls.len(), 3);
    assert_eq!(config.listen_client_urls[0].port(), Some(0));
    assert_eq!(config.initial_cluster_state, ClusterState::Existing);
    assert_eq!(
        (
            config.quota_backend_bytes,
            config.grpc_keepalive,
            config.grpc_keepalive_min_time
        ),
        (None, None, Duration::from_mins(5))
    );
    assert!(config.cors.allows("http://a:1") && !config.cors.allows("http://c:1"));
    assert!(config.host_whitelist.allows("b") && !config.host_whitelist.allows("c"));
    let outputs = [LogOutput::File("etcd.log".into()), LogOutput::Stderr];
    assert_eq!(
        (config.log.level, config.log.format, config.log.outputs),
        (LogLevel::Warn, LogFormat::Console, outputs.into())
    );
    assert!(config.extensive_metrics);
    assert_eq!(
        (config.wal_dir.as_deref(), config.corrupt_check_time),
        (Some("w"), Some(Duration::from_secs(3_600)))
    );
    for gate in [Gate::InitialCorruptCheck, Gate::LeaseCheckpoint, Gate::CompactHashCheck] {
        assert!(config.feature_gates.enabled(gate), "{gate:?}");
    }
}

#[test]
fn retention_is_a_number_of_hours_a_duration_or_a_number_of_revisions() {
    let hours = |n: u64| AutoCompaction::Periodic(Duration::from_secs(n * 3_600));
    for (mode, retention, compaction) in [
        ("periodic", "0", AutoCompaction::Off),
        ("periodic", "", AutoCompaction::Off),
        ("periodic", "1", hours(1)),
        ("periodic", "12h", hours(12)),
        ("periodic", "30m", AutoCompaction::Periodic(Duration::from_secs(1_800))),
        ("revision", "0", AutoCompaction::Off),
        ("revision", "1000", AutoCompaction::Revision(1_000)),
        ("", "1000", AutoCompaction::Off),
    ] {
        let retention_flag = format!("--auto-compaction-retention={retention}");
        let mode_flag = format!("--auto-compaction-mode={mode}");
        let config = run(&[&retention_flag, &mode_flag]).0;
        assert_eq!(config.auto_compaction, compaction, "{mode} {retention}");
    }
}

#[test]
fn older_spellings_set_the_same_fields() {
    for (old, new) in [
        (
            "--experimental-watch-progress-notify-interval=5s",
            "--watch-progress-notify-interval=5s",
        ),
        (
            "--experimental-initial-corrupt-check",
            "--feature-gates=InitialCorruptCheck=true",
        ),
        (
            "--experimental-initial-corrupt-check=false",
            "--feature-gates=InitialCorruptCheck=false",
        ),
        (
            "--experimental-txn-mode-write-with-shared-buffer=false",
            "--feature-gates=TxnModeWriteWithSharedBuffer=false",
        ),
        ("--log-output=stdout", "--log-outputs=stdout"),
        ("--debug", "--log-level=debug"),
    ] {
        assert_eq!(run(&[old]).0, run(&[new]).0, "{old}");
    }
    for flag in FLAGS {
        let (Disposition::AliasOf(new), Some(value)) = (flag.disposition, another_value(flag)) else {
            continue;
        };
        let (old_flag, new_flag) = (format!("--{}={value}", flag.name), format!("--{new}={value}"));
        let (config, notices) = run(&[&old_flag]);
        assert_eq!(config, run(&[&new_flag]).0, "{old_flag}");
        let told = format!("--{} is another spelling of --{new}; use --{new}", flag.name);
        assert!(warnings(&notices).contains(&told), "{old_flag}");
    }
}
