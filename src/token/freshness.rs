//! When a token is good, when it is due for renewal, and when it is over.

use std::time::Duration;

use crate::resilience::UnixTime;
use crate::session::AccessToken;

/// The age of a token, as a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Use it.
    Fresh,
    /// Renew it, but it still works.
    Due,
    /// It no longer works.
    Over,
}

/// Due when less than `threshold` remains, or than a third of a life that is no longer than that; and never before a third
/// of a life is over, or a life of little more than `threshold` were renewed all the time. A token whose end nobody told is
/// used until somebody refuses it.
pub(super) fn freshness(token: &AccessToken, now: UnixTime, threshold: Duration) -> Freshness {
    let Some(end) = token.expires_at else { return Freshness::Fresh };
    let remaining = now.until(end);
    let life = token.issued_at.until(end);
    let margin = if life > threshold { threshold.min(life / 3 * 2) } else { life / 3 };
    if remaining.is_zero() {
        Freshness::Over
    } else if remaining < margin {
        Freshness::Due
    } else {
        Freshness::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn token(issued: i64, expires: Option<i64>) -> AccessToken {
        AccessToken {
            secret: Secret::new("t"),
            audience: vec![],
            scopes: vec![],
            issued_at: UnixTime(issued),
            expires_at: expires.map(UnixTime),
            ready: crate::session::Ready::default(),
        }
    }

    #[test]
    fn a_long_life_is_renewed_by_threshold_a_short_one_by_a_third() {
        let threshold = Duration::from_secs(300);
        let hour = token(0, Some(3600));
        assert_eq!(freshness(&hour, UnixTime(3300), threshold), Freshness::Fresh);
        assert_eq!(freshness(&hour, UnixTime(3301), threshold), Freshness::Due);
        assert_eq!(freshness(&hour, UnixTime(3600), threshold), Freshness::Over);
        for (life, due_from) in [(600, 301), (450, 151), (420, 141), (330, 111), (300, 201), (90, 61)] {
            let token = token(0, Some(life));
            assert_eq!(freshness(&token, UnixTime(due_from - 1), threshold), Freshness::Fresh, "{life}");
            assert_eq!(freshness(&token, UnixTime(due_from), threshold), Freshness::Due, "{life}");
        }
        let minute = token(0, Some(60));
        assert_eq!(freshness(&minute, UnixTime(40), threshold), Freshness::Fresh);
        assert_eq!(freshness(&minute, UnixTime(41), threshold), Freshness::Due);
        assert_eq!(freshness(&token(0, None), UnixTime(9_999_999), threshold), Freshness::Fresh);
    }
}
