//! CONDSTORE (RFC 7162, 3.1): its examples, and two sessions at once. Mod-sequences are asked for,
//! and then told what they mean; nothing depends on which numbers the server gives.

use super::common::{Imap, Line};
use super::{ALICE, append, server, texts};

/// A mailbox of so many messages, selected.
fn filled(imap: &mut Imap, count: u32) {
    imap.ok("CREATE box");
    for _ in 0..count {
        append(imap, "box", "");
    }
    imap.ok("SELECT box");
}

/// The number behind a word.
fn number(text: &str, word: &str) -> u64 {
    let at = text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    let rest = text[at + word.len()..].trim_start_matches([' ', '(']);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{word}: {text}"))
}

fn modseq_of(imap: &mut Imap, seq: u32) -> u64 {
    let lines = imap.ok(&format!("FETCH {seq} (MODSEQ)"));
    let line = texts(&lines).into_iter().rfind(|l| l.contains(" FETCH "));
    number(line.expect("FETCH"), "MODSEQ")
}

fn highest(lines: &[Line]) -> Option<u64> {
    let found = lines.iter().find(|l| l.text.contains("[HIGHESTMODSEQ "));
    found.map(|line| number(&line.text, "HIGHESTMODSEQ"))
}

/// RFC 7162, 3.1.2 and 3.1.8: SELECT always tells it, STATUS where it is asked.
#[test]
fn select_and_status_tell_the_highest() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let lines = a.ok("SELECT INBOX");
    let first = highest(&lines).expect("HIGHESTMODSEQ");
    let lines = a.ok("EXAMINE INBOX (CONDSTORE)");
    assert_eq!(highest(&lines), Some(first));
    append(&mut a, "INBOX", "");
    let lines = a.ok("STATUS INBOX (UIDNEXT MESSAGES HIGHESTMODSEQ)");
    let status = texts(&lines).join("\n");
    let now = number(&status, "HIGHESTMODSEQ");
    assert!(now > first, "{status}");
    let lines = a.ok("LIST \"\" INBOX RETURN (STATUS (HIGHESTMODSEQ))");
    assert_eq!(number(&texts(&lines).join("\n"), "HIGHESTMODSEQ"), now);
    for wrong in ["SELECT INBOX (CONDSTORE 1)", "SELECT INBOX (QRESYNC (1 1))"] {
        assert!(a.command(wrong).1.starts_with("BAD"), "{wrong}");
    }
}

/// RFC 7162, 3.1: each of these switches it on, the first in a mailbox tells where it stands,
/// and from then on FETCH tells mod-sequences unasked.
#[test]
fn every_command_that_implies_it_switches_it_on_once() {
    let (_home, server) = server();
    let mut b = server.imap(ALICE);
    filled(&mut b, 2);
    for command in [
        "STATUS INBOX (HIGHESTMODSEQ)",
        "FETCH 1 (MODSEQ)",
        "FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
        "UID FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
        "SEARCH MODSEQ 1",
        "UID SEARCH NOT (OR SEEN MODSEQ 1)",
        "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
        "ENABLE CONDSTORE",
        "ENABLE QRESYNC",
        "SELECT box (CONDSTORE)",
    ] {
        let mut a = server.imap(ALICE);
        let lines = a.ok("SELECT box");
        let now = highest(&lines);
        // Not before.
        b.ok("STORE 2 FLAGS (\\Answered)");
        let lines = a.ok("NOOP");
        assert_eq!(
            texts(&lines),
            ["* 2 FETCH (UID 2 FLAGS (\\Answered))"],
            "{command}"
        );
        assert!(now.is_some());
        let lines = a.ok(command);
        assert!(highest(&lines) > now, "{command}: {lines:?}");
        if !command.starts_with("SELECT") {
            assert_eq!(highest(&a.ok(command)), None, "{command} again");
        }
        b.ok("STORE 2 FLAGS ()");
        let lines = a.ok("NOOP");
        let told = texts(&lines).join("\n");
        assert!(
            told.starts_with("* 2 FETCH (UID 2 MODSEQ ("),
            "{command}: {told}"
        );
    }
}

/// RFC 7162, examples 3 to 6.
#[test]
fn a_conditional_store_changes_what_was_not_changed() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    filled(&mut a, 9);
    let lines = a.ok("SELECT box (CONDSTORE)");
    let since = highest(&lines).expect("HIGHESTMODSEQ");
    let command = format!("UID STORE 6,4,8 (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\\Deleted)");
    let (lines, tagged) = a.command(&command);
    assert_eq!(tagged, "OK Stored");
    let lines = texts(&lines);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let now = number(lines[0], "MODSEQ");
    assert!(now > since);
    for (line, n) in lines.iter().zip([4, 6, 8]) {
        assert_eq!(*line, format!("* {n} FETCH (UID {n} MODSEQ ({now}))"));
    }
    // Example 5: numbers, and a second time with what was told.
    let command = format!("STORE 8 (UNCHANGEDSINCE {now}) -FLAGS.SILENT (\\Deleted)");
    let lines = a.ok(&command);
    let later = number(texts(&lines)[0], "MODSEQ");
    assert!(later > now);
    // Example 6, with what the others have now (as 3.1.3 recommends).
    a.ok("STORE 7,9 +FLAGS.SILENT (\\Answered)");
    let command = format!("STORE 7,5,9 (UNCHANGEDSINCE {later}) +FLAGS.SILENT (\\Flagged)");
    let (lines, tagged) = a.command(&command);
    assert!(tagged.starts_with("OK [MODIFIED 7,9] "), "{tagged}");
    let lines = texts(&lines);
    assert!(
        lines[0].starts_with("* 5 FETCH (UID 5 MODSEQ ("),
        "{lines:?}"
    );
    assert!(!lines[0].contains("FLAGS"), "{lines:?}");
    for (line, n) in lines[1..].iter().zip([7, 9]) {
        assert!(
            line.starts_with(&format!("* {n} FETCH (UID {n} MODSEQ (")),
            "{line}"
        );
        assert!(line.ends_with("FLAGS (\\Answered))"), "{line}");
    }
    let (_, tagged) = a.command(&format!(
        "UID STORE 1:9 (UNCHANGEDSINCE {since}) +FLAGS (k)"
    ));
    assert!(tagged.starts_with("OK [MODIFIED 4:9] "), "{tagged}");
    // Example 7.
    let (_, tagged) = a.command("STORE 3 (UNCHANGEDSINCE 0) +FLAGS.SILENT ($MDNSent)");
    assert!(tagged.starts_with("OK [MODIFIED 3] "), "{tagged}");
    // A message that is named twice is changed once.
    let now = number(
        &texts(&a.ok("STATUS box (HIGHESTMODSEQ)")).join(""),
        "HIGHESTMODSEQ",
    );
    let (_, tagged) = a.command(&format!(
        "STORE 7,3:9 (UNCHANGEDSINCE {now}) +FLAGS (\\Draft)"
    ));
    assert_eq!(tagged, "OK Stored");
}

/// RFC 7162, 3.1.11: what changes nothing has no new mod-sequence.
#[test]
fn what_changes_nothing_keeps_its_mod_sequence() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    filled(&mut a, 1);
    a.ok("STORE 1 +FLAGS (\\Seen)");
    let now = modseq_of(&mut a, 1);
    a.ok("STORE 1 +FLAGS (\\Seen)");
    a.ok("STORE 1 -FLAGS.SILENT (\\Draft)");
    a.ok("FETCH 1 BODY[]");
    assert_eq!(modseq_of(&mut a, 1), now);
    // Conditionally too, and it is told all the same.
    let lines = a.ok(&format!(
        "STORE 1 (UNCHANGEDSINCE {now}) +FLAGS.SILENT (\\Seen)"
    ));
    assert_eq!(texts(&lines), [format!("* 1 FETCH (UID 1 MODSEQ ({now}))")]);
}

/// RFC 7162, examples 12 and 13.
#[test]
fn fetch_tells_what_changed_since() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    filled(&mut a, 5);
    let lines = a.ok("SELECT box");
    let since = highest(&lines).expect("HIGHESTMODSEQ");
    a.ok("STORE 2 +FLAGS (\\Seen)");
    a.ok("STORE 4 +FLAGS ($NoJunk)");
    let fetch = |a: &mut Imap, command: &str| {
        let lines = a.ok(command);
        let lines = lines.into_iter().map(|l| l.text);
        lines.filter(|l| l.contains(" FETCH ")).collect::<Vec<_>>()
    };
    let lines = fetch(
        &mut a,
        &format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since})"),
    );
    assert_eq!(lines.len(), 2, "{lines:?}");
    let told: Vec<u64> = lines.iter().map(|l| number(l, "MODSEQ")).collect();
    assert_eq!(
        lines,
        [
            format!("* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ ({}))", told[0]),
            format!("* 4 FETCH (UID 4 FLAGS ($NoJunk) MODSEQ ({}))", told[1]),
        ]
    );
    assert!(since < told[0] && told[0] < told[1]);
    let lines = fetch(&mut a, &format!("FETCH 1:3 (UID) (CHANGEDSINCE {since})"));
    assert_eq!(lines, [format!("* 2 FETCH (UID 2 MODSEQ ({}))", told[0])]);
    assert!(fetch(&mut a, &format!("FETCH 1:5 UID (CHANGEDSINCE {})", told[1])).is_empty());
    let lines = fetch(&mut a, "FETCH 2,4 (MODSEQ)");
    assert_eq!(
        lines,
        [
            format!("* 2 FETCH (MODSEQ ({}))", told[0]),
            format!("* 4 FETCH (MODSEQ ({}))", told[1]),
        ]
    );
    // What a FETCH itself marks is told with its new one (RFC 7162, 3.2.4).
    let lines = fetch(&mut a, "FETCH 1 BODY[HEADER.FIELDS (X-None)]");
    let line = lines.join("");
    let start = "* 1 FETCH (BODY[HEADER.FIELDS (X-None)] ";
    assert!(line.starts_with(start), "{line}");
    assert!(
        line.contains(" UID 1 MODSEQ (") && line.ends_with("FLAGS (\\Seen))"),
        "{line}"
    );
    assert_eq!(modseq_of(&mut a, 1), number(&line, "MODSEQ"));
    for wrong in [
        "FETCH 1 (FLAGS) (CHANGEDSINCE 0)",
        "FETCH 1 (FLAGS) (CHANGEDSINCE 9223372036854775808)",
        "FETCH 1 (FLAGS) (CHANGEDSINCE 1 CHANGEDSINCE 2)",
        "FETCH 1 (FLAGS) ()",
        "FETCH 1 (FLAGS) (SOMETHING 1)",
        "UID FETCH 1 (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        "STORE 1 (UNCHANGEDSINCE) FLAGS ()",
        "STORE 1 () FLAGS ()",
        "STORE 1 (UNCHANGEDSINCE 1 UNCHANGEDSINCE 1) FLAGS ()",
    ] {
        assert!(a.command(wrong).1.starts_with("BAD"), "{wrong}");
    }
}

/// RFC 7162, examples 15, 16 and 19.
#[test]
fn search_finds_by_mod_sequence_and_tells_the_highest() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    filled(&mut a, 5);
    a.ok("ENABLE CONDSTORE");
    a.ok("STORE 4 +FLAGS (\\Draft)");
    let first = modseq_of(&mut a, 4);
    a.ok("STORE 2 +FLAGS (\\Draft)");
    let second = modseq_of(&mut a, 2);
    let one = |a: &mut Imap, command: &str| {
        let lines = a.ok(command);
        texts(&lines).join("\n")
    };
    for key in [
        format!("MODSEQ {first}"),
        format!("MODSEQ \"/flags/\\\\draft\" all {first}"),
        format!("MODSEQ \"/flags/$keyword\" shared {first}"),
        format!("OR MODSEQ {first} SEEN"),
    ] {
        let told = one(&mut a, &format!("SEARCH {key}"));
        assert_eq!(told, format!("* SEARCH 2 4 (MODSEQ {second})"), "{key}");
    }
    let told = one(&mut a, &format!("UID SEARCH 4 MODSEQ {first}"));
    assert_eq!(told, format!("* SEARCH 4 (MODSEQ {first})"));
    let told = one(&mut a, "SEARCH OR NOT MODSEQ 1 LARGER 50000");
    assert_eq!(told, "* SEARCH");
    let told = one(&mut a, &format!("SEARCH RETURN (ALL) MODSEQ {first}"));
    assert!(
        told.ends_with(&format!(" ALL 2,4 MODSEQ {second}")),
        "{told}"
    );
    // RFC 4731, 3.2: of what is told.
    let told = one(&mut a, &format!("SEARCH RETURN (MAX) MODSEQ {first}"));
    assert!(told.ends_with(&format!(" MAX 4 MODSEQ {first}")), "{told}");
    let told = one(&mut a, &format!("SEARCH RETURN (MIN COUNT) MODSEQ {first}"));
    assert!(
        told.ends_with(&format!(" MIN 2 COUNT 2 MODSEQ {second}")),
        "{told}"
    );
    let told = one(
        &mut a,
        &format!("SEARCH RETURN (ALL) MODSEQ {}", second + 1),
    );
    assert!(
        told.starts_with("* ESEARCH") && !told.contains("MODSEQ"),
        "{told}"
    );
    for wrong in [
        "MODSEQ",
        "MODSEQ x",
        "MODSEQ \"/flags/a\" 5",
        "MODSEQ \"/x\" all 5",
    ] {
        assert!(
            a.command(&format!("SEARCH {wrong}")).1.starts_with("BAD"),
            "{wrong}"
        );
    }
}

/// RFC 7162, example 14: what one session changes the other hears of, with its mod-sequence, and
/// a silent change has one too.
#[test]
fn two_sessions_hear_the_same_mod_sequences() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    filled(&mut a, 7);
    a.ok("ENABLE CONDSTORE");
    b.ok("SELECT box (CONDSTORE)");
    let mut last = 0;
    for change in [
        "+FLAGS.SILENT (\\Deleted)",
        "+FLAGS (\\Seen Work)",
        "-FLAGS.SILENT (\\Seen \\Deleted)",
    ] {
        let lines = a.ok(&format!("STORE 7 {change}"));
        let line = texts(&lines).join("\n");
        let now = number(&line, "MODSEQ");
        assert!(now > last);
        last = now;
        assert_eq!(
            line.contains("FLAGS ("),
            !change.contains("SILENT"),
            "{line}"
        );
        let lines = b.ok("NOOP");
        let told = texts(&lines).join("\n");
        assert!(
            told.contains(&format!("* 7 FETCH (UID 7 MODSEQ ({now}) FLAGS (")),
            "{told}"
        );
    }
    // A change that overtook a silent one is told in full.
    b.ok("STORE 7 +FLAGS (\\Flagged)");
    let lines = a.ok("STORE 7 +FLAGS.SILENT (\\Answered)");
    let told = texts(&lines).join("\n");
    assert_eq!(told.matches("MODSEQ").count(), 1, "{told}");
    assert!(told.contains("FLAGS (\\Answered \\Flagged Work"), "{told}");
}

/// RFC 7162, 3.1.12, and the last of examples 10: another flag is no conflict, where the client
/// knew the message; the same flag is one, and so is what it never heard of.
#[test]
fn a_change_of_another_flag_is_no_conflict() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    filled(&mut a, 3);
    let since = highest(&a.ok("SELECT box (CONDSTORE)")).expect("HIGHESTMODSEQ");
    b.ok("SELECT box");
    b.ok("STORE 2 +FLAGS.SILENT (\\Flagged)");
    let command = format!("STORE 1:3 (UNCHANGEDSINCE {since}) +FLAGS.SILENT ($Processed)");
    let (lines, tagged) = a.command(&command);
    assert_eq!(tagged, "OK Stored");
    let told = texts(&lines).join("\n");
    assert!(told.contains("* 2 FETCH (UID 2 MODSEQ ("), "{told}");
    assert!(told.contains("FLAGS (\\Flagged $Processed"), "{told}");
    let since = modseq_of(&mut a, 1);
    b.ok("STORE 1 +FLAGS.SILENT (\\Seen)");
    b.ok("STORE 2 +FLAGS.SILENT (\\Answered)");
    // Replacing all flags always is one.
    let (_, tagged) = a.command(&format!("STORE 2 (UNCHANGEDSINCE {since}) FLAGS (\\Draft)"));
    assert!(tagged.starts_with("OK [MODIFIED 2] "), "{tagged}");
    b.ok("STORE 2 +FLAGS.SILENT (\\Seen)");
    let (_, tagged) = a.command(&format!(
        "STORE 1:2 (UNCHANGEDSINCE {since}) -FLAGS (\\Seen)"
    ));
    assert!(tagged.starts_with("OK [MODIFIED 1:2] "), "{tagged}");
    // It has heard of these by now, and did not say so.
    let (_, tagged) = a.command(&format!(
        "STORE 1 (UNCHANGEDSINCE {since}) +FLAGS (\\Draft)"
    ));
    assert!(tagged.starts_with("OK [MODIFIED 1] "), "{tagged}");
}

/// One of two that test the same mod-sequence wins, each time.
#[test]
fn a_race_of_conditional_stores_has_one_winner() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    filled(&mut a, 3);
    a.ok("ENABLE CONDSTORE");
    let racers = 4;
    let all = (0..racers).map(|_| {
        let mut racer = server.imap(ALICE);
        racer.ok("SELECT box (CONDSTORE)");
        racer
    });
    let mut all: Vec<Imap> = all.collect();
    for round in 0..25 {
        let since = modseq_of(&mut a, 2);
        let barrier = std::sync::Barrier::new(racers);
        let won: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = all
                .iter_mut()
                .enumerate()
                .map(|(n, racer)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        let command = format!(
                            "UID STORE 2 (UNCHANGEDSINCE {since}) FLAGS.SILENT (r{n}-{})",
                            round % 2
                        );
                        let (_, tagged) = racer.command(&command);
                        assert!(tagged.starts_with("OK "), "{tagged}");
                        usize::from(!tagged.contains("[MODIFIED 2]"))
                    })
                })
                .collect();
            tries.into_iter().map(|t| t.join().expect("a racer")).sum()
        });
        assert_eq!(won, 1);
    }
}
