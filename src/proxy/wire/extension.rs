//! The extensions of a chunk (RFC 9112 §7.1.1). They mean nothing to anybody, but where they end decides where the
//! chunk begins: a quote that one reader lets run on, and another does not, hides a request.

use crate::config::is_token;

/// A place between two bytes of them, behind the first `;`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extension {
    /// A name must follow.
    Begun,
    Name,
    /// Blanks behind a name.
    Named,
    /// A value must follow.
    Equals,
    Value,
    Quoted,
    Escaped,
    /// The quote is closed.
    Closed,
    /// Blanks behind a value.
    Valued,
}

impl Extension {
    /// The place behind `byte`; `None`: no extension goes on so.
    #[allow(clippy::match_same_arms, reason = "in the order of the grammar")]
    pub(super) fn read(self, byte: u8) -> Option<Self> {
        let blank = matches!(byte, b' ' | b'\t');
        let token = is_token(&[byte]);
        Some(match (self, byte) {
            (Self::Begun, _) if blank => Self::Begun,
            (Self::Begun | Self::Name, _) if token => Self::Name,
            (Self::Name | Self::Named, _) if blank => Self::Named,
            (Self::Name | Self::Named, b'=') => Self::Equals,
            (Self::Equals, _) if blank => Self::Equals,
            (Self::Equals | Self::Value, _) if token => Self::Value,
            (Self::Equals, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::Closed,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            (Self::Value | Self::Closed | Self::Valued, _) if blank => Self::Valued,
            (Self::Name | Self::Named | Self::Value | Self::Closed | Self::Valued, b';') => Self::Begun,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        text.bytes().try_fold(Extension::Begun, Extension::read).is_some_and(Extension::may_end)
    }

    #[test]
    fn they_are_read_by_their_grammar() {
        for good in ["a", "a=b", "a=\"b\"", "a;b=c;d=\"\"", " a = b ; c", "a=\"\\\"; \\\\\"", "a=\"é\t\""] {
            assert!(holds(good), "{good:?}");
        }
        let bad = [
            "", " ", ";a", "a;", "a=", "=a", "a==b", "a=b c", "a b", "a[=b", "a=\"b", "a=\"b\"c", "a=\"\\\"",
            "a=\"\r\"",
        ];
        for bad in bad.into_iter().chain(["a ", "a=b ", "a=\"b\" ", "a=\"\0\"", "é"]) {
            assert!(!holds(bad), "{bad:?}");
        }
    }
}
