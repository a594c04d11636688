//! A file's text and the places in it. A place can draw its line, with every secret on it covered.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostic::Snippet;
use super::model::Place;

const COVER: &str = "[hidden]";
/// Longer lines are drawn as a window around the caret.
const WINDOW: usize = 160;

/// A position: line and column (in characters), both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// From `start` up to, but without, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Position,
    pub(super) end: Position,
}

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    lines: Vec<String>,
    hidden: RefCell<Vec<Span>>,
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Rc<Self> {
        let lines = text.lines().map(str::to_owned).collect();
        Rc::new(Self { path: path.to_owned(), lines, hidden: RefCell::default() })
    }

    /// Everything in these places is covered in whatever is drawn from now on, and so is a comment behind it: it may
    /// be the rest of a secret that holds a ` #`.
    pub(super) fn hide(&self, spans: Vec<Span>) {
        let with_comment = spans.into_iter().map(|mut span| {
            let line = span.end.line.checked_sub(1).and_then(|index| self.lines.get(index));
            let rest = line.map(|line| line.chars().skip(span.end.column.saturating_sub(1)).collect::<String>());
            if let Some(rest) = rest.filter(|rest| rest.trim_start().starts_with('#')) {
                span.end.column += rest.chars().count();
            }
            span
        });
        self.hidden.borrow_mut().extend(with_comment);
    }

    fn hides(&self, place: Position) -> bool {
        self.hidden.borrow().iter().any(|span| span.start <= place && place < span.end)
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Columns of `line` that are covered: from, up to.
    fn covered(&self, line: usize, length: usize) -> Vec<(usize, usize)> {
        let hidden = self.hidden.borrow();
        let touching = hidden.iter().filter(|span| span.start.line <= line && line <= span.end.line);
        let ranges = touching.map(|span| {
            let from = if span.start.line == line { span.start.column } else { 1 };
            let to = if span.end.line == line { span.end.column } else { length + 1 };
            (from, to)
        });
        ranges.filter(|(from, to)| from < to).collect()
    }
}

/// A place in a file, kept with the file so that it can be drawn.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    source: Rc<Source>,
    span: Span,
}

impl Spot {
    pub(super) fn new(source: &Rc<Source>, span: Span) -> Self {
        Self { source: Rc::clone(source), span }
    }

    /// A file as a whole.
    pub(super) fn whole_file(source: &Rc<Source>) -> Self {
        let nowhere = Position { line: 0, column: 0 };
        Self::new(source, Span { start: nowhere, end: nowhere })
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Whether it is covered: an alias brings a secret to where none is looked for.
    pub(super) fn is_hidden(&self) -> bool {
        self.source.hides(self.span.start)
    }

    pub(super) fn place(&self) -> Place {
        let Position { line, column } = self.span.start;
        Place { file: self.source.path.clone(), line, column }
    }

    /// The first line of the place, as it may be shown.
    pub(super) fn draw(&self) -> Option<Snippet> {
        let number = self.span.start.line;
        let line = self.source.lines.get(number.checked_sub(1)?)?;
        let length = line.trim_end().chars().count();
        let end = if self.span.end.line == number { self.span.end.column } else { length + 1 };
        let covered = self.source.covered(number, length);
        let mut drawn: Vec<char> = Vec::new();
        let (mut from, mut to) = (None, None);
        let mut under_cover = false;
        for (column, letter) in (1..=length).zip(line.chars()) {
            let hidden = covered.iter().any(|(start, end)| (*start..*end).contains(&column));
            let before = if hidden && under_cover { drawn.len() - COVER.len() } else { drawn.len() };
            if hidden && !under_cover {
                drawn.extend(COVER.chars());
            } else if !hidden {
                drawn.push(if letter == '\t' { ' ' } else { printable(letter) });
            }
            under_cover = hidden;
            if column >= self.span.start.column && from.is_none() {
                from = Some(before);
            }
            if column < end {
                to = Some(drawn.len());
            }
        }
        let start = from.unwrap_or(drawn.len());
        let width = to.unwrap_or(start).saturating_sub(start).max(1);
        Some(window(drawn, start, width))
    }
}

fn printable(letter: char) -> char {
    if letter.is_control() { '\u{fffd}' } else { letter }
}

fn window(drawn: Vec<char>, start: usize, width: usize) -> Snippet {
    if drawn.len() <= WINDOW {
        return Snippet { line: drawn.into_iter().collect(), start, width };
    }
    let skipped = start.saturating_sub(WINDOW / 4);
    let line: String = drawn.into_iter().skip(skipped).take(WINDOW).collect();
    Snippet { line, start: start - skipped, width: width.min(WINDOW - (start - skipped)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize) -> Span {
        Span { start: Position { line: 1, column: start }, end: Position { line: 1, column: end } }
    }

    #[test]
    fn a_secret_is_covered_and_the_caret_moves_with_it() {
        let source = Source::new(Path::new("a.yaml"), "{ s: abc, oops: 1 }");
        source.hide(vec![span(6, 9)]);
        let drawn = Spot::new(&source, span(11, 15)).draw().unwrap();
        assert_eq!(drawn, Snippet { line: "{ s: [hidden], oops: 1 }".to_owned(), start: 15, width: 4 });
        let covered = Spot::new(&source, span(6, 9)).draw().unwrap();
        assert_eq!((covered.start, covered.width), (5, COVER.len()));
    }

    #[test]
    fn a_long_line_is_drawn_around_its_caret() {
        let source = Source::new(Path::new("a.yaml"), &format!("{}oops{}", "a".repeat(500), "b".repeat(500)));
        let drawn = Spot::new(&source, span(501, 505)).draw().unwrap();
        assert_eq!(drawn.line.chars().count(), WINDOW);
        assert_eq!(drawn.line.get(drawn.start..drawn.start + drawn.width), Some("oops"));
    }
}
