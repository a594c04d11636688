//! The parser against a second reading of paths, written from what is promised and not from the parser: a
//! path is taken when no server behind us, whatever its habits, finds another way than we do. 20 000 paths,
//! a million with `SCALE=full`.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::CanonicalPath;

/// RFC 3986 §3.3: `pchar` without escapes, the slash, and the brackets of browsers.
const WRITTEN_AS_IT_IS: &[u8] = b"/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@[]";
/// RFC 3986 §2.3: these mean the same escaped and not (§6.2.2.2).
const UNRESERVED: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
/// How often somebody behind us may decode and still find something to decode.
const DECODINGS: usize = 4;

/// One byte that is meant, and the three that stand for it where it is escaped.
struct Letter {
    meant: u8,
    escape: Option<String>,
}

/// The one spelling of the path, or `None` where it is to be refused.
fn spelling(raw: &[u8]) -> Option<String> {
    let letters = letters(raw)?;
    let meant: Vec<u8> = letters.iter().map(|letter| letter.meant).collect();
    let escaped_slash = letters.iter().any(|letter| letter.meant == b'/' && letter.escape.is_some());
    if !raw.starts_with(b"/") || escaped_slash || std::str::from_utf8(&meant).is_err() {
        return None;
    }
    let places = segments(&meant).len();
    let mut reading = meant;
    for decoded in 1..=DECODINGS {
        if !all_go_the_same_way(&reading) || segments(&reading).len() != places {
            return None;
        }
        let next = decode(&reading);
        if next == reading {
            break;
        }
        if decoded == DECODINGS {
            return None;
        }
        reading = next;
    }
    let written = letters.into_iter().map(|letter| match letter.escape {
        Some(escape) if !UNRESERVED.contains(&letter.meant) => escape,
        _ => char::from(letter.meant).to_string(),
    });
    Some(written.collect())
}

/// `None` for a byte that may not stand there, or `%` without two hex digits.
fn letters(raw: &[u8]) -> Option<Vec<Letter>> {
    let mut letters = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        if raw[at] == b'%' {
            let escape = std::str::from_utf8(raw.get(at..at + 3)?).ok()?.to_owned();
            let digits = escape[1..].chars().all(|digit| digit.is_ascii_hexdigit());
            let meant = digits.then(|| u8::from_str_radix(&escape[1..], 16).ok())??;
            letters.push(Letter { meant, escape: Some(escape) });
            at += 3;
        } else {
            WRITTEN_AS_IT_IS.contains(&raw[at]).then_some(())?;
            letters.push(Letter { meant: raw[at], escape: None });
            at += 1;
        }
    }
    Some(letters)
}

/// What a careless server makes of it: escapes that are none stay.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let escape = text.get(at..at + 3).and_then(|three| letters(three).filter(|letters| letters.len() == 1));
        if let Some(letter) = escape {
            out.push(letter[0].meant);
            at += 3;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

fn segments(text: &[u8]) -> Vec<&[u8]> {
    text.split(|byte| *byte == b'/').skip(1).collect()
}

/// Servers that cut `;` parameters and servers that do not; that walk `.` and `..` (RFC 3986 §5.2.4), merge slashes,
/// take `\` for one, stop at NUL, drop what is no letter: each ends where the path says.
fn all_go_the_same_way(text: &[u8]) -> bool {
    let literal = segments(text);
    let trailing = literal.last().is_some_and(|last| last.is_empty());
    let names = literal.len() - usize::from(trailing);
    [false, true].into_iter().all(|cuts| {
        let mut way: Vec<&[u8]> = Vec::new();
        for segment in &literal {
            let name = if cuts { segment.split(|byte| *byte == b';').next().unwrap() } else { segment };
            match name {
                b"" | b"." => {}
                b".." => drop(way.pop()),
                name => way.push(name),
            }
        }
        way.len() == names && way.iter().zip(&literal).all(|(name, segment)| segment.starts_with(name))
    }) && !text.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\')
}

/// Pieces near the border, with a bar between two.
const PIECES: &str = "/|/|/|/|.|..|;|;|a|b|c|2|e|5|F|x=1|%|%2|%25|%25|%2e|%2E|%2f|%2F|%5c|%5C|%3b|%3B|%61|%7e|%32|%65|\
                      %66|%C3%A9|%c3|%A9|%c0%ae|%E2%82%AC|%00|%0a|%7f|%u0041|\\|#|?| |*|:|@|[|{|\u{e9}|%20|%23|%3f|%40";
/// And those of which most paths are taken.
const HARMLESS: &str = "/|/|a|b.c|..d|%20|%25|%41|%2d|;v=1|e|%C3%A9|~|%3A|52|+";

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let some_of = |pieces: &'static str| {
        let piece = prop::sample::select(pieces.split('|').collect::<Vec<_>>());
        prop::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()).into_bytes())
    };
    prop_oneof![
        4 => some_of(PIECES),
        3 => some_of(HARMLESS),
        1 => "(/[!-~]{0,6}){1,4}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

#[test]
fn another_reading_of_the_promise_comes_to_the_same() {
    let full = std::env::var("SCALE").is_ok_and(|scale| scale == "full");
    let cases = if full { 1_000_000 } else { 20_000 };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let (taken, changed) = (Cell::new(0), Cell::new(0));
    let ran = TestRunner::new(config).run(&any_path(), |raw| {
        let read = CanonicalPath::parse(&raw).ok();
        let text = read.as_ref().map(|path| path.as_str().to_owned());
        prop_assert_eq!(&text, &spelling(&raw), "{}", raw.escape_ascii());
        if let (Some(path), Some(text)) = (read, text) {
            taken.set(taken.get() + 1);
            changed.set(changed.get() + u32::from(text.as_bytes() != raw));
            prop_assert_eq!(CanonicalPath::parse(text.as_bytes()), Ok(path), "canonical is canonical");
            prop_assert_eq!(spelling(text.as_bytes()), Some(text));
        }
        Ok(())
    });
    ran.unwrap();
    println!("{cases} paths: {} taken, {} of them respelled", taken.get(), changed.get());
    let share = |count: u32| f64::from(count) / f64::from(cases);
    assert!((0.2..0.8).contains(&share(taken.get())) && share(changed.get()) > 0.02, "both sides are seen");
}
