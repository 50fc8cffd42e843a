//! The store's clock.
//!
//! May import: types.

use crate::types::UnixMillis;

pub(super) fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMillis(since.map_or(0, |d| d.as_millis() as u64))
}
