//! An answer to what never became a request: written here, since the engine has not seen it. It ends the
//! connection, for nobody knows where the next request would begin (RFC 9112 §9.6).

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::line::Line;
use crate::proxy::correlation::CorrelationId;
use crate::proxy::gateway::Gateway;
use crate::proxy::stages;
use crate::reply::{Circumstances, LOGIN, ProxyError, from_error};
use crate::resilience::SystemClock;

/// What the client gets to take the answer, and to notice it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Says why and closes. `head`: of the request, where it was taken from the line. `lingers`: the client gets a
/// moment to read it.
pub(super) async fn refuse(gateway: &Gateway, line: &mut Line, head: Option<&[u8]>, error: &ProxyError, lingers: bool) {
    let asked = head.unwrap_or(line.ahead());
    let correlation_id = CorrelationId::written_in(asked).unwrap_or_else(CorrelationId::fresh);
    let bodiless = asked.starts_with(b"HEAD ");
    let around = Circumstances { correlation_id: &correlation_id, login_url: LOGIN, navigation: false };
    let reply = from_error(error, around);
    let reason = reply.status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", reply.status.as_u16());
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let _ = write!(
        head,
        "content-length: {}\r\nx-correlation-id: {correlation_id}\r\ndate: {}\r\nconnection: close\r\n\r\n",
        reply.body.len(),
        SystemClock::http_date(),
    );
    let body: &[u8] = if bodiless { b"" } else { &reply.body };
    stages::conclude::refused(gateway, &correlation_id, error, body.len());
    let answer = [head.as_bytes(), body].concat();
    let said = async {
        line.write_all(&answer).await?;
        line.flush().await?;
        tokio::io::AsyncWriteExt::shutdown(line).await
    };
    if matches!(timeout(FAREWELL, said).await, Ok(Ok(()))) && lingers {
        // Unread bytes in the socket would make the kernel reset it, answer and all.
        let _ = timeout(FAREWELL, line.discard()).await;
    }
}
