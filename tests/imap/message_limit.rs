//! MESSAGELIMIT (RFC 9738): its examples, in a mailbox of more messages than a command may work on.

use super::common::Imap;
use super::{append, configured, login, server, texts};

/// 1,024 messages with the UIDs 1 to 1,024, without one COPY of more than the limit.
fn filled(imap: &mut Imap) {
    imap.ok("CREATE box");
    imap.ok("CREATE other");
    imap.ok("SELECT box");
    append(imap, "box", "");
    for _ in 0..9 {
        imap.ok("COPY 1:* box");
    }
    imap.ok("COPY 1:500 box");
    imap.ok("COPY 1:12 box");
}

fn fetched(imap: &mut Imap, command: &str) -> (Vec<String>, String) {
    let (lines, tagged) = imap.command(command);
    let lines = lines.into_iter().map(|l| l.text);
    (lines.filter(|l| l.contains(" FETCH ")).collect(), tagged)
}

#[test]
fn without_a_limit_there_is_none() {
    let (_home, server) = server();
    let mut imap = server.imap(super::ALICE);
    let lines = imap.ok("CAPABILITY");
    assert!(!texts(&lines).join("").contains("MESSAGELIMIT"));
    filled(&mut imap);
    let (lines, tagged) = fetched(&mut imap, "FETCH 1:* (UID)");
    assert_eq!((lines.len(), tagged.as_str()), (1024, "OK Fetched"));
    // RFC 9738, 3.2, which costs nothing to have.
    let one = |imap: &mut Imap, keys: &str| {
        let lines = imap.ok(&format!("UID SEARCH {keys}"));
        texts(&lines).join("")
    };
    assert_eq!(one(&mut imap, "UIDAFTER 1022"), "* SEARCH 1023 1024");
    assert_eq!(one(&mut imap, "UIDAFTER 1024"), "* SEARCH");
    assert_eq!(one(&mut imap, "UIDAFTER 4294967295"), "* SEARCH");
    assert_eq!(one(&mut imap, "UIDBEFORE 3"), "* SEARCH 1 2");
    assert_eq!(one(&mut imap, "UIDBEFORE 1"), "* SEARCH");
    for wrong in ["UIDAFTER", "UIDAFTER 0", "UIDBEFORE 1:2", "UIDBEFORE *"] {
        assert!(
            imap.command(&format!("SEARCH {wrong}"))
                .1
                .starts_with("BAD"),
            "{wrong}"
        );
    }
}

/// RFC 9738, 3.1 and 3.4.
#[test]
fn the_last_ones_are_worked_on_and_the_answer_says_so() {
    let (_home, server) = configured("message_limit = 1000");
    let mut imap = login(&server);
    let lines = imap.ok("CAPABILITY");
    assert!(texts(&lines).join("").contains(" MESSAGELIMIT=1000"));
    filled(&mut imap);
    let limited = |tagged: &str, lowest: u32| {
        let code = format!("OK [MESSAGELIMIT 1000 {lowest}] ");
        assert!(tagged.starts_with(&code), "{tagged}");
    };
    // From the last to the first.
    for (command, lowest) in [
        ("FETCH 1:* (UID FLAGS)", 25),
        ("UID FETCH 4:1022 (FLAGS)", 23),
    ] {
        let (lines, tagged) = fetched(&mut imap, command);
        limited(&tagged, lowest);
        assert_eq!(lines.len(), 1000);
        assert!(
            lines[999].starts_with(&format!("* {lowest} FETCH ")),
            "{}",
            lines[999]
        );
        let last = lowest + 999;
        assert!(
            lines[0].starts_with(&format!("* {last} FETCH ")),
            "{}",
            lines[0]
        );
    }
    let (lines, tagged) = fetched(&mut imap, "FETCH 1:* (RFC822.SIZE BODY.PEEK[TEXT])");
    limited(&tagged, 25);
    assert!(
        lines[0].starts_with("* 1024 FETCH (RFC822.SIZE 14 BODY[TEXT]"),
        "{}",
        lines[0]
    );
    assert!(
        lines[999].starts_with("* 25 FETCH (RFC822.SIZE 14 BODY[TEXT]"),
        "{}",
        lines[999]
    );
    let (lines, tagged) = fetched(&mut imap, "FETCH 25:1024 (FLAGS)");
    assert_eq!((lines.len(), tagged.as_str()), (1000, "OK Fetched"));
    // Messages that are looked at count, not those that are found.
    let (lines, tagged) = imap.command("SEARCH SEEN");
    limited(&tagged, 25);
    assert_eq!(texts(&lines), ["* SEARCH"]);
    let (_, tagged) = imap.command("UID SEARCH UID 1:1000 UNSEEN");
    assert_eq!(tagged, "OK Searched");
    let (_, tagged) = imap.command("SEARCH 10:1024 UNSEEN UIDBEFORE 1020");
    limited(&tagged, 20);
    let (_, tagged) = imap.command("UID SEARCH RETURN (SAVE) UNSEEN");
    limited(&tagged, 25);
    let (lines, tagged) = fetched(&mut imap, "UID FETCH $ (FLAGS)");
    assert_eq!((lines.len(), tagged.as_str()), (1000, "OK Fetched"));
    let (_, tagged) = imap.command("STORE 1:* +FLAGS.SILENT (\\Deleted)");
    limited(&tagged, 25);
    let lines = imap.ok("STATUS box (DELETED)");
    assert_eq!(texts(&lines), ["* STATUS box (DELETED 1000)"]);
    // COPY as a whole, or not.
    let (_, tagged) = imap.command("UID COPY 1:1024 other");
    assert!(tagged.starts_with("NO [MESSAGELIMIT 1000 25] "), "{tagged}");
    let lines = imap.ok("STATUS other (MESSAGES)");
    assert_eq!(texts(&lines), ["* STATUS other (MESSAGES 0)"]);
    // Both codes, with the mod-sequence in the tagged answer.
    imap.ok("ENABLE QRESYNC");
    let (lines, tagged) = imap.command("UID MOVE 1:1024 other");
    let lines = texts(&lines);
    assert!(lines[0].contains(" 25:1024 1:1000] "), "{lines:?}");
    assert_eq!(lines[1], "* VANISHED 25:1024");
    assert!(
        lines[2].starts_with("* NO [MESSAGELIMIT 1000 25] "),
        "{lines:?}"
    );
    assert!(tagged.starts_with("OK [HIGHESTMODSEQ "), "{tagged}");
    // Those that are marked count in UID EXPUNGE; EXPUNGE has no limit.
    imap.ok("UID COPY 1:24 other");
    imap.ok("SELECT other");
    imap.ok("UID STORE 1:24 +FLAGS.SILENT (\\Deleted)");
    imap.ok("UID STORE 1001:* +FLAGS.SILENT (\\Deleted)");
    let (lines, tagged) = imap.command("UID EXPUNGE 1:*");
    assert_eq!(texts(&lines)[0], "* VANISHED 25:1024");
    assert!(
        texts(&lines)[1].starts_with("* NO [MESSAGELIMIT 1000 25] "),
        "{lines:?}"
    );
    assert!(tagged.starts_with("OK [HIGHESTMODSEQ "), "{tagged}");
    let (lines, tagged) = imap.command("EXPUNGE");
    assert_eq!(texts(&lines), ["* VANISHED 1:24"]);
    assert!(tagged.starts_with("OK [HIGHESTMODSEQ "), "{tagged}");
}

/// RFC 9738, 3.1: a number that the client chose is not cut, and neither is one APPEND.
#[test]
fn what_is_asked_for_as_a_whole_is_refused() {
    let (_home, server) = configured("message_limit = 1000");
    let mut imap = login(&server);
    filled(&mut imap);
    let (lines, tagged) = fetched(&mut imap, "UID FETCH 1:* (FLAGS) (PARTIAL -1:-1001)");
    assert!(tagged.starts_with("NO [MESSAGELIMIT 1000] "), "{tagged}");
    assert!(lines.is_empty());
    let (lines, tagged) = fetched(&mut imap, "UID FETCH 1:* (FLAGS) (PARTIAL 1:1000)");
    assert_eq!((lines.len(), tagged.as_str()), (1000, "OK Fetched"));
    let message = " {12+}\r\nSubject: s\r\n";
    for (messages, answer) in [(1001, "NO [MESSAGELIMIT 1000] "), (1000, "OK [APPENDUID ")] {
        let (_, tagged) = imap.command(&format!("APPEND other{}", message.repeat(messages)));
        assert!(tagged.starts_with(answer), "{tagged}");
    }
    let lines = imap.ok("STATUS other (MESSAGES)");
    assert_eq!(texts(&lines), ["* STATUS other (MESSAGES 1000)"]);
}

/// RFC 9738, 3.1: both codes, so that nobody takes what was left out for expunged.
#[test]
fn what_was_left_out_is_told_beside_what_is_gone() {
    let (_home, server) = configured("message_limit = 1000");
    let mut imap = login(&server);
    filled(&mut imap);
    let mut other = login(&server);
    other.ok("SELECT box");
    other.ok("UID STORE 1000 +FLAGS.SILENT (\\Deleted)");
    other.ok("UID EXPUNGE 1000");
    let (lines, tagged) = imap.command("STORE 1:* +FLAGS.SILENT (\\Seen)");
    let lines = texts(&lines);
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("* NO [MESSAGELIMIT 1000 25] ")),
        "{lines:?}"
    );
    assert!(tagged.starts_with("OK [EXPUNGEISSUED] "), "{tagged}");
}
