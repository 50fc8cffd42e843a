//! What mailboxes may be called, how that is written, and that no UIDVALIDITY comes again.

use super::common::{Imap, Server};
use super::{ALICE, append, refused, server, texts};

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn uid_validity(imap: &mut Imap, name: &str) -> u32 {
    let lines = imap.ok(&format!("STATUS {name} (UIDVALIDITY)"));
    let (_, rest) = lines[0]
        .text
        .split_once("UIDVALIDITY ")
        .expect("UIDVALIDITY");
    rest.trim_end_matches(')').parse().expect("a number")
}

/// RFC 3501, 5.1.3, and RFC 9051, 5.1: whatever a mailbox is called, all commands find it by the
/// name with which LIST tells of it, and another client sees the same in UTF-8.
#[test]
fn any_name_can_be_used_as_it_is_listed() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    b.ok("ENABLE IMAP4rev2");
    let long = "x".repeat(1000);
    let deep = vec!["d"; 50].join("/");
    for (wire, name) in [
        ("a%b", "a%b"),
        ("a*b", "a*b"),
        ("%", "%"),
        ("*", "*"),
        ("a\"b", "a\"b"),
        ("a\\b", "a\\b"),
        ("a&-b", "a&b"),
        ("&-", "&"),
        ("&-&AOk-", "&\u{e9}"),
        (
            "~peter/mail/&U,BTFw-/&ZeVnLIqe-",
            "~peter/mail/\u{53f0}\u{5317}/\u{65e5}\u{672c}\u{8a9e}",
        ),
        ("&Jjo-!", "\u{263a}!"),
        ("&2D3eAA-", "\u{1f600}"),
        (" ", " "),
        ("trail ", "trail "),
        (".", "."),
        ("..", ".."),
        ("#news", "#news"),
        ("NIL", "NIL"),
        ("a]b", "a]b"),
        ("(x)", "(x)"),
        ("INBOX/x", "INBOX/x"),
        (&long, &long),
        (&deep, &deep),
    ] {
        let (old, new) = (quoted(wire), quoted(name));
        a.ok(&format!("CREATE {old}"));
        append(&mut a, &old, "");
        let listed = |imap: &mut Imap, name: &str| {
            let lines = imap.ok("LIST \"\" *");
            texts(&lines).iter().any(|l| {
                let told = l.split_once(" \"/\" ").map(|(_, told)| told);
                told == Some(name) || told == Some(name.trim_matches('"'))
            })
        };
        assert!(listed(&mut a, &old), "{wire}");
        assert!(listed(&mut b, &new), "{name}");
        for (imap, name) in [(&mut a, &old), (&mut b, &new)] {
            imap.ok(&format!("SELECT {name}"));
            imap.ok(&format!("COPY 1 {name}"));
            imap.ok(&format!("SUBSCRIBE {name}"));
            imap.ok(&format!("UNSUBSCRIBE {name}"));
            imap.ok("UNSELECT");
            imap.ok(&format!("RENAME {name} other"));
            imap.ok(&format!("RENAME other {name}"));
        }
        b.ok(&format!("DELETE {new}"));
        refused(&mut a, &format!("SELECT {old}"), "NONEXISTENT");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let before = a.ok("LIST \"\" *").len();
    for (name, told) in [
        ("\"\"", "NO [CANNOT]"),
        ("/", "NO [CANNOT]"),
        ("/a", "NO [CANNOT]"),
        ("a//b", "NO [CANNOT]"),
        ("a//", "NO [CANNOT]"),
        ("\"a\u{1}b\"", "NO [CANNOT]"),
        ("\"a\tb\"", "NO [CANNOT]"),
        ("\"a\u{7f}b\"", "NO [CANNOT]"),
        ("\"a\u{85}b\"", "NO [CANNOT]"),
        ("\"a\u{2028}b\"", "NO [CANNOT]"),
        ("&AH8-", "NO [CANNOT]"),
        ("INBOX", "NO [ALREADYEXISTS]"),
        ("iNbOx", "NO [ALREADYEXISTS]"),
        ("inbox/", "NO [ALREADYEXISTS]"),
        // No modified UTF-7, or not the one way to write it (RFC 3501, 5.1.3).
        ("&", "BAD"),
        ("&Jjo", "BAD"),
        ("&ZZZ-", "BAD"),
        ("&2AA-", "BAD"),
        ("a&AAA-b", "BAD"),
        ("&AGE-", "BAD"),
        ("a&AC8-b", "BAD"),
        ("&ACY-", "BAD"),
        ("&U,BTFw-&ZeVnLIqe-", "BAD"),
    ] {
        let (_, tagged) = a.command(&format!("CREATE {name}"));
        assert!(tagged.starts_with(told), "{name}: {tagged}");
    }
    let (long, deep) = ("x".repeat(1001), vec!["d"; 51].join("/"));
    refused(&mut a, &format!("CREATE {long}"), "CANNOT");
    refused(&mut a, &format!("CREATE {deep}"), "LIMIT");
    // A tree whose leaves would be too long or too deep stays where it is.
    a.ok(&format!("CREATE tree/{}", "y".repeat(900)));
    refused(
        &mut a,
        &format!("RENAME tree {}", "z".repeat(200)),
        "CANNOT",
    );
    let shallow = vec!["d"; 49].join("/");
    refused(&mut a, &format!("RENAME tree {shallow}/e"), "CANNOT");
    a.ok(&format!("STATUS tree/{} (MESSAGES)", "y".repeat(900)));
    assert_eq!(a.ok("LIST \"\" *").len(), before + 2);
}

/// RFC 9051, 6.3.4: it says that there will be children, and nothing else.
#[test]
fn a_separator_at_the_end_is_no_part_of_a_name() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box/");
    append(&mut a, "box/", "");
    a.ok("SELECT box/");
    a.ok("COPY 1 box/");
    a.ok("UNSELECT");
    let lines = a.ok("STATUS box/ (MESSAGES)");
    assert_eq!(texts(&lines), ["* STATUS box (MESSAGES 2)"]);
    a.ok("SUBSCRIBE box/");
    a.ok("RENAME box/ other/");
    a.ok("DELETE other/");
    a.ok("SELECT inbox/");
}

/// RFC 9051, 2.3.1.1
#[test]
fn uid_validity_does_not_come_again() {
    let (home, server) = server();
    let mut server = Some(server);
    let mut given = Vec::new();
    for round in 0..3 {
        let mut a = server.as_ref().expect("server").imap(ALICE);
        for _ in 0..2 {
            a.ok("CREATE box");
            given.push(uid_validity(&mut a, "box"));
            a.ok("RENAME box kept");
            assert_eq!(uid_validity(&mut a, "kept"), given[given.len() - 1]);
            a.ok("CREATE box");
            given.push(uid_validity(&mut a, "box"));
            a.ok("DELETE box");
            a.ok("DELETE kept");
        }
        drop(a);
        let running = server.take().expect("server");
        match round {
            0 => drop(running.stop()),
            _ => running.kill(),
        }
        server = Some(Server::start(&home.path().join("data"), &[]));
    }
    let mut sorted = given.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, given, "they rise");
}
