//! QRESYNC (RFC 7162, 3.2): a client that comes back hears of what it missed, and of nothing else.

use super::common::{Imap, Line, Server};
use super::{ALICE, append, server, texts};

fn filled(server: &Server, count: u32) -> Imap {
    let mut imap = server.imap(ALICE);
    imap.ok("CREATE box");
    for _ in 0..count {
        append(&mut imap, "box", "");
    }
    let lines = imap.ok("ENABLE QRESYNC");
    assert_eq!(texts(&lines), ["* ENABLED QRESYNC"]);
    imap
}

fn number(text: &str, word: &str) -> u64 {
    let at = text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    let digits = text[at + word.len()..].trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().expect(word)
}

/// UIDVALIDITY and HIGHESTMODSEQ of an answer to SELECT.
fn state(lines: &[Line]) -> (u64, u64) {
    let all = texts(lines).join("\n");
    (number(&all, "[UIDVALIDITY"), number(&all, "[HIGHESTMODSEQ"))
}

fn expunge(imap: &mut Imap, set: &str) -> (Vec<String>, String) {
    imap.ok(&format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)"));
    let (lines, tagged) = imap.command(&format!("UID EXPUNGE {set}"));
    (lines.into_iter().map(|l| l.text).collect(), tagged)
}

/// What a SELECT with these parameters tells of changes, without their mod-sequences.
fn resync(imap: &mut Imap, parameter: &str) -> Vec<String> {
    let lines = imap.ok(&format!("SELECT box (QRESYNC ({parameter}))"));
    let lines = lines.into_iter().map(|l| l.text);
    let told = lines.filter(|l| l.contains("VANISHED") || l.contains(" FETCH "));
    told.map(|line| match (line.find(" MODSEQ ("), line.find(" FLAGS")) {
        (Some(from), Some(to)) => format!("{}{}", &line[..from], &line[to..]),
        _ => line,
    })
    .collect()
}

/// RFC 7162, 3.2.5.1, 3.2.10.1 and 5.3.
#[test]
fn who_comes_back_hears_what_went_and_what_changed() {
    let (_home, server) = server();
    let mut a = filled(&server, 20);
    let (validity, since) = state(&a.ok("SELECT box"));
    expunge(&mut a, "2:4");
    expunge(&mut a, "9,20");
    a.ok("UID STORE 7 +FLAGS.SILENT (\\Seen)");
    a.ok("CREATE other");
    let moved = a.command("UID MOVE 12 other").1;
    assert!(moved.starts_with("OK [HIGHESTMODSEQ "), "{moved}");
    append(&mut a, "box", "(\\Flagged) ");
    let (_, now) = state(&a.ok("SELECT box"));

    let mut b = server.imap(ALICE);
    b.ok("ENABLE QRESYNC CONDSTORE");
    assert_eq!(
        resync(&mut b, &format!("{validity} {since}")),
        [
            "* VANISHED (EARLIER) 2:4,9,12,20",
            "* 4 FETCH (UID 7 FLAGS (\\Seen))",
            "* 15 FETCH (UID 21 FLAGS (\\Flagged))",
        ]
    );
    // Only of those that it knows.
    assert_eq!(
        resync(&mut b, &format!("{validity} {since} 1:3,12:21")),
        [
            "* VANISHED (EARLIER) 2:3,12,20",
            "* 15 FETCH (UID 21 FLAGS (\\Flagged))",
        ]
    );
    // Nothing is new; a mailbox of before.
    assert!(resync(&mut b, &format!("{validity} {now}")).is_empty());
    assert!(resync(&mut b, &format!("{} {since}", validity - 1)).is_empty());
    // The end of EXAMINE is as that of SELECT.
    let lines = b.ok(&format!("EXAMINE box (QRESYNC ({validity} {since} 4))"));
    let lines = texts(&lines);
    assert_eq!(
        lines.first(),
        Some(&"* OK [CLOSED] The previous mailbox is closed")
    );
    assert_eq!(lines.last(), Some(&"* VANISHED (EARLIER) 4"));
    for wrong in [
        "(QRESYNC)",
        "(QRESYNC ())",
        "(QRESYNC (1))",
        "(QRESYNC (0 1))",
        "(QRESYNC (1 0))",
        "(QRESYNC (1 1 1:*))",
        "(QRESYNC (1 1 $))",
        "(QRESYNC (1 1 1:3 (1:3 1:2)))",
        "(QRESYNC (1 1 1:3 (3,1 1,3)))",
        "(QRESYNC (1 9223372036854775808))",
    ] {
        b.ok("NOOP");
        let (lines, tagged) = b.command(&format!("SELECT box {wrong}"));
        assert!(
            tagged.starts_with("BAD") && lines.is_empty(),
            "{wrong}: {tagged}"
        );
    }
    // Still selected.
    b.ok("UID FETCH 1 FLAGS");
}

/// RFC 7162, 3.2.5.2: what stands where it stood needs not be told, though it may be too long ago.
#[test]
fn numbers_that_still_match_spare_what_is_before_them() {
    let (_home, server) = server();
    let mut a = filled(&server, 12);
    let (validity, since) = state(&a.ok("SELECT box"));
    expunge(&mut a, "2:3");
    // 1 4 5 6 7 8 9 10 11 12, as numbers 1 to 10; then 8 goes too.
    expunge(&mut a, "8");
    let mut told = |matching: &str| {
        let known = format!("{validity} {since} 1:12 {matching}");
        resync(&mut a, known.trim_end()).join("")
    };
    assert_eq!(told(""), "* VANISHED (EARLIER) 2:3,8");
    assert_eq!(told("(1,3,5 1,5,7)"), "* VANISHED (EARLIER) 8");
    // The last one that matches counts; one behind the end is none.
    assert_eq!(told("(1,3,6,500 1,5,8,600)"), "* VANISHED (EARLIER) 8");
    assert_eq!(told("(1:2 1:2)"), "* VANISHED (EARLIER) 2:3,8");
    assert_eq!(told("(9 12)"), "");
    // Without the known UIDs (RFC 7162, 7).
    let lines = resync(&mut a, &format!("{validity} {since} (5 7)"));
    assert_eq!(lines, ["* VANISHED (EARLIER) 8"]);
}

/// RFC 7162, 3.2.6, example 1.
#[test]
fn uid_fetch_tells_what_vanished() {
    let (_home, server) = server();
    let mut a = filled(&server, 12);
    let (_, since) = state(&a.ok("SELECT box"));
    expunge(&mut a, "3:5,11:12");
    a.ok("UID STORE 6 +FLAGS.SILENT (\\Deleted)");
    let mut b = server.imap(ALICE);
    let (_, tagged) = b.command("SELECT box");
    assert!(tagged.starts_with("OK"));
    let command = format!("UID FETCH 4:* (FLAGS) (CHANGEDSINCE {since} VANISHED)");
    // RFC 7162, 3.2.6: only after ENABLE, only by UID, only with CHANGEDSINCE.
    assert!(b.command(&command).1.starts_with("BAD"));
    b.ok("ENABLE QRESYNC");
    assert!(b.command(&command[4..]).1.starts_with("BAD"));
    assert!(
        b.command("UID FETCH 4 (FLAGS) (VANISHED)")
            .1
            .starts_with("BAD")
    );
    let lines = b.ok(&command);
    let lines = texts(&lines);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "* VANISHED (EARLIER) 4:5,11:12");
    assert!(
        lines[1].starts_with("* 3 FETCH (UID 6 FLAGS (\\Deleted) MODSEQ ("),
        "{lines:?}"
    );
    // What it still numbers is told once, as it happens, and not as earlier (RFC 7162, 3.2.10).
    expunge(&mut a, "7");
    let lines = b.ok(&command);
    let lines = texts(&lines);
    assert_eq!(lines[0], "* VANISHED (EARLIER) 4:5,11:12");
    assert_eq!(lines.last(), Some(&"* VANISHED 7"), "{lines:?}");
    let lines = b.ok(&command);
    assert_eq!(texts(&lines)[0], "* VANISHED (EARLIER) 4:5,7,11:12");
}

/// RFC 7162, 3.2.7 to 3.2.10: VANISHED in place of EXPUNGE, everywhere, and the mod-sequence with it.
#[test]
fn vanished_takes_the_place_of_expunge() {
    let (_home, server) = server();
    let mut a = filled(&server, 11);
    let (mut b, mut plain) = (server.imap(ALICE), server.imap(ALICE));
    b.ok("ENABLE QRESYNC");
    a.ok("SELECT box");
    b.ok("SELECT box");
    plain.ok("SELECT box");
    let (lines, tagged) = expunge(&mut a, "3:4,7,11");
    assert_eq!(lines, ["* VANISHED 3:4,7,11"]);
    let now = number(&tagged, "OK [HIGHESTMODSEQ");
    assert_eq!(state(&plain.ok("EXAMINE box")).1, now);
    let lines = b.ok("NOOP");
    assert!(texts(&lines).contains(&"* VANISHED 3:4,7,11"), "{lines:?}");
    // In IDLE too, and where nobody enabled it as before.
    plain.ok("SELECT box");
    for imap in [&mut b, &mut plain] {
        imap.send(b"i IDLE\r\n");
        assert_eq!(imap.line().expect("a line").text, "+ idling");
    }
    a.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    let (_, tagged) = a.command("EXPUNGE");
    let now = number(&tagged, "OK [HIGHESTMODSEQ");
    let until = |imap: &mut Imap, word: &str| loop {
        let line = imap.line().expect("a line").text;
        if line.contains(word) {
            return line;
        }
    };
    assert_eq!(until(&mut b, "VANISHED"), "* VANISHED 1");
    assert_eq!(
        number(&until(&mut b, "HIGHESTMODSEQ"), "[HIGHESTMODSEQ"),
        now
    );
    assert_eq!(until(&mut plain, "EXPUNGE"), "* 1 EXPUNGE");
    for imap in [&mut b, &mut plain] {
        imap.send(b"DONE\r\n");
        imap.until("i");
    }
    // Nothing went: there is nothing to say.
    assert_eq!(a.command("EXPUNGE").1, "OK Expunged");
    // RFC 7162, 3.2.8: CLOSE says nothing.
    a.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)");
    let (lines, tagged) = a.command("CLOSE");
    assert!(
        lines.is_empty() && tagged == "OK Closed",
        "{lines:?} {tagged}"
    );
    let lines = b.ok("NOOP");
    assert!(texts(&lines).contains(&"* VANISHED 2"), "{lines:?}");
    let gone = plain.ok("NOOP");
    assert!(texts(&gone).contains(&"* 1 EXPUNGE"), "{gone:?}");
}

/// RFC 7162, 3.2: an annotation of the mailbox raises it too, and nothing else is told of that.
#[test]
fn an_annotation_raises_the_mod_sequence_of_its_mailbox() {
    let (_home, server) = server();
    let mut a = filled(&server, 3);
    let (validity, since) = state(&a.ok("SELECT box"));
    expunge(&mut a, "2");
    let (_, before) = state(&a.ok("SELECT box"));
    a.ok("SETMETADATA box (/private/comment \"mine\")");
    let lines = a.ok("NOOP");
    assert!(lines.is_empty(), "{lines:?}");
    let (_, after) = state(&a.ok("SELECT box"));
    assert!(after > before);
    assert!(resync(&mut a, &format!("{validity} {before}")).is_empty());
    // What went is known as before.
    let told = resync(&mut a, &format!("{validity} {since}"));
    assert_eq!(told, ["* VANISHED (EARLIER) 2"]);
}

/// RFC 7162, 6: while an expunge waits to be told, no mod-sequence of after it may count.
#[test]
fn while_a_vanished_waits_the_client_is_told_where_it_stands() {
    let (_home, server) = server();
    let mut a = filled(&server, 4);
    let mut b = server.imap(ALICE);
    let before = state(&a.ok("SELECT box")).1;
    b.ok("SELECT box");
    b.ok("STORE 4 +FLAGS.SILENT (\\Deleted)");
    a.ok("NOOP");
    b.ok("EXPUNGE");
    b.ok("STORE 1 +FLAGS.SILENT (\\Seen)");
    let (lines, tagged) = a.command("STORE 2 +FLAGS.SILENT (\\Seen)");
    let told = texts(&lines).join("\n");
    assert!(
        told.contains("UID 1 MODSEQ (") && told.contains("UID 2 MODSEQ ("),
        "{told}"
    );
    assert!(!told.contains("VANISHED"), "{told}");
    let safe = number(&tagged, "OK [HIGHESTMODSEQ");
    let (_, tagged) = a.command("FETCH 1:2 (MODSEQ)");
    assert_eq!(number(&tagged, "OK [HIGHESTMODSEQ"), safe);
    // RFC 7162, 3.2.10.2: nor in a UID SEARCH by number.
    let (lines, _) = a.command("UID SEARCH 1:2");
    assert!(!texts(&lines).join("").contains("VANISHED"), "{lines:?}");
    // Who is cut off now hears of it with what was told.
    let mut c = server.imap(ALICE);
    c.ok("ENABLE QRESYNC");
    let (validity, highest) = state(&c.ok("SELECT box"));
    assert!(before < safe && safe < highest);
    let told = resync(&mut c, &format!("{validity} {safe}"));
    assert_eq!(told[0], "* VANISHED (EARLIER) 4");
    // Then all is told, and counts.
    let (lines, tagged) = a.command("NOOP");
    assert!(texts(&lines).contains(&"* VANISHED 4"), "{lines:?}");
    assert_eq!(number(&tagged, "OK [HIGHESTMODSEQ"), highest);
}

/// What went is known after `kill -9`, and after the index was built anew.
#[test]
fn no_crash_loses_what_went() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let mut server = Server::start(&dir, &[]);
    let mut a = filled(&server, 10);
    let (validity, since) = state(&a.ok("SELECT box"));
    let mut want = Vec::new();
    for (n, set) in ["2", "5:6", "9"].into_iter().enumerate() {
        let (_, tagged) = expunge(&mut a, set);
        want.push(set);
        let now = number(&tagged, "OK [HIGHESTMODSEQ");
        let base = server.base;
        server.kill();
        if n == 1 {
            std::fs::write(dir.join("rebuild-index"), b"").expect("a mark");
        }
        server = Server::start_at(&dir, base, &[]);
        a = server.imap(ALICE);
        a.ok("ENABLE QRESYNC");
        let told = resync(&mut a, &format!("{validity} {since}"));
        assert_eq!(told[0], format!("* VANISHED (EARLIER) {}", want.join(",")));
        assert!(resync(&mut a, &format!("{validity} {now}")).is_empty());
    }
}
