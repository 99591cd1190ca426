//! Reads the command line and the environment, by the rules of Go's flag package and of etcd's variables.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::flag::Flag;
use super::gotext::{quote, quote_bytes};
use super::notice::Notice;
use super::settings::Settings;
use super::suggest::closest;
use super::table::{FLAGS, find};

/// Why reading the command line ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Help was requested.
    Help,
    /// A flag is unknown or its value is wrong; the text is Go's.
    Bad(String),
    /// An argument that is no flag.
    Positional(String),
}

/// The prefix of every variable of etcd.
const PREFIX: &[u8] = b"ETCD_";

/// Variables with etcd's prefix that belong to no flag, but have a meaning in etcd.
const OTHER_VARIABLES: [&str; 2] = ["ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY"];

/// This variable would switch on `--version` if it were read as a flag.
const VERSION_VARIABLE: &str = "ETCD_VERSION";

/// Reads the arguments after the program's name.
///
/// # Errors
/// Why reading ended at an argument.
pub(super) fn read_args(args: &[OsString]) -> Result<Settings, Stop> {
    let (settings, stops) = read_all(args);
    stops.into_iter().next().map_or(Ok(settings), Err)
}

/// Reads all arguments, and skips those at which reading would end.
pub(super) fn read_all(args: &[OsString]) -> (Settings, Vec<Stop>) {
    let (mut settings, mut stops, mut texts) = (Settings::default(), Vec::new(), Vec::new());
    for arg in args {
        match arg.to_str() {
            Some(text) => texts.push(text),
            None => stops.push(Stop::Bad(not_text(arg))),
        }
    }
    let mut rest = texts.into_iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            stops.extend(rest.next().map(|arg| Stop::Positional(arg.to_owned())));
            break;
        }
        stops.extend(read_arg(arg, &mut rest, &mut settings).err());
    }
    (settings, stops)
}

fn read_arg<'a>(arg: &'a str, rest: &mut impl Iterator<Item = &'a str>, settings: &mut Settings) -> Result<(), Stop> {
    if arg.len() < 2 || !arg.starts_with('-') {
        return Err(Stop::Positional(arg.to_owned()));
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
        return Err(if help { Stop::Help } else { Stop::Bad(unknown(name)) });
    };
    read_flag(flag, value, rest, settings).map_err(Stop::Bad)
}

/// The error for an argument that is not UTF-8. etcd passes such bytes to the system. Here names and paths are text,
/// and a lossy conversion would change them.
fn not_text(arg: &OsStr) -> String {
    format!("argument {} is not UTF-8", quote_bytes(arg.as_encoded_bytes()))
}

fn unknown(name: &str) -> String {
    let unknown = format!("flag provided but not defined: -{name}");
    match closest(name, FLAGS.iter().map(|flag| flag.name)) {
        Some(known) => format!("{unknown}\nDid you mean --{known}?"),
        None => unknown,
    }
}

fn read_flag<'a>(
    flag: &'static Flag,
    value: Option<&'a str>,
    rest: &mut impl Iterator<Item = &'a str>,
    settings: &mut Settings,
) -> Result<(), String> {
    let name = flag.name;
    if flag.is_switch() {
        let value = value.unwrap_or("true");
        let read = flag.parse(value, None);
        settings.set(
            flag,
            read.map_err(|e| format!("invalid boolean value {} for -{name}: {e}", quote(value)))?,
        );
    } else {
        let value = value.or_else(|| rest.next());
        let value = value.ok_or_else(|| format!("flag needs an argument: -{name}"))?;
        let read = flag.parse(value, settings.given_value(name));
        settings.set(
            flag,
            read.map_err(|e| format!("invalid value {} for flag -{name}: {e}", quote(value)))?,
        );
    }
    Ok(())
}

/// Adds the settings of the environment to those of the command line. Returns what is wrong with it; the first is what
/// etcd says.
pub(super) fn read_env(
    env: &BTreeMap<OsString, OsString>,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Vec<EnvError> {
    if let Some(value) = variable(env, VERSION_VARIABLE) {
        let notice = Notice::warn("cannot set special environment variable");
        notices.push(notice.with("key", VERSION_VARIABLE).with("value", shown(value)));
    }
    let shadowed = settings
        .given()
        .map(|(flag, _)| flag.env_name())
        .collect::<BTreeSet<_>>();
    let mut used = BTreeSet::new();
    let mut bad_values = Vec::new();
    let mut errors = Vec::new();
    let mut flags = FLAGS.iter().collect::<Vec<_>>();
    flags.sort_by_key(|flag| flag.name);
    for flag in flags {
        let key = flag.env_name();
        let Some(value) = variable(env, &key) else {
            continue;
        };
        if key == VERSION_VARIABLE || shadowed.contains(&key) {
            continue;
        }
        let read = match value.to_str() {
            Some(text) => flag.parse(text, None).map(|read| (read, text)),
            None => Err("not UTF-8".to_owned()),
        };
        match read {
            Ok((read, text)) => {
                settings.set(flag, read);
                let notice = Notice::info("recognized and used environment variable");
                notices.push(notice.with("variable-name", &key).with("variable-value", text));
            }
            Err(e) => {
                let value = quote_bytes(value.as_encoded_bytes());
                // etcd keeps the last one.
                bad_values.insert(0, EnvError::BadValue(format!("invalid value {value} for {key}: {e}")));
            }
        }
        used.insert(key);
    }
    for (key, value) in env {
        if !key.as_encoded_bytes().starts_with(PREFIX) {
            continue;
        }
        let name = shown(key);
        if used.contains(&name) || name == VERSION_VARIABLE || OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        if shadowed.contains(&name) {
            errors.push(EnvError::Shadowed(name));
            continue;
        }
        if errors.is_empty() {
            notices.push(unrecognized(&name, &shown(value)));
        }
    }
    errors.extend(bad_values);
    errors
}

/// A variable that is set and not empty.
pub(super) fn variable<'a>(env: &'a BTreeMap<OsString, OsString>, name: &str) -> Option<&'a OsStr> {
    env.get(OsStr::new(name))
        .map(OsString::as_os_str)
        .filter(|value| !value.is_empty())
}

fn unrecognized(name: &str, value: &str) -> Notice {
    let notice = Notice::warn("unrecognized environment variable");
    let notice = notice.with("environment-variable", format!("{name}={value}"));
    if FLAGS.iter().any(|flag| flag.env_name() == name) {
        // The variable of a flag, set to the empty text.
        return notice;
    }
    let given = name.replace('_', "-");
    match closest(&given["ETCD_".len()..], FLAGS.iter().map(|flag| flag.name)).and_then(find) {
        Some(flag) => notice.with("did-you-mean", flag.env_name()),
        None => notice,
    }
}

fn shown(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// Why the environment cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EnvError {
    /// A value is wrong.
    BadValue(String),
    /// This variable and its flag are both set, which etcd refuses.
    Shadowed(String),
}
