//! Labelled rows, for eyes at three in the morning.

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

    /// Another line under the same label.
    pub fn more(&mut self, text: impl AsRef<str>) {
        self.row("", text);
    }

    /// What is printed.
    pub fn into_text(self) -> String {
        self.0
    }
}
