//! Mail that is brought over: UIDs that are kept, and those that can't be.

use super::*;
use crate::types::{Flags, UidValidity};

const SOURCE: [u8; 8] = *b"a source";

fn opens(name: &str, validity: u32) -> ImportOpen {
    ImportOpen {
        name: name.into(),
        uid_validity: Some(UidValidity(validity)),
        ..ImportOpen::default()
    }
}

fn incoming(n: u8, uid: Option<u32>) -> Incoming {
    Incoming {
        identity: [n; 12],
        message: mail(&format!("imported {n}")),
        flags: vec![
            Flag::System(SystemFlags::SEEN),
            Flag::Keyword("Work".into()),
        ],
        date: UnixMillis::from_signed(-5000),
        zone: -90,
        uid: uid.map(Uid),
        line_ends: vec![n; 5],
    }
}

fn target(opened: &ImportOpened) -> ImportTo {
    ImportTo {
        mailbox: opened.key,
        source: SOURCE,
        keeps_uids: opened.keeps_uids,
        uid_next: Uid(50),
    }
}

fn known(store: &Store, opened: &ImportOpened) -> (Vec<Identity>, u32) {
    let mut all = Vec::new();
    let next = store.imported(opened.key, SOURCE, &mut |id| all.push(id));
    (all, next.unwrap())
}

fn uids(store: &Store, mailbox: MailboxKey) -> Vec<u32> {
    let snapshot = store.mailbox(mailbox).unwrap().snapshot();
    snapshot.iter().map(|(_, m)| m.uid.0).collect()
}

#[test]
fn uids_are_kept_and_what_came_is_known_whatever_happens_to_the_index() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    run(async {
        let [alice, _] = accounts(&store).await;
        let opened = store.import_open(alice, opens("inbox", 77)).await.unwrap();
        assert!(opened.keeps_uids);
        assert_eq!(opened.key, key(&store, alice, "INBOX"));
        let to = target(&opened);
        let batch = vec![
            incoming(1, Some(7)),
            incoming(2, Some(40)),
            incoming(3, None),
        ];
        let done = store.import(to, 0, batch).await.unwrap();
        assert_eq!(done, ImportBatch::default());
        assert_eq!(uids(&store, opened.key), [7, 40, 50]);
        // Mail that arrives meanwhile takes a UID; who had it gets another.
        let message = mail("news");
        let got = store
            .deliver(message, store.now(), vec![to_inbox(alice)])
            .await;
        assert_eq!(got.unwrap()[0].uid, Uid(51));
        let batch = vec![incoming(4, Some(51)), incoming(5, Some(60))];
        assert_eq!(store.import(to, 1, batch).await.unwrap().renumbered, 1);
        store
            .import_close(ImportTo {
                uid_next: Uid(90),
                ..to
            })
            .await
            .unwrap();
        // Nobody is woken for what was brought over.
        let status = store.mailbox_status(opened.key).unwrap();
        assert_eq!((status.uid_next, status.uid_validity.0), (Uid(90), 77));
        store.close().await;
    });
    drop(store);
    for lose_index in [false, true] {
        if lose_index {
            std::fs::remove_dir_all(home.path().join("index")).unwrap();
        }
        let store = open(home.path());
        run(async {
            let address = Address::parse("a@x.test").unwrap();
            let directory = store.directory();
            let alice = directory.account_by_address(&address).unwrap().id;
            let inbox = key(&store, alice, "INBOX");
            assert_eq!(uids(&store, inbox), [7, 40, 50, 51, 52, 60], "{lose_index}");
            assert_eq!(store.mailbox_status(inbox).unwrap().uid_validity.0, 77);
            let again = store.import_open(alice, opens("INBOX", 77)).await.unwrap();
            assert!(again.keeps_uids);
            let all = (1..=5).map(|n| [n; 12]).collect();
            assert_eq!(known(&store, &again), (all, 2));
            let record = store.message(inbox, Uid(40)).unwrap().unwrap();
            assert_eq!(
                (record.internal_date.signed(), record.internal_zone),
                (-5000, -90)
            );
            assert_eq!(store.line_ends(record.blob).unwrap(), [2; 5]);
            let snapshot = store.mailbox(inbox).unwrap().snapshot();
            let flags: Flags = snapshot.by_uid(Uid(40)).unwrap().flags;
            assert_eq!((flags.system, flags.keywords), (SystemFlags::SEEN, 1));
            // A note about line ends goes with the body.
            if lose_index {
                let (one, deleted) = (UidSet::single(40), Flag::System(SystemFlags::DELETED));
                store
                    .store_flags(inbox, one.clone(), FlagAction::Add, vec![deleted], None)
                    .await
                    .unwrap();
                store.expunge(inbox, Some(one)).await.unwrap();
                assert!(store.line_ends(record.blob).unwrap().is_empty());
            }
            store.close().await;
        });
    }
}

fn to_inbox(account: AccountId) -> Recipient {
    Recipient {
        prefix: vec![],
        ..to(account)
    }
}

#[test]
fn no_uid_stands_for_two_messages() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    run(async {
        let [alice, bob] = accounts(&store).await;
        let fresh = store
            .import_open(alice, opens("New/Sub", 77))
            .await
            .unwrap();
        assert!(fresh.keeps_uids);
        store
            .import(target(&fresh), 0, vec![incoming(1, Some(9))])
            .await
            .unwrap();
        let before = store.mailbox_status(fresh.key).unwrap();
        // Deleted, and brought again: the name has had this UIDVALIDITY.
        store.mailbox_delete(alice, "New/Sub").await.unwrap();
        let again = store
            .import_open(alice, opens("New/Sub", 77))
            .await
            .unwrap();
        assert!(!again.keeps_uids);
        assert_eq!(known(&store, &again), (vec![], 0), "nothing of it is there");
        let status = store.mailbox_status(again.key).unwrap();
        assert!(status.uid_validity > before.uid_validity);
        // Another account has never had it.
        assert!(
            store
                .import_open(bob, opens("New/Sub", 77))
                .await
                .unwrap()
                .keeps_uids
        );
        // One that has had mail keeps its own; so does everybody for what can't be.
        store
            .deliver(mail("x"), store.now(), vec![to_inbox(bob)])
            .await
            .unwrap();
        for (name, validity) in [("INBOX", 77), ("Far", u32::MAX), ("None", 0)] {
            let opened = store.import_open(bob, opens(name, validity)).await.unwrap();
            assert!(!opened.keeps_uids, "{name}");
            let status = store.mailbox_status(opened.key).unwrap();
            assert_ne!(status.uid_validity.0, validity);
        }
        // The use goes where the mail is.
        let open = ImportOpen {
            special_use: Some(SpecialUse::Sent),
            subscribed: true,
            ..opens("Sent Items", 77)
        };
        let sent = store.import_open(bob, open).await.unwrap();
        let list = store.mailboxes(bob).unwrap();
        let info = list.find("Sent Items").unwrap();
        assert_eq!((info.key, info.subscribed), (sent.key, true));
        assert_eq!(info.special_use, Some(SpecialUse::Sent));
        assert_eq!(list.find("Sent").unwrap().special_use, None);
        // All or nothing, and a keyword that finds no room is left out.
        let many = (0..70).map(|n| Flag::Keyword(format!("k{n}"))).collect();
        let full = Incoming {
            flags: many,
            ..incoming(9, Some(1))
        };
        let done = store.import(target(&sent), 0, vec![full]).await.unwrap();
        assert_eq!(done.keywords_lost, 6);
        for bad in ["", "a//b"] {
            assert!(store.import_open(bob, opens(bad, 7)).await.is_err());
        }
        store.close().await;
    });
}
