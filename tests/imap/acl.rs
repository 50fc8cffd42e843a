//! RFC 4314: rights on mailboxes of another account, and what commands need of them.

use super::common::Imap;
use super::{ALICE, answers, append, server, texts};

pub(super) const BOB: &str = "bob@posthorn.test";
pub(super) const OF_ALICE: &str = "\"Other Users/alice@posthorn.test";

/// A mailbox of alice as bob calls it.
pub(super) fn hers(name: &str) -> String {
    format!("{OF_ALICE}/{name}\"")
}

fn tagged(imap: &mut Imap, command: &str) -> String {
    imap.command(command).1
}

/// Bob has these rights on alice's `box`.
pub(super) fn grant(alice: &mut Imap, rights: &str) {
    alice.ok(&format!("SETACL box {BOB} \"{rights}\""));
}

fn line<'a>(lines: &'a [String], head: &str) -> &'a str {
    let found = lines.iter().find(|l| l.starts_with(head));
    found.unwrap_or_else(|| panic!("{head}: {lines:?}"))
}

pub(super) fn untagged(imap: &mut Imap, command: &str) -> Vec<String> {
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
            // One mailbox can be seen, and one has rights that are enough for none of these.
            a.ok("SETACL box bob lr");
            a.ok("SETACL hidden bob swpte");
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

/// Section 4: the right that a command needs is enough, where nobody may look too.
#[test]
fn a_mailbox_that_is_not_listed_takes_what_may_be_put_there() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    append(&mut b, "INBOX", "");
    a.ok("CREATE box");
    grant(&mut a, "i");
    b.ok("SELECT INBOX");
    assert!(tagged(&mut b, &format!("COPY 1 {}", hers("box"))).starts_with("OK [COPYUID "));
    let appended = append(&mut b, &hers("box"), "");
    assert!(appended.starts_with("OK [APPENDUID "), "{appended}");
    let mine = [format!("* MYRIGHTS {} i", hers("box"))];
    let mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    answers(&mut b, &format!("MYRIGHTS {}", hers("box")), &mine, "OK");
    b.ok("UNSELECT");
    for command in ["SELECT", "DELETE", "GETACL", "STATUS (MESSAGES)"] {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let command = format!("{verb} {} {rest}", hers("box"));
        answers(&mut b, command.trim_end(), &[], "NO [NONEXISTENT]");
    }
    assert!(untagged(&mut b, "LIST \"\" Other*").is_empty());
    grant(&mut a, "r");
    let selected = b.ok(&format!("SELECT {}", hers("box")));
    assert!(texts(&selected).contains(&"* 2 EXISTS"), "{selected:?}");
    append(&mut a, "box", "");
    assert!(untagged(&mut b, "NOOP").contains(&"* 3 EXISTS".to_owned()));
    b.ok("FETCH 1:* FLAGS");
    let found = untagged(&mut b, "ESEARCH IN (selected) ALL");
    assert!(found[0].ends_with(" UID ALL 1:3"), "{found:?}");
    let found = untagged(&mut b, "ESEARCH IN (subtree \"Other Users\") ALL");
    assert!(found.is_empty(), "{found:?}");
    grant(&mut a, "l");
    answers(
        &mut b,
        "NOOP",
        &["* OK [CLOSED] You may not read this mailbox any more"],
        "OK",
    );
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
