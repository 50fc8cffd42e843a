//! The selected mailbox goes, or gets another name, by another session's hand.

use super::common::Imap;
use super::{ALICE, append, server, texts};

/// The rest of what the server says, until it closes.
fn rest(imap: &mut Imap) -> Vec<String> {
    std::iter::from_fn(|| imap.line().ok())
        .map(|l| l.text)
        .collect()
}

#[test]
fn who_has_selected_what_another_deletes_is_sent_away() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for enable in [false, true] {
        a.ok("CREATE box");
        append(&mut a, "box", "");
        let mut waits = server.imap(ALICE);
        let mut asks = server.imap(ALICE);
        let mut writes = server.imap(ALICE);
        let mut leaves = server.imap(ALICE);
        for imap in [&mut waits, &mut asks, &mut writes, &mut leaves] {
            if enable {
                imap.ok("ENABLE IMAP4rev2");
            }
            imap.ok("SELECT box");
        }
        waits.send(b"i IDLE\r\n");
        assert!(waits.line().expect("idling").text.starts_with('+'));
        a.ok("DELETE box");

        // RFC 2180, 3.3
        let told = rest(&mut waits);
        assert!(told.len() == 1 && told[0].starts_with("* BYE "), "{told:?}");
        asks.send(b"a NOOP\r\nb FETCH 1 FLAGS\r\n");
        let told = rest(&mut asks);
        assert!(told.last().expect("BYE").starts_with("* BYE "), "{told:?}");
        assert!(!told.iter().any(|l| l.starts_with('b')), "{told:?}");
        // What has nothing to do with the mailbox is answered first.
        writes.send(b"a APPEND INBOX {14+}\r\nSubject: s\r\n\r\n\r\n\r\n");
        let told = rest(&mut writes);
        assert!(told.iter().any(|l| l.starts_with("a OK")), "{told:?}");
        assert!(told.last().expect("BYE").starts_with("* BYE "), "{told:?}");
        // Who leaves it goes on.
        leaves.ok("CLOSE");
        leaves.ok("SELECT INBOX");
        leaves.ok("NOOP");
    }
}

#[test]
fn who_deletes_its_own_selected_mailbox_stays() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    a.ok("SELECT box");
    let lines = a.ok("DELETE box");
    assert!(texts(&lines)[0].starts_with("* OK [CLOSED]"), "{lines:?}");
    let (_, tagged) = a.command("FETCH 1 FLAGS");
    assert!(tagged.starts_with("BAD"), "{tagged}");
    a.ok("SELECT INBOX");
}

#[test]
fn another_name_changes_nothing_for_who_has_it_selected() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let mut b = server.imap(ALICE);
    a.ok("CREATE box");
    append(&mut a, "box", "");
    b.ok("SELECT box");
    a.ok("RENAME box other");
    append(&mut a, "other", "");
    assert_eq!(texts(&b.ok("NOOP"))[0], "* 2 EXISTS");
    b.ok("STORE 1:2 +FLAGS (\\Seen)");
    b.ok("NOOP");
    let lines = a.ok("STATUS other (UNSEEN)");
    assert_eq!(texts(&lines), ["* STATUS other (UNSEEN 0)"]);
}
