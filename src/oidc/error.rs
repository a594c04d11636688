//! Why a provider could not be asked, refused us, or is not believed. "It said no" and "it could not
//! be asked" are never the same variant: the first may end a session, the second never does.

use thiserror::Error;

use crate::config::Secret;

/// Longest piece of a provider's words that goes into a log.
const QUOTE: usize = 200;

/// What a provider wrote, made fit for a log line: no control characters, at most 200 characters.
pub(super) fn quote(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTE).collect()
}

/// An OAuth error code, and the provider's words where there are any.
pub(super) fn said(code: &str, description: &str) -> String {
    if description.is_empty() { code.to_owned() } else { format!("{code}: {description}") }
}

/// Why a request to the provider brought no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError {
    /// No connection: nothing was sent.
    #[error("cannot be reached ({0})")]
    Unreachable(String),
    /// The connection died after the request went out; the provider may have acted on it.
    #[error("broke the connection off ({0})")]
    Broken(String),
    /// No whole answer in time; the provider may have acted on the request.
    #[error("did not answer in time")]
    TimedOut,
    /// An answer with this status where only 200 is of use.
    #[error("answered with status {0}")]
    Status(u16),
    /// More than a megabyte.
    #[error("answered with too many bytes")]
    TooLarge,
    /// Not what the specification says it must be.
    #[error("answered with something unusable ({0})")]
    Malformed(String),
}

impl FetchError {
    /// The value of the `status` label of `bff_idp_requests_total`.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".into(),
            Self::Broken(_) => "broken".into(),
            Self::TimedOut => "timeout".into(),
            Self::Status(status) => status.to_string(),
            Self::TooLarge => "too_large".into(),
            Self::Malformed(_) => "malformed".into(),
        }
    }
}

/// An `idps.yaml` entry that cannot work whatever the provider does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    /// `issuer` is not a URL we may talk to.
    #[error("issuer {0} is not an https URL (http is for loopback only)")]
    Issuer(String),
    /// A written endpoint that is neither https nor on loopback.
    #[error("endpoint {0} is not an https URL (http is for loopback only)")]
    Endpoint(String),
    /// The way the client authenticates needs `client_secret`.
    #[error("token_auth_method needs client_secret")]
    NoSecret,
    /// `client_secret` is no private key that can sign.
    #[error("client_secret is not a usable private key: a PKCS#8 PEM of RSA, P-256, P-384 or Ed25519 is needed ({0})")]
    ClientKey(String),
    /// Nothing in `algorithms` is an asymmetric JWS algorithm.
    #[error("algorithms names none of RS*, PS*, ES256, ES384, EdDSA")]
    Algorithms,
    /// The HTTP client cannot be made, most often for want of CA certificates.
    #[error("TLS for requests to the provider cannot be set up: {0}")]
    Tls(String),
}

/// The provider's own description (discovery, keys) cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdpError {
    /// The discovery document cannot be fetched or read.
    #[error("discovery of {issuer}: the provider {cause}")]
    Discovery {
        /// As written in `idps.yaml`.
        issuer: String,
        /// What went wrong.
        cause: FetchError,
    },
    /// The document belongs to somebody else (OpenID Connect Discovery §4.3).
    #[error("the discovery document of {wanted} names the issuer {found}; both must be equal to the letter")]
    WrongIssuer {
        /// As written in `idps.yaml`.
        wanted: String,
        /// As found in the document.
        found: String,
    },
    /// An endpoint that is neither https nor on loopback.
    #[error("discovery names the {endpoint} {url}, which is not https")]
    Insecure {
        /// The key of the document.
        endpoint: &'static str,
        /// Its value.
        url: String,
    },
    /// Neither the document nor `idps.yaml` names it.
    #[error("neither discovery nor idps.yaml names the {0}")]
    NoEndpoint(&'static str),
    /// The authorization endpoint cannot be asked.
    #[error("the authorization endpoint: the provider {0}")]
    Authorization(FetchError),
    /// The key set cannot be fetched or read.
    #[error("signing keys: the provider {0}")]
    Keys(FetchError),
    /// The operating system gave no random bytes.
    #[error("no random bytes to be had")]
    NoRandom,
    /// The task that asked is gone (shutdown).
    #[error("the request was interrupted in this process")]
    Interrupted,
}

/// A callback query that is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallbackError {
    /// RFC 6749 §3.1: parameters must not be included more than once.
    #[error("the parameter {0} is there twice")]
    Twice(String),
    /// Longer than any provider's answer.
    #[error("the query is too long")]
    TooLong,
}

/// Why an ID token is not believed (OpenID Connect Core §3.1.3.7).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdTokenError {
    /// The token response has none.
    #[error("there is no id_token")]
    Absent,
    /// Not a signed JWT of JSON objects.
    #[error("the id_token cannot be read ({0})")]
    Malformed(&'static str),
    /// `alg` is not on the list of `idps.yaml`.
    #[error("the id_token is signed with {0}, which algorithms in idps.yaml does not allow")]
    Algorithm(String),
    /// No key of the provider fits.
    #[error("the id_token is signed with a key the provider does not publish")]
    UnknownKey,
    /// The named key did not make this signature.
    #[error("the signature of the id_token is wrong")]
    Signature,
    /// A claim that must be there is not, or has the wrong type.
    #[error("the id_token has no usable claim {0}")]
    Claim(&'static str),
    /// `iss` is another.
    #[error("the id_token is of another issuer: {0}")]
    Issuer(String),
    /// `aud` lacks our client id, or has an audience we do not know.
    #[error("the id_token is for somebody else: aud {0}")]
    Audience(String),
    /// `azp` is not us, or missing with several audiences.
    #[error("the id_token was issued to another client (azp)")]
    AuthorizedParty,
    /// `exp` has passed.
    #[error("the id_token has expired; are the clocks in step?")]
    Expired,
    /// `iat` or `nbf` lies ahead.
    #[error("the id_token is from the future; are the clocks in step?")]
    NotYet,
    /// Not the nonce of this login.
    #[error("the nonce of the id_token is not the one of this login")]
    Nonce,
    /// The access token beside it is another one.
    #[error("at_hash does not fit the access token")]
    AccessTokenHash,
    /// It could not be checked.
    #[error("the id_token could not be checked: {0}")]
    NotChecked(#[from] IdpError),
}

impl IdTokenError {
    /// Whether nothing is wrong with the token as far as we know.
    pub fn is_provider_down(&self) -> bool {
        matches!(self, Self::NotChecked(_))
    }
}

/// Why a token request brought no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// The code or refresh token is spent, revoked or expired (RFC 6749 §5.2).
    #[error("{}", said("invalid_grant", .description))]
    InvalidGrant {
        /// The provider's words; may be empty.
        description: String,
    },
    /// Any other OAuth error: `invalid_target`, `invalid_scope`, `unauthorized_client`, `invalid_client` …
    #[error("{}", said(.error, .description))]
    Refused {
        /// The OAuth error code.
        error: String,
        /// The provider's words; may be empty.
        description: String,
    },
    /// No connection: the request was not sent.
    #[error("the token endpoint cannot be reached ({reason})")]
    Unreachable {
        /// What the network said.
        reason: String,
    },
    /// The connection died after the request was sent.
    #[error("the token endpoint broke the connection off ({reason})")]
    Broken {
        /// What the network said.
        reason: String,
    },
    /// No whole answer in time.
    #[error("the token endpoint did not answer in time")]
    TimedOut,
    /// 5xx, 408, 429, or a 4xx that does not speak OAuth.
    #[error("the token endpoint answered with status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
    /// An answer nobody can use: HTML, no access token, another token type.
    #[error("the token endpoint answered with something unusable ({reason})")]
    Malformed {
        /// What is wrong with it.
        reason: String,
        /// The new refresh token that came along: the old one is spent, so this one must not be lost.
        rotated: Option<Secret>,
    },
    /// A refresh brought an ID token of somebody else (OpenID Connect Core §12.2).
    #[error("the refreshed id_token is of another person or issuer")]
    IdentityChanged,
    /// Discovery, keys or randomness failed before or after the request.
    #[error(transparent)]
    Idp(#[from] IdpError),
}

impl GrantError {
    /// The provider could not be asked or did not make sense: never a reason to end a session.
    pub fn is_provider_down(&self) -> bool {
        match self {
            Self::InvalidGrant { .. } | Self::Refused { .. } | Self::IdentityChanged => false,
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::TimedOut
            | Self::Failed { .. }
            | Self::Malformed { .. }
            | Self::Idp(_) => true,
        }
    }

    /// The provider may have acted on the request and its successor did not arrive: a rotating refresh
    /// token may be spent.
    pub fn answer_lost(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::TimedOut | Self::Failed { .. } | Self::IdentityChanged => true,
            Self::Malformed { rotated, .. } => rotated.is_none(),
            _ => false,
        }
    }

    /// What to look at, where the refusal is about us and not about what we asked for (RFC 6749 §5.2).
    pub fn about_client(&self) -> Option<&'static str> {
        let Self::Refused { error, .. } = self else { return None };
        match error.as_str() {
            "invalid_client" => Some("check `client_id`, `client_secret` and `token_auth_method` in idps.yaml"),
            "unauthorized_client" | "unsupported_grant_type" => {
                Some("the provider must allow this grant to the client (`client_id` in idps.yaml)")
            }
            _ => None,
        }
    }

    /// The new refresh token of an answer that is of no use otherwise.
    pub fn rotated(&self) -> Option<&Secret> {
        match self {
            Self::Malformed { rotated, .. } => rotated.as_ref(),
            _ => None,
        }
    }

    /// The value of the `status` label of `bff_token_exchange_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::InvalidGrant { .. } => "invalid_grant",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Idp(_) => "unreachable",
            Self::TimedOut => "timeout",
            Self::Failed { .. } => "failed",
            Self::Malformed { .. } => "malformed",
            Self::IdentityChanged => "identity_changed",
        }
    }
}

impl From<FetchError> for GrantError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Unreachable(reason) => Self::Unreachable { reason },
            FetchError::Broken(reason) => Self::Broken { reason },
            FetchError::TimedOut => Self::TimedOut,
            FetchError::Status(status) => Self::Failed { status },
            FetchError::TooLarge => Self::Malformed { reason: "too many bytes".into(), rotated: None },
            FetchError::Malformed(reason) => Self::Malformed { reason, rotated: None },
        }
    }
}

/// Why a callback did not become a login. No session follows from any of these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The provider's own answer, as it wrote it: whoever shows it must escape it.
    #[error("the provider refused the login: {}: {}", quote(.error), quote(.description.as_deref().unwrap_or_default()))]
    Denied {
        /// The OAuth error code, raw.
        error: String,
        /// `error_description`, raw.
        description: Option<String>,
    },
    /// The flow was begun with another `idps.yaml` entry, or another issuer in it.
    #[error("the login was begun with another provider")]
    WrongProvider,
    /// `state` is missing or not the flow's.
    #[error("state does not fit the login that was begun")]
    State,
    /// `iss` is missing though announced (RFC 9207 §2.4).
    #[error("the answer does not name its issuer, though the provider announces that it does")]
    IssuerMissing,
    /// `iss` is another (RFC 9207 §2.4).
    #[error("the answer is of another issuer: {}", quote(.0))]
    Issuer(String),
    /// Neither a code nor an error.
    #[error("the answer carries no code")]
    NoCode,
    /// The code could not be turned into tokens.
    #[error("the code could not be redeemed: {0}")]
    Token(#[from] GrantError),
    /// The ID token is not believed.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// The provider's description cannot be had.
    #[error(transparent)]
    Idp(#[from] IdpError),
}

impl LoginError {
    /// The provider could not be asked: trying again later may help.
    pub fn is_provider_down(&self) -> bool {
        match self {
            Self::Token(error) => error.is_provider_down(),
            Self::IdToken(error) => error.is_provider_down(),
            Self::Idp(_) => true,
            _ => false,
        }
    }
}
