//! Durations and sizes as people write them.

use std::time::Duration;

/// Ten years: far beyond any sane setting, and far from every overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a duration may be written.
pub(super) const DURATION_FORMS: &str = "seconds (`30`, `0.5`) or a number with ms, s, m, h or d (`500ms`, `5m`)";
/// How a size may be written.
pub(super) const SIZE_FORMS: &str = "bytes (`1048576`) or a number with kB, MB, GB, KiB, MiB or GiB (`10MiB`)";

/// `30`, `0.5`, `500ms`, `30s`, `5m`, `2h`, `1d`; `None` if it is anything else or beyond ten years.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1e3,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        "d" => number * 86_400.0,
        _ => return None,
    };
    if seconds > LONGEST.as_secs_f64() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// Bytes: `1048576`, `10MiB`, `10MB`; `None` if it is anything else or beyond an exbibyte.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes <= 1 << 60)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("0.5", 500),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1", "1 week", "1.2.3", "1e9", "inf", "NaN", "99999999999", "5M", "30 seconds"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("10485760", 10 << 20), ("10MiB", 10 << 20), ("10MB", 10_000_000), ("1 kB", 1_000)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "10M", "18446744073709551615GB", "9999999999999999999999"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = (parse_duration(&text), parse_size(&text));
        }

        #[test]
        fn a_number_with_a_unit_is_the_number_times_the_unit(number in 0u32..1_000_000) {
            prop_assert_eq!(parse_duration(&format!("{number}m")), Some(Duration::from_secs(u64::from(number) * 60)));
            prop_assert_eq!(parse_size(&format!("{number}KiB")), Some(u64::from(number) * 1024));
        }
    }
}
