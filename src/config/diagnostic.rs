//! One finding with its place, and how it is printed: for somebody who was woken up by it.

use std::cell::RefCell;
use std::fmt;

use super::model::Place;
use super::source::Spot;

/// Whether the program may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It may not.
    Error,
    /// It may, but somebody should look.
    Warning,
}

/// A line of a file and what is marked in it. Secrets are covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snippet {
    pub(super) line: String,
    /// Characters before the mark.
    pub(super) start: usize,
    /// Characters marked, at least 1.
    pub(super) width: usize,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    place: Place,
    snippet: Option<Snippet>,
    label: String,
    notes: Vec<String>,
}

impl Diagnostic {
    pub(super) fn error(spot: &Spot, message: impl Into<String>) -> Self {
        let (place, snippet) = (spot.place(), spot.draw());
        let (label, notes) = (String::new(), Vec::new());
        Self { severity: Severity::Error, message: message.into(), place, snippet, label, notes }
    }

    pub(super) fn warning(spot: &Spot, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(spot, message) }
    }

    /// About a file or folder that cannot be read at all.
    pub(super) fn unreadable(path: &std::path::Path, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::of_file(path, message) }
    }

    /// A warning about a file as a whole.
    pub(super) fn of_file(path: &std::path::Path, message: impl Into<String>) -> Self {
        let place = Place { file: path.to_owned(), line: 0, column: 0 };
        let (label, notes) = (String::new(), Vec::new());
        Self { severity: Severity::Warning, message: message.into(), place, snippet: None, label, notes }
    }

    /// Text beside the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// A line below the snippet.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Whether the program may start.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", self.message)?;
        let number = self.place.line.to_string();
        let margin = if self.snippet.is_some() { " ".repeat(number.len()) } else { " ".to_owned() };
        writeln!(f, "{margin}--> {}", self.place)?;
        if let Some(snippet) = &self.snippet {
            let indent = " ".repeat(snippet.start);
            let carets = "^".repeat(snippet.width);
            writeln!(f, "{margin} |")?;
            writeln!(f, "{number} | {}", snippet.line)?;
            writeln!(f, "{}", format!("{margin} | {indent}{carets} {}", self.label).trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "{margin} = {note}")?;
        }
        Ok(())
    }
}

/// Where readers leave what they find while they go on reading.
#[derive(Debug, Default)]
pub(super) struct Collector(RefCell<Vec<Diagnostic>>);

impl Collector {
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.0.borrow_mut().push(diagnostic);
    }

    pub(super) fn into_findings(self) -> Findings {
        let mut diagnostics = self.0.into_inner();
        diagnostics.sort_by(|one, other| one.place.cmp(&other.place));
        Findings { diagnostics }
    }
}

/// Everything found in all files, ordered by file and line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    diagnostics: Vec<Diagnostic>,
}

impl Findings {
    /// Adds what no file tells.
    pub(super) fn add(&mut self, more: impl Iterator<Item = Diagnostic>) {
        self.diagnostics.extend(more);
        self.diagnostics.sort_by(|one, other| one.place.cmp(&other.place));
    }

    /// All of them.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many keep the program from starting.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// How many do not.
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// `3 errors, 1 warning`
    pub fn summary(&self) -> String {
        format!("{}, {}", count(self.errors(), "error"), count(self.warnings(), "warning"))
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Findings {}

/// `1 error`, `2 errors`; "y" becomes "ies".
pub(crate) fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}
