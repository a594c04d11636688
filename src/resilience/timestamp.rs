//! A moment as log lines tell it. Most are told within the second of the one before: only its milliseconds are
//! written anew.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

const LENGTH: usize = "2026-01-01T00:00:00.000Z".len();

thread_local! {
    /// The second that was told last, and how.
    static LAST: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };
}

/// RFC 3339 in UTC, with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp([u8; LENGTH]);

impl Timestamp {
    /// Of `moment`; one before 1970 counts as that year's beginning.
    #[must_use]
    pub fn of(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (second, mut text) = LAST.get();
        if second != since.as_secs() {
            let written = humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string();
            text = written.as_bytes().try_into().unwrap_or([b'0'; LENGTH]);
            LAST.set((since.as_secs(), text));
        }
        let millis = since.subsec_millis();
        let digit = |number: u32| b'0' + u8::try_from(number % 10).unwrap_or(0);
        let [.., hundreds, tens, ones, _z] = &mut text;
        (*hundreds, *tens, *ones) = (digit(millis / 100), digit(millis / 10), digit(millis));
        Self(text)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_moment_is_told_as_if_it_were_the_first() {
        for millis in [0, 1, 999, 1_000, 1_700_000_000_123, 1_700_000_000_007, 1_700_000_001_000, 1_699_999_999_999] {
            let moment = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(Timestamp::of(moment).as_str(), humantime::format_rfc3339_millis(moment).to_string());
        }
    }
}
