//! Thunderbird, Evolution, mutt.

use super::*;

const HEADERS: &str = "BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority \
    X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)]";

/// Commands in lower case, ID NIL is answered too, quota after each SELECT, flags of all.
#[test]
fn thunderbird_opens_a_folder() {
    let (_home, _server, mut imap) = inbox(3);
    assert_eq!(count(&imap.ok("ID NIL"), "* ID (", "Posthorn"), 1);
    let spaces = imap.ok("namespace");
    let own = "* NAMESPACE ((\"\" \"/\")) ";
    assert!(texts(&spaces)[0].starts_with(own), "{spaces:?}");
    let listed = imap.ok("list (subscribed) \"\" \"*\" return (special-use)");
    assert_eq!(count(&listed, "* LIST (", "\\Subscribed"), 6, "{listed:?}");
    assert_eq!(count(&listed, "* LIST (", "\\Trash"), 1);
    imap.ok("select \"INBOX\"");
    let quota = imap.ok("getquotaroot \"INBOX\"");
    assert_eq!(count(&quota, "* QUOTAROOT INBOX", ""), 1, "{quota:?}");
    let flags = imap.ok("UID fetch 1:* (FLAGS)");
    assert_eq!(count(&flags, "* ", " FETCH (UID "), 3);
    let headers = imap.ok(&format!("UID fetch 1:3 (UID RFC822.SIZE FLAGS {HEADERS})"));
    for line in &headers {
        let header = String::from_utf8_lossy(&line.literals[0]);
        assert!(
            header.contains("Message-ID: <habit@example.org>"),
            "{header}"
        );
    }
    // Its size is what comes: it shows a message as cut off otherwise.
    let whole = one(imap.ok("UID fetch 3 (UID RFC822.SIZE BODY[])"));
    let size = format!("RFC822.SIZE {} ", whole.literals[0].len());
    assert!(whole.text.contains(&size), "{whole:?}");
    // From behind the last one: the last one all the same (RFC 9051, 9, seq-range).
    let new = imap.ok("UID fetch 4:* (FLAGS)");
    let last = one(new).text;
    assert!(last.starts_with("* 3 FETCH (UID 3 FLAGS (\\Seen"), "{last}");
    imap.ok("check");
}

/// DONE and the next command cross with what IDLE tells.
#[test]
fn thunderbird_idle_races() {
    let (_home, server, mut imap) = inbox(1);
    let mut other = server.imap(ALICE);
    other.ok("SELECT INBOX");
    imap.ok("select \"INBOX\"");
    for round in 0..20 {
        imap.send(b"i IDLE\r\n");
        assert!(imap.line().expect("+").text.starts_with('+'));
        let sign = ["+", "-"][round % 2];
        other.send(format!("s STORE 1 {sign}FLAGS (\\Flagged)\r\n").as_bytes());
        imap.send(b"DONE\r\nn noop\r\n");
        let (mut lines, tagged) = imap.until("i");
        assert!(tagged.starts_with("OK"), "{tagged}");
        assert!(other.until("s").1.starts_with("OK"));
        lines.extend(imap.until("n").0);
        lines.extend(imap.ok("noop"));
        // Once, wherever it fell.
        assert_eq!(
            count(&lines, "* 1 FETCH (UID 1 FLAGS (", ""),
            1,
            "{lines:?}"
        );
    }
}

/// Junk by keywords, moving by MOVE, and undo by moving back with the UIDs of COPYUID.
#[test]
fn thunderbird_moves_and_undoes() {
    let (_home, _server, mut imap) = inbox(2);
    imap.ok("select \"INBOX\"");
    imap.ok("uid store 2 +FLAGS (NonJunk)");
    imap.ok("uid store 2 -FLAGS (Junk)");
    let lines = imap.ok("uid move 2 \"Trash\"");
    let code = texts(&lines)[0];
    let target = code
        .strip_suffix("] Moved")
        .and_then(|c| c.rsplit(' ').next());
    assert_eq!(texts(&lines)[1], "* 2 EXPUNGE");
    let target = target.expect("a UID").to_owned();
    imap.ok("select \"Trash\"");
    let flags = one(imap.ok(&format!("UID fetch {target} (FLAGS)")));
    assert!(flags.text.contains("NonJunk"), "{flags:?}");
    imap.ok(&format!("uid move {target} \"INBOX\""));
    assert_eq!(
        texts(&imap.ok("status \"INBOX\" (UIDNEXT MESSAGES UNSEEN RECENT)")),
        ["* STATUS INBOX (UIDNEXT 4 MESSAGES 2 UNSEEN 2 RECENT 1)"]
    );
}

/// It reads large messages in pieces of BODY.PEEK[]<n.m> until one is short.
#[test]
fn evolution_reads_in_pieces() {
    let (_home, _server, mut imap) = inbox(1);
    let listed = imap.ok("LIST \"\" \"*\" RETURN (CHILDREN SUBSCRIBED SPECIAL-USE)");
    assert_eq!(
        count(&listed, "* LIST (\\HasNoChildren \\Subscribed \\Sent)", ""),
        1
    );
    imap.ok("SELECT INBOX");
    let whole = one(imap.ok("UID FETCH 1 (BODY.PEEK[])")).literals.remove(0);
    let mut read = Vec::new();
    loop {
        let at = read.len();
        let line = one(imap.ok(&format!("UID FETCH 1 (BODY.PEEK[]<{at}.100>)")));
        assert!(line.text.contains(&format!("BODY[]<{at}> ")), "{line:?}");
        // Behind the end: an empty string, no NIL.
        let piece = line.literals.first().cloned().unwrap_or_default();
        assert!(!line.text.contains("NIL"), "{line:?}");
        read.extend_from_slice(&piece);
        if piece.len() < 100 {
            break;
        }
    }
    assert_eq!(read, whole);
    let end = one(imap.ok(&format!("UID FETCH 1 (BODY.PEEK[]<{}.100>)", whole.len())));
    let empty = end.text.ends_with("> \"\")") || end.literals == [Vec::<u8>::new()];
    assert!(empty, "{end:?}");
    imap.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)");
    assert!(imap.ok("NOOP").is_empty());
}

/// It fetches headers by number in one go, keeps them, and next time asks only for flags; what it
/// changes goes out as one pipeline.
#[test]
fn mutt_headers_and_pipelines() {
    let (_home, _server, mut imap) = inbox(3);
    assert_eq!(
        texts(&imap.ok("LIST \"\" \"\"")),
        ["* LIST (\\Noselect) \"/\" \"\""]
    );
    let selected = imap.ok("SELECT \"INBOX\"");
    for code in ["[UIDVALIDITY ", "[UIDNEXT 4]", "[PERMANENTFLAGS ("] {
        assert_eq!(count(&selected, "* OK [", code), 1, "{code}");
    }
    let fields = "DATE FROM SENDER SUBJECT TO CC MESSAGE-ID REFERENCES CONTENT-TYPE \
                  CONTENT-DESCRIPTION IN-REPLY-TO REPLY-TO LINES LIST-POST X-LABEL X-ORIGINAL-TO";
    let lines = imap.ok(&format!(
        "FETCH 1:3 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS ({fields})])"
    ));
    assert_eq!(count(&lines, "* ", "BODY[HEADER.FIELDS ("), 3);
    assert_eq!(
        count(&imap.ok("UID FETCH 1:3 (UID FLAGS)"), "* ", " FETCH (UID "),
        3
    );
    imap.send(
        b"a1 UID STORE 1 +FLAGS.SILENT (\\Answered)\r\n\
          a2 UID STORE 2 +FLAGS.SILENT (\\Deleted)\r\n\
          a3 UID COPY 3 \"Archive\"\r\n\
          a4 EXPUNGE\r\n\
          a5 STATUS \"Archive\" (UIDNEXT UIDVALIDITY UNSEEN RECENT MESSAGES)\r\n\
          a6 NOOP\r\n",
    );
    for (tag, want) in [
        ("a1", 0),
        ("a2", 0),
        ("a3", 0),
        ("a4", 1),
        ("a5", 1),
        ("a6", 0),
    ] {
        let (lines, tagged) = imap.until(tag);
        assert!(tagged.starts_with("OK"), "{tagged}");
        assert_eq!(lines.len(), want, "{tag} {lines:?}");
    }
    let body = one(imap.ok("UID FETCH 3 BODY.PEEK[]"));
    assert!(
        body.text.starts_with("* 2 FETCH (UID 3 BODY[] {"),
        "{body:?}"
    );
    imap.ok("CLOSE");
}
