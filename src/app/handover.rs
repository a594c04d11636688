//! The way of the listening sockets from a process to the next one: a socket of its own, in a folder that
//! nobody else may enter. The engine makes it writable for everybody and believes whoever is at its
//! other end, so the folder is the lock.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::StartError;

/// `server.upgrade_sock` as both processes and the kernel call it.
pub(super) fn absolute(socket: &Path) -> PathBuf {
    std::path::absolute(socket).unwrap_or_else(|_error| socket.to_owned())
}

/// For the process that takes over: makes the folder if there is none, and looks whether it is safe.
pub(super) fn prepare(socket: &Path) -> Result<(), StartError> {
    let failed = |reason: String| StartError::Upgrade { path: socket.to_owned(), reason };
    let folder = socket.parent().ok_or_else(|| failed("it is in no folder".to_owned()))?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(format!("{}: {error}", folder.display())));
        }
        _ => {}
    }
    private(folder).map_err(failed)
}

/// For the process that leaves: whether somebody waits for its sockets, who may have them.
pub(super) fn successor(socket: &Path) -> Result<(), String> {
    private(socket.parent().unwrap_or(socket))?;
    let sockets = fs::read_to_string("/proc/net/unix").map_err(|error| format!("/proc/net/unix: {error}"))?;
    if listens(&sockets, &socket.to_string_lossy()) {
        return Ok(());
    }
    Err(format!("nobody waits at {}: start `run --upgrade` first", socket.display()))
}

/// Every socket a line; a listening one has the flag `__SO_ACCEPTCON`. Its path is last.
fn listens(sockets: &str, path: &str) -> bool {
    let listening = |line: &&str| line.split_whitespace().nth(3) == Some("00010000");
    sockets.lines().filter(listening).any(|line| line.split_once(path).is_some_and(|(_, rest)| rest.is_empty()))
}

fn private(folder: &Path) -> Result<(), String> {
    let named = |error: io::Error| format!("{}: {error}", folder.display());
    let (found, own) = (fs::metadata(folder).map_err(named)?, fs::metadata("/proc/self").map_err(named)?);
    if !found.is_dir() || found.uid() != own.uid() || found.mode() & 0o077 != 0 {
        return Err(format!("{} must be a folder of ours that nobody else may enter (mode 0700)", folder.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_successor_is_who_listens_in_a_private_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("hand over");
        let socket = folder.join("upgrade.sock");
        assert!(successor(&socket).is_err(), "no folder");
        prepare(&socket).unwrap();
        assert!(successor(&socket).unwrap_err().contains("--upgrade"), "nobody there");
        let listener = UnixListener::bind(&socket).unwrap();
        successor(&socket).unwrap();
        assert!(successor(&folder.join("upgrade")).is_err(), "another path");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(successor(&socket).unwrap_err().contains("0700"));
        assert!(prepare(&socket).is_err());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        drop(listener);
        assert!(socket.exists() && successor(&socket).is_err(), "a file that somebody left");
    }
}
