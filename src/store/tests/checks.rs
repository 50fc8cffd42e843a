//! Checks of the whole store, and bodies that are damaged.

use super::images::{noise, quiet};
use super::*;

fn check(store: &Store, deep: bool) -> CheckReport {
    run(store.check(deep, quiet())).unwrap()
}

/// Where the body of the message lies.
fn place(store: &Store, mailbox: MailboxKey, uid: u32) -> (u64, u64) {
    let record = store.message(mailbox, Uid(uid)).unwrap().unwrap();
    let place = store.shared().blob(record.blob).unwrap().unwrap().place;
    (place.segment, place.offset + place.stored_len / 2)
}

fn flip(dir: &Path, (segment, offset): (u64, u64)) {
    use std::os::unix::fs::FileExt;
    let path = |kind: &str| dir.join(format!("log/{kind}-{segment:012}"));
    let open = |path| std::fs::File::options().read(true).write(true).open(path);
    let file = open(path("seg")).or_else(|_| open(path("blob"))).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

fn body(store: &Store, mailbox: MailboxKey, uid: u32) -> Result<Bytes, StoreError> {
    let record = store.message(mailbox, Uid(uid)).unwrap().unwrap();
    store.body_range(mailbox, Uid(uid), record.blob, 0..u64::MAX)
}

fn filled(dir: &Path) -> (Store, MailboxKey) {
    let store = open(dir);
    let inbox = run(async {
        let [a, _] = accounts(&store).await;
        for n in 0..60 {
            let stored = store.deliver(noise(n, 3000), UnixMillis(1), vec![to(a)]);
            stored.await.unwrap();
        }
        // In a file of its own.
        let large = store.deliver(noise(99, 5 << 20), UnixMillis(1), vec![to(a)]);
        large.await.unwrap();
        key(&store, a, "INBOX")
    });
    (store, inbox)
}

#[test]
fn all_is_well() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, _) = filled(&dir);
    run(store.take_image(quiet())).unwrap();
    for deep in [false, true] {
        let report = check(&store, deep);
        assert!(report.ok, "{report:?}");
        assert_eq!((report.messages, report.bodies, report.images), (61, 61, 2));
        assert_eq!(report.bodies_read, if deep { 61 } else { 0 });
    }
    run(store.close());
}

#[test]
fn a_damaged_body_is_found_remembered_and_forgotten() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, inbox) = filled(&dir);
    let struck = [3, 40, 61].map(|uid| (uid, place(&store, inbox, uid)));
    for (_, place) in struck {
        flip(&dir, place);
    }
    assert!(check(&store, false).ok);
    let report = check(&store, true);
    assert!(!report.ok);
    let mut uids: Vec<u32> = report.damaged.iter().map(|d| d.uid).collect();
    uids.sort_unstable();
    assert_eq!(uids, [3, 40, 61]);
    assert!(
        report
            .damaged
            .iter()
            .all(|d| d.account == "a@x.test" && d.mailbox == "INBOX")
    );
    for uid in [3, 40, 61] {
        assert_eq!(body(&store, inbox, uid), Err(StoreError::DamagedBody));
    }
    assert!(body(&store, inbox, 4).is_ok());
    // Compaction leaves what it can't copy.
    let marked = run(store.store_flags(
        inbox,
        UidSet::from_ranges([(4, 39), (41, 60)]),
        FlagAction::Add,
        vec![Flag::System(SystemFlags::DELETED)],
        None,
    ));
    marked.unwrap();
    run(store.expunge(inbox, None)).unwrap();
    let done = run(store.compact(quiet())).unwrap();
    assert_eq!(done.damaged_segments, 2, "{done:?}");
    run(store.close());
    drop(store);

    let store = open(&dir);
    let report = check(&store, false);
    assert_eq!((report.ok, report.damaged_bodies), (false, 3), "{report:?}");
    // Restored, as from a backup.
    flip(&dir, struck[0].1);
    assert_eq!(check(&store, true).damaged_bodies, 2);
    assert!(body(&store, inbox, 3).is_ok());
    // Gone.
    let flags = vec![Flag::System(SystemFlags::DELETED)];
    let all = UidSet::from_ranges([(1, 61)]);
    run(store.store_flags(inbox, all, FlagAction::Add, flags, None)).unwrap();
    run(store.expunge(inbox, None)).unwrap();
    let report = check(&store, false);
    assert!(report.ok, "{report:?}");
    run(store.close());
    drop(store);
    let store = open(&dir);
    assert!(check(&store, true).ok);
    run(store.close());
}

#[test]
fn an_index_that_does_not_add_up_is_built_anew() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, inbox) = filled(&dir);
    run(store.take_image(quiet())).unwrap();
    let record = store.message(inbox, Uid(5)).unwrap().unwrap();
    let victims = [
        keys::message(inbox, Uid(5)),
        keys::mailbox(b'M', inbox),
        keys::in_mailbox(b'f', inbox, 0),
        keys::blob(record.blob),
        b"g".to_vec(),
    ];
    for key in victims {
        let index = (**store.shared().index.load()).clone();
        let at = index.applied().unwrap().unwrap();
        index.apply(vec![(key.clone(), None)], at).unwrap();
        let report = check(&store, false);
        assert!(!report.ok, "{key:?}");
        // The committer looks after it within a second; a change makes it look at once.
        for _ in 0..200 {
            if !store.shared().rebuild_is_wanted() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let report = check(&store, true);
        assert!(report.ok, "{key:?} {report:?}");
        assert_eq!(report.messages, 61);
    }
    run(store.close());
}

#[test]
fn a_damaged_image_is_told() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, _) = filled(&dir);
    run(store.take_image(quiet())).unwrap();
    for entry in std::fs::read_dir(dir.join("image")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let report = check(&store, false);
    assert_eq!(report.problems.len(), 2, "{report:?}");
    run(store.take_image(quiet())).unwrap();
    assert!(check(&store, false).ok);
    run(store.close());
}
