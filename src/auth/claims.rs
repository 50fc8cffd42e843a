//! Claims that come by SASL: which mechanisms there are, what SCRAM needs to know, and whether a
//! claim is true. And what is kept of a password, so that each mechanism can judge it.
//!
//! May import: store, config, telemetry, types.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::sasl::{Claim, Found, Lookup, Offered, Proof};
use super::token::{Keys, Rules};
use super::{Auth, AuthError, Inner, Tokens, keys, password};
use crate::config::OauthConfig;
use crate::store::{Account, Credentials};
use crate::types::{AccountId, Address, Secret};

/// No account has it.
const NOBODY: AccountId = AccountId(u32::MAX);

/// Reads the keys; without them there is no OAUTHBEARER.
pub(super) fn tokens(config: &OauthConfig) -> Option<Tokens> {
    let path = config.keys.as_ref()?;
    let read = std::fs::read(path).map_err(|error| error.to_string());
    let keys = read.and_then(|file| Keys::read(&file).map_err(|error| error.to_string()));
    match keys {
        Ok(keys) => Some(Tokens {
            keys,
            rules: Rules {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                claim: config.claim.clone(),
            },
        }),
        Err(error) => {
            tracing::error!(
                "no logins by OAUTHBEARER: the keys in {} can't be used: {error}",
                path.display()
            );
            None
        }
    }
}

impl Auth {
    /// The mechanisms that there are; whether there is something to bind to depends on the
    /// connection.
    pub fn offered(&self) -> Offered {
        let settings = self.inner.settings.load();
        Offered {
            scram: settings.scram_iterations > 0,
            bearer: settings.tokens.is_some(),
            binding: false,
        }
    }

    /// Is it true? As [`Auth::login`], and whom the client wants to act as must be the same
    /// account.
    pub async fn check(
        &self,
        claim: &Claim,
        peer: IpAddr,
        service: &'static str,
    ) -> Result<Arc<Account>, AuthError> {
        let judged = match &claim.proof {
            Proof::Password(password) => self.inner.login(&claim.login, password, peer).await,
            Proof::Scram { account, right } => {
                self.inner
                    .proved(&claim.login, account.as_ref(), *right, peer)
            }
            Proof::Token(token) => self.inner.bears(&claim.login, token, peer),
        };
        let result = judged.and_then(|account| {
            let own = account.address.lookup_key();
            let other = self.inner.complete(&claim.authzid);
            let same = other.is_some_and(|address| address.lookup_key() == own);
            if claim.authzid.is_empty() || same {
                Ok(account)
            } else {
                Err(AuthError::Invalid)
            }
        });
        if let (Ok(account), Proof::Password(password)) = (&result, &claim.proof) {
            self.give_keys(account, password);
        }
        self.seen(&result, peer, service);
        result
    }

    /// What SCRAM wants to know. The same, and at the same cost, for whoever is here, is not, or
    /// has no keys; those can only come in by their password, which then gives them some.
    pub fn look_up(&self, lookup: &Lookup, peer: IpAddr) -> Result<Found, AuthError> {
        let inner = &self.inner;
        let address = inner.complete(&lookup.login);
        let name = inner.name(&lookup.login, address.as_ref());
        let now = inner.started.elapsed();
        if inner.limiter.lock().is_blocked(now, peer, name) {
            return Err(AuthError::Throttled);
        }
        let account = address.as_ref().and_then(|address| inner.account(address));
        // After the account: keys of an older password would let nobody in, but the account that
        // was read says by its hash whether it is still the same.
        let id = account.as_ref().map_or(NOBODY, |account| account.id);
        let kept = inner.store.scram_keys(id)?;
        let asked = address.map_or_else(|| lookup.login.clone(), |a| a.lookup_key());
        let iterations = inner.settings.load().scram_iterations;
        let nobody = keys::nobody(&inner.store.private_id(), &asked, iterations.max(1));
        let nonce = password::random::<18>().ok_or(AuthError::Busy)?;
        Ok(Found {
            account: account.filter(|_| kept.is_some()),
            keys: kept.unwrap_or(nobody),
            nonce: STANDARD_NO_PAD.encode(nonce),
            binding: None,
        })
    }

    /// All that is kept of a new password of whoever has this address.
    pub async fn credentials(
        &self,
        address: &Address,
        password: &Secret,
    ) -> Result<Credentials, AuthError> {
        let hash = self.hash(password).await?;
        let settings = self.inner.settings.load_full();
        let scram = match settings.scram_iterations {
            0 => None,
            iterations => {
                let salt = keys::salt(&self.inner.store.private_id(), &address.lookup_key());
                let keys = settings.hasher.keys(password.clone(), salt, iterations);
                Some(keys.await.map_err(|_| AuthError::Busy)?)
            }
        };
        Ok(Credentials { hash, scram })
    }

    /// Whoever logs in by password and has no keys, or has some of another cost, gets them; the
    /// login does not wait for that.
    pub(super) fn give_keys(&self, account: &Arc<Account>, password: &Secret) {
        let inner = &self.inner;
        let settings = inner.settings.load_full();
        let iterations = settings.scram_iterations;
        let has = |keys: crate::store::ScramKeys| keys.iterations == iterations;
        if iterations == 0
            || inner.store.scram_keys(account.id).map(|k| k.map(has)) == Ok(Some(true))
        {
            return;
        }
        if !inner.giving.lock().insert(account.id) {
            return;
        }
        let (inner, account, password) = (inner.clone(), account.clone(), password.clone());
        tokio::spawn(async move {
            let salt = keys::salt(&inner.store.private_id(), &account.address.lookup_key());
            // Where it can't be done now, the next login does it.
            if let Ok(keys) = settings.hasher.keys(password, salt, iterations).await {
                let _ = inner.store.account_add_scram(&account, keys).await;
            }
            inner.giving.lock().remove(&account.id);
        });
    }
}

impl Inner {
    /// An account that may log in.
    pub(super) fn account(&self, address: &Address) -> Option<Arc<Account>> {
        let directory = self.store.directory();
        let account = directory.account_by_address(address).cloned();
        account.filter(|account| !account.disabled)
    }

    /// A token says itself whose it is; one that is not good counts as a wrong password.
    fn bears(&self, login: &str, token: &Secret, peer: IpAddr) -> Result<Arc<Account>, AuthError> {
        let name = self.name(login, self.complete(login).as_ref());
        if !self
            .limiter
            .lock()
            .attempt(self.started.elapsed(), peer, name)
        {
            return Err(AuthError::Throttled);
        }
        let settings = self.settings.load_full();
        let tokens = settings.tokens.as_ref().ok_or(AuthError::Invalid)?;
        let now = self.store.now().signed().div_euclid(1000);
        let account = tokens
            .keys
            .whose(token.expose(), &tokens.rules, now)
            .and_then(|account| self.account(&Address::parse(&account).ok()?))
            .ok_or(AuthError::Invalid)?;
        self.limiter.lock().right(peer, name);
        Ok(account)
    }

    /// SCRAM came to its end. A wrong proof counts as a wrong password.
    fn proved(
        &self,
        login: &str,
        account: Option<&Arc<Account>>,
        right: bool,
        peer: IpAddr,
    ) -> Result<Arc<Account>, AuthError> {
        let name = self.name(login, self.complete(login).as_ref());
        let mut limiter = self.limiter.lock();
        if !limiter.attempt(self.started.elapsed(), peer, name) {
            return Err(AuthError::Throttled);
        }
        let account = account.filter(|_| right).ok_or(AuthError::Invalid)?;
        limiter.right(peer, name);
        Ok(account.clone())
    }
}

#[cfg(test)]
mod tests;
