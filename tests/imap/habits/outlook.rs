//! Outlook for Windows.

use super::*;
use crate::common::serve::{AUTH, Serving, configuration};
use crate::common::{IMAP, PASSWORD};

/// All literals wait to be asked for, also in LOGIN; names are always quoted; it goes by LSUB.
#[test]
fn outlook_waits_with_every_literal() {
    let (_home, server) = server();
    deliver(&server, 2);
    let mut imap = Imap::connect(server.port(IMAP)).expect("IMAP");
    imap.send(format!("a LOGIN {{{}}}\r\n", ALICE.len()).as_bytes());
    assert!(imap.line().expect("+").text.starts_with('+'));
    imap.send(format!("{ALICE} {{{}}}\r\n", PASSWORD.len()).as_bytes());
    assert!(imap.line().expect("+").text.starts_with('+'));
    imap.send(format!("{PASSWORD}\r\n").as_bytes());
    assert!(imap.until("a").1.starts_with("OK"));
    assert_eq!(
        texts(&imap.ok("LIST \"\" \"\"")),
        ["* LIST (\\Noselect) \"/\" \"\""]
    );
    let subscribed = imap.ok("LSUB \"\" \"*\"");
    for name in ["INBOX", "Sent", "Drafts", "Trash", "Junk"] {
        // What it does not find here it does not show.
        assert_eq!(count(&subscribed, "* LSUB ()", &format!(" {name}")), 1);
    }
    imap.ok("SELECT \"INBOX\"");
    let lines = imap.ok("UID FETCH 1:* (UID FLAGS)");
    assert_eq!(count(&lines, "* ", " FETCH (UID "), 2);
    let items = "(UID RFC822.SIZE FLAGS INTERNALDATE BODY.PEEK[HEADER])";
    let line = one(imap.ok(&format!("UID FETCH 2 {items}")));
    assert!(
        line.text.starts_with("* 2 FETCH (UID 2 RFC822.SIZE "),
        "{line:?}"
    );
    let header = String::from_utf8_lossy(&line.literals[0]);
    assert!(header.contains("Message-ID: <habit@example.org>"));
    let whole = one(imap.ok("UID FETCH 2 (UID BODY.PEEK[])"));
    assert!(whole.literals[0].ends_with(b"--x--\r\n"));
    let tagged = append_waiting(&mut imap, "\"Sent\" (\\Seen)", MAIL);
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    imap.ok("CREATE \"Sent Items\"");
    imap.ok("SUBSCRIBE \"Sent Items\"");
    let listed = imap.ok("LSUB \"\" \"*\"");
    assert_eq!(count(&listed, "* LSUB () \"/\" \"Sent Items\"", ""), 1);
}

/// It strikes through instead of expunging: \Deleted is shown to others and kept.
#[test]
fn outlook_marks_and_purges_later() {
    let (_home, server, mut imap) = inbox(3);
    imap.ok("SELECT \"INBOX\"");
    let lines = imap.ok("UID STORE 2 +FLAGS (\\Deleted)");
    assert!(one(lines).text.contains("\\Deleted"));
    let mut other = server.imap(ALICE);
    other.ok("SELECT INBOX");
    assert_eq!(texts(&other.ok("UID SEARCH DELETED")), ["* SEARCH 2"]);
    assert_eq!(texts(&imap.ok("EXPUNGE")), ["* 2 EXPUNGE"]);
}

/// It stays in one IDLE for as long as it can and reissues nothing: the server keeps the
/// connection alive and does not send it away.
#[test]
fn outlook_stays_in_idle() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start_with(home.path(), |base| {
        let text = configuration(base, "data", AUTH);
        text.replacen("[http]", "heartbeat_secs = 1\n[http]", 1)
    });
    let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN {ALICE} {PASSWORD}"));
    imap.ok("SELECT \"INBOX\"");
    imap.send(b"i IDLE\r\n");
    assert!(imap.line().expect("+").text.starts_with('+'));
    for _ in 0..2 {
        assert_eq!(imap.line().expect("a line").text, "* OK Still here");
    }
    imap.send(b"DONE\r\n");
    assert!(imap.until("i").1.starts_with("OK"));
}
