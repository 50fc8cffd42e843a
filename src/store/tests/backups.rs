//! Backups: at any time the directory has one that is whole, and what is restored is what was
//! there.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::backup::{self, BackedUp, BackupError, How, Source, make_on};
use super::disk::{Disk, DiskFile, Listed, RealDisk, Stamp};
use super::images::quiet;
use super::*;

mod archives;
mod crashing;

use crashing::{Crashing, Failing};

fn nobody(_: u64, _: u64) {}

fn how(group: u64, copy: bool) -> How {
    How {
        copy,
        rate: 0,
        group,
    }
}

fn back_up(store: &Store, data: &Path, dir: &Path, copy: bool) -> Result<BackedUp, BackupError> {
    let hold = run(store.hold(quiet())).unwrap();
    backup::to_directory(data, dir, how(hold.group, copy), &|| true, &nobody)
}

fn archive(store: &Store, data: &Path) -> Vec<u8> {
    let hold = run(store.hold(quiet())).unwrap();
    let mut out = Vec::new();
    backup::to_archive(data, &mut out, how(hold.group, false), &|| true, &nobody).unwrap();
    out
}

fn unpack(archive: &[u8], data: &Path) -> Result<backup::Restored, BackupError> {
    unless_forked(|| {
        let source = Source::Archive(Box::new(io::Cursor::new(archive.to_vec())), "it".into());
        backup::restore(source, data, false, &nobody)
    })
}

fn restore(dir: &Path, data: &Path) -> Result<backup::Restored, BackupError> {
    unless_forked(|| backup::restore(Source::Directory(dir.to_owned()), data, false, &nobody))
}

/// A process that another test starts has a lock that was let go of for as long as it takes to
/// start.
fn unless_forked(
    restore: impl Fn() -> Result<backup::Restored, BackupError>,
) -> Result<backup::Restored, BackupError> {
    for _ in 0..100 {
        match restore() {
            Err(BackupError::Store(OpenError::Locked { .. })) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done => return done,
        }
    }
    restore()
}

/// Problems that a check finds; also those that keep it from looking.
fn problems(path: &Path, deep: bool) -> Vec<String> {
    match backup::check(path, deep, &nobody) {
        Ok(report) => {
            assert_eq!(report.ok, report.problems.is_empty());
            report.problems
        }
        Err(error) => vec![error.to_string()],
    }
}

/// Messages that do not get smaller, some of which go; one has a file of its own.
async fn fill(store: &Store, account: AccountId, from: u32, large: bool) {
    let inbox = key(store, account, "INBOX");
    for n in from..from + 60 {
        let mut text = format!("Subject: {n}\r\n\r\n").into_bytes();
        let len = match large && n == from {
            true => 5 << 20,
            false => 3000,
        };
        let mut state = u64::from(n) + 1;
        text.extend(
            std::iter::repeat_with(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .take(len),
        );
        let message = Prepared::from_bytes(text.into());
        let sent = store.deliver(message, UnixMillis(u64::from(n)), vec![to(account)]);
        let uid = sent.await.unwrap()[0].uid;
        let flags = match n % 4 {
            0 => vec![Flag::System(SystemFlags::DELETED)],
            _ => vec![
                Flag::System(SystemFlags::SEEN),
                Flag::parse("$Label1").unwrap(),
            ],
        };
        let uids = UidSet::from_ranges([(uid.0, uid.0)]);
        store
            .store_flags(inbox, uids, FlagAction::Add, flags, None)
            .await
            .unwrap();
    }
    store.expunge(inbox, None).await.unwrap();
}

struct Home {
    dir: tempfile::TempDir,
    store: Store,
    account: AccountId,
}

impl Home {
    fn new(large: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("data"));
        let account = run(async {
            let [a, _] = accounts(&store).await;
            fill(&store, a, 1, large).await;
            let alias = Alias {
                address: Address::parse("all@x.test").unwrap(),
                targets: vec![Address::parse("a@x.test").unwrap()],
            };
            store.alias_put(alias).await.unwrap();
            a
        });
        Self {
            dir,
            store,
            account,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// What a store there has; it is closed again.
    fn content(&self, name: &str) -> String {
        let store = open(&self.path(name));
        assert_eq!(store.status().lost_groups, 0);
        let content = dump(&store);
        run(store.close());
        content
    }
}

#[test]
fn what_is_restored_is_what_was_there() {
    let home = Home::new(true);
    let before = dump(&home.store);
    for (copy, name) in [(false, "linked"), (true, "copied")] {
        let made = back_up(&home.store, &home.data(), &home.path(name), copy).unwrap();
        assert_eq!(made.missing, 0);
        assert_eq!(made.linked.bytes > 0, !copy, "{made:?}");
        for deep in [false, true] {
            assert_eq!(problems(&home.path(name), deep), Vec::<String>::new());
        }
    }
    let packed = archive(&home.store, &home.data());
    std::fs::write(home.path("archive"), &packed).unwrap();
    for deep in [false, true] {
        assert_eq!(problems(&home.path("archive"), deep), Vec::<String>::new());
    }
    // What comes later is not in it, though files may be linked.
    run(fill(&home.store, home.account, 1000, false));
    let restored = restore(&home.path("linked"), &home.path("a")).unwrap();
    assert_eq!((restored.accounts, restored.messages), (2, 45));
    restore(&home.path("copied"), &home.path("b")).unwrap();
    unpack(&packed, &home.path("c")).unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(home.content(name), before, "{name}");
        assert!(!home.path(name).join("restore.tmp").exists());
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.path(name)), 0o700);
        for file in std::fs::read_dir(home.path(name).join("log")).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        // And it goes on from there.
        let store = open(&home.path(name));
        run(fill(&store, home.account, 2000, false));
        run(store.close());
        assert_eq!(problems(&home.path("linked"), true), Vec::<String>::new());
    }
    run(home.store.close());
}

#[test]
fn the_second_backup_copies_only_what_is_new() {
    let home = Home::new(true);
    let (data, dir) = (home.data(), home.path("backup"));
    for copy in [true, false] {
        let first = back_up(&home.store, &data, &dir, copy).unwrap();
        assert!(first.copied.bytes + first.linked.bytes > 200_000 || !copy);
        let again = back_up(&home.store, &data, &dir, copy).unwrap();
        assert_eq!(again.copied.files + again.linked.files, 0, "{again:?}");
        run(async {
            let sent = home
                .store
                .deliver(mail("one"), UnixMillis(1), vec![to(home.account)]);
            sent.await.unwrap();
        });
        let third = back_up(&home.store, &data, &dir, copy).unwrap();
        // The newest segment and the state image.
        assert_eq!(third.copied.files + third.linked.files, 2, "{third:?}");
        assert!(third.copied.bytes < 30_000, "{third:?}");
        assert_eq!(problems(&dir, true), Vec::<String>::new());
    }
    // A restored store goes on with the same directory.
    restore(&dir, &home.path("moved")).unwrap();
    let moved = open(&home.path("moved"));
    run(fill(&moved, home.account, 5000, false));
    let next = back_up(&moved, &home.path("moved"), &dir, true).unwrap();
    assert!(next.kept.bytes > 5 << 20, "{next:?}");
    assert_eq!(problems(&dir, true), Vec::<String>::new());
    let before = dump(&moved);
    run(moved.close());
    restore(&dir, &home.path("again")).unwrap();
    assert_eq!(home.content("again"), before);
    // The first store is behind it now.
    let error = back_up(&home.store, &data, &dir, true).unwrap_err();
    assert!(error.to_string().contains("newer state"), "{error}");
    // And when it has come as far in another way, too.
    run(fill(&home.store, home.account, 7000, false));
    run(fill(&home.store, home.account, 8000, false));
    let error = back_up(&home.store, &data, &dir, true).unwrap_err();
    assert!(error.to_string().contains("restored"), "{error}");
    assert_eq!(problems(&dir, true), Vec::<String>::new());
    run(home.store.close());
}

#[test]
fn nothing_goes_while_files_are_held() {
    let home = Home::new(false);
    let hold = run(home.store.hold(quiet())).unwrap();
    assert_eq!(home.store.status().backups_running, 1);
    let files = |name: &str| {
        let mut all: Vec<_> = std::fs::read_dir(home.data().join(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        all.sort();
        all
    };
    let before = (files("log"), files("image"));
    let inbox = key(&home.store, home.account, "INBOX");
    run(async {
        let flags = vec![Flag::System(SystemFlags::DELETED)];
        let all = UidSet::from_ranges([(1, u32::MAX)]);
        let marked = home
            .store
            .store_flags(inbox, all, FlagAction::Add, flags, None);
        marked.await.unwrap();
        home.store.expunge(inbox, None).await.unwrap();
        let refused = home.store.compact(quiet()).await.unwrap_err();
        assert!(refused.to_string().contains("backup"), "{refused}");
        for _ in 0..3 {
            home.store.take_image(quiet()).await.unwrap();
            let sent = home
                .store
                .deliver(mail("x"), UnixMillis(1), vec![to(home.account)]);
            sent.await.unwrap();
        }
    });
    let (log, image) = (files("log"), files("image"));
    assert!(before.0.iter().all(|name| log.contains(name)));
    assert!(before.1.iter().all(|name| image.contains(name)));
    drop(hold);
    assert_eq!(home.store.status().backups_running, 0);
    let done = run(home.store.compact(quiet())).unwrap();
    assert!(done.segments > 0, "{done:?}");
    assert!(!files("image").contains(&before.1[0]));
    let holds: Vec<_> = (0..4)
        .map(|_| run(home.store.hold(quiet())).unwrap())
        .collect();
    assert!(run(home.store.hold(quiet())).is_err());
    drop(holds);
    run(home.store.close());
}

/// With the times of files, as `cp -a`.
fn copy_tree(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        let modified = RealDisk.stamp(from).unwrap().modified;
        return RealDisk.set_modified(to, modified).unwrap();
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy_tree(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
fn a_backup_that_is_cut_off_leaves_the_older_or_the_newer_one() {
    let home = Home::new(true);
    let (data, older) = (home.data(), home.path("older"));
    back_up(&home.store, &data, &older, true).unwrap();
    let first = backup::check(&older, false, &nobody).unwrap().group;
    run(async {
        fill(&home.store, home.account, 100, true).await;
        let done = home.store.compact(quiet()).await.unwrap();
        assert!(done.segments > 0, "{done:?}");
        fill(&home.store, home.account, 200, false).await;
    });
    let before = dump(&home.store);
    let hold = run(home.store.hold(quiet())).unwrap();
    for copy in [true, false] {
        let (mut points, mut older_left, mut newer_left) = (0, 0, 0);
        // Also over what the one before has left behind.
        let resumed = home.path("resumed");
        copy_tree(&older, &resumed);
        loop {
            let dir = home.path("now");
            copy_tree(&older, &dir);
            let attempt = |dir: &Path| {
                let disk = Crashing(Arc::new(Failing {
                    left: AtomicUsize::new(points),
                }));
                let how = how(hold.group, copy);
                make_on(&RealDisk, &data, &disk, dir, how, &|| true, &nobody).is_ok()
            };
            let done = attempt(&dir);
            attempt(&resumed);
            for dir in [&dir, &resumed] {
                assert_eq!(problems(dir, true), Vec::<String>::new(), "after {points}");
                let group = backup::check(dir, false, &nobody).unwrap().group;
                assert!([first, hold.group].contains(&group), "after {points}");
                match group == first {
                    true => older_left += 1,
                    false => newer_left += 1,
                }
            }
            std::fs::remove_dir_all(&dir).unwrap();
            points += 1;
            if done {
                break;
            }
        }
        assert!(points > 30 && older_left > 30 && newer_left > 3, "{points}");
        back_up(&home.store, &data, &resumed, copy).unwrap();
        let left: Vec<_> = std::fs::read_dir(&resumed)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| {
                !["backup", "image", "log", "store-id"].contains(&name.to_str().unwrap())
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let name = format!("restored-{copy}");
        restore(&resumed, &home.path(&name)).unwrap();
        assert_eq!(home.content(&name), before);
        std::fs::remove_dir_all(&resumed).unwrap();
    }
    drop(hold);
    run(home.store.close());
}

#[test]
fn the_first_backup_is_resumed() {
    let home = Home::new(false);
    let hold = run(home.store.hold(quiet())).unwrap();
    let dir = home.path("backup");
    let mut points = 0;
    loop {
        std::fs::create_dir_all(&dir).unwrap();
        let disk = Crashing(Arc::new(Failing {
            left: AtomicUsize::new(points),
        }));
        let how = how(hold.group, true);
        let made = make_on(&RealDisk, &home.data(), &disk, &dir, how, &|| true, &nobody);
        let error = restore(&dir, &home.path("none"));
        if made.is_ok() {
            break;
        }
        let told = dir.join("backup").exists();
        assert_eq!(error.is_err(), !told, "{points}");
        if told {
            std::fs::remove_dir_all(home.path("none")).unwrap();
        }
        // Whatever is left there, it is known to be ours.
        let made = backup::to_directory(&home.data(), &dir, how, &|| true, &nobody);
        made.unwrap();
        assert_eq!(problems(&dir, true), Vec::<String>::new());
        std::fs::remove_dir_all(&dir).unwrap();
        points += 1;
    }
    assert!(points > 20);
    drop(hold);
    run(home.store.close());
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = (at % bytes.len() as u64) as usize;
    bytes[at] ^= 0x10;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_newer_programs_backup_is_refused() {
    let home = Home::new(false);
    let dir = home.path("backup");
    back_up(&home.store, &home.data(), &dir, true).unwrap();
    let path = dir.join("backup");
    let text = std::fs::read_to_string(&path).unwrap();
    let (text, _) = text.rsplit_once("end ").unwrap();
    let newer = text.replace("form frame ", "form frame 9");
    assert_ne!(newer, text);
    let crc = crc32fast::hash(newer.as_bytes());
    std::fs::write(&path, format!("{newer}end {crc:08x}\n")).unwrap();
    assert!(problems(&dir, false)[0].contains("newer posthorn (frame 9"));
    let error = restore(&dir, &home.path("new")).unwrap_err();
    assert!(error.to_string().contains("newer posthorn"), "{error}");
    let error = back_up(&home.store, &home.data(), &dir, true).unwrap_err();
    assert!(error.to_string().contains("newer posthorn"), "{error}");
    run(home.store.close());
}

#[test]
fn damage_of_a_backup_is_seen_and_not_restored() {
    let home = Home::new(true);
    let dir = home.path("backup");
    back_up(&home.store, &home.data(), &dir, true).unwrap();
    let mut files = vec![dir.join("backup"), dir.join("store-id")];
    for name in ["log", "image"] {
        let entries = std::fs::read_dir(dir.join(name)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    assert!(files.len() > 5);
    let bad = home.path("bad");
    for (n, file) in files.iter().enumerate() {
        let name = file.strip_prefix(&dir).unwrap();
        for damage in 0..4 {
            copy_tree(&dir, &bad);
            let path = bad.join(name);
            let mut shallow = true;
            match damage {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => {
                    let len = path.metadata().unwrap().len();
                    let file = std::fs::File::options().write(true).open(&path).unwrap();
                    file.set_len(len - 1).unwrap();
                }
                2 => flip(&path, 20),
                _ => {
                    // Somewhere; of bodies it is seen only when they are read.
                    shallow = !name.starts_with("log");
                    flip(&path, 2000 + n as u64 * 977);
                }
            }
            let what = format!("{} {damage}", name.display());
            assert!(!problems(&bad, true).is_empty(), "{what}");
            assert!(!shallow || !problems(&bad, false).is_empty(), "{what}");
            assert!(restore(&bad, &home.path("no")).is_err(), "{what}");
            assert!(!home.path("no").join("log").exists(), "{what}");
            assert!(!home.path("no").join("restore.tmp").exists(), "{what}");
            std::fs::remove_dir_all(&bad).unwrap();
        }
    }
    // The same place takes a good one then.
    restore(&dir, &home.path("no")).unwrap();
    run(home.store.close());
}

#[test]
fn a_restore_takes_nobodys_place() {
    let home = Home::new(false);
    let dir = home.path("backup");
    back_up(&home.store, &home.data(), &dir, false).unwrap();
    let before = dump(&home.store);
    // A server runs there.
    let error = restore(&dir, &home.data()).unwrap_err().to_string();
    assert!(error.contains("already"), "{error}");
    let aside = |data: &str| {
        let source = Source::Directory(dir.clone());
        backup::restore(source, &home.path(data), true, &nobody)
    };
    let error = aside("data").unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    // What an earlier start has made may be there; another store only if it may be set aside.
    let new = home.path("new");
    let store = open(&new);
    run(accounts(&store));
    let other = dump(&store);
    run(store.close());
    std::fs::create_dir(new.join("tls")).unwrap();
    std::fs::write(new.join("tls/key.pem"), "key").unwrap();
    let error = restore(&dir, &new).unwrap_err().to_string();
    assert!(error.contains("--set-aside"), "{error}");
    let restored = aside("new").unwrap();
    assert_eq!(restored.set_aside, Some(new.join("set-aside-1")));
    assert_eq!(home.content("new"), before);
    assert_eq!(home.content("new/set-aside-1"), other);
    assert!(new.join("tls/key.pem").exists());
    // A directory that is something else.
    std::fs::create_dir(home.path("docs")).unwrap();
    std::fs::write(home.path("docs/letter"), "dear").unwrap();
    for error in [restore(&dir, &home.path("docs")), aside("docs")] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("letter"), "{error}");
    }
    assert_eq!(std::fs::read_dir(home.path("docs")).unwrap().count(), 1);
    let error = back_up(&home.store, &home.data(), &home.path("docs"), false);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("letter"), "{error}");
    let error = back_up(&home.store, &home.data(), &home.data(), false);
    assert!(error.unwrap_err().to_string().contains("not empty"));
    // Another store's backup.
    let store = open(&home.path("third"));
    run(accounts(&store));
    let error = back_up(&store, &home.path("third"), &dir, false).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error}");
    run(store.close());
    assert_eq!(problems(&dir, true), Vec::<String>::new());
    run(home.store.close());
}

#[test]
fn a_restore_that_was_cut_off_begins_anew() {
    let home = Home::new(false);
    let dir = home.path("backup");
    back_up(&home.store, &home.data(), &dir, false).unwrap();
    let before = dump(&home.store);
    let new = home.path("new");
    let staging = new.join("restore.tmp");
    for moved in 0..=3 {
        std::fs::create_dir_all(&staging).unwrap();
        for name in ["log", "image", "store-id", "backup"] {
            copy_tree(&dir.join(name), &staging.join(name));
        }
        for name in ["image", "store-id", "log"].iter().take(moved) {
            std::fs::rename(staging.join(name), new.join(name)).unwrap();
        }
        if moved < 3 {
            // Nothing starts from a part.
            let started = Store::open(options(&new), Telemetry::new().unwrap());
            assert!(matches!(started, Err(OpenError::HalfRestored { .. })));
            restore(&dir, &new).unwrap();
        } else {
            // That one was done.
            assert!(restore(&dir, &new).is_err());
        }
        assert_eq!(home.content("new"), before, "{moved}");
        std::fs::remove_dir_all(&new).unwrap();
    }
    run(home.store.close());
}
