//! Places of keywords that are used again.

use super::*;
use crate::store::ops::Op;
use crate::types::Flags;

fn named(range: std::ops::Range<usize>) -> Vec<Flag> {
    range.map(|n| Flag::Keyword(format!("k{n}"))).collect()
}

pub(super) fn words(store: &Store, mailbox: MailboxKey, uid: u32) -> Vec<String> {
    let snapshot = store.mailbox(mailbox).unwrap().snapshot();
    let Flags { keywords, .. } = snapshot.by_uid(Uid(uid)).unwrap().flags;
    let names = snapshot.keywords().iter().enumerate();
    let set = names.filter(|(bit, _)| keywords & (1 << bit) != 0);
    set.map(|(_, name)| name.clone()).collect()
}

#[test]
fn a_place_that_is_used_again_is_the_same_after_a_replay() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    let inbox = run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        let flags = |range| Recipient {
            flags: named(range),
            ..to(a)
        };
        let all = |action, flags| {
            store.store_flags(inbox, UidSet::from_ranges([(1, 9)]), action, flags, None)
        };
        store
            .deliver(mail("x"), UnixMillis(1), vec![flags(0..60), flags(60..70)])
            .await
            .unwrap();
        // A delivery does not fail: what has no room is left out.
        assert_eq!(words(&store, inbox, 2), ["k60", "k61", "k62", "k63"]);
        let full = all(FlagAction::Add, named(70..71)).await;
        assert!(matches!(full, Err(StoreError::Limit(_))));
        all(FlagAction::Remove, named(10..12)).await.unwrap();
        // Both in one group, and each its own place.
        store
            .deliver(mail("y"), UnixMillis(1), vec![flags(71..72), flags(72..74)])
            .await
            .unwrap();
        assert_eq!(words(&store, inbox, 3), ["k71"]);
        assert_eq!(words(&store, inbox, 4), ["k72"]);
        inbox
    });
    let store = reopen(&dir, store);
    assert_eq!(words(&store, inbox, 3), ["k71"]);
    assert_eq!(words(&store, inbox, 4), ["k72"]);
}

#[test]
fn a_lost_group_gives_no_message_a_keyword_that_it_never_had() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = open(&dir);
    run(async {
        let [a, _] = accounts(&store).await;
        let inbox = key(&store, a, "INBOX");
        let flags = named(0..2);
        store
            .deliver(mail("x"), UnixMillis(1), vec![Recipient { flags, ..to(a) }])
            .await
            .unwrap();
        // As a replay meets it that could not read how `k0` went.
        store
            .commit(1, move |tx| {
                tx.fact(Op::Keyword {
                    mailbox: inbox,
                    bit: 0,
                    name: "other".into(),
                })
            })
            .await
            .unwrap();
        assert_eq!(words(&store, inbox, 1), ["k1"]);
    });
    reopen(&dir, store);
}
