//! The command line and the environment, read by the rules of Go's flag package and of etcd's variables.

use std::collections::{BTreeMap, BTreeSet};

use super::flag::Flag;
use super::gotext::quote;
use super::notice::Notice;
use super::settings::Settings;
use super::table::{FLAGS, find};

/// Why reading the command line ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Help was asked for.
    Help,
    /// A flag is unknown or its value is wrong; the text is Go's.
    Bad(String),
    /// Something that is no flag.
    Positional(String),
}

/// Variables with etcd's prefix that are no flags and mean something to etcd all the same.
const OTHER_VARIABLES: [&str; 2] = ["ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY"];

/// This one would switch on `--version` if it were read as a flag.
const VERSION_VARIABLE: &str = "ETCD_VERSION";

/// Reads the arguments after the program's name.
pub(super) fn read_args(args: &[String]) -> Result<Settings, Stop> {
    let mut settings = Settings::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg.len() < 2 || !arg.starts_with('-') {
            return Err(Stop::Positional(arg.clone()));
        }
        if arg == "--" {
            return rest
                .next()
                .map_or(Ok(settings), |arg| Err(Stop::Positional(arg.clone())));
        }
        let body = arg.strip_prefix("--").unwrap_or(&arg[1..]);
        if body.starts_with(['-', '=']) {
            return Err(Stop::Bad(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = find(name) else {
            let help = matches!(name, "h" | "help");
            return Err(if help {
                Stop::Help
            } else {
                Stop::Bad(format!("flag provided but not defined: -{name}"))
            });
        };
        read_flag(flag, value, &mut rest, &mut settings).map_err(Stop::Bad)?;
    }
    Ok(settings)
}

fn read_flag<'a>(
    flag: &'static Flag,
    value: Option<&'a str>,
    rest: &mut impl Iterator<Item = &'a String>,
    settings: &mut Settings,
) -> Result<(), String> {
    let name = flag.name;
    if flag.is_switch() {
        let value = value.unwrap_or("true");
        let read = flag.parse(value);
        settings.set(
            flag,
            read.map_err(|e| format!("invalid boolean value {} for -{name}: {e}", quote(value)))?,
        );
    } else {
        let value = value.or_else(|| rest.next().map(String::as_str));
        let value = value.ok_or_else(|| format!("flag needs an argument: -{name}"))?;
        let read = flag.parse(value);
        settings.set(
            flag,
            read.map_err(|e| format!("invalid value {} for flag -{name}: {e}", quote(value)))?,
        );
    }
    Ok(())
}

/// Adds what the environment says to what the command line said.
///
/// # Errors
/// The line the process ends with: a variable with a bad value, or one whose flag was given too.
pub(super) fn read_env(
    env: &BTreeMap<String, String>,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), EnvError> {
    if let Some(value) = env.get(VERSION_VARIABLE).filter(|value| !value.is_empty()) {
        let notice = Notice::warn("cannot set special environment variable");
        notices.push(notice.with("key", VERSION_VARIABLE).with("value", value));
    }
    let shadowed = settings
        .given()
        .map(|(flag, _)| flag.env_name())
        .collect::<BTreeSet<_>>();
    let mut used = BTreeSet::new();
    let mut bad_value = None;
    let mut flags = FLAGS.iter().collect::<Vec<_>>();
    flags.sort_by_key(|flag| flag.name);
    for flag in flags {
        let key = flag.env_name();
        let Some(value) = env.get(&key).filter(|value| !value.is_empty()) else {
            continue;
        };
        if key == VERSION_VARIABLE || shadowed.contains(&key) {
            continue;
        }
        match flag.parse(value) {
            Ok(read) => {
                settings.set(flag, read);
                let notice = Notice::info("recognized and used environment variable");
                notices.push(notice.with("variable-name", &key).with("variable-value", value));
            }
            Err(e) => bad_value = Some(format!("invalid value {} for {key}: {e}", quote(value))),
        }
        used.insert(key);
    }
    for (key, value) in env {
        if used.contains(key) || key == VERSION_VARIABLE || OTHER_VARIABLES.contains(&key.as_str()) {
            continue;
        }
        if shadowed.contains(key) {
            return Err(EnvError::Shadowed(key.clone()));
        }
        if key.starts_with("ETCD_") {
            let notice = Notice::warn("unrecognized environment variable");
            notices.push(notice.with("environment-variable", format!("{key}={value}")));
        }
    }
    bad_value.map_or(Ok(()), |error| Err(EnvError::BadValue(error)))
}

/// Why the environment cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EnvError {
    /// A value is wrong.
    BadValue(String),
    /// This variable and its flag are both set, and etcd does not choose between them.
    Shadowed(String),
}
