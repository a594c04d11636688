//! For a path that no route has: the route it was probably meant for.

use super::page::Page;
use crate::routing::{CanonicalPath, Route, RouteTable};

/// Below this likeness a guess only misleads.
const LIKENESS: f64 = 0.6;

/// Names the nearest route, if one is near.
pub fn explain(page: &mut Page, table: &RouteTable, path: &CanonicalPath) {
    let decoded = path.decoded();
    let routes = table.in_order();
    // Of equals the last counts: the first in order, which is the more specific.
    let likenesses = routes.iter().rev().map(|route| (likeness(route, &decoded), route));
    let near = likenesses.max_by(|(one, _), (other, _)| one.total_cmp(other));
    match near.filter(|(likeness, _)| *likeness >= LIKENESS) {
        Some((_, route)) => {
            let pattern = route.pattern().as_str();
            page.more(format!("nearest: {pattern} (`{}`, {})", route.id, route.written_at));
            if pattern.strip_suffix("/*") == Some(path.as_str()) {
                page.more("`/*` matches from the slash on: write a route without it for the path itself");
            }
        }
        None => page.more(format!("nothing similar among {} routes; `pingora-bff routes` lists them", routes.len())),
    }
}

/// 0 to 1, by what is literal: what stands for a placeholder says nothing.
fn likeness(route: &Route, path: &str) -> f64 {
    let mut segments = path.split('/');
    let mut wanted = Vec::new();
    let mut given = Vec::new();
    for want in route.pattern().as_str().split('/') {
        if want == "*" {
            break;
        }
        let have = segments.next();
        if !want.starts_with('{') {
            given.extend(have);
            wanted.push(want);
        }
    }
    if !route.pattern().as_str().ends_with('*') {
        given.extend(segments);
    }
    strsim::normalized_damerau_levenshtein(&wanted.join("/"), &given.join("/"))
}
