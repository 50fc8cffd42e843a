//! The command line.
//!
//! May import app, admin and everything below. `args` is what can be typed, `commands` does it,
//! `show` prints it for people; `--json` prints what the admin socket sends.
//!
//! Exit status: 0 done, 1 failed, 2 wrong use.

mod args;
mod backup;
mod check;
mod commands;
mod out;
mod progress;
mod show;
mod transfer;

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::admin::{Failure, FailureKind};

/// Why a command ends with a status that is not 0.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// 1.
    #[error("{0}")]
    Failed(String),
    /// 1, and all is printed already.
    #[error("failed")]
    Told,
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
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() && wants_json() => {
            return ended(true, CliError::Usage(misuse(&error)));
        }
        Err(error) => error.exit(),
    };
    let json = args.json;
    // What any command makes is nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // One crypto library for the whole process; an error means that it is set already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ended(json, error),
    }
}

fn ended(json: bool, error: CliError) -> ExitCode {
    let (status, error) = match error {
        CliError::Told => return ExitCode::from(1),
        CliError::Failed(message) => (1, message),
        CliError::Usage(message) => (2, message),
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

/// The arguments could not be understood as a whole, but this one can.
fn wants_json() -> bool {
    std::env::args_os()
        .skip(1)
        .take_while(|arg| arg != OsStr::new("--"))
        .any(|arg| arg == OsStr::new("--json"))
}

/// What is wrong, without the usage that people get with it.
fn misuse(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing; see --help".into();
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage:", "\n\nFor more information"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min();
    text[..end.unwrap_or(text.len())].trim_end().to_owned()
}
