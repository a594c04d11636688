//! What follows a literal prefix: a trie over segments. A look-up visits a node at most once, and
//! only nodes that fit, however many routes share the prefix.

use std::collections::HashMap;

use super::pattern::Piece;

/// A node; its routes are numbers in file order.
#[derive(Debug, Default)]
pub(super) struct Branch {
    literals: HashMap<Box<str>, Branch>,
    segment: Option<Box<Branch>>,
    /// Routes that end here.
    ends: Vec<usize>,
    /// Routes that take whatever is left.
    rests: Vec<usize>,
}

impl Branch {
    pub(super) fn insert(&mut self, tail: &[Piece], route: usize) {
        match tail.split_first() {
            None => self.ends.push(route),
            Some((Piece::Rest, _)) => self.rests.push(route),
            Some((Piece::Segment, tail)) => self.segment.get_or_insert_default().insert(tail, route),
            Some((Piece::Literal(text), tail)) => {
                self.literals.entry(text.clone()).or_default().insert(tail, route);
            }
        }
    }

    /// Calls `visit` with every route that matches `left`: the decoded path from here on, `None` when
    /// it ended without a slash.
    pub(super) fn each(&self, left: Option<&str>, visit: &mut dyn FnMut(usize)) {
        let Some(left) = left else {
            self.ends.iter().copied().for_each(visit);
            return;
        };
        for &route in &self.rests {
            visit(route);
        }
        let (segment, after) = match left.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (left, None),
        };
        if let Some(branch) = self.literals.get(segment) {
            branch.each(after, visit);
        }
        if let Some(branch) = self.segment.as_ref().filter(|_| !segment.is_empty()) {
            branch.each(after, visit);
        }
    }
}
