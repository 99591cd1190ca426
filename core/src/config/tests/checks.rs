//! `--check-config`.

use super::super::Checked;
use super::*;

fn checked(outcome: Outcome) -> Checked {
    match outcome {
        Outcome::Check(checked) => checked,
        other => panic!("should be checked: {other:?}"),
    }
}

fn has_line(checked: &Checked, line: &str) {
    let found = checked.configuration.lines().any(|found| found == line);
    assert!(found, "{line} is not in\n{}", checked.configuration);
}

#[test]
fn a_right_configuration_is_shown_with_what_follows_from_it() {
    let line = [
        "--check-config",
        "--name=one",
        "--heartbeat-interval",
        "50",
        "--cert-file=/a.crt",
    ];
    let line = [
        &line[..],
        &["--auth-token=jwt,sign-method=RS256,pub-key=/p,priv-key=/q"],
    ]
    .concat();
    let checked = checked(outcome(&line, &[("ETCD_SNAPSHOT_COUNT", "7")]));
    assert_eq!(checked.problems, Vec::<String>::new());
    for line in [
        "--name=one",
        "--heartbeat-interval=50",
        "--election-timeout=1000",
        "--snapshot-count=7",
        "--data-dir=one.etcd",
        "--initial-cluster=one=http://localhost:2380",
    ] {
        has_line(&checked, line);
    }
    let has = |text: &str| checked.configuration.contains(text);
    assert!(!has("check-config") && !has("--experimental-"));
    let files = [("cert-file", "/a.crt"), ("auth-token", "/p"), ("auth-token", "/q")];
    assert_eq!(
        checked.files,
        files.map(|(flag, path)| (flag.to_owned(), path.to_owned()))
    );
}

#[test]
fn every_mistake_is_found_and_the_first_is_that_of_a_start() {
    let line = [
        "--nme=one",
        "--snapshot-count=x",
        "--logger=none",
        "--log-level=loud",
        "--heartbeat-interval=0",
        "--election-timeout=60000",
        "--listen-client-urls=http://localhost:2379",
        "--tls-min-version=TLS9",
        "--discovery-srv=example.com",
        "--auth-token=nonsense",
        "stray",
    ];
    let env = [
        ("ETCD_LOGGER", "zap"),
        ("ETCD_MAX_WALS", "many"),
        ("ETCD_NONSENSE", "1"),
    ];
    let found = checked(outcome(&[&line[..], &["--check-config"]].concat(), &env));
    let expected = [
        "flag provided but not defined: -nme",
        "invalid value \"x\" for flag -snapshot-count",
        "\"stray\" is not a valid flag",
        "ETCD_LOGGER is set, and so is its flag",
        "invalid value \"many\" for ETCD_MAX_WALS",
        "unknown logger option \"none\"",
        "unrecognized level: \"loud\"",
        "--heartbeat-interval must be >0",
        "--election-timeout[60000ms] is too long",
        "--advertise-client-urls is required",
        "unexpected TLS version \"TLS9\"",
        "nonsense",
        "--discovery-srv is not supported by this version",
    ];
    for (problem, begins) in found.problems.iter().zip(expected) {
        assert!(problem.contains(begins), "{problem:?} instead of {begins:?}");
    }
    assert_eq!(found.problems.len(), expected.len(), "{:?}", found.problems);
    let (_, first) = refused(outcome(&line, &env));
    assert_eq!(first, expected[0]);
}

#[test]
fn a_file_is_checked_whole() {
    let (args, env) = (words(&["--check-config", "--config-file=a.yml"]), BTreeMap::new());
    let invocation = Invocation {
        program: OsStr::new("quoin"),
        args: &args,
        env: &env,
        default_host: None,
        build: BUILD,
    };
    assert!(matches!(invocation.parse(), Outcome::NeedsFile { path } if path == "a.yml"));
    let text =
        "name: [1]\nheartbeat-interval: ten\nclient-transport-security: 7\nnmae: x\nmax-wals: 3\nlog-level: loud";
    let found = checked(invocation.with_file("a.yml", text.as_bytes()));
    assert_eq!(found.problems.len(), 4, "{:?}", found.problems);
    assert!(found.problems[3].contains("unrecognized level"));
    assert!(found.warnings[0].contains("did-you-mean: name"), "{:?}", found.warnings);
    has_line(&found, "--max-wals=3");
    let missing = checked(invocation.without_file("open a.yml: no such file or directory"));
    assert_eq!(missing.problems, ["open a.yml: no such file or directory"]);
}
