//! How many connections there is room for: each is a file, and memory. A program that takes more than it can hold is
//! ended by the kernel, and everybody's requests with it; one that refuses the last ones is not.

use rustix::process::{Resource, getrlimit};

/// What most connections with a request under way take at most, 64 KiB, and as much for everything else. Some take
/// more: see `memory`.
const BYTES_EACH: u64 = 2 * 64 * 1024;
/// Files for listeners, stores, services and the log.
const OTHER_FILES: usize = 64;
const FEWEST: usize = 16;
/// Connections beyond all others that are heard at once, at least: four files each of those above.
const FEW: usize = 4;

/// Connections at once, where nobody says how many.
pub(super) fn connections(memory: u64) -> usize {
    let by_files = (files() / 4 * 3).saturating_sub(OTHER_FILES);
    let by_memory = usize::try_from(memory / BYTES_EACH).unwrap_or(usize::MAX);
    by_files.min(by_memory).max(FEWEST)
}

/// More than this many there can never be.
pub(super) fn seats() -> usize {
    files().saturating_sub(OTHER_FILES + 4 * FEW).max(FEWEST)
}

/// Of the connections beyond those, how many are heard at once, of the files that are left. A probe always is.
pub(super) fn beside(connections: usize) -> usize {
    (files().saturating_sub(connections + OTHER_FILES) / 8).clamp(FEW, 256)
}

/// Idle connections to services that one of so many threads keeps: of the files a sixteenth in all.
pub(super) fn pooled(threads: usize) -> usize {
    (files() / 16 / threads.max(1)).clamp(1, 1024)
}

/// Clients and requests under way, which may take a file each at a service, that leave files for new clients.
pub(super) fn together() -> usize {
    files().saturating_sub(files() / 16 + OTHER_FILES + 4 * FEW)
}

fn files() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_found_where_nobody_says_one() {
        for memory in [0, u64::MAX] {
            assert!((FEWEST..=seats()).contains(&connections(memory)), "{memory}");
        }
    }

    #[test]
    fn a_probe_is_heard_when_every_file_is_a_connections() {
        assert_eq!(beside(seats()), FEW);
        assert_eq!(beside(usize::MAX / 2), FEW);
    }
}
