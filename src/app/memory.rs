//! Memory is watched, so that requests are refused before the kernel ends the process, and everybody's with it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use crate::config::ServerConfig;
use crate::proxy::Gateway;

/// Between two looks.
pub(super) const EVERY: Duration = Duration::from_millis(50);

/// Takes note whether memory is short.
pub(super) fn look(gateway: &Gateway) {
    let Some(resident) = resident() else { return };
    let most = allowed(&gateway.config.settings.server);
    // What waits in the kernel is the group's, too.
    let sockets = ALLOWED.stat.as_deref().and_then(sockets);
    match gateway.memory.note(resident, sockets, most) {
        Some(true) => tracing::error!(resident, sockets, most, large_answers = gateway.memory.large(), "MEMORY_SHORT"),
        Some(false) => tracing::info!(resident, sockets, most, "there is memory again"),
        None => {}
    }
}

// Nobody moves a running process to another group.
static ALLOWED: LazyLock<Allowed> = LazyLock::new(|| limit(Path::new("/"), machine()));

/// Bytes this process may take.
pub(super) fn allowed(server: &ServerConfig) -> u64 {
    server.max_memory.unwrap_or(u64::MAX).min(ALLOWED.bytes)
}

/// What there may be.
#[derive(Debug, PartialEq, Eq)]
struct Allowed {
    bytes: u64,
    /// Where it is a group of version 2 that says so: what that group's memory is made of.
    stat: Option<PathBuf>,
}

/// Bytes this process may have: of the machine, or what its control groups allow (cgroups(7)), the least of all.
fn limit(root: &Path, machine: u64) -> Allowed {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits(root, line)).filter_map(|file| {
        // Version 2 says `max` where there is none; version 1 a number beyond all machines.
        let bytes = std::fs::read_to_string(&file).ok()?.trim().parse::<u64>().ok()?;
        let stat = file.ends_with("memory.max").then(|| file.with_file_name("memory.stat"));
        Some(Allowed { bytes, stat })
    });
    limits.fold(Allowed { bytes: machine, stat: None }, |least, one| if one.bytes < least.bytes { one } else { least })
}

/// Bytes of the machine. Not from `/proc/meminfo`, which `ProcSubset=pid` of systemd.exec(5) hides.
fn machine() -> u64 {
    let told = rustix::system::sysinfo();
    told.totalram.saturating_mul(told.mem_unit.into())
}

/// Bytes of a group in the buffers of sockets: version 2 counts them, and ends the process for them.
fn sockets(stat: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(stat).ok()?;
    text.lines().find_map(|line| line.strip_prefix("sock "))?.trim().parse().ok()
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

/// Bytes of this process in memory: proc(5) tells them in kB.
fn resident() -> Option<u64> {
    // Some 1 500 bytes, and looked at often: without room for them at once it takes eight reads.
    let mut text = String::with_capacity(4 * 1024);
    File::open("/proc/self/status").ok()?.read_to_string(&mut text).ok()?;
    let told = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    told.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_knows_its_size() {
        assert!(resident().is_some_and(|bytes| (1 << 20..machine()).contains(&bytes)));
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let limit = || super::limit(dir.path(), 2 << 20).bytes;
        assert_eq!(limit(), 2 << 20);
        write("proc/self/cgroup", "4:cpu,memory:/a/b\n0::/c\n");
        write("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        write("sys/fs/cgroup/c/memory.max", "max\n");
        assert_eq!(limit(), 2 << 20);
        write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n");
        assert_eq!(limit(), 1 << 20);
        write("sys/fs/cgroup/memory.max", "524288\n");
        assert_eq!(limit(), 1 << 19);
        write("sys/fs/cgroup/memory.stat", "anon 7\nsock 4096\nsocket 9\n");
        let stat = super::limit(dir.path(), 2 << 20).stat;
        assert_eq!(
            stat.and_then(|stat| sockets(&stat)),
            Some(4096),
            "buffers of sockets count where the group counts them"
        );
    }
}
