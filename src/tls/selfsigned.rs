//! A self-signed certificate, made when there is no other and kept, so that clients which
//! accepted it once stay content.
//!
//! May import: nothing of ours but the rest of `tls`.
//!
//! It is good for 397 days, which is the most that browsers and phones take. A new one is made in
//! time, or when the host name is another; with the same key, so that whoever trusts the key
//! hears nothing of it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::TlsError;
use super::facts::{Facts, date};
use super::files::names;

const DAY: i64 = 86_400;
/// It begins a day early, for clocks that are slow.
const EARLY_DAYS: i64 = 1;
const GOOD_DAYS: i64 = 396;
/// A new one is made so long before the end.
const RENEW_SECS: i64 = 30 * DAY;
/// Early versions made certificates for ever.
const FOR_EVER_SECS: i64 = 1000 * 365 * DAY;

/// The certificate and key files in `DATA/tls/`; made where they are not there, or too old, or
/// for another name. `now` in seconds since 1970.
pub(super) fn ensure(
    hostname: &str,
    data_dir: &Path,
    now: i64,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let dir = data_dir.join("tls");
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let Some(why) = wanting(&certificate, &key, hostname, now)? else {
        return Ok((certificate, key));
    };
    let replaced = certificate.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|error| TlsError::file(&dir, error))?;
    let generate = |error: rcgen::Error| TlsError::Generate(error.to_string());
    let pair = match fs::read_to_string(&key) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| TlsError::file(&key, error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // ECDSA P-256, which every mail client knows.
            let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(generate)?;
            write(&key, &pair.serialize_pem())?;
            pair
        }
        Err(error) => return Err(TlsError::file(&key, error)),
    };
    write(&certificate, &make(hostname, &pair, now).map_err(generate)?)?;
    let made = format!(
        "made a self-signed certificate for {hostname}, {}: {why}",
        certificate.display()
    );
    // Clients that trusted the old one may ask their people.
    if replaced {
        tracing::warn!("{made}");
    } else {
        tracing::info!("{made}");
    }
    Ok((certificate, key))
}

/// Why a certificate has to be made; None: the one that is there is good, or not one of ours.
fn wanting(
    certificate: &Path,
    key: &Path,
    hostname: &str,
    now: i64,
) -> Result<Option<String>, TlsError> {
    let pem = match fs::read(certificate) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some("there was none".into()));
        }
        Err(error) => return Err(TlsError::file(certificate, error)),
    };
    if !key.exists() {
        return Ok(Some("the key was missing".into()));
    }
    // What can't be read is not written over: whoever reads it next says what is wrong.
    let Ok(leaf) = CertificateDer::from_pem_slice(&pem) else {
        return Ok(None);
    };
    let Some(facts) = Facts::of(&leaf).filter(|facts| facts.self_signed) else {
        return Ok(None);
    };
    Ok(if facts.not_after - now < RENEW_SECS {
        Some(format!("the old one ends on {}", date(facts.not_after)))
    } else if facts.not_after - facts.not_before > FOR_EVER_SECS {
        Some("the old one was good for longer than clients take".into())
    } else if names(&leaf, hostname) == Some(false) {
        Some("the old one is for another host name".into())
    } else {
        None
    })
}

fn make(hostname: &str, key: &KeyPair, now: i64) -> Result<String, rcgen::Error> {
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
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let at = |days: i64| {
        let day = day(now + days * DAY);
        let number = |n: i8| u8::try_from(n).unwrap_or(1);
        rcgen::date_time_ymd(day.year().into(), number(day.month()), number(day.day()))
    };
    params.not_before = at(-EARLY_DAYS);
    params.not_after = at(GOOD_DAYS);
    Ok(params.self_signed(key)?.pem())
}

/// The day in UTC.
fn day(secs: i64) -> Date {
    let at = Timestamp::UNIX_EPOCH.saturating_add(SignedDuration::from_secs(secs));
    TimeZone::UTC
        .to_datetime(at.unwrap_or(Timestamp::UNIX_EPOCH))
        .date()
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn ensured(dir: &Path, hostname: &str, now: i64) -> (Vec<u8>, Vec<u8>) {
        let (certificate, key) = ensure(hostname, dir, now).unwrap();
        (fs::read(certificate).unwrap(), fs::read(key).unwrap())
    }

    fn facts(pem: &[u8]) -> Facts {
        Facts::of(&CertificateDer::from_pem_slice(pem).unwrap()).unwrap()
    }

    #[test]
    fn it_is_good_for_a_year_and_a_month_and_for_servers() {
        let dir = tempfile::tempdir().unwrap();
        let (pem, _) = ensured(dir.path(), "mail.example.org", NOW);
        let facts = facts(&pem);
        assert_eq!(facts.not_after - facts.not_before, 397 * DAY);
        assert!(facts.not_before < NOW && NOW - facts.not_before <= 2 * DAY);
        let der = CertificateDer::from_pem_slice(&pem).unwrap();
        // id-kp-serverAuth, 1.3.6.1.5.5.7.3.1
        let purpose = [0x2b, 6, 1, 5, 5, 7, 3, 1];
        assert!(der.windows(purpose.len()).any(|bytes| bytes == purpose));
    }

    #[test]
    fn it_stays_until_its_end_is_near_or_the_name_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensured(dir.path(), "mail.example.org", NOW);
        let end = facts(&first.0).not_after;
        for now in [NOW, NOW - 400 * DAY, end - RENEW_SECS] {
            assert_eq!(ensured(dir.path(), "mail.example.org", now), first, "{now}");
        }
        let second = ensured(dir.path(), "mail.example.org", end - RENEW_SECS + 1);
        assert_ne!(second.0, first.0);
        assert_eq!(second.1, first.1, "the key stays");
        let third = ensured(dir.path(), "mx.example.org", end - RENEW_SECS + 1);
        assert_ne!(third.0, second.0);
        assert_eq!(third.1, first.1);
        let leaf = CertificateDer::from_pem_slice(&third.0).unwrap();
        assert_eq!(names(&leaf, "mx.example.org"), Some(true));
        assert_eq!(names(&leaf, "mail.example.org"), Some(false));
    }

    #[test]
    fn one_for_ever_is_replaced_and_a_stranger_s_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (_, key) = ensured(dir.path(), "mail.example.org", NOW);
        let path = dir.path().join("tls/certificate.pem");
        let pair = KeyPair::from_pem(&String::from_utf8(key).unwrap()).unwrap();
        let params = || CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
        let for_ever = params().self_signed(&pair).unwrap().pem();
        fs::write(&path, &for_ever).unwrap();
        let (pem, _) = ensured(dir.path(), "mail.example.org", NOW);
        assert_ne!(pem, for_ever.into_bytes());

        let mut authority = CertificateParams::new(vec![]).unwrap();
        authority
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let issuer = rcgen::Issuer::from_params(&authority, &pair);
        let signed = params().signed_by(&pair, &issuer).unwrap().pem();
        for theirs in [signed.as_str(), "nonsense"] {
            fs::write(&path, theirs).unwrap();
            let (pem, _) = ensured(dir.path(), "other.example.org", NOW);
            assert_eq!(pem, theirs.as_bytes());
        }
    }

    #[test]
    fn a_crash_between_the_two_files_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (_, key) = ensured(dir.path(), "mail.example.org", NOW);
        fs::remove_file(dir.path().join("tls/certificate.pem")).unwrap();
        let (_, again) = ensured(dir.path(), "mail.example.org", NOW);
        assert_eq!(key, again);
        fs::remove_file(dir.path().join("tls/key.pem")).unwrap();
        let (_, new) = ensured(dir.path(), "mail.example.org", NOW);
        assert_ne!(key, new);
        super::super::files::load(
            &dir.path().join("tls/certificate.pem"),
            &dir.path().join("tls/key.pem"),
            "mail.example.org",
            &rustls::crypto::aws_lc_rs::default_provider(),
        )
        .unwrap();
    }
}
