//! Sessions in this process only.
/// (being built)
#[derive(Debug)]
pub struct MemoryStore;
