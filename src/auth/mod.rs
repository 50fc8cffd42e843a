//! Who is it: passwords, SASL, tokens, and the limit on guessing.
//!
//! May import: store, config, telemetry, types. argon2 runs on threads of its own with a bounded
//! queue, so that guessing can't starve mail.
//!
//! Invariants:
//! - No password and nothing that is as good as one is kept: the cache of right passwords holds
//!   HMACs under a key that lives and dies with the process, and from SCRAM's keys nobody can log
//!   in.
//! - The limit on guessing is asked before the cache, so the cache can't be guessed against.
//! - What a peer learns is the same for unknown accounts, disabled ones and wrong passwords, and
//!   it takes as long.

mod claims;
mod keys;
mod limiter;
mod password;
pub mod sasl;
mod token;

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use argon2::Params;
use aws_lc_rs::{hmac, rand::SystemRandom};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::config::AuthConfig;
use crate::store::{Account, Store, StoreError};
use crate::telemetry::{LoginResult, Telemetry};
use crate::types::{AccountId, Address, Secret};
use limiter::{Limiter, Limits};
use password::Hasher;

/// Why a login failed. The peer is told no more than this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Unknown account, wrong password or disabled account: deliberately the same.
    #[error("invalid credentials")]
    Invalid,
    #[error("too many failed logins, try again later")]
    Throttled,
    #[error("too busy, try again later")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    telemetry: Arc<Telemetry>,
    settings: ArcSwap<Settings>,
    started: Instant,
    /// None where the system gave no randomness: then nothing is remembered.
    key: Option<hmac::Key>,
    names: RandomState,
    limiter: Mutex<Limiter>,
    cache: Mutex<Cache>,
    /// Checks under way: the same password from the same place waits for the one that runs, as
    /// when a client opens five connections at once.
    running: Mutex<HashMap<Check, Arc<OnceCell<bool>>>>,
    /// Accounts that get their keys for SCRAM just now.
    giving: Mutex<HashSet<AccountId>>,
}

struct Settings {
    threads: usize,
    queue: usize,
    hasher: Hasher,
    params: Params,
    decoy: String,
    cache_for: Duration,
    cache_entries: usize,
    /// 0: no SCRAM.
    scram_iterations: u32,
    tokens: Option<Tokens>,
}

/// What tokens of OAuth are judged by.
struct Tokens {
    keys: token::Keys,
    rules: token::Rules,
}

type Tag = [u8; 32];
type Check = (Tag, IpAddr);

impl Auth {
    pub fn new(store: Store, config: &AuthConfig, telemetry: Arc<Telemetry>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                telemetry,
                settings: ArcSwap::from_pointee(Settings::new(config, None)),
                started: Instant::now(),
                key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
                names: RandomState::new(),
                limiter: Mutex::new(Limiter::new(limits(config))),
                cache: Mutex::new(Cache::default()),
                running: Mutex::new(HashMap::new()),
                giving: Mutex::new(HashSet::new()),
            }),
        }
    }

    /// New limits after a reload.
    pub fn reconfigure(&self, config: &AuthConfig) {
        let settings = Settings::new(config, Some(&self.inner.settings.load()));
        self.inner.settings.store(Arc::new(settings));
        self.inner.limiter.lock().set_limits(limits(config));
    }

    /// Checks a password. `login` is an address; a bare name is completed with the only local
    /// domain where there is just one. `service` is a metric label (`imap`, `submission`, `http`).
    /// An unknown account costs as much time as a wrong password.
    pub async fn login(
        &self,
        login: &str,
        password: &Secret,
        peer: IpAddr,
        service: &'static str,
    ) -> Result<Arc<Account>, AuthError> {
        let result = self.inner.login(login, password, peer).await;
        if let Ok(account) = &result {
            self.give_keys(account, password);
        }
        self.seen(&result, peer, service);
        result
    }

    fn seen(&self, result: &Result<Arc<Account>, AuthError>, peer: IpAddr, service: &'static str) {
        let seen = match result {
            Ok(_) => LoginResult::Ok,
            Err(AuthError::Invalid) => LoginResult::Invalid,
            Err(AuthError::Throttled) => LoginResult::Throttled,
            Err(AuthError::Busy) => LoginResult::Busy,
            Err(AuthError::Store(_)) => LoginResult::Error,
        };
        self.inner.telemetry.auth.login(service, seen, peer);
    }

    /// Is it the password of this account? Not a login: nothing is counted.
    pub async fn fits(&self, account: &Account, password: &Secret) -> bool {
        let settings = self.inner.settings.load_full();
        let hash = account.password_hash.clone();
        let verify = settings.hasher.verify(password.clone(), hash);
        verify.await == Ok(true)
    }

    /// argon2id with the configured parameters, in PHC form.
    pub async fn hash(&self, password: &Secret) -> Result<String, AuthError> {
        let settings = self.inner.settings.load_full();
        let hash = settings
            .hasher
            .hash(password.clone(), settings.params.clone());
        self.inner.timed(hash).await.map_err(|_| AuthError::Busy)
    }
}

impl Inner {
    async fn login(
        &self,
        login: &str,
        password: &Secret,
        peer: IpAddr,
    ) -> Result<Arc<Account>, AuthError> {
        if password.expose().len() > password::MAX_PASSWORD {
            return Err(AuthError::Invalid);
        }
        let address = self.complete(login);
        let name = self.name(login, address.as_ref());
        if self
            .limiter
            .lock()
            .is_blocked(self.started.elapsed(), peer, name)
        {
            return Err(AuthError::Throttled);
        }
        let settings = self.settings.load_full();
        let account = address.and_then(|address| self.account(&address));
        let stored = account
            .as_ref()
            .map_or(&settings.decoy, |account| &account.password_hash);
        let tag = self.tag(name, account.as_deref(), password);

        if let (Some(account), Some(tag)) = (&account, &tag)
            && self.cache.lock().holds(tag, self.started.elapsed())
        {
            return Ok(account.clone());
        }
        let check = || async {
            if !self
                .limiter
                .lock()
                .attempt(self.started.elapsed(), peer, name)
            {
                return Err(AuthError::Throttled);
            }
            let verify = settings.hasher.verify(password.clone(), stored.clone());
            match self.timed(verify).await {
                Err(password::Busy) => {
                    self.limiter.lock().undone(peer, name);
                    Err(AuthError::Busy)
                }
                Ok(matches) => {
                    let right = matches && account.is_some();
                    if right {
                        self.limiter.lock().right(peer, name);
                        if let Some(tag) = tag {
                            let until = self.started.elapsed() + settings.cache_for;
                            self.cache.lock().insert(tag, until, settings.cache_entries);
                        }
                    }
                    Ok(right)
                }
            }
        };
        let right = match tag {
            Some(tag) => {
                let shared = self.shared((tag, peer));
                *shared.cell.get_or_try_init(check).await?
            }
            None => check().await?,
        };
        account.filter(|_| right).ok_or(AuthError::Invalid)
    }

    fn complete(&self, login: &str) -> Option<Address> {
        if login.contains('@') {
            return Address::parse(login).ok();
        }
        let directory = self.store.directory();
        let mut domains = directory.domains();
        match (domains.next(), domains.next()) {
            (Some(only), None) => Address::from_parts(login.to_owned(), only.domain.clone()).ok(),
            _ => None,
        }
    }

    /// What the limiter knows a login name by. Spellings of one account are one name.
    fn name(&self, login: &str, address: Option<&Address>) -> u64 {
        match address {
            Some(address) => self.names.hash_one(address.lookup_key()),
            None => self.names.hash_one(login),
        }
    }

    /// Names this password with this stored hash, which has its own salt: whether they fit never
    /// changes, and a new password has another tag.
    fn tag(&self, name: u64, account: Option<&Account>, password: &Secret) -> Option<Tag> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        match account {
            Some(account) => {
                context.update(&[1]);
                context.update(&(account.password_hash.len() as u64).to_be_bytes());
                context.update(account.password_hash.as_bytes());
            }
            None => {
                context.update(&[0]);
                context.update(&name.to_be_bytes());
            }
        }
        context.update(password.expose());
        context.sign().as_ref().try_into().ok()
    }

    fn shared(&self, check: Check) -> Shared<'_> {
        let cell = self.running.lock().entry(check).or_default().clone();
        Shared {
            inner: self,
            check,
            cell,
        }
    }

    async fn timed<T>(&self, work: impl Future<Output = T>) -> T {
        /// Counts down also where the asker goes away.
        struct Asked<'a>(&'a Telemetry, Instant);
        impl Drop for Asked<'_> {
            fn drop(&mut self) {
                self.0.auth.hash_done(self.1.elapsed());
            }
        }
        self.telemetry.auth.hash_asked();
        let _asked = Asked(&self.telemetry, Instant::now());
        work.await
    }
}

/// A place among those that wait for one check; the last one takes it away.
struct Shared<'a> {
    inner: &'a Inner,
    check: Check,
    cell: Arc<OnceCell<bool>>,
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let mut running = self.inner.running.lock();
        // This one and the table's.
        if Arc::strong_count(&self.cell) <= 2 {
            running.remove(&self.check);
        }
    }
}

impl Settings {
    fn new(config: &AuthConfig, old: Option<&Self>) -> Self {
        let params = Params::new(
            config.argon2_memory_kib,
            config.argon2_iterations,
            config.argon2_parallelism,
            None,
        )
        // `config check` refuses what argon2 can't do; a configuration built in code gets the
        // crate's own recommendation.
        .unwrap_or_default();
        let hasher = match old {
            Some(old) if (old.threads, old.queue) == (config.hash_threads, config.hash_queue) => {
                old.hasher.clone()
            }
            _ => Hasher::start(config.hash_threads, config.hash_queue),
        };
        Self {
            threads: config.hash_threads,
            queue: config.hash_queue,
            hasher,
            decoy: password::decoy(&params).unwrap_or_default(),
            params,
            cache_for: Duration::from_secs(config.cache_secs),
            cache_entries: config.cache_entries,
            scram_iterations: config.scram_iterations,
            tokens: claims::tokens(&config.oauth),
        }
    }
}

fn limits(config: &AuthConfig) -> Limits {
    Limits {
        per_account: config.max_failures,
        per_ip: config.max_failures_per_ip,
        window: Duration::from_secs(config.failure_window_secs),
        tracked: config.max_tracked,
    }
}

/// Passwords that were right lately, by tag.
#[derive(Default)]
struct Cache {
    until: HashMap<Tag, Duration>,
    order: VecDeque<Tag>,
}

impl Cache {
    fn holds(&self, tag: &Tag, now: Duration) -> bool {
        self.until.get(tag).is_some_and(|until| *until > now)
    }

    /// The oldest go first when it is full.
    fn insert(&mut self, tag: Tag, until: Duration, most: usize) {
        if most == 0 {
            return;
        }
        if self.until.insert(tag, until).is_none() {
            self.order.push_back(tag);
        }
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.until.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_expires() {
        let mut cache = Cache::default();
        let at = Duration::from_secs;
        for n in 0..5u8 {
            cache.insert([n; 32], at(10), 3);
        }
        assert!(!cache.holds(&[1; 32], at(0)));
        assert!(cache.holds(&[2; 32], at(9)));
        assert!(!cache.holds(&[2; 32], at(10)));
        cache.insert([2; 32], at(20), 3);
        assert!(cache.holds(&[2; 32], at(10)));
        assert_eq!(cache.order.len(), cache.until.len());
        cache.insert([9; 32], at(20), 0);
        assert!(!cache.holds(&[9; 32], at(0)));
    }

    pub(super) fn config() -> AuthConfig {
        AuthConfig {
            argon2_memory_kib: 64,
            argon2_iterations: 1,
            max_failures: 3,
            max_failures_per_ip: 6,
            ..AuthConfig::default()
        }
    }

    pub(super) const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    pub(super) async fn with_alice(
        config: &AuthConfig,
    ) -> (tempfile::TempDir, Store, Auth, Arc<Telemetry>) {
        let dir = tempfile::tempdir().unwrap();
        let telemetry = Telemetry::new().unwrap();
        let options = crate::store::Options {
            dir: dir.path().into(),
            config: crate::config::StoreConfig {
                cache_bytes: 1 << 20,
                reserve_bytes: 0,
                ..Default::default()
            },
            subaddress_separator: '+',
        };
        let store = Store::open(options, telemetry.clone()).unwrap();
        let auth = Auth::new(store.clone(), config, telemetry.clone());
        let domain = crate::types::Domain::parse("posthorn.test").unwrap();
        store.domain_add(domain).await.unwrap();
        let hash = auth.hash(&Secret::new("right")).await.unwrap();
        let alice = Address::parse("alice@posthorn.test").unwrap();
        store.account_add(alice, hash).await.unwrap();
        (dir, store, auth, telemetry)
    }

    #[tokio::test]
    async fn logs_in_by_address_and_by_bare_name() {
        let (_dir, _store, auth, telemetry) = with_alice(&config()).await;
        let right = Secret::new("right");
        for login in ["alice@posthorn.test", "ALICE@Posthorn.Test", "alice"] {
            let account = auth.login(login, &right, HERE, "imap").await.unwrap();
            assert_eq!(account.address.to_string(), "alice@posthorn.test");
        }
        for (login, password) in [("alice", "wrong"), ("bob", "right"), ("@", "x"), ("", "")] {
            let result = auth
                .login(login, &Secret::new(password), HERE, "imap")
                .await;
            assert_eq!(result.unwrap_err(), AuthError::Invalid, "{login}");
        }
        assert_eq!(telemetry.auth.logins("imap", LoginResult::Ok), 3);
        assert_eq!(telemetry.auth.logins("imap", LoginResult::Invalid), 4);
        assert!(auth.inner.running.lock().is_empty());
    }

    #[tokio::test]
    async fn one_guess_past_the_limit_is_refused_even_if_right_and_cached() {
        let (_dir, _store, auth, _) = with_alice(&config()).await;
        let right = Secret::new("right");
        auth.login("alice", &right, HERE, "imap").await.unwrap();
        for n in 0..3 {
            let wrong = Secret::new(format!("wrong{n}"));
            assert_eq!(
                auth.login("alice", &wrong, HERE, "imap").await.unwrap_err(),
                AuthError::Invalid
            );
        }
        for guess in ["wrong", "right"] {
            assert_eq!(
                auth.login("alice@posthorn.test", &Secret::new(guess), HERE, "http")
                    .await
                    .unwrap_err(),
                AuthError::Throttled
            );
        }
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        auth.login("alice", &right, elsewhere, "imap")
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_same_password_from_one_place_is_hashed_once() {
        // Slow enough that all five have come before the first is done.
        let slow = AuthConfig {
            argon2_memory_kib: 16 * 1024,
            argon2_iterations: 12,
            ..config()
        };
        let (_dir, _store, auth, telemetry) = with_alice(&slow).await;
        let wrong = Secret::new("old password");
        let logins = (0..5).map(|_| {
            let (auth, wrong) = (auth.clone(), wrong.clone());
            tokio::spawn(async move { auth.login("alice", &wrong, HERE, "imap").await })
        });
        for login in logins.collect::<Vec<_>>() {
            assert_eq!(login.await.unwrap().unwrap_err(), AuthError::Invalid);
        }
        assert_eq!(telemetry.auth.logins("imap", LoginResult::Invalid), 5);
        assert_eq!(telemetry.auth.logins("imap", LoginResult::Throttled), 0);
    }

    #[tokio::test]
    async fn a_new_password_ends_the_cached_one_at_once() {
        let (_dir, store, auth, _) = with_alice(&config()).await;
        let (old, new) = (Secret::new("right"), Secret::new("new"));
        let account = auth.login("alice", &old, HERE, "imap").await.unwrap();
        let hash = auth.hash(&new).await.unwrap();
        store.account_set_password(account.id, hash).await.unwrap();
        assert_eq!(
            auth.login("alice", &old, HERE, "imap").await.unwrap_err(),
            AuthError::Invalid
        );
        auth.login("alice", &new, HERE, "imap").await.unwrap();
    }
}
