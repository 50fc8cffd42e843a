//! State images, rebuilds from them, and compaction: what was acknowledged stays.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

pub(super) fn quiet() -> Progress {
    Box::new(|_| {})
}

fn remove_index(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("index") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

fn images(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(dir.join("image"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    all.sort();
    all
}

fn log_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir.join("log")).unwrap().flatten();
    entries.map(|e| e.metadata().unwrap().len()).sum()
}

/// Noise, which does not get smaller.
pub(super) fn noise(n: u32, len: usize) -> Prepared {
    let mut state = u64::from(n) + 1;
    let mut text = format!("Subject: {n}\r\n\r\n").into_bytes();
    text.extend(
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(len),
    );
    Prepared::from_bytes(text.into())
}

/// UID, flags and body of all messages.
fn content(store: &Store, mailbox: MailboxKey) -> Vec<(u32, u16, Vec<u8>)> {
    let snapshot = store.mailbox(mailbox).unwrap().snapshot();
    let mut all = Vec::new();
    for (_, message) in snapshot.iter() {
        let record = store.message(mailbox, message.uid).unwrap().unwrap();
        let body = store
            .body_range(mailbox, message.uid, record.blob, 0..u64::MAX)
            .unwrap();
        all.push((message.uid.0, message.flags.system.0, body.to_vec()));
    }
    all
}

#[test]
fn a_rebuild_begins_with_the_image() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let inbox = run(async {
        let [a, _] = accounts(&store).await;
        for n in 0..50 {
            let stored = store.deliver(mail(&n.to_string()), UnixMillis(1), vec![to(a)]);
            stored.await.unwrap();
        }
        let taken = store.take_image(quiet()).await.unwrap();
        assert_eq!(taken.messages, 50);
        for n in 50..60 {
            let stored = store.deliver(mail(&n.to_string()), UnixMillis(1), vec![to(a)]);
            stored.await.unwrap();
        }
        key(&store, a, "INBOX")
    });
    let before = content(&store, inbox);
    assert_eq!(before.len(), 60);
    run(store.close());
    drop(store);
    remove_index(&dir);
    let store = open(&dir);
    assert_eq!(content(&store, inbox), before);
    assert!(store.status().rebuilt);
    assert!(store.status().replayed_frames <= 10, "{:?}", store.status());
    assert_eq!(store.status().lost_groups, 0);
    run(store.close());
}

#[test]
fn an_image_is_of_one_moment_while_mail_comes_in() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let [a, b] = runtime.block_on(accounts(&store));
    runtime.block_on(async {
        let mut writers = Vec::new();
        for account in [a, b] {
            let (store, stop) = (store.clone(), stop.clone());
            writers.push(tokio::spawn(async move {
                let inbox = key(&store, account, "INBOX");
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let sent =
                        store.deliver(mail(&n.to_string()), UnixMillis(1), vec![to(account)]);
                    let uid = sent.await.unwrap()[0].uid;
                    if n % 3 == 0 {
                        let uids = UidSet::from_ranges([(uid.0 / 2, uid.0)]);
                        let flags = vec![Flag::System(SystemFlags::DELETED)];
                        store
                            .store_flags(inbox, uids, FlagAction::Add, flags, None)
                            .await
                            .unwrap();
                        store.expunge(inbox, None).await.unwrap();
                    }
                }
            }));
        }
        for _ in 0..5 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            store.take_image(quiet()).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    });
    let boxes = [key(&store, a, "INBOX"), key(&store, b, "INBOX")];
    let before = boxes.map(|inbox| content(&store, inbox));
    runtime.block_on(store.close());
    drop(store);
    remove_index(&dir);
    let store = open(&dir);
    assert_eq!(boxes.map(|inbox| content(&store, inbox)), before);
    runtime.block_on(store.close());
}

#[test]
fn a_damaged_image_has_a_copy_and_a_log() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let inbox = run(async {
        let [a, _] = accounts(&store).await;
        for n in 0..20 {
            let stored = store.deliver(mail(&n.to_string()), UnixMillis(1), vec![to(a)]);
            stored.await.unwrap();
        }
        store.take_image(quiet()).await.unwrap();
        key(&store, a, "INBOX")
    });
    let before = content(&store, inbox);
    run(store.close());
    drop(store);
    let all = images(&dir);
    assert_eq!(all.len(), 2);
    for image in all {
        let mut bytes = std::fs::read(&image).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&image, bytes).unwrap();
        remove_index(&dir);
        let store = open(&dir);
        assert_eq!(content(&store, inbox), before);
        assert_eq!(store.status().lost_groups, 0);
        run(store.close());
    }
}

#[test]
fn an_index_from_before_the_image_is_not_trusted() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (old, new) = (dir.join("index"), home.path().join("old"));
    let store = open(&dir);
    let (a, inbox) = run(async {
        let [a, _] = accounts(&store).await;
        (a, key(&store, a, "INBOX"))
    });
    run(store.close());
    drop(store);
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .args([&old, &new])
            .status()
            .unwrap()
            .success()
    );
    let store = open(&dir);
    run(async {
        for n in 0..300 {
            let stored = store.deliver(noise(n, 2000), UnixMillis(1), vec![to(a)]);
            stored.await.unwrap();
        }
        store.compact(quiet()).await.unwrap();
    });
    let before = content(&store, inbox);
    run(store.close());
    drop(store);
    remove_index(&dir);
    std::fs::rename(&new, &old).unwrap();
    let store = open(&dir);
    assert!(store.status().rebuilt);
    assert_eq!(content(&store, inbox), before);
    assert_eq!(store.status().lost_groups, 0);
    run(store.close());
}

#[test]
fn after_half_of_the_mail_is_gone_so_is_its_room() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let inbox = run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        for n in 0..400 {
            let stored = store.deliver(noise(n, 3000), UnixMillis(1), vec![to(a)]);
            stored.await.unwrap();
        }
        let uids = (1..=400).filter(|n| n % 2 == 0).collect();
        let flags = vec![Flag::System(SystemFlags::DELETED)];
        let marked = store.store_flags(inbox, uids, FlagAction::Add, flags, None);
        marked.await.unwrap();
        store.expunge(inbox, None).await.unwrap();
        inbox
    });
    let before = content(&store, inbox);
    let live: u64 = before.iter().map(|(.., body)| body.len() as u64).sum();
    assert!(log_bytes(&dir) > 19 * live / 10);
    // What the last rebuild could not put right is not forgotten with a new index.
    store.shared().note_damage(Some(3));
    let done = run(store.compact(quiet())).unwrap();
    assert_eq!(store.status().mended_mailboxes, 3);
    store.shared().note_damage(Some(0));
    assert!(done.segments > 5, "{done:?}");
    assert!(log_bytes(&dir) * 10 < 13 * live, "{done:?}");
    assert_eq!(content(&store, inbox), before);
    // Once more: there is nothing to do.
    let again = run(store.compact(quiet())).unwrap();
    assert_eq!(again.moved_bytes, 0, "{again:?}");
    run(store.close());
    drop(store);
    for without_index in [false, true] {
        if without_index {
            remove_index(&dir);
        }
        let store = open(&dir);
        assert_eq!(content(&store, inbox), before);
        assert_eq!(store.status().lost_groups, 0);
        run(store.close());
    }
}

#[test]
fn what_a_worker_has_not_read_stays() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        let mut feed = store.feed(None);
        for n in 0..300 {
            let stored = store.deliver(noise(n, 2000), UnixMillis(1), vec![to(a)]);
            stored.await.unwrap();
        }
        store.account_remove(a).await.unwrap();
        let done = store.compact(quiet()).await.unwrap();
        assert_eq!(done.segments, 0, "{done:?}");
        let mut arrived = 0;
        while arrived < 300 {
            arrived += feed.next().await.unwrap().changes.len();
        }
        let at = store.shared().ring.end();
        store
            .update(vec![Update::Cursor(Worker::Push, at)])
            .await
            .unwrap();
        let done = store.compact(quiet()).await.unwrap();
        assert!(done.segments > 5, "{done:?}");
        assert!(done.after_bytes < 20_000, "{done:?}");
    });
    run(store.close());
}

#[test]
fn there_is_an_image_from_before_another_version() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let inbox = run(async {
        let [a, _] = accounts(&store).await;
        let stored = store.deliver(mail("1"), UnixMillis(1), vec![to(a)]);
        stored.await.unwrap();
        key(&store, a, "INBOX")
    });
    let before = content(&store, inbox);
    run(store.close());
    drop(store);
    let open_again = || {
        let store = open(&dir);
        assert_eq!(content(&store, inbox), before);
        run(store.close());
    };
    open_again();
    assert!(!dir.join("image").exists());
    std::fs::write(dir.join("program"), "posthorn 0.0.1\n").unwrap();
    open_again();
    assert_eq!(images(&dir).len(), 2);
}

/// As where what is counted changed, and nobody thought of the version.
#[test]
fn an_image_with_other_sums_opens_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let inbox = run(async {
        let [a, _] = accounts(&store).await;
        let stored = store.deliver(mail("1"), UnixMillis(1), vec![to(a)]);
        stored.await.unwrap();
        key(&store, a, "INBOX")
    });
    let before = content(&store, inbox);
    let mut index = Vec::new();
    store
        .shared()
        .scan(b"", &mut |key, value| {
            index.push((key.to_vec(), value.to_vec()));
            Ok(())
        })
        .unwrap();
    index.retain(|(key, _)| super::super::image::tally::concerns(key));
    for (key, value) in &mut index {
        if key[..] == *check::KEY {
            *value = keys::encode(&check::Sums::default()).unwrap();
        }
    }
    let at = store.shared().index.load().applied().unwrap().unwrap();
    let header = super::super::image::format::Header {
        schema: engine::SCHEMA,
        store_id: at.store,
        at: at.at,
        seq: at.seq,
        made: UnixMillis(1),
    };
    let bytes = super::super::image::format::write(header, &index);
    run(store.close());
    drop(store);
    remove_index(&dir);
    std::fs::create_dir_all(dir.join("image")).unwrap();
    std::fs::write(dir.join(format!("image/image-{:020}", at.seq)), bytes).unwrap();
    let store = open(&dir);
    assert_eq!(content(&store, inbox), before);
    assert!(run(store.check(true, quiet())).unwrap().problems.is_empty());
    run(store.close());
}

#[test]
fn an_index_that_has_grown_is_built_anew_while_mail_comes_in() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let [a, b] = runtime.block_on(accounts(&store));
    let (inbox, other) = (key(&store, a, "INBOX"), key(&store, b, "INBOX"));
    let stop = Arc::new(AtomicBool::new(false));
    let sent = runtime.block_on(async {
        // What is removed leaves its room in sled.
        for n in 0..40 {
            let many = (0..100).map(|m| {
                let store = store.clone();
                let mail = mail(&format!("{n} {m} {}", "x".repeat(300)));
                tokio::spawn(async move {
                    let stored = store.deliver(mail, UnixMillis(1), vec![to(a)]);
                    stored.await.unwrap();
                })
            });
            for one in many.collect::<Vec<_>>() {
                one.await.unwrap();
            }
        }
        let all = UidSet::from_ranges([(11, u32::MAX)]);
        let flags = vec![Flag::System(SystemFlags::DELETED)];
        let marked = store.store_flags(inbox, all, FlagAction::Add, flags, None);
        marked.await.unwrap();
        store.expunge(inbox, None).await.unwrap();
        let opened = store.mailbox(other).unwrap();
        let (writing, ended) = (store.clone(), stop.clone());
        let writer = tokio::spawn(async move {
            let mut sent = 0;
            while !ended.load(Ordering::Relaxed) {
                let stored = writing.deliver(mail("more"), UnixMillis(1), vec![to(b)]);
                stored.await.unwrap();
                sent += 1;
            }
            sent
        });
        let done = store.compact(quiet()).await.unwrap();
        assert!(
            done.index_after_bytes * 2 < done.index_before_bytes,
            "{done:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        stop.store(true, Ordering::Relaxed);
        let sent: u32 = writer.await.unwrap();
        assert_eq!(opened.snapshot().len(), sent);
        sent
    });
    let before = [inbox, other].map(|mailbox| content(&store, mailbox));
    assert_eq!([before[0].len(), before[1].len()], [10, sent as usize]);
    assert!(runtime.block_on(store.check(true, quiet())).unwrap().ok);
    runtime.block_on(store.close());
    drop(store);
    let entries = std::fs::read_dir(&dir).unwrap().flatten();
    let indexes = entries.filter(|e| e.file_name().to_string_lossy().starts_with("index"));
    assert_eq!(indexes.count(), 1);
    let store = open(&dir);
    assert!(!store.status().rebuilt);
    assert_eq!(
        [inbox, other].map(|mailbox| content(&store, mailbox)),
        before
    );
    runtime.block_on(store.close());
}
