//! State images: the whole index as it is at one place in the log, in one file. What the log
//! says of state before that place is then no longer needed, so an image bounds how long a
//! rebuild takes and lets the log shrink; and it is what a backup has in place of an index.
//!
//! May import: the rest of the store. `format`, `tally` are machines; `capture` reads a moving
//! index as of one group; `take` writes, `files` finds and reads.

pub(super) mod capture;
pub(super) mod files;
pub(super) mod format;
pub(super) mod load;
pub(super) mod take;
pub(super) mod tally;
