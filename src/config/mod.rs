//! The configuration file: static facts. What changes while the server runs is in the store.
//!
//! May import: types. Reading the file is `load`; all else is pure. Every key has a default but `hostname` and `data_dir`; an unknown key is
//! an error. One struct per section, one section per file.

mod auth;
mod bounds;
mod check;
mod http;
mod imap;
mod limits;
mod log;
mod push;
mod smtp;
mod store;
mod tls;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use auth::{AuthConfig, OauthConfig};
pub use check::{Problem, Severity};
pub use http::HttpConfig;
pub use imap::ImapConfig;
pub use limits::LimitsConfig;
pub use log::{LogConfig, LogFormat};
pub use push::PushConfig;
pub use smtp::{BareLineEndings, SmtpConfig};
pub use store::StoreConfig;
pub use tls::TlsConfig;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name that this server greets with.
    pub hostname: String,
    pub data_dir: PathBuf,
    #[serde(default)]
    pub tls: TlsConfig,
    #[serde(default)]
    pub smtp: SmtpConfig,
    #[serde(default)]
    pub imap: ImapConfig,
    #[serde(default)]
    pub http: HttpConfig,
    #[serde(default)]
    pub push: PushConfig,
    #[serde(default)]
    pub auth: AuthConfig,
    #[serde(default)]
    pub store: StoreConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub log: LogConfig,
}

/// Why there is no configuration. `Display` is what the operator reads.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "{path}: {source}. Name the file with --config, or copy the commented example config/posthorn.toml"
    )]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: larger than {} KiB", MAX_FILE_BYTES / 1024)]
    TooLarge { path: PathBuf },
    #[error("{}", render(path, problems))]
    Invalid {
        path: PathBuf,
        problems: Vec<Problem>,
    },
}

/// A configuration file is a few KiB; anything much larger is another file by mistake.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

fn render(path: &Path, problems: &[Problem]) -> String {
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| problem.render(&path.display().to_string()))
        .collect();
    shown.join("\n")
}

impl Config {
    /// Reads and checks a file; gives warnings beside it.
    pub fn load(path: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.into(),
            source,
        };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_FILE_BYTES {
            return Err(ConfigError::TooLarge { path: path.into() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let parsed = Self::parse(&text).map_err(|problems| ConfigError::Invalid {
            path: path.into(),
            problems,
        });
        let (mut config, warnings) = parsed?;
        config.start_paths_at(&std::path::absolute(path).map_err(read)?);
        Ok((config, warnings))
    }

    /// Relative paths start beside the file, so that every command means the same ones from
    /// wherever it is run.
    fn start_paths_at(&mut self, file: &Path) {
        let Some(dir) = file.parent() else { return };
        let (certificate, key) = (&mut self.tls.certificate, &mut self.tls.key);
        let tokens = self.auth.oauth.keys.as_mut();
        let data = Some(&mut self.data_dir);
        for path in [data, certificate.as_mut(), key.as_mut(), tokens]
            .into_iter()
            .flatten()
        {
            *path = dir.join(&*path);
        }
    }

    /// A problem with a key of this file that only shows when more than the file is looked at.
    pub fn problem(path: &Path, severity: Severity, key: &str, message: String) -> Problem {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Problem::of(severity, &text, key, message)
    }

    /// The configuration in `text` with its warnings, or everything that is wrong with it.
    pub fn parse(text: &str) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let config: Self =
            toml::from_str(text).map_err(|error| vec![Problem::from_toml(text, &error)])?;
        let (errors, warnings): (Vec<_>, Vec<_>) = check::cross_check(text, &config)
            .into_iter()
            .partition(|problem| problem.severity == Severity::Error);
        if errors.is_empty() {
            Ok((config, warnings))
        } else {
            Err(errors)
        }
    }

    /// All defaults, with the two keys that have none.
    pub fn new(hostname: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            hostname: hostname.into(),
            data_dir: data_dir.into(),
            tls: TlsConfig::default(),
            smtp: SmtpConfig::default(),
            imap: ImapConfig::default(),
            http: HttpConfig::default(),
            push: PushConfig::default(),
            auth: AuthConfig::default(),
            store: StoreConfig::default(),
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
        }
    }

    /// Every listener, with the key it came from.
    pub fn listeners(&self) -> Vec<(&'static str, std::net::SocketAddr)> {
        let keys: [(&'static str, &[std::net::SocketAddr]); 7] = [
            ("smtp.listen", &self.smtp.listen),
            ("smtp.listen_submission", &self.smtp.listen_submission),
            (
                "smtp.listen_submission_tls",
                &self.smtp.listen_submission_tls,
            ),
            ("imap.listen", &self.imap.listen),
            ("imap.listen_tls", &self.imap.listen_tls),
            ("http.listen", &self.http.listen),
            ("http.listen_tls", &self.http.listen_tls),
        ];
        keys.iter()
            .flat_map(|(key, addrs)| addrs.iter().map(move |addr| (*key, *addr)))
            .collect()
    }
}

/// For the fuzzer: any text gives a configuration or problems, and every problem can be shown.
pub fn fuzz_config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let problems = match Config::parse(&text) {
        Ok((_, warnings)) => warnings,
        Err(errors) => errors,
    };
    for problem in problems {
        let _ = problem.render("fuzz");
    }
}
