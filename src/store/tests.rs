//! The store as its users see it: what was answered is there after reopening, with the index
//! and without it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

mod backups;
mod checks;
mod damaged;
mod expunged;
mod faults;
mod fulltext;
mod images;
mod import;
mod keywords;
mod large;
mod quota;
mod readers;
mod repair;
mod shared;

use super::*;
use crate::config::StoreConfig;
use crate::telemetry::Telemetry;
use crate::types::{
    AccountId, Address, BlobId, Domain, Flag, MailboxId, MailboxKey, ModSeq, SystemFlags, Uid,
    UidSet, UnixMillis,
};

/// For whom messages come in.
const STRANGER: Whose = Whose::Peer(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        config: StoreConfig {
            segment_bytes: 64 * 1024,
            reserve_bytes: 0,
            cache_bytes: 4 << 20,
            ..StoreConfig::default()
        },
        subaddress_separator: '+',
    }
}

fn open(dir: &Path) -> Store {
    Store::open(options(dir), Telemetry::new().unwrap()).unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn mail(text: &str) -> Prepared {
    Prepared::from_bytes(Bytes::from(format!("Subject: {text}\r\n\r\n{text}\r\n")))
}

fn to(account: AccountId) -> Recipient {
    let prefix = b"Delivered-To: x@x.test\r\n".to_vec();
    Recipient {
        account,
        mailbox: None,
        flags: vec![],
        prefix,
    }
}

async fn accounts(store: &Store) -> [AccountId; 2] {
    store
        .domain_add(Domain::parse("x.test").unwrap())
        .await
        .unwrap();
    let add = |name: &str| store.account_add(Address::parse(name).unwrap(), "hash".into());
    let both = [
        add("a@x.test").await.unwrap(),
        add("b@x.test").await.unwrap(),
    ];
    // From here on it is moved, and compared by `dump`.
    for account in both {
        assert_eq!(store.usage(account), Ok(Usage::default()));
    }
    both
}

fn key(store: &Store, account: AccountId, name: &str) -> MailboxKey {
    store
        .mailboxes(account)
        .unwrap()
        .find(name)
        .unwrap_or_else(|| panic!("{name}"))
        .key
}

impl Store {
    /// Of any message that has it.
    fn body(&self, blob: BlobId) -> Result<Bytes, StoreError> {
        let mut found = None;
        self.shared().scan(b"m", &mut |key, value| {
            let record: MessageRecord = keys::decode(value)?;
            if record.blob == blob {
                let number = |at: usize| u32::from_be_bytes(*key[at..].first_chunk().unwrap());
                let (account, mailbox) = (AccountId(number(1)), MailboxId(number(5)));
                found = Some((MailboxKey { account, mailbox }, Uid(number(9))));
            }
            Ok(())
        })?;
        let (mailbox, uid) = found.ok_or(StoreError::DamagedBody)?;
        self.body_range(mailbox, uid, blob, 0..u64::MAX)
    }
}

/// Everything that a user can see, as text.
fn dump(store: &Store) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let directory = store.directory();
    let mut accounts: Vec<_> = directory.accounts().collect();
    accounts.sort_by_key(|a| a.id);
    for account in accounts {
        writeln!(out, "{account:?} {:?}", store.devices(account.id).unwrap()).unwrap();
        let (quota, removal) = (directory.quota(account.id), directory.removal(account.id));
        writeln!(out, "{quota:?} {removal:?} {:?}", store.usage(account.id)).unwrap();
        let mut sum = Usage::default();
        let list = store.mailboxes(account.id).unwrap();
        writeln!(out, "missing {:?}", list.subscribed_missing).unwrap();
        for info in &list.mailboxes {
            let status = store.mailbox_status(info.key).unwrap();
            writeln!(out, "{info:?} {status:?}").unwrap();
            sum.bytes += status.size;
            sum.messages += u64::from(status.messages);
            let snapshot = store.mailbox(info.key).unwrap().snapshot();
            writeln!(out, "keywords {:?}", snapshot.keywords()).unwrap();
            let gone = store.expunged_since(info.key, ModSeq(1)).unwrap();
            // In as many letters whatever went.
            let gone = crc32fast::hash(format!("{gone:?}").as_bytes());
            writeln!(out, "gone {gone:08x}").unwrap();
            let (acl, mut notes) = (directory.acl(info.key), Vec::new());
            let note = &mut |name: &str, value| notes.push((name.to_owned(), value));
            store
                .annotations(About::Mailbox(info.key), "", note)
                .unwrap();
            writeln!(out, "{acl:?} {notes:?}").unwrap();
            let mut records = BTreeMap::new();
            store
                .scan_messages(info.key, 1..=u32::MAX, &mut |uid, r| {
                    records.insert(uid, r).is_none()
                })
                .unwrap();
            assert_eq!(records.len() as u32, snapshot.len());
            for (seq, message) in snapshot.iter() {
                let record = &records[&message.uid];
                let body = store.body_range(info.key, message.uid, record.blob, 0..u64::MAX);
                let body = body.unwrap();
                assert_eq!(record.size, (record.prefix.len() + body.len()) as u64);
                writeln!(out, "{seq} {message:?} {} {:?}", record.saved.0, body).unwrap();
            }
        }
        assert_eq!(store.usage(account.id), Ok(sum));
    }
    let mut aliases: Vec<_> = directory.aliases().map(|a| format!("{a:?}")).collect();
    aliases.sort();
    writeln!(out, "{aliases:?} {:?}", store.outbox().unwrap()).unwrap();
    out
}

/// Closes, opens with the index, then without it: all three must look the same.
fn reopen(dir: &Path, store: Store) -> Store {
    let before = dump(&store);
    run(store.close());
    drop(store);
    let store = open(dir);
    assert!(!store.status().rebuilt);
    assert_eq!(dump(&store), before, "after a reopen");
    run(store.close());
    drop(store);
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("index") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    let store = open(dir);
    assert!(store.status().rebuilt);
    assert_eq!(dump(&store), before, "after a rebuild");
    store
}

#[test]
fn one_of_everything_survives() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, b] = accounts(&store).await;
        let delivered = store
            .deliver(mail("one"), UnixMillis(5000), vec![to(a), to(b), to(a)])
            .await
            .unwrap();
        assert_eq!(
            delivered.iter().map(|d| d.uid.0).collect::<Vec<_>>(),
            [1, 1, 2]
        );
        let inbox = key(&store, a, "inbox");
        let opened = store.mailbox(inbox).unwrap();
        let told = opened.snapshot();
        let mut watch = opened.watch();
        let flags = vec![
            Flag::System(SystemFlags::SEEN),
            Flag::Keyword("$Work".into()),
        ];
        let changed = store
            .store_flags(
                inbox,
                UidSet::from_ranges([(1, 9)]),
                FlagAction::Add,
                flags,
                None,
            )
            .await
            .unwrap();
        assert_eq!(changed.changed.len(), 2);
        // The wake comes after the answer.
        let woken = tokio::time::timeout(std::time::Duration::from_secs(20), watch.changed());
        woken.await.expect("woken").unwrap();
        let diff = told.diff(&opened.snapshot());
        assert_eq!((diff.changed.len(), diff.keywords_changed), (2, true));
        store
            .mailbox_create(a, "Lists/rust/dev", None)
            .await
            .unwrap();
        assert_eq!(
            store.mailbox_create(a, "lists", None).await.map(|_| ()),
            Ok(())
        );
        assert_eq!(
            store.mailbox_create(a, "Lists/rust", None).await,
            Err(StoreError::Exists)
        );
        let lists = key(&store, a, "Lists/rust");
        let copied = store.copy(inbox, UidSet::single(2), lists).await.unwrap();
        assert_eq!((copied.source, copied.target), (vec![Uid(2)], vec![Uid(1)]));
        let moved = store
            .move_messages(inbox, UidSet::from_ranges([(1, 1), (7, 9)]), lists)
            .await
            .unwrap();
        assert_eq!((moved.source, moved.target), (vec![Uid(1)], vec![Uid(2)]));
        assert_eq!(opened.snapshot().len(), 1);
        store.mailbox_rename(a, "Lists", "Old/Lists").await.unwrap();
        assert_eq!(key(&store, a, "Old/Lists/rust"), lists);
        store.mailbox_delete(a, "Old/Lists/rust/dev").await.unwrap();
        store.subscribe(a, "Nowhere", true).await.unwrap();
        assert_eq!(
            store.mailbox_delete(a, "inbox").await,
            Err(StoreError::Invalid("INBOX can't be deleted"))
        );
        let deleted = vec![Flag::System(SystemFlags::DELETED)];
        store
            .store_flags(lists, UidSet::single(1), FlagAction::Add, deleted, None)
            .await
            .unwrap();
        assert_eq!(store.expunge(lists, None).await, Ok(vec![Uid(1)]));
        store
            .append(lists, mail("kept"), vec![], UnixMillis(77_000), -90)
            .await
            .unwrap();
        let alias = Alias {
            address: Address::parse("all@x.test").unwrap(),
            targets: vec![
                Address::parse("a@x.test").unwrap(),
                Address::parse("b@x.test").unwrap(),
            ],
        };
        store.alias_put(alias).await.unwrap();
        store.mailbox_rename(b, "INBOX", "2026").await.unwrap();
        assert_eq!(
            store
                .mailbox(key(&store, b, "INBOX"))
                .unwrap()
                .snapshot()
                .len(),
            0
        );
        assert_eq!(
            store
                .mailbox(key(&store, b, "2026"))
                .unwrap()
                .snapshot()
                .len(),
            1
        );
        // A name used again gets another UIDVALIDITY.
        let before = store
            .mailbox_status(key(&store, b, "2026"))
            .unwrap()
            .uid_validity;
        store.mailbox_delete(b, "2026").await.unwrap();
        store.mailbox_create(b, "2026", None).await.unwrap();
        assert!(
            store
                .mailbox_status(key(&store, b, "2026"))
                .unwrap()
                .uid_validity
                > before
        );
    });
    let store = reopen(&dir, store);
    run(async {
        let a = store
            .directory()
            .account_by_address(&Address::parse("A@x.test").unwrap())
            .unwrap()
            .id;
        let inbox = key(&store, a, "INBOX");
        // UIDs go on where they were.
        let delivered = store
            .deliver(mail("two"), UnixMillis(1), vec![to(a)])
            .await
            .unwrap();
        assert_eq!(delivered[0].uid, Uid(3));
        store.account_remove(a).await.unwrap();
        assert!(matches!(store.mailbox(inbox), Err(StoreError::NoMailbox)));
        assert_eq!(
            store.deliver(mail("x"), UnixMillis(1), vec![to(a)]).await,
            Err(StoreError::NoAccount)
        );
    });
    reopen(&dir, store);
}

#[test]
fn devices_outbox_cursor_and_settings() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        let device = Device {
            id: crate::types::DeviceId(0),
            account: a,
            name: "phone".into(),
            kind: DeviceKind::WebPush {
                endpoint: "https://p.test/x".into(),
                p256dh: vec![4; 65],
                auth: vec![1; 16],
                vapid_key: vec![],
            },
            state: DeviceState::Active,
            show: ContentLevel::default(),
            created: UnixMillis(1),
            last_success: None,
            last_failure: None,
            last_error: None,
            failures: 0,
        };
        let id = store.device_add(device.clone(), 32).await.unwrap();
        let entry = OutboxEntry {
            key: OutboxKey {
                account: a,
                device: id,
                slot: WakeSlot::Test,
            },
            uids: vec![Uid(1)],
            count: 1,
            caused: UnixMillis(1),
            due: UnixMillis(1),
            expires: UnixMillis(2),
            attempts: 0,
        };
        let lost = OutboxEntry {
            key: OutboxKey {
                device: crate::types::DeviceId(99),
                ..entry.key
            },
            ..entry.clone()
        };
        store
            .update(vec![
                Update::OutboxPut(entry.clone()),
                Update::OutboxPut(lost),
                Update::SettingPut("k".into(), vec![7]),
            ])
            .await
            .unwrap();
        assert_eq!(store.outbox().unwrap(), std::slice::from_ref(&entry));
        // All or none.
        let missing = Device {
            id: crate::types::DeviceId(99),
            ..device.clone()
        };
        let both = vec![
            Update::OutboxRemove(entry.key),
            Update::DevicePut(Box::new(missing)),
        ];
        assert_eq!(store.update(both).await, Err(StoreError::NoDevice));
        assert_eq!(store.outbox().unwrap().len(), 1);
        for _ in 1..32 {
            store.device_add(device.clone(), 32).await.unwrap();
        }
        assert!(matches!(
            store.device_add(device, 32).await,
            Err(StoreError::Limit(_))
        ));
    });
    let store = reopen(&dir, store);
    assert_eq!(store.setting("k").unwrap(), Some(vec![7]));
    run(async {
        let entry = store.outbox().unwrap().remove(0);
        store
            .update(vec![Update::DeviceRemove(
                entry.key.account,
                entry.key.device,
            )])
            .await
            .unwrap();
        assert!(store.outbox().unwrap().is_empty());
    });
}

#[test]
fn a_feed_misses_nothing_over_a_restart_and_a_small_ring() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut small = options(&dir);
    small.config.feed_groups = 2;
    let store = Store::open(small.clone(), Telemetry::new().unwrap()).unwrap();
    run(async {
        let [a, _] = accounts(&store).await;
        let mut feed = store.feed(None);
        for n in 1..=10 {
            store
                .deliver(mail("x"), UnixMillis(n), vec![to(a)])
                .await
                .unwrap();
        }
        let mut at = None;
        for n in 1..=10 {
            let group = feed.next().await.unwrap();
            assert!(
                matches!(group.changes[..], [Change::Arrived { uid: Uid(u), source: Source::Delivery, .. }] if u == n)
            );
            if n == 4 {
                at = Some(group.end);
            }
        }
        store
            .update(vec![Update::Cursor(Worker::Push, at.unwrap())])
            .await
            .unwrap();
        store.close().await;
    });
    drop(store);
    let store = Store::open(small, Telemetry::new().unwrap()).unwrap();
    run(async {
        let mut feed = store.feed(store.cursor(Worker::Push).unwrap());
        for n in 5..=10 {
            let group = feed.next().await.unwrap();
            assert!(matches!(group.changes[..], [Change::Arrived { uid: Uid(u), .. }] if u == n));
        }
        let a = AccountId(1);
        let (next, _) = tokio::join!(
            feed.next(),
            store.deliver(mail("y"), UnixMillis(9), vec![to(a)])
        );
        assert!(matches!(
            next.unwrap().changes[..],
            [Change::Arrived { uid: Uid(11), .. }]
        ));
    });
}

#[test]
fn a_second_server_is_refused_and_a_large_body_is_read_in_part() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    match Store::open(options(&dir), Telemetry::new().unwrap()) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{:?}", other.map(|_| ())),
    }
    let mut raw = b"Subject: large\r\n\r\n".to_vec();
    let mut n = 1u64;
    while raw.len() < 6 << 20 {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        raw.extend_from_slice(&n.to_le_bytes());
    }
    run(async {
        let [a, _] = accounts(&store).await;
        let mut spool = store.spool(10_000);
        raw.chunks(7000).skip(1).for_each(|piece| spool.push(piece));
        let large = spool.finish(raw[..7000].to_vec(), STRANGER).await.unwrap();
        store
            .deliver(large, UnixMillis(1), vec![to(a)])
            .await
            .unwrap();
        let inbox = key(&store, a, "INBOX");
        let blob = store.message(inbox, Uid(1)).unwrap().unwrap().blob;
        assert_eq!(
            store
                .body_range(inbox, Uid(1), blob, 5_000_000..5_000_100)
                .unwrap(),
            raw[5_000_000..5_000_100]
        );
        assert!(store.body(blob).unwrap() == raw);
    });
    reopen(&dir, store);
}

#[test]
fn mail_is_refused_when_the_disk_is_nearly_full_and_reading_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        store
            .deliver(mail("x"), UnixMillis(1), vec![to(a)])
            .await
            .unwrap();
        assert!(store.has_room(1) && !store.has_room(u64::MAX));
        store.close().await;
    });
    drop(store);
    let mut full = options(&dir);
    full.config.reserve_bytes = u64::MAX;
    full.config.reserve_percent = 100;
    let store = Store::open(full, Telemetry::new().unwrap()).unwrap();
    assert!(!store.has_room(0));
    run(async {
        let a = AccountId(1);
        let inbox = key(&store, a, "INBOX");
        assert_eq!(
            store.deliver(mail("x"), UnixMillis(1), vec![to(a)]).await,
            Err(StoreError::DiskFull)
        );
        assert_eq!(
            store
                .append(inbox, mail("x"), vec![], UnixMillis(1), 0)
                .await,
            Err(StoreError::DiskFull)
        );
        let deleted = vec![Flag::System(SystemFlags::DELETED)];
        store
            .store_flags(inbox, UidSet::single(1), FlagAction::Add, deleted, None)
            .await
            .unwrap();
        assert_eq!(store.expunge(inbox, None).await, Ok(vec![Uid(1)]));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(bool),
    Flag(u8, u32, u32),
    Copy(u32, u32),
    Move(u32, u32),
    Expunge,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Deliver),
        3 => (0..32u8, 1..40u32, 0..20u32).prop_map(|(f, a, n)| Step::Flag(f, a, n)),
        2 => (1..40u32, 0..20u32).prop_map(|(a, n)| Step::Copy(a, n)),
        2 => (1..40u32, 0..20u32).prop_map(|(a, n)| Step::Move(a, n)),
        1 => Just(Step::Expunge),
        1 => Just(Step::Reopen),
    ]
}

/// UID → system flags, of INBOX and Archive.
type Model = [(u32, BTreeMap<u32, u16>); 2];

fn seen(store: &Store, keys: [MailboxKey; 2]) -> Model {
    keys.map(|key| {
        let snapshot = store.mailbox(key).unwrap().snapshot();
        let messages = snapshot
            .iter()
            .map(|(_, m)| (m.uid.0, m.flags.system.0))
            .collect();
        (snapshot.uid_next().0, messages)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_agree_with_a_simple_model(steps in prop::collection::vec(step(), 1..40)) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let mut store = open(&dir);
        let [a, _] = run(accounts(&store));
        let boxes = [key(&store, a, "INBOX"), key(&store, a, "Archive")];
        let mut model: Model = [(1, BTreeMap::new()), (1, BTreeMap::new())];
        for step in steps {
            let range = |at: u32, n: u32| (UidSet::from_ranges([(at, at + n)]), at..=at + n);
            match step {
                Step::Deliver(twice) => {
                    let many = if twice { vec![to(a), to(a)] } else { vec![to(a)] };
                    for _ in &many {
                        let next = model[0].0;
                        model[0].1.insert(next, 0);
                        model[0].0 += 1;
                    }
                    run(store.deliver(mail("m"), UnixMillis(1), many)).unwrap();
                }
                Step::Flag(bits, at, n) => {
                    let (set, uids) = range(at, n);
                    let flags = SystemFlags::ALL.iter().filter(|(f, _)| f.0 & u16::from(bits) != 0);
                    let flags = flags.map(|(f, _)| Flag::System(*f)).collect();
                    run(store.store_flags(boxes[0], set, FlagAction::Replace, flags, None)).unwrap();
                    for (_, flags) in model[0].1.range_mut(uids) {
                        *flags = u16::from(bits);
                    }
                }
                Step::Copy(at, n) | Step::Move(at, n) => {
                    let (set, uids) = range(at, n);
                    let found: Vec<_> = model[0].1.range(uids).map(|(u, f)| (*u, *f)).collect();
                    for (uid, flags) in found {
                        let next = model[1].0;
                        model[1].1.insert(next, flags);
                        model[1].0 += 1;
                        if matches!(step, Step::Move(..)) {
                            model[0].1.remove(&uid);
                        }
                    }
                    match step {
                        Step::Copy(..) => run(store.copy(boxes[0], set, boxes[1])).unwrap(),
                        _ => run(store.move_messages(boxes[0], set, boxes[1])).unwrap(),
                    };
                }
                Step::Expunge => {
                    run(store.expunge(boxes[0], None)).unwrap();
                    model[0].1.retain(|_, flags| *flags & SystemFlags::DELETED.0 == 0);
                }
                Step::Reopen => store = reopen(&dir, store),
            }
            prop_assert_eq!(&seen(&store, boxes), &model);
        }
        run(store.close());
    }
}

#[test]
fn many_tasks_commit_in_groups_and_each_gets_its_own_uid() {
    let home = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&home.path().join("data")));
    run(async {
        let [a, _] = accounts(&store).await;
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    store
                        .deliver(mail(&n.to_string()), UnixMillis(1), vec![to(a)])
                        .await
                        .unwrap()[0]
                        .uid
                })
            })
            .collect();
        let mut uids = Vec::new();
        for task in tasks {
            uids.push(task.await.unwrap().0);
        }
        uids.sort_unstable();
        assert_eq!(uids, (1..=200).collect::<Vec<_>>());
    });
}
