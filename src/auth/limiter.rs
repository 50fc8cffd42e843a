//! The limit on guessing: wrong passwords by (address, account) and by address, in a window.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: nothing of ours. Time comes in as a duration since some start. An attempt counts
//! as wrong from the moment it is let in, so that guesses made at the same time can't all pass.
//! Bounded: the oldest window is forgotten when the table is full.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub per_account: u32,
    pub per_ip: u32,
    pub window: Duration,
    /// Windows kept; at least two.
    pub tracked: usize,
}

/// An address block: an IPv6 customer has at least a /64 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block(u128);

impl Block {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() >> 64 << 64),
        }
    }
}

/// None: the address for all accounts together.
type Key = (Block, Option<u64>);

/// See the module.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: Limits,
    /// Failures in each window.
    windows: HashMap<Key, u32>,
    /// In order of start.
    order: VecDeque<(Key, Duration)>,
}

impl Limiter {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            windows: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// True where no further guess is allowed now. `account` is a hash of the name given.
    pub(super) fn is_blocked(&mut self, now: Duration, ip: IpAddr, account: u64) -> bool {
        self.forget(now);
        let block = Block::of(ip);
        self.failures((block, Some(account))) >= self.limits.per_account
            || self.failures((block, None)) >= self.limits.per_ip
    }

    /// Lets an attempt in, counted as wrong until [`Limiter::right`] or [`Limiter::undone`].
    pub(super) fn attempt(&mut self, now: Duration, ip: IpAddr, account: u64) -> bool {
        if self.is_blocked(now, ip, account) {
            return false;
        }
        let block = Block::of(ip);
        for key in [(block, Some(account)), (block, None)] {
            if let Some(failures) = self.windows.get_mut(&key) {
                *failures = failures.saturating_add(1);
            } else {
                if self.windows.len() >= self.limits.tracked.max(2) {
                    self.forget_oldest();
                }
                self.windows.insert(key, 1);
                self.order.push_back((key, now));
            }
        }
        true
    }

    /// The password was right: the account's failures from there are forgiven.
    pub(super) fn right(&mut self, ip: IpAddr, account: u64) {
        let block = Block::of(ip);
        self.change((block, Some(account)), |_| 0);
        self.change((block, None), |n| n.saturating_sub(1));
    }

    /// The attempt was not judged.
    pub(super) fn undone(&mut self, ip: IpAddr, account: u64) {
        let block = Block::of(ip);
        self.change((block, Some(account)), |n| n.saturating_sub(1));
        self.change((block, None), |n| n.saturating_sub(1));
    }

    fn failures(&self, key: Key) -> u32 {
        self.windows.get(&key).copied().unwrap_or(0)
    }

    fn change(&mut self, key: Key, to: impl FnOnce(u32) -> u32) {
        if let Some(failures) = self.windows.get_mut(&key) {
            *failures = to(*failures);
        }
    }

    fn forget(&mut self, now: Duration) {
        while let Some((_, start)) = self.order.front()
            && now.saturating_sub(*start) >= self.limits.window
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((key, _)) = self.order.pop_front() {
            self.windows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        per_account: 3,
        per_ip: 5,
        window: Duration::from_secs(60),
        tracked: 8,
    };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn one_past_the_limit_is_refused_until_the_window_ends() {
        let mut limiter = Limiter::new(LIMITS);
        for _ in 0..3 {
            assert!(limiter.attempt(at(0), ip(1), 7));
        }
        assert!(!limiter.attempt(at(59), ip(1), 7));
        assert!(limiter.is_blocked(at(59), ip(1), 7));
        // Another account, another address: not hurt.
        assert!(limiter.attempt(at(59), ip(1), 8));
        assert!(limiter.attempt(at(59), ip(2), 7));
        assert!(limiter.attempt(at(60), ip(1), 7));
    }

    #[test]
    fn many_accounts_from_one_address() {
        let mut limiter = Limiter::new(LIMITS);
        for account in 0..5 {
            assert!(limiter.attempt(at(0), ip(1), account));
        }
        assert!(!limiter.attempt(at(0), ip(1), 99));
        assert!(limiter.attempt(at(0), ip(2), 99));
    }

    #[test]
    fn a_right_password_forgives() {
        let mut limiter = Limiter::new(LIMITS);
        for _ in 0..100 {
            assert!(limiter.attempt(at(0), ip(1), 7));
            limiter.right(ip(1), 7);
        }
        for _ in 0..100 {
            assert!(limiter.attempt(at(0), ip(1), 7));
            limiter.undone(ip(1), 7);
        }
    }

    #[test]
    fn a_customers_ipv6_addresses_are_one() {
        let mut limiter = Limiter::new(LIMITS);
        for n in 0..3u8 {
            let ip: IpAddr = format!("2001:db8::{n}").parse().unwrap();
            assert!(limiter.attempt(at(0), ip, 7));
        }
        let next: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        assert!(!limiter.attempt(at(0), next, 7));
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert!(limiter.attempt(at(0), other, 7));
        // The same peer through a dual-stack socket is the same peer.
        let mut limiter = Limiter::new(LIMITS);
        for _ in 0..3 {
            assert!(limiter.attempt(at(0), ip(1), 7));
        }
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(!limiter.attempt(at(0), mapped, 7));
    }

    #[test]
    fn the_table_stays_bounded() {
        let mut limiter = Limiter::new(LIMITS);
        for n in 0..200u8 {
            limiter.attempt(at(0), ip(n), u64::from(n));
            assert!(limiter.windows.len() <= LIMITS.tracked);
            assert_eq!(limiter.windows.len(), limiter.order.len());
        }
    }
}
