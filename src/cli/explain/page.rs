//! Labelled rows, for eyes at three in the morning.

use std::iter;

/// Text in two columns.
pub struct Page(String);

const WIDTH: usize = 14;

impl Page {
    /// Starts with a title and an empty line.
    pub fn new(title: &str) -> Self {
        Self(format!("{title}\n\n"))
    }

    /// A labelled line.
    pub fn row(&mut self, label: &str, text: impl AsRef<str>) {
        let text = text.as_ref();
        self.0.extend([&format!("{label:WIDTH$}"), text, "\n"]);
    }

    /// Lines under one label.
    pub fn rows(&mut self, label: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        for (label, line) in iter::once(label).chain(iter::repeat("")).zip(lines) {
            self.row(label, line);
        }
    }

    /// Another line under the same label.
    pub fn more(&mut self, text: impl AsRef<str>) {
        self.row("", text);
    }

    /// What is printed.
    pub fn into_text(self) -> String {
        self.0
    }
}
