//! Two clients on one mailbox, and names as they are given: each hears of what the other did.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Imap, Line, Server};

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|l| l.text.as_str()).collect()
}

fn append(imap: &mut Imap, n: usize) {
    for _ in 0..n {
        imap.send(b"x APPEND INBOX {14+}\r\nSubject: s\r\n\r\n\r\n");
        let (_, tagged) = imap.until("x");
        assert!(tagged.starts_with("OK"), "{tagged}");
    }
}

#[test]
fn a_silent_store_and_a_reading_fetch_hide_nothing_of_others() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut a = server.imap("alice@posthorn.test");
    let mut b = server.imap("alice@posthorn.test");
    append(&mut a, 3);
    a.ok("SELECT INBOX");
    b.ok("SELECT INBOX");
    a.ok("NOOP");

    b.ok("STORE 1 +FLAGS.SILENT (\\Flagged)");
    let lines = a.ok("STORE 1:2 +FLAGS.SILENT (\\Answered)");
    assert_eq!(texts(&lines).len(), 1, "{lines:?}");
    assert!(
        lines[0]
            .text
            .starts_with("* 1 FETCH (UID 1 FLAGS (\\Answered \\Flagged")
    );
    assert!(a.ok("NOOP").is_empty());

    // A keyword is announced before it is used.
    b.ok("STORE 2 +FLAGS (fresh)");
    let lines = a.ok("FETCH 2 (FLAGS)");
    let lists = lines.iter().position(|l| l.text.starts_with("* FLAGS ("));
    let used = lines
        .iter()
        .position(|l| l.text.contains(" FETCH (FLAGS ("));
    assert!(lists.expect("lists") < used.expect("used"), "{lines:?}");

    // RFC 9051, 6.4.9: a UID that is gone is no error; a number that is gone is told.
    b.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)");
    b.ok("EXPUNGE");
    let (_, tagged) = a.command("FETCH 1:3 (RFC822.SIZE)");
    assert!(tagged.starts_with("NO [EXPUNGEISSUED]"), "{tagged}");
    let (_, tagged) = a.command("UID FETCH 1:* (RFC822.SIZE)");
    assert!(tagged.starts_with("OK"), "{tagged}");

    // IMAP4rev2 has no \Recent.
    let mut c = server.imap("alice@posthorn.test");
    c.ok("ENABLE IMAP4rev2");
    append(&mut b, 1);
    c.ok("SELECT INBOX");
    b.ok("STORE 1 +FLAGS.SILENT (\\Seen)");
    let told = c.ok("NOOP");
    assert!(told[0].text.contains("\\Seen") && !told[0].text.contains("\\Recent"));
}

#[test]
fn names_are_the_same_wherever_they_stand() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    let mut a = server.imap("alice@posthorn.test");
    a.ok("CREATE inbox/kid");
    a.ok("SELECT InBox/kid");
    a.ok("STATUS inbox/kid (MESSAGES APPENDLIMIT)");
    a.ok("SUBSCRIBE later");
    a.ok("CREATE later");
    let before: Vec<String> = a.ok("LSUB \"\" *").into_iter().map(|l| l.text).collect();
    assert!(before.iter().any(|l| l.ends_with(" later")), "{before:?}");
    server.stop();
    let server = Server::start(&dir, &[]);
    let mut a = server.imap("alice@posthorn.test");
    let after: Vec<String> = a.ok("LSUB \"\" *").into_iter().map(|l| l.text).collect();
    assert_eq!(before, after);
}

#[test]
fn long_searches_are_taken_and_long_patterns_refused() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut a = server.imap("alice@posthorn.test");
    a.ok("SELECT INBOX");
    a.ok(&format!("SEARCH {}ALL", "OR SUBJECT a ".repeat(128)));
    let (_, tagged) = a.command(&format!("SEARCH {}ALL", "NOT ".repeat(129)));
    assert!(tagged.starts_with("BAD"), "{tagged}");
    let (_, tagged) = a.command(&format!("LIST \"\" \"{}\"", "*a".repeat(1025)));
    assert!(tagged.starts_with("NO [LIMIT]"), "{tagged}");
    a.ok(&format!("LIST \"\" \"{}\"", "*a".repeat(1024)));
    // More digits than a number has are still a literal, and none of it is a command.
    a.send(b"z NOOP {99999999999999999999999+}\r\nq LOGOUT\r\n");
    let (_, tagged) = a.until("z");
    assert!(
        tagged.starts_with("NO [TOOBIG]") || tagged.starts_with("BAD"),
        "{tagged}"
    );
    assert!(a.line().expect("a line").text.starts_with("* BYE"));
}
