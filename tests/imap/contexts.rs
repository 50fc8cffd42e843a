//! Results that are kept up to date (RFC 5267, 4), as its examples go.

use super::common::{Imap, Server};
use super::{ALICE, append_mail, server, texts};

/// Runs a command under a tag of its own; all lines of the answer, the tagged one last.
fn run(imap: &mut Imap, tag: &str, command: &str) -> Vec<String> {
    imap.send(format!("{tag} {command}\r\n").as_bytes());
    let (lines, tagged) = imap.until(tag);
    let mut all: Vec<String> = lines.into_iter().map(|line| line.text).collect();
    all.push(tagged);
    all
}

/// Five messages with UIDs 2 to 6.
fn mailbox(server: &Server) -> Imap {
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    for subject in ["gone", "c", "a", "d", "b", "e"] {
        append_mail(&mut a, "box", &format!("Subject: {subject}\n\n"));
    }
    a.ok("SELECT box");
    a.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    a.ok("EXPUNGE");
    a
}

fn without_fetch(lines: Vec<String>) -> Vec<String> {
    let told = |line: &String| !line.contains(" FETCH (") && !line.contains(" RECENT");
    lines.into_iter().filter(told).collect()
}

#[test]
fn results_of_a_search_are_kept_up_to_date() {
    let (_home, server) = server();
    let mut a = mailbox(&server);
    let mut b = server.imap(ALICE);
    b.ok("SELECT box");
    assert_eq!(
        run(
            &mut a,
            "A01",
            "SEARCH RETURN (CONTEXT COUNT) UNDELETED UNKEYWORD $Junk"
        ),
        ["* ESEARCH (TAG \"A01\") COUNT 5", "OK Searched"]
    );
    assert_eq!(
        run(
            &mut a,
            "B01",
            "UID SEARCH RETURN (UPDATE COUNT) OR DELETED KEYWORD $Junk"
        ),
        [
            "* ESEARCH (TAG \"B01\") UID COUNT 0",
            "OK Searched, will notify"
        ]
    );
    // RFC 5267, 4.3
    assert_eq!(
        run(&mut a, "B01", "SORT RETURN (UPDATE) (DATE) UTF-8 FLAGGED"),
        ["BAD Tag reuse"]
    );
    // Its own changes, and those of others.
    let told = run(&mut a, "x", "UID STORE 3 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(
        told,
        ["* ESEARCH (TAG \"B01\") UID ADDTO (0 3)", "OK Stored"]
    );
    b.ok("UID STORE 4:5 +FLAGS ($Junk)");
    let told = without_fetch(run(&mut a, "x", "NOOP"));
    let addto = "* ESEARCH (TAG \"B01\") UID ADDTO (0 4:5)";
    assert!(told.contains(&addto.to_owned()), "{told:?}");
    b.ok("UID STORE 4 -FLAGS ($Junk)");
    let told = without_fetch(run(&mut a, "x", "NOOP"));
    assert_eq!(
        told,
        ["* ESEARCH (TAG \"B01\") UID REMOVEFROM (0 4)", "OK Done"]
    );
    // RFC 5267, 4.3.4: before the EXPUNGE.
    b.ok("EXPUNGE");
    let told = run(&mut a, "x", "NOOP");
    assert_eq!(
        told,
        [
            "* ESEARCH (TAG \"B01\") UID REMOVEFROM (0 3)",
            "* 2 EXPUNGE",
            "OK Done"
        ]
    );
    // What came in is told of after EXISTS.
    b.send(b"y APPEND box ($Junk) {14+}\r\nSubject: s\r\n\r\n\r\n");
    b.until("y");
    let told = without_fetch(run(&mut a, "x", "NOOP"));
    assert_eq!(
        told,
        [
            "* 5 EXISTS",
            "* ESEARCH (TAG \"B01\") UID ADDTO (0 7)",
            "OK Done"
        ]
    );
    assert_eq!(
        run(&mut a, "B04", "CANCELUPDATE \"B01\""),
        ["OK No further updates"]
    );
    b.ok("UID STORE 2 +FLAGS ($Junk)");
    assert_eq!(without_fetch(run(&mut a, "x", "NOOP")), ["OK Done"]);
    assert!(run(&mut a, "x", "CANCELUPDATE \"B01\"")[0].starts_with("BAD"));
}

#[test]
fn message_numbers_of_results_are_those_that_the_client_knows() {
    let (_home, server) = server();
    let mut a = mailbox(&server);
    let mut b = server.imap(ALICE);
    b.ok("SELECT box");
    // The numbers in the search stand for what they stood for when it came.
    run(&mut a, "n", "SEARCH RETURN (UPDATE ALL) 2:4 UNFLAGGED");
    b.ok("STORE 2 +FLAGS (\\Deleted)");
    b.ok("EXPUNGE");
    b.ok("STORE 1:4 +FLAGS (\\Flagged)");
    // Nothing may be told yet that has to do with the expunge.
    let told = without_fetch(run(&mut a, "x", "FETCH 1 (FLAGS)"));
    assert_eq!(told, ["OK Fetched"]);
    let told = without_fetch(run(&mut a, "x", "NOOP"));
    let removed = [
        "* ESEARCH (TAG \"n\") REMOVEFROM (0 2)",
        "* 2 EXPUNGE",
        "* ESEARCH (TAG \"n\") REMOVEFROM (0 2:3)",
        "OK Done",
    ];
    assert_eq!(told, removed);
    b.ok("STORE 4 -FLAGS (\\Flagged)");
    b.ok("STORE 2 -FLAGS (\\Flagged)");
    let told = without_fetch(run(&mut a, "x", "NOOP"));
    assert_eq!(told, ["* ESEARCH (TAG \"n\") ADDTO (0 2)", "OK Done"]);
}

#[test]
fn a_sorted_result_stays_sorted() {
    let (_home, server) = server();
    let mut a = mailbox(&server);
    let mut b = server.imap(ALICE);
    b.ok("SELECT box");
    // c a d b e
    assert_eq!(
        run(
            &mut a,
            "s",
            "UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 UNFLAGGED"
        ),
        [
            "* ESEARCH (TAG \"s\") UID ALL 3,5,2,4,6",
            "OK Searched, will notify"
        ]
    );
    b.ok("UID STORE 5,2,6 +FLAGS (\\Flagged)");
    let told = without_fetch(run(&mut a, "x", "NOOP"));
    assert_eq!(
        told,
        [
            "* ESEARCH (TAG \"s\") UID REMOVEFROM (5 6 2 5,2)",
            "OK Done"
        ]
    );
    append_mail(&mut b, "box", "Subject: aa\n\n");
    b.ok("UID STORE 2 -FLAGS (\\Flagged)");
    let told = without_fetch(run(&mut a, "x", "NOOP"));
    assert_eq!(
        told,
        [
            "* 6 EXISTS",
            "* ESEARCH (TAG \"s\") UID ADDTO (2 7,2)",
            "OK Done"
        ]
    );
}

#[test]
fn updates_come_while_a_client_idles() {
    let (_home, server) = server();
    let mut a = mailbox(&server);
    run(&mut a, "i", "UID SEARCH RETURN (UPDATE) SUBJECT hello");
    a.send(b"idle IDLE\r\n");
    assert!(a.line().expect("a line").text.starts_with('+'));
    let mut b = server.imap(ALICE);
    append_mail(&mut b, "box", "Subject: hello\n\n");
    loop {
        let line = a.line().expect("a line").text;
        if line.contains("ESEARCH") {
            assert_eq!(line, "* ESEARCH (TAG \"i\") UID ADDTO (0 7)");
            break;
        }
    }
    a.send(b"DONE\r\n");
    assert!(a.until("idle").1.starts_with("OK"));
}

#[test]
fn there_are_only_so_many_contexts() {
    let (_home, server) = server();
    let mut a = mailbox(&server);
    let mut refused = None;
    for n in 1..=11 {
        let told = run(&mut a, &format!("c{n}"), "SEARCH RETURN (UPDATE COUNT) ALL");
        assert_eq!(told[0], format!("* ESEARCH (TAG \"c{n}\") COUNT 5"));
        if told.len() > 2 {
            refused = refused.or(Some((n, told)));
        }
    }
    let (n, told) = refused.expect("one too many");
    assert_eq!(n, 11);
    assert_eq!(
        told[1..],
        [
            "* NO [NOUPDATE \"c11\"] Too many contexts",
            "OK Searched, will not notify"
        ]
    );
    // They end with the selection, and leave room.
    a.ok("SELECT box");
    let told = run(&mut a, "c1", "SEARCH RETURN (UPDATE COUNT) ALL");
    assert_eq!(told[1], "OK Searched, will notify");
}

/// RFC 9394, 3.3.
#[test]
fn parts_of_a_fetch() {
    let (_home, server) = server();
    let mut a = mailbox(&server);
    let fetched = |imap: &mut Imap, command: &str| {
        let lines = imap.ok(command);
        texts(&lines).join("|")
    };
    let last = fetched(&mut a, "UID FETCH 3:100 (UID) (PARTIAL -1:-2)");
    assert_eq!(last, "* 4 FETCH (UID 5)|* 5 FETCH (UID 6)");
    let first = fetched(&mut a, "UID FETCH 1:* (UID) (PARTIAL 1:2)");
    assert_eq!(first, "* 1 FETCH (UID 2)|* 2 FETCH (UID 3)");
    assert_eq!(fetched(&mut a, "UID FETCH 1:* (UID) (PARTIAL 9:10)"), "");
    let (_, tagged) = a.command("FETCH 1:* (UID) (PARTIAL 1:2)");
    assert!(tagged.starts_with("BAD"), "{tagged}");
    // RFC 9394, 3.4
    let status = a.ok("STATUS box (HIGHESTMODSEQ)");
    let since = status.last().expect("a status").text.clone();
    let since = since
        .rsplit(' ')
        .next()
        .unwrap()
        .trim_end_matches(')')
        .to_owned();
    a.ok("UID STORE 2:5 +FLAGS.SILENT (\\Seen)");
    let changed = a.ok(&format!(
        "UID FETCH 1:* (FLAGS) (PARTIAL -1:-2 CHANGEDSINCE {since})"
    ));
    // The last two are chosen first; one of them has changed.
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(changed[0].text.contains("UID 5"), "{changed:?}");
}

/// RFC 5465, 7, and 5.2 where NOTIFY asks for something of new messages too.
#[test]
fn what_comes_to_a_result_is_told_as_it_was_asked_for() {
    let (_home, server) = server();
    let mut a = mailbox(&server);
    let mut b = server.imap(ALICE);
    let mail = |subject: &str| format!("Subject: {subject}\nFrom: boss@x.test\n\nx");
    let told = |imap: &mut Imap, tag: &str, command: &str| -> Vec<String> {
        let lines = run(imap, tag, command).into_iter();
        lines.filter(|line| !line.contains(" RECENT")).collect()
    };
    let search = "SEARCH RETURN (COUNT UPDATE (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])) FROM boss";
    let answer = told(&mut a, "a00", search);
    assert_eq!(
        answer,
        [
            "* ESEARCH (TAG \"a00\") COUNT 0",
            "OK Searched, will notify"
        ]
    );
    // As its grammar has it, without a blank.
    let sort = "UID SORT RETURN (UPDATE(RFC822.SIZE)) (REVERSE SUBJECT) UTF-8 FROM boss";
    told(&mut a, "a01", sort);
    append_mail(&mut b, "box", &mail("b"));
    append_mail(&mut b, "box", "Subject: no\n\n");
    let header = "BODY[HEADER.FIELDS (SUBJECT)]";
    let fetch = |line: &str| line.split('{').next().unwrap_or_default().to_owned();
    let lines: Vec<String> = told(&mut a, "x", "NOOP").iter().map(|l| fetch(l)).collect();
    assert_eq!(
        lines,
        [
            "* 7 EXISTS",
            &format!("* 6 FETCH (UID 7 {header} "),
            "* ESEARCH (TAG \"a00\") ADDTO (0 6)",
            "* 6 FETCH (UID 7 RFC822.SIZE 34)",
            "* ESEARCH (TAG \"a01\") UID ADDTO (1 7)",
            "OK Done"
        ]
    );
    // Not what this connection brings itself, nor what is there already.
    append_mail(&mut b, "Trash", &mail("copied"));
    let brought = format!(
        "x APPEND box {{{}+}}\r\n{}\r\n",
        34,
        mail("c").replace('\n', "\r\n")
    );
    a.send(brought.as_bytes());
    let lines = a.until("x").0;
    let lines: Vec<&str> = texts(&lines)
        .into_iter()
        .filter(|l| !l.contains("RECENT"))
        .collect();
    assert_eq!(
        lines,
        [
            "* 8 EXISTS",
            "* ESEARCH (TAG \"a00\") ADDTO (0 8)",
            "* ESEARCH (TAG \"a01\") UID ADDTO (1 9)"
        ]
    );
    a.ok("CANCELUPDATE \"a00\" \"a01\"");
    told(
        &mut a,
        "a02",
        "SEARCH RETURN (UPDATE (UID BODY.PEEK[])) FLAGGED",
    );
    b.ok("SELECT box");
    b.ok("UID STORE 7 +FLAGS.SILENT (\\Flagged)");
    let lines = without_fetch(run(&mut a, "x", "NOOP"));
    assert_eq!(lines, ["* ESEARCH (TAG \"a02\") ADDTO (0 6)", "OK Done"]);
    a.ok("CANCELUPDATE \"a02\"");
    // With NOTIFY nothing is told twice, and one answer is no less than was asked for.
    told(
        &mut a,
        "a03",
        "SEARCH RETURN (UPDATE (UID FLAGS RFC822.SIZE)) ALL",
    );
    told(&mut a, "a04", "SEARCH RETURN (UPDATE (UID FLAGS)) ALL");
    a.ok("NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge))");
    append_mail(&mut b, "box", &mail("d"));
    let mut lines = Vec::new();
    while lines.len() < 5 {
        let line = a.line().expect("a line").text;
        // It is so for whichever of the two hears of it first.
        if !line.ends_with(" RECENT") {
            lines.push(line.replace(" \\Recent", "").replace("\\Recent", ""));
        }
    }
    assert_eq!(
        lines,
        [
            "* 9 EXISTS",
            "* 9 FETCH (UID 10 FLAGS ())",
            "* 9 FETCH (UID 10 RFC822.SIZE 34)",
            "* ESEARCH (TAG \"a03\") ADDTO (0 9)",
            "* ESEARCH (TAG \"a04\") ADDTO (0 9)"
        ]
    );
    // The items are those of FETCH.
    for wrong in ["UPDATE ()", "UPDATE (NOTHING)", "COUNT (UID)"] {
        let (_, tagged) = a.command(&format!("SEARCH RETURN ({wrong}) ALL"));
        assert!(tagged.starts_with("BAD"), "{wrong}: {tagged}");
    }
}
