//! `--help`: etcd's layout, our words, made from the table.

use super::flag::{Disposition, Flag, Group};
use super::gates::{Gate, Stage};
use super::table::FLAGS;

/// Printed on standard error whenever the command line is wrong, and before the help.
pub(super) const USAGE: &str = "Usage:

  etcd [flags]
    Start a member.

  etcd --version
    Show the version.

  etcd -h | --help
    Show this and every flag.

  etcd --config-file
    Read the configuration from a file; other flags and the environment are then ignored.

";

const CHAPTERS: [(Group, &str); 10] = [
    (Group::Member, "Member"),
    (Group::Clustering, "Clustering"),
    (Group::Security, "Security"),
    (Group::Auth, "Auth"),
    (Group::Monitoring, "Profiling and Monitoring"),
    (Group::Logging, "Logging"),
    (Group::Tracing, "Distributed tracing"),
    (Group::Tuning, "Features"),
    (Group::Unsafe, "Unsafe feature"),
    (Group::Compatibility, "Spellings and flags of other etcd versions"),
];

/// Every flag by chapter.
pub(super) fn flags_text() -> String {
    let mut text = String::new();
    for (group, title) in CHAPTERS {
        text.push_str(&format!("\n{title}:\n"));
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            text.push_str(&format!(
                "  --{} '{}'\n    {}\n",
                flag.name,
                shown_default(flag),
                explanation(flag)
            ));
        }
    }
    text
}

fn shown_default(flag: &Flag) -> &str {
    if flag.name == "data-dir" {
        "${name}.etcd"
    } else {
        flag.default
    }
}

fn explanation(flag: &Flag) -> String {
    match flag.disposition {
        Disposition::AliasOf(new) => format!("Another spelling of --{new}."),
        Disposition::GateOf(gate) => format!("An older spelling of --feature-gates={}=true.", gate.name()),
        Disposition::Refused(_) => format!("{} Not supported by this version.", flag.help),
        Disposition::Accepted(why) => format!("{} In this version it {why}.", flag.help),
        Disposition::Used if flag.name == "feature-gates" => format!("{} {}", flag.help, gates_text()),
        Disposition::Used | Disposition::Silent => flag.help.to_owned(),
    }
}

fn gates_text() -> String {
    let gates = Gate::ALL.into_iter().map(|gate| match gate.stage() {
        Stage::Alpha => format!("{}=true|false (ALPHA - default=false)", gate.name()),
        Stage::Beta => format!("{}=true|false (BETA - default=true)", gate.name()),
    });
    let groups = ["AllAlpha=true|false", "AllBeta=true|false"].map(str::to_owned);
    format!(
        "Known are:\n    {}",
        groups.into_iter().chain(gates).collect::<Vec<_>>().join("\n    ")
    )
}
