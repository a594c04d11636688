//! Sessions in a file.
/// (being built)
#[derive(Debug)]
pub struct SqliteStore;
