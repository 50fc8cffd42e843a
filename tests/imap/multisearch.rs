//! ESEARCH over mailboxes (RFC 7377), FUZZY (RFC 6203), UIDBATCHES, EMAILID and THREADID.

use super::common::Imap;
use super::{ALICE, append, append_mail, refused, server, texts};

fn told(imap: &mut Imap, command: &str) -> Vec<String> {
    imap.ok(command).into_iter().map(|line| line.text).collect()
}

/// Without the correlators.
fn found(imap: &mut Imap, command: &str) -> Vec<String> {
    let told = told(imap, command);
    let part = |line: &String| {
        let (head, rest) = line.split_once(") ").expect("a correlator");
        let mailbox = head.split("MAILBOX ").nth(1).expect("a mailbox");
        let mailbox = mailbox.split(" UIDVALIDITY").next().unwrap_or_default();
        format!("{mailbox} {rest}")
    };
    told.iter().map(part).collect()
}

#[test]
fn several_mailboxes_are_searched_at_once() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for name in [
        "folder1",
        "folder2",
        "folder2/banana",
        "folder2/peach",
        "folder2/peach/stone",
        "folder22",
    ] {
        a.ok(&format!("CREATE {name}"));
    }
    append(&mut a, "folder1", "(\\Seen) ");
    append(&mut a, "folder1", "");
    append(&mut a, "folder2/peach", "");
    append(&mut a, "folder2/peach/stone", "");
    append(&mut a, "folder22", "");
    // RFC 7377, 3; nothing needs to be selected.
    let subtree = found(
        &mut a,
        "ESEARCH IN (mailboxes \"folder1\" subtree \"folder2\") unseen",
    );
    assert_eq!(
        subtree,
        [
            "folder1 UID ALL 2",
            "folder2/peach UID ALL 1",
            "folder2/peach/stone UID ALL 1"
        ]
    );
    let one = "ESEARCH IN (mailboxes \"folder1\" subtree-one \"folder2\") subject \"s\"";
    assert_eq!(
        found(&mut a, one),
        ["folder1 UID ALL 1:2", "folder2/peach UID ALL 1"]
    );
    let line = &told(
        &mut a,
        "ESEARCH IN (mailboxes folder1) RETURN (COUNT MIN) ALL",
    )[0];
    assert!(
        line.starts_with("* ESEARCH (TAG \"") && line.contains("\" MAILBOX folder1 UIDVALIDITY "),
        "{line}"
    );
    assert!(line.ends_with(") UID MIN 1 COUNT 2"), "{line}");
    let all = found(&mut a, "ESEARCH IN (personal) RETURN (COUNT) SUBJECT s");
    assert_eq!(all.len(), 4);
    a.ok("SUBSCRIBE folder22");
    let subscribed = found(&mut a, "ESEARCH IN (subscribed inboxes) SUBJECT s");
    assert!(
        subscribed.contains(&"folder22 UID ALL 1".to_owned()),
        "{subscribed:?}"
    );
    // Those that are not there, or have nothing, are not told of, and each only once.
    let twice = "ESEARCH IN (mailboxes (folder1 nowhere folder1 folder2) subtree folder1) UNSEEN";
    assert_eq!(found(&mut a, twice), ["folder1 UID ALL 2"]);
    assert_eq!(
        found(&mut a, "ESEARCH IN (personal) SUBJECT nothing"),
        [""; 0]
    );

    // A charset is unknown whether anything is selected or not.
    refused(
        &mut a,
        "ESEARCH IN (mailboxes INBOX) CHARSET FOO ALL",
        "BADCHARSET (US-ASCII UTF-8)",
    );
    for bad in [
        "ESEARCH CHARSET FOO ALL",
        "ESEARCH IN (selected) CHARSET FOO ALL",
        "ESEARCH IN (personal) RETURN (SAVE) CHARSET FOO ALL",
        "ESEARCH ALL",
        "ESEARCH IN (selected) ALL",
        "ESEARCH IN (selected-delayed) ALL",
        "ESEARCH IN () ALL",
        "ESEARCH IN (personal) RETURN (UPDATE) ALL",
    ] {
        assert!(a.command(bad).1.starts_with("BAD"), "{bad}");
    }
    a.ok("SELECT folder1");
    assert_eq!(found(&mut a, "ESEARCH ALL"), ["folder1 UID ALL 1:2"]);
    assert_eq!(
        found(&mut a, "ESEARCH IN (selected) 2"),
        ["folder1 UID ALL 2"]
    );
    a.ok("ESEARCH RETURN (SAVE) SEEN");
    assert_eq!(told(&mut a, "UID SEARCH $"), ["* SEARCH 1"]);
    assert!(
        a.command("ESEARCH IN (personal) RETURN (SAVE) ALL")
            .1
            .starts_with("BAD")
    );
    refused(
        &mut a,
        "ESEARCH IN (personal) CHARSET KOI8-R ALL",
        "BADCHARSET (US-ASCII UTF-8)",
    );
    assert_eq!(
        found(
            &mut a,
            "ESEARCH IN (personal) RETURN (PARTIAL -1:-1) UNSEEN SUBJECT s"
        )
        .len(),
        4
    );
    // What is selected stays so.
    assert_eq!(told(&mut a, "SEARCH ALL"), ["* SEARCH 1 2"]);
}

#[test]
fn words_are_searched_roughly() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    let mails = [
        "Subject: Hello\nFrom: user@example.com\n\n",
        "Subject: other\nFrom: user@example.com\n\nhelo\n",
        "Subject: nothing\nFrom: user@example.com\n\nx\n",
        "Subject: Re: h\u{e9}lp me\nFrom: =?utf-8?q?J=C3=BCrgen?= <j@example.com>\n\nworking on it\n",
        "Subject: homework\nFrom: else@example.com\n\n",
        "Subject: Work, and more\nFrom: user@example.com\n\n",
    ];
    for mail in mails {
        append_mail(&mut a, "box", mail);
    }
    a.ok("SELECT box");
    // RFC 6203, 3: the FROM is exact.
    assert_eq!(
        told(&mut a, "SEARCH FUZZY SUBJECT work FROM user@example.com"),
        ["* SEARCH 6"]
    );
    assert_eq!(told(&mut a, "SEARCH FUZZY SUBJECT work"), ["* SEARCH 5 6"]);
    assert_eq!(told(&mut a, "SEARCH SUBJECT helo"), ["* SEARCH"]);
    assert_eq!(
        told(&mut a, "SEARCH FUZZY (FROM jurgen TEXT Helo)"),
        ["* SEARCH 4"]
    );
    let line = told(&mut a, "SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT Helo");
    assert!(
        line[0].ends_with(" ALL 1:2,4 RELEVANCY (32 80 32)"),
        "{line:?}"
    );
    assert_eq!(
        told(&mut a, "SORT (RELEVANCY) UTF-8 FUZZY TEXT Helo"),
        ["* SORT 2 1 4"]
    );
    let line = told(
        &mut a,
        "SORT RETURN (RELEVANCY ALL) (RELEVANCY) UTF-8 FUZZY TEXT Helo",
    );
    assert!(
        line[0].ends_with(" ALL 2,1,4 RELEVANCY (80 32 32)"),
        "{line:?}"
    );
    let line = told(
        &mut a,
        "SORT RETURN (PARTIAL 1:2) (RELEVANCY) UTF-8 FUZZY SUBJECT \"work\"",
    );
    assert!(line[0].ends_with(" PARTIAL (1:2 6,5)"), "{line:?}");
    for bad in [
        "SORT (RELEVANCY) UTF-8 TEXT x",
        "SEARCH RETURN (RELEVANCY) TEXT x",
    ] {
        assert!(a.command(bad).1.starts_with("BAD"), "{bad}");
    }
}

#[test]
fn uids_come_in_batches() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    a.ok("SELECT box");
    let batches = |a: &mut Imap, arguments: &str| {
        let told = told(a, &format!("UIDBATCHES {arguments}"));
        let (_, ranges) = told[0].split_once("\")").expect("a correlator");
        ranges.trim().to_owned()
    };
    assert_eq!(batches(&mut a, "500"), "");
    append(&mut a, "box", "");
    for _ in 0..10 {
        a.ok("COPY 1:* box");
        a.ok("NOOP");
    }
    // 1024 messages; the first and the last go.
    a.ok("UID STORE 1,1024,524 +FLAGS.SILENT (\\Deleted)");
    a.ok("EXPUNGE");
    assert_eq!(batches(&mut a, "500"), "1023:523,522:23,22:1");
    assert_eq!(batches(&mut a, "500 2:2"), "522:23");
    assert_eq!(batches(&mut a, "500 1:50"), "1023:523,522:23,22:1");
    assert_eq!(batches(&mut a, "2000"), "1023:1");
    assert_eq!(batches(&mut a, "500 50:60"), "");
    refused(&mut a, "UIDBATCHES 499", "TOOFEW");
    refused(&mut a, "UIDBATCHES 500 1:100000", "TOOMANY");
    for bad in [
        "UIDBATCHES 500 20:10",
        "UIDBATCHES",
        "UIDBATCHES abc",
        "UIDBATCHES 500 10",
    ] {
        assert!(a.command(bad).1.starts_with("BAD"), "{bad}");
    }
}

/// RFC 8474, 6.
#[test]
fn ids_of_threads_are_searched() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    append_mail(&mut a, "box", "Message-ID: <a@x>\n\n");
    append_mail(&mut a, "box", "Message-ID: <b@x>\nIn-Reply-To: <a@x>\n\n");
    append_mail(&mut a, "box", "Message-ID: <c@x>\n\n");
    a.ok("SELECT box");
    let lines = a.ok("SEARCH THREADID TvTnm_q_YNwEcZOiinD_f_g");
    assert_eq!(texts(&lines), ["* SEARCH 1 2"]);
    assert_eq!(
        texts(&a.ok("SEARCH NOT THREADID TvTnm_q_YNwEcZOiinD_f_g")),
        ["* SEARCH 3"]
    );
    assert_eq!(texts(&a.ok("SEARCH EMAILID M00")), ["* SEARCH"]);
}

#[test]
fn mailboxes_of_others_are_searched_by_right() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap("bob@posthorn.test"));
    for (name, rights) in [
        ("box", "lr"),
        ("box/in", "lr"),
        ("seen", "l"),
        ("read", "r"),
        ("own", ""),
    ] {
        alice.ok(&format!("CREATE {name}"));
        append(&mut alice, name, "");
        alice.ok(&format!("SETACL {name} bob \"{rights}\""));
    }
    append(&mut bob, "INBOX", "");
    bob.ok("SUBSCRIBE INBOX");
    bob.ok("SUBSCRIBE \"Other Users/alice@posthorn.test/box/in\"");
    bob.ok("SUBSCRIBE \"Other Users/alice@posthorn.test/own\"");
    let hers = |name: &str| format!("\"Other Users/alice@posthorn.test/{name}\"");
    let is = |name: &str| format!("{} UID ALL 1", hers(name));
    let mut search = |sources: &str| found(&mut bob, &format!("ESEARCH IN ({sources}) ALL"));
    assert_eq!(search("personal"), ["INBOX UID ALL 1"]);
    assert_eq!(search("inboxes"), ["INBOX UID ALL 1"]);
    assert_eq!(
        search("subscribed"),
        ["INBOX UID ALL 1".to_owned(), is("box/in")]
    );
    assert_eq!(search("subtree \"Other Users\""), [is("box"), is("box/in")]);
    let one = "subtree-one \"Other Users/Alice@Posthorn.test\"";
    assert_eq!(search(one), [is("box")]);
    let all = ["box", "box/in", "seen", "read", "own", "none"]
        .map(hers)
        .join(" ");
    assert_eq!(
        search(&format!("mailboxes ({all})")),
        [is("box"), is("box/in")]
    );
    // One that is selected, until it may not be read any more.
    bob.ok(&format!("SELECT {}", hers("box")));
    assert_eq!(found(&mut bob, "ESEARCH IN (selected) ALL"), [is("box")]);
    assert_eq!(found(&mut bob, "ESEARCH ALL"), [is("box")]);
    alice.ok("SETACL box bob l");
    assert!(told(&mut bob, "NOOP")[0].starts_with("* OK [CLOSED]"));
    let lost = found(&mut bob, "ESEARCH IN (subtree \"Other Users\") ALL");
    assert_eq!(lost, [is("box/in")]);
}
