//! A log that has lost groups in its middle: what an index of before still knows is kept, what
//! nobody knows any more costs no more than itself.

use super::faults::break_index;
use super::repair::{close, deliver, flip, indexes, lose, remove_index, segment, until};
use super::*;
use crate::store::log::faulty;
use crate::types::LogPos;

fn end(store: &Store) -> LogPos {
    store.shared().ring.end()
}

/// The operations of the group that ends there can't be read any more.
fn damage(dir: &Path, end: LogPos) {
    assert_eq!(end.segment, 1);
    flip(&segment(dir), end.offset - 3);
}

fn next(store: &Store, account: AccountId) -> (u32, u32) {
    let status = store.mailbox_status(key(store, account, "INBOX")).unwrap();
    (status.messages, status.uid_next.0)
}

async fn keyword(store: &Store, inbox: MailboxKey, uid: u32, word: &str) -> LogPos {
    let words = vec![Flag::Keyword(word.into())];
    let set = UidSet::single(uid);
    let change = store.store_flags(inbox, set, FlagAction::Add, words, None);
    change.await.unwrap();
    end(store)
}

fn words(store: &Store, inbox: MailboxKey, uid: u32) -> Vec<String> {
    super::keywords::words(store, inbox, uid)
}

fn add(store: &Store, name: &str) -> AccountId {
    run(store.account_add(Address::parse(name).unwrap(), "h".into())).unwrap()
}

/// A running process builds its index anew beside a damaged log: nothing of what was to be seen
/// goes, and no number comes twice.
#[test]
fn a_rebuild_keeps_what_the_log_has_lost() {
    for doubted in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let store = open(&dir);
        let [a, b] = run(accounts(&store));
        let inbox = key(&store, b, "INBOX");
        run(async {
            for n in 1..=5 {
                deliver(&store, b, n).await;
            }
        });
        let fifth = end(&store);
        run(async { keyword(&store, inbox, 2, "$word").await });
        let word = end(&store);
        let c = add(&store, "c@x.test");
        let account = end(&store);
        run(async { store.mailbox_create(a, "Late", None).await.unwrap() });
        let late = key(&store, a, "Late");
        let mailbox = end(&store);
        run(async {
            for n in 1..=3 {
                deliver(&store, a, n).await;
            }
        });
        for end in [fifth, word, account, mailbox] {
            damage(&dir, end);
        }
        let before = dump(&store);
        if !doubted {
            break_index(&store, u32::MAX, false);
        }
        let index = store.shared().index.load_full();
        if doubted {
            // Something else of the old index is gone: that comes from the log.
            lose(&store, keys::message(key(&store, a, "INBOX"), Uid(2)));
            store.shared().forget();
            assert!(store.mailbox(key(&store, a, "INBOX")).is_err());
        } else {
            run(async { deliver(&store, c, 1).await });
        }
        until("rebuilt", || {
            !Arc::ptr_eq(&index, &store.shared().index.load_full())
                && !store.shared().rebuild_is_wanted()
                && store.is_writable()
                && !dir.join("rebuild-index").exists()
        });
        drop(index);
        if doubted {
            assert_eq!(dump(&store), before);
        }
        until("told", || store.status().lost_groups == 4);
        let unknown = Address::parse("nobody@x.test").unwrap();
        assert_eq!(store.resolve(&unknown), Resolution::NoUser);
        assert_eq!(next(&store, b), (5, 6));
        assert_eq!(words(&store, inbox, 2), ["$word"]);
        run(async { assert_eq!(deliver(&store, b, 6).await, Uid(6)) });
        let text = dump(&store);
        close(store);
        let store = open(&dir);
        assert!(!store.status().rebuilt);
        assert_eq!(dump(&store), text);
        let validity = store.mailbox_status(late).unwrap().uid_validity;
        close(store);
        // And when the index goes too, the log alone knows the numbers.
        remove_index(&dir);
        let store = open(&dir);
        assert_eq!(next(&store, b), (5, 7));
        assert_eq!(store.resolve(&unknown), Resolution::Unsure);
        assert_eq!(store.status().lost_groups, 4);
        assert_eq!(add(&store, "d@x.test").0, c.0 + 1);
        run(async { store.mailbox_create(a, "New", None).await.unwrap() });
        let made = key(&store, a, "New");
        assert_eq!(made.mailbox.0, late.mailbox.0 + 1);
        assert!(store.mailbox_status(made).unwrap().uid_validity > validity);
    }
}

/// The same where a start has to build it: the index of before is there and can be read.
#[test]
fn a_rebuild_at_start_keeps_what_the_log_has_lost() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let [a, b] = run(accounts(&store));
    run(async {
        deliver(&store, a, 1).await;
        deliver(&store, b, 1).await;
    });
    damage(&dir, end(&store));
    run(async { deliver(&store, a, 2).await });
    let before = dump(&store);
    close(store);
    std::fs::write(dir.join("rebuild-index"), b"").unwrap();
    let store = open(&dir);
    assert!(store.status().rebuilt);
    assert_eq!(dump(&store), before);
    assert_eq!(indexes(&dir).len(), 1);
    run(async { assert_eq!(deliver(&store, b, 2).await, Uid(2)) });
    reopen_as_it_is(&dir, store);
}

fn reopen_as_it_is(dir: &Path, store: Store) -> Store {
    let before = dump(&store);
    close(store);
    let store = open(dir);
    assert!(!store.status().rebuilt);
    assert_eq!(dump(&store), before);
    store
}

/// The group that gave a keyword its place is lost, and no index of before is there.
#[test]
fn a_lost_keyword_leaves_the_mailbox_usable() {
    // The first of two, or the last one.
    for lost in [0, 1] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let store = open(&dir);
        let [_, b] = run(accounts(&store));
        let inbox = key(&store, b, "INBOX");
        let ends = run(async {
            for n in 1..=4 {
                deliver(&store, b, n).await;
            }
            let ends = [
                keyword(&store, inbox, 1, "kwA").await,
                keyword(&store, inbox, 2, "kwB").await,
            ];
            keyword(&store, inbox, 3, ["kwA", "kwB"][lost]).await;
            ends
        });
        close(store);
        damage(&dir, ends[lost]);
        remove_index(&dir);
        let store = open(&dir);
        let index = store.shared().index.load_full();
        let snapshot = store.mailbox(inbox).unwrap().snapshot();
        assert_eq!(snapshot.len(), 4);
        let names = snapshot.keywords();
        assert!(names.iter().all(|name| !name.is_empty()), "{names:?}");
        let kept = [(2, "kwB"), (1, "kwA")][lost];
        assert_eq!(words(&store, inbox, kept.0), [kept.1]);
        run(async {
            assert_eq!(deliver(&store, b, 5).await, Uid(5));
            keyword(&store, inbox, 5, "kwC").await;
        });
        assert_eq!(words(&store, inbox, 5), ["kwC"]);
        assert!(store.status().lost_groups > 0);
        let same = Arc::ptr_eq(&index, &store.shared().index.load_full());
        assert!(same && !store.shared().rebuild_is_wanted());
        drop(index);
        // The same from the log again.
        reopen(&dir, store);
    }
}

/// What no replay makes and no repair explains still opens: it is put in order by the rebuild
/// that it asks for, and shown.
#[test]
fn a_mailbox_that_does_not_add_up_is_put_in_order() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let [a, b] = run(accounts(&store));
    let inbox = key(&store, b, "INBOX");
    run(async { deliver(&store, b, 1).await });
    let first = end(&store);
    run(async {
        deliver(&store, b, 2).await;
        keyword(&store, inbox, 2, "kwA").await;
        deliver(&store, a, 1).await;
    });
    // Of two messages the log has lost the first, and the index a record of the mailbox.
    damage(&dir, first);
    for record in [
        keys::in_mailbox(b'K', inbox, 0),
        keys::in_mailbox(b'f', inbox, 0),
    ] {
        lose(&store, record);
    }
    store.shared().forget();
    assert!(store.mailbox(inbox).is_err());
    until("rebuilt", || store.mailbox(inbox).is_ok());
    assert_eq!(next(&store, b), (2, 3));
    assert_eq!(words(&store, inbox, 2), ["kwA"]);
    until("writable", || {
        store.is_writable() && !dir.join("rebuild-index").exists()
    });
    assert_eq!(store.status().mended_mailboxes, 1);
    run(async { assert_eq!(deliver(&store, b, 3).await, Uid(3)) });
    reopen_as_it_is(&dir, store);
}

/// One transaction, three recipients, and the account of one of them is lost.
#[test]
fn a_lost_account_takes_no_mail_of_others_with_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let [a, b] = run(accounts(&store));
    let zoe = add(&store, "zoe@x.test");
    let made = end(&store);
    run(async {
        for n in 0..3 {
            let all = vec![to(zoe), to(a), to(b)];
            let sent = store.deliver(mail(&format!("{n}")), UnixMillis(1), all);
            sent.await.unwrap();
        }
    });
    let nobody = Address::parse("nobody@x.test").unwrap();
    assert_eq!(store.resolve(&nobody), Resolution::NoUser);
    close(store);
    damage(&dir, made);
    remove_index(&dir);
    let store = open(&dir);
    for account in [a, b] {
        assert_eq!(next(&store, account), (3, 4));
    }
    // Nobody knows whether there was such an account.
    let address = Address::parse("zoe@x.test").unwrap();
    assert_eq!(store.resolve(&address), Resolution::Unsure);
    let store = reopen_as_it_is(&dir, store);
    assert_eq!(store.resolve(&address), Resolution::Unsure);
    let elsewhere = Address::parse("zoe@y.test").unwrap();
    assert_eq!(store.resolve(&elsewhere), Resolution::NotLocal);
}

/// What a lost account had comes to nobody else.
#[test]
fn the_number_of_a_lost_account_is_not_given_again() {
    // Mail alone tells of the account, or what it made.
    for mail_only in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let store = open(&dir);
        run(accounts(&store));
        let zoe = add(&store, "zoe@x.test");
        let made = end(&store);
        run(async {
            if mail_only {
                deliver(&store, zoe, 1).await;
            } else {
                store.mailbox_create(zoe, "Private", None).await.unwrap();
                store.subscribe(zoe, "Secret", true).await.unwrap();
            }
        });
        close(store);
        damage(&dir, made);
        remove_index(&dir);
        let store = open(&dir);
        let other = add(&store, "other@x.test");
        assert_eq!(other.0, zoe.0 + 1);
        let before = dump(&store);
        assert!(!before.contains("Private") && !before.contains("Secret"));
        reopen(&dir, store);
    }
}

/// One bad sector in the middle of the log stops neither a start nor a rebuild nor a feed.
#[test]
fn a_sector_that_can_not_be_read_costs_what_it_holds() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let [a, _] = run(accounts(&store));
    let start = end(&store);
    run(async {
        for n in 0..60 {
            deliver(&store, a, n).await;
        }
    });
    close(store);
    let middle = std::fs::metadata(segment(&dir)).unwrap().len() / 2;
    faulty::make_unreadable(&segment(&dir), middle..middle + 512);
    for rebuilt in [false, true] {
        let store = open(&dir);
        assert_eq!(store.status().rebuilt, rebuilt);
        assert_eq!(next(&store, a), (60, 61));
        let mut feed = store.feed(Some(start));
        let told = run(async {
            let mut told = 0;
            loop {
                told += 1;
                let changes = feed.next().await.unwrap().changes;
                if matches!(changes[0], Change::Arrived { uid: Uid(60), .. }) {
                    return told;
                }
            }
        });
        assert!((40..60).contains(&told), "{told}");
        close(store);
        std::fs::write(dir.join("rebuild-index"), b"").unwrap();
    }
    remove_index(&dir);
    let store = open(&dir);
    let (messages, uid_next) = next(&store, a);
    assert!((40..60).contains(&messages), "{messages}");
    assert_eq!(uid_next, 61);
    run(async { assert_eq!(deliver(&store, a, 61).await, Uid(61)) });
}
