//! Paths by example; `reference` has a second reading of all.

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_bytes_are_answered(raw in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = CanonicalPath::parse(&raw);
    }

    #[test]
    fn ordinary_paths_pass_untouched(raw in "(/[a-z0-9_~-][a-z0-9._~-]{0,6}){1,5}/?") {
        prop_assert_eq!(parse(&raw), Ok(raw));
    }
}
