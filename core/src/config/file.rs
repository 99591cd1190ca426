//! `--config-file`: turns YAML or JSON text into settings, by the rules of Go's JSON for etcd's structure.
//!
//! Keys are the flags' names, with a few groups and spellings of their own (`keys`). Types are strict: a number in
//! quotes is no number, a duration is whole nanoseconds. An unknown key is reported; etcd ignores it silently.

use serde_json::{Map, Number, Value as Json};

use super::flag::{Flag, Kind, Value};
use super::gates::FeatureGates;
use super::keys::{self, Key};
use super::notice::Notice;
use super::settings::Settings;
use super::suggest::closest;
use super::url::Url;
use super::yaml;
use crate::limits::MAX_CONFIG_FILE_BYTES;

/// Reads the bytes of a configuration file.
///
/// # Errors
/// The mistakes with their keys, in etcd's words if it has any. etcd says the first.
pub(super) fn read_file(bytes: &[u8], notices: &mut Vec<Notice>) -> Result<Settings, Vec<String>> {
    let (settings, problems) = read_all(bytes, notices);
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

/// Reads what can be read, and finds all mistakes.
pub(super) fn read_all(bytes: &[u8], notices: &mut Vec<Notice>) -> (Settings, Vec<String>) {
    let (mut settings, mut problems) = (Settings::of_file(), Vec::new());
    match document(bytes) {
        Ok(None) => {}
        Ok(Some(keys)) => read_keys(&keys, "", &mut settings, notices, &mut problems),
        Err(why) => problems.push(why),
    }
    (settings, problems)
}

/// The keys of a file; `None` if it is empty.
fn document(bytes: &[u8]) -> Result<Option<Map<String, Json>>, String> {
    if bytes.len() > MAX_CONFIG_FILE_BYTES {
        return Err(format!(
            "the configuration file is longer than {MAX_CONFIG_FILE_BYTES} bytes"
        ));
    }
    let document = yaml::to_json(bytes).map_err(|why| format!("error converting YAML to JSON: {why}"))?;
    match document {
        Json::Null => Ok(None),
        Json::Object(keys) => Ok(Some(keys)),
        other => Err(cannot_decode(&format!(
            "{} into Go value of type embed.configYAML",
            kind_of(&other)
        ))),
    }
}

/// Reads the keys of one group in the order of their bytes, as Go's JSON does.
fn read_keys(
    keys: &Map<String, Json>,
    group: &str,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
    problems: &mut Vec<String>,
) {
    for (key, value) in keys {
        let shown = if group.is_empty() {
            key.clone()
        } else {
            format!("{group}.{key}")
        };
        if group.is_empty()
            && let Some((name, go_type)) = keys::untagged(key)
            && !matches!(value, Json::Null | Json::Object(_) | Json::Array(_))
        {
            problems.push(wrong_type(kind_of(value), name, go_type));
            continue;
        }
        match keys::lookup(group, key) {
            None => notices.push(unknown(group, key, shown)),
            Some(Key::Group(_)) if value.is_null() => {}
            Some(Key::Group(path)) => match value {
                Json::Object(inner) => read_keys(inner, path, settings, notices, problems),
                other => problems.push(wrong_type(kind_of(other), path, go_type_of_group(path))),
            },
            Some(Key::Flag(name, flag)) => {
                let path = if group.is_empty() {
                    name.to_owned()
                } else {
                    format!("{group}.{name}")
                };
                match read_value(flag, &path, value) {
                    Ok(Some(read)) => settings.set(flag, read),
                    Ok(None) => {}
                    Err(why) => problems.push(why),
                }
            }
        }
    }
}

fn unknown(group: &str, key: &str, shown: String) -> Notice {
    let notice = Notice::warn("unknown key in the configuration file is ignored").with("key", shown);
    match closest(key, keys::all(group).into_iter().map(|(name, _)| name)) {
        Some(name) => notice.with("did-you-mean", name),
        None => notice,
    }
}

/// The value of a key, by the kind of its flag; `None` if the default stays.
fn read_value(flag: &Flag, path: &str, value: &Json) -> Result<Option<Value>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong = |what: &str| wrong_type(what, path, go_type(flag));
    let number = |value: &Json| match value {
        Json::Number(number) => Ok(digits(number)),
        other => Err(wrong(kind_of(other))),
    };
    let text = |value: &Json| match value {
        Json::String(text) => Ok(text.clone()),
        other => Err(wrong(kind_of(other))),
    };
    let misfit = |digits: &str| wrong(&format!("number {digits}"));
    let read = match flag.kind {
        Kind::Bool => Value::Bool(value.as_bool().ok_or_else(|| wrong(kind_of(value)))?),
        Kind::Duration => {
            let digits = number(value).map_err(|why| format!("{why}; a duration is a whole number of nanoseconds"))?;
            Value::Duration(digits.parse().map_err(|_| misfit(&digits))?)
        }
        Kind::Int => {
            let digits = number(value)?;
            Value::Int(digits.parse().map_err(|_| misfit(&digits))?)
        }
        Kind::Uint => {
            let digits = number(value)?;
            Value::Uint(digits.parse().map_err(|_| misfit(&digits))?)
        }
        Kind::Uint32 => {
            let digits = number(value)?;
            Value::Uint(digits.parse::<u32>().map_err(|_| misfit(&digits))?.into())
        }
        Kind::Gates => Value::Gates(FeatureGates::parse(&text(value)?)?),
        // These two have a structure of their own in etcd, into which Go decodes numbers and booleans as text.
        Kind::OneOf(words) if matches!(flag.name, "discovery-fallback" | "proxy") => {
            return one_of(flag, words, value).map(|word| word.map(Value::Text));
        }
        Kind::Text | Kind::OneOf(_) | Kind::SomeOf(_) | Kind::Legacy => Value::Text(text(value)?),
        Kind::List | Kind::Set if flag.name == "host-whitelist" => match text(value)?.as_str() {
            "" => return Ok(None),
            names => flag.parse(names, None)?,
        },
        Kind::List | Kind::Set => match value {
            Json::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| item_text(item, path))
                    .collect::<Result<_, _>>()?,
            ),
            other => return Err(format!("{}; write it as a list", wrong(kind_of(other)))),
        },
        Kind::Urls | Kind::UrlsOrAny => return urls(flag, &text(value)?),
    };
    Ok(Some(read))
}

fn urls(flag: &Flag, text: &str) -> Result<Option<Value>, String> {
    match text {
        "" => Ok(None),
        "*" if flag.kind == Kind::UrlsOrAny => Ok(Some(Value::Urls(Vec::new()))),
        _ => Url::parse_every(text)
            .map(|urls| Some(Value::Urls(urls)))
            .map_err(|why| format!("unexpected error setting up {}: {why}", flag.name)),
    }
}

fn one_of(flag: &Flag, words: &[&str], value: &Json) -> Result<Option<String>, String> {
    let word = match value {
        Json::String(text) => text.clone(),
        Json::Bool(on) => on.to_string(),
        Json::Number(number) => digits(number),
        other => return Err(wrong_type(kind_of(other), flag.name, "string").replace("configYAML", "configProxy")),
    };
    if word.is_empty() {
        return Ok(None);
    }
    if words.contains(&word.as_str()) {
        return Ok(Some(word));
    }
    let shown = if flag.name == "proxy" {
        "proxyFlag"
    } else {
        "discovery-fallback flag"
    };
    Err(format!(
        "unexpected error setting up {shown}: invalid value {word:?}; valid values are {words:?}"
    ))
}

/// In Go an empty element of a list becomes an empty text.
fn item_text(item: &Json, path: &str) -> Result<String, String> {
    match item {
        Json::Null => Ok(String::new()),
        Json::String(text) => Ok(text.clone()),
        other => Err(wrong_type(kind_of(other), path, "string")),
    }
}

/// A number as Go writes it into JSON.
fn digits(number: &Number) -> String {
    const SHORTEST_WITHOUT_EXPONENT: f64 = 1e-6;
    const LARGEST_WITHOUT_EXPONENT: f64 = 1e21;
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let magnitude = float.abs();
    if magnitude == 0.0 || (SHORTEST_WITHOUT_EXPONENT..LARGEST_WITHOUT_EXPONENT).contains(&magnitude) {
        float.to_string()
    } else {
        let text = format!("{float:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        }
    }
}

/// Go's name for the kind of a JSON value.
fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn wrong_type(what: &str, path: &str, go_type: &str) -> String {
    cannot_decode(&format!(
        "{what} into Go struct field configYAML.{path} of type {go_type}"
    ))
}

fn cannot_decode(what: &str) -> String {
    format!("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what}")
}

/// The type of a flag in etcd's structure.
fn go_type(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Bool => "bool",
        Kind::Duration => "time.Duration",
        Kind::Int if flag.name == "quota-backend-bytes" => "int64",
        Kind::Int => "int",
        Kind::Uint if flag.name.contains("snapshot-c") => "uint64",
        Kind::Uint => "uint",
        Kind::Uint32 => "uint32",
        Kind::SomeOf(_) => "config.V2DeprecationEnum",
        Kind::Set if flag.name == "host-whitelist" => "string",
        Kind::List | Kind::Set => "[]string",
        Kind::Gates | Kind::Legacy | Kind::OneOf(_) | Kind::Text | Kind::Urls | Kind::UrlsOrAny => "string",
    }
}

fn go_type_of_group(path: &str) -> &'static str {
    match path {
        "socket-options" => "transport.SocketOpts",
        "client-transport-security" | "peer-transport-security" => "embed.securityConfig",
        "discovery-config" => "v3discovery.DiscoveryConfig",
        "discovery-config.client" => "clientv3.ConfigSpec",
        "discovery-config.client.auth" => "clientv3.AuthConfig",
        _ => "clientv3.SecureConfig",
    }
}
