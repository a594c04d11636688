//! The findings as people read them: one line each, a sign in front, and what to change at the end.

use std::fmt::Display;

/// Prints findings as they come and counts them.
pub(super) struct Report<'a> {
    print: &'a mut dyn FnMut(&str),
    good: usize,
    bad: usize,
    skipped: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(print: &'a mut dyn FnMut(&str)) -> Self {
        Self { print, good: 0, bad: 0, skipped: 0 }
    }

    /// A heading for what follows.
    pub(super) fn section(&mut self, title: impl Display) {
        let gap = if self.good + self.bad + self.skipped == 0 { "" } else { "\n" };
        (self.print)(&format!("{gap}{title}\n"));
    }

    /// It works.
    pub(super) fn good(&mut self, what: impl Display, found: impl Display) {
        self.good += 1;
        self.line(&format!("✓ {what}: {found}"));
    }

    /// It does not; `place` is the file and the key to change.
    pub(super) fn bad(&mut self, what: impl Display, found: impl Display, place: impl Display) {
        self.bad += 1;
        self.line(&format!("✗ {what}: {found} → change {place}"));
    }

    /// It cannot be had, for which nothing need be wrong with `place`.
    pub(super) fn absent(&mut self, what: impl Display, found: impl Display, place: impl Display) {
        self.bad += 1;
        self.line(&format!("✗ {what}: {found} → is it running, and reachable from here? If it is, change {place}"));
    }

    /// It could not be tested.
    pub(super) fn skip(&mut self, what: impl Display, why: impl Display) {
        self.skipped += 1;
        self.line(&format!("- {what}: {why}"));
    }

    /// Whatever others have said in it, it stays one line.
    fn line(&mut self, text: &str) {
        let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        (self.print)(&format!("{text}\n"));
    }

    /// Prints the sum; whether nothing is wrong.
    pub(super) fn finish(self) -> bool {
        let Self { print, good, bad, skipped } = self;
        let verdict = if bad == 0 { "all is well" } else { "something must be changed" };
        print(&format!("\n{good} ✓, {bad} ✗, {skipped} not tested: {verdict}\n"));
        bad == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_one_bad_one_is_enough() {
        let mut page = String::new();
        let mut print = |text: &str| page.push_str(text);
        let mut report = Report::new(&mut print);
        report.section("The store");
        report.good("answers", "yes,\u{1b}[2J\nalways");
        report.bad("writes", "locked", "conf/settings.yaml: session.store");
        report.skip("reads", "nothing was written");
        assert!(!report.finish());
        assert_eq!(
            page,
            "The store\n✓ answers: yes, [2J always\n✗ writes: locked → change conf/settings.yaml: session.store\n\
             - reads: nothing was written\n\n1 ✓, 1 ✗, 1 not tested: something must be changed\n"
        );
    }
}
