//! The requests of each scenario, as bytes.

/// One request. `headers` are whole lines without their ends.
pub fn get(path: &str, headers: &[&str]) -> String {
    let more = headers.iter().fold(String::new(), |more, line| more + line + "\r\n");
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
}

/// One upload of `length` bytes.
pub fn post(path: &str, length: usize) -> String {
    let body = "b".repeat(length);
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// As many requests as there are cookies.
pub fn each(path: &str, cookies: &[String]) -> Vec<String> {
    cookies.iter().map(|cookie| get(path, &[&format!("Cookie: {cookie}")])).collect()
}
