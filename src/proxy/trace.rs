//! The trace of a request (W3C Trace Context): the caller's goes on, or a new one begins.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::Digits;

pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `traceparent` for the next hop (W3C Trace Context): the caller's trace with a span of our own, or
/// a new trace: then `true`, and what is said about the caller's (`tracestate`) is not about this one (§3.3).
pub(super) fn traceparent(inbound: Option<&HeaderMap>) -> Option<(HeaderValue, bool)> {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let (_version, rest) = text.split_first_chunk_mut::<3>()?;
    let (trace, rest) = rest.split_first_chunk_mut::<32>()?;
    let (span, flags) = rest.get_mut(1..)?.split_first_chunk_mut::<16>()?;
    let mut given = inbound.into_iter().flat_map(|headers| headers.get_all(&TRACEPARENT));
    let theirs = given.next().and_then(|value| parse_traceparent(value.to_str().ok()?));
    // Two of them name no trace.
    let theirs = theirs.filter(|_| given.next().is_none());
    match theirs {
        Some((theirs, sampled)) => {
            trace.copy_from_slice(theirs.as_bytes());
            *flags.last_mut()? += u8::from(sampled);
        }
        None => *trace = Digits::of(fastrand::u128(1..).to_be_bytes()).0,
    }
    *span = Digits::of(fastrand::u64(1..).to_be_bytes()).0;
    Some((HeaderValue::from_bytes(&text).ok()?, theirs.is_none()))
}

/// The trace, and whether it is sampled: the one flag that version 00 knows, which is ours.
fn parse_traceparent(value: &str) -> Option<(&str, bool)> {
    let mut parts = value.splitn(5, '-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Versions to come may have more to say (§3.2.4).
    let over = parts.next().is_none() || version != "00";
    let hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let sampled = matches!(flags.as_bytes().last()?, b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f');
    (valid && over && !zero(trace) && !zero(parent)).then_some((trace, sampled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_and_nonsense_starts_a_new_one() {
        let traceparent = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (TRACEPARENT.clone(), HeaderValue::from_str(line).unwrap()));
            let headers = lines.collect();
            let (value, new) = traceparent(Some(&headers)).unwrap();
            (value.to_str().unwrap().to_owned(), new)
        };
        let known = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for (version, rest, flags) in [
            ("00", "-01", "-01"),
            ("00", "-00", "-00"),
            ("00", "-ff", "-01"),
            ("00", "-0a", "-00"),
            ("01", "-03-and-more", "-01"),
            ("cc", "-00-", "-00"),
        ] {
            let (next, new) = traceparent(&[&format!("{version}-{known}{rest}")]);
            assert_eq!((next.len(), new), (55, false), "{version} {rest}");
            assert!(next.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && next.ends_with(flags), "{next}");
            assert!(!next.contains("00f067aa0ba902b7"));
        }
        let good = format!("00-{known}-01");
        let more = ["-", "-x", "x", " "].map(|more| format!("{good}{more}"));
        let mut bad: Vec<Vec<&str>> = more.iter().map(|one| vec![&**one]).collect();
        bad.extend([vec!["00-0-0-0"], vec!["00-00000000000000000000000000000000-00f067aa0ba902b7-01"], vec![""]]);
        bad.extend([vec![], vec![&*good, &*good], vec![&*good, ""]]);
        let (of_the_future, never) = (format!("cc-{known}-01.x"), format!("ff-{known}-01"));
        bad.extend([vec![&*of_the_future], vec![&*never]]);
        for lines in bad {
            let (fresh, new) = traceparent(&lines);
            assert_eq!((fresh.len(), new), (55, true), "{lines:?}");
            assert!(!fresh.contains("4bf92f3577b34da6a3ce929d0e0e4736") && fresh.ends_with("-00"), "{fresh}");
        }
    }
}
