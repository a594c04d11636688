//! The tables, and how an older file becomes a newer one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// How long one connection waits for another's write lock, below the bound of every operation.
const BUSY: Duration = Duration::from_millis(1_500);

/// Step `n` leads from `user_version` n to n + 1. Steps are only ever added.
const STEPS: &[&str] = &["
    CREATE TABLE sessions (
        key BLOB NOT NULL PRIMARY KEY, version INTEGER NOT NULL,
        issuer TEXT NOT NULL, subject TEXT NOT NULL, idp_session TEXT,
        created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, ends_at INTEGER NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
    CREATE INDEX sessions_by_subject ON sessions (subject, issuer);
    CREATE INDEX sessions_by_idp_session ON sessions (idp_session, issuer) WHERE idp_session IS NOT NULL;
    CREATE INDEX sessions_by_end ON sessions (expires_at);
    CREATE TABLE notes (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER NOT NULL) STRICT;
    CREATE INDEX notes_by_end ON notes (expires_at);
    CREATE TABLE leases (name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;
    CREATE TABLE fence (only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1), value INTEGER NOT NULL) STRICT;
    INSERT INTO fence VALUES (1, 0);
"];

/// An open, current database; folder and file are made where they are missing.
pub(super) fn open(path: &Path) -> Result<Connection, String> {
    make(path).map_err(|error| error.to_string())?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| error.to_string())?;
    match connection.is_readonly("main") {
        Ok(true) => return Err("the file cannot be written".to_owned()),
        Ok(false) => {}
        Err(error) => return Err(error.to_string()),
    }
    prepare(&connection).map_err(|error| error.to_string())?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// The file belongs to its owner alone; SQLite gives its journal the same mode.
fn make(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !fs::exists(folder)?
    {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// WAL with `synchronous=NORMAL`: nothing is lost when the process is killed, and a power cut may
/// lose the last moments but never the file (sqlite.org/wal.html).
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), String> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let done = (|| {
        // Immediate: of two processes that start at once, one builds and the other finds it built.
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = change.query_one("PRAGMA user_version", [], |row| row.get(0))?;
        if found < known {
            for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
                change.execute_batch(step)?;
            }
            change.pragma_update(None, "user_version", known)?;
        }
        change.commit()?;
        Ok::<_, rusqlite::Error>(found)
    })();
    match done {
        Ok(found) if found > known => Err(format!(
            "the file was written by a newer version of this program (schema {found}, this one knows {known})"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
