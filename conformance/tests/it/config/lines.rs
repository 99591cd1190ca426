//! Command lines and environments: Go's syntax of flags, repeated flags, precedence.

use std::ffi::OsString;

use super::{Case, bytes};

/// Ports are chosen by the system, so that servers can run at the same time.
const PLACE: &[&str] = &[
    "--data-dir=d",
    "--listen-client-urls=http://127.0.0.1:0",
    "--advertise-client-urls=http://127.0.0.1:1",
    "--listen-peer-urls=http://127.0.0.1:0",
];

/// Arguments after [`PLACE`] that have the same result in both servers.
const SAME: &[&[&str]] = &[
    &[],
    &["--name=a"],
    &["-name=a"],
    &["--name", "a"],
    &["-name", "a"],
    &["--name", "--heartbeat-interval"],
    &["--name=a", "--name=b"],
    &["--name=a=b"],
    &["--name="],
    &["--name"],
    &["---name=a"],
    &["--=a"],
    &["-"],
    &["--", "x"],
    &["--"],
    &["help"],
    &["--NAME=a"],
    &["--no-such-flag"],
    &["--listen-client-url=http://127.0.0.1:0"],
    &["--pre-vote"],
    &["--pre-vote=false"],
    &["--pre-vote=F"],
    &["--pre-vote=no"],
    &["--pre-vote", "false"],
    &["--pre-vote="],
    &["--heartbeat-interval=0x32"],
    &["--heartbeat-interval=5_0"],
    &["--heartbeat-interval=1e2"],
    &["--heartbeat-interval=-1"],
    &["--heartbeat-interval="],
    &["--quota-backend-bytes=8.589934592e+09"],
    &["--quota-backend-bytes=20_000_000"],
    &["--quota-backend-bytes=-5"],
    &["--max-concurrent-streams=4294967296"],
    &["--experimental-corrupt-check-time=5"],
    &["--experimental-corrupt-check-time=1.5h30m"],
    &["--auto-compaction-mode="],
    &["--auto-compaction-mode=", "--auto-compaction-retention=5"],
    &["--auto-compaction-mode=", "--auto-compaction-retention=1h"],
    &["--auto-compaction-mode=revision", "--auto-compaction-retention=5"],
    &["--auto-compaction-retention=+5"],
    &["--auto-compaction-retention=5d"],
    &["--auto-compaction-retention="],
    &["--listen-peer-urls="],
    &[
        "--listen-peer-urls=http://127.0.0.1:0,http://[::1]:0",
        "--listen-peer-urls=http://127.0.0.1:0",
    ],
    &["--listen-metrics-urls=http://127.0.0.1:0,http://127.0.0.1:0"],
    &["--listen-metrics-urls=127.0.0.1:0"],
    &["--listen-metrics-urls=http://127.0.0.1"],
    &["--cors="],
    &["--cors=*"],
    &["--cors=http://b:1,http://a:1"],
    &["--host-whitelist="],
    &["--host-whitelist=b,a,b"],
    &["--log-outputs=stderr,stdout"],
    &["--log-outputs=default,stdout"],
    &["--initial-cluster-state=old"],
    &["--initial-cluster-state="],
    &["--enable-v2"],
    &["--enable-v2=true"],
    &["--proxy=sometimes"],
    &["--wal-dir=w", "--wal-dir=x"],
    &["--v=5"],
    &["--snapshot"],
    &["--config-file=missing.yml"],
    &["--config-file=."],
];

/// Variables, with arguments after [`PLACE`].
type Variables = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const VARIABLES: &[Variables] = &[
    (&[("ETCD_NAME", "a")], &[]),
    (&[("ETCD_NAME", "a")], &["--name=b"]),
    (&[("ETCD_NAME", "")], &["--name=b"]),
    (&[("ETCD_NAME", "")], &[]),
    (&[("etcd_name", "a")], &[]),
    (&[("ETCD_NO_SUCH", "a"), ("ETCDCTL_API", "3")], &[]),
    (&[("ETCD_PRE_VOTE", "no")], &[]),
    (&[("ETCD_PRE_VOTE", "0")], &[]),
    (&[("ETCD_HEARTBEAT_INTERVAL", "50")], &[]),
    (&[("ETCD_HEARTBEAT_INTERVAL", "50 ")], &[]),
    (&[("ETCD_QUOTA_BACKEND_BYTES", "0x1000000")], &[]),
    (&[("ETCD_VERSION", "3.5.0")], &[]),
    (&[("ETCD_CONFIG_FILE", "missing.yml")], &[]),
    (
        &[("ETCD_AUTO_COMPACTION_RETENTION", "5")],
        &["--auto-compaction-mode=revision"],
    ),
];

/// Every command line and environment.
pub(crate) fn cases() -> Vec<Case> {
    let line = |args: &[&str]| PLACE.iter().chain(args).map(OsString::from).collect::<Vec<_>>();
    let case = |args: Vec<OsString>, env: Vec<(OsString, OsString)>, file: Option<&str>, differs| Case {
        file: file.map(|text| text.as_bytes().to_vec()),
        args,
        env,
        differs,
    };
    let text =
        "data-dir: d\nlisten-client-urls: http://127.0.0.1:0\nlisten-peer-urls: http://127.0.0.1:0\nname: filed\n";
    let mut all = SAME
        .iter()
        .map(|args| case(line(args), Vec::new(), None, None))
        .collect::<Vec<_>>();
    for (env, args) in VARIABLES {
        let env = env.iter().map(|(key, value)| (key.into(), value.into())).collect();
        all.push(case(line(args), env, None, None));
    }
    // With a file the flags have no effect, but they are still parsed, so an unreadable one is refused.
    let variable = |value: &str| vec![(OsString::from("ETCD_NAME"), OsString::from(value))];
    all.push(case(
        line(&["--name=flagged", "--heartbeat-interval=0"]),
        Vec::new(),
        Some(text),
        None,
    ));
    all.push(case(line(&["--name=flagged"]), variable("set"), Some(text), None));
    all.push(case(line(&["--heartbeat-interval=x"]), Vec::new(), Some(text), None));
    all.push(case(line(&["word"]), Vec::new(), Some(text), None));
    // Bytes that are not UTF-8.
    let odd = |name: &str| vec![(OsString::from(name), bytes(b"a\xff"))];
    all.push(case(line(&[]), odd("LC_ODD"), None, None));
    all.push(case(line(&[]), vec![(bytes(b"\xfe"), bytes(b"\xff"))], None, None));
    all.push(case(line(&[]), odd("ETCD_ODD"), None, None));
    let names = Some("etcd takes any bytes as a name or path; ours are text");
    all.push(case(line(&[]), odd("ETCD_NAME"), None, names));
    all.push(case(
        [line(&[]), vec![bytes(b"--name=a\xff")]].concat(),
        Vec::new(),
        None,
        names,
    ));
    all
}
