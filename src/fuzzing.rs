//! Everything that reads what strangers write, one function a parser: `tests/fuzz` feeds them with whatever it
//! can think of, the tests below with what it found worth keeping.

pub use crate::config::fuzzing::files as config;
pub use crate::endpoints::fuzzing::return_to;
pub use crate::legacy::cache::fuzzing::keys as cache_key;
pub use crate::oidc::fuzzing::{answer as provider_answer, keys as jwks, token};
pub use crate::proxy::fuzzing::forwarded;
pub use crate::routing::fuzzing::target as request_target;
pub use crate::session::fuzzing::{cookies, record as session_record, sealed};

/// The name of a folder in `tests/fuzz/corpus`, and who is fed with it.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 11] = [
    ("cache_key", cache_key),
    ("config", config),
    ("cookies", cookies),
    ("forwarded", forwarded),
    ("jwks", jwks),
    ("provider_answer", provider_answer),
    ("request_target", request_target),
    ("return_to", return_to),
    ("sealed", sealed),
    ("session_record", session_record),
    ("token", token),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::TARGETS;

    #[test]
    fn what_the_fuzzer_kept_does_no_harm() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        for (name, target) in TARGETS {
            assert!(root.join(format!("targets/{name}.rs")).is_file(), "{name} has a target");
            let entries = std::fs::read_dir(root.join("corpus").join(name)).unwrap();
            let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            assert!(!files.is_empty(), "{name} has a corpus");
            for file in files {
                target(&std::fs::read(file).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn nor_does_anything_else(data in proptest::collection::vec(any::<u8>(), 0..300), text in "[ -~\n]{0,200}") {
            for (_, target) in TARGETS {
                target(&data);
                target(text.as_bytes());
            }
        }
    }
}
