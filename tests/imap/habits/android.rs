//! K-9 and Thunderbird for Android, FairEmail, Samsung Email, Delta Chat.

use super::*;

const FIELDS: &str = "BODY.PEEK[HEADER.FIELDS (date subject from content-type to cc reply-to \
    message-id references in-reply-to list-unsubscribe sender X-K9mail-Identity Chat-Version)]";

/// UIDs by SEARCH, then everything by UID, newest first; large messages by structure and part.
#[test]
fn k9_synchronises() {
    let (_home, server, mut imap) = inbox(3);
    imap.ok("ID (\"name\" \"Thunderbird\" \"version\" \"8.0\" \"vendor\" NIL)");
    imap.ok("SELECT \"INBOX\"");
    assert_eq!(
        texts(&imap.ok("UID SEARCH 1:* NOT DELETED")),
        ["* SEARCH 1 2 3"]
    );
    let lines = imap.ok("UID FETCH 3,2,1 (UID FLAGS)");
    assert_eq!(count(&lines, "* ", " FETCH (UID "), 3);
    let lines = imap.ok(&format!(
        "UID FETCH 3,2,1 (UID INTERNALDATE RFC822.SIZE {FIELDS})"
    ));
    assert_eq!(count(&lines, "* ", " RFC822.SIZE "), 3);
    let part = one(imap.ok("UID FETCH 3 (UID BODYSTRUCTURE)"));
    assert!(
        part.text.contains("\"mixed\" (\"boundary\" \"x\")"),
        "{part:?}"
    );
    let start = one(imap.ok("UID FETCH 3 (UID BODY.PEEK[]<0.32768>)"));
    assert!(start.text.contains("BODY[]<0> {"), "{start:?}");
    assert_eq!(
        texts(&imap.ok("UID SEARCH 1:* SINCE 1-Jan-2020 NOT DELETED")),
        ["* SEARCH 1 2 3"]
    );
    // From the next UID on, which is not there yet: the last one again, and it sorts that out.
    let next = imap.ok("UID SEARCH 4:* NOT DELETED");
    assert_eq!(texts(&next), ["* SEARCH 3"]);
    deliver(&server, 1);
    let next = imap.ok("UID SEARCH 4:* NOT DELETED");
    let all = texts(&next);
    assert!(
        all.contains(&"* SEARCH 3") || all.contains(&"* SEARCH 4"),
        "{all:?}"
    );
    assert_eq!(
        texts(&imap.ok("UID SEARCH 4:* NOT DELETED")),
        ["* SEARCH 4"]
    );
}

/// It looks for what it has appended by Message-ID, and deletes with UID EXPUNGE.
#[test]
fn k9_finds_what_it_appended() {
    let (_home, _server, mut imap) = inbox(1);
    let tagged = append_waiting(&mut imap, "\"Drafts\" (\\Seen \\Draft)", MAIL);
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    imap.ok("SELECT \"Drafts\"");
    let found = imap.ok("UID SEARCH HEADER MESSAGE-ID \"<habit@example.org>\"");
    assert_eq!(texts(&found), ["* SEARCH 1"]);
    imap.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(texts(&imap.ok("UID EXPUNGE 1")), ["* 1 EXPUNGE"]);
}

/// NOOP keeps it alive; envelopes and structures of ranges by number; parts in pieces of 16 KiB.
#[test]
fn fairemail_polls_and_reads_in_pieces() {
    let (_home, server, mut imap) = inbox(2);
    imap.ok("ID (\"name\" \"FairEmail\" \"version\" \"1.2200\" \"os\" \"Android\" \"os-version\" \"14\")");
    assert_eq!(count(&imap.ok("LSUB \"\" \"*\""), "* LSUB (", ""), 6);
    imap.ok("SELECT INBOX");
    assert!(imap.ok("NOOP").is_empty());
    deliver(&server, 1);
    assert_eq!(texts(&imap.ok("NOOP"))[0], "* 3 EXISTS");
    let lines = imap.ok(
        "FETCH 1:3 (ENVELOPE INTERNALDATE RFC822.SIZE BODYSTRUCTURE FLAGS UID BODY.PEEK[HEADER])",
    );
    assert_eq!(
        count(&lines, "* ", " FETCH (ENVELOPE (\"Mon, 2 Mar 2026"),
        3
    );
    let piece = one(imap.ok("FETCH 1 (BODY.PEEK[1]<0.16384>)"));
    assert_eq!(piece.literals[0], b"Hello");
    let found = imap.ok("UID SEARCH OR SINCE 1-Jan-2020 FLAGGED");
    assert_eq!(texts(&found), ["* SEARCH 1 2 3"]);
    let status = imap.ok("STATUS Drafts (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)");
    assert_eq!(
        count(
            &status,
            "* STATUS Drafts (MESSAGES 0 RECENT 0 UIDNEXT 1 ",
            ""
        ),
        1
    );
}

/// Dates with leading zeros, counts of UNSEEN by STATUS of what is selected, parts up to a size.
#[test]
fn samsung_email_reads() {
    let (_home, _server, mut imap) = inbox(2);
    imap.ok("ID (\"name\" \"com.samsung.android.email.provider\" \"os\" \"android\")");
    imap.ok("LIST \"\" \"*\"");
    imap.ok("SELECT \"INBOX\"");
    let status = imap.ok("STATUS \"INBOX\" (UNSEEN)");
    assert_eq!(texts(&status), ["* STATUS INBOX (UNSEEN 2)"]);
    let found = imap.ok("UID SEARCH SINCE 01-Jan-2020 NOT DELETED");
    assert_eq!(texts(&found), ["* SEARCH 1 2"]);
    let lines = imap.ok(&format!(
        "UID FETCH 2,1 (UID FLAGS INTERNALDATE RFC822.SIZE {FIELDS})"
    ));
    assert_eq!(count(&lines, "* ", " INTERNALDATE \""), 2);
    let part = one(imap.ok("UID FETCH 1 (UID BODY.PEEK[1]<0.51200>)"));
    assert_eq!(part.literals[0], b"Hello");
    imap.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)");
    let status = imap.ok("STATUS \"INBOX\" (UNSEEN)");
    assert_eq!(texts(&status), ["* STATUS INBOX (UNSEEN 1)"]);
}

/// It looks at a few headers, fetches what is for it, moves that away, and empties with CLOSE.
#[test]
fn delta_chat_fetches_moves_and_closes() {
    let (_home, _server, mut imap) = inbox(3);
    imap.ok("ID (\"name\" \"Delta Chat\" \"version\" \"1.50\")");
    if can(&mut imap, "METADATA") {
        imap.ok("GETMETADATA \"\" (/shared/comment /shared/admin)");
        // The token by which a phone is woken.
        imap.ok("SETMETADATA INBOX (/private/devicetoken \"fcm-token\")");
        let told = imap.ok("GETMETADATA INBOX (/private/devicetoken)");
        assert_eq!(
            count(&told, "* METADATA INBOX (/private/devicetoken", "fcm-token"),
            1
        );
    }
    imap.ok("CREATE \"DeltaChat\"");
    imap.ok("SUBSCRIBE \"DeltaChat\"");
    let conditional = can(&mut imap, "CONDSTORE");
    imap.ok(["SELECT \"INBOX\"", "SELECT \"INBOX\" (CONDSTORE)"][usize::from(conditional)]);
    let lines = imap.ok(
        "UID FETCH 1:* (UID INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE \
         X-MICROSOFT-ORIGINAL-MESSAGE-ID FROM IN-REPLY-TO REFERENCES CHAT-VERSION \
         AUTOCRYPT-SETUP-MESSAGE)])",
    );
    assert_eq!(count(&lines, "* ", " RFC822.SIZE "), 3);
    let whole = one(imap.ok("UID FETCH 2 (FLAGS BODY.PEEK[])"));
    assert!(!whole.text.contains("\\Seen") && whole.literals[0].ends_with(b"--x--\r\n"));
    let moved = imap.ok("UID MOVE 2 \"DeltaChat\"");
    assert_eq!(count(&moved, "* OK [COPYUID ", ""), 1);
    imap.ok("UID STORE 1 +FLAGS (\\Seen)");
    imap.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(texts(&imap.ok("CLOSE")), [""; 0]);
    let status = imap.ok("STATUS \"INBOX\" (MESSAGES UIDNEXT)");
    assert_eq!(texts(&status), ["* STATUS INBOX (MESSAGES 1 UIDNEXT 4)"]);
    let quota = imap.ok("GETQUOTAROOT \"INBOX\"");
    assert_eq!(count(&quota, "* QUOTAROOT INBOX", ""), 1);
}
