//! How many connections there is room for: each is a file, and memory. A program that takes more than it can hold is
//! ended by the kernel, and everybody's requests with it; one that refuses the last ones is not.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::config::ServerConfig;

/// What most connections with a request under way take at most, 64 KiB, and as much for everything else. Some take
/// more: see `memory`.
const BYTES_EACH: u64 = 2 * 64 * 1024;
/// Files for listeners, stores, services and the log.
const OTHER_FILES: usize = 64;
const FEWEST: usize = 16;
/// Connections beyond all others that are heard at once, at least: four files each of those above.
const FEW: usize = 4;

/// Connections at once, where nobody says how many.
pub(super) fn connections(memory: Option<u64>) -> usize {
    let by_files = (files() / 4 * 3).saturating_sub(OTHER_FILES);
    let by_memory = memory.and_then(|bytes| usize::try_from(bytes / BYTES_EACH).ok());
    by_files.min(by_memory.unwrap_or(usize::MAX)).max(FEWEST)
}

/// Bytes this process may take.
pub(super) fn memory_of(server: &ServerConfig) -> Option<u64> {
    // Nobody moves a running process to another group.
    static ALLOWED: LazyLock<Option<u64>> = LazyLock::new(|| memory(Path::new("/")));
    server.max_memory.into_iter().chain(*ALLOWED).min()
}

/// More than this many there can never be.
pub(super) fn seats() -> usize {
    files().saturating_sub(OTHER_FILES + 4 * FEW).max(FEWEST)
}

/// Of the connections beyond those, how many are heard at once, of the files that are left. A probe always is.
pub(super) fn beside(connections: usize) -> usize {
    (files().saturating_sub(connections + OTHER_FILES) / 8).clamp(FEW, 256)
}

fn files() -> usize {
    rlimit::Resource::NOFILE.get_soft().ok().and_then(|files| usize::try_from(files).ok()).unwrap_or(1024)
}

/// Bytes this process may have: of the machine, or what its control groups allow (cgroups(7)), the least of all.
fn memory(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits(root, line)).filter_map(|file| {
        // Version 2 says `max` where there is none; version 1 a number beyond all machines.
        std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.chain(of_the_machine(root)).min()
}

/// The files that may limit one line of `/proc/self/cgroup`, `ID:CONTROLLERS:PATH`: its group's and those above. In a
/// container the path may be one of the host's, of which only the top can be seen.
fn limits(root: &Path, line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|one| one == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    groups.map(|group| root.join(mount).join(group).join(file)).collect()
}

fn of_the_machine(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_heard_when_every_file_is_a_connections() {
        assert_eq!(beside(seats()), FEW);
        assert_eq!(beside(usize::MAX / 2), FEW);
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(memory(dir.path()), None);
        write("proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n");
        assert_eq!(memory(dir.path()), Some(2 << 20));
        write("proc/self/cgroup", "4:cpu,memory:/a/b\n0::/c\n");
        write("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        write("sys/fs/cgroup/c/memory.max", "max\n");
        assert_eq!(memory(dir.path()), Some(2 << 20));
        write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n");
        assert_eq!(memory(dir.path()), Some(1 << 20));
        write("sys/fs/cgroup/memory.max", "524288\n");
        assert_eq!(memory(dir.path()), Some(1 << 19));
        assert!((FEWEST..=seats()).contains(&connections(memory(Path::new("/")))) || seats() == FEWEST);
    }
}
