//! How far something is: one line on the terminal that is written over. Elsewhere nothing.
//!
//! May import: admin.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use crate::admin::Tell;

/// Shows what it is told, if somebody looks.
pub(super) fn tell() -> Tell {
    let looked_at = std::io::stderr().is_terminal();
    Arc::new(move |text: &str| {
        if looked_at && !text.is_empty() {
            // Back to the margin, and the rest of the line cleared.
            let _ = write!(std::io::stderr(), "\r{text}\x1b[K");
        }
    })
}

/// Leaves an empty line for what comes next.
pub(super) fn done() {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}
