//! Any command line, environment or file has an outcome; none panics.

use std::ffi::{OsStr, OsString};

use super::super::table::FLAGS;
use super::super::{Invocation, Outcome};
use super::{BUILD, from_file};
use crate::limits;
use crate::random::Prng;

/// Values that are difficult for some kind of flag.
const VALUES: [&str; 28] = [
    "",
    "0",
    "-1",
    "7",
    "18446744073709551615",
    "-9223372036854775808",
    "9223372036854775807",
    "1e9",
    "0x",
    "true",
    "f",
    "0s",
    "-1ns",
    "2562047h",
    "5\u{b5}s",
    "99999999999999999999h",
    "a,b,,",
    "*",
    "http://0.0.0.0:0",
    "http://[::]:65535,unix://x",
    "https://[fe80::1%25eth0]:1",
    "http://\u{e9}:1",
    "://",
    "existing",
    "revision",
    "\u{0}\u{7f}\"\\",
    "LeaseCheckpoint=true,AllBeta=false",
    "{\"a\": [",
];

fn pick<'a>(prng: &mut Prng, from: &[&'a str]) -> &'a str {
    let i = prng.below(from.len() as u64);
    from[usize::try_from(i).unwrap()]
}

#[test]
fn no_command_line_or_environment_panics() {
    let names = FLAGS.iter().map(|flag| flag.name).collect::<Vec<_>>();
    let mut runs = 0;
    for seed in 0..2_000 {
        let mut prng = Prng::new(seed);
        let mut args = Vec::new();
        let mut env = super::variables(&[]);
        for _ in 0..prng.below(4) {
            let (name, value) = (pick(&mut prng, &names), pick(&mut prng, &VALUES));
            match prng.below(6) {
                0 => args.push(OsString::from(value)),
                1 => args.push(format!("-{name}").into()),
                2 => {
                    env.insert(
                        format!("ETCD_{}", name.to_uppercase().replace('-', "_")).into(),
                        value.into(),
                    );
                }
                _ => args.push(format!("--{name}={value}").into()),
            }
        }
        let invocation = Invocation {
            program: OsStr::new("quoin"),
            args: &args,
            env: &env,
            default_host: Some("::1"),
            build: BUILD,
        };
        runs += usize::from(matches!(invocation.parse(), Outcome::Run { .. }));
    }
    assert!(
        (500..1_500).contains(&runs),
        "{runs} of 2000 start: the inputs are too tame or too wild"
    );
}

#[test]
fn no_file_panics() {
    let names = FLAGS.iter().map(|flag| flag.name).collect::<Vec<_>>();
    let groups = [
        "client-transport-security",
        "peer-transport-security",
        "socket-options",
        "discovery-config",
        "secure",
    ];
    let shapes = [
        "[]",
        "{}",
        "~",
        "!!binary x",
        "&a [*a]",
        "[1, [2]]",
        "{cert-file: {}}",
        "'text'",
        ".nan",
        "|\n  x",
    ];
    let mut runs = 0;
    for seed in 0..2_000 {
        let mut prng = Prng::new(seed);
        let mut text = String::new();
        for _ in 0..prng.below(4) {
            let key = if prng.below(4) == 0 {
                pick(&mut prng, &groups)
            } else {
                pick(&mut prng, &names)
            };
            let value = if prng.below(3) == 0 {
                pick(&mut prng, &shapes)
            } else {
                pick(&mut prng, &VALUES)
            };
            text += &format!("{key}: {value}\n");
        }
        runs += usize::from(matches!(from_file(&text), Outcome::Run { .. }));
    }
    assert!(
        (500..1_500).contains(&runs),
        "{runs} of 2000 start: the inputs are too tame or too wild"
    );
}

/// Pieces of YAML in any order, with bytes changed: the parser is a third-party crate, and its input is not trusted.
#[test]
fn no_bytes_of_a_file_panic() {
    const PIECES: [&str; 48] = [
        "name: a\n",
        "- ",
        "? ",
        ": ",
        "&a ",
        "*a",
        "!!str ",
        "!!int 5\n",
        "!<tag:x> ",
        "! ",
        "|\n  x\n",
        "|\n  x",
        ">-\n x\n",
        "'q'",
        "\"d\\x41\\u0041\\\n \"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "  ",
        "\t",
        "#c\n",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "%TAG ! x\n",
        "<<: *a\n",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\r\n",
        "\r",
        "@",
        "`",
        "\"",
        "'",
        "\\",
        "\u{e9}",
        "|1+\n",
        "!e!x%41",
        "%E9",
        "~",
        "0x",
        "client-transport-security: ",
        "\"\\uD83D\"",
        "<<: [{a: 1}]\n",
    ];
    for seed in 0..5_000 {
        let mut prng = Prng::new(seed);
        let mut text = Vec::new();
        for _ in 0..=prng.below(12) {
            text.extend_from_slice(pick(&mut prng, &PIECES).as_bytes());
        }
        if prng.below(3) == 0 {
            let at = usize::try_from(prng.below(text.len() as u64)).unwrap();
            text[at] ^= 1 << prng.below(8);
        }
        let _outcome = from_file(text);
    }
}

/// Arguments and variables are bytes to the system; some are not UTF-8.
#[test]
fn text_that_is_not_utf8_is_refused_or_ignored() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = || OsStr::from_bytes(b"a\xff").to_owned();
    let none = super::variables(&[]);
    for args in [
        vec![odd()],
        vec!["--name".into(), odd()],
        vec![OsStr::from_bytes(b"--name=a\xff").to_owned()],
    ] {
        let (exit, why) = super::refused(super::outcome_of(&args, &none));
        assert!(exit == 2 && why.ends_with("a\\xff\" is not UTF-8"), "{why}");
    }
    let env = |name: &OsStr| [(name.to_owned(), odd())].into();
    let outcome = super::outcome_of(&[], &env(OsStr::new("ETCD_NAME")));
    let why = "invalid value \"a\\xff\" for ETCD_NAME: not UTF-8";
    assert_eq!(super::refused(outcome), (1, why.to_owned()));
    for name in [
        OsStr::new("LC_ALL"),
        OsStr::from_bytes(b"\xfe"),
        OsStr::new("ETCD_ODD"),
        OsStr::from_bytes(b"ETCD_\xff"),
    ] {
        super::accepted(&[], super::outcome_of(&[], &env(name)));
    }
}

#[test]
fn deep_or_repeating_yaml_is_refused_in_time() {
    let deep = "{a: ".repeat(100_000);
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (this, last) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        laughs += &format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 9].join(", "));
    }
    for text in [deep, laughs] {
        assert!(matches!(from_file(&text), Outcome::Refuse(_)));
    }
}

/// The defaults that operators see are the limits that the rest of core uses.
#[test]
fn defaults_are_the_limits() {
    let config = super::super::Config::with_defaults();
    let size = |bytes: u64| usize::try_from(bytes).unwrap();
    assert_eq!(size(config.max_request_bytes), limits::MAX_REQUEST_BYTES);
    assert_eq!(size(config.max_txn_ops), limits::MAX_TXN_OPS);
    assert_eq!(size(config.max_wals), limits::MAX_WAL_FILES);
    assert_eq!(size(config.max_snapshots), limits::MAX_SNAPSHOT_FILES);
    assert_eq!(size(config.max_learners), limits::MAX_LEARNERS);
    assert_eq!(size(config.compaction_batch_limit), limits::COMPACTION_BATCH_REVISIONS);
    assert_eq!(config.snapshot_count, limits::SNAPSHOT_COUNT_ENTRIES);
    assert_eq!(config.snapshot_catchup_entries, limits::SNAPSHOT_CATCHUP_ENTRIES);
}
