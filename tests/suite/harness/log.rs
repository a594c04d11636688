//! What the program wrote to its two outputs: lines, and the JSON in them.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Lines collected so far; filled by threads that end with the child.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// Collects every line of `output` from now on.
    pub(crate) fn collect(&self, output: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }

    /// Everything as it was written.
    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The JSON lines that contain every one of these words anywhere.
    pub(crate) fn entries(&self, words: &[&str]) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        let holding = lines.iter().filter(|line| words.iter().all(|word| line.contains(word)));
        holding.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Whether such a line was written.
    pub(crate) fn has(&self, words: &[&str]) -> bool {
        !self.entries(words).is_empty()
    }
}

/// A field of a log entry, wherever the format keeps it: at the top, in `fields`, or in a span.
pub(crate) fn field<'a>(entry: &'a Value, key: &str) -> Option<&'a Value> {
    let spans = entry.get("spans").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut places = [Some(entry), entry.get("fields"), entry.get("span")].into_iter().flatten().chain(spans);
    places.find_map(|place| place.get(key))
}
