//! Turns at large messages: few are in memory at the same time, and nobody takes more than one
//! of the places.
//!
//! May import: types.
//!
//! Invariant: whoever asks waits for at most one turn of each of the others that ask, however
//! many connections those have.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::types::AccountId;

/// For whom a large message is read or taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    Account(AccountId),
    Peer(IpAddr),
}

impl Whose {
    /// A stranger; of IPv6, what one site has is one stranger.
    pub fn peer(ip: IpAddr) -> Self {
        Self::Peer(match ip.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !0 << 64).into(),
            ip => ip,
        })
    }
}

pub struct Turns {
    places: Arc<Semaphore>,
    own: Mutex<HashMap<Whose, Weak<Semaphore>>>,
}

/// The only one who asks for a place in somebody's name.
pub(super) struct Alone {
    places: Arc<Semaphore>,
    own: Option<OwnedSemaphorePermit>,
}

/// A place, until it is dropped.
pub struct Turn {
    _place: Option<OwnedSemaphorePermit>,
    _own: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            own: Mutex::default(),
        }
    }

    /// Waits until nobody else has or wants a place in this name.
    pub(super) async fn alone(&self, whose: Whose) -> Alone {
        let own = {
            let mut all = self.own.lock();
            all.retain(|_, own| own.strong_count() > 0);
            all.get(&whose).and_then(Weak::upgrade).unwrap_or_else(|| {
                let own = Arc::new(Semaphore::new(1));
                all.insert(whose, Arc::downgrade(&own));
                own
            })
        };
        Alone {
            places: Arc::clone(&self.places),
            // They are never closed.
            own: own.acquire_owned().await.ok(),
        }
    }

    /// Waits for a place.
    pub async fn turn(&self, whose: Whose) -> Turn {
        self.alone(whose).await.turn().await
    }
}

impl Alone {
    pub(super) async fn turn(self) -> Turn {
        Turn {
            _place: self.places.acquire_owned().await.ok(),
            _own: self.own,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll(turn: &mut std::pin::Pin<Box<impl Future<Output = Turn>>>) -> Option<Turn> {
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_asks_often_keeps_nobody_waiting() {
        let turns = Turns::new(2);
        let of = |n| Whose::Account(AccountId(n));
        let mut first = Box::pin(turns.turn(of(1)));
        let held = poll(&mut first).unwrap();
        let mut more: Vec<_> = (0..50).map(|_| Box::pin(turns.turn(of(1)))).collect();
        assert!(more.iter_mut().all(|turn| poll(turn).is_none()));
        // There is a second place, and it is not theirs.
        let mut other = Box::pin(turns.turn(of(2)));
        let other = poll(&mut other).unwrap();
        // Both are taken: a third one waits, but behind nobody's fifty.
        let mut third = Box::pin(turns.turn(of(3)));
        assert!(poll(&mut third).is_none());
        drop(held);
        assert!(more.iter_mut().all(|turn| poll(turn).is_none()));
        let third = poll(&mut third).unwrap();
        drop((other, third));
        let next: Vec<_> = more.iter_mut().filter_map(poll).collect();
        assert_eq!(next.len(), 1);
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let turns = Turns::new(2);
        for n in 0..100 {
            let mut turn = Box::pin(turns.turn(Whose::Account(AccountId(n))));
            assert!(poll(&mut turn).is_some());
        }
        assert!(turns.own.lock().len() <= 1);
    }

    #[test]
    fn a_site_is_one_peer() {
        let peer = |ip: &str| Whose::peer(ip.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
