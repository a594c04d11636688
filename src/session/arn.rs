//! The audit name of a person: `auth:account:{provider}:{sub}`.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Identity;

/// What a header value or the ARN's own shape cannot carry; everything outside ASCII is encoded anyway.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'"').add(b',').add(b';');

impl Identity {
    /// The name services and audits know this person by. Stable over audiences of one issuer.
    #[must_use]
    pub fn arn(&self) -> String {
        arn(&self.provider, &self.subject)
    }
}

/// The audit name of `subject` at the provider of this alias, whoever vouches for it.
#[must_use]
pub fn arn(provider: &str, subject: &str) -> String {
    // A formatter costs twice as much, and a bearer's request asks for it each time.
    let mut name = String::with_capacity("auth:account::".len() + provider.len() + subject.len());
    name.push_str("auth:account:");
    name.extend(utf8_percent_encode(provider, UNSAFE));
    name.push(':');
    name.extend(utf8_percent_encode(subject, UNSAFE));
    name
}

/// A name as a header value carries it; two names never become one.
#[must_use]
pub fn escaped(name: &str) -> String {
    utf8_percent_encode(name, UNSAFE).to_string()
}

#[cfg(test)]
mod tests {
    use super::{arn, escaped};

    #[test]
    fn what_a_header_cannot_carry_is_percent_encoded() {
        assert_eq!(arn("corp", "ada@example.com"), "auth:account:corp:ada@example.com");
        assert_eq!(arn("corp", "käthe x\r\n"), "auth:account:corp:k%C3%A4the%20x%0D%0A");
        assert_ne!(escaped("ü"), escaped("%C3%BC"));
    }
}
