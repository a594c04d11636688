//! Why a request is refused, in the words of this domain. No status numbers here.

use std::time::Duration;

use http::Method;

use crate::resilience::whole_seconds;

/// The one error of the request path. `detail` texts are read by people: they say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The request cannot be read in one way only.
    #[error("{0}")]
    BadRequest(String),
    /// The request line is longer than any of ours.
    #[error("the request line is longer than 16 KiB")]
    TargetTooLong,
    /// More or longer fields than taken.
    #[error("the request has more than 128 header fields, or more than 64 KiB of them")]
    HeaderTooLarge,
    /// Another version than HTTP/1.0, 1.1 or 2.
    #[error("HTTP/1.1 and HTTP/2 are spoken here")]
    VersionNotSupported,
    /// Every place for a connection is taken.
    #[error("there are as many connections as there may be (server.max_connections)")]
    TooManyConnections,
    /// No file or port is left for a connection to the service.
    #[error("no file or port is left here for a connection to the service; try again")]
    NoFilesOrPorts,
    /// Nearly all memory is taken, and requests enough are under way.
    #[error("memory is short here (server.max_memory); try again")]
    ShortOfMemory,
    /// The client took too long to send what it had announced.
    #[error("the request did not arrive in time")]
    ClientTimeout,
    /// No route has this path.
    #[error("no route has this path")]
    NoRoute,
    /// The path is known, the method is not.
    #[error("this path does not take this method")]
    MethodNotAllowed {
        /// What it takes, for `Allow`.
        allow: Vec<Method>,
    },
    /// An unsafe request from another site, or without the token that `csrf.mode: token` wants.
    #[error("{0}")]
    CsrfFailed(String),
    /// A CORS preflight from an origin that is not listed.
    #[error("this origin is not listed in cors.allow_origins")]
    ForbiddenOrigin,
    /// No session, or a dead one.
    #[error("there is no live session; log in first")]
    NotAuthenticated,
    /// The session lives, but only a new login brings a token for this service again: why.
    #[error("the session is kept, but what its login gave for this service is over; log in again ({0})")]
    LoginNeeded(String),
    /// Neither a session nor an access token, where either would do.
    #[error("there is neither a live session nor an access token; log in first, or send Authorization: Bearer")]
    NoCredential,
    /// This path wants an access token in `Authorization`, and there is none.
    #[error("this path wants an access token: Authorization: Bearer")]
    BearerMissing,
    /// The caller's access token is not good here. Why is in the log.
    #[error("the access token is expired, not meant for this service, or otherwise not valid; get a new one")]
    InvalidToken,
    /// The session lives but no token fits this service: what to change, and where.
    #[error("{0}")]
    NoTokenAvailable(String),
    /// A token was needed and the identity provider could not be asked: what it did, or did not.
    #[error("{0}")]
    UpstreamAuthFailed(String),
    /// The body is larger than allowed.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// Bytes.
        limit: u64,
    },
    /// No legacy service has this name.
    #[error("no legacy service is called that; legacy_services.yaml lists them")]
    UnknownService,
    /// The client has asked more often than the route takes.
    #[error("too many requests; try again in {}s", whole_seconds(*.retry_after))]
    RateLimited {
        /// Until the next one is welcome.
        retry_after: Duration,
    },
    /// As many requests to the service as allowed are under way.
    #[error("the service has as many requests under way as it may have")]
    Busy,
    /// The service's circuit is open.
    #[error("the service has failed too often and is left alone for now")]
    CircuitOpen {
        /// Until a trial may go.
        retry_after: Duration,
    },
    /// The request takes a stored answer only (RFC 9111 §5.2.1.7), and there is none.
    #[error("only a stored answer was asked for, and none is stored")]
    NotStored,
    /// The session store could not be asked. The session may well be alive.
    #[error("the session store cannot be reached; the session is kept, try again")]
    StoreUnavailable,
    /// The session store takes nothing more.
    #[error("the session store is full; the session is kept, try again")]
    StoreFull,
    /// The service refused the connection, broke it, or spoke no HTTP.
    #[error("{0}")]
    UpstreamError(String),
    /// The service did not answer within its time.
    #[error("the service did not answer within {}s", .0.as_secs_f32())]
    UpstreamTimeout(Duration),
    /// A fault of ours.
    #[error("internal error")]
    Internal,
}
