//! `--check-config`: the effective configuration, and everything that is wrong with it at once. A start reports only the
//! first mistake, as etcd does.

use super::args::{EnvError, Stop};
use super::auth_token::AuthToken;
use super::flag::{Disposition, Flag, Group};
use super::gotext::quote;
use super::notice::{Level, Notice};
use super::settings::Settings;
use super::table::FLAGS;
use super::url::join;
use super::{Config, build, check};

/// What `--check-config` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The effective configuration: a line for each flag, also those with their defaults.
    pub configuration: String,
    /// What a start would warn of.
    pub warnings: Vec<String>,
    /// What a start would refuse.
    pub problems: Vec<String>,
    /// The files that a start would read: flag and path. The host tries to open them.
    pub files: Vec<(String, String)>,
}

/// Flags that only determine how the configuration is read.
const OF_READING: [&str; 3] = ["check-config", "config-file", "version"];

/// Flags with the path of a file.
const FILES: [&str; 12] = [
    "cert-file",
    "key-file",
    "client-cert-file",
    "client-key-file",
    "trusted-ca-file",
    "client-crl-file",
    "peer-cert-file",
    "peer-key-file",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-trusted-ca-file",
    "peer-crl-file",
];

/// Checks settings. `problems` and `notices` come from reading them.
pub(super) fn checked(
    settings: &Settings,
    default_host: Option<&str>,
    mut problems: Vec<String>,
    mut notices: Vec<Notice>,
) -> Checked {
    problems.extend(check::problems(settings));
    let config = match build::build(settings, default_host, &mut notices) {
        Ok(config) => Some(config),
        Err(why) => {
            if !problems.contains(&why) {
                problems.push(why);
            }
            None
        }
    };
    let warnings = notices.iter().filter(|notice| notice.level == Level::Warn);
    Checked {
        configuration: configuration(settings, config.as_ref()),
        warnings: warnings.map(shown).collect(),
        problems,
        files: files(settings),
    }
}

/// Why reading the command line or the environment would end.
pub(super) fn reading_problems(stops: Vec<Stop>, errors: Vec<EnvError>) -> Vec<String> {
    let stops = stops.into_iter().map(|stop| match stop {
        Stop::Bad(error) => error.replace('\n', " "),
        Stop::Help => String::new(),
        Stop::Positional(arg) => format!("{} is not a valid flag", quote(&arg)),
    });
    let errors = errors.into_iter().map(|error| match error {
        EnvError::BadValue(error) => error,
        EnvError::Shadowed(variable) => format!("{variable} is set, and so is its flag"),
    });
    stops.chain(errors).collect()
}

fn configuration(settings: &Settings, config: Option<&Config>) -> String {
    let is_listed = |flag: &&Flag| {
        let is_other = matches!(flag.disposition, Disposition::AliasOf(_) | Disposition::GateOf(_));
        !is_other && flag.group < Group::Compatibility && !OF_READING.contains(&flag.name)
    };
    let lines = FLAGS.iter().filter(is_listed).map(|flag| {
        let value = config.and_then(|config| derived(flag.name, config));
        let value = value.unwrap_or_else(|| settings.value(flag.name).to_text());
        format!("--{}={value}\n", flag.name)
    });
    lines.collect()
}

/// The value of a flag that depends on others if it is not given.
fn derived(name: &str, config: &Config) -> Option<String> {
    Some(match name {
        "advertise-client-urls" => join(&config.advertise_client_urls),
        "data-dir" => config.data_dir.clone(),
        "initial-advertise-peer-urls" => join(&config.advertise_peer_urls),
        "initial-cluster" => config.initial_cluster.clone(),
        _ => return None,
    })
}

fn files(settings: &Settings) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = FILES
        .into_iter()
        .map(|flag| (flag.to_owned(), settings.text(flag)))
        .filter(|(_, path)| !path.is_empty())
        .collect();
    if let Ok(AuthToken::Jwt(options)) = AuthToken::parse(&settings.text("auth-token")) {
        let keys = options.public_key.into_iter().chain(options.private_key);
        files.extend(keys.map(|path| ("auth-token".to_owned(), path.to_string_lossy().into_owned())));
    }
    files
}

fn shown(notice: &Notice) -> String {
    let fields = notice.fields.iter().map(|(name, value)| format!(", {name}: {value}"));
    notice.msg.clone() + &fields.collect::<String>()
}
