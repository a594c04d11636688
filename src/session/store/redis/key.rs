//! How everything is named in Redis. What belongs to one session carries its key as hash tag `{…}`,
//! so that a cluster keeps it on one node (redis.io: cluster specification, hash tags).

use crate::crypto::sha256;
use crate::session::SessionKey;
use crate::session::key::hex;
use crate::session::store::Selector;

/// The list of all sessions is cut into so many, to spread over a cluster.
pub(super) const LISTS: u8 = 16;

/// Makes names below one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) prefix: String,
}

impl Names {
    /// A hash: the record.
    pub(super) fn session(&self, key: &SessionKey) -> String {
        format!("{}{{{}}}:session", self.prefix, key.hex())
    }

    /// A string: a flow, a claim, a shared token.
    pub(super) fn note(&self, name: &str) -> String {
        self.tagged(name, "note")
    }

    /// A string: who holds the lease.
    pub(super) fn lease(&self, name: &str) -> String {
        self.tagged(name, "lease")
    }

    /// A string: the last number given out with that lease.
    pub(super) fn fence(&self, name: &str) -> String {
        self.tagged(name, "fence")
    }

    /// A hash, or a string where `bucket`: what a client has used of a rate.
    pub(super) fn rate(&self, name: &str, bucket: bool) -> String {
        self.tagged(name, if bucket { "bucket" } else { "parts" })
    }

    /// A sorted set: session keys by their absolute end.
    pub(super) fn selector(&self, selector: &Selector) -> String {
        let (kind, issuer, name) = match selector {
            Selector::Subject { issuer, subject } => ("subject", issuer, subject),
            Selector::IdpSession { issuer, sid } => ("sid", issuer, sid),
        };
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        let whole = format!("{}:{issuer}{name}", issuer.len());
        format!("{}{kind}:{}", self.prefix, hex(&sha256(whole.as_bytes())))
    }

    /// A sorted set: session keys by their sliding end, as last known.
    pub(super) fn list(&self, key: &SessionKey) -> String {
        self.numbered_list(key.0.first().copied().unwrap_or_default() % LISTS)
    }

    /// The list of that number, below [`LISTS`].
    pub(super) fn numbered_list(&self, number: u8) -> String {
        format!("{}sessions:{number}", self.prefix)
    }

    /// `refresh:ab12` belongs to the session `ab12`.
    fn tagged(&self, name: &str, suffix: &str) -> String {
        let (kind, tag) = name.split_once(':').unwrap_or(("", name));
        format!("{}{{{tag}}}:{kind}:{suffix}", self.prefix)
    }
}

/// The slot of a key (cluster specification: CRC16, XMODEM, of the hash tag, modulo 16384).
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8)
            .fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    crc % 16384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12182);
        assert_eq!(slot("x{foo}y{bar}"), 12182);
        assert_eq!(slot("foo{}{bar}"), slot("foo{}{bar}"));
        assert_ne!(slot("{}a"), slot("{}b"));
    }

    #[test]
    fn one_sessions_keys_share_a_slot() {
        let names = Names { prefix: "bff:".to_owned() };
        let key = SessionKey([0xab; 32]);
        let lease = format!("refresh:{}", key.hex());
        let slots = [names.session(&key), names.lease(&lease), names.fence(&lease)].map(|name| slot(&name));
        assert!(slots.iter().all(|one| *one == slots[0]));
    }

    #[test]
    fn two_selectors_never_share_a_name() {
        let names = Names { prefix: String::new() };
        let name = |issuer: &str, subject: &str| {
            names.selector(&Selector::Subject { issuer: issuer.to_owned(), subject: subject.to_owned() })
        };
        assert_ne!(name("a", "bc"), name("ab", "c"));
    }
}
