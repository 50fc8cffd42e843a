//! Rights and annotations: they are there after every start, and go with what they are about.

use super::*;
use crate::types::{Rights, Settable};

fn key(store: &Store, account: AccountId, name: &str) -> MailboxKey {
    store.mailboxes(account).unwrap().find(name).unwrap().key
}

async fn grant(store: &Store, mailbox: MailboxKey, who: Who, rights: Rights) {
    let entry = Granted {
        who,
        negative: false,
        rights,
    };
    store
        .set_rights(mailbox.account, mailbox, entry, RightsChange::Replace)
        .await
        .unwrap();
}

/// So many records of these kinds.
fn left(store: &Store) -> usize {
    let mut count = 0;
    for kind in [16u16, 17, 18] {
        let prefix = crate::store::records::key(kind, &[]);
        let each = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            Ok(())
        };
        store.shared().scan(&prefix, each).unwrap();
    }
    count
}

#[test]
fn rights_and_annotations_survive_and_go_with_their_account() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let (a, b) = run(async {
        let [a, b] = accounts(&store).await;
        for name in ["box", "gone"] {
            store.mailbox_create(a, name, None).await.unwrap();
            let mailbox = key(&store, a, name);
            grant(&store, mailbox, Who::Account(b), Rights::ALL).await;
            grant(&store, mailbox, Who::Anyone, Rights::LOOKUP).await;
            let long = vec![7; 8000];
            let notes = vec![("/shared/x".to_owned(), Some(long))];
            let about = About::Mailbox(mailbox);
            store.annotate(about, notes, None).await.unwrap();
        }
        store.mailbox_create(a, "box/child", None).await.unwrap();
        grant(
            &store,
            key(&store, b, "INBOX"),
            Who::Account(a),
            Rights::READ,
        )
        .await;
        grant(&store, key(&store, b, "Sent"), Who::Anyone, Rights::READ).await;
        let notes = vec![("/private/x".to_owned(), Some(vec![1]))];
        store
            .annotate(About::Account(a), notes, None)
            .await
            .unwrap();
        store.mailbox_delete(a, "gone").await.unwrap();
        (a, b)
    });
    let store = reopen(&dir, store);
    let child = key(&store, a, "box/child");
    assert_eq!(store.rights(b, child), Rights::ALL, "as its parent's");
    assert_eq!(store.directory().shared_with(b).len(), 2);
    assert_eq!(left(&store), 6);

    run(async {
        store.account_remove(a).await.unwrap();
    });
    let store = reopen(&dir, store);
    assert_eq!(store.directory().shared_with(b), []);
    // What is left is about Sent.
    assert_eq!(left(&store), 1);
    assert_eq!(store.directory().acl(key(&store, b, "INBOX")), []);
    run(store.close());
}

/// A change that is refused after it began leaves no rights behind.
#[test]
fn rights_of_a_mailbox_that_was_not_made_are_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("data"));
    run(async {
        let [a, b] = accounts(&store).await;
        store.mailbox_create(a, "box", None).await.unwrap();
        grant(&store, key(&store, a, "box"), Who::Account(b), Rights::ALL).await;
        let failed = store.commit(0, move |tx| {
            let made = tx.make_parents(a, "box/new/child");
            made.and(Err::<(), _>(StoreError::Invalid("x")))
        });
        assert!(failed.await.is_err());
        assert_eq!(store.directory().shared_with(b).len(), 1);
        assert_eq!(left(&store), 1);
        // Who may change only some flags does so for one change, not for those after it.
        let none = store.for_flags(Settable {
            system: SystemFlags::default(),
            keywords: false,
        });
        let delivered = store.deliver(mail("x"), UnixMillis(1), vec![to(a)]).await;
        let uid = delivered.unwrap()[0].uid.0;
        let inbox = key(&store, a, "INBOX");
        for (store, marked) in [(&none, false), (&store, true), (&none, true)] {
            let seen = vec![Flag::System(SystemFlags::SEEN)];
            let action = FlagAction::Replace;
            let uids = UidSet::from_ranges([(uid, uid)]);
            let done = store.store_flags(inbox, uids, action, seen, None);
            done.await.unwrap();
            let now = store.mailbox(inbox).unwrap().snapshot();
            let flags = now.by_uid(crate::types::Uid(uid)).unwrap().flags;
            assert_eq!(flags.system.contains(SystemFlags::SEEN), marked);
        }
    });
    run(store.close());
}
