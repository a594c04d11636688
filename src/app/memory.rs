//! Memory is watched, so that requests are refused before the kernel ends the process, and everybody's with it.

use std::time::Duration;

use super::room;
use crate::proxy::Gateway;

/// Between two looks.
pub(super) const EVERY: Duration = Duration::from_millis(50);

/// Takes note whether memory is short.
pub(super) fn look(gateway: &Gateway) {
    let Some(resident) = resident() else { return };
    let Some(most) = room::memory_of(&gateway.written.settings.server) else { return };
    match gateway.memory.note(resident, most) {
        Some(true) => tracing::error!(resident, most, large_answers = gateway.memory.large(), "MEMORY_SHORT"),
        Some(false) => tracing::info!(resident, most, "there is memory again"),
        None => {}
    }
}

/// Bytes of this process in memory (proc(5)).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_knows_its_size() {
        assert!(super::resident().is_some_and(|bytes| (1 << 20..1 << 40).contains(&bytes)));
    }
}
