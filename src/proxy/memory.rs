//! What memory allows: watched as it is taken, and foreseen for large answers, which a client may leave lying with us
//! faster than anybody watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The most that one answer takes while its client reads nothing: the engine holds a dozen pieces of 64 KiB.
const LARGE: u64 = 768 * 1024;
/// What the kernel keeps of it besides, in buffers that are bounded (`app::sockets`, `upstream`).
const LARGE_IN_SOCKETS: u64 = 640 * 1024;
/// What everything else takes.
const REST: u64 = 64 * 1024 * 1024;

/// Of this process; it outlives reloads.
#[derive(Debug)]
pub struct Memory {
    /// Nearly all is taken.
    short: AtomicBool,
    /// That was said.
    told: AtomicBool,
    /// What sockets keep is counted as ours.
    counts_sockets: AtomicBool,
    large: AtomicUsize,
    most_large: AtomicUsize,
}

impl Default for Memory {
    fn default() -> Self {
        let (short, told, counts_sockets, large) = Default::default();
        Self { short, told, counts_sockets, large, most_large: AtomicUsize::new(usize::MAX) }
    }
}

impl Memory {
    /// Takes note of the bytes taken and allowed, of those in sockets where somebody counts them; whether too few are left
    /// where that is news.
    pub fn note(&self, taken: u64, sockets: Option<u64>, most: u64) -> Option<bool> {
        self.counts_sockets.store(sockets.is_some(), Ordering::Relaxed);
        let usable = most / 5 * 4;
        let each = LARGE + sockets.map_or(0, |_| LARGE_IN_SOCKETS);
        let most_large = usize::try_from(usable.saturating_sub(REST) / each).unwrap_or(usize::MAX);
        self.most_large.store(most_large.max(1), Ordering::Relaxed);
        self.short.store(taken.saturating_add(sockets.unwrap_or_default()) > usable, Ordering::Relaxed);
        let short = self.is_short();
        (self.told.swap(short, Ordering::Relaxed) != short).then_some(short)
    }

    /// Large answers under way.
    pub fn large(&self) -> usize {
        self.large.load(Ordering::Relaxed)
    }

    /// Whether the process may be ended for what the kernel keeps in its sockets.
    pub(super) fn counts_sockets(&self) -> bool {
        self.counts_sockets.load(Ordering::Relaxed)
    }

    /// Whether requests beyond a few are to be refused.
    pub(super) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) || self.is_spoken_for()
    }

    /// Whether the large answers under way may take all that there is.
    pub(super) fn is_spoken_for(&self) -> bool {
        self.large.load(Ordering::Relaxed) >= self.most_large.load(Ordering::Relaxed)
    }

    /// Counts a large answer for as long as it is under way.
    pub(super) fn hold(self: &Arc<Self>) -> LargeAnswer {
        self.large.fetch_add(1, Ordering::Relaxed);
        LargeAnswer(Arc::clone(self))
    }
}

/// One that is under way.
#[derive(Debug)]
pub(super) struct LargeAnswer(Arc<Memory>);

impl Drop for LargeAnswer {
    fn drop(&mut self) {
        self.0.large.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_answers_are_as_many_as_fit() {
        let memory = Arc::new(Memory::default());
        assert!(!memory.is_short());
        let most = REST / 4 * 5 + 5 * LARGE;
        assert_eq!(memory.note(1 << 20, None, most), None);
        let mut held: Vec<LargeAnswer> = (0..3).map(|_| memory.hold()).collect();
        assert!(!memory.is_short());
        held.push(memory.hold());
        assert!(memory.is_short() && memory.is_spoken_for());
        assert_eq!(memory.note(1 << 20, None, most), Some(true));
        held.pop();
        assert!(!memory.is_short());
        assert_eq!(memory.note(1 << 20, None, most), Some(false));
        assert_eq!(memory.note(most, None, most), Some(true));
        assert!(memory.is_short() && !memory.is_spoken_for());
        assert_eq!(memory.note(most, None, most), None);
        assert_eq!(memory.note(0, None, most), Some(false));
        assert!(!memory.counts_sockets());
        assert_eq!(memory.note(0, Some(most), most), Some(true), "sockets where they count");
        assert!(memory.counts_sockets());
        assert_eq!((memory.note(0, Some(0), most), memory.is_spoken_for()), (None, true), "and fewer answers fit");
    }
}
