//! `return_to` for `tests/fuzz`: whatever is wanted, the browser stays with us or goes to a listed host.
#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::sync::LazyLock;

use url::Url;

use super::return_to::safe;

/// A wanted address.
pub fn return_to(data: &[u8]) {
    static OURS: LazyLock<Option<Url>> = LazyLock::new(|| Url::parse("https://app.example.com").ok());
    let (Some(ours), Ok(wanted)) = (OURS.as_ref(), std::str::from_utf8(data)) else { return };
    let target = safe(wanted, ours, &["other.example.com".to_owned()]);
    let host = ours.join(&target).ok().and_then(|url| url.host_str().map(str::to_owned));
    assert!(matches!(host.as_deref(), Some("app.example.com" | "other.example.com")), "{wanted:?} leads to {target:?}");
    let elsewhere = target.starts_with("//") || target.starts_with("/\\") || target.contains(['\\', '\r', '\n', '\t']);
    assert!(!elsewhere && (target.starts_with('/') || target.starts_with("https://other.example.com")), "{target:?}");
    assert_eq!(safe(&target, ours, &["other.example.com".to_owned()]), target, "safe is safe");
}
