//! Damaged, lost, foreign and left-over files: what the store notices, what it mends, and what
//! it never gives twice.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;

pub(super) fn close(store: Store) {
    run(store.close());
    drop(store);
}

pub(super) fn indexes(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut found: Vec<_> = entries
        .map(|e| e.path())
        .filter(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("index") && !name.contains("bad")
        })
        .collect();
    found.sort();
    found
}

pub(super) fn remove_index(dir: &Path) {
    for path in indexes(dir) {
        std::fs::remove_dir_all(path).unwrap();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub(super) fn segment(dir: &Path) -> PathBuf {
    dir.join("log/seg-000000000001")
}

pub(super) fn flip(path: &Path, offset: u64) {
    let options = std::fs::File::options().read(true).write(true).open(path);
    let file = options.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn blob_files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join("log")).unwrap().flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().starts_with("blob-"))
        .count()
}

/// For a machine that has other things to do as well.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What sled does when its file is damaged: a record is not there, and nothing is said.
pub(super) fn lose(store: &Store, record: Vec<u8>) {
    let index = store.shared().index.load_full();
    assert!(index.get(&record).unwrap().is_some(), "{record:?}");
    let applied = index.applied().unwrap().unwrap();
    index.apply(vec![(record, None)], applied).unwrap();
}

pub(super) async fn deliver(store: &Store, account: AccountId, n: u32) -> Uid {
    let text = format!("message {n}");
    let done = store.deliver(mail(&text), UnixMillis(1), vec![to(account)]);
    done.await.unwrap()[0].uid
}

fn large(n: u8) -> Prepared {
    let mut state = u64::from(n) | 1;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    });
    Prepared::from_bytes(noise.take((4 << 20) + 70_000).collect::<Vec<u8>>().into())
}

/// A store with some of everything.
fn filled(dir: &Path) -> (Store, AccountId, String) {
    let store = open(dir);
    let (a, before) = run(async {
        let [a, b] = accounts(&store).await;
        for n in 0..70 {
            deliver(&store, a, n).await;
        }
        let inbox = key(&store, a, "INBOX");
        let words = ["$one", "$two", "$three"].map(|w| Flag::Keyword(w.into()));
        let set = UidSet::from_ranges([(1, 5)]);
        let change = store.store_flags(inbox, set, FlagAction::Add, words.into(), None);
        change.await.unwrap();
        store
            .deliver(large(3), UnixMillis(1), vec![to(b)])
            .await
            .unwrap();
        let alias = Alias {
            address: Address::parse("all@x.test").unwrap(),
            targets: vec![Address::parse("a@x.test").unwrap()],
        };
        store.alias_put(alias).await.unwrap();
        store
            .set_quota(a, Some(Limit::At(1 << 40)), None)
            .await
            .unwrap();
        store
            .update(vec![Update::SettingPut("k".into(), vec![7])])
            .await
            .unwrap();
        (a, dump(&store))
    });
    (store, a, before)
}

/// The sums by which the others are checked go with them.
#[test]
fn an_index_that_has_lost_everything_but_its_place_is_built_anew() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    for later in [false, true] {
        let _ = std::fs::remove_dir_all(&dir);
        let store = open(&dir);
        run(accounts(&store));
        let before = dump(&store);
        let index = store.shared().index.load_full();
        let at = index.applied().unwrap().unwrap();
        let mut batch = Vec::new();
        let each = &mut |key: &[u8], _: &[u8]| {
            batch.push((key.to_vec(), None));
            true
        };
        for kind in (0..=u8::MAX).filter(|kind| *kind != crate::store::engine::NAMESPACE) {
            index.scan(&[kind], None, each).unwrap();
        }
        index.apply(batch, at).unwrap();
        if later {
            // What comes after it does not make it right again.
            let domain = Domain::parse("y.test").unwrap();
            let _ = run(store.domain_add(domain));
        }
        drop(index);
        close(store);
        let store = open(&dir);
        let wanted = before.lines().count();
        assert_eq!(dump(&store).lines().count(), wanted, "{later}");
        assert_eq!(store.directory().domains().count(), 1 + usize::from(later));
        close(store);
    }
}

#[test]
fn records_that_sled_lost_are_noticed_and_built_anew() {
    let home = tempfile::tempdir().unwrap();
    let origin = home.path().join("origin");
    let (store, a, before) = filled(&origin);
    let inbox = key(&store, a, "INBOX");
    let blob = store.message(inbox, Uid(9)).unwrap().unwrap().blob;
    close(store);
    let lost: Vec<(&str, Vec<u8>, bool)> = vec![
        ("message", keys::message(inbox, Uid(7)), false),
        ("keyword", keys::in_mailbox(b'K', inbox, 1), true),
        ("last keyword", keys::in_mailbox(b'K', inbox, 2), true),
        ("chunk", keys::in_mailbox(b'f', inbox, 1), false),
        ("body's place", keys::blob(blob), false),
        ("mailbox", keys::mailbox(b'M', inbox), true),
        ("name", keys::mailbox(b'N', inbox), true),
        ("account", keys::account(b'A', a), true),
        ("marks", keys::account(b'U', a), true),
        ("subscription", keys::subscription(a, "INBOX"), true),
        ("domain", keys::named(b'D', b"x.test"), true),
        ("alias", keys::named(b'L', b"all@x.test"), true),
        ("setting", keys::named(b't', b"k"), true),
        ("quota", records::of_account(records::Kind::Quota, a), true),
        ("global marks", b"g".to_vec(), true),
        ("sums", b"s".to_vec(), true),
    ];
    for (what, record, at_start) in lost {
        let dir = home.path().join("copy");
        copy_dir(&origin, &dir);
        let store = open(&dir);
        lose(&store, record);
        close(store);
        let store = open(&dir);
        assert_eq!(store.status().rebuilt, at_start, "{what}");
        if !at_start {
            // Noticed by the first who looks, and mended without a restart.
            let seen = store
                .mailbox(inbox)
                .and_then(|_| store.body(blob).map(|_| ()));
            assert!(seen.is_err(), "{what}");
            until(what, || {
                store.mailbox(inbox).is_ok() && store.body(blob).is_ok()
            });
        }
        assert_eq!(dump(&store), before, "{what}");
        assert_eq!(store.setting("k").unwrap(), Some(vec![7]), "{what}");
        // It goes after the new index is there to be read.
        until(what, || !dir.join("rebuild-index").exists());
        run(async { assert_eq!(deliver(&store, a, 71).await, Uid(71), "{what}") });
        close(store);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_message_that_is_lost_while_the_mailbox_is_open_is_noticed_by_who_fetches_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a, before) = filled(&dir);
    let inbox = key(&store, a, "INBOX");
    let opened = store.mailbox(inbox).unwrap();
    let record = store.message(inbox, Uid(7)).unwrap().unwrap();
    let all = |store: &Store| {
        let mut uids = Vec::new();
        let read = store.scan_messages(inbox, 1..=u32::MAX, &mut |uid, _| {
            uids.push(uid.0);
            true
        });
        read.map(|()| uids)
    };
    assert_eq!(store.message(inbox, Uid(999)), Ok(None));
    lose(&store, keys::message(inbox, Uid(7)));
    assert!(matches!(all(&store), Err(StoreError::Index(_))));
    assert!(matches!(
        store.message(inbox, Uid(7)),
        Err(StoreError::Index(_))
    ));
    until("rebuilt", || {
        store.message(inbox, Uid(7)) == Ok(Some(record.clone()))
    });
    assert_eq!(all(&store).unwrap().len(), 70);
    assert_eq!(dump(&store), before);
    // Whoever had it open sees what comes next.
    let mut watch = opened.watch();
    watch.mark_unchanged();
    run(async {
        deliver(&store, a, 70).await;
        watch.changed().await.unwrap();
    });
    assert_eq!(opened.snapshot().len(), 71);
}

#[test]
fn acknowledged_groups_that_are_damaged_are_not_cut_off_and_no_uid_comes_twice() {
    for bad_index in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let store = open(&dir);
        let (a, blobs, validity) = run(async {
            let [a, _] = accounts(&store).await;
            for n in 1..=5 {
                assert_eq!(deliver(&store, a, n).await, Uid(n));
            }
            let inbox = key(&store, a, "INBOX");
            let blobs: Vec<_> = (1..=5)
                .map(|n| store.message(inbox, Uid(n)).unwrap().unwrap().blob)
                .collect();
            store.mailbox_create(a, "Late", None).await.unwrap();
            let late = key(&store, a, "Late");
            (a, blobs, store.mailbox_status(late).unwrap().uid_validity)
        });
        let inbox = key(&store, a, "INBOX");
        let places: Vec<_> = blobs
            .iter()
            .map(|b| store.shared().blob(*b).unwrap().unwrap().place)
            .collect();
        close(store);
        let len = std::fs::metadata(segment(&dir)).unwrap().len();
        // All from the middle of the fourth message's body to the end.
        for offset in (places[3].offset + 60..len).step_by(7) {
            flip(&segment(&dir), offset);
        }
        if bad_index {
            std::fs::write(dir.join("rebuild-index"), b"").unwrap();
        }
        let store = open(&dir);
        assert_eq!(store.status().rebuilt, bad_index);
        assert_eq!(std::fs::metadata(segment(&dir)).unwrap().len(), len);
        let opened = store.mailbox(inbox).unwrap();
        assert_eq!(opened.snapshot().uid_next(), Uid(6));
        // A rebuild keeps what the index of before still has.
        assert_eq!(opened.snapshot().len(), 5);
        assert!(store.body(blobs[2]).is_ok());
        assert_eq!(store.body(blobs[4]), Err(StoreError::DamagedBody));
        run(async {
            assert_eq!(deliver(&store, a, 6).await, Uid(6));
        });
        close(store);
        // And when the index goes too, the log alone knows it.
        remove_index(&dir);
        let store = open(&dir);
        run(async {
            assert_eq!(deliver(&store, a, 7).await, Uid(7));
            let made = store.mailbox_create(a, "New", None).await.unwrap();
            assert_eq!(made.0, 8, "a number of a mailbox came twice");
            let status = store.mailbox_status(key(&store, a, "New")).unwrap();
            assert!(status.uid_validity > validity);
        });
        close(store);
    }
}

#[test]
fn one_damaged_body_is_one_damaged_message() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a, _) = filled(&dir);
    let inbox = key(&store, a, "INBOX");
    let blob = store.message(inbox, Uid(9)).unwrap().unwrap().blob;
    let place = store.shared().blob(blob).unwrap().unwrap().place;
    close(store);
    for offset in [place.offset + 3, place.offset + place.stored_len - 2] {
        flip(&segment(&dir), offset);
    }
    remove_index(&dir);
    let store = open(&dir);
    let opened = store.mailbox(inbox).unwrap();
    assert_eq!(opened.snapshot().len(), 70);
    for n in 1..=70 {
        let blob = store.message(inbox, Uid(n)).unwrap().unwrap().blob;
        assert_eq!(store.body(blob).is_ok(), n != 9, "{n}");
    }
}

#[test]
fn whatever_step_of_a_rebuild_was_the_last_the_store_opens() {
    let home = tempfile::tempdir().unwrap();
    let origin = home.path().join("origin");
    let store = open(&origin);
    run(async {
        let [a, _] = accounts(&store).await;
        deliver(&store, a, 0).await;
    });
    close(store);
    // As far as a rebuild had come.
    let part = home.path().join("part");
    copy_dir(&origin.join("index"), &part);
    let store = open(&origin);
    run(async {
        for n in 1..9 {
            deliver(&store, AccountId(1), n).await;
        }
    });
    let before = dump(&store);
    close(store);
    type Step = fn(&Path, &Path);
    let steps: [(&str, Step); 6] = [
        ("nothing", |_, _| ()),
        ("moved", |dir, _| {
            std::fs::rename(dir.join("index"), dir.join("index.bad-0")).unwrap();
        }),
        ("made", |dir, _| {
            std::fs::rename(dir.join("index"), dir.join("index.bad-0")).unwrap();
            std::fs::create_dir(dir.join("index-1")).unwrap();
        }),
        ("partly filled", |dir, part| {
            std::fs::rename(dir.join("index"), dir.join("index.bad-0")).unwrap();
            copy_dir(part, &dir.join("index-1"));
        }),
        ("not moved", |dir, part| {
            copy_dir(part, &dir.join("index-1"))
        }),
        ("removed", |dir, _| {
            std::fs::remove_dir_all(dir.join("index")).unwrap()
        }),
    ];
    for (what, step) in steps {
        for mark in [true, false] {
            let dir = home.path().join("copy");
            copy_dir(&origin, &dir);
            step(&dir, &part);
            if mark {
                std::fs::write(dir.join("rebuild-index"), b"").unwrap();
            }
            for again in 0..3 {
                let store = open(&dir);
                assert_eq!(dump(&store), before, "{what} {mark} {again}");
                close(store);
                if again == 1 {
                    remove_index(&dir);
                }
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
}

#[test]
fn an_index_of_another_store_is_not_taken() {
    let home = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| home.path().join(name));
    let (store, a, before) = filled(&one);
    close(store);
    let store = open(&other);
    run(async {
        let [b, _] = accounts(&store).await;
        deliver(&store, b, 0).await;
    });
    close(store);
    remove_index(&one);
    copy_dir(&other.join("index"), &one.join("index"));
    let store = open(&one);
    assert!(store.status().rebuilt);
    assert_eq!(dump(&store), before);
    run(async { assert_eq!(deliver(&store, a, 1).await, Uid(71)) });
}

#[test]
fn a_store_whose_log_is_gone_does_not_start_empty() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, _, before) = filled(&dir);
    close(store);
    let log = dir.join("log");
    std::fs::rename(&log, home.path().join("away")).unwrap();
    for _ in 0..2 {
        // Beside its index, and without it.
        let error = Store::open(options(&dir), Telemetry::new().unwrap()).err();
        assert!(matches!(error, Some(OpenError::LogMissing { .. })));
        remove_index(&dir);
        let _ = std::fs::remove_dir_all(&log);
    }
    std::fs::rename(home.path().join("away"), &log).unwrap();
    // The file with the id may be lost as well, or the segment's header damaged: not both.
    std::fs::remove_file(dir.join("store-id")).unwrap();
    close(open(&dir));
    assert!(dir.join("store-id").exists());
    flip(&segment(&dir), 30);
    let store = open(&dir);
    assert_eq!(dump(&store), before);
}

#[test]
fn uid_validity_never_repeats() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut store = open(&dir);
    let mut last = 0;
    for round in 0..4 {
        run(async {
            let [a, b] = match round {
                0 => accounts(&store).await,
                _ => {
                    let add = |name: &str| {
                        store.account_add(Address::parse(name).unwrap(), "hash".into())
                    };
                    [
                        add("a@x.test").await.unwrap(),
                        add("b@x.test").await.unwrap(),
                    ]
                }
            };
            let mut all = Vec::new();
            for account in [a, b] {
                for info in &store.mailboxes(account).unwrap().mailboxes {
                    all.push(info.uid_validity.0);
                }
            }
            assert!(all.iter().all(|v| *v > last), "{all:?} {last}");
            last = all.iter().copied().max().unwrap();
            store.account_remove(a).await.unwrap();
            store.account_remove(b).await.unwrap();
        });
        if round == 1 {
            close(store);
            remove_index(&dir);
            store = open(&dir);
        }
    }
}

#[test]
fn files_of_large_bodies_that_nobody_has_go() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a, before) = filled(&dir);
    assert_eq!(blob_files(&dir), 1);
    run(async {
        // Refused after the file was written, and given up while it waits.
        let gone = store.deliver(large(5), UnixMillis(1), vec![to(AccountId(99))]);
        assert_eq!(gone.await, Err(StoreError::NoAccount));
        assert_eq!(blob_files(&dir), 1);
    });
    // A crash between the file and the group.
    let settled = large(7).settle(&store.shared().blobs).unwrap();
    std::mem::forget(settled);
    assert_eq!(blob_files(&dir), 2);
    close(store);
    let store = open(&dir);
    assert_eq!(blob_files(&dir), 1);
    assert_eq!(dump(&store), before);
    // The last message that has it goes.
    run(async {
        let sent = store.deliver(large(9), UnixMillis(1), vec![to(a), to(a)]);
        let sent = sent.await.unwrap();
        let inbox = key(&store, a, "INBOX");
        for (n, done) in sent.iter().enumerate() {
            let deleted = vec![Flag::System(SystemFlags::DELETED)];
            let set = UidSet::single(done.uid.0);
            let change = store.store_flags(inbox, set, FlagAction::Add, deleted, None);
            change.await.unwrap();
            store.expunge(inbox, None).await.unwrap();
            if n == 0 {
                std::thread::sleep(Duration::from_millis(1500));
                assert_eq!(blob_files(&dir), 2, "one message still has it");
            }
        }
    });
    until("the file goes after a checkpoint", || blob_files(&dir) == 1);
    assert_eq!(dump(&store).len(), before.len(), "nothing else is gone");
    // A record that is lost is no reason to remove a file.
    let b = AccountId(2);
    let inbox = key(&store, b, "INBOX");
    let blob = store.message(inbox, Uid(1)).unwrap().unwrap().blob;
    lose(&store, keys::blob(blob));
    close(store);
    let store = open(&dir);
    assert_eq!(blob_files(&dir), 1);
    until("the record is back", || store.body(blob).is_ok());
}

#[test]
fn large_mail_is_refused_before_it_is_written() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a, _) = filled(&dir);
    close(store);
    let mut full = options(&dir);
    full.config.reserve_bytes = u64::MAX - 1;
    full.config.reserve_percent = 100;
    let store = Store::open(full, Telemetry::new().unwrap()).unwrap();
    run(async {
        let refused = store.deliver(large(1), UnixMillis(1), vec![to(a)]);
        assert_eq!(refused.await, Err(StoreError::DiskFull));
    });
    assert_eq!(blob_files(&dir), 1);
}
