//! `conf/idps.yaml`.

use jsonwebtoken::Algorithm;

use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::Node;
use crate::config::reader::{Located, MapReader, items, one_or_many, refuse, suggest, table};
use crate::config::scalar::{any_text, endpoint_url, quote, secret, secure_url, text, word};
use crate::config::source::Spot;
use crate::config::{AssertionAudience, AudienceParameter, ClientAuthMethod, IdpConfig, IdpEndpoints, Secret};
use crate::pem::signing_key;

use super::session::is_empty;
use super::settings::{by_name, login_scopes};

/// What can be verified with a public key. The first four are what providers use today.
const ALGORITHMS: [&str; 9] = ["RS256", "PS256", "ES256", "EdDSA", "RS384", "RS512", "PS384", "PS512", "ES384"];
const METHODS: &[(&str, ClientAuthMethod)] = &[
    ("client_secret_basic", ClientAuthMethod::ClientSecretBasic),
    ("client_secret_post", ClientAuthMethod::ClientSecretPost),
    ("private_key_jwt", ClientAuthMethod::PrivateKeyJwt),
    ("none", ClientAuthMethod::None),
];
const PARAMETERS: &[(&str, AudienceParameter)] = &[
    ("resource", AudienceParameter::Resource),
    ("audience", AudienceParameter::Audience),
    ("none", AudienceParameter::None),
];

const ASSERTED: &[(&str, AssertionAudience)] =
    &[("issuer", AssertionAudience::Issuer), ("token_endpoint", AssertionAudience::TokenEndpoint)];

/// Parameters of an authorization request that are ours to set, or would replace what we set.
const OURS: [&str; 13] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "audience",
    "request",
    "request_uri",
];

/// One entry and where it begins.
pub(in crate::config) struct WrittenIdp {
    pub(in crate::config) config: IdpConfig,
    pub(in crate::config) spot: Spot,
}

/// The entries that could be read; wrong ones are reported and left out.
pub(in crate::config) struct WrittenIdps {
    pub(in crate::config) entries: Vec<WrittenIdp>,
    /// None was left out.
    pub(in crate::config) complete: bool,
}

/// Reads the whole file.
pub(in crate::config) fn read_idps(node: &Node, found: &Collector) -> Option<WrittenIdps> {
    let mut map = MapReader::new(node, found)?;
    let read = map.required("idps", |node, found| {
        let entries = items(node, found)?;
        if entries.is_empty() {
            return refuse(node, found, "`idps` has no entry", "at least one identity provider is needed");
        }
        let read: Vec<WrittenIdp> = entries.iter().filter_map(|entry| read_idp(entry, found)).collect();
        Some(WrittenIdps { complete: read.len() == entries.len(), entries: read })
    });
    map.finish();
    let idps = read?.value;
    check_unique(&idps.entries, found);
    Some(idps)
}

fn read_idp(node: &Node, found: &Collector) -> Option<WrittenIdp> {
    let mut map = MapReader::new(node, found)?;
    let name = map.required("name", plain_name);
    let provider = map.field("provider", plain_name);
    let issuer = map.required("issuer", issuer);
    let audience = map.field("audience", text);
    let trusted_audiences = map.field("trusted_audiences", |node, found| one_or_many(node, found, text));
    let client_id = map.required("client_id", text);
    let client_secret = map.located("client_secret", secret);
    let method = map.located("token_auth_method", word(METHODS));
    let key_id = map.field("key_id", text);
    let assertion_audience = map.field("assertion_audience", word(ASSERTED)).unwrap_or(AssertionAudience::Issuer);
    let scopes = map.field("scopes", login_scopes);
    let endpoints = IdpEndpoints {
        authorization: map.field("authorization_url", endpoint_url),
        token: map.field("token_url", endpoint_url),
        jwks: map.field("jwks_url", endpoint_url),
        introspection: map.field("introspection_url", endpoint_url),
        revocation: map.field("revocation_url", endpoint_url),
        end_session: map.field("end_session_url", endpoint_url),
    };
    let algorithms = map.field("algorithms", read_algorithms);
    let audience_parameter = map.field("audience_parameter", word(PARAMETERS)).unwrap_or(AudienceParameter::Resource);
    let claims_mapping = map.field("claims_mapping", read_mapping).map(by_name);
    let authorization_params = map.field("authorization_params", read_params).map(by_name);
    let secret_written = map.key_spot("client_secret");
    let spot = map.spot.clone();
    // A wrong one has been reported; it is not a missing one.
    if client_secret.is_some() || map.node("client_secret").is_none_or(is_empty) {
        check_secret(client_secret.as_ref(), method.as_ref(), secret_written.unwrap_or(&spot), found);
    }
    map.finish();
    let name = name?.value;
    let config = IdpConfig {
        provider: provider.unwrap_or_else(|| name.clone()),
        name,
        issuer: issuer?.value,
        audience,
        trusted_audiences: trusted_audiences.unwrap_or_default(),
        client_id: client_id?.value,
        client_secret: client_secret.map(|secret| secret.value),
        token_auth_method: method.map_or(ClientAuthMethod::ClientSecretBasic, |method| method.value),
        key_id,
        assertion_audience,
        scopes,
        endpoints,
        algorithms: algorithms.unwrap_or_else(|| ALGORITHMS.iter().filter_map(|name| name.parse().ok()).collect()),
        audience_parameter,
        claims_mapping: claims_mapping.unwrap_or_default(),
        authorization_params: authorization_params.unwrap_or_default(),
    };
    Some(WrittenIdp { config, spot })
}

/// A name that can stand in `auth:account:{provider}:{sub}` without being mistaken for two.
fn plain_name(node: &Node, found: &Collector) -> Option<String> {
    let name = text(node, found)?;
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Some(name);
    }
    refuse(
        node,
        found,
        format!("{} is not a plain name", quote(&node.spot, &name)),
        "letters, digits, `.`, `_` and `-` only",
    )
}

/// Kept as written: it is compared byte for byte with `iss`.
fn issuer(node: &Node, found: &Collector) -> Option<String> {
    secure_url(node, found)?;
    let issuer = text(node, found)?;
    match issuer.trim_end_matches('/').strip_suffix("/.well-known/openid-configuration") {
        Some(instead) => {
            let label = format!("the issuer is what stands before: `{instead}`, if its document says so");
            refuse(node, found, "this is the address of a discovery document, not an issuer", label)
        }
        None => Some(issuer),
    }
}

fn read_mapping(node: &Node, found: &Collector) -> Option<Vec<(Located<String>, String)>> {
    let mapping = table(node, found, text)?;
    if let Some((sub, _)) = mapping.iter().find(|(name, claim)| name.value == "sub" && claim != "sub") {
        let warning =
            Diagnostic::warning(&sub.spot, "`sub` cannot be mapped: who somebody is, says the id_token's `sub`");
        found.push(warning.label("give it another name, e.g. `id`, to show it in /auth/session"));
    }
    Some(mapping)
}

fn read_params(node: &Node, found: &Collector) -> Option<Vec<(Located<String>, String)>> {
    let params = table(node, found, any_text)?;
    for (name, _) in &params {
        if OURS.contains(&name.value.as_str()) {
            let error = Diagnostic::error(&name.spot, format!("`{}` cannot be written here", name.value));
            found.push(error.label("each login sets it itself").note(format!("set by the login: {}", OURS.join(", "))));
        }
    }
    Some(params)
}

fn read_algorithms(node: &Node, found: &Collector) -> Option<Vec<Algorithm>> {
    let listed = one_or_many(node, found, algorithm)?;
    if listed.is_empty() {
        refuse(node, found, "no algorithm is allowed: every token would be refused", "")
    } else {
        Some(listed)
    }
}

fn algorithm(node: &Node, found: &Collector) -> Option<Algorithm> {
    let name = text(node, found)?;
    if ALGORITHMS.contains(&name.as_str()) {
        return name.parse().ok();
    }
    let label = match name.as_str() {
        "none" | "None" => "an unsigned token proves nothing".to_owned(),
        "HS256" | "HS384" | "HS512" => "a shared-secret signature could be made by anyone who can check it".to_owned(),
        _ => suggest(&name, ALGORITHMS.into_iter()),
    };
    let error = Diagnostic::error(&node.spot, format!("the algorithm {} is not accepted", quote(&node.spot, &name)))
        .label(label);
    found.push(error.note(format!("allowed here: {}", ALGORITHMS.join(", "))));
    None
}

fn check_secret(
    secret: Option<&Located<Secret>>,
    method: Option<&Located<ClientAuthMethod>>,
    spot: &Spot,
    found: &Collector,
) {
    let word = match method.map_or(ClientAuthMethod::ClientSecretBasic, |method| method.value) {
        ClientAuthMethod::ClientSecretBasic => "client_secret_basic",
        ClientAuthMethod::ClientSecretPost => "client_secret_post",
        ClientAuthMethod::PrivateKeyJwt => "private_key_jwt",
        ClientAuthMethod::None => {
            if let Some(secret) = secret {
                let warning =
                    Diagnostic::warning(&secret.spot, "`client_secret` is not used with `token_auth_method: none`");
                found.push(warning.label("remove one of the two"));
            }
            return;
        }
    };
    match secret {
        None => {
            let error = Diagnostic::error(spot, format!("`client_secret` is missing, and `{word}` needs it"));
            let error = if method.is_none() {
                error.note("`client_secret_basic` is the default of token_auth_method")
            } else {
                error
            };
            found.push(error.note(
                "write it as `file:/run/secrets/client` or `${VAR}`; a public client says `token_auth_method: none`",
            ));
        }
        Some(key) if word == "private_key_jwt" => {
            if let Err(reason) = signing_key(key.value.expose()) {
                let message = "`private_key_jwt` needs a private key in PEM as `client_secret`";
                let error = Diagnostic::error(&key.spot, format!("{message}: {reason}"));
                found.push(error.label("best as `file:/path/to/key.pem`"));
            }
        }
        Some(_) => {}
    }
}

/// A bearer token is matched to its entry by issuer and audience.
fn check_unique(idps: &[WrittenIdp], found: &Collector) {
    for (index, idp) in idps.iter().enumerate() {
        let earlier = || idps.iter().take(index);
        if let Some(first) = earlier().find(|first| first.config.name == idp.config.name) {
            let error = Diagnostic::error(&idp.spot, format!("two identity providers are named `{}`", idp.config.name));
            found.push(error.note(format!("the first is written at {}", first.spot.place())));
        }
        let same = |first: &&WrittenIdp| {
            first.config.issuer == idp.config.issuer && first.config.audience == idp.config.audience
        };
        if let Some(first) = earlier().find(same) {
            let message =
                format!("`{}` and `{}` have the same issuer and audience", first.config.name, idp.config.name);
            let error = Diagnostic::error(&idp.spot, message).label("their tokens could not be told apart");
            found.push(error.note(format!("the first is written at {}", first.spot.place())));
        }
        let other = |first: &&WrittenIdp| {
            first.config.issuer == idp.config.issuer && first.config.provider != idp.config.provider
        };
        if let Some(first) = earlier().find(other) {
            let message = format!(
                "one person has two names in X-Original-User: `{}` and `{}` are the same issuer",
                first.config.name, idp.config.name
            );
            let label = format!("add `provider: {}` here, or the same `provider` to both", first.config.provider);
            let warning = Diagnostic::warning(&idp.spot, message).label(label);
            found.push(warning.note(format!("the first is written at {}", first.spot.place())));
        }
    }
}
