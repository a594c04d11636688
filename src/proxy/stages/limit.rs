//! Limit: the body a route takes, declared or streamed.

use http::header::CONTENT_LENGTH;

use crate::proxy::Downstream;
use crate::reply::ProxyError;

/// Refuses a declared length over `limit` before anybody is asked.
pub(in crate::proxy) fn declared(session: &Downstream, limit: Option<u64>) -> Result<(), ProxyError> {
    let Some(limit) = limit else { return Ok(()) };
    let declared = session.get_header(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit) { Err(ProxyError::BodyTooLarge { limit }) } else { Ok(()) }
}

/// Refuses a body as soon as what has come exceeds `limit`.
pub(in crate::proxy) fn streamed(received: u64, limit: Option<u64>) -> Result<(), ProxyError> {
    match limit {
        Some(limit) if received > limit => Err(ProxyError::BodyTooLarge { limit }),
        _ => Ok(()),
    }
}
