//! Certificates: from files, or self-signed and kept in the data directory; exchanged on reload.
//!
//! May import: config, telemetry, types, store, net. rustls with TLS 1.2 and 1.3.
//!
//! Resumption is by tickets that the client keeps (RFC 5077; RFC 8446, 4.6.1): a server with
//! many phones holds no session for any of them. The ticket key outlives a reload, so a new
//! certificate does not cost every phone a full handshake.

mod endpoint;
mod facts;
mod files;
mod selfsigned;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;

use crate::config::TlsConfig;

pub use files::{Checked, check};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("TLS settings: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("could not make a certificate: {0}")]
    Generate(String),
}

impl TlsError {
    fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}

/// Gives what a login over TLS is bound to by `tls-server-end-point`.
pub type EndPointSource = Arc<dyn Fn() -> Option<Vec<u8>> + Send + Sync>;

/// The server's certificate; `reload` exchanges it under running connections.
pub struct Certificates {
    data_dir: PathBuf,
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    current: ArcSwap<Current>,
}

/// The certificate of the moment, with the settings made of it: one for each list of ALPN
/// protocols that somebody asked for.
struct Current {
    key: Arc<CertifiedKey>,
    configs: Mutex<HashMap<Vec<Vec<u8>>, Arc<ServerConfig>>>,
    plain: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads the files, or makes and keeps a self-signed certificate for `hostname` in `data_dir`.
    pub fn load(config: &TlsConfig, hostname: &str, data_dir: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tickets = aws_lc_rs::Ticketer::new()?;
        let key = read(config, hostname, data_dir, &provider)?;
        let current = Current::new(key, &provider, &tickets)?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            provider,
            tickets,
            current: ArcSwap::from_pointee(current),
        })
    }

    /// Reads again, or makes one for another host name. On an error the old certificate stays.
    pub fn reload(&self, config: &TlsConfig, hostname: &str) -> Result<(), TlsError> {
        let key = read(config, hostname, &self.data_dir, &self.provider)?;
        let current = Current::new(key, &self.provider, &self.tickets)?;
        self.current.store(Arc::new(current));
        Ok(())
    }

    /// The settings of the moment.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.current.load().plain.clone()
    }

    /// The settings of the moment for a protocol that is chosen by ALPN (RFC 7301). `protocols`
    /// is a fixed list of the caller's, not something that a peer says.
    pub fn server_config_with_alpn(&self, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let current = self.current.load();
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|p| p.to_vec()).collect();
        let mut configs = current.configs.lock();
        configs
            .entry(protocols)
            .or_insert_with_key(|protocols| {
                let mut config = ServerConfig::clone(&current.plain);
                config.alpn_protocols = protocols.clone();
                Arc::new(config)
            })
            .clone()
    }

    /// The binding `tls-server-end-point` to the certificate of the moment (RFC 5929, 4). A
    /// connection that began with the one before can't bind a login to it, and begins anew.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        endpoint::of(self.current.load().key.cert.first()?)
    }

    /// The certificate chain, leaf first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current.load().key.cert.clone()
    }
}

impl Current {
    fn new(
        key: CertifiedKey,
        provider: &Arc<CryptoProvider>,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let key = Arc::new(key);
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key.clone())));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets.clone();
        config.send_tls13_tickets = 1;
        Ok(Self {
            key,
            configs: Mutex::new(HashMap::new()),
            plain: Arc::new(config),
        })
    }
}

/// The files of the configuration, or our own.
fn read(
    config: &TlsConfig,
    hostname: &str,
    data_dir: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let loaded = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => files::load(certificate, key, hostname, provider)?,
        _ => {
            let (certificate, key) = selfsigned::ensure(hostname, data_dir, files::now())?;
            files::load(&certificate, &key, hostname, provider)?
        }
    };
    for remark in &loaded.remarks {
        tracing::warn!("certificate: {remark}");
    }
    Ok(loaded.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTNAME: &str = "mail.example.org";

    fn load(dir: &Path) -> Certificates {
        Certificates::load(&TlsConfig::default(), HOSTNAME, dir).unwrap()
    }

    #[test]
    fn a_self_signed_certificate_is_kept() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let first = load(dir.path()).chain();
        assert_eq!(first, load(dir.path()).chain());
        let mode = |name: &str| {
            let path = dir.path().join("tls").join(name);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("key.pem"), 0o600);
        assert_eq!(mode(""), 0o700);
    }

    #[test]
    fn reload_takes_the_new_certificate_and_keeps_the_old_one_on_error() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certificates = load(dir.path());
        let (before, plain) = (certificates.chain(), certificates.server_config());
        let (certificate, key) =
            selfsigned::ensure("other.example.org", other.path(), files::now()).unwrap();
        let files = TlsConfig {
            certificate: Some(certificate.clone()),
            key: Some(key.clone()),
        };
        // The key of another certificate.
        let mixed = TlsConfig {
            key: Some(dir.path().join("tls/key.pem")),
            ..files.clone()
        };
        let error = certificates
            .reload(&mixed, HOSTNAME)
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not the key of"), "{error}");
        assert_eq!(certificates.chain(), before);

        certificates.reload(&files, HOSTNAME).unwrap();
        assert_ne!(certificates.chain(), before);
        assert!(!Arc::ptr_eq(&plain, &certificates.server_config()));

        std::fs::write(&certificate, "nonsense").unwrap();
        let now = certificates.chain();
        assert!(certificates.reload(&files, HOSTNAME).is_err());
        assert_eq!(certificates.chain(), now);
    }

    #[test]
    fn alpn_settings_are_made_once_for_each_list() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = load(dir.path());
        let http = certificates.server_config_with_alpn(&[b"h2", b"http/1.1"]);
        assert_eq!(http.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
        let again = certificates.server_config_with_alpn(&[b"h2", b"http/1.1"]);
        assert!(Arc::ptr_eq(&http, &again));
        assert!(certificates.server_config().alpn_protocols.is_empty());
    }

    /// A handshake in memory; says which version, and whether it was resumed.
    fn shake(
        server: Arc<ServerConfig>,
        client: &Arc<rustls::ClientConfig>,
    ) -> (rustls::ProtocolVersion, rustls::HandshakeKind) {
        let name = "localhost".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(client.clone(), name).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        let mut wire = Vec::new();
        // Tickets come after the handshake proper, so go on until nobody has anything to say.
        while client.wants_write() || server.wants_write() {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let mut rest = &wire[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().unwrap();
            }
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut rest = &wire[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        (
            client.protocol_version().unwrap(),
            client.handshake_kind().unwrap(),
        )
    }

    #[test]
    fn both_versions_work_and_resume_also_after_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = load(dir.path());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificates.chain().remove(0)).unwrap();
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let client = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let client = Arc::new(client);
            let (spoken, kind) = shake(certificates.server_config(), &client);
            assert_eq!(spoken, version.version);
            assert_ne!(kind, rustls::HandshakeKind::Resumed);
            certificates
                .reload(&TlsConfig::default(), HOSTNAME)
                .unwrap();
            let (_, kind) = shake(certificates.server_config(), &client);
            assert_eq!(kind, rustls::HandshakeKind::Resumed, "{version:?}");
        }
    }
}
