//! Whether a logout token is believed: OpenID Connect Back-Channel Logout 1.0 §2.6.

use thiserror::Error;

use super::claims::{Claims, LEEWAY};
use super::error::{IdpError, quote};
use super::jwks::Bringer;
use super::jwt::Compact;
use super::relying_party::RelyingParty;
use super::signature::{self, SignatureError};
use crate::resilience::UnixTime;

/// The member of `events` that makes a JWT a logout token (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Why a logout token is not believed. Carries no piece of the token but its claims' public names.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogoutTokenError {
    /// Not a signed JWT of JSON objects.
    #[error("the logout token cannot be read ({0})")]
    Malformed(&'static str),
    /// `typ` says that it is another kind of token.
    #[error("the token is of another kind: typ {0}")]
    Kind(String),
    /// `alg` is not on the list of `idps.yaml`.
    #[error("the logout token is signed with {0}, which algorithms in idps.yaml does not allow")]
    Algorithm(String),
    /// No key of the provider fits.
    #[error("the logout token is signed with a key the provider does not publish")]
    UnknownKey,
    /// The named key did not make this signature.
    #[error("the signature of the logout token is wrong")]
    Signature,
    /// A claim that must be there is not, or has the wrong type.
    #[error("the logout token has no usable claim {0}")]
    Claim(&'static str),
    /// `iss` is another.
    #[error("the logout token is of another issuer: {0}")]
    Issuer(String),
    /// `aud` lacks our client id.
    #[error("the logout token is for somebody else: aud {0}")]
    Audience(String),
    /// `aud` has audiences beside our client id that nobody trusts.
    #[error(
        "the logout token is for {0}, too, which nobody here trusts: what is yours belongs into `trusted_audiences` of the entry in \
         idps.yaml"
    )]
    Strangers(String),
    /// `exp` has passed.
    #[error("the logout token has expired; are the clocks in step?")]
    Expired,
    /// `iat` or `nbf` lies ahead.
    #[error("the logout token is from the future; are the clocks in step?")]
    NotYet,
    /// It has a `nonce`: an ID token that somebody sends on.
    #[error("the logout token has a nonce, which it must not")]
    Nonce,
    /// Neither `sid` nor `sub`.
    #[error("the logout token names neither a session nor a person")]
    Nobody,
    /// It could not be checked: nothing is known against it.
    #[error("the logout token could not be checked: {0}")]
    NotChecked(IdpError),
}

impl From<SignatureError> for LogoutTokenError {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Algorithm(name) => Self::Algorithm(name),
            SignatureError::UnknownKey => Self::UnknownKey,
            SignatureError::Wrong => Self::Signature,
            SignatureError::NotChecked(error) => Self::NotChecked(error),
        }
    }
}

/// What the provider says has ended. Checked, but for whether it was said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutNotice {
    /// Ours.
    pub issuer: String,
    /// `jti`: the notice counts once.
    pub id: String,
    /// The one login at the provider that has ended; `None`: all of `subject`'s.
    pub idp_session: Option<String>,
    /// Whose.
    pub subject: Option<String>,
    /// After this the token is refused for its age.
    pub refused_from: UnixTime,
}

impl RelyingParty {
    /// What a logout token says, if every check but the one for replay passed.
    pub async fn read_logout_token(&self, token: &str) -> Result<LogoutNotice, LogoutTokenError> {
        let outcome = self.check_logout_token(token).await;
        let status = match &outcome {
            Ok(_) => "valid",
            Err(LogoutTokenError::NotChecked(_)) => "not_checked",
            Err(_) => "invalid",
        };
        self.metrics.token_validation.with_label_values(&["logout_token", status]).inc();
        outcome
    }

    async fn check_logout_token(&self, token: &str) -> Result<LogoutNotice, LogoutTokenError> {
        let compact = Compact::parse(token).map_err(LogoutTokenError::Malformed)?;
        refuse_other_kinds(compact.header.kind.as_deref())?;
        let notice = self.read_notice(&compact.claims)?;
        // Last: what is refused anyway shall not make us ask for keys.
        signature::verify(&compact, &self.idp.algorithms, &self.known.jwks, Bringer::Herald).await?;
        Ok(notice)
    }

    fn read_notice(&self, claims: &Claims) -> Result<LogoutNotice, LogoutTokenError> {
        let issuer = claims.text("iss").ok_or(LogoutTokenError::Claim("iss"))?;
        if issuer != self.idp.issuer {
            return Err(LogoutTokenError::Issuer(quote(issuer)));
        }
        let audience = claims.audience().ok_or(LogoutTokenError::Claim("aud"))?;
        if !self.id_tokens.is_for_us(&audience) {
            return Err(LogoutTokenError::Audience(quote(&audience.join(" "))));
        }
        if let Some(strangers) = self.id_tokens.strangers(&audience) {
            return Err(LogoutTokenError::Strangers(strangers));
        }
        let refused_from = check_times(claims, self.clock.now())?;
        let event = claims.get("events").and_then(|events| events.as_object()?.get(EVENT));
        if !event.is_some_and(serde_json::Value::is_object) {
            return Err(LogoutTokenError::Claim("events"));
        }
        if claims.get("nonce").is_some() {
            return Err(LogoutTokenError::Nonce);
        }
        let (idp_session, subject) = (name(claims, "sid")?, name(claims, "sub")?);
        if idp_session.is_none() && subject.is_none() {
            return Err(LogoutTokenError::Nobody);
        }
        let id = claims.text("jti").ok_or(LogoutTokenError::Claim("jti"))?.to_owned();
        Ok(LogoutNotice { issuer: issuer.to_owned(), id, idp_session, subject, refused_from })
    }
}

/// `logout+jwt` is recommended, not required (§2.4); what says that it is something else is refused
/// (RFC 8725 §3.11).
fn refuse_other_kinds(kind: Option<&str>) -> Result<(), LogoutTokenError> {
    match kind {
        None | Some("" | "jwt" | "logout+jwt") => Ok(()),
        Some(other) => Err(LogoutTokenError::Kind(quote(other))),
    }
}

/// From when on the token is too old.
fn check_times(claims: &Claims, now: UnixTime) -> Result<UnixTime, LogoutTokenError> {
    let issued = claims.time("iat").ok_or(LogoutTokenError::Claim("iat"))?;
    let refused_from = claims.time("exp").ok_or(LogoutTokenError::Claim("exp"))?.plus(LEEWAY);
    if refused_from <= now {
        return Err(LogoutTokenError::Expired);
    }
    let starts = claims.date("nbf").map_err(LogoutTokenError::Claim)?.unwrap_or(issued).max(issued);
    if starts > now.plus(LEEWAY) { Err(LogoutTokenError::NotYet) } else { Ok(refused_from) }
}

/// An absent claim is one thing, an unreadable one another: it must not widen what is ended.
fn name(claims: &Claims, claim: &'static str) -> Result<Option<String>, LogoutTokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(_) => claims.text(claim).map(|text| Some(text.to_owned())).ok_or(LogoutTokenError::Claim(claim)),
    }
}
