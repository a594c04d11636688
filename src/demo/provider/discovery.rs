//! What the provider says about itself (`OpenID` Connect Discovery §3, RFC 8414).

use serde_json::{Value, json};

use super::Provider;

/// `/.well-known/openid-configuration`.
pub fn document(provider: &Provider) -> Value {
    let at = |path: &str| format!("{}{path}", provider.issuer);
    json!({
        "issuer": provider.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "jwks_uri": at("/jwks"),
        "revocation_endpoint": at("/revoke"),
        "end_session_endpoint": at("/session/end"),
        "scopes_supported": provider.scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "prompt_values_supported": ["none", "login", "consent"],
        "claims_supported": [
            "sub", "name", "given_name", "family_name", "preferred_username", "email", "email_verified", "auth_time", "sid",
        ],
    })
}
