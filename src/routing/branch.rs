//! What follows a literal prefix: a trie over segments. A look-up visits a node at most once, and
//! only nodes that fit, however many routes share the prefix.

use std::collections::HashMap;

use super::methods::MethodBits;
use crate::path::Piece;

/// A route as the index knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// In file order.
    pub(super) number: u32,
    pub(super) methods: MethodBits,
}

/// Routes of one shape. Nearly always one, which costs no pointer to follow.
#[derive(Debug, Default)]
pub(super) enum Entries {
    #[default]
    None,
    One(Entry),
    Many(Box<[Entry]>),
}

/// A node. Small, because a look-up among many routes is as slow as the memory it touches.
#[derive(Debug, Default)]
pub(super) struct Branch {
    /// Routes that end here.
    ends: Entries,
    /// Routes that take whatever is left.
    rests: Entries,
    below: Option<Box<Below>>,
}

#[derive(Debug, Default)]
struct Below {
    literals: HashMap<Box<str>, Branch>,
    segment: Option<Branch>,
}

impl Entries {
    pub(super) fn push(&mut self, entry: Entry) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(entry),
            Self::One(first) => Self::Many([first, entry].into()),
            Self::Many(list) => Self::Many(list.into_iter().chain([entry]).collect()),
        };
    }

    pub(super) fn each(&self, visit: &mut dyn FnMut(Entry)) {
        match self {
            Self::None => {}
            Self::One(entry) => visit(*entry),
            Self::Many(entries) => entries.iter().copied().for_each(visit),
        }
    }
}

impl Branch {
    pub(super) fn insert(&mut self, tail: &[Piece], route: Entry) {
        match tail.split_first() {
            None => self.ends.push(route),
            Some((Piece::Rest, _)) => self.rests.push(route),
            Some((Piece::Segment, tail)) => self.below().segment.get_or_insert_default().insert(tail, route),
            Some((Piece::Literal(text), tail)) => {
                self.below().literals.entry(text.clone()).or_default().insert(tail, route);
            }
        }
    }

    fn below(&mut self) -> &mut Below {
        self.below.get_or_insert_default()
    }

    /// Calls `visit` with every route that matches `left`: the decoded path from here on, `None` when
    /// it ended without a slash.
    pub(super) fn each(&self, left: Option<&str>, visit: &mut dyn FnMut(Entry)) {
        let Some(left) = left else {
            return self.ends.each(visit);
        };
        self.rests.each(visit);
        let Some(below) = &self.below else { return };
        let (segment, after) = match left.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (left, None),
        };
        if let Some(branch) = below.literals.get(segment) {
            branch.each(after, visit);
        }
        if let Some(branch) = below.segment.as_ref().filter(|_| !segment.is_empty()) {
            branch.each(after, visit);
        }
    }
}
