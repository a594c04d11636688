//! The one page people see when a login cannot go on. No script, no style from elsewhere, every
//! inserted text escaped: part of it may come from the identity provider.

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderValue, StatusCode};

use super::Reply;

/// A page with a title, a sentence, a link to try again, and the id to quote to support.
#[must_use]
pub fn message_page(status: StatusCode, title: &str, text: &str, retry_url: &str, correlation_id: &str) -> Reply {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.6 system-ui,sans-serif;max-width:34rem;\
         margin:18vh auto 0;padding:0 1.5rem}}h1{{font-size:1.4rem}}small{{opacity:.65}}\
         a{{display:inline-block;margin:.5rem 0 1.5rem;padding:.5rem 1rem;border:1px solid;border-radius:.5rem;\
         color:inherit;text-decoration:none}}</style></head><body><main><h1>{title}</h1><p>{text}</p>\
         <p><a href=\"{retry}\">Try again</a></p><p><small>Reference: {id}</small></p></main></body></html>\n",
        title = escape(title),
        text = escape(text),
        retry = escape(retry_url),
        id = escape(correlation_id),
    );
    page(status, html)
}

/// A page that goes on to `target` by itself.
#[must_use]
pub fn onward_page(target: &str) -> Reply {
    let target = escape(target);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"0;url={target}\"><title>Logged in</title></head>\
         <body><a href=\"{target}\">Continue</a></body></html>\n"
    );
    page(StatusCode::OK, html)
}

fn page(status: StatusCode, html: String) -> Reply {
    Reply::empty(status)
        .with_body("text/html; charset=utf-8", html)
        .with(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            ),
        )
        .with(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"))
        .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(char),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_says_stays_text() {
        let page = message_page(StatusCode::BAD_REQUEST, "No", "<script>alert(1)</script>", "/auth/login?a=\"b", "c");
        let html = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(!html.contains("<script"));
        assert!(html.contains("&lt;script&gt;"));
        assert!(html.contains("a=&quot;b"));
    }
}
