//! `--help`: etcd's layout, Quoin's words, made from the table.

use super::flag::{Disposition, Flag, Group};
use super::gates::{Gate, Stage};
use super::table::FLAGS;
use crate::version::PRODUCT_VERSION;

/// The head of `--help`; also printed to standard error if the command line is wrong.
pub(super) fn usage(program: &str) -> String {
    format!(
        "Usage:

  {program} [flags]
    Start a member.

  {program} --version
    Show the version.

  {program} --check-config [flags]
    Show the effective configuration and everything that is wrong with it; the exit code is 1 if anything is.

  {program} -h | --help
    Show this and every flag.

  {program} --config-file FILE
    Read the configuration from a YAML or JSON file; other flags and the environment are then ignored.

  Every flag can be set by a variable too: --data-dir by ETCD_DATA_DIR.
"
    )
}

/// All of `--help`.
pub(super) fn text(program: &str) -> String {
    format!(
        "Quoin {PRODUCT_VERSION}: an etcd v3 server that takes etcd's flags, variables and configuration files.\n\n{}{}",
        usage(program),
        flags_text()
    )
}

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
fn flags_text() -> String {
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
        Stage::Alpha => format!("{}=true|false (ALPHA - default=false){}", gate.name(), idle(gate)),
        Stage::Beta => format!("{}=true|false (BETA - default=true){}", gate.name(), idle(gate)),
    });
    let groups = ["AllAlpha=true|false", "AllBeta=true|false"].map(str::to_owned);
    format!(
        "Known are:\n    {}",
        groups.into_iter().chain(gates).collect::<Vec<_>>().join("\n    ")
    )
}

fn idle(gate: Gate) -> String {
    gate.idle().map(|why| format!(", {why}")).unwrap_or_default()
}
