//! Room set aside beside the database. To forget a session is to write a few pages, too: on a disk that is full, nobody
//! could log out.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Dozens of logouts, each in a transaction of its own.
const ROOM: usize = 1024 * 1024;

/// A file that nobody reads.
#[derive(Debug, Clone)]
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// Of the database at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push("-reserve");
        Self(name.into())
    }

    /// Sets room aside, as much as there is.
    pub(super) fn fill(&self) {
        if let Err(error) = self.try_fill() {
            tracing::debug!(%error, "no room can be set aside for logouts on a full disk");
        }
    }

    fn try_fill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.0)?;
        let there = usize::try_from(file.metadata()?.len()).unwrap_or(ROOM);
        // Written to the end: a hole would take no room.
        file.write_all(&vec![0xA5; ROOM.saturating_sub(there)])
    }

    /// Gives the room to whoever writes next.
    pub(super) fn give(&self) {
        let emptied = OpenOptions::new().write(true).open(&self.0).and_then(|file| file.set_len(0));
        if let Err(error) = emptied {
            tracing::debug!(%error, "the room set aside for logouts cannot be used");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::beside(&folder.path().join("s.db"));
        let length = || std::fs::metadata(folder.path().join("s.db-reserve")).unwrap().len();
        for _ in 0..2 {
            reserve.fill();
            assert_eq!(length(), ROOM as u64);
        }
        reserve.give();
        assert_eq!(length(), 0);
        std::fs::write(folder.path().join("s.db-reserve"), "half").unwrap();
        reserve.fill();
        assert_eq!(length(), ROOM as u64);
    }
}
