//! What a failed connection comes down to, in the words of whoever noticed it: the kernel, TLS or the engine.

use std::error::Error as StdError;

use pingora::{Error, ErrorType};

/// The innermost cause: `Connection refused (os error 111)`, `invalid peer certificate: …`; where there is none, what the
/// engine calls it. Never its context, which may quote an answer; only of a TLS handshake it is all there is.
#[must_use]
pub fn cause_of(error: &Error) -> String {
    if let (ErrorType::TLSHandshakeFailure, Some(context)) = (error.etype(), &error.context) {
        let (words, before) = (context.as_str(), ["cause: ", "tls connect error: ", "TLS connect() failed: "]);
        let reason = before.iter().find_map(|mark| words.split_once(mark)).map_or(words, |(_, reason)| reason);
        return reason.split(", SNI: ").next().unwrap_or(reason).to_owned();
    }
    let root: &(dyn StdError + 'static) = error.root_cause();
    let innermost = std::iter::successors(root.source(), |cause| (**cause).source()).last().unwrap_or(root);
    innermost.downcast_ref::<Error>().map_or_else(|| innermost.to_string(), |own| own.etype().as_str().to_owned())
}
