//! iOS Mail and Apple Mail.

use super::*;

const FIELDS: &str = "BODY.PEEK[HEADER.FIELDS (date subject from to cc message-id in-reply-to \
    references content-type x-priority x-uniform-type-identifier x-universally-unique-identifier \
    list-id list-unsubscribe)]";

/// ID before all else, everything of all messages in one FETCH by number, structures and parts
/// later, by UID.
#[test]
fn ios_mail_reads() {
    let (_home, _server, mut imap) = inbox(3);
    let id = imap.ok(
        "ID (\"name\" \"iPhone Mail\" \"version\" \"22A3354\" \"os\" \"iOS\" \"os-version\" \
         \"18.0 (22A3354)\")",
    );
    assert_eq!(count(&id, "* ID (\"name\" \"Posthorn\"", ""), 1);
    let listed = imap.ok("LIST \"\" \"*\"");
    for role in ["\\Sent", "\\Drafts", "\\Trash", "\\Junk", "\\Archive"] {
        // Without being asked for: it makes mailboxes of its own where it finds no roles.
        assert_eq!(count(&listed, "* LIST (", role), 1, "{role}");
    }
    imap.ok("SELECT INBOX");
    let lines = imap.ok(&format!(
        "FETCH 1:* (INTERNALDATE UID RFC822.SIZE FLAGS {FIELDS})"
    ));
    let fetched = count(&lines, "* ", " FETCH (INTERNALDATE \"");
    assert_eq!(fetched, 3);
    for line in &lines {
        let header = String::from_utf8_lossy(&line.literals[0]);
        assert!(header.contains("Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n"));
        assert!(header.ends_with("\r\n\r\n"), "{header:?}");
    }
    let structure = one(imap.ok("UID FETCH 2 BODYSTRUCTURE"));
    assert!(
        structure
            .text
            .contains("\"attachment\" (\"filename\" \"a.pdf\")")
    );
    // The MIME header of a part and the part, in pieces.
    let part = one(imap.ok("UID FETCH 2 (BODY.PEEK[2.MIME] BODY.PEEK[2]<0.4>)"));
    assert!(part.text.contains("BODY[2]<0> {4}"), "{part:?}");
    assert_eq!(part.literals[1], b"JVBE");
    let found = imap.ok("UID SEARCH 1:* NOT DELETED");
    assert_eq!(texts(&found), ["* SEARCH 1 2 3"]);
}

/// It deletes by COPY to the trash, \Deleted and EXPUNGE.
#[test]
fn ios_mail_deletes() {
    let (_home, _server, mut imap) = inbox(2);
    imap.ok("SELECT INBOX");
    let (_, copied) = imap.command("UID COPY 1 Trash");
    assert!(copied.starts_with("OK [COPYUID "), "{copied}");
    let lines = imap.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted \\Seen)");
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(texts(&imap.ok("UID EXPUNGE 1")), ["* 1 EXPUNGE"]);
    let status = imap.ok("STATUS Trash (MESSAGES UNSEEN)");
    assert_eq!(texts(&status), ["* STATUS Trash (MESSAGES 1 UNSEEN 1)"]);
}

/// Its junk keywords come before anybody has made them; drafts come with them and a date.
#[test]
fn apple_mail_keywords_and_drafts() {
    let (_home, _server, mut imap) = inbox(1);
    imap.ok("ID (\"name\" \"Mac OS X Mail\" \"version\" \"16.0 (3696.120.41)\" \"vendor\" \"Apple Inc.\")");
    let selected = imap.ok("SELECT INBOX");
    assert_eq!(count(&selected, "* OK [PERMANENTFLAGS (", "\\*)]"), 1);
    let lines = imap.ok("STORE 1 +FLAGS ($NotJunk NotJunk JunkRecorded)");
    assert_eq!(count(&lines, "* FLAGS (", "JunkRecorded"), 1, "{lines:?}");
    let stored = one(lines);
    assert!(
        stored.text.contains("$NotJunk NotJunk JunkRecorded"),
        "{stored:?}"
    );
    let words = "Drafts (\\Seen $NotJunk NotJunk) \" 2-Mar-2026 10:00:00 +0100\"";
    let tagged = append_waiting(&mut imap, words, MAIL);
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    imap.ok("SELECT Drafts");
    let draft = one(imap.ok("FETCH 1 (FLAGS INTERNALDATE)"));
    assert!(
        draft
            .text
            .contains("INTERNALDATE \" 2-Mar-2026 10:00:00 +0100\""),
        "{draft:?}"
    );
}

/// It leaves IDLE and sends the next command in one write, without waiting for the tagged OK.
#[test]
fn apple_mail_leaves_idle_in_a_hurry() {
    let (_home, server, mut imap) = inbox(1);
    imap.ok("SELECT INBOX");
    imap.send(b"i IDLE\r\n");
    assert!(imap.line().expect("+").text.starts_with('+'));
    deliver(&server, 1);
    assert_eq!(imap.line().expect("EXISTS").text, "* 2 EXISTS");
    imap.send(b"DONE\r\nj UID FETCH 2 FLAGS\r\nk IDLE\r\n");
    assert!(imap.until("i").1.starts_with("OK"));
    let (lines, tagged) = imap.until("j");
    assert!(tagged.starts_with("OK") && one(lines).text.starts_with("* 2 FETCH (UID 2 "));
    assert!(imap.line().expect("+").text.starts_with('+'));
    imap.send(b"done\r\n");
    assert!(imap.until("k").1.starts_with("OK"));
}
