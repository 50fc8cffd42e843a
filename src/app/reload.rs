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
    if let Err(error) = certificates.reload(&new.tls, &new.hostname) {
        tracing::error!("the configuration stays as it was: {error}");
        return;
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
            subaddress_separator: current.smtp.subaddress_separator,
            ..new.smtp
        },
        imap: crate::config::ImapConfig {
            listen: current.imap.listen.clone(),
            listen_tls: current.imap.listen_tls.clone(),
            ..new.imap
        },
        http: crate::config::HttpConfig {
            listen: current.http.listen.clone(),
            listen_tls: current.http.listen_tls.clone(),
            max_body_bytes: current.http.max_body_bytes,
            request_timeout_secs: current.http.request_timeout_secs,
            ..new.http
        },
        limits: crate::config::LimitsConfig {
            admin_connections: current.limits.admin_connections,
            admin_timeout_secs: current.limits.admin_timeout_secs,
            shutdown_grace_secs: current.limits.shutdown_grace_secs,
            transfer_timeout_secs: current.limits.transfer_timeout_secs,
            ..new.limits
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
        (listen, s.subaddress_separator)
    };
    let imap = |c: &Config| {
        let i = &c.imap;
        (i.listen.clone(), i.listen_tls.clone())
    };
    let http = |c: &Config| {
        let h = &c.http;
        let listen = (h.listen.clone(), h.listen_tls.clone());
        (listen, h.max_body_bytes, h.request_timeout_secs)
    };
    let limits = |c: &Config| {
        let l = &c.limits;
        (
            l.admin_connections,
            l.admin_timeout_secs,
            l.shutdown_grace_secs,
            l.transfer_timeout_secs,
        )
    };
    let sections: [(&'static str, &dyn std::fmt::Debug, &dyn std::fmt::Debug); 8] = [
        ("hostname", &old.hostname, &new.hostname),
        ("data_dir", &old.data_dir, &new.data_dir),
        ("[smtp] listeners, separator", &smtp(old), &smtp(new)),
        ("[imap] listeners", &imap(old), &imap(new)),
        ("[http] listeners, body and time", &http(old), &http(new)),
        ("[store]", &old.store, &new.store),
        (
            "[limits] of the admin socket and of stopping",
            &limits(old),
            &limits(new),
        ),
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
        new.smtp.max_connections = 3;
        new.limits.keepalive_secs = 7;
        assert_eq!(needs_restart(&old, &new), Vec::<&str>::new());
        new.smtp.listen = vec!["127.0.0.1:2525".parse().unwrap()];
        new.data_dir = "/y".into();
        assert_eq!(
            needs_restart(&old, &new),
            ["data_dir", "[smtp] listeners, separator"]
        );
    }
}
