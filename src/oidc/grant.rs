//! What is asked of the token endpoint: the grants, and for whom the token shall be.

use url::Url;
use url::form_urlencoded::Serializer;

use crate::config::{AudienceParameter, Secret};

/// For whom and what a token is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Sent as `resource` or `audience`, as `audience_parameter` says; one only, as strict
    /// providers mint for one.
    pub audience: Option<&'a str>,
    /// Empty: what the grant has.
    pub scopes: &'a [String],
}

/// What we have to offer for a token.
#[derive(Debug)]
pub(super) enum Grant<'a> {
    /// RFC 6749 §4.1.3 with RFC 7636 §4.5.
    Code { code: &'a Secret, redirect_uri: &'a Url, verifier: &'a Secret },
    /// RFC 6749 §6.
    Refresh { token: &'a Secret },
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 8693 §2.1: `subject`, an access token, for one with another audience.
    Exchange { subject: &'a Secret },
}

impl Grant<'_> {
    /// `grant_type`, also the label of the metric.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Code { .. } => "authorization_code",
            Self::Refresh { .. } => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::Exchange { .. } => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// What no log may repeat.
    pub(super) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Code { code, verifier, .. } => vec![code, verifier],
            Self::Refresh { token } => vec![token],
            Self::Exchange { subject } => vec![subject],
            Self::ClientCredentials => Vec::new(),
        }
    }

    /// The request's body but for the client's credentials.
    pub(super) fn form(&self, ask: &Ask<'_>, audience_parameter: AudienceParameter) -> Form {
        let mut form = Form::new();
        form.add("grant_type", self.name());
        match self {
            Self::Code { code, redirect_uri, verifier } => {
                form.add("code", code.expose())
                    .add("redirect_uri", redirect_uri.as_str())
                    .add("code_verifier", verifier.expose());
            }
            Self::Refresh { token } => {
                form.add("refresh_token", token.expose());
            }
            Self::ClientCredentials => {}
            Self::Exchange { subject } => {
                const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
                form.add("subject_token", subject.expose())
                    .add("subject_token_type", ACCESS_TOKEN)
                    .add("requested_token_type", ACCESS_TOKEN);
            }
        }
        match (audience_parameter, ask.audience) {
            (AudienceParameter::Resource, Some(audience)) => form.add("resource", audience),
            (AudienceParameter::Audience, Some(audience)) => form.add("audience", audience),
            _ => &mut form,
        };
        if !ask.scopes.is_empty() {
            form.add("scope", &ask.scopes.join(" "));
        }
        form
    }
}

/// A form being written. No `Debug`: it carries secrets.
pub(super) struct Form(String);

impl Form {
    pub(super) fn new() -> Self {
        Self(String::new())
    }

    pub(super) fn add(&mut self, name: &str, value: &str) -> &mut Self {
        self.0 = Serializer::new(std::mem::take(&mut self.0)).append_pair(name, value).finish();
        self
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_named_as_the_provider_wants_it() {
        let scopes = ["a".to_owned(), "b".to_owned()];
        let ask = Ask { audience: Some("https://x.example"), scopes: &scopes };
        let form = |parameter| Grant::ClientCredentials.form(&ask, parameter).finish();
        let start = "grant_type=client_credentials";
        assert_eq!(form(AudienceParameter::Resource), format!("{start}&resource=https%3A%2F%2Fx.example&scope=a+b"));
        assert_eq!(form(AudienceParameter::Audience), format!("{start}&audience=https%3A%2F%2Fx.example&scope=a+b"));
        assert_eq!(form(AudienceParameter::None), format!("{start}&scope=a+b"));
    }
}
