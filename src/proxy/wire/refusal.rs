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
use crate::reply::{Circumstances, ProxyError, from_error};
use crate::resilience::SystemClock;

/// What the client gets to take the answer, and to notice it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Says why and closes.
pub(super) async fn refuse(gateway: &Gateway, line: &mut Line, error: &ProxyError) {
    let correlation_id = CorrelationId::written_in(line.ahead()).unwrap_or_else(CorrelationId::fresh);
    let around = Circumstances { correlation_id: &correlation_id, login_url: "/auth/login", navigation: false };
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
    let bodiless = line.ahead().starts_with(b"HEAD ");
    let body: &[u8] = if bodiless { b"" } else { &reply.body };
    stages::conclude::refused(gateway, &correlation_id, error, body.len());
    let answer = [head.as_bytes(), body].concat();
    let said = async {
        line.write_all(&answer).await?;
        line.flush().await?;
        tokio::io::AsyncWriteExt::shutdown(line).await
    };
    if matches!(timeout(FAREWELL, said).await, Ok(Ok(()))) {
        // Unread bytes in the socket would make the kernel reset it, answer and all.
        let _ = timeout(FAREWELL, line.discard()).await;
    }
}
