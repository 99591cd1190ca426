//! The definition of a flag: its kind of value, how that is parsed, and its effect in this version.

use super::gates::{FeatureGates, Gate};
use super::gotext::{NumberError, format_duration, parse_bool, parse_duration, parse_int, parse_uint};
use super::url::{Url, join};

/// One flag, as one row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The name, without dashes before it.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: Kind,
    /// The default value, as it would be written.
    pub default: &'static str,
    /// Its effect in this version.
    pub disposition: Disposition,
    /// The chapter of `--help` that lists it.
    pub group: Group,
    /// Its description in `--help`.
    pub help: &'static str,
}

/// The effect of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Its value reaches `Config`, or changes how configuration is read.
    Used,
    /// Accepted, but with no effect or with only a part of it; the reason is logged if the value is not the default.
    Accepted(&'static str),
    /// Accepted without a notice, as etcd accepts flags of old versions.
    Silent,
    /// Any value but the default is refused: ignoring it would be unsafe.
    Refused(&'static str),
    /// An older or newer spelling of another flag.
    AliasOf(&'static str),
    /// An older spelling of a feature gate.
    GateOf(Gate),
}

/// The chapters of `--help`, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Settings of this member.
    Member,
    /// How members find each other.
    Clustering,
    /// TLS, and who may connect.
    Security,
    /// Users' authentication.
    Auth,
    /// Metrics and profiles.
    Monitoring,
    /// What is logged, where and how.
    Logging,
    /// OpenTelemetry.
    Tracing,
    /// Checks, compaction and other tuning.
    Tuning,
    /// Settings that may lose data.
    Unsafe,
    /// Spellings of other etcd versions.
    Compatibility,
    /// Not listed.
    Hidden,
}

/// The kinds of values of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; needs no value on the command line.
    Bool,
    /// Go's duration: `1h2m3.5s`.
    Duration,
    /// `Name=true,Other=false`.
    Gates,
    /// A whole number.
    Int,
    /// Anything; needs no value on the command line, and is ignored.
    Legacy,
    /// Texts separated by commas, in the order given.
    List,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words, separated by commas.
    SomeOf(&'static [&'static str]),
    /// Texts separated by commas, as a set.
    Set,
    /// Any text.
    Text,
    /// A whole number from 0 on.
    Uint,
    /// A whole number from 0 on that fits 32 bits.
    Uint32,
    /// URLs separated by commas; empty leaves the default.
    Urls,
    /// URLs separated by commas, or `*`.
    UrlsOrAny,
}

/// One value of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Duration`], in nanoseconds.
    Duration(i64),
    /// Of [`Kind::Gates`].
    Gates(FeatureGates),
    /// Of [`Kind::Int`].
    Int(i64),
    /// Of [`Kind::List`], [`Kind::Set`] and [`Kind::SomeOf`].
    List(Vec<String>),
    /// Of [`Kind::OneOf`], [`Kind::Text`] and [`Kind::Legacy`].
    Text(String),
    /// Of [`Kind::Uint`] and [`Kind::Uint32`].
    Uint(u64),
    /// Of [`Kind::Urls`] and [`Kind::UrlsOrAny`].
    Urls(Vec<Url>),
}

impl Flag {
    /// The environment variable that sets this flag.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// True if the flag may be given without a value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Legacy)
    }

    /// The default value.
    #[must_use]
    pub fn default_value(&self) -> Value {
        match self.kind {
            Kind::Urls if self.default.is_empty() => return Value::Urls(Vec::new()),
            Kind::Set if self.default.is_empty() => return Value::List(Vec::new()),
            _ => {}
        }
        self.kind
            .parse(self.default)
            .expect("a test reads every default of the table")
    }

    /// Parses a value; `earlier` is the value from an earlier occurrence of the flag.
    ///
    /// # Errors
    /// The text of Go's flag package.
    pub fn parse(&self, text: &str, earlier: Option<&Value>) -> Result<Value, String> {
        // etcd keeps the current URLs if the flag is set to the empty text, or to one of these URLs.
        if self.kind == Kind::Urls {
            let held = earlier.cloned().unwrap_or_else(|| self.default_value());
            let one_of_them = matches!(&held, Value::Urls(urls) if urls.iter().any(|url| url.to_string() == text));
            if text.is_empty() || one_of_them {
                return Ok(held);
            }
        }
        self.kind.parse(text)
    }
}

impl Kind {
    fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Bool => parse_bool(text)
                .map(Value::Bool)
                .ok_or_else(|| "parse error".to_owned()),
            Self::Duration => parse_duration(text)
                .map(Value::Duration)
                .map_err(|_| "parse error".to_owned()),
            Self::Gates => FeatureGates::parse(text).map(Value::Gates),
            Self::Int => parse_int(text).map(Value::Int).map_err(number_error),
            Self::Legacy | Self::Text => Ok(Value::Text(text.to_owned())),
            Self::List => Ok(Value::List(pieces(text))),
            Self::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::OneOf(_) => Err("invalid value".to_owned()),
            Self::SomeOf(words) => match pieces(text).iter().find(|piece| !words.contains(&piece.as_str())) {
                Some(piece) => Err(format!("invalid value {}", super::gotext::quote(piece))),
                None => Ok(Value::List(pieces(text))),
            },
            Self::Set => {
                // The empty text becomes a list of one empty text, as in etcd.
                let mut set = text.split(',').map(str::to_owned).collect::<Vec<_>>();
                set.sort();
                set.dedup();
                Ok(Value::List(set))
            }
            Self::Uint => parse_uint(text).map(Value::Uint).map_err(number_error),
            Self::Uint32 => match parse_uint(text) {
                Ok(number) if number <= u64::from(u32::MAX) => Ok(Value::Uint(number)),
                Ok(_) | Err(NumberError::Range) => Err(uint32_error(text, "value out of range")),
                Err(NumberError::Syntax) => Err(uint32_error(text, "invalid syntax")),
            },
            Self::UrlsOrAny if text == "*" => Ok(Value::Urls(Vec::new())),
            Self::Urls | Self::UrlsOrAny => Url::parse_list(text).map(Value::Urls),
        }
    }
}

impl Value {
    /// The value as it would be written on the command line.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Bool(on) => on.to_string(),
            Self::Duration(nanos) => format_duration(*nanos),
            Self::Gates(gates) => gates.to_text(),
            Self::Int(number) => number.to_string(),
            Self::List(pieces) => pieces.join(","),
            Self::Text(text) => text.clone(),
            Self::Uint(number) => number.to_string(),
            Self::Urls(urls) => join(urls),
        }
    }
}

fn number_error(error: NumberError) -> String {
    match error {
        NumberError::Syntax => "parse error".to_owned(),
        NumberError::Range => "value out of range".to_owned(),
    }
}

/// etcd parses this kind of number with its own code, which has its own error text.
fn uint32_error(text: &str, why: &str) -> String {
    format!("strconv.ParseUint: parsing {}: {why}", super::gotext::quote(text))
}

fn pieces(text: &str) -> Vec<String> {
    if text.is_empty() {
        Vec::new()
    } else {
        text.split(',').map(str::to_owned).collect()
    }
}
