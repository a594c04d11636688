//! The plugin as its owner holds it: one pointer to what runs, which a reload changes.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::gateway::Gateway;

/// The plugin: put it into your own Pingora server with [`Bff::public_service`], as it is or inside a
/// [`ProxyHttp`](pingora::proxy::ProxyHttp) of your own. Clones are one plugin.
///
/// A wrapper passes on every callback below, as `examples/embed.rs` does, and adds what it wants before or behind. The
/// engine has a default for each, which knows nothing of what was decided here. Where "500" stands, a request without
/// it is refused and the log says `CALLBACK_LEFT_OUT`; what the service had been sent by then, it has.
///
/// | callback | without it |
/// | --- | --- |
/// | `new_ctx`, `upstream_peer` | it does not compile |
/// | `init_downstream_modules` | a compressor that is off, made for each request |
/// | `request_filter` | nothing is decided, and nobody reaches a service: 404 |
/// | `request_cache_filter` | the façade stores nothing |
/// | `cache_key_callback` | the engine panics where the façade stores |
/// | `cache_hit_filter`, `cache_not_modified_filter`, `range_header_filter`, `response_cache_filter` | the rules of RFC 9111 for what is stored |
/// | `should_serve_stale` | what is stored is told at any failure; 500 |
/// | `proxy_upstream_filter` | the façade's circuit and `max_concurrent`; 500 |
/// | `connected_to_upstream` | the timeouts of services; 500 |
/// | `fail_to_connect`, `error_while_proxy` | second attempts within their budget, and whose fault it was |
/// | `upstream_request_filter` | identity, token, path, and the cut of our cookie and of what clients claim; 500 |
/// | `request_body_filter` | `max_body_size`, and the end of a slow upload; 500 |
/// | `upstream_response_filter` | hop-by-hop fields, one length, no cookie of ours, a bound of memory; 500 |
/// | `response_filter` | CORS, the correlation id, `RateLimit`; a body that the façade does not store is cut off |
/// | `upstream_response_body_filter` | the time of a whole answer, live answers that end with their session |
/// | `fail_to_proxy` | our words for errors, stored answers in their place |
/// | `suppress_error_log`, `request_summary` | lines of the engine's own about each failure |
/// | `logging` | metrics, the access line, the circuit's verdict |
#[derive(Debug, Clone)]
pub struct Bff {
    current: Arc<ArcSwap<Gateway>>,
}

impl Bff {
    /// A pipeline over what the composition root built.
    pub(crate) fn over(gateway: Arc<Gateway>) -> Self {
        Self { current: Arc::new(ArcSwap::new(gateway)) }
    }

    /// What requests that begin now will use.
    pub(crate) fn gateway(&self) -> Arc<Gateway> {
        self.current.load_full()
    }

    /// From now on requests begin with `next`; those under way go on with the one returned.
    pub(crate) fn replace(&self, next: Arc<Gateway>) -> Arc<Gateway> {
        self.current.swap(next)
    }
}
