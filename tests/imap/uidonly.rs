//! UIDONLY (RFC 9586): no message number goes in either direction.

use super::common::Imap;
use super::common::serve::Serving;
use super::{ALICE, append, configured, login, server, texts};

fn offering() -> (tempfile::TempDir, Serving) {
    configured("uidonly = true")
}

fn filled(server: &Serving) -> Imap {
    let mut imap = login(server);
    imap.ok("CREATE box");
    for _ in 0..6 {
        append(&mut imap, "box", "");
    }
    // So that numbers and UIDs differ.
    imap.ok("SELECT box");
    imap.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    assert_eq!(texts(&imap.ok("ENABLE UIDONLY")), ["* ENABLED UIDONLY"]);
    imap
}

#[test]
fn it_is_offered_only_where_that_is_configured() {
    let (_home, server) = server();
    let mut imap = server.imap(ALICE);
    let lines = imap.ok("CAPABILITY");
    assert!(!texts(&lines).join("").contains("UIDONLY"));
    assert_eq!(texts(&imap.ok("ENABLE UIDONLY")), ["* ENABLED"]);
    imap.ok("SELECT INBOX");
    imap.ok("SEARCH ALL");
    let (_home, server) = offering();
    let lines = login(&server).ok("CAPABILITY");
    assert!(texts(&lines).join("").contains(" UIDONLY"));
}

/// RFC 9586, 3.2, 3.5 and 3.7.
#[test]
fn message_numbers_are_refused() {
    let (_home, server) = offering();
    let mut imap = filled(&server);
    imap.ok("ENABLE QRESYNC");
    for command in [
        "FETCH 1 FLAGS",
        "FETCH $ FLAGS",
        "STORE 1 +FLAGS (\\Seen)",
        "COPY 1 INBOX",
        "MOVE 1 INBOX",
        "SEARCH ALL",
        "SEARCH RETURN (SAVE) ALL",
        "UID SEARCH 1:2",
        "SORT (DATE) UTF-8 ALL",
        "THREAD REFERENCES UTF-8 ALL",
        "UID SORT (DATE) UTF-8 1:2",
        "UID THREAD REFERENCES UTF-8 1:2",
        "REPLACE 1 box {14+}\r\nSubject: s\r\n\r\n",
        "UID SEARCH NOT (SEEN OR FLAGGED *)",
        "ESEARCH IN (selected) RETURN (ALL) 1:2",
        "SELECT box (QRESYNC (1 1 1:3 (1 3)))",
    ] {
        let (lines, tagged) = imap.command(command);
        assert!(
            tagged.starts_with("BAD [UIDREQUIRED] "),
            "{command}: {tagged}"
        );
        assert!(lines.is_empty(), "{command}: {lines:?}");
        imap.ok("NOOP");
    }
    for command in [
        "UID SEARCH UID 3:4 UNSEEN",
        "UID SEARCH RETURN (SAVE COUNT) ALL",
        "UID SEARCH $",
        "UID COPY $ INBOX",
        "UID STORE 1:* +FLAGS (\\Seen)",
        "UID SORT (DATE) UTF-8 UID 1:4",
        "UID THREAD REFERENCES UTF-8 ALL",
        "UID REPLACE 6 box {14+}\r\nSubject: s\r\n\r\n",
        "SELECT box (QRESYNC (1 1 1:3))",
    ] {
        imap.ok(command);
    }
}

/// RFC 9586, 3.3, 3.4 and 3.6.
#[test]
fn answers_have_no_message_numbers() {
    let (_home, server) = offering();
    let mut a = filled(&server);
    let mut b = login(&server);
    let lines = a.ok("SELECT box");
    let told = texts(&lines).join("\n");
    assert!(
        told.contains("* 4 EXISTS") && !told.contains("UNSEEN"),
        "{told}"
    );
    b.ok("SELECT box");
    assert_eq!(
        texts(&a.ok("UID FETCH 3:4 (RFC822.SIZE)")),
        [
            "* 3 UIDFETCH (RFC822.SIZE 14)",
            "* 4 UIDFETCH (RFC822.SIZE 14)"
        ]
    );
    // The UID where it is asked for.
    assert_eq!(
        texts(&a.ok("UID FETCH 5 (UID RFC822.SIZE)")),
        ["* 5 UIDFETCH (UID 5 RFC822.SIZE 14)"]
    );
    let lines = a.ok("UID FETCH 6 BODY[TEXT]");
    let told = texts(&lines).join("");
    assert!(told.starts_with("* 6 UIDFETCH (BODY[TEXT] "), "{told}");
    assert!(
        told.contains("FLAGS (\\Seen") && !told.contains("UID 6"),
        "{told}"
    );
    let lines = a.ok("UID STORE 3 +FLAGS (\\Seen)");
    assert!(
        texts(&lines)[0].starts_with("* 3 UIDFETCH (FLAGS (\\Seen"),
        "{lines:?}"
    );
    // What others do.
    b.ok("UID STORE 4 +FLAGS.SILENT (\\Deleted)");
    let lines = a.ok("NOOP");
    assert!(
        texts(&lines)[0].starts_with("* 4 UIDFETCH (FLAGS (\\Deleted"),
        "{lines:?}"
    );
    b.ok("EXPUNGE");
    append(&mut b, "box", "");
    let lines = a.ok("NOOP");
    let lines = texts(&lines);
    assert_eq!(lines[..2], ["* VANISHED 4", "* 4 EXISTS"], "{lines:?}");
    a.ok("UID STORE 5 +FLAGS.SILENT (\\Deleted)");
    let (lines, tagged) = a.command("UID EXPUNGE 5");
    assert_eq!(texts(&lines), ["* VANISHED 5"]);
    // Without QRESYNC it is not said at which mod-sequence.
    assert_eq!(tagged, "OK Expunged");
    let lines = a.ok("UID MOVE 6 INBOX");
    assert_eq!(texts(&lines).last(), Some(&"* VANISHED 6"));
    // With mod-sequences.
    a.ok("ENABLE CONDSTORE");
    let lines = a.ok("UID STORE 3 +FLAGS.SILENT (\\Flagged)");
    let told = texts(&lines).join("");
    assert!(told.starts_with("* 3 UIDFETCH (MODSEQ ("), "{told}");
    let (_, tagged) = a.command("UID STORE 3 (UNCHANGEDSINCE 1) +FLAGS (\\Draft)");
    assert!(tagged.starts_with("OK [MODIFIED 3] "), "{tagged}");
}
