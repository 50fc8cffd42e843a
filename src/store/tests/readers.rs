//! Who reads beside the committer, and what the index has for them.

use super::large::{all, fill};
use super::*;
use crate::store::bulk::SLICE;
use crate::store::engine::{Applied, Batch, Index, IndexError};
use crate::store::{BodyPlace, keys};

/// As sled: whoever reads waits while a batch is applied. A large batch takes until it is told.
struct SlowIndex {
    inner: Arc<dyn Index>,
    lock: parking_lot::RwLock<()>,
    begun: std::sync::mpsc::SyncSender<()>,
    /// False where nobody told it.
    told: std::sync::mpsc::SyncSender<bool>,
    gate: parking_lot::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Index for SlowIndex {
    fn apply(&self, batch: Batch, applied: Applied) -> Result<(), IndexError> {
        let _lock = self.lock.write();
        if batch.len() > 1000 {
            self.begun.send(()).unwrap();
            let wait = std::time::Duration::from_secs(10);
            let told = self.gate.lock().recv_timeout(wait).is_ok();
            self.told.send(told).unwrap();
        }
        self.inner.apply(batch, applied)
    }
    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        self.inner.load(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let _lock = self.lock.read();
        self.inner.get(key)
    }
    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        let _lock = self.lock.read();
        self.inner.scan(prefix, from, each)
    }
    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        self.inner.applied()
    }
    fn checkpoint(&self) -> Result<(), IndexError> {
        Ok(())
    }
    fn size_on_disk(&self) -> u64 {
        0
    }
}

#[test]
fn who_reads_while_a_large_batch_is_applied_holds_up_nobody_else() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("data"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let [a, _] = accounts(&store).await;
        fill(&store, a, SLICE as u32).await;
        let [inbox, archive] = ["INBOX", "Archive"].map(|name| key(&store, a, name));
        for scan in [false, true] {
            let (begun, begins) = std::sync::mpsc::sync_channel(1);
            let (told, was_told) = std::sync::mpsc::sync_channel(1);
            let (go, gate) = std::sync::mpsc::channel();
            let slow: Arc<dyn Index> = Arc::new(SlowIndex {
                inner: (*store.shared().index.load_full()).clone(),
                lock: parking_lot::RwLock::default(),
                begun,
                told,
                gate: parking_lot::Mutex::new(gate),
            });
            store.shared().index.store(Arc::new(slow));
            let copier = store.clone();
            let copy = tokio::spawn(async move { copier.copy(inbox, all(), archive).await });
            begins.recv().unwrap();
            let store = store.clone();
            let read = tokio::spawn(async move {
                // Whoever is on this thread beside it.
                tokio::spawn(async move { go.send(()).unwrap() });
                if scan {
                    let each = &mut |_, _| true;
                    store.scan_messages(inbox, 1..=2, each).unwrap();
                } else {
                    assert!(store.message(inbox, Uid(1)).unwrap().is_some());
                }
            });
            read.await.unwrap();
            assert!(was_told.recv().unwrap(), "the thread was held up");
            copy.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_body_that_went_while_it_was_read_is_no_damage_and_one_without_a_place_is() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("data"));
    run(async {
        let [a, _] = accounts(&store).await;
        for _ in 0..3 {
            let done = store.deliver(mail("x"), UnixMillis(1), vec![to(a)]);
            done.await.unwrap();
        }
        let inbox = key(&store, a, "INBOX");
        let [gone, moved, lost] = [1, 2, 3].map(|n| {
            let record = store.message(inbox, Uid(n)).unwrap().unwrap();
            (Uid(n), record.blob)
        });
        let read = |(uid, blob)| store.body_range(inbox, uid, blob, 0..9);
        let begun = BodyPlace::default();
        let first = store.body_range_at(inbox, gone.0, gone.1, &begun, 0..9);
        assert!(first.is_ok());
        let archive = key(&store, a, "Archive");
        let second = UidSet::single(2);
        store.move_messages(inbox, second, archive).await.unwrap();
        let deleted = vec![Flag::System(SystemFlags::DELETED)];
        let flag = store.store_flags(inbox, UidSet::single(1), FlagAction::Add, deleted, None);
        flag.await.unwrap();
        store.expunge(inbox, None).await.unwrap();
        assert_eq!(read(gone), Err(StoreError::Expunged));
        // Who had begun to read it can go on.
        let rest = store.body_range_at(inbox, gone.0, gone.1, &begun, 9..12);
        assert!(rest.is_ok_and(|rest| rest.len() == 3));
        assert!(read(moved).is_ok() && read(lost).is_ok());
        store.mailbox_rename(a, "INBOX", "Old").await.unwrap();
        store.mailbox_delete(a, "Archive").await.unwrap();
        assert_eq!(read(moved), Err(StoreError::Expunged));
        assert!(!store.shared().rebuild_is_wanted());

        let old = key(&store, a, "Old");
        repair::lose(&store, keys::blob(lost.1));
        let read = || store.body_range(old, Uid(1), lost.1, 0..9);
        assert!(matches!(read(), Err(StoreError::Index(_))));
        repair::until("it is there again", || read().is_ok());
    });
}

#[test]
fn no_list_of_expunged_messages_grows_and_old_ones_go_with_their_mailbox() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let lists = |store: &Store| {
        let mut count = 0;
        let each = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            Ok(())
        };
        store.shared().scan(b"v", each).unwrap();
        count
    };
    run(async {
        let [a, _] = accounts(&store).await;
        store.mailbox_create(a, "Old", None).await.unwrap();
        let old = key(&store, a, "Old");
        fill(&store, a, 3).await;
        let inbox = key(&store, a, "INBOX");
        store.move_messages(inbox, all(), old).await.unwrap();
        assert_eq!(lists(&store), 0);
        // As earlier versions wrote them.
        let index = store.shared().index.load_full();
        let applied = index.applied().unwrap().unwrap();
        let list = [&keys::mailbox(b'v', old)[..], &[0; 10]].concat();
        let value = keys::encode(&UidSet::single(1)).unwrap();
        index.apply(vec![(list, Some(value))], applied).unwrap();
    });
    assert_eq!(lists(&store), 1);
    let store = {
        run(store.close());
        drop(store);
        open(&dir)
    };
    assert!(!store.status().rebuilt);
    run(store.mailbox_delete(AccountId(1), "Old")).unwrap();
    assert_eq!(lists(&store), 0);
    reopen(&dir, store);
}
