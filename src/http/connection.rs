//! What is known of the connection that a request came in by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::net::Peer;
use crate::telemetry::HttpStanding;

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) tls: bool,
}

impl Connection {
    pub(super) fn may_carry_passwords(&self) -> bool {
        self.tls || self.peer.remote.ip().to_canonical().is_loopback()
    }
}

/// What a connection does: requests that are being answered, and since when there are none.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<Doing>>);

struct Doing {
    answering: usize,
    since: Instant,
    standing: HttpStanding,
}

/// A request that is being answered.
pub(super) struct Busy(Activity);

impl Activity {
    pub(super) fn new(standing: HttpStanding) -> Self {
        Self(Arc::new(Mutex::new(Doing {
            answering: 0,
            since: Instant::now(),
            standing,
        })))
    }

    pub(super) fn begin(&self) -> Busy {
        let mut doing = self.0.lock();
        doing.answering += 1;
        doing.standing.set(true);
        drop(doing);
        Busy(self.clone())
    }

    /// When it will have been idle for so long, if nothing is asked; Err: look again then.
    pub(super) fn idle_at(&self, after: Duration) -> Result<Instant, Instant> {
        let doing = self.0.lock();
        if doing.answering == 0 {
            Ok(doing.since + after)
        } else {
            Err(Instant::now() + after)
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut doing = self.0.0.lock();
        doing.answering = doing.answering.saturating_sub(1);
        doing.since = Instant::now();
        let active = doing.answering > 0;
        doing.standing.set(active);
    }
}
