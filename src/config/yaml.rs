//! YAML text → [`Node`] tree. Keys that are written twice stay in the tree, so that each can be reported.

use std::collections::HashMap;
use std::rc::Rc;

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span as YamlSpan};

use super::diagnostic::Diagnostic;
use super::node::{Entry, Node, Scalar, Value};
use super::source::{Position, Source, Span, Spot};

/// Deeper than any sane configuration, shallow enough for every recursion over the tree.
const MAX_DEPTH: usize = 32;
/// Aliases may repeat a few lines, not blow up a document.
const MAX_NODES: usize = 2_000_000;

/// The one document of `text`; an empty one is `Null`.
pub(super) fn parse(source: &Rc<Source>, text: &str) -> Result<Node, Box<Diagnostic>> {
    let mut builder = Builder { source, open: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0 };
    for next in Parser::new_from_str(text) {
        match next {
            Ok((event, span)) => builder.take(event, &span)?,
            Err(error) => {
                let position = Position { line: error.marker().line(), column: error.marker().col() + 1 };
                let spot = Spot::new(source, Span { start: clamp(source, position), end: position });
                return Err(Box::new(Diagnostic::error(&spot, format!("this is not YAML: {}", error.kind()))));
            }
        }
    }
    Ok(builder.root.unwrap_or(Node { spot: Spot::whole_file(source), value: Value::Null }))
}

/// An error at the end of the file is shown at its last line.
fn clamp(source: &Source, position: Position) -> Position {
    let last = source.lines().len().max(1);
    if position.line <= last {
        return position;
    }
    let column = source.lines().last().map_or(1, |line| line.chars().count() + 1);
    Position { line: last, column }
}

enum Open {
    List { items: Vec<Node> },
    Map { entries: Vec<Entry>, key: Option<(String, Spot)> },
}

struct Frame {
    open: Open,
    anchor: usize,
    spot: Spot,
}

struct Builder<'a> {
    source: &'a Rc<Source>,
    open: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &YamlSpan) -> Result<(), Box<Diagnostic>> {
        let spot = self.spot(span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                refuse(&spot, "a second YAML document begins here", "one file holds one document")
            }
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    return refuse(&spot, "tags (`!…`) are not used here", "write the plain value");
                }
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                // What should have been a value is a name to YAML: a password, as it may be.
                if null && anchor != 0 {
                    return refuse(&spot, "an anchor (`&…`) has nothing behind it", "a value with a `&` is quoted");
                }
                let value = if null { Value::Null } else { Value::Scalar(Scalar { text: text.into_owned(), plain }) };
                self.place(Node { spot, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Open::List { items: Vec::new() }, anchor, spot),
            Event::MappingStart(_, anchor, _) => self.begin(Open::Map { entries: Vec::new(), key: None }, anchor, spot),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => self.place(node.clone(), 0),
                None => refuse(&spot, "this alias stands inside its own anchor", ""),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, anchor: usize, spot: Spot) -> Result<(), Box<Diagnostic>> {
        if self.open.len() >= MAX_DEPTH {
            return refuse(&spot, "this is nested too deeply", "");
        }
        self.open.push(Frame { open, anchor, spot });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Box<Diagnostic>> {
        let Some(Frame { open, anchor, spot }) = self.open.pop() else { return Ok(()) };
        let node = match open {
            Open::List { items } => Node { spot, value: Value::List(items) },
            Open::Map { entries, .. } => {
                let spot = entries.first().map_or(spot, |first| first.key_spot.clone());
                Node { spot, value: Value::Map(entries) }
            }
        };
        self.place(node, anchor)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, mut node: Node, anchor: usize) -> Result<(), Box<Diagnostic>> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.nodes += node.size();
        if self.nodes > MAX_NODES || self.open.len() + node.depth() > MAX_DEPTH + 1 {
            return refuse(&node.spot, "the document grows too large", "");
        }
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.open {
            Open::List { items } => items.push(node),
            Open::Map { entries, key } => match key.take() {
                Some((name, key_spot)) => {
                    if !matches!(node.value, Value::Scalar(_)) {
                        node.spot = key_spot.clone();
                    }
                    entries.push(Entry { key: name, key_spot, node });
                }
                None => match node.value {
                    Value::Scalar(scalar) => *key = Some((scalar.text, node.spot)),
                    _ => return refuse(&node.spot, "a key must be a plain word", ""),
                },
            },
        }
        Ok(())
    }

    fn spot(&self, span: &YamlSpan) -> Spot {
        let start = Position { line: span.start.line(), column: span.start.col() + 1 };
        let end = Position { line: span.end.line(), column: span.end.col() + 1 };
        Spot::new(self.source, Span { start, end })
    }
}

fn refuse(spot: &Spot, message: &str, label: &str) -> Result<(), Box<Diagnostic>> {
    Err(Box::new(Diagnostic::error(spot, message).label(label)))
}
