//! What fails while the store runs: changes that are refused or panic, the disk, the index.

use std::sync::atomic::{AtomicU32, Ordering};

use super::repair::until;
use super::*;
use crate::store::engine::{Applied, Batch, Index, IndexError};
use crate::store::log::{Appended, BlobData, CommitLog, LogError};
use crate::store::ops::Op;
use crate::store::recovery;
use crate::types::LogPos;

/// An index that fails to apply, or panics, as often as is told.
struct FaultyIndex {
    inner: Arc<dyn Index>,
    fail: AtomicU32,
    panic: bool,
    reason: &'static str,
}

impl Index for FaultyIndex {
    fn apply(&self, batch: Batch, applied: Applied) -> Result<(), IndexError> {
        let left = self.fail.load(Ordering::SeqCst);
        if left > 0 && left < u32::MAX {
            self.fail.store(left - 1, Ordering::SeqCst);
            assert!(!self.panic, "the index panics, as planned");
            return Err(IndexError::Engine(self.reason.into()));
        }
        self.inner.apply(batch, applied)
    }
    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        self.inner.load(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.inner.get(key)
    }
    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        self.inner.scan(prefix, from, each)
    }
    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        self.inner.applied()
    }
    fn checkpoint(&self) -> Result<(), IndexError> {
        match self.fail.load(Ordering::SeqCst) {
            u32::MAX => Err(IndexError::Engine("a sync that failed".into())),
            _ => self.inner.checkpoint(),
        }
    }
    fn size_on_disk(&self) -> u64 {
        self.inner.size_on_disk()
    }
}

pub(super) fn break_index(store: &Store, fail: u32, panic: bool) {
    put_faulty(store, fail, panic, "as planned");
}

fn put_faulty(store: &Store, fail: u32, panic: bool, reason: &'static str) {
    let inner = store.shared().index.load_full();
    let faulty: Arc<dyn Index> = Arc::new(FaultyIndex {
        inner: (*inner).clone(),
        fail: AtomicU32::new(fail),
        panic,
        reason,
    });
    store.shared().index.store(Arc::new(faulty));
}

/// A log whose next write fails, and whose recovery fails as often as is told.
struct FaultyLog {
    inner: Box<dyn CommitLog>,
    fail: Arc<AtomicU32>,
}

impl CommitLog for FaultyLog {
    fn append(&mut self, seq: u64, blobs: &[&BlobData], ops: &[u8]) -> Result<Appended, LogError> {
        if self.fail.load(Ordering::SeqCst) > 0 {
            return Err(LogError::Poisoned);
        }
        self.inner.append(seq, blobs, ops)
    }
    fn recover(&mut self) -> Result<(u64, LogPos), LogError> {
        let left = self.fail.load(Ordering::SeqCst);
        self.fail.store(left.saturating_sub(1), Ordering::SeqCst);
        if left > 1 {
            return Err(LogError::Poisoned);
        }
        self.inner.recover()
    }
    fn end(&self) -> LogPos {
        self.inner.end()
    }
    fn seal(&mut self) {
        self.inner.seal();
    }
}

#[test]
fn an_index_that_fails_is_built_anew_and_who_waits_is_told_that_it_went_well() {
    for panic in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let store = open(&dir);
        run(async {
            let [a, b] = accounts(&store).await;
            let inbox = key(&store, a, "INBOX");
            let opened = store.mailbox(inbox).unwrap();
            store
                .deliver(mail("1"), UnixMillis(1), vec![to(a)])
                .await
                .unwrap();
            let mut feed = store.feed(None);
            let (mut watch, mut told) = (opened.watch(), store.watch_account(a));
            watch.mark_unchanged();
            told.mark_unchanged();
            break_index(&store, 1, panic);
            let done = store
                .deliver(mail("2"), UnixMillis(1), vec![to(a)])
                .await
                .unwrap();
            assert_eq!(done[0].uid, Uid(2));
            assert!(store.is_writable());
            assert_eq!(opened.snapshot().len(), 2, "open mailboxes show it");
            watch.changed().await.unwrap();
            told.changed().await.unwrap();
            assert_eq!(feed.next().await.unwrap().changes.len(), 1);
            let next = store.deliver(mail("3"), UnixMillis(1), vec![to(a), to(b)]);
            assert_eq!(next.await.unwrap()[0].uid, Uid(3));
        });
        reopen(&dir, store);
    }
}

/// A full disk: the index is good as it lies there, and a new one would need more room.
#[test]
fn an_index_that_had_no_room_is_opened_again_where_it_lies() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        let deliver = || store.deliver(mail("1"), UnixMillis(1), vec![to(a)]);
        deliver().await.unwrap();
        let opened = store.mailbox(inbox).unwrap();
        for round in 2..5 {
            let reason = "IO error: No space left on device (os error 28)";
            put_faulty(&store, 1, false, reason);
            let done = deliver().await.unwrap();
            assert_eq!(done[0].uid, Uid(round), "it is in the log, so it is there");
            assert_eq!(opened.snapshot().len(), round);
            assert!(store.is_writable());
        }
    });
    let there = std::fs::read_dir(&dir).unwrap().flatten();
    let names = there.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let indexes: Vec<_> = names.filter(|name| name.starts_with("index")).collect();
    assert_eq!(indexes, ["index"], "none was built anew");
    assert!(!dir.join("rebuild-index").exists());
    reopen(&dir, store);
}

#[test]
fn a_checkpoint_that_fails_is_not_tried_again_on_the_same_files() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let a = run(async {
        let [a, _] = accounts(&store).await;
        a
    });
    break_index(&store, u32::MAX, false);
    let before = store.shared().index.load_full();
    run(async {
        // Something new makes the checkpoint due.
        store
            .deliver(mail("1"), UnixMillis(1), vec![to(a)])
            .await
            .unwrap();
    });
    until("another index", || {
        !Arc::ptr_eq(&before, &store.shared().index.load_full())
    });
    reopen(&dir, store);
}

#[test]
fn a_log_that_fails_is_tried_again_without_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut recovered = recovery::open(options(&dir), Telemetry::new().unwrap()).unwrap();
    let fail = Arc::new(AtomicU32::new(0));
    recovered.log = Box::new(FaultyLog {
        inner: recovered.log,
        fail: fail.clone(),
    });
    let store = Store::start(recovered).unwrap();
    run(async {
        let [a, _] = accounts(&store).await;
        fail.store(3, Ordering::SeqCst);
        let send = || store.deliver(mail("x"), UnixMillis(1), vec![to(a)]);
        assert!(matches!(send().await, Err(StoreError::Write(_))));
        assert!(!store.is_writable());
        // Not a full disk: that would be another answer.
        assert!(matches!(send().await, Err(StoreError::Write(_))));
        until("it writes again", || store.is_writable());
        assert_eq!(send().await.unwrap()[0].uid, Uid(1));
    });
    reopen(&dir, store);
}

#[test]
fn numbers_that_could_not_be_written_down_are_tried_again_before_anything_else() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let [a, _] = run(accounts(&store));
    let inbox = key(&store, a, "INBOX");
    run(store.close());
    drop(store);
    let mut recovered = recovery::open(options(&dir), Telemetry::new().unwrap()).unwrap();
    let fail = Arc::new(AtomicU32::new(3));
    recovered.log = Box::new(FaultyLog {
        inner: recovered.log,
        fail: fail.clone(),
    });
    recovered.floors = vec![Op::MailboxFloor {
        mailbox: inbox,
        uid_next: Uid(9),
        highest_modseq: crate::types::ModSeq(50),
    }];
    let store = Store::start(recovered).unwrap();
    assert!(!store.is_writable());
    run(async {
        let send = || store.deliver(mail("x"), UnixMillis(1), vec![to(a)]);
        assert!(matches!(send().await, Err(StoreError::Write(_))));
        until("it writes again", || store.is_writable());
        assert_eq!(send().await.unwrap()[0].uid, Uid(9));
    });
    reopen(&dir, store);
}

#[test]
fn a_panic_of_the_committer_itself_is_mended_too() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let [a, _] = run(accounts(&store));
    let refused = store.shared().index.load_full();
    let job = crate::store::queue::Job {
        weight: 1,
        run: Box::new(|_| panic!("as planned")),
    };
    run(async {
        let queue = store.inner_queue();
        let sent = queue.send(crate::store::queue::Message::Job(job)).await;
        assert!(sent.is_ok());
        until("it is built anew", || {
            let same = Arc::ptr_eq(&refused, &store.shared().index.load_full());
            !same && store.is_writable()
        });
        drop(refused);
        let send = store.deliver(mail("x"), UnixMillis(1), vec![to(a)]);
        assert_eq!(send.await.unwrap()[0].uid, Uid(1));
    });
    reopen(&dir, store);
}

#[test]
fn a_change_that_is_refused_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        let alias = |name: &str| Alias {
            address: Address::parse(name).unwrap(),
            targets: vec![Address::parse("a@x.test").unwrap()],
        };
        let refuse = |name: &'static str, panics: bool| {
            let alias = alias(name);
            store.commit(1, move |tx| {
                tx.fact(Op::AliasPut(alias))?;
                tx.fact(Op::Keyword {
                    mailbox: inbox,
                    bit: 0,
                    name: "$gone".into(),
                })?;
                assert!(!panics, "as planned");
                Err::<(), _>(StoreError::Limit("as planned"))
            })
        };
        // In one group with changes that are good, before and after.
        let (one, two, three, four, five) = tokio::join!(
            store.alias_put(alias("one@x.test")),
            refuse("two@x.test", false),
            store.deliver(mail("x"), UnixMillis(1), vec![to(a)]),
            refuse("four@x.test", true),
            store.alias_put(alias("five@x.test")),
        );
        assert_eq!((one, five), (Ok(()), Ok(())));
        assert_eq!(two, Err(StoreError::Limit("as planned")));
        assert!(matches!(four, Err(StoreError::Write(_))));
        assert_eq!(three.unwrap()[0].uid, Uid(1));
        let directory = store.directory();
        let mut names: Vec<_> = directory.aliases().map(|a| a.address.to_string()).collect();
        names.sort();
        assert_eq!(names, ["five@x.test", "one@x.test"]);
        assert!(
            store
                .mailbox(inbox)
                .unwrap()
                .snapshot()
                .keywords()
                .is_empty()
        );
    });
    reopen(&dir, store);
}

#[test]
fn values_larger_than_a_record_are_split() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let targets = |n: usize| -> Vec<Address> {
        let long = format!("{}.{}.x.test", "d".repeat(60), "e".repeat(60));
        (0..n)
            .map(|n| Address::parse(&format!("{n}{}@{long}", "l".repeat(50))).unwrap())
            .collect()
    };
    let all = Address::parse("all@x.test").unwrap();
    let put = |n| Alias {
        address: all.clone(),
        targets: targets(n),
    };
    run(async {
        accounts(&store).await;
        let domain = targets(1)[0].domain().clone();
        store.domain_add(domain).await.unwrap();
        store.alias_put(put(50)).await.unwrap();
        assert_eq!(
            store.alias_put(put(51)).await,
            Err(StoreError::Limit("50 targets of an alias"))
        );
        let value = vec![9; 100_000];
        let queued = value.clone();
        store
            .commit(1, move |tx| {
                tx.fact(Op::QueuePut {
                    id: 1,
                    due: UnixMillis(2),
                    value: queued.clone(),
                })?;
                tx.fact(Op::RecordPut {
                    kind: 3,
                    key: b"x".to_vec(),
                    value: queued,
                })
            })
            .await
            .unwrap();
        let mut found = Vec::new();
        let scanned = store.shared().scan(b"q", &mut |_, raw| {
            found.push(keys::decode::<Vec<u8>>(raw)?);
            Ok(())
        });
        scanned.unwrap();
        assert_eq!(found, [value]);
    });
    let store = reopen(&dir, store);
    assert_eq!(store.directory().alias(&all).unwrap().targets.len(), 50);
    run(async {
        // Shorter, and gone: no piece is left.
        let pieces = || {
            let mut count = 0;
            let scanned = store.shared().index.load().scan(b"xL", None, &mut |_, _| {
                count += 1;
                true
            });
            scanned.unwrap();
            count
        };
        assert!(pieces() >= 2);
        store.alias_put(put(1)).await.unwrap();
        assert_eq!(pieces(), 0);
        store.alias_put(put(50)).await.unwrap();
        store.alias_remove(all.clone()).await.unwrap();
        assert_eq!(pieces(), 0);
    });
    reopen(&dir, store);
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut small = options(&dir);
    small.config.queue_bytes = 10_000;
    let store = Store::open(small, Telemetry::new().unwrap()).unwrap();
    run(async {
        let [a, _] = accounts(&store).await;
        let (held, hold) = std::sync::mpsc::channel::<()>();
        let blocked = store.commit(9_000, move |_| {
            let _ = hold.recv();
            Ok(())
        });
        tokio::pin!(blocked);
        let second = store.commit(9_000, |_| Ok(()));
        tokio::pin!(second);
        let wait = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, &mut blocked).await.is_err());
        assert!(tokio::time::timeout(wait, &mut second).await.is_err());
        assert_eq!(store.inner_waiting(), 0, "it is not even in the queue");
        held.send(()).unwrap();
        blocked.await.unwrap();
        second.await.unwrap();
        // One that is larger than all of it goes alone.
        let big = Prepared::from_bytes(vec![b'x'; 200_000].into());
        store
            .deliver(big, UnixMillis(1), vec![to(a)])
            .await
            .unwrap();
    });
}

#[test]
fn spooled_messages_in_memory_are_bounded() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut small = options(&dir);
    small.config.queue_bytes = 500_000;
    let store = Store::open(small, Telemetry::new().unwrap()).unwrap();
    run(async {
        let [a, _] = accounts(&store).await;
        let spooled = || {
            let mut spool = store.spool(1000);
            spool.push(&[b'x'; 300_000]);
            async move { spool.finish(b"A: b\r\n".to_vec(), STRANGER).await }
        };
        let first = spooled().await.unwrap();
        let second = spooled();
        tokio::pin!(second);
        let wait = std::time::Duration::from_millis(100);
        assert!(tokio::time::timeout(wait, &mut second).await.is_err());
        store
            .deliver(first, UnixMillis(1), vec![to(a)])
            .await
            .unwrap();
        assert_eq!(second.await.unwrap().raw_len(), 300_006);
    });
}

/// Whose messages are parsed keeps nobody else's waiting, however many there are.
#[test]
fn each_who_sends_large_messages_has_its_own_turn() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("data"));
    run(async {
        let other = Whose::Account(AccountId(7));
        let spooled = |whose| {
            let mut spool = store.spool(1000);
            spool.push(&[b'x'; 300_000]);
            async move { spool.finish(b"A: b\r\n".to_vec(), whose).await }
        };
        let held = store.arrivals().turn(STRANGER).await;
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(spooled(STRANGER))).collect();
        let wait = std::time::Duration::from_millis(20);
        for one in &mut waiting {
            assert!(tokio::time::timeout(wait, one).await.is_err());
        }
        assert_eq!(spooled(other).await.unwrap().raw_len(), 300_006);
        drop(held);
        for one in waiting {
            one.await.unwrap();
        }
    });
}

#[test]
fn smaller_things() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut few = options(&dir);
    few.config.max_mailboxes_per_account = 9;
    let store = Store::open(few, Telemetry::new().unwrap()).unwrap();
    run(async {
        let [a, b] = accounts(&store).await;
        // Subscribed before it was made.
        store.subscribe(a, "Later", true).await.unwrap();
        store.mailbox_create(a, "Later", None).await.unwrap();
        let list = store.mailboxes(a).unwrap();
        assert!(list.find("Later").unwrap().subscribed);
        assert!(list.subscribed_missing.is_empty());
        // Parents of a new name count.
        let deep = store.mailbox_rename(a, "Later", "x/y/z").await;
        assert_eq!(deep, Ok(()));
        let deeper = store.mailbox_rename(a, "x/y/z", "p/q").await;
        assert!(matches!(deeper, Err(StoreError::Limit(_))));
        let inbox = store.mailbox_rename(a, "INBOX", "old").await;
        assert!(matches!(inbox, Err(StoreError::Limit(_))));
        store.mailbox_delete(a, "x/y/z").await.unwrap();
        // One of two recipients was removed meanwhile.
        let gone = store.account_add(Address::parse("c@x.test").unwrap(), "h".into());
        let gone = gone.await.unwrap();
        store.account_remove(gone).await.unwrap();
        let done = store.deliver(mail("x"), UnixMillis(1), vec![to(gone), to(b)]);
        let done = done.await.unwrap();
        assert_eq!((done.len(), done[0].mailbox.account), (1, b));
    });
    let store = reopen(&dir, store);
    // What nobody has read is \Recent again.
    let inbox = key(&store, AccountId(2), "INBOX");
    assert_eq!(store.mailbox(inbox).unwrap().recent(), 1);
    assert_eq!(store.mailbox(inbox).unwrap().recent_from(true), Uid(1));
    assert_eq!(store.mailbox(inbox).unwrap().recent(), 0);
}

#[test]
fn a_large_copy_is_not_followed_by_another_in_the_same_group() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        let many: Vec<_> = (0..1200).map(|_| to(a)).collect();
        store.deliver(mail("x"), UnixMillis(1), many).await.unwrap();
        let [inbox, archive] = ["INBOX", "Archive"].map(|name| key(&store, a, name));
        let from = store.shared().ring.end();
        let all = || UidSet::from_ranges([(1, u32::MAX)]);
        let copy = || store.copy(inbox, all(), archive);
        let (one, two, three) = tokio::join!(copy(), copy(), copy());
        for copied in [one, two, three] {
            assert_eq!(copied.unwrap().target.len(), 1200);
        }
        let mut feed = store.feed(Some(from));
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 3600 {
            sizes.push(feed.next().await.unwrap().changes.len());
        }
        assert!(sizes.len() > 1, "{sizes:?}");
    });
}
