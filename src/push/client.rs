//! HTTP clients for URLs that users gave: every address is checked after it is resolved, and
//! the connection goes to just that address.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use crate::config::{Config, PushConfig};
use crate::net::guard::{Guard, Refusal, literal};
use crate::net::lookup::{LookupError, Lookups, Most};
use crate::net::resolve::{self, Asker};
use crate::push::outcome::{LOOKUPS_BUSY, NAME_LOOKUP, NO_SUCH_HOST};
use crate::types::AccountId;

tokio::task_local! {
    /// For whom a request is made. The HTTP client looks names up in the task that waits for
    /// the connection, and has no other way to tell its resolver.
    pub(crate) static FOR_ACCOUNT: AccountId;
}

/// Ports differ only where the allow list has some, so this is rarely above one.
const MAX_CLIENTS: usize = 64;

/// Why there is no client for an endpoint; with a class for the device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoClient {
    /// The endpoint may not be spoken to.
    Refused(&'static str),
    /// None can be made, for this one or any other.
    Ours(&'static str),
}

/// One client per scheme and port, because the check of a resolved address needs both.
pub(crate) struct Clients {
    config: Arc<ArcSwap<Config>>,
    lookups: Arc<Lookups>,
    built: Mutex<Built>,
}

#[derive(Default)]
struct Built {
    /// What the clients were built from; a reload throws them away.
    from: Option<Arc<Config>>,
    guard: Guard,
    clients: HashMap<(bool, u16), reqwest::Client>,
}

impl Clients {
    pub(crate) fn new(config: Arc<ArcSwap<Config>>, lookups: Arc<Lookups>) -> Self {
        Self {
            config,
            lookups,
            built: Mutex::default(),
        }
    }

    /// Can clients be made at all? Without certificate authorities, say, they can't.
    pub(crate) fn check(&self) -> Result<(), NoClient> {
        let config = self.config.load();
        let resolver = self.resolver(&config.push, Guard::default(), 443, false);
        build(&config.push, resolver).map(drop)
    }

    fn resolver(&self, push: &PushConfig, guard: Guard, port: u16, plain: bool) -> GuardedResolver {
        GuardedResolver {
            guard,
            port,
            plain,
            asker: Asker {
                lookups: self.lookups.clone(),
                account: None,
                most: Most {
                    all: push.max_lookups,
                    per_account: push.max_lookups_per_account,
                    patience: Duration::from_secs(push.connect_timeout_secs),
                },
            },
        }
    }

    /// The client that may speak to `endpoint`.
    pub(crate) fn for_endpoint(&self, endpoint: &str) -> Result<(reqwest::Client, Url), NoClient> {
        let config = self.config.load_full();
        let mut built = self.built.lock();
        if built
            .from
            .as_ref()
            .is_none_or(|old| !Arc::ptr_eq(old, &config))
        {
            *built = Built {
                guard: Guard::new(&config.push.allow_private, config.push.allow_http)
                    .map_err(|_| NoClient::Ours("configuration"))?,
                from: Some(config.clone()),
                clients: HashMap::new(),
            };
        }
        // The resolver is not asked where the host is an address, so this is not only for speed.
        let url = built
            .guard
            .url(endpoint)
            .map_err(|_| NoClient::Refused("address-not-allowed"))?;
        let plain = url.scheme() == "http";
        let port = url.port_or_known_default().unwrap_or(443);
        if let Some(ip) = url.host_str().and_then(literal) {
            let own = resolve::own_addresses().map_err(|_| NoClient::Ours("interfaces"))?;
            resolve::check(&built.guard, ip, port, plain, &own)
                .map_err(|_| NoClient::Refused("address-not-allowed"))?;
        }
        if let Some(client) = built.clients.get(&(plain, port)) {
            return Ok((client.clone(), url));
        }
        let resolver = self.resolver(&config.push, built.guard.clone(), port, plain);
        let client = build(&config.push, resolver)?;
        if built.clients.len() >= MAX_CLIENTS {
            built.clients.clear();
        }
        built.clients.insert((plain, port), client.clone());
        Ok((client, url))
    }
}

fn build(push: &PushConfig, resolver: GuardedResolver) -> Result<reqwest::Client, NoClient> {
    let built = reqwest::Client::builder()
        .dns_resolver(Arc::new(resolver))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(Duration::from_secs(push.connect_timeout_secs))
        .timeout(Duration::from_secs(push.request_timeout_secs))
        .pool_max_idle_per_host(push.max_in_flight_per_origin)
        .pool_idle_timeout(Duration::from_secs(90))
        .tcp_nodelay(true)
        .user_agent(concat!("posthorn/", env!("CARGO_PKG_VERSION")))
        .build();
    built.map_err(|error| {
        tracing::error!(%error, "no HTTP client for push services");
        NoClient::Ours("client")
    })
}

/// Resolves by the system and lets only allowed addresses through.
struct GuardedResolver {
    guard: Guard,
    port: u16,
    plain: bool,
    asker: Asker,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, port, plain) = (self.guard.clone(), self.port, self.plain);
        let asker = Asker {
            account: FOR_ACCOUNT.try_get().ok(),
            ..self.asker.clone()
        };
        Box::pin(async move {
            match resolve::resolve(&guard, &asker, name.as_str(), port, plain).await {
                Ok(Ok(allowed)) => Ok(Box::new(allowed.into_iter()) as Addrs),
                Ok(Err(why)) => Err(why.into()),
                Err(LookupError::Busy) => Err(NoAddress(LOOKUPS_BUSY).into()),
                Err(LookupError::Io(error)) if resolve::is_no_host(&error) => {
                    Err(NoAddress(NO_SUCH_HOST).into())
                }
                Err(error) => {
                    tracing::debug!(%error, "the name of a push service can't be looked up");
                    Err(NoAddress(NAME_LOOKUP).into())
                }
            }
        })
    }
}

/// There is nowhere to connect to; with the class.
#[derive(Debug, thiserror::Error)]
#[error("no address: {0}")]
struct NoAddress(&'static str);

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

/// True where the guard stopped the connection.
pub(crate) fn was_refused(error: &reqwest::Error) -> bool {
    sources(error).any(|error| error.is::<Refusal>())
}

/// The class, where the service's name led to no address.
pub(crate) fn no_address(error: &reqwest::Error) -> Option<&'static str> {
    let mut found = sources(error).filter_map(|error| error.downcast_ref::<NoAddress>());
    found.next().map(|no_address| no_address.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(allow: &[&str], http: bool) -> Clients {
        let mut config: Config =
            toml::from_str("hostname = 'mail.x.test'\ndata_dir = '/nowhere'").expect("valid");
        config.push.allow_private = allow.iter().map(|s| (*s).to_owned()).collect();
        config.push.allow_http = http;
        config.push.connect_timeout_secs = 2;
        Clients::new(Arc::new(ArcSwap::from_pointee(config)), Lookups::new())
    }

    #[test]
    fn literal_addresses_are_checked_before_connecting() {
        for endpoint in [
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "http://127.0.0.1:80/x",
        ] {
            let found = clients(&[], true).for_endpoint(endpoint);
            assert_eq!(
                found.err(),
                Some(NoClient::Refused("address-not-allowed")),
                "{endpoint}"
            );
        }
        assert!(
            clients(&["127.0.0.1/32:*"], true)
                .for_endpoint("http://127.0.0.1:8/x")
                .is_ok()
        );
    }

    #[test]
    fn a_fault_of_ours_is_not_the_endpoints() {
        let found = clients(&["nonsense"], false).for_endpoint("https://push.example/x");
        assert_eq!(found.err(), Some(NoClient::Ours("configuration")));
        assert_eq!(clients(&[], false).check(), Ok(()));
    }

    #[tokio::test]
    async fn a_name_without_a_host_is_told() {
        let clients = clients(&["192.0.2.1/32:8"], true);
        let endpoint = format!("http://{}.invalid:8/x", "a".repeat(64));
        let (client, url) = clients.for_endpoint(&endpoint).expect("URL is fine");
        let error = client.post(url).send().await.expect_err("no host");
        assert_eq!(no_address(&error), Some(NO_SUCH_HOST), "{error:?}");
        assert!(!was_refused(&error));
    }

    #[tokio::test]
    async fn one_accounts_silent_names_leave_room_for_others() {
        let (_never, silence) = std::sync::mpsc::channel::<()>();
        let silence = Mutex::new(silence);
        let clients = Clients {
            lookups: Lookups::by(move |host, _| {
                if host == "slow.test" {
                    let _ = silence.lock().recv();
                }
                Err(std::io::Error::other("Name or service not known"))
            }),
            ..clients(&["192.0.2.1/32:8"], true)
        };
        let ask = async |account, host: &str| {
            let endpoint = format!("http://{host}:8/x");
            let (client, url) = clients.for_endpoint(&endpoint).expect("URL is fine");
            let request = client.post(url).send();
            FOR_ACCOUNT.scope(AccountId(account), request).await
        };
        for _ in 0..2 {
            let error = ask(1, "slow.test").await.expect_err("nobody answers");
            let unknown = no_address(&error) == Some(NAME_LOOKUP);
            assert!(unknown || error.is_timeout(), "{error:?}");
        }
        // The resolver still has both, although nobody waits for them.
        let found = |error: reqwest::Error| no_address(&error);
        assert_eq!(
            ask(2, "x.test").await.map_err(found).err(),
            Some(Some(NO_SUCH_HOST))
        );
        let clients = Clients {
            config: {
                let mut config = Config::clone(&clients.config.load());
                config.push.connect_timeout_secs = 30;
                Arc::new(ArcSwap::from_pointee(config))
            },
            lookups: clients.lookups.clone(),
            built: Mutex::default(),
        };
        let (client, url) = clients
            .for_endpoint("http://x.test:8/x")
            .expect("URL is fine");
        let request = FOR_ACCOUNT.scope(AccountId(1), client.post(url).send());
        assert_eq!(request.await.map_err(found).err(), Some(Some(LOOKUPS_BUSY)));
    }

    #[tokio::test]
    async fn a_name_for_an_internal_address_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("address").port();
        // The port is opened by the list for another address, so that the URL itself passes.
        let clients = clients(&[&format!("192.0.2.1/32:{port}")], true);
        let (client, url) = clients
            .for_endpoint(&format!("http://localhost:{port}/x"))
            .expect("URL is fine");
        let error = client.post(url).send().await.expect_err("refused");
        assert!(was_refused(&error), "{error:?}");
        listener.set_nonblocking(true).expect("set");
        assert!(listener.accept().is_err(), "a connection was made");
    }
}
