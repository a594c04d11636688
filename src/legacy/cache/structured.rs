//! As much of Structured Fields (RFC 9651 §4.2.2) as a dictionary of cache directives needs.

/// The value of a dictionary member; parameters are read and dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Member {
    Integer(i64),
    Text(String),
    Boolean(bool),
    /// A type that no directive has.
    Other,
}

/// `None`: not a dictionary, so the whole field is to be ignored.
pub(super) fn dictionary(text: &str) -> Option<Vec<(String, Member)>> {
    let mut rest = text.trim_matches(' ');
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (name, after) = key(rest)?;
        let (member, after) = match after.strip_prefix('=') {
            Some(value) => item(value)?,
            None => (Member::Boolean(true), after),
        };
        let after = parameters(after)?.trim_start_matches([' ', '\t']);
        members.push((name, member));
        rest = match after.strip_prefix(',') {
            // A trailing comma is an error.
            Some(next) => Some(next.trim_start_matches([' ', '\t'])).filter(|next| !next.is_empty())?,
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(members)
}

fn key(text: &str) -> Option<(String, &str)> {
    let first = text.bytes().next()?;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
    let end = text.bytes().position(|byte| !allowed(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    (first.is_ascii_lowercase() || first == b'*').then(|| (name.to_owned(), rest))
}

fn item(text: &str) -> Option<(Member, &str)> {
    match text.bytes().next()? {
        b'"' => string(text),
        b'?' => {
            let (flag, rest) = text.split_at_checked(2)?;
            Some((Member::Boolean(matches!(flag, "?1")), rest)).filter(|_| matches!(flag, "?0" | "?1"))
        }
        byte if byte.is_ascii_digit() || byte == b'-' => number(text),
        byte if byte.is_ascii_alphabetic() || byte == b'*' => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
            let end = text.bytes().position(|byte| !allowed(byte)).unwrap_or(text.len());
            text.split_at_checked(end).map(|(token, rest)| (Member::Text(token.to_owned()), rest))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<(Member, &str)> {
    let end = text
        .bytes()
        .enumerate()
        .position(|(at, byte)| !(byte.is_ascii_digit() || byte == b'.' || (at == 0 && byte == b'-')))
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.contains('.') {
        return digits.parse::<f64>().ok().map(|_| (Member::Other, rest));
    }
    digits.parse().ok().map(|whole| (Member::Integer(whole), rest))
}

fn string(text: &str) -> Option<(Member, &str)> {
    let mut plain = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, one)) = chars.next() {
        match one {
            '"' => return text.get(at + 1..).map(|rest| (Member::Text(plain), rest)),
            '\\' => plain.push(chars.next().map(|(_, escaped)| escaped)?),
            ' '..='~' => plain.push(one),
            _ => return None,
        }
    }
    None
}

fn parameters(mut text: &str) -> Option<&str> {
    while let Some(after) = text.strip_prefix(';') {
        let (_, rest) = key(after.trim_start_matches(' '))?;
        text = match rest.strip_prefix('=') {
            Some(value) => item(value)?.1,
            None => rest,
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_every_type() {
        let members = dictionary("a=1, b;q=2;r, c=\"x\\\"y\", d=tok, e=?0, f=1.5").unwrap();
        let values: Vec<Member> = members.into_iter().map(|(_, member)| member).collect();
        let text = |text: &str| Member::Text(text.to_owned());
        let boolean = Member::Boolean;
        assert_eq!(
            values,
            [Member::Integer(1), boolean(true), text("x\"y"), text("tok"), boolean(false), Member::Other]
        );
        assert_eq!(dictionary(""), Some(vec![]));
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for bad in ["A=1", "a=", "a=1,", "a=1 b", "a=\"x", "a=?2", "&&", "a=1;", "=1", "a==1", "a=é"] {
            assert_eq!(dictionary(bad), None, "{bad}");
        }
    }
}
