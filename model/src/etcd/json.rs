//! Reads the JSON that log entries contain: members and their attributes.

use std::collections::BTreeMap;

/// A value. Numbers are whole and not negative, like ids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Json {
    Array(Vec<Self>),
    Bool(bool),
    Null,
    Number(u64),
    Object(BTreeMap<String, Self>),
    Text(String),
}

impl Json {
    /// Parses a text that is one value.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut reader = Reader {
            rest: std::str::from_utf8(text).ok()?,
        };
        let value = reader.value()?;
        reader.space();
        reader.rest.is_empty().then_some(value)
    }

    /// A field of an object.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.get(name),
            Self::Array(_) | Self::Bool(_) | Self::Null | Self::Number(_) | Self::Text(_) => None,
        }
    }

    /// A field that is a number; 0 if it is absent.
    pub(super) fn number(&self, name: &str) -> u64 {
        match self.field(name) {
            Some(Self::Number(number)) => *number,
            _ => 0,
        }
    }

    /// A field that is a text; empty if it is absent.
    pub(super) fn text(&self, name: &str) -> String {
        match self.field(name) {
            Some(Self::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// A field that is a boolean; false if it is absent.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.field(name) == Some(&Self::Bool(true))
    }

    /// A field that is a list of texts; empty if it is absent.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let Some(Self::Array(values)) = self.field(name) else {
            return Vec::new();
        };
        let text = |value: &Self| match value {
            Self::Text(text) => Some(text.clone()),
            Self::Array(_) | Self::Bool(_) | Self::Null | Self::Number(_) | Self::Object(_) => None,
        };
        values.iter().filter_map(text).collect()
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// Consumes these characters if they are next.
    fn take(&mut self, token: &str) -> Option<()> {
        self.space();
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    fn value(&mut self) -> Option<Json> {
        self.space();
        match self.rest.chars().next()? {
            '{' => self.object(),
            '[' => self.array(),
            '"' => self.text().map(Json::Text),
            't' => self.take("true").map(|()| Json::Bool(true)),
            'f' => self.take("false").map(|()| Json::Bool(false)),
            'n' => self.take("null").map(|()| Json::Null),
            _ => self.number().map(Json::Number),
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.take("{")?;
        let mut fields = BTreeMap::new();
        if self.take("}").is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.take(":")?;
            fields.insert(name, self.value()?);
            if self.take(",").is_none() {
                return self.take("}").map(|()| Json::Object(fields));
            }
        }
    }

    fn array(&mut self) -> Option<Json> {
        self.take("[")?;
        let mut values = Vec::new();
        if self.take("]").is_some() {
            return Some(Json::Array(values));
        }
        loop {
            values.push(self.value()?);
            if self.take(",").is_none() {
                return self.take("]").map(|()| Json::Array(values));
            }
        }
    }

    fn number(&mut self) -> Option<u64> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok()
    }

    fn text(&mut self) -> Option<String> {
        self.rest = self.rest.strip_prefix('"')?;
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => match chars.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'u' => {
                        let digits: String = chars.by_ref().take(4).collect();
                        // URLs and names have no characters that need a surrogate pair.
                        text.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    same => text.push(same),
                },
                plain => text.push(plain),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}
