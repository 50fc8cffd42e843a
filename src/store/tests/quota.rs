//! What an account may keep: counted in the commit, right after everything that happens to the
//! store; and accounts that go later.

use super::*;
use crate::store::bulk::SLICE;
use crate::store::tests::large::{all, fill};

/// What `mail("x")` comes to with the prefix of `to`.
const SIZE: u64 = 41;

/// The sum over the mailboxes, asked anew.
fn counted(store: &Store, account: AccountId) -> Usage {
    let list = store.mailboxes(account).unwrap();
    let status = list
        .mailboxes
        .iter()
        .map(|m| store.mailbox_status(m.key).unwrap());
    status.fold(Usage::default(), |all, s| Usage {
        bytes: all.bytes + s.size,
        messages: all.messages + u64::from(s.messages),
    })
}

async fn deliver(store: &Store, to: Vec<Recipient>) -> Result<(), StoreError> {
    let delivered = store.deliver(mail("x"), UnixMillis(1), to).await;
    delivered.map(|_| ())
}

async fn limit(store: &Store, account: AccountId, bytes: Limit, messages: Limit) {
    let set = store.set_quota(account, Some(bytes), Some(messages));
    set.await.unwrap();
}

async fn delete(store: &Store, mailbox: MailboxKey, uids: UidSet) {
    let flags = vec![Flag::System(SystemFlags::DELETED)];
    let marked = store.store_flags(mailbox, uids.clone(), FlagAction::Add, flags, None);
    marked.await.unwrap();
    store.expunge(mailbox, Some(uids)).await.unwrap();
}

#[test]
fn what_is_committed_together_does_not_pass_a_limit_together() {
    for (bytes, messages) in [
        (Limit::At(SIZE), Limit::Default),
        (Limit::At(2 * SIZE - 1), Limit::None),
        (Limit::None, Limit::At(1)),
    ] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let store = open(&dir);
        let a = run(async {
            let [a, b] = accounts(&store).await;
            limit(&store, a, bytes, messages).await;
            let (open, gate) = std::sync::mpsc::channel::<()>();
            let held = store.commit(0, move |_| {
                let _ = gate.recv();
                Ok(())
            });
            let opened = async {
                while store.inner_waiting() < 2 {
                    tokio::task::yield_now().await;
                }
                open.send(()).unwrap();
            };
            let (_, one, two, ()) = tokio::join!(
                held,
                deliver(&store, vec![to(a), to(b)]),
                deliver(&store, vec![to(b), to(a)]),
                opened
            );
            assert_eq!((one, two), (Ok(()), Err(StoreError::OverQuota)));
            // All or none of one message.
            assert_eq!(counted(&store, b).messages, 1);
            assert_eq!(deliver(&store, vec![to(b)]).await, Ok(()));
            let none = store.fits(a, SIZE, 1 << 40);
            assert_eq!((none, store.fits(b, 1, 1 << 40)), (Fits::No, Fits::Yes));
            // One message twice counts twice.
            limit(&store, b, Limit::None, Limit::At(3)).await;
            let twice = deliver(&store, vec![to(b), to(b)]).await;
            assert_eq!(twice, Err(StoreError::OverQuota));
            assert_eq!(deliver(&store, vec![to(b)]).await, Ok(()));
            a
        });
        let store = reopen(&dir, store);
        run(async {
            let more = deliver(&store, vec![to(a)]).await;
            assert_eq!(more, Err(StoreError::OverQuota), "{bytes:?} {messages:?}");
        });
    }
}

#[test]
fn a_message_of_unknown_size_may_fit() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("data"));
    run(async {
        let [a, _] = accounts(&store).await;
        limit(&store, a, Limit::At(1000), Limit::Default).await;
        for (least, most, fits) in [
            (1, 1000, Fits::Yes),
            (1, 1001, Fits::Perhaps),
            (1000, 5000, Fits::Perhaps),
            (1001, 5000, Fits::No),
        ] {
            assert_eq!(store.fits(a, least, most), fits, "{least} {most}");
        }
    });
}

#[test]
fn who_is_full_can_still_make_room() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        fill(&store, a, 6).await;
        let [inbox, trash] = ["INBOX", "Trash"].map(|name| key(&store, a, name));
        // Below what there is, by either.
        for (bytes, messages) in [(Limit::At(1), Limit::None), (Limit::None, Limit::At(1))] {
            limit(&store, a, bytes, messages).await;
            let appended = store.append(inbox, mail("x"), vec![], UnixMillis(1), 0);
            assert_eq!(appended.await, Err(StoreError::OverQuota));
            let copied = store.copy(inbox, all(), trash).await;
            assert_eq!(copied.map(|_| ()), Err(StoreError::OverQuota));
            let copied = store.copy_in(2, inbox, all(), trash).await;
            assert_eq!(copied.map(|_| ()), Err(StoreError::OverQuota));
            store
                .move_messages(inbox, UidSet::single(1), trash)
                .await
                .unwrap();
            store.move_messages(trash, all(), inbox).await.unwrap();
            store.mailbox_rename(a, "INBOX", "Old").await.unwrap();
            let old = key(&store, a, "Old");
            store.move_messages(old, all(), inbox).await.unwrap();
            store.mailbox_delete(a, "Old").await.unwrap();
            assert_eq!(store.usage(a), Ok(counted(&store, a)));
        }
        let some = store.mailbox(inbox).unwrap().snapshot();
        let first: UidSet = some.iter().take(5).map(|(_, m)| m.uid.0).collect();
        delete(&store, inbox, first).await;
        assert_eq!(store.usage(a).unwrap().messages, 1);
        assert_eq!(
            deliver(&store, vec![to(a)]).await,
            Err(StoreError::OverQuota)
        );
        let last = store.mailbox(inbox).unwrap().snapshot();
        delete(&store, inbox, last.iter().map(|(_, m)| m.uid.0).collect()).await;
        assert_eq!(deliver(&store, vec![to(a)]).await, Ok(()));
        // A copy of exactly what there is room for.
        limit(&store, a, Limit::At(2 * SIZE), Limit::None).await;
        store.copy(inbox, all(), trash).await.unwrap();
        assert_eq!(store.usage(a), Ok(counted(&store, a)));
        assert_eq!(store.usage(a).unwrap().bytes, 2 * SIZE);
    });
    reopen(&dir, store);
}

#[test]
fn the_default_is_for_all_who_have_no_other() {
    let home = tempfile::tempdir().unwrap();
    let mut tight = options(&home.path().join("data"));
    tight.config.quota_messages = 1;
    let store = Store::open(tight, Telemetry::new().unwrap()).unwrap();
    run(async {
        let [a, b] = accounts(&store).await;
        limit(&store, b, Limit::Default, Limit::None).await;
        for (account, second) in [(a, Err(StoreError::OverQuota)), (b, Ok(()))] {
            deliver(&store, vec![to(account)]).await.unwrap();
            assert_eq!(deliver(&store, vec![to(account)]).await, second);
        }
        assert_eq!(store.quota_figures(), QuotaFigures { near: 1, full: 1 });
        limit(&store, b, Limit::Default, Limit::Default).await;
        assert_eq!(store.quota_figures(), QuotaFigures { near: 2, full: 2 });
        // Its number is not given again, and nothing of it stays.
        store.account_remove(a).await.unwrap();
        assert_eq!(store.usage(a), Err(StoreError::NoAccount));
        assert_eq!(store.quota_figures(), QuotaFigures { near: 1, full: 1 });
    });
}

#[test]
fn usage_moves_with_what_is_taken_back_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        fill(&store, a, 3).await;
        let inbox = key(&store, a, "INBOX");
        // Halfway, and then it fails.
        let failed = store.commit(0, move |tx| {
            tx.purge(inbox, &all(), 2)?;
            assert_eq!(tx.usage(a).unwrap().messages, 1);
            Err::<(), _>(StoreError::Busy)
        });
        assert_eq!(failed.await, Err(StoreError::Busy));
        assert_eq!(store.usage(a), Ok(counted(&store, a)));
        store.mailbox_create(a, "box", None).await.unwrap();
        let to = key(&store, a, "box");
        store.copy(inbox, all(), to).await.unwrap();
        assert_eq!(store.usage(a).unwrap().messages, 6);
        store.mailbox_delete(a, "box").await.unwrap();
        assert_eq!(store.usage(a), Ok(counted(&store, a)));
        assert_eq!(store.usage(a).unwrap().bytes, 3 * SIZE);
        // Built anew while it serves.
        let before = store.usage(a);
        store.shared().ask_for_rebuild();
        while store.shared().rebuild_is_wanted() {
            store.commit(0, |_| Ok(())).await.ok();
        }
        fill(&store, a, 1).await;
        assert_ne!(store.usage(a), before);
        assert_eq!(store.usage(a), Ok(counted(&store, a)));
    });
    reopen(&dir, store);
}

/// Subjects of warnings in INBOX.
fn warnings(store: &Store, account: AccountId) -> usize {
    let inbox = key(store, account, "INBOX");
    let mut found = 0;
    let mut each = |_, record: MessageRecord| {
        let body = store.body(record.blob).unwrap();
        found += usize::from(body.starts_with(b"From: Postmaster <postmaster@x.test>"));
        true
    };
    store.scan_messages(inbox, 1..=u32::MAX, &mut each).unwrap();
    found
}

/// As the server does it: whoever the store names is looked at. Gives how many mails went out.
async fn settle(store: &Store) -> usize {
    let mut sent = 0;
    let short = std::time::Duration::from_millis(50);
    while let Ok(due) = tokio::time::timeout(short, store.unsettled()).await {
        for account in due {
            sent += usize::from(store.settle_quota(account).await.unwrap());
        }
    }
    sent
}

#[test]
fn the_owner_is_warned_once_until_there_was_room_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let a = run(async {
        let [a, b] = accounts(&store).await;
        for account in [a, b] {
            limit(&store, account, Limit::None, Limit::At(20)).await;
        }
        assert_eq!(settle(&store).await, 0);
        fill(&store, a, 17).await;
        assert_eq!(settle(&store).await, 0, "85 %");
        fill(&store, a, 1).await;
        assert_eq!(settle(&store).await, 1, "90 %");
        assert_eq!((warnings(&store, a), warnings(&store, b)), (1, 0));
        fill(&store, a, 1).await;
        assert_eq!(settle(&store).await, 0, "full, and warned");
        let inbox = key(&store, a, "INBOX");
        // 16 are 80 %: not below.
        delete(&store, inbox, UidSet::from_ranges([(1, 4)])).await;
        fill(&store, a, 3).await;
        assert_eq!(settle(&store).await, 0, "never below 80 %");
        a
    });
    // Neither a restart nor a new index sends it again.
    let store = reopen(&dir, store);
    run(async {
        store.settle_all();
        assert_eq!(settle(&store).await, 0);
        let inbox = key(&store, a, "INBOX");
        delete(&store, inbox, UidSet::from_ranges([(5, 8)])).await;
        assert_eq!(settle(&store).await, 0);
        assert_eq!(store.usage(a).unwrap().messages, 15);
        fill(&store, a, 3).await;
        assert_eq!(settle(&store).await, 1, "it was below 80 %");
        // Another limit is another warning, by another resource too.
        limit(&store, a, Limit::At(SIZE), Limit::At(20)).await;
        assert_eq!(
            settle(&store).await,
            1,
            "over the limit, and it comes all the same"
        );
        limit(&store, a, Limit::None, Limit::None).await;
        assert_eq!(settle(&store).await, 0);
        limit(&store, a, Limit::At(SIZE), Limit::At(20)).await;
        assert_eq!(settle(&store).await, 1);
    });
    reopen(&dir, store);
}

#[test]
fn a_warning_that_was_not_sent_before_the_crash_is_sent_after_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let a = run(async {
        let [a, _] = accounts(&store).await;
        limit(&store, a, Limit::None, Limit::At(2)).await;
        fill(&store, a, 2).await;
        a
    });
    let store = reopen(&dir, store);
    run(async {
        store.settle_all();
        assert_eq!(settle(&store).await, 1);
        assert_eq!(warnings(&store, a), 1);
        assert_eq!(counted(&store, a).messages, 3);
    });
}

#[test]
fn a_removal_that_waits_can_be_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let address = Address::parse("a@x.test").unwrap();
    let a = run(async {
        let [a, _] = accounts(&store).await;
        fill(&store, a, 3).await;
        let account = store.directory().account(a).unwrap().clone();
        let mut login = Login::new(store.clone(), account);
        let far = UnixMillis(store.now().0 + 3_600_000);
        store.account_remove_at(a, far).await.unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), login.ended());
        ended.await.expect("whoever was logged in is not any more");
        assert_eq!(store.resolve(&address), Resolution::NoUser);
        let again = store.account_add(address.clone(), "hash".into()).await;
        assert_eq!(again, Err(StoreError::Exists));
        assert_eq!(store.account_remove_due(a).await, Ok(false));
        a
    });
    let store = reopen(&dir, store);
    run(async {
        let waits = store.directory().next_removal();
        assert!(waits.is_some_and(|(id, removal)| id == a && !removal.begun));
        store.account_restore(a).await.unwrap();
        assert_eq!(store.directory().next_removal(), None);
        assert_eq!(store.resolve(&address), Resolution::Accounts(vec![a]));
        assert_eq!(counted(&store, a).messages, 3);
        let inbox = key(&store, a, "INBOX");
        let next = store.deliver(mail("x"), UnixMillis(1), vec![to(a)]).await;
        assert_eq!((next.unwrap()[0].mailbox, Uid(4)), (inbox, Uid(4)));
        let twice = store.account_restore(a).await;
        assert_eq!(twice, Err(StoreError::Invalid("it is not to be removed")));
    });
    reopen(&dir, store);
}

#[test]
fn a_removal_comes_when_it_is_due_also_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let [a, b] = run(async {
        let [a, b] = accounts(&store).await;
        fill(&store, a, 3).await;
        let soon = |millis| UnixMillis(store.now().0 + millis);
        store.account_remove_at(b, soon(3_600_000)).await.unwrap();
        // Nobody looks at the clock again and again: the change itself wakes who waits.
        let due = store.removal_due();
        let set = async { store.account_remove_at(a, soon(100)).await.unwrap() };
        let (due, ()) = tokio::join!(due, set);
        assert_eq!(due, a);
        [a, b]
    });
    let store = reopen(&dir, store);
    run(async {
        assert_eq!(store.removal_due().await, a);
        assert_eq!(store.account_remove_due(a).await, Ok(true));
        assert!(store.directory().account(a).is_none());
        assert_eq!(store.directory().removal(a), None);
        // Now, though it was to wait.
        store.account_remove(b).await.unwrap();
        assert_eq!(store.directory().next_removal(), None);
        let address = Address::parse("b@x.test").unwrap();
        store.account_add(address, "hash".into()).await.unwrap();
    });
    reopen(&dir, store);
}

#[test]
fn a_removal_that_was_cut_off_goes_on_and_has_no_way_back() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let a = run(async {
        let [a, _] = accounts(&store).await;
        fill(&store, a, SLICE as u32 + 500).await;
        a
    });
    // The first slice alone, as a crash leaves it.
    run(async {
        let slice = store.commit(0, move |tx| tx.remove_slice(a)).await;
        assert_eq!(slice, Ok(false));
    });
    let store = reopen(&dir, store);
    run(async {
        let begun = Err(StoreError::Invalid("its removal has begun"));
        assert_eq!(store.account_restore(a).await, begun);
        let later = UnixMillis(store.now().0 + 3_600_000);
        assert_eq!(store.account_remove_at(a, later).await, begun);
        assert_eq!(store.removal_due().await, a);
        assert_eq!(store.account_remove_due(a).await, Ok(true));
        assert!(store.directory().account(a).is_none());
    });
    reopen(&dir, store);
}
