//! What is set and what is cut on the way to a service; what is cut, by the proxy's own lists.

use super::page::Page;
use crate::proxy::{IDENTITY, IDENTITY_PREFIXES};

/// Letters on one line.
const WIDTH: usize = 98;
/// Removed and set anew, so told among what is set.
const SET_ANEW: &str = "x-correlation-id";

/// Writes both rows. `own`: what is set for this request alone. `kept`: the client's `Authorization` travels on.
pub(super) fn explain(page: &mut Page, own: &[String], kept: bool) {
    let always = "X-Correlation-ID, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Via, traceparent";
    page.rows("Headers set", own.iter().map(String::as_str).chain([always]));
    let names = IDENTITY.iter().filter(|name| **name != SET_ANEW).map(|name| spelled(name));
    let families = IDENTITY_PREFIXES.iter().map(|prefix| format!("{}*", spelled(prefix)));
    let authorization = (!kept).then(|| "Authorization".to_owned());
    page.rows("Headers cut", lines(authorization.into_iter().chain(families).chain(names)));
    page.more("in any case, also with `_` or `.`; and every hop-by-hop header");
    page.more("our own cookies out of Cookie; the others pass byte for byte");
}

/// As documents write it.
fn spelled(name: &str) -> String {
    let word = |word: &str| match word {
        "id" | "ip" | "url" | "csrf" => word.to_ascii_uppercase(),
        "empowerid" => "EmpowerID".to_owned(),
        _ => {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            first.to_ascii_uppercase() + rest
        }
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

fn lines(names: impl Iterator<Item = String>) -> Vec<String> {
    names.fold(Vec::new(), |mut lines: Vec<String>, name| {
        match lines.last_mut().filter(|line| line.len() + name.len() < WIDTH) {
            Some(line) => line.extend([", ", &name]),
            None => lines.push(name),
        }
        lines
    })
}
