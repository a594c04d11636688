//! The server's half of every sealing key: `session.secret`, or a secret made once where none is written.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::crypto::{NoRandom, draw, read_key, sha256};

/// Why there is no usable server secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// An entry of `session.secret`, counted from 1.
    #[error(
        "session.secret: entry {0} is not the base64 of exactly 32 bytes (make one with `openssl rand -base64 32`)"
    )]
    Written(usize),
    /// The file beside the database.
    #[error("{}: is not the base64 of exactly 32 bytes; put the right secret back, or remove the file to end every session", .0.display())]
    File(PathBuf),
    /// The file beside the database cannot be read or made.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Replicas with secrets of their own could not read each other's sessions.
    #[error("session.secret is needed with a shared store (make one with `openssl rand -base64 32`)")]
    Missing,
    /// No randomness to make one from.
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// One server secret with the name it has in envelopes.
pub(super) struct RingKey {
    /// First four bytes of a hash: tells keys apart after a rotation, tells nothing else.
    pub id: [u8; 4],
    /// 256 bits.
    pub secret: Zeroizing<[u8; 32]>,
}

impl RingKey {
    pub(super) fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        let mut labelled = Zeroizing::new(b"pingora-bff key id".to_vec());
        labelled.extend_from_slice(secret.as_ref());
        let [a, b, c, d, ..] = sha256(&labelled);
        Self { id: [a, b, c, d], secret }
    }
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingKey([redacted])")
    }
}

/// The ring as written in the configuration.
pub(super) fn parse_ring(secrets: &[Secret]) -> Result<Vec<RingKey>, SecretError> {
    let entry = |(index, secret): (usize, &Secret)| {
        read_key(secret.expose()).map(RingKey::new).map_err(|_| SecretError::Written(index + 1))
    };
    secrets.iter().enumerate().map(entry).collect()
}

/// A secret that lives as long as this process.
pub(super) fn random_key() -> Result<RingKey, NoRandom> {
    draw().map(Zeroizing::new).map(RingKey::new)
}

/// The secret kept in `path`; made on the first start.
pub(super) fn key_in_file(path: &Path) -> Result<RingKey, SecretError> {
    let failed = |reason| SecretError::Io { path: path.to_owned(), reason };
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_file(path).map_err(failed)?;
            Zeroizing::new(fs::read_to_string(path).map_err(failed)?)
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(SecretError::File(path.to_owned())),
        Err(error) => return Err(failed(error)),
    };
    read_key(&text).map(RingKey::new).map_err(|_| SecretError::File(path.to_owned()))
}

/// Writes a fresh secret beside `path` and links it into place, so that of two processes starting
/// at once one wins, and a crash half-way leaves no half secret.
fn make_file(path: &Path) -> io::Result<()> {
    let random = Zeroizing::new(draw::<44>().map_err(io::Error::other)?);
    let (secret, tail) = random.split_at(32);
    let mut text = Zeroizing::new(STANDARD.encode(secret));
    text.push('\n');
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", URL_SAFE_NO_PAD.encode(tail)));
    write_new(Path::new(&draft), text.as_bytes())?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // Some file systems know no links.
        Err(_) => match write_new(path, text.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        },
        Ok(()) => Ok(()),
    }
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db.key");
        let made: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|_| scope.spawn(|| *key_in_file(&path).unwrap().secret)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(made.windows(2).all(|two| two[0] == two[1]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(
            parse_ring(&[Secret::new(fs::read_to_string(&path).unwrap().trim())]).unwrap()[0].secret[..],
            made[0]
        );
    }

    #[test]
    fn a_secret_of_the_wrong_size_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for wrong in [&b""[..], b"c2hvcnQ=\n", b"\xff\xff", b"not base64 at all!"] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(key_in_file(&path), Err(SecretError::File(_))));
        }
        let (good, short) = (Secret::new(STANDARD.encode([251; 32])), Secret::new(STANDARD.encode([7; 31])));
        assert!(matches!(parse_ring(&[good.clone(), short]), Err(SecretError::Written(2))));
        let unpadded = Secret::new(URL_SAFE_NO_PAD.encode([251; 32]));
        assert_eq!(parse_ring(&[good]).unwrap()[0].id, parse_ring(&[unpadded]).unwrap()[0].id);
    }
}
