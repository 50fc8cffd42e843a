//! What commands print.
//!
//! May import: nothing.

use std::io::Write;

use super::CliError;

/// Like `println!`, but a reader that goes away (`| head`) is no panic.
pub(super) fn write_line(text: &str) -> Result<(), CliError> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::failed(error))
        }
        _ => Ok(()),
    }
}
