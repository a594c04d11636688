//! Which methods a route takes: as written, and as bits beside the index, so that a look-up reads
//! nothing of a route before it is chosen.

use std::fmt;

use http::Method;

/// The methods of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(Box<[Method]>);

impl Methods {
    /// Empty: every method.
    pub fn new(methods: &[Method]) -> Self {
        Self(methods.into())
    }

    /// Whether every method is taken.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Who takes GET takes HEAD (RFC 9110 §9.1). "Every method" leaves out TRACE, whose answer repeats the
    /// request with the credentials that we put into it (§9.3.8): a route that wants it names it.
    pub fn accepts(&self, method: &Method) -> bool {
        (self.is_any() && *method != Method::TRACE)
            || self.0.contains(method)
            || (method == Method::HEAD && self.0.contains(&Method::GET))
    }

    /// For `Allow`; of every method the usual ones.
    pub fn allowed(&self) -> impl Iterator<Item = &Method> {
        const USUAL: &[Method] =
            &[Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];
        let head = self.0.contains(&Method::GET).then_some(&Method::HEAD);
        let listed = if self.is_any() { USUAL } else { &*self.0 };
        listed.iter().chain(head)
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("any");
        }
        let names: Vec<&str> = self.0.iter().map(Method::as_str).collect();
        f.write_str(&names.join(","))
    }
}

/// A bit for each method of RFC 9110 §9.3 and RFC 5789, one for all others together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MethodBits(u16);

impl MethodBits {
    const OTHER: Self = Self(1 << 15);

    /// What a route may take.
    pub(super) fn of(methods: &Methods) -> Self {
        if methods.is_any() {
            return Self(!Self::one(&Method::TRACE).0);
        }
        Self(methods.allowed().fold(0, |bits, method| bits | Self::one(method).0))
    }

    /// The bit of a request's method.
    pub(super) fn one(method: &Method) -> Self {
        match *method {
            Method::GET => Self(1),
            Method::HEAD => Self(1 << 1),
            Method::POST => Self(1 << 2),
            Method::PUT => Self(1 << 3),
            Method::DELETE => Self(1 << 4),
            Method::PATCH => Self(1 << 5),
            Method::OPTIONS => Self(1 << 6),
            Method::TRACE => Self(1 << 7),
            Method::CONNECT => Self(1 << 8),
            _ => Self::OTHER,
        }
    }

    /// Whether the bit of a request's method is among these.
    pub(super) fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    /// Names outside the standard share a bit: the route itself must be asked.
    pub(super) fn is_shared(self) -> bool {
        self == Self::OTHER
    }
}
