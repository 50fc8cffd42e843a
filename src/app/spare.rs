//! Gives memory back that a burst has left behind.
//!
//! glibc keeps what was freed for the next burst, and after one of large messages that may be
//! hundreds of MiB for good: each large block that is freed lets it keep twice as much. So from
//! the start large blocks are told to come from the system and to go back to it at once. What
//! many small ones leave is given back when glibc is asked to; that looks through its heaps, so
//! it is asked when things have calmed down, and less often where it gave little.
//!
//! May import: nothing.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// More than this above the lowest is worth a look.
const WORTH: u64 = 24 * 1024 * 1024;
/// What a calm process may differ by from one look to the next.
const CALM: u64 = 2 * 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(600);

/// When to trim. Sizes are bytes in memory.
#[derive(Debug)]
struct Policy {
    lowest: u64,
    last: u64,
    not_before: Instant,
    pause: Duration,
}

impl Policy {
    fn new(now: Instant, size: u64) -> Self {
        Self {
            lowest: size,
            last: size,
            not_before: now,
            pause: EVERY,
        }
    }

    fn looked(&mut self, now: Instant, size: u64) -> bool {
        let calm = size.abs_diff(self.last) <= CALM;
        self.last = size;
        self.lowest = self.lowest.min(size);
        calm && size > self.lowest.saturating_add(WORTH) && now >= self.not_before
    }

    fn trimmed(&mut self, now: Instant, before: u64, after: u64) {
        self.pause = if before.saturating_sub(after) < WORTH / 2 {
            // It is in use: this is how large the process is now.
            self.lowest = after;
            (self.pause * 2).min(LONGEST)
        } else {
            EVERY
        };
        self.last = after;
        self.not_before = now + self.pause;
    }
}

/// Until `stop`.
pub(super) async fn give_back(stop: CancellationToken) {
    let Some(size) = in_memory() else { return };
    let mut policy = Policy::new(Instant::now(), size);
    while stop
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        let Some(before) = in_memory() else { return };
        if !policy.looked(Instant::now(), before) {
            continue;
        }
        let _ = tokio::task::spawn_blocking(trim).await;
        let after = in_memory().unwrap_or(before);
        tracing::debug!(before, after, "memory was given back");
        policy.trimmed(Instant::now(), before, after);
    }
}

/// None where the system does not tell.
fn in_memory() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(resident * rustix::param::page_size() as u64)
}

/// From this size on a block comes from the system, and goes back to it.
const LARGE: libc::c_int = 1024 * 1024;

/// Heaps that threads share. With one for each thread, what many readers let go of lies scattered
/// over all of them, and none of it can be given back. With two, the committer and the thread that
/// writes the index wait for each other.
const ARENAS: libc::c_int = 8;

/// To be called before there are threads.
pub(super) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: it takes no pointer. A setting that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: it takes no pointer, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn memory_is_given_back_when_things_have_calmed_down() {
        let start = Instant::now();
        let mut now = start;
        let mut policy = Policy::new(now, 20 * MIB);
        let mut looked = |policy: &mut Policy, mib: u64| {
            now += EVERY;
            (now, policy.looked(now, mib * MIB))
        };
        assert!(!looked(&mut policy, 30).1, "not worth it");
        assert!(!looked(&mut policy, 900).1, "still growing");
        assert!(!looked(&mut policy, 700).1, "still changing");
        let (at, trim) = looked(&mut policy, 701);
        assert!(trim);
        policy.trimmed(at, 701 * MIB, 40 * MIB);
        assert!(!looked(&mut policy, 40).1);
        // What is in use stays in use, and is asked for ever less often.
        assert!(!looked(&mut policy, 300).1);
        let (at, trim) = looked(&mut policy, 300);
        assert!(trim);
        policy.trimmed(at, 300 * MIB, 299 * MIB);
        assert!(!looked(&mut policy, 300).1, "that is its size");
        let mut trims = 0;
        for n in 0..120 {
            let (at, trim) = looked(&mut policy, 340 + n % 2);
            if trim {
                trims += 1;
                policy.trimmed(at, 340 * MIB, 340 * MIB);
                policy.lowest = 20 * MIB;
            }
        }
        assert!((1..10).contains(&trims), "{trims}");
    }
}
