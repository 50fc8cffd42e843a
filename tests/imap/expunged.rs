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
