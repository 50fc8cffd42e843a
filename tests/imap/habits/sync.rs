//! mbsync and offlineimap.

use super::*;

/// It marks what it appends with X-TUID, so that it finds it again; literals do not wait; UID
/// ranges go far beyond what is there.
#[test]
fn mbsync_appends_with_x_tuid() {
    let (_home, _server, mut imap) = inbox(2);
    imap.ok("SELECT \"INBOX\"");
    let lines = imap.ok("UID FETCH 1:1000 (UID FLAGS RFC822.SIZE)");
    assert_eq!(count(&lines, "* ", " RFC822.SIZE "), 2);
    assert!(imap.ok("UID FETCH 3:2147483647 (UID FLAGS)").is_empty());
    let text = format!("X-TUID: abcdefghijkl\r\n{MAIL}");
    let date = "\" 2-Mar-2026 10:00:00 +0100\"";
    let words = format!("\"INBOX\" (\\Seen \\Flagged) {date} {{{}+}}", text.len());
    imap.send(format!("a APPEND {words}\r\n{text}\r\nb NOOP\r\n").as_bytes());
    let (_, tagged) = imap.until("a");
    let uid = tagged
        .split([' ', ']'])
        .nth(3)
        .expect("APPENDUID")
        .to_owned();
    assert!(imap.until("b").1.starts_with("OK"));
    // Without UIDPLUS it would look for it in one of two ways.
    let found = imap.ok("UID SEARCH HEADER X-TUID abcdefghijkl");
    assert_eq!(texts(&found), [format!("* SEARCH {uid}")]);
    let header = one(imap.ok("UID FETCH 3:2147483647 (UID BODY.PEEK[HEADER.FIELDS (X-TUID)])"));
    assert_eq!(header.literals[0], b"X-TUID: abcdefghijkl\r\n\r\n");
    let whole = one(imap.ok(&format!(
        "UID FETCH {uid} (UID BODY.PEEK[] FLAGS INTERNALDATE)"
    )));
    assert_eq!(whole.literals[0], text.as_bytes());
    let flags = "FLAGS (\\Flagged \\Seen";
    assert!(whole.text.contains(flags), "{whole:?}");
    imap.send(
        b"c UID STORE 1 +FLAGS.SILENT (\\Deleted)\r\nd UID EXPUNGE 1\r\ne CHECK\r\nf CLOSE\r\n",
    );
    for tag in ["c", "d", "e", "f"] {
        assert!(imap.until(tag).1.starts_with("OK"));
    }
    let status = imap.ok("STATUS \"INBOX\" (MESSAGES)");
    assert_eq!(texts(&status), ["* STATUS INBOX (MESSAGES 2)"]);
}

/// Everything of the folder in one FETCH; it marks what it uploads too, and keeps alive by NOOP.
#[test]
fn offlineimap_reads_a_folder() {
    let (_home, _server, mut imap) = inbox(3);
    imap.ok("EXAMINE INBOX");
    let lines = imap.ok("FETCH 1:* (FLAGS UID INTERNALDATE)");
    assert_eq!(count(&lines, "* ", " FETCH (FLAGS ("), 3);
    assert_eq!(count(&lines, "* ", " INTERNALDATE \""), 3);
    let whole = one(imap.ok("UID FETCH 2 (BODY.PEEK[])"));
    assert!(whole.literals[0].ends_with(b"--x--\r\n"));
    imap.ok("SELECT INBOX");
    let text = format!("X-OfflineIMAP: 1234567890-0123456789\r\n{MAIL}");
    let tagged = append_waiting(&mut imap, "INBOX (\\Seen)", &text);
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    let found = imap.ok("UID SEARCH HEADER X-OfflineIMAP 1234567890-0123456789");
    assert_eq!(texts(&found), ["* SEARCH 4"]);
    assert!(imap.ok("NOOP").is_empty());
    imap.ok("UID STORE 1:3 +FLAGS (\\Seen)");
    imap.ok("UID STORE 1,3 +FLAGS (\\Deleted)");
    assert_eq!(texts(&imap.ok("EXPUNGE")), ["* 3 EXPUNGE", "* 1 EXPUNGE"]);
    assert_eq!(texts(&imap.ok("UID SEARCH ALL")), ["* SEARCH 2 4"]);
}
