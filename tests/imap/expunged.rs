//! Messages that another session expunged and that this one still numbers.

use super::common::Imap;
use super::{ALICE, append, refused, server, texts};

/// Two sessions in a mailbox of three, the second of which `b` has expunged.
fn numbered(a: &mut Imap, b: &mut Imap) {
    a.ok("CREATE box");
    for flags in ["()", "(\\Flagged Work)", "(\\Seen)"] {
        append(a, "box", &format!("{flags} "));
    }
    a.ok("SELECT box");
    b.ok("SELECT box");
    b.ok("STORE 2 +FLAGS.SILENT (\\Deleted)");
    a.ok("NOOP");
    b.ok("EXPUNGE");
}

/// RFC 2180, 4.1.1: what the session knows is answered; what it does not, is not.
#[test]
fn flags_of_what_is_gone_are_those_that_were_told() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    numbered(&mut a, &mut b);
    for _ in 0..2 {
        let lines = a.ok("FETCH 1:3 (UID FLAGS)");
        let lines = texts(&lines);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let second = "* 2 FETCH (UID 2 FLAGS (\\Flagged \\Deleted Work";
        assert!(lines[1].starts_with(second), "{lines:?}");
        assert!(lines[2].starts_with("* 3 FETCH (UID 3 FLAGS (\\Seen"));
        // What others change meanwhile is told, and hides nothing.
        b.ok("STORE 2 +FLAGS (\\Answered)");
        let lines = a.ok("FETCH 3 UID");
        assert!(
            texts(&lines)
                .iter()
                .any(|l| l.starts_with("* 3 FETCH (UID 3"))
        );
        b.ok("STORE 2 -FLAGS (\\Answered)");
        a.ok("FETCH 3 UID");
    }
    for items in [
        "RFC822.SIZE",
        "(UID FLAGS BODY.PEEK[])",
        "INTERNALDATE",
        "ENVELOPE",
    ] {
        refused(&mut a, &format!("FETCH 2 {items}"), "EXPUNGEISSUED");
        let (lines, tagged) = a.command(&format!("FETCH 1:3 {items}"));
        assert!(tagged.starts_with("NO [EXPUNGEISSUED]"), "{tagged}");
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
    // A UID that is not there is no error (RFC 9051, 6.4.9), and now EXPUNGE may come.
    let lines = a.ok("UID FETCH 1:3 (FLAGS)");
    let lines = texts(&lines);
    assert!(!lines.iter().any(|l| l.contains("UID 2 ")), "{lines:?}");
    assert_eq!(lines.last(), Some(&"* 2 EXPUNGE"));
    assert_eq!(a.ok("FETCH 1:2 (UID FLAGS)").len(), 2);
}

/// RFC 9051, 6.4.7; RFC 2180, 4.4: what the client numbers is copied, all of it or nothing.
#[test]
fn a_copy_by_number_is_whole_or_nothing() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    numbered(&mut a, &mut b);
    b.ok("CREATE other");
    let there = |a: &mut Imap| texts(&a.ok("STATUS other (MESSAGES)")).join("");
    let (lines, tagged) = a.command("COPY 1:3 other");
    assert!(tagged.starts_with("NO [EXPUNGEISSUED]"), "{tagged}");
    assert_eq!(texts(&lines), ["* 2 EXPUNGE"]);
    assert!(there(&mut b).contains("MESSAGES 0"));
    // Now that it is told, they are copied.
    a.ok("COPY 1:2 other");
    assert!(there(&mut b).contains("MESSAGES 2"));
    // One that is gone and not asked for is of no concern.
    b.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    b.ok("EXPUNGE");
    assert!(a.command("COPY 2 other").1.starts_with("OK [COPYUID"));
    assert!(there(&mut b).contains("MESSAGES 3"));
    // By UID it is no error (RFC 9051, 6.4.9).
    assert!(a.command("UID COPY 1:3 other").1.starts_with("OK [COPYUID"));
    assert!(there(&mut b).contains("MESSAGES 4"));
}

#[test]
fn a_saved_result_is_copied_whole_or_not() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    a.ok("CREATE box");
    a.ok("CREATE other");
    for _ in 0..3 {
        append(&mut a, "box", "");
    }
    a.ok("SELECT box");
    b.ok("SELECT box");
    a.ok("SEARCH RETURN (SAVE) ALL");
    b.ok("STORE 2 +FLAGS.SILENT (\\Deleted)");
    b.ok("EXPUNGE");
    refused(&mut a, "COPY $ other", "EXPUNGEISSUED");
    // Told by now: `$` means what is left.
    a.ok("COPY $ other");
    let lines = b.ok("STATUS other (MESSAGES)");
    assert!(texts(&lines).join("").contains("MESSAGES 2"));
}

/// RFC 6851, 3.3: what is there is moved, and the answer says that some was not.
#[test]
fn a_move_by_number_says_what_was_gone() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    numbered(&mut a, &mut b);
    a.ok("CREATE other");
    let (mut c, mut d) = (server.imap(ALICE), server.imap(ALICE));
    let mut e = server.imap(ALICE);
    for session in [&mut c, &mut d, &mut e] {
        session.ok("SELECT box");
    }
    let (lines, tagged) = {
        b.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
        b.ok("EXPUNGE");
        // Message 1 of this one is gone, and message 2 is there.
        c.command("MOVE 1:2 other")
    };
    assert!(tagged.starts_with("OK [EXPUNGEISSUED]"), "{tagged}");
    let lines = texts(&lines).join("\n");
    assert!(
        lines.contains("COPYUID") && lines.contains(" 3 1]"),
        "{lines}"
    );
    // Nothing is left for these two.
    let (lines, tagged) = d.command("MOVE 1:2 other");
    assert!(tagged.starts_with("NO [EXPUNGEISSUED]"), "{tagged}");
    assert!(!texts(&lines).join("\n").contains("COPYUID"));
    let (_, tagged) = e.command("UID MOVE 1:3 other");
    assert!(tagged.starts_with("OK Moved"), "{tagged}");
    let lines = a.ok("STATUS other (MESSAGES)");
    assert!(texts(&lines).join("").contains("MESSAGES 1"));
}
