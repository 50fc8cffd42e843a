//! SORT, ESORT, THREAD and PARTIAL results (RFC 5256; RFC 5957; RFC 5267, 3; RFC 9394).

use super::common::Imap;
use super::{ALICE, append_mail, refused, server, texts};

/// Untagged lines of the answer, which must be OK.
fn told(imap: &mut Imap, command: &str) -> String {
    texts(&imap.ok(command)).join("|")
}

/// Five messages whose sequence numbers and UIDs differ.
fn conversation(a: &mut Imap) {
    a.ok("CREATE box");
    let mails = [
        "Subject: gone\n\n",
        "Date: Mon, 2 Mar 2026 10:00:00 +0000\nFrom: Carol <carol@x.test>\nTo: alice@x.test\n\
         Subject: Plans\nMessage-ID: <1@x>\n\nlong long text\n",
        "Date: Mon, 2 Mar 2026 12:00:00 +0000\nFrom: \"Bob\" <zed@x.test>\nTo: carol@x.test\n\
         Subject: Re: plans\nMessage-ID: <2@x>\nIn-Reply-To: <1@x>\n\n",
        "Date: Mon, 2 Mar 2026 11:00:00 +0000\nFrom: alice@x.test\nTo: Bob <zed@x.test>\n\
         Subject: [list] RE: Plans (fwd)\nMessage-ID: <3@x>\nReferences: <1@x>\n\n",
        "Date: Sun, 1 Mar 2026 10:00:00 +0000\nFrom: dan@x.test\nSubject: Another\n\
         Message-ID: <4@x>\nReferences: <1@x> <2@x>\n\n",
        "From: =?utf-8?q?=C3=84nne?= <b@x.test>\nSubject: another\nMessage-ID: <5@x>\n\nx\n",
    ];
    for mail in mails {
        append_mail(a, "box", mail);
    }
    a.ok("SELECT box");
    a.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    a.ok("EXPUNGE");
}

#[test]
fn messages_are_sorted_by_each_key() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    conversation(&mut a);
    let caps = told(&mut a, "CAPABILITY");
    for name in [
        "SORT",
        "SORT=DISPLAY",
        "ESORT",
        "THREAD=REFERENCES",
        "I18NLEVEL=1",
    ] {
        assert!(caps.split(' ').any(|c| c == name), "{name}");
    }
    // The last one has no Date: it came in today.
    let cases = [
        ("SORT (DATE) UTF-8 ALL", "* SORT 4 1 3 2 5"),
        ("SORT (REVERSE DATE) UTF-8 ALL", "* SORT 5 2 3 1 4"),
        ("SORT (SUBJECT) UTF-8 ALL", "* SORT 4 5 1 2 3"),
        ("SORT (SUBJECT REVERSE DATE) UTF-8 ALL", "* SORT 5 4 2 3 1"),
        ("SORT (ARRIVAL) US-ASCII ALL", "* SORT 1 2 3 4 5"),
        ("SORT (SIZE) UTF-8 1,5", "* SORT 5 1"),
        ("SORT (FROM) UTF-8 ALL", "* SORT 3 5 1 4 2"),
        ("SORT (DISPLAYFROM) UTF-8 ALL", "* SORT 3 5 2 1 4"),
        ("SORT (TO) UTF-8 ALL", "* SORT 4 5 1 2 3"),
        ("SORT (DISPLAYTO) UTF-8 ALL", "* SORT 4 5 1 3 2"),
        ("SORT (CC DATE) UTF-8 ALL", "* SORT 4 1 3 2 5"),
        ("UID SORT (DATE) UTF-8 ALL", "* SORT 5 2 4 3 6"),
        ("UID SORT (DATE) \"utf-8\" SUBJECT plans", "* SORT 2 4 3"),
        // RFC 5256, 3, example A284
        ("SORT (SUBJECT) US-ASCII TEXT \"not in mailbox\"", "* SORT"),
    ];
    for (command, answer) in cases {
        assert_eq!(told(&mut a, command), answer, "{command}");
    }
    refused(
        &mut a,
        "SORT (DATE) KOI8-R ALL",
        "BADCHARSET (US-ASCII UTF-8)",
    );
    for bad in [
        "SORT () UTF-8 ALL",
        "SORT (NAME) UTF-8 ALL",
        "SORT (DATE) ALL",
        "SORT (REVERSE) UTF-8 ALL",
    ] {
        let (_, tagged) = a.command(bad);
        assert!(!tagged.starts_with("OK"), "{bad}: {tagged}");
    }
}

/// RFC 5256, 2.2 and 3: what no client can tell apart stays in the order of the mailbox.
#[test]
fn messages_of_one_second_stay_in_order() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    for _ in 0..12 {
        append_mail(&mut a, "box", "Subject: s\n\n");
    }
    a.ok("SELECT box");
    let lines = a.ok("FETCH 1:* INTERNALDATE");
    let date = |text: &&str| text.split('"').nth(1).expect("a date").to_owned();
    let dates: Vec<String> = texts(&lines).iter().map(date).collect();
    let mut seconds: Vec<&[String]> = dates.chunk_by(|a, b| a == b).collect();
    assert!(seconds.len() < dates.len(), "{dates:?}");
    // From the last second to the first.
    seconds.reverse();
    let mut first = dates.len();
    let reversed = seconds.iter().flat_map(|second| {
        first -= second.len();
        (1..=second.len()).map(move |n| first + n)
    });
    let reversed: Vec<String> = reversed.map(|n| n.to_string()).collect();
    // Without a Date header the date is the same.
    for key in ["ARRIVAL", "DATE"] {
        assert_eq!(
            told(&mut a, &format!("SORT (REVERSE {key}) UTF-8 ALL")),
            format!("* SORT {}", reversed.join(" ")),
            "{key}"
        );
        assert_eq!(
            told(&mut a, &format!("SORT ({key}) UTF-8 ALL")),
            "* SORT 1 2 3 4 5 6 7 8 9 10 11 12",
        );
    }
}

#[test]
fn results_of_sort_come_as_they_were_asked_for() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    conversation(&mut a);
    let mut esearch = |command: &str| {
        let told = told(&mut a, command);
        let (tag, rest) = told.split_once("\")").expect("a correlator");
        assert!(tag.starts_with("* ESEARCH (TAG \""), "{told}");
        rest.to_owned()
    };
    let cases = [
        // RFC 5267, 3.1 and 3.3
        (
            "UID SORT RETURN () (REVERSE DATE) UTF-8 ALL",
            " UID ALL 6,3:4,2,5",
        ),
        (
            "SORT RETURN (MIN MAX COUNT) (DATE) UTF-8 ALL",
            " MIN 4 MAX 5 COUNT 5",
        ),
        ("SORT RETURN (ALL) (DATE) UTF-8 SUBJECT nothing", ""),
        // RFC 9394, 3.1
        ("SEARCH RETURN (PARTIAL 1:2) ALL", " PARTIAL (1:2 1:2)"),
        ("SEARCH RETURN (PARTIAL -1:-2) ALL", " PARTIAL (-1:-2 4:5)"),
        (
            "UID SEARCH RETURN (PARTIAL 4:9 COUNT) ALL",
            " UID PARTIAL (4:9 5:6) COUNT 5",
        ),
        (
            "UID SEARCH RETURN (PARTIAL 6:9) ALL",
            " UID PARTIAL (6:9 NIL)",
        ),
        (
            "UID SORT RETURN (PARTIAL 2:3) (DATE) UTF-8 ALL",
            " UID PARTIAL (2:3 2,4)",
        ),
    ];
    for (command, answer) in cases {
        assert_eq!(esearch(command), answer, "{command}");
    }
    // RFC 9394, 3.2
    a.ok("SEARCH RETURN (SAVE PARTIAL -1:-1 MIN) ALL");
    assert_eq!(told(&mut a, "UID SEARCH $"), "* SEARCH 2 6");
    for bad in [
        "PARTIAL 1:2 ALL",
        "PARTIAL 0:2",
        "PARTIAL -1:2",
        "PARTIAL 1:-2",
        "PARTIAL 1:2 PARTIAL 3:4",
    ] {
        let (_, tagged) = a.command(&format!("SEARCH RETURN ({bad}) ALL"));
        assert!(tagged.starts_with("BAD"), "{bad}: {tagged}");
    }
}

#[test]
fn messages_are_threaded() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    conversation(&mut a);
    let cases = [
        ("THREAD REFERENCES UTF-8 ALL", "* THREAD (1 (3)(2 4))(5)"),
        (
            "UID THREAD REFERENCES UTF-8 ALL",
            "* THREAD (2 (4)(3 5))(6)",
        ),
        // What does not match is no parent.
        ("THREAD REFERENCES UTF-8 2:5", "* THREAD ((3)(2 4))(5)"),
        (
            "THREAD ORDEREDSUBJECT US-ASCII ALL",
            "* THREAD (4 5)(1 (3)(2))",
        ),
        // RFC 5256, 3, example A284
        ("THREAD ORDEREDSUBJECT US-ASCII TEXT \"gewp\"", "* THREAD"),
    ];
    for (command, answer) in cases {
        assert_eq!(told(&mut a, command), answer, "{command}");
    }
    refused(
        &mut a,
        "THREAD REFERENCES KOI8-R ALL",
        "BADCHARSET (US-ASCII UTF-8)",
    );
    assert!(a.command("THREAD REFS UTF-8 ALL").1.starts_with("BAD"));
    // What came since, and what went.
    append_mail(
        &mut a,
        "box",
        "Subject: x\nMessage-ID: <7@x>\nIn-Reply-To: <5@x>\n\n",
    );
    a.ok("STORE 2 +FLAGS.SILENT (\\Deleted)");
    a.ok("EXPUNGE");
    assert_eq!(
        told(&mut a, "THREAD REFERENCES UTF-8 ALL"),
        "* THREAD (1 (3)(2))(4 5)"
    );
}

/// What is found does not depend on what was looked at before.
#[test]
fn searches_find_what_came_since() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    conversation(&mut a);
    for round in 0..3 {
        let found = told(&mut a, "SEARCH FROM \"carol <carol@x\"");
        assert_eq!(
            found,
            ["* SEARCH 1", "* SEARCH 1 6", "* SEARCH 1 6 7"][round]
        );
        assert_eq!(told(&mut a, "SEARCH HEADER Message-ID 3@x"), "* SEARCH 3");
        assert_eq!(
            told(
                &mut a,
                "SEARCH SENTON 2-Mar-2026 LARGER 10 SAVEDSINCE 1-Jan-2026 SAVEDATESUPPORTED"
            ),
            ["* SEARCH 1 2 3", "* SEARCH 1 2 3 6", "* SEARCH 1 2 3 6 7"][round]
        );
        append_mail(
            &mut a,
            "box",
            "Date: Mon, 2 Mar 2026 10:00:00 +0000\nFrom: Carol <carol@x.test>\n\n",
        );
        a.ok("NOOP");
    }
}
