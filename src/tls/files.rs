//! Certificate and key files: read, and looked at before anybody relies on them.
//!
//! May import: config and the errors of `tls`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::facts::Facts;
use crate::config::TlsConfig;

/// A certificate with its key, and what an operator should know of it.
pub(super) struct Loaded {
    pub key: CertifiedKey,
    pub remarks: Vec<String>,
}

/// What is wrong with the files of a configuration, and what is only worth a look. Each with the
/// key of the configuration that it concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub errors: Vec<(&'static str, String)>,
    pub warnings: Vec<(&'static str, String)>,
}

/// Reads the files that `[tls]` names, if it names any, as the server would.
pub fn check(config: &TlsConfig, hostname: &str) -> Checked {
    let mut checked = Checked::default();
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return checked;
    };
    match load(certificate, key, hostname, &aws_lc_rs::default_provider()) {
        Ok(loaded) => {
            let remarks = loaded.remarks.into_iter();
            checked.warnings = remarks.map(|text| ("tls.certificate", text)).collect();
        }
        Err(error) => {
            let of_key = matches!(&error, TlsError::File { path, .. } if path == key);
            let name = if of_key { "tls.key" } else { "tls.certificate" };
            checked.errors.push((name, error.to_string()));
        }
    }
    checked
}

/// Reads a pair of files in PEM form.
pub(super) fn load(
    certificate: &Path,
    key: &Path,
    hostname: &str,
    provider: &CryptoProvider,
) -> Result<Loaded, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::file(certificate, error))?;
    let Some(leaf) = chain.first() else {
        return Err(TlsError::file(
            certificate,
            "holds no certificate in PEM form",
        ));
    };
    let mut remarks = Facts::of(leaf).map_or_else(Vec::new, |facts| facts.remarks(now()));
    if names(leaf, hostname) == Some(false) {
        remarks.push(format!("does not name {hostname}"));
    }
    let shown = certificate.display();
    let remarks = remarks.iter().map(|text| format!("{shown} {text}"));
    let remarks = remarks.collect();
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file(key, error))?;
    let key = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::file(key, format!("is not the key of {shown}"))
        }
        rustls::Error::InvalidCertificate(_) => TlsError::file(certificate, error),
        error => TlsError::file(key, error),
    })?;
    Ok(Loaded { key, remarks })
}

/// Is it a certificate for this name? None where that can't be told.
pub(super) fn names(certificate: &CertificateDer<'_>, hostname: &str) -> Option<bool> {
    let name = ServerName::try_from(hostname).ok()?;
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(rustls::client::verify_server_name(&parsed, &name).is_ok())
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
