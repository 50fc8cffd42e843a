//! SIGHUP: certificates, limits, push settings and the log level, without dropping a connection.
//!
//! May import: auth, config, tls. A broken file changes nothing: the old values stay, and the
//! log says so.

use std::path::Path;

use crate::auth::Auth;
use crate::config::{Config, Severity};
use crate::tls::Certificates;

/// Reads the file again. `current` becomes what is in force.
pub(super) fn reload(path: &Path, current: &mut Config, auth: &Auth, certificates: &Certificates) {
    let (new, warnings) = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("the configuration stays as it was: {error}");
            return;
        }
    };
    for warning in warnings {
        debug_assert_eq!(warning.severity, Severity::Warning);
        tracing::warn!("{}", warning.render(&path.display().to_string()));
    }
    if let Err(error) = certificates.reload(&new.tls) {
        tracing::error!("the certificate stays as it was: {error}");
    }
    if let Err(error) = super::log::set_level(&new.log) {
        tracing::error!("the log level stays as it was: {error}");
    }
    auth.reconfigure(&new.auth);
    let waiting = needs_restart(current, &new);
    if !waiting.is_empty() {
        tracing::warn!(
            "changed, but in force only after a restart: {}",
            waiting.join(", ")
        );
    }
    *current = Config {
        smtp: crate::config::SmtpConfig {
            listen: current.smtp.listen.clone(),
            listen_submission: current.smtp.listen_submission.clone(),
            listen_submission_tls: current.smtp.listen_submission_tls.clone(),
            max_connections: current.smtp.max_connections,
            max_connections_per_ip: current.smtp.max_connections_per_ip,
            subaddress_separator: current.smtp.subaddress_separator,
            ..new.smtp
        },
        imap: crate::config::ImapConfig {
            listen: current.imap.listen.clone(),
            listen_tls: current.imap.listen_tls.clone(),
            max_connections: current.imap.max_connections,
            max_connections_per_ip: current.imap.max_connections_per_ip,
            ..new.imap
        },
        push: new.push,
        tls: new.tls,
        auth: new.auth,
        log: crate::config::LogConfig {
            level: new.log.level,
            ..current.log.clone()
        },
        ..current.clone()
    };
    tracing::info!(file = %path.display(), "configuration read again");
}

/// Sections that differ and can't change under a running server.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let same =
        |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| format!("{a:?}") == format!("{b:?}");
    let mut differ = Vec::new();
    let smtp = |c: &Config| {
        let s = &c.smtp;
        let listen = (
            s.listen.clone(),
            s.listen_submission.clone(),
            s.listen_submission_tls.clone(),
        );
        (
            listen,
            s.max_connections,
            s.max_connections_per_ip,
            s.subaddress_separator,
        )
    };
    let imap = |c: &Config| {
        let i = &c.imap;
        (
            i.listen.clone(),
            i.listen_tls.clone(),
            i.max_connections,
            i.max_connections_per_ip,
        )
    };
    let sections: [(&'static str, &dyn std::fmt::Debug, &dyn std::fmt::Debug); 8] = [
        ("hostname", &old.hostname, &new.hostname),
        ("data_dir", &old.data_dir, &new.data_dir),
        ("[smtp] listeners", &smtp(old), &smtp(new)),
        ("[imap] listeners", &imap(old), &imap(new)),
        ("[http]", &old.http, &new.http),
        ("[store]", &old.store, &new.store),
        ("[limits]", &old.limits, &new.limits),
        ("log.format", &old.log.format, &new.log.format),
    ];
    for (name, a, b) in sections {
        if !same(a, b) {
            differ.push(name);
        }
    }
    differ
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = Config::new("mail.example.org", "/x");
        let mut new = old.clone();
        new.auth.max_failures = 1;
        new.log.level = "debug".into();
        new.smtp.max_hops = 3;
        assert_eq!(needs_restart(&old, &new), Vec::<&str>::new());
        new.smtp.max_connections = 3;
        new.data_dir = "/y".into();
        assert_eq!(needs_restart(&old, &new), ["data_dir", "[smtp] listeners"]);
    }
}
