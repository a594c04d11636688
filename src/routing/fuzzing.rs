//! Request targets for `tests/fuzz`: what is matched is in one spelling, and so is what is forwarded.
#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::sync::LazyLock;

use http::Method;
use percent_encoding::percent_decode_str;

use super::{CanonicalPath, Lookup, RouteTable};
use crate::config::fuzzing::routes;

const ROUTES: &str = "services: { s: { base_url: \"http://s:1\" } }\nroutes:\n\
  - { id: exact, path: \"/a/b\", target_service: s, auth: none }\n\
  - { id: wild, path: \"/a/*\", target_service: s, auth: none, upstream_path: \"/base/{path}\" }\n\
  - { id: named, path: \"/n/{one}/x\", target_service: s, auth: none, methods: [GET] }\n\
  - { id: below, path: \"/n/{one}/x/*\", target_service: s, auth: none, upstream_path: \"/{one}/{path}\" }\n\
  - { id: rest, path: \"*\", target_service: s, auth: none, methods: [POST] }\n";

/// A path as it stands in a request line.
pub fn target(data: &[u8]) {
    static TABLE: LazyLock<Option<RouteTable>> = LazyLock::new(|| RouteTable::build(&routes(ROUTES)).ok());
    let Ok(path) = CanonicalPath::parse(data) else { return };
    let text = path.as_str();
    assert_eq!(CanonicalPath::parse(text.as_bytes()).as_ref(), Ok(&path), "canonical is canonical");
    assert_one_reading(text);
    let Some(table) = TABLE.as_ref() else { return };
    for method in [Method::GET, Method::POST] {
        if let Lookup::Found(route) = table.find(&method, &path) {
            let forwarded = route.upstream_path(&path);
            assert!(CanonicalPath::parse(forwarded.as_bytes()).is_ok(), "{text} is forwarded as {forwarded}");
        }
    }
}

/// However often somebody behind us decodes: no segment that leads elsewhere.
fn assert_one_reading(text: &str) {
    let mut reading = text.to_owned();
    for _depth in 0..4 {
        let rest = reading.strip_prefix('/');
        let segments = rest.into_iter().flat_map(|rest| rest.split('/'));
        let mut bare = segments.map(|segment| segment.split(';').next().unwrap_or_default());
        let dots = bare.any(|segment| matches!(segment, "." | ".."));
        let doubled = reading.contains("//");
        let control = reading.bytes().any(|byte| byte < b' ' || byte == 0x7f || byte == b'\\');
        assert!(rest.is_some() && !dots && !doubled && !control, "{text} can be read as {reading:?}");
        reading = percent_decode_str(&reading).decode_utf8_lossy().into_owned();
    }
}
