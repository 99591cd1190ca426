//! The given settings, by the names that were used, before they become a typed `Config`.
//!
//! Settings of the command line, the environment and the file are all stored here. The source matters only for the
//! rules of etcd that read [`Settings::from_file`].

use std::collections::BTreeMap;

use super::flag::{Disposition, Flag, Value};
use super::gates::FeatureGates;
use super::table::{FLAGS, find};
use super::url::Url;

/// The given values, by the name under which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    given: BTreeMap<&'static str, Value>,
    /// Some of etcd's rules apply only to flags and variables.
    pub(super) from_file: bool,
}

impl Settings {
    /// Empty settings for a configuration file.
    pub(super) fn of_file() -> Self {
        Self {
            from_file: true,
            ..Self::default()
        }
    }

    /// Adds a value; a later one replaces an earlier one.
    pub(super) fn set(&mut self, flag: &'static Flag, value: Value) {
        self.given.insert(flag.name, value);
    }

    /// The value given so far under exactly this name.
    pub(super) fn given_value(&self, name: &str) -> Option<&Value> {
        self.given.get(name)
    }

    /// True if exactly this spelling was given.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Every flag that was given, with its value, by name.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static Flag, &Value)> {
        self.given
            .iter()
            .filter_map(|(name, value)| find(name).map(|flag| (flag, value)))
    }

    /// The other spelling of a flag that was given, if any.
    pub(super) fn given_alias(&self, name: &str) -> Option<&'static str> {
        let alias = Disposition::AliasOf(find_name(name));
        let other = |flag: &&Flag| flag.disposition == alias && self.is_set(flag.name);
        FLAGS.iter().find(other).map(|flag| flag.name)
    }

    /// The value of a flag: as given in any spelling, or the default.
    pub(super) fn value(&self, name: &str) -> Value {
        let spelled = self
            .given
            .get(name)
            .or_else(|| self.given_alias(name).and_then(|alias| self.given.get(alias)));
        spelled.cloned().unwrap_or_else(|| {
            find(name)
                .expect("only names of the table are asked for")
                .default_value()
        })
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        matches!(self.value(name), Value::Bool(true))
    }

    pub(super) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            other => other.to_text(),
        }
    }

    pub(super) fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(number) => number,
            other => unreachable!("{name} is no unsigned number but {other:?}"),
        }
    }

    pub(super) fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(number) => number,
            other => unreachable!("{name} is no number but {other:?}"),
        }
    }

    pub(super) fn nanos(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Duration(nanos) => nanos,
            other => unreachable!("{name} is no duration but {other:?}"),
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(pieces) => pieces,
            other => unreachable!("{name} is no list but {other:?}"),
        }
    }

    pub(super) fn urls(&self, name: &str) -> Vec<Url> {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => unreachable!("{name} is no list of URLs but {other:?}"),
        }
    }

    /// The gates as `--feature-gates` and the older switches set them.
    pub(super) fn gates(&self) -> FeatureGates {
        let mut gates = self.named_gates();
        for (flag, value) in self.given() {
            if let (Disposition::GateOf(gate), Value::Bool(on)) = (flag.disposition, value) {
                gates.set(gate, *on);
            }
        }
        gates
    }

    /// The gates as `--feature-gates` alone sets them.
    pub(super) fn named_gates(&self) -> FeatureGates {
        match self.value("feature-gates") {
            Value::Gates(gates) => gates,
            other => unreachable!("feature-gates are no gates but {other:?}"),
        }
    }

    /// True if some kind of discovery determines the members.
    pub(super) fn discovers(&self) -> bool {
        !self.text("discovery").is_empty()
            || !self.text("discovery-srv").is_empty()
            || !self.list("discovery-endpoints").is_empty()
    }

    /// The initial cluster as text; with discovery there is no default.
    pub(super) fn initial_cluster(&self) -> String {
        let by_service_name = !self.from_file && !self.text("discovery-srv-name").is_empty();
        if !self.is_set("initial-cluster") && (self.discovers() || by_service_name) {
            return String::new();
        }
        self.text("initial-cluster")
    }
}

/// The static name of the flag from the table; empty if there is no such flag.
fn find_name(name: &str) -> &'static str {
    find(name).map_or("", |flag| flag.name)
}
