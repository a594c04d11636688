//! Admit: what cannot be read in one way only is refused before anything is decided on it. Sets the
//! timeouts of the client's connection and the correlation id.

use http::Version;
use http::header::HOST;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::proxy::{Downstream, downstream, headers};
use crate::reply::ProxyError;
use crate::routing::CanonicalPath;

/// The only spelling of the path that anybody further on sees.
pub(in crate::proxy) fn admit(
    gateway: &Gateway,
    session: &mut Downstream,
    ctx: &mut RequestContext,
) -> Result<CanonicalPath, ProxyError> {
    downstream::set_timeouts(gateway, session);
    let request = session.req_header();
    ctx.correlation_id = headers::sane_correlation_id(&request.headers).map_or_else(fresh_id, str::to_owned);
    ctx.navigation = downstream::is_navigation(request);
    "/auth/login".clone_into(&mut ctx.login_url);
    require_one_host(session)?;

    let target = request_target(session)?;
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => {
            let (path, query) = target.split_at_checked(mark).unwrap_or((&target, b""));
            (path, Some(query))
        }
        None => (&*target, None),
    };
    let path = CanonicalPath::parse(path).map_err(|refusal| ProxyError::BadRequest(refusal.to_string()))?;
    let query = match query {
        Some(query) => std::str::from_utf8(query)
            .ok()
            .filter(|query| query.bytes().all(|byte| byte > b' ' && byte != 0x7f && byte != b'#'))
            .ok_or_else(|| ProxyError::BadRequest("the query contains bytes that no URI may carry".to_owned()))?,
        None => "",
    };
    if ctx.navigation {
        let here = format!("{}{query}", path.as_str());
        ctx.login_url = format!("/auth/login?return_to={}", utf8_percent_encode(&here, NON_ALPHANUMERIC));
    }
    query.clone_into(&mut ctx.upstream_target);
    Ok(path)
}

/// A process-wide prefix and a random tail: unique enough to find one line among billions.
fn fresh_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// RFC 9112 §3.2: an HTTP/1.1 request has exactly one `Host`.
fn require_one_host(session: &Downstream) -> Result<(), ProxyError> {
    let request = session.req_header();
    let hosts = request.headers.get_all(HOST).iter().count();
    let missing = hosts == 0 && request.version == Version::HTTP_11 && !session.is_http2();
    if hosts > 1 || missing {
        return Err(ProxyError::BadRequest("the request needs exactly one Host".to_owned()));
    }
    Ok(())
}

/// Path and query as sent. The engine drops a fragment and folds absolute-form, so on HTTP/1 the
/// request line itself is read: nothing may be decided on less than what was sent.
fn request_target(session: &Downstream) -> Result<Vec<u8>, ProxyError> {
    if session.as_http1().is_none() {
        return Ok(session.req_header().raw_path().to_vec());
    }
    let raw = session.as_downstream().to_h1_raw();
    let mut words = raw.split(|byte| matches!(byte, b' ' | b'\r' | b'\n')).filter(|word| !word.is_empty());
    let target = words.nth(1).unwrap_or_default();
    if target.contains(&b'#') {
        return Err(ProxyError::BadRequest("the request target contains a fragment".to_owned()));
    }
    if target.first() == Some(&b'/') {
        return Ok(target.to_vec());
    }
    // Absolute-form (RFC 9112 §3.2.2): the engine has checked its authority against Host.
    let rest = target.split(|byte| *byte == b'/').skip(3).collect::<Vec<_>>().join(&b'/');
    if target.starts_with(b"http://") || target.starts_with(b"https://") {
        return Ok([b"/", rest.as_slice()].concat());
    }
    Ok(target.to_vec())
}
