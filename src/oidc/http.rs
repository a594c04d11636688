//! The HTTP client towards the provider, bounded in every direction: time to connect, time in all,
//! bytes read, redirects followed.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response};
use url::Url;

use super::error::{FetchError, SetupError, quote};
use crate::config::{Secret, is_loopback};
use crate::telemetry::Metrics;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// With the pause after a failure (`token::renewal`) less than ten seconds: so long after a provider that hung is
/// well again, everybody has a new token.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(8);
/// Shorter than any common server's keep-alive (Node's is 5 s): a refresh token written onto a
/// connection that is just being closed may be spent without an answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const MAX_BODY: usize = 1024 * 1024;
const MAX_REDIRECTS: usize = 3;

/// Which of the provider's endpoints is asked; the `endpoint` label of the metrics.
#[derive(Debug, Clone, Copy)]
pub(super) enum Endpoint {
    Discovery,
    Jwks,
    Authorization,
    Token,
    Revocation,
    Introspection,
}

impl Endpoint {
    fn label(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Jwks => "jwks",
            Self::Authorization => "authorization",
            Self::Token => "token",
            Self::Revocation => "revocation",
            Self::Introspection => "introspection",
        }
    }
}

/// A whole answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    /// Follows redirects within one origin.
    reads: Client,
    /// Follows none: a code or a refresh token is sent to one place only.
    posts: Client,
    metrics: Arc<Metrics>,
}

impl HttpClient {
    /// `local`: the provider is on loopback over plain http, so that neither CA certificates nor the
    /// machine's web proxy concern it.
    pub(super) fn new(local: bool, metrics: Arc<Metrics>) -> Result<Self, SetupError> {
        Self::with_timeout(local, TOTAL_TIMEOUT, metrics)
    }

    /// `total` bounds a request from its start to the last byte of the answer.
    pub(super) fn with_timeout(local: bool, total: Duration, metrics: Arc<Metrics>) -> Result<Self, SetupError> {
        // An error says that a default is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let build = |policy| {
            let mut client = Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(total)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .user_agent(concat!("pingora-bff/", env!("CARGO_PKG_VERSION")))
                .referer(false)
                .redirect(policy);
            if local {
                client = client.no_proxy().tls_certs_only(std::iter::empty());
            }
            client.build().map_err(|error| SetupError::Tls(describe(&error)))
        };
        let reads = build(Policy::custom(follow_within_origin))?;
        let posts = build(Policy::none())?;
        Ok(Self { reads, posts, metrics })
    }

    /// The body of a 200 answer.
    pub(super) async fn get(&self, endpoint: Endpoint, url: &Url) -> Result<Vec<u8>, FetchError> {
        let request = self.reads.get(url.clone()).header(http::header::ACCEPT, "application/json");
        let answer = self.send(endpoint, request).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(FetchError::Status(answer.status)) }
    }

    /// Where a GET is redirected to, without going there; the status where it is not.
    pub(super) async fn redirect_target(&self, endpoint: Endpoint, url: &Url) -> Result<Result<Url, u16>, FetchError> {
        let answer = self.send(endpoint, self.posts.get(url.clone())).await?;
        let target = answer.location.filter(|_| (300..400).contains(&answer.status));
        Ok(target.and_then(|target| url.join(&target).ok()).ok_or(answer.status))
    }

    /// Posts a form; every status is an answer.
    pub(super) async fn post(
        &self,
        endpoint: Endpoint,
        url: &Url,
        form: String,
        authorization: Option<&Secret>,
    ) -> Result<Answer, FetchError> {
        let mut request = self
            .posts
            .post(url.clone())
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some(credentials) = authorization {
            let mut value = http::HeaderValue::from_str(credentials.expose())
                .map_err(|_invalid| FetchError::Unreachable("the client's credentials do not fit a header".into()))?;
            value.set_sensitive(true);
            request = request.header(http::header::AUTHORIZATION, value);
        }
        self.send(endpoint, request).await
    }

    async fn send(&self, endpoint: Endpoint, request: RequestBuilder) -> Result<Answer, FetchError> {
        let timer = self.metrics.idp_latency.with_label_values(&[endpoint.label()]).start_timer();
        let outcome = match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => Err(classify(&error)),
        };
        timer.observe_duration();
        let status = match &outcome {
            Ok(answer) => answer.status.to_string(),
            Err(error) => error.label(),
        };
        self.metrics.idp_requests.with_label_values(&[endpoint.label(), &status]).inc();
        outcome
    }
}

async fn read(mut response: Response) -> Result<Answer, FetchError> {
    let status = response.status().as_u16();
    if response.content_length().is_some_and(|length| length > MAX_BODY as u64) {
        return Err(FetchError::TooLarge);
    }
    let location = response.headers().get(http::header::LOCATION);
    let location = location.and_then(|target| target.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, location, body })
}

/// A provider moves a document within its origin at most; elsewhere somebody else would be speaking.
fn follow_within_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let same_origin = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
    if same_origin && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

fn classify(error: &reqwest::Error) -> FetchError {
    if error.is_connect() {
        FetchError::Unreachable(describe(error))
    } else if error.is_timeout() {
        FetchError::TimedOut
    } else {
        FetchError::Broken(describe(error))
    }
}

/// The innermost cause: the outer ones repeat the URL, and a URL may carry what no log should.
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let words = cause.to_string();
    if words.contains("InvalidContentType") {
        return "it speaks no TLS there: http instead of https?".to_owned();
    }
    quote(&words)
}

/// https, or http on this machine: codes and tokens travel here.
pub(super) fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback() {
        for (url, safe) in [
            ("https://idp.example.com/x", true),
            ("http://localhost:9000", true),
            ("http://127.0.0.2/", true),
            ("http://[::1]:1/", true),
            ("http://a.localhost/", true),
            ("http://idp.example.com/", false),
            ("http://localhost.example.com/", false),
            ("ftp://localhost/", false),
        ] {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), safe, "{url}");
        }
    }
}
