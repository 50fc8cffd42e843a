//! The command line.
//!
//! May import app, admin and everything below. `args` is what can be typed, `commands` does it,
//! `show` prints it for people; `--json` prints what the admin socket sends.
//!
//! Exit status: 0 done, 1 failed, 2 wrong use.

mod args;
mod commands;
mod show;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use crate::admin::{Failure, FailureKind};

/// Why a command ends with a status that is not 0.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// 1.
    #[error("{0}")]
    Failed(String),
    /// 2.
    #[error("{0}")]
    Usage(String),
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Usage => Self::Usage(failure.message),
            _ => Self::Failed(failure.message),
        }
    }
}

impl CliError {
    fn failed(error: impl ToString) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    let json = args.json;
    // One crypto library for the whole process; an error means that it is set already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (status, error) = match commands::run(args) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CliError::Failed(message)) => (1, message),
        Err(CliError::Usage(message)) => (2, message),
    };
    // Whoever reads may be gone: the status still tells.
    if json {
        let _ = writeln!(
            std::io::stdout(),
            "{}",
            serde_json::json!({ "error": error })
        );
    } else {
        let _ = writeln!(std::io::stderr(), "posthorn: {error}");
    }
    ExitCode::from(status)
}
