//! What a mailbox remembers of its expunged messages (RFC 7162, 3.2.6), and what it no longer does.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::images::quiet;
use super::large::{all, fill};
use super::repair::lose;
use super::*;
use crate::store::engine::{Applied, Batch, Index, IndexError};
use crate::store::{history, keys};
use crate::types::ModSeq;

/// Counts what is read of it.
struct Counting {
    inner: Arc<dyn Index>,
    read: AtomicUsize,
}

impl Index for Counting {
    fn apply(&self, batch: Batch, applied: Applied) -> Result<(), IndexError> {
        self.inner.apply(batch, applied)
    }
    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        self.inner.load(batch)
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key)
    }
    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        self.inner.scan(prefix, from, &mut |key, value| {
            self.read.fetch_add(1, Ordering::Relaxed);
            each(key, value)
        })
    }
    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        self.inner.applied()
    }
    fn checkpoint(&self) -> Result<(), IndexError> {
        self.inner.checkpoint()
    }
    fn size_on_disk(&self) -> u64 {
        self.inner.size_on_disk()
    }
}

async fn expunge(store: &Store, mailbox: MailboxKey, uids: &[u32]) -> ModSeq {
    let uids: UidSet = uids.iter().copied().collect();
    let deleted = vec![Flag::System(SystemFlags::DELETED)];
    let add = FlagAction::Add;
    let marked = store.store_flags(mailbox, uids.clone(), add, deleted, None);
    marked.await.unwrap();
    store.expunge(mailbox, Some(uids)).await.unwrap();
    modseq(store, mailbox)
}

fn modseq(store: &Store, mailbox: MailboxKey) -> ModSeq {
    store.mailbox(mailbox).unwrap().snapshot().highest_modseq()
}

fn gone(store: &Store, mailbox: MailboxKey, since: ModSeq) -> Option<String> {
    let gone = store.expunged_since(mailbox, since).unwrap();
    gone.map(|uids| uids.to_string())
}

fn known(uids: &str) -> Option<String> {
    Some(uids.to_owned())
}

#[test]
fn expunge_move_and_deletion_are_remembered_and_survive_everything() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let (inbox, other, times) = run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        store.mailbox_create(a, "other", None).await.unwrap();
        let other = key(&store, a, "other");
        fill(&store, a, 10).await;
        let first = modseq(&store, inbox);
        assert_eq!(gone(&store, inbox, ModSeq(1)), known(""));
        let second = expunge(&store, inbox, &[2, 3, 9]).await;
        let moved = UidSet::from_ranges([(4, 5)]);
        store.move_messages(inbox, moved, other).await.unwrap();
        (inbox, other, [first, second])
    });
    let [first, second] = times;
    let look = |store: &Store| {
        assert_eq!(gone(store, inbox, ModSeq(1)), known("2:5,9"));
        assert_eq!(gone(store, inbox, first), known("2:5,9"));
        assert_eq!(gone(store, inbox, second), known("4:5"));
        let before = ModSeq(second.0 - 1);
        assert_eq!(gone(store, inbox, before), known("2:5,9"));
        assert_eq!(gone(store, inbox, modseq(store, inbox)), known(""));
        assert_eq!(gone(store, other, ModSeq(1)), known(""));
    };
    look(&store);
    let store = reopen(home.path(), store);
    look(&store);
    // From a state image, with a group after it.
    run(async {
        store.take_image(quiet()).await.unwrap();
        store.compact(quiet()).await.unwrap();
    });
    let store = reopen(home.path(), store);
    look(&store);
    run(async {
        let account = inbox.account;
        store.mailbox_delete(account, "other").await.unwrap();
        assert_eq!(
            store.expunged_since(other, ModSeq(1)),
            Err(StoreError::NoMailbox)
        );
        store.account_remove(account).await.unwrap();
    });
    let mut left = 0;
    let counted = store.shared().scan(&[history::KIND], &mut |_, _| {
        left += 1;
        Ok(())
    });
    counted.unwrap();
    assert_eq!(left, 0);
}

#[test]
fn the_oldest_are_forgotten_and_then_it_says_so() {
    let home = tempfile::tempdir().unwrap();
    let mut few = options(home.path());
    few.config.expunged_ranges = 8;
    let open = || Store::open(few.clone(), Telemetry::new().unwrap()).unwrap();
    let store = open();
    let (inbox, times) = run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        fill(&store, a, 100).await;
        let mut times = vec![modseq(&store, inbox)];
        for n in 1..=20 {
            times.push(expunge(&store, inbox, &[n * 2]).await);
        }
        (inbox, times)
    });
    let look = |store: &Store| {
        let back = times.iter().map(|at| gone(store, inbox, *at));
        let back: Vec<_> = back.collect();
        assert_eq!(back[0], None);
        let first = back.iter().position(Option::is_some).unwrap();
        // At least three quarters of what may be kept.
        assert!((12..=14).contains(&first), "{back:?}");
        assert!(back[first..].iter().all(Option::is_some));
        assert_eq!(back[14], known("30,32,34,36,38,40"));
        assert_eq!(back[20], known(""));
    };
    look(&store);
    run(store.close());
    drop(store);
    super::repair::remove_index(home.path());
    let store = open();
    assert!(store.status().rebuilt);
    look(&store);
    // More at once than may be kept at all.
    let odd: Vec<u32> = (41..70).filter(|n| n % 2 == 1).collect();
    let after = run(expunge(&store, inbox, &odd));
    assert_eq!(gone(&store, inbox, times[20]), None);
    assert_eq!(gone(&store, inbox, after), known(""));
}

#[test]
fn a_history_that_does_not_add_up_is_not_believed() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    run(async {
        let [a, b] = accounts(&store).await;
        for account in [a, b] {
            let inbox = key(&store, account, "INBOX");
            fill(&store, account, 20).await;
            let begin = modseq(&store, inbox);
            let mut times = Vec::new();
            for n in 1..=4 {
                times.push(expunge(&store, inbox, &[n]).await);
            }
            // As sled was seen to lose records: one in the middle, the last one, all.
            let mut keys = Vec::new();
            let prefix = keys::mailbox(history::KIND, inbox);
            let read = store.shared().scan(&prefix, &mut |key, _| {
                keys.push(key.to_vec());
                Ok(())
            });
            read.unwrap();
            assert_eq!(keys.len(), 5);
            if account == a {
                lose(&store, keys[2].clone());
                assert_eq!(gone(&store, inbox, begin), None);
                assert_eq!(gone(&store, inbox, times[0]), None);
                assert_eq!(gone(&store, inbox, times[1]), known("3:4"));
                lose(&store, keys[4].clone());
                assert_eq!(gone(&store, inbox, times[1]), None);
                assert_eq!(gone(&store, inbox, times[3]), known(""));
                continue;
            }
            // Or an older version has expunged meanwhile, and written none.
            lose(&store, keys[0].clone());
            assert_eq!(gone(&store, inbox, begin), None);
            assert_eq!(gone(&store, inbox, times[3]), None);
            let last = expunge(&store, inbox, &[5]).await;
            assert_eq!(gone(&store, inbox, begin), None);
            assert_eq!(gone(&store, inbox, ModSeq(last.0 - 1)), known("5"));
            assert_eq!(gone(&store, inbox, last), known(""));
        }
    });
}

/// A client that comes back pays for what went since, not for what went before.
#[test]
fn fifty_of_many_are_read_and_no_message_is() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        fill(&store, a, 3000).await;
        for n in 0..200 {
            expunge(&store, inbox, &[n * 10 + 1]).await;
        }
        let since = modseq(&store, inbox);
        for n in 0..50 {
            expunge(&store, inbox, &[n * 10 + 5]).await;
        }
        let index = store.shared().index.load_full();
        let counting = Arc::new(Counting {
            inner: (*index).clone(),
            read: AtomicUsize::new(0),
        });
        let counted: Arc<dyn Index> = counting.clone();
        store.shared().index.store(Arc::new(counted));
        let found = store.expunged_since(inbox, since).unwrap().unwrap();
        assert_eq!(found.len(), 50);
        let read = counting.read.load(Ordering::Relaxed);
        assert!(read <= 52, "{read}");
        let snapshot = store.mailbox(inbox).unwrap().snapshot();
        assert_eq!(snapshot.changed_since(since, &all()).count(), 0);
        assert_eq!(counting.read.load(Ordering::Relaxed), read);
        store.shared().index.store(index);
    });
}
