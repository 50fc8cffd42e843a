//! Log lines: where they go, in which form, and from which level on.
//!
//! May import: config. The level can change while the server runs; the form can't.

use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// A process has one log.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging to standard error. A second call changes only the level.
pub(super) fn start(config: &LogConfig) -> Result<(), String> {
    let filter = filter(config)?;
    if LEVEL.get().is_some() {
        return set_level(config);
    }
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails where somebody else in the process logs already, as in a test.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    let _ = LEVEL.set(handle);
    Ok(())
}

pub(super) fn set_level(config: &LogConfig) -> Result<(), String> {
    let filter = filter(config)?;
    match LEVEL.get() {
        Some(handle) => handle.reload(filter).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn filter(config: &LogConfig) -> Result<EnvFilter, String> {
    // What rustls warns of is what strangers send; a level given for it comes later and wins.
    let level = match config.level.contains("rustls") {
        true => config.level.clone(),
        false => format!("{},rustls=error", config.level),
    };
    EnvFilter::try_new(level).map_err(|error| error.to_string())
}
