//! A browser without a screen: cookies, no automatic redirects, and the patience to fill in the
//! provider's forms.

use std::sync::Arc;

use reqwest::cookie::{CookieStore as _, Jar};
use reqwest::header::LOCATION;
use reqwest::{Client, Response, Url};

use super::{Edge, builder};

/// One user's cookies. A clone is another tab: it shares them.
#[derive(Clone)]
pub(crate) struct Browser {
    /// For requests of the test's own making.
    pub(crate) client: Client,
    jar: Arc<Jar>,
}

impl Browser {
    /// No cookies yet.
    pub(crate) fn new() -> Self {
        Self::build(builder())
    }

    /// One that keeps no connection. An unused one that ends with its server may do so under the next request (RFC 9112
    /// §9.3.1), which a real browser then sends again.
    pub(crate) fn keeping_nothing() -> Self {
        Self::build(builder().pool_max_idle_per_host(0))
    }

    /// One that also trusts this certificate (PEM).
    pub(crate) fn trusting(pem: &str) -> Self {
        let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
        Self::build(builder().tls_certs_only([root]))
    }

    fn build(builder: reqwest::ClientBuilder) -> Self {
        let jar = Arc::new(Jar::default());
        let client = builder.cookie_provider(Arc::clone(&jar)).build().unwrap();
        Self { client, jar }
    }

    /// A browser in which `user` is logged in at `edge`.
    pub(crate) async fn logged_in(edge: &Edge, user: &str) -> Self {
        let browser = Self::new();
        browser.login(edge, user, "/").await;
        browser
    }

    /// GET with the cookies.
    pub(crate) async fn get(&self, url: impl AsRef<str>) -> Response {
        self.client.get(url.as_ref()).send().await.unwrap()
    }

    /// POST without a body.
    pub(crate) async fn post(&self, url: impl AsRef<str>) -> Response {
        self.client.post(url.as_ref()).send().await.unwrap()
    }

    /// The whole login; where the browser is sent in the end.
    pub(crate) async fn login(&self, edge: &Edge, user: &str, return_to: &str) -> String {
        let callback = self.authorize(edge, user, return_to).await;
        let answer = self.get(&callback).await;
        let status = answer.status().as_u16();
        let target = location(&answer);
        assert!(
            matches!(status, 302 | 303) && target.is_some(),
            "callback answered {status}: {}",
            answer.text().await.unwrap()
        );
        target.unwrap()
    }

    /// The login up to, and without, the callback: its URL.
    pub(crate) async fn authorize(&self, edge: &Edge, user: &str, return_to: &str) -> String {
        let mut start = Url::parse(&edge.url("/auth/login")).unwrap();
        start.query_pairs_mut().append_pair("return_to", return_to);
        self.walk(start, user, &edge.url("/auth/callback")).await
    }

    /// Follows redirects and submits forms until the browser would open a URL that starts with `end`.
    pub(crate) async fn walk(&self, start: Url, user: &str, end: &str) -> String {
        let mut url = start;
        for _ in 0..16 {
            let mut answer = self.get(&url).await;
            if answer.status().as_u16() == 200 && url.path().starts_with("/interaction/") {
                let page = answer.text().await.unwrap();
                let prompt = if page.contains(r#"name="prompt" value="login""#) { "login" } else { "consent" };
                let form = [("prompt", prompt), ("login", user), ("password", "x")];
                answer = self.client.post(url.clone()).form(&form).send().await.unwrap();
            }
            let Some(next) = location(&answer) else {
                panic!("{url} answered {}: {}", answer.status(), answer.text().await.unwrap());
            };
            let next = url.join(&next).unwrap();
            if next.as_str().starts_with(end) {
                return next.into();
            }
            url = next;
        }
        panic!("16 redirects without an end, the last to {url}");
    }

    /// Logs out at the provider itself, as from another of its clients.
    pub(crate) async fn logout_at_provider(&self, edge: &Edge) {
        let page = self.get(format!("{}/session/end", edge.provider.issuer)).await.text().await.unwrap();
        let xsrf = page.split("name=\"xsrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let form = [("xsrf", xsrf.expect("the provider's form")), ("logout", "yes")];
        let confirm = format!("{}/session/end/confirm", edge.provider.issuer);
        let answer = self.client.post(confirm).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
    }

    /// What the browser would send as `Cookie` to this origin.
    pub(crate) fn cookie_header(&self, origin: &str) -> String {
        let header = self.jar.cookies(&Url::parse(origin).unwrap());
        header.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    /// One cookie's value.
    pub(crate) fn cookie(&self, origin: &str, name: &str) -> Option<String> {
        let header = self.cookie_header(origin);
        header.split("; ").find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    /// Puts a cookie in, written as `Set-Cookie`.
    pub(crate) fn put_cookie(&self, origin: &str, set_cookie: &str) {
        self.jar.add_cookie_str(set_cookie, &Url::parse(origin).unwrap());
    }
}

/// The `Location` of an answer.
pub(crate) fn location(answer: &Response) -> Option<String> {
    answer.headers().get(LOCATION).map(|value| value.to_str().unwrap().to_owned())
}
