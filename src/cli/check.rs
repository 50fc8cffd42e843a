//! `posthorn config check`: the file, and the certificates that it names.
//!
//! May import: config, tls.

use std::path::Path;

use serde_json::{Value, json};

use super::CliError;
use super::out::write_line;
use crate::config::{Config, ConfigError, Problem, Severity};

/// Everything that was found, errors first.
pub(super) fn run(path: &Path, json: bool) -> Result<(), CliError> {
    let file = path.display().to_string();
    let problems = match Config::load(path) {
        Ok((config, warnings)) => look_further(path, &config, warnings),
        Err(ConfigError::Invalid { problems, .. }) => problems,
        Err(error) if json => {
            let error = json!({ "key": null, "message": error.to_string() });
            write_line(&json!({ "ok": false, "errors": [error], "warnings": [] }).to_string())?;
            return Err(CliError::Told);
        }
        Err(error) => return Err(CliError::failed(error)),
    };
    let (errors, warnings): (Vec<_>, Vec<_>) = problems
        .iter()
        .partition(|problem| problem.severity == Severity::Error);
    let ok = errors.is_empty();
    if json {
        let all = |of: &[&Problem]| of.iter().map(|p| value(p)).collect::<Vec<_>>();
        let told = json!({ "ok": ok, "errors": all(&errors), "warnings": all(&warnings) });
        write_line(&told.to_string())?;
        return if ok { Ok(()) } else { Err(CliError::Told) };
    }
    for warning in &warnings {
        eprintln!("{}", warning.render(&file));
    }
    if ok {
        return write_line(&format!("{file} is good"));
    }
    let shown: Vec<_> = errors.iter().map(|problem| problem.render(&file)).collect();
    Err(CliError::Failed(shown.join("\n")))
}

/// What shows only when the files that it names are read.
fn look_further(path: &Path, config: &Config, mut problems: Vec<Problem>) -> Vec<Problem> {
    let checked = crate::tls::check(&config.tls, &config.hostname);
    for (severity, found) in [
        (Severity::Error, checked.errors),
        (Severity::Warning, checked.warnings),
    ] {
        let found = found.into_iter();
        problems.extend(found.map(|(key, text)| Config::problem(path, severity, key, text)));
    }
    problems
}

fn value(problem: &Problem) -> Value {
    json!({
        "key": problem.key,
        "message": problem.message,
        "line": problem.line,
        "column": problem.column,
    })
}
