//! Turns the parser's events into a tree of nodes for the first document. Aliases are not resolved yet.

use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};

use crate::limits::MAX_CONFIG_FILE_DEPTH;

/// One document.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The nodes; they refer to each other by their indexes in this list.
    pub(super) nodes: Vec<Node>,
    /// The outermost node, if there is one.
    pub(super) root: Option<usize>,
}

/// A node of a document.
#[derive(Debug)]
pub(super) enum Node {
    Scalar {
        text: String,
        /// Written without quotes.
        plain: bool,
        /// The tag with its prefix written out.
        tag: Option<String>,
    },
    List(Vec<usize>),
    Map(Vec<(usize, usize)>),
    Alias {
        name: String,
        target: usize,
    },
}

/// Reads the first document.
///
/// # Errors
/// The line of the mistake, in libyaml's words.
pub(super) fn compose(text: &str) -> Result<Tree, String> {
    let options = granit_parser::options! {
        block_nesting_limit: MAX_CONFIG_FILE_DEPTH,
        block_scalar_eof_without_line_feed: true,
        bom_inside_document_as_content: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_CONFIG_FILE_DEPTH,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            // libyaml takes a directive for the end of the previous document.
            Err(error) if *error.kind() == ErrorKind::MissingDocumentEndBeforeDirective => break,
            Err(error) => return Err(describe(&error)),
        };
        match event {
            Event::DocumentEnd | Event::StreamEnd => break,
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(written_out);
                builder.add(
                    Node::Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                        tag,
                    },
                    anchor,
                );
            }
            Event::SequenceStart(_, anchor, _) => builder.open(Node::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => builder.open(Node::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => builder.close(),
            Event::Alias(anchor) => {
                let name = span.slice(text).unwrap_or_default().trim_start_matches('*').to_owned();
                builder.add_alias(name, anchor)?;
            }
            Event::UnresolvedAlias(name) => return Err(format!("unknown anchor '{name}' referenced")),
            Event::StreamStart | Event::DocumentStart(..) | Event::Anchor(..) => {}
            // Future versions of the parser may have more events; all that exist are handled above.
            _ => {}
        }
    }
    Ok(builder.tree)
}

fn written_out(tag: &Tag) -> String {
    format!("{}{}", tag.handle(), tag.suffix())
}

/// A list or map that has not ended yet.
struct Open {
    node: usize,
    /// The key whose value comes next, in a map.
    key: Option<usize>,
}

#[derive(Default)]
struct Builder {
    tree: Tree,
    open: Vec<Open>,
    anchors: BTreeMap<usize, usize>,
}

impl Builder {
    fn add(&mut self, node: Node, anchor: usize) -> usize {
        let id = self.tree.nodes.len();
        self.tree.nodes.push(node);
        // The parser numbers anchors from 1; 0 means none.
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        let Some(parent) = self.open.last_mut() else {
            self.tree.root.get_or_insert(id);
            return id;
        };
        match (&mut self.tree.nodes[parent.node], parent.key.take()) {
            (Node::List(items), _) => items.push(id),
            (Node::Map(pairs), Some(key)) => pairs.push((key, id)),
            (Node::Map(_), None) => parent.key = Some(id),
            (Node::Scalar { .. } | Node::Alias { .. }, _) => unreachable!("only lists and maps are opened"),
        }
        id
    }

    fn add_alias(&mut self, name: String, anchor: usize) -> Result<(), String> {
        let target = self.anchors.get(&anchor).copied();
        let target = target.ok_or_else(|| format!("unknown anchor '{name}' referenced"))?;
        self.add(Node::Alias { name, target }, 0);
        Ok(())
    }

    fn open(&mut self, node: Node, anchor: usize) {
        let node = self.add(node, anchor);
        self.open.push(Open { node, key: None });
    }

    fn close(&mut self) {
        self.open.pop();
    }
}

/// The parser's error in the words of libyaml, which etcd shows.
fn describe(error: &ScanError) -> String {
    let words = match error.kind() {
        ErrorKind::UnexpectedCharacter { .. } | ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation => {
            "found character that cannot start any token"
        }
        ErrorKind::SimpleKeyExpected => "could not find expected ':'",
        ErrorKind::UnclosedQuotedScalar => "found unexpected end of stream",
        ErrorKind::ExpectedBlockMappingKey => "did not find expected key",
        ErrorKind::MisplacedFlowCollectionEnd => "did not find expected node content",
        ErrorKind::UnclosedFlowCollection { open: '{' } | ErrorKind::MismatchedFlowCollectionEnd { open: '{', .. } => {
            "did not find expected ',' or '}'"
        }
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::ExpectedFlowSequenceSeparator => "did not find expected ',' or ']'",
        ErrorKind::BlockEntryInFlowCollection => "block sequence entries are not allowed in this context",
        ErrorKind::UndeclaredTagHandle => "found undefined tag handle",
        ErrorKind::TabInPlainScalar => "found a tab character that violates indentation",
        ErrorKind::RecursionLimitExceeded => return format!("exceeded max depth of {MAX_CONFIG_FILE_DEPTH}"),
        _ => &error.info(),
    };
    // libyaml has the context in another field, which etcd does not show.
    let words = words
        .split_once(", ")
        .filter(|(doing, _)| doing.starts_with("while "))
        .map_or(words, |(_, words)| words);
    format!("line {}: {words}", error.marker().line())
}
