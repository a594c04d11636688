//! As much of HTTP/1.1 as both ends of a measurement need.

/// Where the head of a message ends, and the length of the body after it; `None`: it is not whole yet.
pub fn head(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let mut lines = buffer[..end].split(|byte| *byte == b'\n');
    let length = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| std::str::from_utf8(value).ok()?.trim().parse().ok())?
    });
    Some((end, length.unwrap_or(0)))
}
