//! A file that only takes room: where the disk is full it is given up, so that flags, deleting
//! and a start have something to write to. It is made again when there is room.
//!
//! May import: the disk, the rest of the store.

use std::path::Path;

use super::disk::Disk;
use super::shared::Shared;

const NAME: &str = "ballast";
/// With less than this the disk is taken for full.
const FLOOR: u64 = 4 * 1024 * 1024;
/// With more than this beyond what is kept free none is needed yet.
const NEAR: u64 = 4 * 1024 * 1024 * 1024;

/// Gives it up where hardly anything is free. True where it was there.
pub(super) fn look(disk: &dyn Disk, dir: &Path) -> bool {
    let full = disk.free_bytes(dir).is_some_and(|free| free < FLOOR);
    full && give_up(disk, dir)
}

/// True where it was there.
pub(super) fn give_up(disk: &dyn Disk, dir: &Path) -> bool {
    let there = disk.remove(&dir.join(NAME)).is_ok();
    if there {
        tracing::error!(
            "the disk is full: the ballast is given up, so that mail can be read and deleted; make room"
        );
    }
    there
}

/// Whether what is kept free stays so with `more` bytes. Where the ballast was given up, its room
/// does not count: it is not for mail. Where that can't be told, yes.
pub(super) fn leaves_room(shared: &Shared, more: u64) -> bool {
    let (disk, dir) = (&*shared.disk, &shared.options.dir);
    let Some(free) = disk.free_bytes(dir) else {
        return true;
    };
    let needed = shared.reserve().saturating_add(more);
    let bytes = shared.options.config.ballast_bytes;
    free >= needed.saturating_add(bytes)
        || (free >= needed && (bytes == 0 || disk.open(&dir.join(NAME)).is_ok()))
}

/// Gives it up or makes it again, as there is room. Failing to make it is no harm: it is tried
/// again.
pub(super) fn tend(shared: &Shared) {
    let (disk, dir) = (&*shared.disk, &shared.options.dir);
    if look(disk, dir) {
        return;
    }
    let bytes = shared.options.config.ballast_bytes;
    let reserve = shared.reserve();
    let needed = reserve.saturating_add(bytes.saturating_mul(2));
    let free = disk.free_bytes(dir);
    let room = free.is_some_and(|free| free >= needed);
    let near = free.is_some_and(|free| free < reserve.saturating_add(NEAR));
    let far = free.is_some_and(|free| free >= reserve.saturating_add(2 * NEAR));
    let path = dir.join(NAME);
    let there = disk.open(&path).is_ok();
    if there && (bytes == 0 || far) {
        let _ = disk.remove(&path);
    }
    if bytes == 0 || there || !room || !near {
        return;
    }
    if let Err(error) = disk.take_room(&path, bytes) {
        tracing::debug!(%error, "no ballast could be made");
        let _ = disk.remove(&path);
    }
}
