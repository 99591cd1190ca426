//! Configuration files, most from public reports or about edge cases of YAML 1.1 and of Go's JSON.

use super::Case;

/// Ports are chosen by the system, so that servers can run at the same time.
const PLACE: &str = "data-dir: d\nlisten-client-urls: http://127.0.0.1:0\nlisten-peer-urls: http://127.0.0.1:0\n";

/// Texts after [`PLACE`] that have the same result in both servers.
const SAME: &[&str] = &[
    "",
    // Keys.
    "NAME: a",
    "Name: a\nname: b",
    "nAmE: a",
    "name: a\nname: b",
    "name: a\n\"name\": b",
    "Client-Transport-Security: {Auto-TLS: false}",
    "no-such-key: 1",
    "max-wal\u{17f}: 7",
    "5: x\nyes: y\n1.5: z",
    "~: x",
    "[a]: x",
    "{a: b}: x",
    "CORS: \"*\"",
    "HostWhitelist: a",
    "raft-read-timeout: nonsense",
    "config-file: x\nversion: true",
    // Whole numbers.
    "quota-backend-bytes: 8.589934592e+09",
    "quota-backend-bytes: 2147483648.0",
    "quota-backend-bytes: 20_000_000",
    "quota-backend-bytes: 0x20000000",
    "quota-backend-bytes: 0o4000000000",
    "quota-backend-bytes: 04000000000",
    "quota-backend-bytes: 0b100000000000000000000000",
    "quota-backend-bytes: +16777216",
    "quota-backend-bytes: -1",
    "quota-backend-bytes: 1:30:00",
    "quota-backend-bytes: 1.5",
    "quota-backend-bytes: 1e21",
    "quota-backend-bytes: 1e400",
    "quota-backend-bytes: 9223372036854775808",
    "quota-backend-bytes: \"20000000\"",
    "quota-backend-bytes: !!int \"20000000\"",
    "quota-backend-bytes: !!float 20000000",
    "quota-backend-bytes: !!str 20000000",
    "quota-backend-bytes: !mine 20000000",
    "quota-backend-bytes: ! '20000000'",
    "quota-backend-bytes: true",
    "quota-backend-bytes: []",
    "quota-backend-bytes: {}",
    "quota-backend-bytes: ~",
    "quota-backend-bytes:",
    "quota-backend-bytes: ''",
    "quota-backend-bytes: .inf",
    "quota-backend-bytes: -.INF",
    "quota-backend-bytes: .NaN",
    "quota-backend-bytes: 2001-01-01",
    "max-request-bytes: 08388608",
    "max-request-bytes: 1__000_",
    "max-request-bytes: -1",
    "max-request-bytes: 18446744073709551615",
    "max-request-bytes: -0",
    "snapshot-count: 18446744073709551615",
    "snapshot-count: 18446744073709551616",
    "snapshot-count: 5e3",
    "max-concurrent-streams: 4294967296",
    "max-concurrent-streams: 4294967295",
    "heartbeat-interval: .5e3",
    "heartbeat-interval: 50.\nelection-timeout: 0_500",
    // Truth values.
    "pre-vote: no",
    "pre-vote: Off",
    "pre-vote: n",
    "pre-vote: FALSE",
    "pre-vote: nO",
    "pre-vote: 'no'",
    "pre-vote: 0",
    "pre-vote: null",
    "initial-election-tick-advance: !!bool n",
    "initial-election-tick-advance: !!bool 0",
    // Texts.
    "name: 5",
    "name: 1.0",
    "name: yes",
    "name: 'yes'",
    "name: ~",
    "name: null",
    "name: \"null\"",
    "name: 1:30",
    "name: 2001-12-14t21:59:43.10-05:00",
    "name: !!str 5",
    "name: !!binary aGVsbG8=",
    "name: !!binary ====",
    "name: !!timestamp 2001-01-01",
    "name: !!int x",
    "name: !!null x",
    "name: \"a\\u00e9\\x41\\n\"",
    "name: |-\n  a\n  b",
    "name: >-\n  a\n  b",
    "name: a # comment",
    "name: a#b",
    "name: a\n  b",
    "name: é",
    "name: 'it''s'",
    "initial-cluster-token: \"\"",
    "initial-cluster-state: ''",
    "initial-cluster-state: other",
    "auto-compaction-retention: 1",
    "auto-compaction-mode: \"\"",
    "auto-compaction-mode: \"\"\nauto-compaction-retention: \"5\"",
    "auto-compaction-mode: periodic\nauto-compaction-retention: \"5\"",
    "auto-compaction-mode: periodic\nauto-compaction-retention: 90m",
    "auto-compaction-mode: revision\nauto-compaction-retention: '1000'",
    "auto-compaction-mode: daily",
    // Durations.
    "experimental-corrupt-check-time: 5000000000",
    "experimental-corrupt-check-time: 5e9",
    "experimental-corrupt-check-time: 5s",
    "experimental-corrupt-check-time: '5000000000'",
    "experimental-compact-hash-check-time: 0",
    // Lists and URLs.
    "log-outputs: [stderr]",
    "log-outputs:\n- stderr\n- stdout",
    "log-outputs: stderr",
    "log-outputs: [[a]]",
    "log-outputs: [5]",
    "log-outputs: ~",
    "log-outputs: []",
    "log-outputs: [default, stderr]",
    "cipher-suites: X",
    "listen-metrics-urls: [http://127.0.0.1:0]",
    "listen-metrics-urls: http://127.0.0.1:0",
    "listen-metrics-urls: ''",
    "listen-metrics-urls: 'http://127.0.0.1:0,'",
    "listen-peer-urls: 'http://127.0.0.1:0, http://127.0.0.1:0'",
    "listen-peer-urls: h:1",
    "listen-client-urls: http://example.com:1",
    "advertise-client-urls: 'http://b:1,http://a:1'",
    "advertise-client-urls: 'http://a:1,http://a:1'",
    "cors: '*'",
    "cors: http://a:1,http://b:1",
    "host-whitelist: b,a",
    "host-whitelist: ''",
    "host-whitelist: [a]",
    // Groups.
    "client-transport-security:",
    "client-transport-security: {}",
    "client-transport-security: x",
    "client-transport-security: [x]",
    "auto-tls: x\nclient-transport-security: {auto-tls: true}",
    "client-transport-security: {cert-file: 5}",
    "client-transport-security: {cert-file: none.crt, key-file: none.key}",
    "client-transport-security: {cert-file: ''}",
    "client-transport-security: {client-cert-auth: 'no'}",
    "client-transport-security: {unknown: 5}",
    "peer-transport-security: {allowed-cn: x}",
    "peer-transport-security: {allowed-cn: [5]}",
    "socket-options: {reuse-port: on}",
    "socket-options: {reuse-port: 1}",
    "socket-options: 5",
    // The v2 API and its proxy.
    "enable-v2: true",
    "proxy: 'off'\nproxy-failure-wait: 5000",
    "proxy: off",
    "proxy-failure-wait: x",
    "discovery-fallback: 'exit'",
    "discovery-fallback: 5",
    // Aliases, merges, structure.
    "x: &x 7\nmax-wals: *x",
    "x: &x {max-wals: 7}\n<<: *x",
    "x: &x {max-wals: 7}\nmax-wals: 8\n<<: *x",
    "<<: [{max-wals: 7}, {max-wals: 8, max-snapshots: 9}]",
    "<<: 5",
    "'<<': 5",
    "max-wals: *x",
    "x: &x [*x]",
    "? max-wals\n: 7",
    "max-wals: 7 \n# c\n\n",
    "max-wals:    7\t",
    "\tmax-wals: 7",
    "max-wals:\n\t7",
    "client-transport-security:\n\tauto-tls: false",
    "max-wals: 7: 8",
    "max-wals: [7",
    "max-wals: {7",
    "name: 'a",
    "name: \"a",
    "name: @a",
    "name: `a",
    "name: %a",
    "name: !undefined!x a",
    "name: \"\\q\"",
    "- a",
    "max-wals: 7\n---\nmax-wals: 8",
    "max-wals: 7\n...\nmax-wals: 8",
    "max-wals: 7\n---\n[",
    "%YAML 1.1\n---\nmax-wals: 7",
    "name: \u{1}",
    // Rules that are checked after parsing.
    "heartbeat-interval: 0",
    "election-timeout: 60000",
    "heartbeat-interval: 500",
    "logger: capnslog",
    "name: a\ninitial-cluster: b=http://localhost:2380",
    "name: ''",
    "tls-min-version: TLS1.1",
    "experimental-enable-lease-checkpoint: true\nexperimental-enable-lease-checkpoint-persist: yes",
    "experimental-snapshot-catch-up-entries: 77",
    "wal-dir: w",
];

/// Texts with an intended difference, and the reason.
const DIFFER: &[(&str, &str)] = &[
    (
        "name: \"a\\/b\"",
        "the YAML that etcd reads does not know this escape of JSON's; ours does",
    ),
    (
        "auto-compaction-retention: 1h",
        "3.5 has no mode by default in a file and refuses; 3.6 is periodic",
    ),
    (
        "cors: nonsense",
        "etcd panics with exit code 2; ours refuses with exit code 1",
    ),
    (
        "log-level: loud",
        "etcd panics with exit code 2; ours refuses with exit code 1",
    ),
    (
        "experimental-enable-lease-checkpoint-persist: true",
        "the words are those of 3.6, which has a feature gate",
    ),
];

/// Whole files, as bytes.
fn whole() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let utf16 = |order: fn(u16) -> [u8; 2]| {
        let text = format!("\u{feff}{PLACE}max-wals: 7\n");
        text.encode_utf16().flat_map(order).collect::<Vec<u8>>()
    };
    let json = "{\"data-dir\": \"d\",\n\t\"listen-client-urls\": \"http://127.0.0.1:0\",\n\t\"listen-peer-urls\": \
                \"http://127.0.0.1:0\", \"max-wals\": 7}";
    let deep = format!("{PLACE}x: {}{}", "[".repeat(60), "]".repeat(60));
    let deeper = format!("{PLACE}x: {}", "[".repeat(20_000));
    let huge = format!("{PLACE}{}max-wals: 7\n", "# a long comment\n".repeat(60_000));
    let mut laughs = format!("{PLACE}a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (this, last) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        laughs += &format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 9].join(", "));
    }
    let mut all = vec![
        (format!("\u{feff}{PLACE}max-wals: 7\n").into_bytes(), None),
        (format!("---\n{PLACE}max-wals: 7\n").into_bytes(), None),
        (format!("{PLACE}max-wals: 7\n").replace('\n', "\r\n").into_bytes(), None),
        (format!("{PLACE}max-wals: 7\n").replace('\n', "\r").into_bytes(), None),
        (utf16(u16::to_le_bytes), None),
        (utf16(u16::to_be_bytes), None),
        (json.as_bytes().to_vec(), None),
        (deep.into_bytes(), None),
        (
            deeper.into_bytes(),
            Some("etcd goes 10,000 levels deep, ours a hundred"),
        ),
        (huge.into_bytes(), None),
        (laughs.into_bytes(), None),
        (b"- a\n".to_vec(), None),
        (b"text\n".to_vec(), None),
        (b"5\n".to_vec(), None),
        (format!("{PLACE}name: \"").into_bytes(), None),
    ];
    for odd in [&b"\xff"[..], b"\xc3(", b"a\xc3", b"\xed\xa0\x80"] {
        let text = [PLACE.as_bytes(), b"name: ", odd].concat();
        let differs = (odd == b"\xed\xa0\x80").then_some("the words for a surrogate are those for any wrong octet");
        all.push((text, differs));
    }
    all
}

/// Every file.
pub(crate) fn cases() -> Vec<Case> {
    let case = |file: Vec<u8>, differs| Case {
        file: Some(file),
        args: Vec::new(),
        env: Vec::new(),
        differs,
    };
    let placed = |text: &str| format!("{PLACE}{text}\n").into_bytes();
    let same = SAME.iter().map(|text| case(placed(text), None));
    let differ = DIFFER.iter().map(|(text, why)| case(placed(text), Some(*why)));
    let whole = whole().into_iter().map(|(bytes, differs)| case(bytes, differs));
    same.chain(differ).chain(whole).collect()
}
