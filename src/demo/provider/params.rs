//! Request parameters as OAuth reads them (RFC 6749 §3.1): an empty one counts as absent, and only
//! `resource` may come more than once (RFC 8707 §2).

use url::form_urlencoded;

use super::refusal::Refusal;

/// The parameters of a query or a form, in order.
#[derive(Debug)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `application/x-www-form-urlencoded` text.
    pub fn read(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned();
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Every value of `name`.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`; given twice, it is refused.
    pub fn optional(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(Refusal::bad("invalid_request", format!("`{name}` was given more than once"))),
            None => Ok(first),
        }
    }

    /// The value of `name`, which must be there.
    pub fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.optional(name)?.ok_or_else(|| Refusal::bad("invalid_request", format!("`{name}` is missing")))
    }

    /// The words of a space-separated list; `None` when absent.
    pub fn words(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        Ok(self.optional(name)?.map(|list| list.split_whitespace().map(str::to_owned).collect()))
    }
}
