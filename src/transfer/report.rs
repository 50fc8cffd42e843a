//! What an import or export did, and how far it is.
//!
//! May import: nothing of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Failures that are kept for the report; all are told when they happen, and counted.
const MAX_KEPT: usize = 1000;

/// One mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MailboxReport {
    pub name: String,
    pub messages: u64,
    /// Messages that an earlier run brought already.
    pub known: u64,
    /// None: not of an import, or the source has no UIDs.
    pub uids_kept: Option<bool>,
    /// Messages whose UID could not be kept though the mailbox keeps UIDs.
    pub renumbered: u64,
    pub keywords_lost: u64,
}

/// Something that could not be taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub what: String,
    pub reason: String,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub messages: u64,
    pub bytes: u64,
    pub known: u64,
    pub failed: u64,
    pub mailboxes: Vec<MailboxReport>,
    /// The first thousand of them.
    pub failures: Vec<Failed>,
}

/// How far it is: for whoever shows that. Cheap to clone.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    messages: AtomicU64,
    bytes: AtomicU64,
    mailbox: Mutex<(String, u64)>,
    failures: Mutex<(u64, Vec<Failed>)>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl Progress {
    /// `tell` gets lines for people, at once.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            inner: Arc::new(Inner {
                messages: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                mailbox: Mutex::default(),
                failures: Mutex::default(),
                tell: Box::new(tell),
            }),
        }
    }

    /// Messages and bytes that are done.
    pub fn done(&self) -> (u64, u64) {
        let inner = &self.inner;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&inner.messages), read(&inner.bytes))
    }

    pub fn set(&self, messages: u64, bytes: u64) {
        self.inner.messages.store(messages, Ordering::Relaxed);
        self.inner.bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn add(&self, bytes: u64) {
        self.inner.messages.fetch_add(1, Ordering::Relaxed);
        self.inner.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The mailbox of the moment and what it has to give; 0: not known.
    pub fn mailbox(&self) -> (String, u64) {
        self.inner.mailbox.lock().clone()
    }

    pub fn begin(&self, mailbox: &str, messages: u64) {
        *self.inner.mailbox.lock() = (mailbox.to_owned(), messages);
    }

    /// A line for people.
    pub fn say(&self, line: &str) {
        (self.inner.tell)(line);
    }

    /// This could not be taken.
    pub fn failed(&self, what: impl Into<String>, reason: impl ToString) {
        let (what, reason) = (what.into(), reason.to_string());
        self.say(&format!("{what}: {reason}"));
        let mut failures = self.inner.failures.lock();
        failures.0 += 1;
        if failures.1.len() < MAX_KEPT {
            failures.1.push(Failed { what, reason });
        }
    }

    /// The end.
    pub fn report(&self, mailboxes: Vec<MailboxReport>) -> Report {
        let (messages, bytes) = self.done();
        let (failed, failures) = self.inner.failures.lock().clone();
        Report {
            messages,
            bytes,
            known: mailboxes.iter().map(|m| m.known).sum(),
            failed,
            mailboxes,
            failures,
        }
    }
}
