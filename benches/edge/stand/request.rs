//! The requests of each scenario, as bytes.

/// What a browser says along with a script's request on HTTP/1.1.
pub const BROWSER: [&str; 13] = [
    "Connection: keep-alive",
    "sec-ch-ua-platform: \"Linux\"",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Accept: application/json",
    "sec-ch-ua: \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"",
    "Content-Type: application/json",
    "sec-ch-ua-mobile: ?0",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Dest: empty",
    "Referer: http://localhost/app/index.html",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
];

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
