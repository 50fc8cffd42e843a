//! RFC 4314, RFC 8440 and RFC 2342: mailboxes of one account in the hands of another.

use super::common::cli::Cli;
use super::common::serve::{AUTH, Serving, configuration};
use super::common::{IMAP, Imap, PASSWORD};
use super::{ALICE, answers, append, server, texts};

const BOB: &str = "bob@posthorn.test";
const OF_ALICE: &str = "\"Other Users/alice@posthorn.test";

/// A mailbox of alice as bob calls it.
fn hers(name: &str) -> String {
    format!("{OF_ALICE}/{name}\"")
}

fn tagged(imap: &mut Imap, command: &str) -> String {
    imap.command(command).1
}

/// Bob has these rights on alice's `box`.
fn grant(alice: &mut Imap, rights: &str) {
    alice.ok(&format!("SETACL box {BOB} \"{rights}\""));
}

fn line<'a>(lines: &'a [String], head: &str) -> &'a str {
    let found = lines.iter().find(|l| l.starts_with(head));
    found.unwrap_or_else(|| panic!("{head}: {lines:?}"))
}

fn untagged(imap: &mut Imap, command: &str) -> Vec<String> {
    let lines = imap.ok(command);
    texts(&lines).into_iter().map(str::to_owned).collect()
}

/// The examples of 3.1 to 3.5, with the names that there are here.
#[test]
fn rights_are_given_shown_and_taken() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE INBOX/Drafts");
    let lines = untagged(&mut a, "CAPABILITY");
    for capability in [" ACL ", " RIGHTS=kxte ", " LIST-MYRIGHTS "] {
        assert!(lines[0].contains(capability), "{capability}");
    }
    let owner = "* ACL INBOX/Drafts alice@posthorn.test lrswipkxteacd";
    answers(&mut a, "GETACL INBOX/Drafts", &[owner], "OK");
    answers(&mut a, "SETACL INBOX/Drafts bob lrswi", &[], "OK");
    let both = format!("{owner} {BOB} lrswi");
    answers(&mut a, "GETACL INBOX/Drafts", &[&both], "OK");
    answers(
        &mut a,
        &format!("SETACL INBOX/Drafts {BOB} +cda"),
        &[],
        "OK",
    );
    let both = format!("{owner} {BOB} lrswikxteacd");
    answers(&mut a, "GETACL INBOX/Drafts", &[&both], "OK");
    answers(&mut a, "SETACL INBOX/Drafts bob -xtea", &[], "OK");
    let both = format!("{owner} {BOB} lrswikc");
    answers(&mut a, "GETACL INBOX/Drafts", &[&both], "OK");
    for bad in ["lrQswicda", "lrqswicda", "+9", "l0"] {
        answers(
            &mut a,
            &format!("SETACL INBOX/Drafts bob {bad}"),
            &[],
            "BAD",
        );
    }
    answers(&mut a, "SETACL INBOX/Drafts \"\" lr", &[], "BAD");
    answers(&mut a, "SETACL INBOX/Drafts nobody lr", &[], "NO [CANNOT]");
    answers(&mut a, "SETACL INBOX/Drafts $team lr", &[], "NO [CANNOT]");
    a.ok("SETACL INBOX/Drafts -bob w");
    a.ok("SETACL INBOX/Drafts anyone l");
    let all = format!("{both} -{BOB} w anyone l");
    answers(&mut a, "GETACL INBOX/Drafts", &[&all], "OK");
    answers(&mut a, &format!("DELETEACL INBOX/Drafts {BOB}"), &[], "OK");
    let rest = format!("{owner} -{BOB} w anyone l");
    answers(&mut a, "GETACL INBOX/Drafts", &[&rest], "OK");
    a.ok("DELETEACL INBOX/Drafts -bob");
    a.ok("SETACL INBOX/Drafts anyone \"\"");
    answers(&mut a, "GETACL INBOX/Drafts", &[owner], "OK");
    answers(
        &mut a,
        "LISTRIGHTS INBOX/Drafts bob",
        &["* LISTRIGHTS INBOX/Drafts bob \"\" l r s w i p k x t e a c d"],
        "OK",
    );
    answers(
        &mut a,
        "LISTRIGHTS INBOX/Drafts alice",
        &["* LISTRIGHTS INBOX/Drafts alice lrswipkxteacd"],
        "OK",
    );
    let mine = "* MYRIGHTS INBOX/Drafts lrswipkxteacd";
    answers(&mut a, "MYRIGHTS INBOX/Drafts", &[mine], "OK");
    // The owner can't be locked out.
    for command in [
        "SETACL INBOX alice lr",
        "SETACL INBOX alice -a",
        "SETACL INBOX -alice r",
        "DELETEACL INBOX alice",
    ] {
        answers(&mut a, command, &[], "NO [CANNOT]");
    }
    answers(&mut a, "SETACL INBOX alice lrswipkxtea", &[], "OK");
    for command in [
        "GETACL x",
        "MYRIGHTS x",
        "LISTRIGHTS x bob",
        "SETACL x bob l",
        "DELETEACL x bob",
    ] {
        answers(&mut a, command, &[], "NO [NONEXISTENT]");
    }
}

/// Section 6: nothing tells whether there is such a mailbox, or such an account.
#[test]
fn what_can_not_be_seen_is_not_there() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    for name in ["box", "hidden"] {
        a.ok(&format!("CREATE {name}"));
    }
    append(&mut b, "INBOX", "");
    b.ok("SELECT INBOX");
    for shared in [false, true] {
        if shared {
            // One mailbox can be seen, and one has all rights but that.
            a.ok("SETACL box bob lr");
            a.ok("SETACL hidden bob rswipkxtea");
        }
        for command in [
            "SELECT THERE",
            "EXAMINE THERE",
            "STATUS THERE (MESSAGES)",
            "DELETE THERE",
            "RENAME THERE other",
            "CREATE THERE",
            "RENAME Sent THERE",
            "COPY 1 THERE",
            "MOVE 1 THERE",
            "APPEND THERE {1+}\r\nx",
            "GETACL THERE",
            "SETACL THERE bob lr",
            "DELETEACL THERE bob",
            "LISTRIGHTS THERE bob",
            "MYRIGHTS THERE",
            "GETMETADATA THERE /shared/comment",
            "SETMETADATA THERE (/shared/comment NIL)",
            "LIST \"\" THERE",
            "LIST \"\" THERE RETURN (STATUS (MESSAGES) MYRIGHTS METADATA (/shared/x))",
        ] {
            let told: Vec<_> = [
                "alice@posthorn.test/hidden",
                "alice@posthorn.test/none",
                "no@posthorn.test/hidden",
                "x/y",
            ]
            .iter()
            .map(|name| {
                let name = format!("\"Other Users/{name}\"");
                let (lines, tagged) = b.command(&command.replace("THERE", &name));
                // What was selected is closed by SELECT.
                b.ok("SELECT INBOX");
                let lines: Vec<_> = lines.into_iter().map(|l| l.text).collect();
                (lines, tagged)
            })
            .collect();
            assert!(
                told.iter().all(|t| *t == told[0]),
                "{shared} {command}: {told:?}"
            );
            let fine = if command.starts_with("LIST ") {
                "OK"
            } else {
                "NO [NO"
            };
            assert!(told[0].1.starts_with(fine), "{command}: {told:?}");
        }
    }
    assert!(tagged(&mut b, &format!("SELECT {}", hers("box"))).starts_with("OK"));
}

/// Section 4: what each command needs, and that without it nothing happens.
#[test]
fn each_command_needs_its_right() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    append(&mut b, "INBOX", "");
    for (needed, select, command) in [
        ("r", None, "SELECT HERS"),
        ("r", None, "EXAMINE HERS"),
        ("r", None, "STATUS HERS (MESSAGES)"),
        ("k", None, "CREATE HERS/new"),
        ("x", None, "DELETE HERS"),
        ("i", None, "APPEND HERS {1+}\r\nx"),
        ("a", None, "GETACL HERS"),
        ("a", None, "SETACL HERS anyone lr"),
        ("a", None, "DELETEACL HERS anyone"),
        ("a", None, "LISTRIGHTS HERS anyone"),
        ("i", Some("INBOX"), "COPY 1 HERS"),
        ("i", Some("INBOX"), "UID MOVE 1 HERS"),
        ("e", Some("HERS"), "EXPUNGE"),
        ("e", Some("HERS"), "UID EXPUNGE 1"),
        ("t", Some("HERS"), "STORE 1 +FLAGS (\\Deleted)"),
        ("s", Some("HERS"), "STORE 1 +FLAGS (\\Seen)"),
        ("w", Some("HERS"), "STORE 1 +FLAGS (\\Flagged)"),
        ("w", Some("HERS"), "STORE 1 FLAGS (word)"),
        ("te", Some("HERS"), "MOVE 1 INBOX"),
        ("t", Some("HERS"), "REPLACE 1 INBOX {1+}\r\nx"),
        ("e", Some("HERS"), "REPLACE 1 INBOX {1+}\r\nx"),
        ("i", Some("HERS"), "REPLACE 1 HERS {1+}\r\nx"),
        ("w", None, "SETMETADATA HERS (/shared/x \"1\")"),
        ("x", None, "RENAME HERS HERS2"),
    ] {
        let tree = ["parent", "parent/box", "parent/box/new", "parent/box2"];
        for name in tree.iter().rev() {
            a.command(&format!("DELETE {name}"));
        }
        a.ok("CREATE parent");
        a.ok("SETACL parent bob lk");
        a.ok("CREATE parent/box");
        for _ in 0..2 {
            append(&mut a, "parent/box", "(\\Deleted) ");
        }
        let named = |text: &str| {
            text.replace("HERS2", &hers("parent/box2"))
                .replace("HERS/new", &hers("parent/box/new"))
                .replace("HERS", &hers("parent/box"))
        };
        let all: String = "lrswipkxtea"
            .chars()
            .filter(|c| !needed.contains(*c))
            .collect();
        for (rights, fine) in [(all.as_str(), "NO [NOPERM]"), ("lrswipkxtea", "OK")] {
            a.ok(&format!("SETACL parent/box bob {rights}"));
            if let Some(mailbox) = select {
                b.ok(&format!("SELECT {}", named(mailbox)));
            }
            let tagged = tagged(&mut b, &named(command));
            assert!(tagged.starts_with(fine), "{rights} {command}: {tagged}");
            if fine != "OK" {
                let before = ["* STATUS parent/box (MESSAGES 2 UNSEEN 2)"];
                answers(&mut a, "STATUS parent/box (MESSAGES UNSEEN)", &before, "OK");
            }
        }
        b.command("UNSELECT");
    }
}

/// The example of section 4: flags come along as far as they may.
#[test]
fn copies_lose_the_flags_that_they_may_not_have() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    b.ok("CREATE from");
    for flags in ["\\Draft \\Deleted", "\\Answered", "$Forwarded \\Seen"] {
        append(&mut b, "from", &format!("({flags}) "));
    }
    let told = |lines: Vec<String>| -> Vec<String> {
        let flags = |l: &String| {
            l.split_once("FLAGS ")
                .map(|(_, f)| f.replace(" \\Recent", ""))
        };
        lines.iter().filter_map(flags).collect()
    };
    for command in ["COPY", "UID COPY", "MOVE", "UID MOVE", "APPEND"] {
        for (rights, after) in [
            (
                "lrwis",
                ["(\\Draft))", "(\\Answered))", "(\\Seen $Forwarded))"],
            ),
            ("lrsti", ["(\\Deleted))", "())", "(\\Seen))"]),
            ("lri", ["())", "())", "())"]),
        ] {
            a.command("DELETE box");
            a.ok("CREATE box");
            grant(&mut a, rights);
            b.ok("CREATE work");
            b.ok("SELECT from");
            b.ok("COPY 1:3 work");
            b.ok("SELECT work");
            if command == "APPEND" {
                for flags in ["\\Draft \\Deleted", "\\Answered", "$Forwarded \\Seen"] {
                    let tagged = append(&mut b, &hers("box"), &format!("({flags}) "));
                    assert!(tagged.starts_with("OK [APPENDUID"), "{tagged}");
                }
            } else {
                b.ok(&format!("{command} 1:3 {}", hers("box")));
            }
            b.ok(&format!("EXAMINE {}", hers("box")));
            let lines: Vec<_> = untagged(&mut b, "FETCH 1:3 FLAGS");
            let lines = lines.into_iter().map(|l| l.replace(" (\\Recent)", " ()"));
            let lines: Vec<String> = told(lines.map(|l| l.replace("(\\Recent", "(")).collect());
            assert_eq!(lines, after, "{command} {rights}");
            b.ok("UNSELECT");
            b.ok("DELETE work");
        }
    }
}

#[test]
fn flags_change_as_far_as_they_may() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    a.ok("CREATE box");
    append(&mut a, "box", "(\\Draft word) ");
    grant(&mut a, "lrs");
    let lines = untagged(&mut b, &format!("SELECT {}", hers("box")));
    // 5.1.1 and 5.2
    let permanent = line(&lines, "* OK [PERMANENTFLAGS");
    assert!(
        permanent.starts_with("* OK [PERMANENTFLAGS (\\Seen)]"),
        "{permanent}"
    );
    let told = |l: &[String]| line(l, "* 1 FETCH").replace(" \\Recent", "");
    let lines = untagged(&mut b, "STORE 1 FLAGS (\\Seen \\Flagged other)");
    assert_eq!(told(&lines), "* 1 FETCH (FLAGS (\\Seen \\Draft word))");
    // A silent one whose effect is another than the client thinks.
    let lines = untagged(&mut b, "STORE 1 FLAGS.SILENT (\\Flagged \\Seen)");
    assert_eq!(lines, Vec::<String>::new());
    answers(
        &mut b,
        "STORE 1 +FLAGS (\\Deleted other)",
        &[],
        "NO [NOPERM]",
    );
    b.ok("STORE 1 -FLAGS (\\Seen \\Draft)");
    grant(&mut a, "lrw");
    // 5.1.1: they have changed.
    let lines = untagged(&mut b, "FETCH 1 (BODY[] FLAGS)");
    let permanent = line(&lines, "* OK [PERMANENTFLAGS");
    let all = "(\\Answered \\Flagged \\Draft word \\*)";
    assert!(permanent.contains(all), "{permanent}");
    // FETCH does not mark as seen.
    let fetched = line(&lines, "* 1 FETCH");
    assert!(
        fetched.contains("\\Draft") && !fetched.contains("\\Seen"),
        "{fetched}"
    );
    let lines = untagged(&mut b, "STORE 1 FLAGS (\\Flagged \\Deleted other)");
    assert_eq!(told(&lines), "* 1 FETCH (FLAGS (\\Flagged other))");

    // CLOSE without e closes, and that is all.
    grant(&mut a, "lrt");
    b.ok("STORE 1 +FLAGS (\\Deleted)");
    b.ok("CLOSE");
    let there = ["* STATUS box (MESSAGES 1)"];
    answers(&mut a, "STATUS box (MESSAGES)", &there, "OK");
    grant(&mut a, "lrte");
    b.ok(&format!("SELECT {}", hers("box")));
    b.ok("CLOSE");
    let gone = ["* STATUS box (MESSAGES 0)"];
    answers(&mut a, "STATUS box (MESSAGES)", &gone, "OK");

    grant(&mut a, "lra");
    let (_, tagged) = b.command(&format!("SELECT {}", hers("box")));
    assert!(tagged.starts_with("OK [READ-ONLY]"), "{tagged}");
    grant(&mut a, "lri");
    let (_, tagged) = b.command(&format!("SELECT {}", hers("box")));
    assert!(tagged.starts_with("OK [READ-WRITE]"), "{tagged}");
}

#[test]
fn rights_that_are_taken_away_are_gone_at_the_next_command() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    a.ok("CREATE box");
    append(&mut a, "box", "");
    grant(&mut a, "lrswite");
    b.ok(&format!("SELECT {}", hers("box")));
    b.ok("STORE 1 +FLAGS (\\Flagged)");
    grant(&mut a, "lr");
    answers(
        &mut b,
        "EXPUNGE",
        &[
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)",
            "* OK [PERMANENTFLAGS ()] Flags",
        ],
        "NO [NOPERM]",
    );
    answers(&mut b, "STORE 1 +FLAGS (\\Deleted)", &[], "NO [NOPERM]");
    grant(&mut a, "lrswite");
    b.ok("NOOP");
    grant(&mut a, "l");
    append(&mut a, "box", "");
    let closed = ["* OK [CLOSED] You may not read this mailbox any more"];
    answers(&mut b, "FETCH 1 FLAGS", &closed, "NO [NOPERM]");
    answers(&mut b, "FETCH 1 FLAGS", &[], "BAD");

    // Who idles meanwhile hears of nothing that happens after it.
    grant(&mut a, "lr");
    b.ok(&format!("SELECT {}", hers("box")));
    b.send(b"i IDLE\r\n");
    assert!(b.line().unwrap().text.starts_with('+'));
    append(&mut a, "box", "");
    assert_eq!(b.line().unwrap().text, "* 3 EXISTS");
    a.ok("DELETEACL box bob");
    append(&mut a, "box", "");
    b.send(b"DONE\r\n");
    let (lines, _) = b.until("i");
    assert!(
        !texts(&lines).iter().any(|l| l.contains("EXISTS")),
        "{lines:?}"
    );
    answers(&mut b, "NOOP", &closed, "OK");
}

/// RFC 2342, RFC 8440, 4 and what RFC 4314 says of LIST, LSUB and SUBSCRIBE.
#[test]
fn mailboxes_of_others_are_listed_by_right() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    let namespace = "* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) NIL";
    answers(&mut b, "NAMESPACE", &[namespace], "OK");
    for name in ["A/B", "A/hidden", "C/D"] {
        a.ok(&format!("CREATE {name}"));
    }
    append(&mut a, "A/B", "");
    let below = format!("LIST {OF_ALICE}/\" *");
    answers(&mut b, &below, &[], "OK");
    answers(&mut b, "LIST \"\" Other*", &[], "OK");
    a.ok("SETACL A/B bob lr");
    a.ok("SETACL C bob l");
    a.ok("SETACL C/D anyone lr");
    let list = |attributes: &str, name: &str| format!("* LIST ({attributes}) \"/\" {}", hers(name));
    let lines = untagged(&mut b, "LIST \"\" * RETURN (MYRIGHTS STATUS (MESSAGES))");
    let others: Vec<&String> = lines
        .iter()
        .filter(|l| l.contains("Other Users/alice"))
        .collect();
    assert_eq!(
        others,
        [
            &format!("* LIST (\\NonExistent \\HasChildren) \"/\" {OF_ALICE}\""),
            &list("\\NonExistent \\HasChildren", "A"),
            &list("\\HasNoChildren", "A/B"),
            &format!("* STATUS {} (MESSAGES 1)", hers("A/B")),
            &format!("* MYRIGHTS {} lr", hers("A/B")),
            &list("\\HasChildren", "C"),
            &format!("* MYRIGHTS {} l", hers("C")),
            &list("\\HasNoChildren", "C/D"),
            &format!("* STATUS {} (MESSAGES 0)", hers("C/D")),
            &format!("* MYRIGHTS {} lr", hers("C/D")),
        ]
    );
    let inbox = [
        "* LIST (\\HasNoChildren) \"/\" INBOX",
        "* MYRIGHTS INBOX lrswipkxteacd",
    ];
    answers(&mut b, "LIST \"\" INBOX RETURN (MYRIGHTS)", &inbox, "OK");
    let top = untagged(&mut b, "LIST \"\" %");
    assert!(
        top.contains(&"* LIST (\\Noselect \\HasChildren) \"/\" \"Other Users\"".to_owned()),
        "{top:?}"
    );
    // Another one sees what is for anyone; its owner calls it as always.
    assert!(untagged(&mut a, "LIST \"\" Other*").is_empty());

    // Subscriptions are the subscriber's.
    b.ok(&format!("SUBSCRIBE {}", hers("A/B")));
    let sub = [format!("* LSUB () \"/\" {}", hers("A/B"))];
    let sub: Vec<&str> = sub.iter().map(String::as_str).collect();
    answers(&mut b, "LSUB \"Other Users/\" *", &sub, "OK");
    let marked = list("\\HasNoChildren \\Subscribed", "A/B");
    answers(
        &mut b,
        "LIST (SUBSCRIBED) \"Other Users/\" *",
        &[&marked],
        "OK",
    );
    assert!(
        !untagged(&mut a, "LSUB \"\" *")
            .iter()
            .any(|l| l.contains("A/B"))
    );
    a.ok("DELETEACL A/B bob");
    let missing = list("\\NonExistent \\HasNoChildren \\Subscribed", "A/B");
    answers(
        &mut b,
        "LIST (SUBSCRIBED) \"Other Users/\" *",
        &[&missing],
        "OK",
    );
    b.ok(&format!("UNSUBSCRIBE {}", hers("A/B")));
    answers(&mut b, "LSUB \"Other Users/\" *", &[], "OK");
}

#[test]
fn mailboxes_of_others_are_made_renamed_and_deleted() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    a.ok("CREATE tree/leaf");
    append(&mut a, "tree/leaf", "");
    a.ok("SETACL tree bob lrkx");
    a.ok("SETACL tree/leaf bob lrx");
    a.ok("SETACL INBOX bob lrswipkxtea");
    // The child has its parent's rights (section 4).
    b.ok(&format!("CREATE {}", hers("tree/made/deep")));
    let told = ["* ACL tree/made/deep alice@posthorn.test lrswipkxteacd bob@posthorn.test lrkxc"];
    answers(&mut a, "GETACL tree/made/deep", &told, "OK");
    for command in [
        format!("CREATE {}", hers("top")),
        format!("RENAME {} {}", hers("tree/leaf"), hers("top")),
        format!("CREATE {}", hers("tree/leaf/below")),
        format!("CREATE {} (USE (\\Archive))", hers("tree/used")),
    ] {
        answers(&mut b, &command, &[], "NO [NOPERM]");
    }
    answers(&mut b, "CREATE \"Other Users\"", &[], "NO [CANNOT]");
    for command in [
        format!("RENAME {} mine", hers("tree/leaf")),
        format!("RENAME Sent {}", hers("tree/Sent")),
        format!("RENAME {} {}", hers("INBOX"), hers("tree/x")),
        format!("DELETE {}", hers("INBOX")),
    ] {
        answers(&mut b, &command, &[], "NO [CANNOT]");
    }
    b.ok(&format!(
        "RENAME {} {}",
        hers("tree/leaf"),
        hers("tree/made/leaf")
    ));
    let there = ["* STATUS tree/made/leaf (MESSAGES 1)"];
    answers(&mut a, "STATUS tree/made/leaf (MESSAGES)", &there, "OK");
    // RENAME leaves rights as they are, its owner's too.
    a.ok("RENAME tree/made/leaf moved");
    let told = ["* ACL moved alice@posthorn.test lrswipkxteacd bob@posthorn.test lrxc"];
    answers(&mut a, "GETACL moved", &told, "OK");
    b.ok(&format!("DELETE {}", hers("moved")));
    a.ok("CREATE moved");
    let owner = ["* ACL moved alice@posthorn.test lrswipkxteacd"];
    answers(&mut a, "GETACL moved", &owner, "OK");
    // RFC 9051, 6.3.12: TRYCREATE only where that helps.
    append(&mut b, "INBOX", "");
    b.ok("SELECT INBOX");
    answers(
        &mut b,
        &format!("COPY 1 {}", hers("tree/new")),
        &[],
        "NO [TRYCREATE]",
    );
    answers(
        &mut b,
        &format!("COPY 1 {}", hers("new")),
        &[],
        "NO [NONEXISTENT]",
    );
    // A shared mailbox that is deleted while it is selected.
    b.ok(&format!("SELECT {}", hers("tree/made/deep")));
    a.ok("DELETE tree/made/deep");
    b.send(b"x NOOP\r\n");
    let told: Vec<String> = std::iter::from_fn(|| b.line().ok())
        .map(|l| l.text)
        .collect();
    assert!(told.iter().any(|l| l.starts_with("* BYE")), "{told:?}");
}

#[test]
fn anyone_and_negative_rights() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    a.ok("CREATE box");
    a.ok("SETACL box anyone lrs");
    a.ok("SETACL box bob wi");
    a.ok("SETACL box -bob s");
    let mine = format!("* MYRIGHTS {} lrwi", hers("box"));
    answers(&mut b, &format!("MYRIGHTS {}", hers("box")), &[&mine], "OK");
    a.ok("SETACL box -anyone l");
    answers(
        &mut b,
        &format!("MYRIGHTS {}", hers("box")),
        &[],
        "NO [NONEXISTENT]",
    );
    assert!(untagged(&mut b, "LIST \"\" Other*").is_empty());
}

fn login(server: &Serving, user: &str) -> Imap {
    let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN {user} {PASSWORD}"));
    imap
}

#[test]
fn rights_are_an_accounts_not_an_addresss() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start_with(home.path(), |base| {
        configuration(base, "data", AUTH).replace(
            "[store]",
            "[store]\nmax_rights_per_mailbox = 2\nmax_shared_mailboxes_per_account = 2",
        )
    });
    server.cli.ok(&["domain", "add", "else.test"], "");
    let add = |name: &str| {
        server
            .cli
            .ok(&["account", "add", name, "--password-stdin"], PASSWORD)
    };
    add("carol@posthorn.test");
    add("dan@else.test");
    let (mut a, mut b) = (login(&server, ALICE), login(&server, BOB));
    for name in ["box", "box/sub", "other", "third"] {
        a.ok(&format!("CREATE {name}"));
    }
    a.ok("SETACL box bob lr");
    a.ok("SETACL box carol lr");
    answers(&mut a, "SETACL box dan@else.test lr", &[], "NO [LIMIT]");
    a.ok("SETACL other anyone lr");
    answers(&mut a, "SETACL third bob lr", &[], "NO [LIMIT]");
    a.ok("DELETEACL box carol");
    a.ok("SETACL box dan@else.test lr");
    // Anyone is of the owner's domain.
    let mut d = login(&server, "dan@else.test");
    let names = |imap: &mut Imap| -> Vec<String> {
        let lines = untagged(imap, "LIST \"Other Users/\" \"alice@posthorn.test/*\"");
        let name = |l: &String| {
            l.rsplit('/')
                .next()
                .map(|n| n.trim_end_matches('"').to_owned())
        };
        lines.iter().filter_map(name).collect()
    };
    assert_eq!(names(&mut d), ["box"]);
    assert_eq!(names(&mut b), ["box", "other"]);
    // Bob goes, and another bob comes.
    server.cli.ok(&["account", "remove", BOB, "--yes"], "");
    add(BOB);
    let mut b = login(&server, BOB);
    assert_eq!(names(&mut b), ["other"]);
    let told = ["* ACL box alice@posthorn.test lrswipkxteacd dan@else.test lr"];
    answers(&mut a, "GETACL box", &told, "OK");
    let (base, config) = (server.base, server.cli.config.clone());
    server.stop();
    let server = Serving::launch(home.path(), base, Cli { config }, |_| {});
    assert_eq!(names(&mut login(&server, BOB)), ["other"]);
    assert_eq!(names(&mut login(&server, "dan@else.test")), ["box"]);
}

/// Usage is the owner's, and so is the limit.
#[test]
fn what_others_put_there_counts_for_the_owner() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start_with(home.path(), |base| configuration(base, "data", AUTH));
    server
        .cli
        .ok(&["account", "quota", ALICE, "--messages", "1"], "");
    let (mut a, mut b) = (login(&server, ALICE), login(&server, BOB));
    a.ok("CREATE box");
    grant(&mut a, "lri");
    append(&mut b, "INBOX", "");
    b.ok("SELECT INBOX");
    b.ok(&format!("COPY 1 {}", hers("box")));
    let tagged = append(&mut b, &hers("box"), "");
    assert!(tagged.starts_with("NO [OVERQUOTA]"), "{tagged}");
    answers(
        &mut b,
        &format!("COPY 1 {}", hers("box")),
        &[],
        "NO [OVERQUOTA]",
    );
    // The mail that tells of it counts too, when it comes.
    let lines = untagged(&mut a, "GETQUOTAROOT box");
    assert_eq!(lines[0], "* QUOTAROOT box \"\"");
    assert!(!lines[1].contains("MESSAGE 0 "), "{lines:?}");
    // How much it is, is not the other one's business.
    let root = format!("* QUOTAROOT {}", hers("box"));
    answers(
        &mut b,
        &format!("GETQUOTAROOT {}", hers("box")),
        &[&root],
        "OK",
    );
}

/// RFC 5464, 3.3
#[test]
fn annotations_of_others() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    a.ok("CREATE box");
    a.ok("SETMETADATA box (/shared/comment \"all\" /private/comment \"mine\")");
    grant(&mut a, "l");
    let get = format!(
        "GETMETADATA (DEPTH infinity) {} (/shared /private)",
        hers("box")
    );
    answers(&mut b, &get, &[], "NO [NOPERM]");
    grant(&mut a, "lrw");
    let told = format!("* METADATA {} (/shared/comment \"all\")", hers("box"));
    answers(&mut b, &get, &[&told], "OK");
    let set = |entry: &str| format!("SETMETADATA {} ({entry} \"new\")", hers("box"));
    answers(
        &mut b,
        &set("/private/comment"),
        &[],
        "NO [METADATA NOPRIVATE]",
    );
    answers(&mut b, &set("/shared/comment"), &[], "OK");
    let told = ["* METADATA box (/shared/comment \"new\" /private/comment \"mine\")"];
    answers(
        &mut a,
        "GETMETADATA box (/shared/comment /private/comment)",
        &told,
        "OK",
    );
}
