//! Whose request this is: of a browser with a session, of a caller with an access token, or of nobody
//! we know.

use std::sync::Arc;

use http::HeaderValue;

use crate::oidc::Caller;
use crate::session::{Session, arn};

/// What authentication found.
#[derive(Debug)]
pub(super) enum Who {
    /// The route asks for nobody, or nobody has been looked for yet.
    Nobody,
    /// The session cookie decides; we speak for the browser.
    Session(Arc<Session>),
    /// The caller's own access token decides, and travels on as it came.
    Caller(Arc<Caller>),
}

impl Who {
    /// The session, where there is one.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Session(session) => Some(session),
            Self::Nobody | Self::Caller(_) => None,
        }
    }

    /// `X-Original-User`.
    pub(super) fn original_user(&self) -> Option<HeaderValue> {
        match self {
            Self::Nobody => None,
            Self::Session(session) => session.original_user(),
            Self::Caller(caller) => HeaderValue::try_from(arn(&caller.provider, &caller.subject)).ok(),
        }
    }
}
