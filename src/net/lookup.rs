//! Looks names up so that a resolver that says nothing holds up nobody else.
//!
//! May import: types. The system's resolver blocks, for half a minute and more, and can't be
//! interrupted. So a look-up has a thread of its own, and a place that it keeps until the
//! resolver has really come back, whether or not somebody still waits for it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::types::AccountId;

/// For how long a look-up waits for its place.
const PATIENCE: Duration = Duration::from_secs(1);

type System = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// How many look-ups may be under way, and for how long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub all: usize,
    pub per_account: usize,
    pub patience: Duration,
}

/// Why a name was not looked up, or not found.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("too many names are being looked up")]
    Busy,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// All look-ups of one kind.
pub struct Lookups {
    running: Mutex<Running>,
    freed: Notify,
    system: Box<System>,
}

#[derive(Default)]
struct Running {
    all: usize,
    by_account: HashMap<AccountId, usize>,
}

/// One look-up's place, until it is dropped.
struct Place {
    lookups: Arc<Lookups>,
    account: Option<AccountId>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.lookups.running.lock();
        running.all = running.all.saturating_sub(1);
        if let Some(account) = self.account
            && let Some(count) = running.by_account.get_mut(&account)
        {
            *count -= 1;
            if *count == 0 {
                running.by_account.remove(&account);
            }
        }
        drop(running);
        self.lookups.freed.notify_waiters();
    }
}

impl Lookups {
    /// By the system's resolver.
    pub fn new() -> Arc<Self> {
        Self::by(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
    }

    /// By a resolver that may block.
    pub fn by(
        system: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            running: Mutex::default(),
            freed: Notify::new(),
            system: Box::new(system),
        })
    }

    /// The addresses of `host`, asked for by `account`.
    pub async fn look_up(
        self: &Arc<Self>,
        account: Option<AccountId>,
        most: Most,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, LookupError> {
        let place = tokio::time::timeout(PATIENCE, self.place(account, most));
        let place = place.await.map_err(|_| LookupError::Busy)?;
        let (reply, found) = oneshot::channel();
        let host = host.to_owned();
        std::thread::Builder::new()
            .name("posthorn-names".to_owned())
            .spawn(move || {
                let found = (place.lookups.system)(&host, port);
                drop(place);
                let _ = reply.send(found);
            })?;
        let ended = |_| io::Error::other("the look-up did not end well");
        match tokio::time::timeout(most.patience, found).await {
            Ok(found) => Ok(found.map_err(ended)??),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn place(self: &Arc<Self>, account: Option<AccountId>, most: Most) -> Place {
        let freed = self.freed.notified();
        tokio::pin!(freed);
        loop {
            // Before looking, so that no place becomes free in between.
            freed.as_mut().enable();
            if let Some(place) = self.free_place(account, most) {
                return place;
            }
            freed.as_mut().await;
            freed.set(self.freed.notified());
        }
    }

    fn free_place(self: &Arc<Self>, account: Option<AccountId>, most: Most) -> Option<Place> {
        let mut running = self.running.lock();
        if running.all >= most.all.max(1) {
            return None;
        }
        if let Some(account) = account {
            let count = running.by_account.entry(account).or_default();
            if *count >= most.per_account.max(1) {
                return None;
            }
            *count += 1;
        }
        running.all += 1;
        Some(Place {
            lookups: self.clone(),
            account,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const A: Option<AccountId> = Some(AccountId(1));
    const B: Option<AccountId> = Some(AccountId(2));
    const MOST: Most = Most {
        all: 3,
        per_account: 2,
        patience: Duration::from_millis(100),
    };

    /// A resolver that says nothing before it is told to, of any name but `fast`.
    fn silent() -> (Arc<Lookups>, mpsc::Sender<()>, mpsc::Receiver<()>) {
        let (go, wait) = mpsc::channel::<()>();
        let (began, asked) = mpsc::channel();
        let wait = Mutex::new(wait);
        let lookups = Lookups::by(move |host, port| {
            if host != "fast" {
                let _ = began.send(());
                let _ = wait.lock().recv();
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        });
        (lookups, go, asked)
    }

    #[tokio::test]
    async fn who_gave_up_keeps_the_place_until_the_resolver_is_back() {
        let (lookups, go, asked) = silent();
        for _ in 0..2 {
            let given_up = lookups.look_up(A, MOST, "slow", 443).await;
            assert!(matches!(given_up, Err(LookupError::Io(_))), "{given_up:?}");
        }
        for _ in 0..2 {
            asked.recv().expect("the resolver was asked");
        }
        let busy = lookups.look_up(A, MOST, "fast", 443).await;
        assert!(matches!(busy, Err(LookupError::Busy)), "{busy:?}");
        let other = lookups.look_up(B, MOST, "fast", 8).await;
        assert_eq!(other.expect("found").len(), 1, "others have their own");
        // One comes back while somebody waits.
        let (waited, ()) = tokio::join!(lookups.look_up(A, MOST, "fast", 443), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            go.send(()).expect("it waits");
        });
        assert!(waited.is_ok());
    }

    #[tokio::test]
    async fn all_together_are_bounded() {
        let (lookups, go, asked) = silent();
        for n in 0..3 {
            let given_up = lookups.look_up(Some(AccountId(n)), MOST, "slow", 443).await;
            assert!(matches!(given_up, Err(LookupError::Io(_))), "{given_up:?}");
            asked.recv().expect("the resolver was asked");
        }
        let busy = lookups.look_up(None, MOST, "fast", 443).await;
        assert!(matches!(busy, Err(LookupError::Busy)), "{busy:?}");
        assert!(asked.try_recv().is_err());
        drop(go);
    }

    #[test]
    fn other_blocking_work_goes_on() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (lookups, _go, _asked) = silent();
            let asking = lookups.look_up(A, MOST, "slow", 443);
            assert!(asking.await.is_err());
            let other = tokio::task::spawn_blocking(|| ());
            let moment = Duration::from_secs(10);
            assert!(tokio::time::timeout(moment, other).await.is_ok());
        });
    }
}
