//! The compact form of a JWS (RFC 7515 §7.1), taken apart without believing any of it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::claims::Claims;

/// Larger tokens do not fit the headers they would travel in.
const MAX_TOKEN: usize = 64 * 1024;

/// The header parameters we act on. Keys that a token brings along or points to (`jwk`, `jku`,
/// `x5c`, `x5u`) are not among them: they prove nothing and are never fetched (RFC 8725 §3.10).
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// `typ` in lower case and without `application/`, which may be left out (RFC 7515 §4.1.9).
    pub(super) kind: Option<String>,
}

impl Header {
    fn read(part: &str) -> Result<Self, &'static str> {
        let written: Claims = read(part).ok_or("its header is no JSON object in base64url, or repeats a name")?;
        let text = |name, wrong| match written.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(|text| Some(text.to_owned())).ok_or(wrong),
        };
        // RFC 7515 §4.1.11: extensions that must be understood. We understand none.
        if written.get("crit").is_some() {
            return Err("it needs an extension (crit)");
        }
        Ok(Self {
            alg: text("alg", "its alg is no text")?.ok_or("it names no algorithm (alg)")?,
            kid: text("kid", "its kid is no text")?,
            kind: text("typ", "its typ is no text")?.map(|typ| {
                let kind = typ.to_ascii_lowercase();
                kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind)
            }),
        })
    }
}

/// A JWT in its parts. Nothing is verified.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) header: Header,
    pub(super) claims: Claims,
    /// What was signed: header and payload as they came.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes `token` apart; the error says what is wrong with its form.
    pub(super) fn parse(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > MAX_TOKEN {
            return Err("too long");
        }
        let (message, signature) = token.rsplit_once('.').ok_or("not three parts")?;
        let (header, payload) = message.split_once('.').ok_or("not three parts")?;
        let header = Header::read(header)?;
        // A third dot ends up in the payload, where base64url refuses it.
        let claims = read(payload).ok_or("its payload is no JSON object in base64url, or repeats a name")?;
        if !signature.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err("its signature is not base64url");
        }
        Ok(Self { header, claims, message, signature })
    }
}

/// Whether `token` means to be a signed JWT, however badly; anything else is opaque to us.
pub(super) fn is_meant(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    token.split('.').count() == 3
        && URL_SAFE_NO_PAD
            .decode(header)
            .is_ok_and(|json| serde_json::from_slice::<serde_json::Map<_, _>>(&json).is_ok())
}

fn read<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The claims of an access token that happens to be a JWT, for comparisons of our own before it is
/// sent on. Whoever receives it verifies it; an opaque token gives `None`.
pub(super) fn peek(token: &str) -> Option<Claims> {
    Compact::parse(token).ok().map(|compact| compact.claims)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn form_is_checked() {
        let good = token(r#"{"alg":"ES256"}"#, r#"{"sub":"a"}"#);
        assert_eq!(Compact::parse(&good).unwrap().claims.text("sub"), Some("a"));
        let bad = [
            String::new(),
            "a.b".into(),
            format!("{good}.x"),
            format!("{good}="),
            good.replace(".c2ln", ""),
            token(r#"{"alg":"ES256","crit":["exp"],"exp":1}"#, "{}"),
            token(r#"{"alg":"ES256","alg":"none"}"#, "{}"),
            token(r#"{"alg":"ES256","jku":"a","jku":"b"}"#, "{}"),
            token(r#"{"alg":"ES256","crit":null}"#, "{}"),
            token(r#"{"alg":"ES256","kid":7}"#, "{}"),
            token(r#"{"alg":["ES256"]}"#, "{}"),
            token("{}", "{}"),
            token(r#"{"alg":"ES256"}"#, r#"{"aud":"a","aud":"b"}"#),
            token(r#"{"alg":"ES256"}"#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_TOKEN))),
        ];
        for text in bad {
            assert!(Compact::parse(&text).is_err(), "{text:.80}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC*", parts in proptest::collection::vec("[A-Za-z0-9_=-]{0,40}", 0..5)) {
            let _ = Compact::parse(&text);
            let _ = peek(&parts.join("."));
        }
    }
}
