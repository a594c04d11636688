//! Paths by example, and against an independent decoder as lenient as the worst server.

use proptest::prelude::*;

use super::PathRefusal::*;
use super::*;

fn parse(raw: &str) -> Result<String, PathRefusal> {
    CanonicalPath::parse(raw.as_bytes()).map(|path| path.as_str().to_owned())
}

#[test]
fn keeps_what_is_unambiguous() {
    for raw in [
        "/",
        "/a/",
        "/a/b;v=1/c",
        "/a..b/...",
        "/.well-known/x",
        "/caf%C3%A9",
        "/caf%c3%a9",
        "/a%20b%3F",
        "/100%25",
        "/100%2525",
        "/5%25off",
        "/a:b@c!$&'()*+,;=~-_",
        "/[id]",
        "/%40me",
        "/a%3Bb",
    ] {
        assert_eq!(parse(raw).as_deref(), Ok(raw));
    }
    assert_eq!(parse("/%61dmin%7e/%2D").as_deref(), Ok("/admin~/-"));
}

#[test]
fn refuses_what_could_be_read_differently() {
    let cases: &[(PathRefusal, &[&str])] = &[
        (NotAbsolute, &["", "*", "a/b", "%2fa", "http://x/"]),
        (
            DotSegment,
            &[
                "/.",
                "/..",
                "/a/../b",
                "/a/./b",
                "/a/%2e%2E/b",
                "/a/.%2e",
                "/a/..;/b",
                "/a/..;x=1/b",
                "/.;",
                "/.;a;b",
                "/..%3b/b",
                "/%2e%2e%3Bx",
            ],
        ),
        (EmptySegment, &["//", "//a", "/a//b", "/a//", "/;/a", "/a/;x", "/a/%3b/b"]),
        (Backslash, &["/a\\b", "/a%5cb", "/a%5Cb"]),
        (EncodedSlash, &["/a%2fb", "/..%2F"]),
        (ControlByte, &["/%00", "/a\0", "/%0a", "/%1F", "/%7f", "/\u{7f}", "/a\tb", "/\r\n"]),
        (Fragment, &["/a#b"]),
        (NonAscii, &["/é"]),
        (ForbiddenByte, &["/a b", "/a\"b", "/<", "/>", "/^", "/`", "/{", "/|", "/}", "/a?b"]),
        (BadEscape, &["/%", "/%4", "/%zz", "/%u002e", "/%2", "/%+1"]),
        (NotUtf8, &["/%c0%ae", "/%e9", "/%C0%AF", "/%ED%A0%80", "/%f8%80%80%80%ae"]),
        (
            DoubleEncoded,
            &[
                "/%252e",
                "/%252E%252e/a",
                "/a%252fb",
                "/a%255Cb",
                "/%2500",
                "/%250a",
                "/%25%32e",
                "/%25252e",
                "/a/%252e.",
                "/a/..%253b/b",
                "/%25252525252525",
            ],
        ),
    ];
    for (refusal, paths) in cases {
        for raw in *paths {
            assert_eq!(parse(raw), Err(*refusal), "{raw:?}");
        }
    }
    assert_eq!(CanonicalPath::parse(b"/\xff"), Err(NonAscii));
}

/// Made of the parts that matter, so that most cases are near the border.
fn any_path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "/", "/", "/", ".", "..", ";", "a", "b", "2", "e", "5", "F", "c", "%", "%2", "%25", "%2e", "%2F", "%5c", "%3b",
        "%61", "%32", "%65", "%C3%A9", "%c0", "\\", "%00", "*",
    ]);
    prop::collection::vec(part, 0..10).prop_map(|parts| format!("/{}", parts.concat()))
}

/// An independent decoder, as lenient as the worst.
fn decode_once(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        match (text[at], digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn is_safe(text: &[u8], slashes: usize) -> bool {
    let mut segments = text.split(|&b| b == b'/').map(|s| s.split(|&b| b == b';').next().unwrap());
    text.split(|&b| b == b'/').count() == slashes + 1
        && !text.iter().any(|&b| b == b'\\' || b == 0)
        && !segments.any(|segment| segment == b"." || segment == b"..")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_decoder_further_on_finds_another_path(raw in any_path()) {
        if let Ok(path) = parse(&raw) {
            let slashes = path.matches('/').count();
            let once = decode_once(path.as_bytes());
            let twice = decode_once(&once);
            let thrice = decode_once(&twice);
            for text in [path.as_bytes(), &once, &twice, &thrice] {
                prop_assert!(is_safe(text, slashes), "{raw:?} is read as {}", text.escape_ascii());
            }
            prop_assert!(!path.contains("//"));
            prop_assert_eq!(parse(&path), Ok(path.clone()));
            prop_assert_eq!(&once, &decode_once(raw.as_bytes()), "the meaning changed");
        }
    }

    #[test]
    fn any_bytes_are_answered(raw in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = CanonicalPath::parse(&raw);
    }

    #[test]
    fn ordinary_paths_pass_untouched(raw in "(/[a-z0-9_~-][a-z0-9._~-]{0,6}){1,5}/?") {
        prop_assert_eq!(parse(&raw), Ok(raw));
    }
}
