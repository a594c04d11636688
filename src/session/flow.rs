//! What ties a login flow to the browser that started it: a random value in a cookie of the flow's
//! own, of which we keep only the hash.

use std::time::Duration;

use aws_lc_rs::constant_time;
use serde::{Deserialize, Serialize};

use super::key::hex;
use crate::crypto::{NoRandom, draw_text, sha256};

/// How long a login may take, from the first redirect to the callback.
pub const FLOW_LIFETIME: Duration = Duration::from_secs(600);

/// SHA-256 of what the flow's cookie must carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowBinding([u8; 32]);

impl FlowBinding {
    /// A fresh cookie value of 256 random bits, and its binding.
    pub fn generate() -> Result<(String, Self), NoRandom> {
        let value = draw_text()?;
        let binding = Self(sha256(value.as_bytes()));
        Ok((value, binding))
    }

    /// The name of the flow of `state`, short enough for a cookie name.
    #[must_use]
    pub fn id(state: &str) -> String {
        let mut id = hex(&sha256(state.as_bytes()));
        id.truncate(16);
        id
    }

    /// Whether `value` is what the cookie was given. Constant time.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &sha256(value.as_bytes())).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_browser_with_the_cookie_goes_on() {
        let (value, binding) = FlowBinding::generate().unwrap();
        assert!(binding.matches(&value));
        assert!(!binding.matches("guess"));
        assert_ne!(FlowBinding::generate().unwrap().0, value);
        assert_eq!(FlowBinding::id("state").len(), 16);
    }
}
