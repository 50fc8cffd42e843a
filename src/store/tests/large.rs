//! Changes of many messages: others come in between, and a failure in the middle is told.

use super::*;
use crate::store::bulk::SLICE;
use crate::store::ops::Op;
use crate::types::LogPos;

const MANY: u32 = 2 * SLICE as u32 + 500;

pub(super) fn all() -> UidSet {
    UidSet::from_ranges([(1, u32::MAX)])
}

pub(super) async fn fill(store: &Store, account: AccountId, count: u32) {
    let mut left = count as usize;
    while left > 0 {
        let part = left.min(500);
        let many: Vec<_> = (0..part).map(|_| to(account)).collect();
        store.deliver(mail("x"), UnixMillis(1), many).await.unwrap();
        left -= part;
    }
}

/// A store with `MANY` messages in INBOX.
fn filled(dir: &Path) -> (Store, AccountId) {
    let store = open(dir);
    let a = run(async {
        let [a, _] = accounts(&store).await;
        fill(&store, a, MANY).await;
        a
    });
    (store, a)
}

fn len(store: &Store, mailbox: MailboxKey) -> u32 {
    store.mailbox(mailbox).unwrap().snapshot().len()
}

/// The changes of each group since `from`.
async fn groups(store: &Store, from: LogPos) -> Vec<usize> {
    let mut feed = store.feed(Some(from));
    let mut sizes = Vec::new();
    let wait = std::time::Duration::from_millis(200);
    while let Ok(group) = tokio::time::timeout(wait, feed.next()).await {
        sizes.push(group.unwrap().changes.len());
    }
    sizes
}

/// Runs `change` while the committer is held up, with a delivery right behind it; gives what is
/// left in `mailbox` when the delivery is answered.
async fn left_when_next_is_served<R>(
    store: &Store,
    mailbox: MailboxKey,
    other: AccountId,
    change: impl Future<Output = Result<R, StoreError>>,
) -> u32 {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let held = store.commit(0, move |_| {
        let _ = gate.recv();
        Ok(())
    });
    let next = async {
        let done = store.deliver(mail("y"), UnixMillis(1), vec![to(other)]);
        done.await.unwrap();
        store.mailbox(mailbox).map_or(0, |m| m.snapshot().len())
    };
    let go = async { open.send(()).unwrap() };
    let (_, changed, left, ()) = tokio::join!(held, change, next, go);
    assert!(changed.is_ok(), "{:?}", changed.err());
    left
}

#[test]
fn who_comes_after_a_large_change_waits_for_a_slice_of_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a) = filled(&dir);
    let b = AccountId(2);
    run(async {
        let [inbox, archive] = ["INBOX", "Archive"].map(|name| key(&store, a, name));
        let from = store.shared().ring.end();
        let moved = store.move_messages(inbox, all(), archive);
        let left = left_when_next_is_served(&store, inbox, b, moved).await;
        assert!(left > 0);
        assert_eq!((len(&store, inbox), len(&store, archive)), (0, MANY));
        let sizes = groups(&store, from).await;
        assert!(sizes.iter().all(|n| *n <= 2 * SLICE + 1), "{sizes:?}");

        let from = store.shared().ring.end();
        let bits = vec![
            Flag::System(SystemFlags::SEEN),
            Flag::System(SystemFlags::DELETED),
        ];
        let flags = store.store_flags(archive, all(), FlagAction::Add, bits, None);
        assert_eq!(flags.await.unwrap().changed.len(), MANY as usize);
        let sizes = groups(&store, from).await;
        assert!(sizes.iter().all(|n| *n <= SLICE), "{sizes:?}");

        store.copy(archive, all(), inbox).await.unwrap();
        let gone = store.expunge(archive, None);
        let left = left_when_next_is_served(&store, archive, b, gone).await;
        assert!(left > 0);
        assert_eq!(len(&store, archive), 0);

        store.mailbox_create(a, "Old", None).await.unwrap();
        let old = key(&store, a, "Old");
        store.copy(inbox, all(), old).await.unwrap();
        let gone = store.mailbox_delete(a, "Old");
        let left = left_when_next_is_served(&store, old, b, gone).await;
        assert!(left > 0);
        assert!(matches!(store.mailbox(old), Err(StoreError::NoMailbox)));

        let renamed = store.mailbox_rename(a, "INBOX", "Old");
        let left = left_when_next_is_served(&store, inbox, b, renamed).await;
        assert!(left > 0);
        assert_eq!(len(&store, key(&store, a, "Old")), MANY);
        assert_eq!(len(&store, inbox), 0);
    });
    reopen(&dir, store);
}

#[test]
fn a_move_into_its_own_mailbox_ends() {
    let home = tempfile::tempdir().unwrap();
    let (store, a) = filled(&home.path().join("data"));
    run(async {
        let inbox = key(&store, a, "INBOX");
        let moved = store.move_messages(inbox, all(), inbox).await.unwrap();
        assert_eq!(moved.source.len(), MANY as usize);
        assert_eq!(len(&store, inbox), MANY);
        let copied = store.copy(inbox, all(), inbox).await.unwrap();
        assert_eq!(copied.source.len(), MANY as usize);
        assert_eq!(len(&store, inbox), 2 * MANY);
    });
}

/// Archive takes no keyword any more, and the last message of INBOX has one.
async fn last_has_no_room(store: &Store, a: AccountId) -> [MailboxKey; 2] {
    let [inbox, archive] = ["INBOX", "Archive"].map(|name| key(store, a, name));
    let word = |n: usize| Flag::Keyword(format!("k{n}"));
    let words = (0..64).map(word).collect();
    store
        .append(archive, mail("x"), words, UnixMillis(1), 0)
        .await
        .unwrap();
    let (last, one) = (UidSet::single(MANY), vec![Flag::Keyword("other".into())]);
    store
        .store_flags(inbox, last, FlagAction::Add, one, None)
        .await
        .unwrap();
    [inbox, archive]
}

#[test]
fn a_move_that_fails_in_the_middle_says_what_was_moved() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a) = filled(&dir);
    run(async {
        let [inbox, archive] = last_has_no_room(&store, a).await;
        let moved = store.move_messages(inbox, all(), archive).await.unwrap();
        assert!(matches!(moved.failed, Some(StoreError::Limit(_))));
        assert_eq!(moved.source.len(), 2 * SLICE);
        assert_eq!(moved.target.len(), 2 * SLICE);
        assert_eq!(len(&store, inbox), 500);
        assert_eq!(len(&store, archive), 2 * SLICE as u32 + 1);
        // Nothing was done: that is an error.
        let again = store.move_messages(inbox, all(), archive).await;
        assert!(matches!(again, Err(StoreError::Limit(_))));
    });
    reopen(&dir, store);
}

#[test]
fn a_copy_that_fails_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a) = filled(&dir);
    run(async {
        let [inbox, archive] = last_has_no_room(&store, a).await;
        // As one, and in slices.
        for whole in [MANY as usize, SLICE] {
            let copied = store.copy_in(whole, inbox, all(), archive).await;
            assert!(matches!(copied, Err(StoreError::Limit(_))));
            assert_eq!(len(&store, archive), 1);
        }
        let few = UidSet::from_ranges([(1, MANY - 1)]);
        let copied = store.copy_in(SLICE, inbox, few, archive).await.unwrap();
        assert_eq!(copied.target.len(), MANY as usize - 1);
        assert_eq!(len(&store, archive), MANY);
    });
    reopen(&dir, store);
}

/// RFC 9051, 6.4.7: also where the last of many is gone.
#[test]
fn a_copy_of_exactly_those_is_whole_or_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a) = filled(&dir);
    run(async {
        let [inbox, archive] = ["INBOX", "Archive"].map(|name| key(&store, a, name));
        let those: Vec<u32> = (1..=MANY).collect();
        let deleted = vec![Flag::System(SystemFlags::DELETED)];
        store
            .store_flags(inbox, UidSet::single(MANY), FlagAction::Add, deleted, None)
            .await
            .unwrap();
        store.expunge(inbox, None).await.unwrap();
        for whole in [MANY as usize, SLICE] {
            let copied = store.copy_those(whole, inbox, those.clone(), archive).await;
            assert!(matches!(copied, Err(StoreError::Expunged)));
            assert_eq!(len(&store, archive), 0);
        }
        let left = those[..those.len() - 1].to_vec();
        for whole in [MANY as usize, SLICE] {
            let copied = store.copy_those(whole, inbox, left.clone(), archive).await;
            assert_eq!(copied.unwrap().target.len(), left.len());
        }
        assert_eq!(len(&store, archive), 2 * (MANY - 1));
    });
    reopen(&dir, store);
}

#[test]
fn a_keyword_without_room_is_set_on_none_of_many() {
    let home = tempfile::tempdir().unwrap();
    let (store, a) = filled(&home.path().join("data"));
    run(async {
        let inbox = key(&store, a, "INBOX");
        let words: Vec<_> = (0..65).map(|n| Flag::Keyword(format!("k{n}"))).collect();
        let before = store.mailbox(inbox).unwrap().snapshot().highest_modseq();
        let refused = store
            .store_flags(inbox, all(), FlagAction::Add, words.clone(), None)
            .await;
        assert!(matches!(refused, Err(StoreError::Limit(_))));
        let after = store.mailbox(inbox).unwrap().snapshot().highest_modseq();
        assert_eq!(before, after);
        let done = store
            .store_flags(inbox, all(), FlagAction::Add, words[1..].to_vec(), None)
            .await;
        assert_eq!(done.unwrap().changed.len(), MANY as usize);
    });
}

#[test]
fn a_large_account_is_closed_at_once_and_goes_in_slices() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (store, a) = filled(&dir);
    run(async {
        let [inbox, archive] = ["INBOX", "Archive"].map(|name| key(&store, a, name));
        store.copy(inbox, all(), archive).await.unwrap();
        let address = Address::parse("a@x.test").unwrap();
        let from = store.shared().ring.end();
        let removed = store.account_remove(a);
        let left = left_when_next_is_served(&store, archive, AccountId(2), removed).await;
        assert!(left > 0);
        assert_eq!(store.resolve(&address), Resolution::NoUser);
        let sizes = groups(&store, from).await;
        assert!(
            sizes.len() > 4 && sizes.iter().all(|n| *n <= SLICE + 1),
            "{sizes:?}"
        );
        // Another one of that name has nothing of it.
        let again = store.account_add(address, "hash".into()).await.unwrap();
        assert_eq!(len(&store, key(&store, again, "INBOX")), 0);
    });
    reopen(&dir, store);
}

#[test]
fn a_full_mailbox_takes_no_more_and_gives_away() {
    let home = tempfile::tempdir().unwrap();
    let mut few = options(&home.path().join("data"));
    few.config.max_messages_per_mailbox = 3;
    let store = Store::open(few, Telemetry::new().unwrap()).unwrap();
    run(async {
        let [a, b] = accounts(&store).await;
        let [inbox, archive] = ["INBOX", "Archive"].map(|name| key(&store, a, name));
        let deliver = |to| store.deliver(mail("x"), UnixMillis(1), to);
        deliver(vec![to(a), to(a)]).await.unwrap();
        assert!(store.has_room_for(a));
        // All or none of one message.
        let two = deliver(vec![to(b), to(a), to(a)]).await;
        assert_eq!(two, Err(StoreError::MailboxFull));
        assert_eq!(len(&store, inbox), 2);
        deliver(vec![to(a)]).await.unwrap();
        assert!(!store.has_room_for(a) && store.has_room_for(b));
        let append = |to| store.append(to, mail("x"), vec![], UnixMillis(1), 0);
        let appended = append(inbox).await;
        assert_eq!(appended, Err(StoreError::MailboxFull));
        append(archive).await.unwrap();
        let copied = store.copy(inbox, all(), archive).await;
        assert!(matches!(copied, Err(StoreError::MailboxFull)));
        let moved = store.move_messages(archive, all(), inbox).await;
        assert!(matches!(moved, Err(StoreError::MailboxFull)));
        assert_eq!((len(&store, inbox), len(&store, archive)), (3, 1));
        // What makes no message more has room.
        store.move_messages(inbox, all(), inbox).await.unwrap();
        store.mailbox_rename(a, "INBOX", "Old").await.unwrap();
        assert!(store.has_room_for(a));
    });
}

#[test]
fn a_rename_of_many_mailboxes_copies_their_list_once() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        for n in 0..30 {
            let name = format!("p/{:02}", (n * 7) % 30);
            store.mailbox_create(a, &name, None).await.unwrap();
        }
        store.subscribe(a, "p/03", true).await.unwrap();
        store.mailbox_rename(a, "p", "q/r").await.unwrap();
        let list = store.mailboxes(a).unwrap();
        let names: Vec<_> = list.mailboxes.iter().map(|m| &m.name[..]).collect();
        assert!(names[1..].is_sorted() && names[0] == "INBOX", "{names:?}");
        assert!(list.find("q/r/03").unwrap().subscribed);
        assert_eq!(list.subscribed_missing, [""; 0]);

        let keys: Vec<_> = list.mailboxes[1..].iter().map(|m| m.key).collect();
        let list = store.commit(0, move |tx| {
            let before = tx.list(a)?;
            let mut copies = std::collections::BTreeSet::new();
            for (n, mailbox) in keys.into_iter().rev().enumerate() {
                let name = format!("{n:02}");
                tx.fact(Op::MailboxRename { mailbox, name })?;
                copies.insert(tx.lists.get(&a).map(Arc::as_ptr).map(|p| p as usize));
            }
            drop(before);
            assert_eq!(copies.len(), 1);
            tx.list(a)
        });
        let list = list.await.unwrap();
        assert!(list.mailboxes[1..].is_sorted_by_key(|m| m.name.clone()));
        assert_eq!(
            list.mailboxes.len(),
            store.mailboxes(a).unwrap().mailboxes.len()
        );
        assert_eq!(list.mailboxes, store.mailboxes(a).unwrap().mailboxes);
    });
    reopen(&dir, store);
}

#[test]
fn a_feed_that_lags_takes_few_changes_at_a_time_from_the_log() {
    let home = tempfile::tempdir().unwrap();
    let mut small = options(&home.path().join("data"));
    small.config.feed_groups = 1;
    let store = Store::open(small, Telemetry::new().unwrap()).unwrap();
    run(async {
        let [a, _] = accounts(&store).await;
        fill(&store, a, 2000).await;
        let inbox = key(&store, a, "INBOX");
        let mut feed = store.feed(Some(store.shared().ring.end()));
        for _ in 0..4 {
            let ours = store.move_messages(inbox, all(), inbox).await.unwrap();
            assert_eq!(ours.target.len(), 2000);
        }
        let mut all = 0;
        while all < 4 * 2 * 2000 {
            all += feed.next().await.unwrap().changes.len();
            let waits: usize = feed.ready.iter().map(|g| g.changes.len()).sum();
            assert!(waits <= Feed::CHANGES + 2 * SLICE, "{waits}");
        }
        assert_eq!(all, 4 * 2 * 2000);
    });
}
