//! `--config-file`: YAML or JSON text to settings.
//!
//! Keys are the flags' names, with a few groups and spellings of their own. Durations are nanoseconds, as etcd has
//! them, or text such as `5m`. An unknown key, which etcd drops in silence, is reported.

use serde_norway::{Mapping, Value as Yaml};

use super::flag::{Disposition, Flag, Kind, Value};
use super::gates::FeatureGates;
use super::gotext::{parse_duration, quote};
use super::notice::Notice;
use super::settings::Settings;
use super::table::find;
use super::url::Url;
use crate::limits::{MAX_CONFIG_FILE_BRACKETS, MAX_CONFIG_FILE_BYTES};

/// Reads the text of a configuration file.
///
/// # Errors
/// What is wrong and under which key.
pub(super) fn read_file(text: &str, notices: &mut Vec<Notice>) -> Result<Settings, String> {
    if text.len() > MAX_CONFIG_FILE_BYTES {
        return Err(format!(
            "the configuration file is longer than {MAX_CONFIG_FILE_BYTES} bytes"
        ));
    }
    if text.bytes().filter(|b| matches!(b, b'[' | b'{')).count() > MAX_CONFIG_FILE_BRACKETS {
        return Err(format!(
            "the configuration file has more than {MAX_CONFIG_FILE_BRACKETS} brackets"
        ));
    }
    let document: Yaml = serde_norway::from_str(text).map_err(|e| format!("error converting YAML to JSON: {e}"))?;
    let mut settings = Settings::of_file();
    match document {
        Yaml::Null => {}
        Yaml::Mapping(keys) => read_keys(&keys, "", &mut settings, notices)?,
        _ => return Err("the configuration file is no list of keys with values".to_owned()),
    }
    Ok(settings)
}

fn read_keys(keys: &Mapping, group: &str, settings: &mut Settings, notices: &mut Vec<Notice>) -> Result<(), String> {
    for (key, value) in keys {
        let Some(key) = key.as_str() else {
            let key = scalar(key).unwrap_or_else(|| "a list or keys with values".to_owned());
            return Err(format!("the configuration file has a key that is no text: {key}"));
        };
        let shown = if group.is_empty() {
            key.to_owned()
        } else {
            format!("{group}.{key}")
        };
        if is_group(group, key) {
            match value {
                Yaml::Null => {}
                Yaml::Mapping(inner) => read_keys(inner, &shown, settings, notices)?,
                _ if key.ends_with("-security") => return Err(format!("invalid {key}")),
                other => return Err(wrong_type(&shown, "keys with values", other)),
            }
            continue;
        }
        let Some(flag) = flag_of(group, key) else {
            notices.push(Notice::warn("unknown key in the configuration file is ignored").with("key", shown));
            continue;
        };
        if let Some(read) = read_value(flag, &shown, value)? {
            settings.set(flag, read);
        }
    }
    Ok(())
}

fn is_group(group: &str, key: &str) -> bool {
    match group {
        "" => {
            matches!(
                key,
                "client-transport-security" | "peer-transport-security" | "socket-options" | "discovery-config"
            )
        }
        "discovery-config" => matches!(key, "client" | "secure" | "auth"),
        _ => false,
    }
}

/// The flag a key stands for. Some belong to the command line only, and long-gone ones are no keys.
fn flag_of(group: &str, key: &str) -> Option<&'static Flag> {
    let name = match (group, key) {
        ("", "experimental-snapshot-catch-up-entries") => "experimental-snapshot-catchup-entries".to_owned(),
        ("", "config-file" | "version") => return None,
        ("", key) => key.to_owned(),
        ("socket-options", key) => format!("socket-{key}"),
        ("client-transport-security", "allowed-hostname" | "allowed-hostnames") => {
            "client-cert-allowed-hostname".to_owned()
        }
        ("client-transport-security", key) => key.to_owned(),
        ("peer-transport-security", "allowed-hostname" | "allowed-hostnames") => {
            "peer-cert-allowed-hostname".to_owned()
        }
        ("peer-transport-security", "allowed-cn" | "allowed-cns") => "peer-cert-allowed-cn".to_owned(),
        ("peer-transport-security", "skip-client-san-verification") => "peer-skip-client-san-verification".to_owned(),
        ("peer-transport-security", key) => format!("peer-{key}"),
        (_, "username") => "discovery-user".to_owned(),
        (_, key) => format!("discovery-{key}"),
    };
    let in_tls_group = group == "client-transport-security";
    find(&name)
        .filter(|flag| flag.disposition != Disposition::Silent || flag.kind != Kind::Legacy)
        .filter(|flag| {
            !in_tls_group
                || flag.name.contains("cert")
                || matches!(
                    flag.name,
                    "key-file" | "client-key-file" | "trusted-ca-file" | "auto-tls" | "client-crl-file"
                )
        })
}

/// The value under a key, by the kind of its flag; `None` where nothing stands there.
fn read_value(flag: &Flag, shown: &str, value: &Yaml) -> Result<Option<Value>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong = |expected: &str| wrong_type(shown, expected, value);
    let in_file = |e: String| format!("configuration file: {shown}: {e}");
    let read = match flag.kind {
        Kind::Bool => Value::Bool(yaml_bool(value).ok_or_else(|| wrong("true or false"))?),
        Kind::Duration => match value {
            Yaml::String(text) => Value::Duration(parse_duration(text).map_err(in_file)?),
            _ => Value::Duration(value.as_i64().ok_or_else(|| wrong("nanoseconds, or text such as 5m"))?),
        },
        Kind::Int => Value::Int(value.as_i64().ok_or_else(|| wrong("a whole number"))?),
        Kind::Uint => Value::Uint(value.as_u64().ok_or_else(|| wrong("a whole number from 0 on"))?),
        Kind::Uint32 => {
            let fits = value.as_u64().filter(|number| *number <= u64::from(u32::MAX));
            Value::Uint(fits.ok_or_else(|| wrong("a whole number from 0 to 4294967295"))?)
        }
        Kind::Gates => {
            Value::Gates(FeatureGates::parse(&scalar(value).ok_or_else(|| wrong("text"))?).map_err(in_file)?)
        }
        Kind::Text | Kind::OneOf(_) | Kind::Legacy => Value::Text(scalar(value).ok_or_else(|| wrong("text"))?),
        Kind::List | Kind::Set | Kind::SomeOf(_) => {
            let pieces = pieces(value).ok_or_else(|| wrong("a list of texts"))?;
            Value::List(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())
        }
        Kind::Urls | Kind::UrlsOrAny => {
            let text = pieces(value)
                .ok_or_else(|| wrong("URLs with commas between"))?
                .join(",");
            return match text.as_str() {
                "" => Ok(None),
                "*" if flag.kind == Kind::UrlsOrAny => Ok(Some(Value::Urls(Vec::new()))),
                _ => Url::parse_list(&text)
                    .map(Value::Urls)
                    .map(Some)
                    .map_err(|e| unexpected(flag, &e)),
            };
        }
    };
    Ok(Some(read))
}

/// etcd's words for a bad list of URLs in the file.
fn unexpected(flag: &Flag, why: &str) -> String {
    format!("unexpected error setting up {}: {why}", flag.name)
}

fn wrong_type(shown: &str, expected: &str, found: &Yaml) -> String {
    let found = match found {
        Yaml::Null => "nothing".to_owned(),
        Yaml::Bool(on) => on.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::String(text) => format!("the text {}", quote(text)),
        Yaml::Sequence(_) => "a list".to_owned(),
        Yaml::Mapping(_) => "keys with values".to_owned(),
        Yaml::Tagged(tagged) => format!("a value tagged {}", tagged.tag),
    };
    format!("configuration file: {shown}: expected {expected}, found {found}")
}

/// etcd's YAML is of the old kind, where `yes` and `on` are truth values.
fn yaml_bool(value: &Yaml) -> Option<bool> {
    match value {
        Yaml::Bool(on) => Some(*on),
        Yaml::String(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Some(true),
            "no" | "off" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Where text is wanted a number or truth value is taken as it is written.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}

/// A list may be written as one or as text with commas.
fn pieces(value: &Yaml) -> Option<Vec<String>> {
    match value {
        Yaml::Sequence(items) => items.iter().map(scalar).collect(),
        _ => scalar(value).map(|text| text.split(',').map(str::to_owned).collect()),
    }
}
