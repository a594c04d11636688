//! A YAML document as a tree in which everything knows its place.

use super::source::Spot;

/// A value and its place. A collection's place is the key it belongs to, or its first key.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) spot: Spot,
    pub(super) value: Value,
}

/// What can be written in YAML.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already reported: whoever reads it says nothing more.
    Broken,
}

/// A text, number or boolean.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// May be a number or boolean: written without quotes, or by a variable alone.
    pub(super) plain: bool,
}

/// `key: value`
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_spot: Spot,
    pub(super) node: Node,
}

impl Node {
    /// What it is, for "expected …, found …".
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(scalar) if !scalar.plain => "a text",
            Value::Scalar(scalar) if matches!(scalar.text.as_str(), "true" | "false") => "a boolean",
            Value::Scalar(scalar) if scalar.text.parse::<f64>().is_ok() => "a number",
            Value::Scalar(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Broken => "a broken value",
        }
    }

    /// Nodes from here to the deepest leaf.
    pub(super) fn depth(&self) -> usize {
        let deepest = match &self.value {
            Value::List(items) => items.iter().map(Node::depth).max(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.depth()).max(),
            _ => None,
        };
        1 + deepest.unwrap_or(0)
    }

    /// Nodes in all.
    pub(super) fn size(&self) -> usize {
        let below: usize = match &self.value {
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.size()).sum(),
            _ => 0,
        };
        1 + below
    }
}
