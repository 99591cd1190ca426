//! YAML as etcd reads it: the first document of a file as a JSON value, by the rules of Go's sigs.k8s.io/yaml.
//!
//! A crate parses the grammar. Go's rules on top of it are here: the accepted encodings (`encoding`), the meaning of
//! plain scalars (`scalar`), aliases and merge keys, and the text of keys. If a key is repeated, its last value counts.

mod compose;
mod encoding;
mod scalar;

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use crate::limits::MAX_CONFIG_FILE_DEPTH;
use compose::{Node, Tree, compose};
use scalar::Scalar;

/// yaml.v2 checks the share of aliased nodes only in documents with more nodes than this.
const SMALL_DOCUMENT_NODES: usize = 1_000;

/// yaml.v2 checks the share of aliased nodes only if there are more of them than this.
const FEW_ALIASED_NODES: usize = 100;

/// Above this number of nodes, yaml.v2 allows a smaller share of aliased nodes. Here [`FEW_ALIASED_NODES`] is then the
/// limit.
const LARGE_DOCUMENT_NODES: usize = 400_000;

/// Percentage of nodes that may come from aliases in smaller documents.
const ALIASED_PERCENT_MAX: usize = 99;

/// Reads the first document of a file.
///
/// # Errors
/// The mistake, in the words of Go's packages if they have any.
pub(super) fn to_json(bytes: &[u8]) -> Result<Value, String> {
    let text = encoding::text_of(bytes).map_err(|why| format!("yaml: {why}"))?;
    let tree = compose(&text).map_err(|why| format!("yaml: {why}"))?;
    let Some(root) = tree.root else {
        return Ok(Value::Null);
    };
    let mut decoder = Decoder {
        tree: &tree,
        open_aliases: BTreeSet::new(),
        nodes: 0,
        aliased: 0,
    };
    decoder.decode(root, 0)
}

/// Turns nodes into JSON values and resolves aliases.
struct Decoder<'a> {
    tree: &'a Tree,
    /// Aliases that are being resolved.
    open_aliases: BTreeSet<usize>,
    /// Nodes decoded so far, and how many of them through an alias.
    nodes: usize,
    aliased: usize,
}

impl Decoder<'_> {
    fn decode(&mut self, id: usize, depth: usize) -> Result<Value, String> {
        self.count(depth)?;
        match &self.tree.nodes[id] {
            Node::Scalar { text, plain, tag } => json_of(scalar_of(text, *plain, tag.as_deref())?),
            Node::List(items) => {
                let values = items.iter().map(|item| self.decode(*item, depth + 1));
                values.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Node::Map(pairs) => {
                let mut map = Map::new();
                self.read_pairs(pairs, &mut map, depth)?;
                Ok(Value::Object(map))
            }
            Node::Alias { name, target } => {
                self.enter(id, name)?;
                let value = self.decode(*target, depth + 1);
                self.open_aliases.remove(&id);
                value
            }
        }
    }

    /// Counts a node, and refuses documents whose aliases expand to far more nodes than were written.
    fn count(&mut self, depth: usize) -> Result<(), String> {
        self.nodes += 1;
        if !self.open_aliases.is_empty() {
            self.aliased += 1;
        }
        let unfolds = self.aliased > FEW_ALIASED_NODES
            && self.nodes > SMALL_DOCUMENT_NODES
            && (self.nodes > LARGE_DOCUMENT_NODES || self.aliased * 100 > self.nodes * ALIASED_PERCENT_MAX);
        if unfolds {
            return Err("yaml: document contains excessive aliasing".to_owned());
        }
        if depth > MAX_CONFIG_FILE_DEPTH {
            return Err(format!("yaml: exceeded max depth of {MAX_CONFIG_FILE_DEPTH}"));
        }
        Ok(())
    }

    fn enter(&mut self, alias: usize, name: &str) -> Result<(), String> {
        if self.open_aliases.insert(alias) {
            Ok(())
        } else {
            Err(format!("yaml: anchor '{name}' value contains itself"))
        }
    }

    fn read_pairs(
        &mut self,
        pairs: &[(usize, usize)],
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), String> {
        for (key, value) in pairs {
            if self.is_merge(*key) {
                self.merge(*value, map, depth + 1)?;
                continue;
            }
            let key = self.key(*key, depth + 1)?;
            let value = self.decode(*value, depth + 1)?;
            let key = key.map_err(|why| format!("{why}, value: {value}"))?;
            map.insert(key, value);
        }
        Ok(())
    }

    fn is_merge(&self, key: usize) -> bool {
        match &self.tree.nodes[key] {
            Node::Scalar { text, plain, tag } => {
                text == "<<" && (*plain && tag.is_none() || tag.as_deref() == Some("tag:yaml.org,2002:merge"))
            }
            Node::Alias { .. } | Node::List(_) | Node::Map(_) => false,
        }
    }

    /// `<<`: adds the pairs of other maps. They replace pairs before `<<`, and pairs after `<<` replace them.
    fn merge(&mut self, id: usize, map: &mut Map<String, Value>, depth: usize) -> Result<(), String> {
        const WANTS_MAPS: &str = "yaml: map merge requires map or sequence of maps as the value";
        self.count(depth)?;
        match &self.tree.nodes[id] {
            Node::Map(pairs) => self.read_pairs(pairs, map, depth),
            Node::Alias { name, target } => {
                let Node::Map(pairs) = &self.tree.nodes[*target] else {
                    return Err(WANTS_MAPS.to_owned());
                };
                self.enter(id, name)?;
                let read = self.read_pairs(pairs, map, depth + 1);
                self.open_aliases.remove(&id);
                read
            }
            // Earlier maps take precedence over later ones.
            Node::List(items) => items.iter().rev().try_for_each(|item| match &self.tree.nodes[*item] {
                Node::Map(_) | Node::Alias { .. } => self.merge(*item, map, depth + 1),
                Node::List(_) | Node::Scalar { .. } => Err(WANTS_MAPS.to_owned()),
            }),
            Node::Scalar { .. } => Err(WANTS_MAPS.to_owned()),
        }
    }

    /// JSON's keys are text, so numbers and booleans are converted to text. The inner result is an error that Go finds
    /// only after it has read the whole document.
    fn key(&mut self, id: usize, depth: usize) -> Result<Result<String, String>, String> {
        self.count(depth)?;
        match &self.tree.nodes[id] {
            Node::Scalar { text, plain, tag } => Ok(match scalar_of(text, *plain, tag.as_deref())? {
                Scalar::Text(text) => Ok(text),
                Scalar::Bool(on) => Ok(on.to_string()),
                Scalar::Int(number) => Ok(number.to_string()),
                Scalar::Float(number) => Ok((number as f32).to_string()),
                Scalar::Null => Err("unsupported map key of type: %!s(<nil>), key: <nil>".to_owned()),
                Scalar::Uint(number) => Err(format!("unsupported map key of type: uint64, key: {number}")),
            }),
            Node::Alias { name, target } => {
                self.enter(id, name)?;
                let key = self.key(*target, depth + 1);
                self.open_aliases.remove(&id);
                key
            }
            Node::List(_) | Node::Map(_) => Err("yaml: invalid map key: a key must be a scalar".to_owned()),
        }
    }
}

fn scalar_of(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    scalar::resolve(text, plain, tag).map_err(|why| format!("yaml: {why}"))
}

fn json_of(scalar: Scalar) -> Result<Value, String> {
    Ok(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Bool(on) => Value::Bool(on),
        Scalar::Int(number) => Value::Number(number.into()),
        Scalar::Uint(number) => Value::Number(number.into()),
        Scalar::Text(text) => Value::String(text),
        Scalar::Float(number) => {
            let shown = match number {
                number if number.is_nan() => "NaN",
                f64::INFINITY => "+Inf",
                _ => "-Inf",
            };
            let finite = Number::from_f64(number);
            Value::Number(finite.ok_or_else(|| format!("json: unsupported value: {shown}"))?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        to_json(text.as_bytes())
    }

    #[test]
    fn the_first_document_counts() {
        for (text, value) in [
            ("", json!(null)),
            ("# nothing\n", json!(null)),
            ("---\n---\na: 1\n", json!(null)),
            ("a: 1\n---\na: 2\n", json!({"a": 1})),
            ("a: 1\n...\nb: [\n", json!({"a": 1})),
            ("%YAML 1.1\n---\na: 1\n", json!({"a": 1})),
            ("a: 1\n%YAML 1.1\n---\na: 2\n", json!({"a": 1})),
            ("\u{feff}a: 1\r\nb: 2\r\n", json!({"a": 1, "b": 2})),
            (
                "{\"a\":\"b\\/c\",\n\t\"d\": [1, null]}",
                json!({"a": "b/c", "d": [1, null]}),
            ),
        ] {
            assert_eq!(read(text), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn repeated_keys_aliases_and_merges() {
        for (text, value) in [
            ("a: 1\na: 2\n", json!({"a": 2})),
            (
                "5: a\n'5': b\nyes: c\n1.5: d\n",
                json!({"5": "b", "true": "c", "1.5": "d"}),
            ),
            ("a: &x {b: 1}\nc: *x\n", json!({"a": {"b": 1}, "c": {"b": 1}})),
            ("&k a: 1\nb: *k\n*k : 2\n", json!({"a": 2, "b": "a"})),
            (
                "x: &x {a: 1, b: 1}\n<<: *x\nb: 2\n",
                json!({"x": {"a": 1, "b": 1}, "a": 1, "b": 2}),
            ),
            ("b: 2\n<<: {a: 1, b: 1}\n", json!({"a": 1, "b": 1})),
            ("<<: [{a: 1}, {a: 2, b: 2}]\n", json!({"a": 1, "b": 2})),
            ("'<<': 1\n", json!({"<<": 1})),
            ("a: ! '5'\nb: !!str 5\n", json!({"a": "5", "b": "5"})),
        ] {
            assert_eq!(read(text), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn documents_that_go_refuses_are_refused_in_its_words() {
        for (text, why) in [
            (
                "a: b: c\n",
                "yaml: line 1: mapping values are not allowed in this context",
            ),
            (
                "a:\n\tb: c\n",
                "yaml: line 2: found character that cannot start any token",
            ),
            ("a: [1, 2\n", "yaml: line 1: did not find expected ',' or ']'"),
            ("a: 'b\n", "yaml: line 1: found unexpected end of stream"),
            ("a: @b\n", "yaml: line 1: found character that cannot start any token"),
            ("a: *x\n", "yaml: unknown anchor 'x' referenced"),
            ("a: &x [*x]\n", "yaml: anchor 'x' value contains itself"),
            (
                "<<: 5\n",
                "yaml: map merge requires map or sequence of maps as the value",
            ),
            ("[a]: b\n", "yaml: invalid map key: a key must be a scalar"),
            (
                "~: b\n",
                "unsupported map key of type: %!s(<nil>), key: <nil>, value: \"b\"",
            ),
            ("a: .inf\n", "json: unsupported value: +Inf"),
            ("a: !!int x\n", "yaml: cannot decode !!str `x` as a !!int"),
            ("a: \u{1}\n", "yaml: control characters are not allowed"),
        ] {
            assert_eq!(read(text), Err(why.to_owned()), "{text:?}");
        }
        assert_eq!(
            to_json(b"a: \xff\n"),
            Err("yaml: invalid leading UTF-8 octet".to_owned())
        );
    }

    #[test]
    fn deep_and_unfolding_documents_are_refused() {
        let deep = format!("a: {}", "[".repeat(100_000));
        let nested = (0..5_000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect::<String>();
        for text in [&deep, &nested] {
            assert!(read(text).unwrap_err().contains("exceeded max depth"));
        }
        let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in "bcdefghij".chars().zip("abcdefghi".chars()) {
            laughs += &format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 9].join(", "));
        }
        assert_eq!(
            read(&laughs),
            Err("yaml: document contains excessive aliasing".to_owned())
        );
    }
}
