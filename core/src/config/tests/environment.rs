//! The effects of environment variables.

use super::super::notice::{Level, Notice};
use super::super::{Outcome, Refusal};
use super::{accepted, outcome, refused};

fn line(notice: &Notice) -> String {
    let fields = notice.fields.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{:?} {}{}", notice.level, notice.msg, fields.collect::<String>())
}

#[test]
fn a_variable_sets_its_flag() {
    let env = [
        ("ETCD_NAME", "a"),
        ("ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", "true"),
        ("ETCD_DATA_DIR", "d"),
    ];
    let (config, notices) = accepted(&[], outcome(&[], &env));
    assert_eq!((config.name.as_str(), config.data_dir.as_str()), ("a", "d"));
    assert!(config.feature_gates.enabled(super::super::Gate::InitialCorruptCheck));
    let used = notices
        .iter()
        .map(line)
        .filter(|line| line.contains("recognized and used"))
        .collect::<Vec<_>>();
    assert_eq!(
        used,
        [
            "Info recognized and used environment variable variable-name=ETCD_DATA_DIR variable-value=d",
            "Info recognized and used environment variable variable-name=ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK \
             variable-value=true",
            "Info recognized and used environment variable variable-name=ETCD_NAME variable-value=a",
        ]
    );
}

#[test]
fn a_listen_variable_needs_its_advertise_variable_too() {
    let listen = ("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:0");
    let why = "--advertise-client-urls is required when --listen-client-urls is set explicitly";
    assert_eq!(refused(outcome(&[], &[listen])), (1, why.to_owned()));
    accepted(&[], outcome(&["--advertise-client-urls=http://h:1"], &[listen]));
}

#[test]
fn unknown_variables_are_reported() {
    let env = [
        ("ETCD_PORT", "tcp://10.0.0.1:2379"),
        ("ETCD_WAL_DIR", ""),
        ("ETCD_WAL_DIRS", "x"),
        ("ETCDCTL_API", "3"),
        ("PATH", "/bin"),
    ];
    let (_, notices) = accepted(&[], outcome(&[], &env));
    let unknown = notices
        .iter()
        .map(line)
        .filter(|line| line.contains("unrecognized"))
        .collect::<Vec<_>>();
    assert_eq!(
        unknown,
        [
            "Warn unrecognized environment variable environment-variable=ETCD_PORT=tcp://10.0.0.1:2379",
            "Warn unrecognized environment variable environment-variable=ETCD_WAL_DIR=",
            "Warn unrecognized environment variable environment-variable=ETCD_WAL_DIRS=x did-you-mean=ETCD_WAL_DIR",
        ]
    );
}

#[test]
fn flag_and_variable_together_are_fatal() {
    for value in ["b", ""] {
        let Outcome::Refuse(Refusal { exit, stderr, notices }) = outcome(&["--name=a"], &[("ETCD_NAME", value)]) else {
            panic!("both were taken")
        };
        assert_eq!((exit, stderr.as_str()), (1, ""));
        let last = notices.last().unwrap();
        assert_eq!(last.level, Level::Fatal);
        assert_eq!(
            line(last),
            "Fatal conflicting environment variable is shadowed by corresponding command-line flag (either unset \
             environment variable or disable flag)) environment-variable=ETCD_NAME"
        );
    }
}

#[test]
fn a_bad_value_is_named_with_its_variable() {
    for (variable, value, why) in [
        (
            "ETCD_HEARTBEAT_INTERVAL",
            "x",
            "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error",
        ),
        (
            "ETCD_PRE_VOTE",
            "maybe",
            "invalid value \"maybe\" for ETCD_PRE_VOTE: parse error",
        ),
        (
            "ETCD_INITIAL_CLUSTER_STATE",
            "x",
            "invalid value \"x\" for ETCD_INITIAL_CLUSTER_STATE: invalid value",
        ),
    ] {
        assert_eq!(refused(outcome(&[], &[(variable, value)])), (1, why.to_owned()));
    }
}

#[test]
fn the_variable_etcd_version_is_no_version_flag() {
    let (_, notices) = accepted(&[], outcome(&[], &[("ETCD_VERSION", "3.5.1"), ("ETCD_VERIFY", "all")]));
    let lines = notices
        .iter()
        .map(line)
        .filter(|line| line.contains("ETCD_VER"))
        .collect::<Vec<_>>();
    assert_eq!(
        lines,
        ["Warn cannot set special environment variable key=ETCD_VERSION value=3.5.1"]
    );
}

#[test]
fn a_file_replaces_flags_and_environment() {
    let asked = |path: &str| Outcome::NeedsFile { path: path.to_owned() };
    assert_eq!(
        outcome(&[], &[("ETCD_CONFIG_FILE", "a.yml"), ("ETCD_NAME", "x")]),
        asked("a.yml")
    );
    assert_eq!(
        outcome(&["--config-file=b.yml", "--heartbeat-interval=0"], &[]),
        asked("b.yml")
    );
    // Flag and variable conflict only if variables are read at all.
    assert_eq!(
        outcome(&["--config-file=b.yml"], &[("ETCD_CONFIG_FILE", "a.yml")]),
        asked("b.yml")
    );
}
