//! `posthorn demo`: everything set up on loopback, with a phone that rings.
//!
//! May import: app, config, store, types. It is the real server with another configuration and
//! a few accounts; there is no code in the server that knows of it.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::demo_banner::Banner;
use super::demo_phone::{self, Owner};
use super::{AppError, Core, Extra};
use crate::config::Config;
use crate::store::StoreError;
use crate::types::{Address, Domain, Secret};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// None: a temporary directory, removed at the end.
    pub dir: Option<PathBuf>,
    pub port_base: u16,
    pub domain: String,
    /// Name (or address) and password.
    pub accounts: Vec<(String, String)>,
    /// How many of user0, user1 ...
    pub numbered: u32,
    pub password: String,
    pub insecure_login: bool,
    pub json: bool,
}

/// Wide enough for a load test from one address.
const CONNECTIONS: usize = 50_000;

/// Runs until it is told to stop.
pub fn run(options: Options) -> Result<(), AppError> {
    let domain = Domain::parse(&options.domain)
        .map_err(|error| AppError::Demo(format!("--domain {}: {error}", options.domain)))?;
    let accounts = accounts(&options, &domain)?;
    // When signals are listened to: a temporary directory is removed whenever Ctrl-C comes.
    super::run(None, move || begin(options, domain, accounts))
}

fn begin(
    options: Options,
    domain: Domain,
    accounts: Vec<(Address, String)>,
) -> Result<(Config, Demo), AppError> {
    let (dir, temporary) = match &options.dir {
        Some(dir) => {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(AppError::io(format!("--dir {}", dir.display())))?;
            let dir = std::path::absolute(dir).map_err(AppError::io("--dir"))?;
            if dir.to_str().is_none() {
                return Err(AppError::Demo(format!(
                    "--dir {}: its name must be UTF-8",
                    dir.display()
                )));
            }
            (dir, None)
        }
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("posthorn-demo-")
                .tempdir()
                .map_err(AppError::io("a temporary directory"))?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let config = config(&options, &domain, &dir);
    super::log::start(&config.log).map_err(|error| AppError::Log(format!("{LEVEL}: {error}")))?;
    let demo = Demo {
        options,
        domain,
        accounts,
        shown: vec![],
        config: None,
        temporary,
    };
    Ok((config, demo))
}

/// Everything that the demo makes, each with its password.
fn accounts(options: &Options, domain: &Domain) -> Result<Vec<(Address, String)>, AppError> {
    let mut accounts = Vec::new();
    let mut seen = HashSet::new();
    let named = options.accounts.iter().cloned();
    // Named first: `--account alice:x` gives alice another password.
    let usual = ["alice", "bob"].map(|name| (name.to_owned(), options.password.clone()));
    let numbered = (0..options.numbered).map(|n| (format!("user{n}"), options.password.clone()));
    for (name, password) in named.chain(usual).chain(numbered) {
        let full = if name.contains('@') {
            name.clone()
        } else {
            format!("{name}@{domain}")
        };
        let address = Address::parse(&full)
            .map_err(|error| AppError::Demo(format!("account {name}: {error}")))?;
        if seen.insert(address.lookup_key()) {
            accounts.push((address, password));
        }
    }
    Ok(accounts)
}

fn config(options: &Options, domain: &Domain, dir: &Path) -> Config {
    let at = |offset: u16| {
        vec![SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            options.port_base.saturating_add(offset),
        ))]
    };
    let mut config = Config::new(format!("mail.{domain}"), dir);
    config.smtp.listen = at(525);
    config.smtp.listen_submission = at(587);
    config.smtp.listen_submission_tls = at(465);
    config.smtp.max_connections = CONNECTIONS;
    config.smtp.max_connections_per_ip = CONNECTIONS;
    config.smtp.max_transactions = u32::MAX;
    config.imap.listen = at(143);
    config.imap.listen_tls = at(993);
    config.imap.max_connections = CONNECTIONS;
    config.imap.max_connections_per_ip = CONNECTIONS;
    config.http.listen = at(80);
    config.http.listen_tls = at(443);
    config.http.max_connections = CONNECTIONS;
    config.http.max_connections_per_ip = CONNECTIONS;
    config.auth.insecure_loopback_login = options.insecure_login;
    config.auth.max_failures = 1000;
    config.auth.max_failures_per_ip = 1_000_000;
    config.auth.hash_queue = CONNECTIONS;
    config.auth.cache_entries = CONNECTIONS;
    config.push.allow_private = vec!["127.0.0.1/32:*".into()];
    config.push.allow_http = true;
    config.push.max_registrations_per_hour = 10_000;
    config.push.vapid_subject = Some(format!("mailto:postmaster@{domain}"));
    config.store.reserve_bytes = 64 * 1024 * 1024;
    let level = std::env::var(LEVEL).ok().filter(|level| !level.is_empty());
    config.log.level = level.unwrap_or_else(|| "warn".into());
    config
}

/// The log level of the demo, which has no configuration file to say it in.
const LEVEL: &str = "POSTHORN_LOG";

const WRITTEN: &str = "# Written by `posthorn demo`";

/// For the other commands: `posthorn --config DIR/posthorn.toml account list`. None: a file that
/// somebody else wrote is there, and stays.
fn write_config(config: &Config) -> Result<Option<PathBuf>, AppError> {
    let path = config.data_dir.join("posthorn.toml");
    let failed = || AppError::io(path.display().to_string());
    match std::fs::read(&path) {
        Ok(text) if !text.starts_with(WRITTEN.as_bytes()) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed()(error)),
    }
    let text = format!(
        "{WRITTEN}, so that the other commands find it.\nhostname = {}\ndata_dir = {}\n",
        toml::Value::from(config.hostname.as_str()),
        toml::Value::from(config.data_dir.display().to_string())
    );
    std::fs::write(&path, text).map_err(failed())?;
    Ok(Some(path))
}

struct Demo {
    options: Options,
    domain: Domain,
    accounts: Vec<(Address, String)>,
    /// Alice and bob; no password where an earlier start gave them another one.
    shown: Vec<(Address, Option<String>)>,
    /// What was written for the other commands.
    config: Option<PathBuf>,
    /// Removed when the demo ends.
    temporary: Option<tempfile::TempDir>,
}

impl Extra for Demo {
    fn abandon(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let path = temporary.keep();
            // What still runs may be making files in it.
            let _ = (0..100).find(|_| std::fs::remove_dir_all(&path).is_ok());
        }
    }

    async fn prepare(&mut self, core: &Core) -> Result<(), AppError> {
        // Now the store's lock is held: nobody else's file is written over.
        self.config = write_config(&core.config)?;
        let failed = |error: StoreError| AppError::Demo(error.to_string());
        let mut domains = HashSet::from([self.domain.clone()]);
        domains.extend(self.accounts.iter().map(|(a, _)| a.domain().clone()));
        for domain in domains {
            match core.store.domain_add(domain).await {
                Ok(()) | Err(StoreError::Exists) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let directory = core.store.directory();
        // One hash for each password, however many accounts share it.
        let mut hashes = std::collections::HashMap::new();
        let mut adding = tokio::task::JoinSet::new();
        for (address, password) in &self.accounts {
            if directory.account_by_address(address).is_some() {
                continue;
            }
            if !hashes.contains_key(password) {
                let hash = core
                    .auth
                    .hash(&Secret::new(password.as_bytes()))
                    .await
                    .map_err(|error| AppError::Demo(error.to_string()))?;
                hashes.insert(password.clone(), hash);
            }
            let Some(hash) = hashes.get(password).cloned() else {
                continue;
            };
            // Together, so that they share commits.
            let (store, address) = (core.store.clone(), address.clone());
            adding.spawn(async move { store.account_add(address, hash).await });
            if adding.len() >= 4
                && let Some(added) = adding.join_next().await
            {
                joined(added)?;
            }
        }
        while let Some(added) = adding.join_next().await {
            joined(added)?;
        }
        self.look_at_passwords(core).await;
        Ok(())
    }

    async fn started(&mut self, core: &Core) -> Result<(), AppError> {
        self.announce(core);
        let Some((address, password)) = self.shown.first() else {
            return Ok(());
        };
        let Some(password) = password else {
            eprintln!(
                "posthorn: there is no demo phone: {address} has the password of an earlier \
                 start; give that one with --password"
            );
            return Ok(());
        };
        let directory = core.store.directory();
        let (Some(account), Some(http)) = (
            directory.account_by_address(address),
            core.config.http.listen.first(),
        ) else {
            return Ok(());
        };
        let owner = Owner {
            address: address.clone(),
            account: account.id,
            password: password.clone(),
            http: *http,
            json: self.options.json,
        };
        if let Err(reason) = demo_phone::start(owner, core.store.clone()).await {
            eprintln!("posthorn: there is no demo phone: {reason}");
        } else if !self.options.json {
            say(&format!(
                "A demo phone of {address} is registered; it rings here.\n"
            ));
        }
        Ok(())
    }
}

/// Whoever reads may have gone: the demo goes on.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn joined<T>(added: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<(), AppError> {
    match added {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(AppError::Demo(error.to_string())),
        Err(error) => Err(AppError::Demo(error.to_string())),
    }
}

impl Demo {
    /// A directory that was there already has accounts with passwords of their own.
    async fn look_at_passwords(&mut self, core: &Core) {
        let directory = core.store.directory();
        for name in ["alice", "bob"] {
            let mut named = self.accounts.iter();
            let Some((address, password)) =
                named.find(|(a, _)| a.local() == name && *a.domain() == self.domain)
            else {
                continue;
            };
            let secret = Secret::new(password.as_bytes());
            let right = match directory.account_by_address(address) {
                Some(account) => core.auth.fits(account, &secret).await,
                // Made just now.
                None => true,
            };
            let password = right.then(|| password.clone());
            self.shown.push((address.clone(), password));
        }
    }

    fn announce(&self, core: &Core) {
        let base = self.options.port_base;
        let port = |offset: u16| base.saturating_add(offset);
        if self.options.json {
            let other = self.shown.iter().filter(|(_, password)| password.is_none());
            let line = serde_json::json!({
                "data_dir": core.config.data_dir,
                "config": self.config,
                "ports": {
                    "smtp": port(525), "submission": port(587), "submissions": port(465),
                    "imap": port(143), "imaps": port(993), "http": port(80), "https": port(443),
                },
                "accounts": self.accounts.len(),
                "other_passwords": other.map(|(a, _)| a.to_string()).collect::<Vec<_>>(),
            });
            say(&format!("{line}\n"));
            return;
        }
        let banner = Banner {
            domain: self.domain.clone(),
            base,
            dir: core.config.data_dir.clone(),
            kept: self.options.dir.is_some(),
            shown: self.shown.clone(),
            more: self.accounts.len().saturating_sub(self.shown.len()),
            program: std::env::current_exe().unwrap_or_else(|_| "posthorn".into()),
            config: self.config.clone(),
        };
        say(&banner.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            dir: None,
            port_base: 2000,
            domain: "posthorn.test".into(),
            accounts: vec![],
            numbered: 0,
            password: "posthorn-demo".into(),
            insecure_login: false,
            json: false,
        }
    }

    fn made(options: &Options) -> Vec<(String, String)> {
        let domain = Domain::parse(&options.domain).unwrap();
        accounts(options, &domain)
            .unwrap()
            .into_iter()
            .map(|(address, password)| (address.to_string(), password))
            .collect()
    }

    #[test]
    fn accounts_are_made_once_each() {
        let made = made(&Options {
            accounts: vec![
                ("alice".into(), "other".into()),
                ("carol@elsewhere.test".into(), "x".into()),
            ],
            numbered: 2,
            ..options()
        });
        let expected = [
            ("alice@posthorn.test", "other"),
            ("carol@elsewhere.test", "x"),
            ("bob@posthorn.test", "posthorn-demo"),
            ("user0@posthorn.test", "posthorn-demo"),
            ("user1@posthorn.test", "posthorn-demo"),
        ];
        assert_eq!(made, expected.map(|(a, p)| (a.to_owned(), p.to_owned())));
    }

    #[test]
    fn listens_on_the_ports_that_are_promised() {
        let domain = Domain::parse("posthorn.test").unwrap();
        let config = config(&options(), &domain, Path::new("/x"));
        let ports: Vec<u16> = config.listeners().iter().map(|(_, a)| a.port()).collect();
        assert_eq!(ports, [2525, 2587, 2465, 2143, 2993, 2080, 2443]);
        assert!(config.listeners().iter().all(|(_, a)| a.ip().is_loopback()));
        assert!(!config.auth.insecure_loopback_login);
    }
}
