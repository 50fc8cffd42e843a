//! A self-signed certificate, made when there is no other and kept, so that clients which
//! accepted it once stay content.
//!
//! May import: nothing of ours but the errors of `tls`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::TlsError;

/// The certificate and key files in `DATA/tls/`; made if they are not there.
pub(super) fn ensure(hostname: &str, data_dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let dir = data_dir.join("tls");
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|error| TlsError::file(&dir, error))?;
    let (certificate_pem, key_pem) =
        make(hostname).map_err(|error| TlsError::Generate(error.to_string()))?;
    write(&key, &key_pem)?;
    write(&certificate, &certificate_pem)?;
    Ok((certificate, key))
}

fn make(hostname: &str) -> Result<(String, String), rcgen::Error> {
    // ECDSA P-256, which every mail client knows.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut names = vec![hostname.to_owned()];
    if hostname != "localhost" {
        names.push("localhost".into());
    }
    let mut params = CertificateParams::new(names)?;
    params.subject_alt_names.extend([
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ]);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, hostname);
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Whole or not at all: a crash must not leave half a key.
fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    let attempt = || {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    attempt().map_err(|error| TlsError::file(path, error))
}
