//! Mailboxes that are made, renamed, deleted and listed: what can't be is refused for the right
//! reason and harms nothing.

use super::common::Imap;
use super::{ALICE, append, refused, server, texts};

fn names(imap: &mut Imap) -> Vec<String> {
    let lines = imap.ok("LIST \"\" *");
    let name = |l: &str| l.rsplit(' ').next().map(str::to_owned);
    texts(&lines).into_iter().filter_map(name).collect()
}

#[test]
fn inbox_is_renamed_also_below_itself() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for _ in 0..2 {
        append(&mut a, "INBOX", "");
    }
    a.ok("SELECT INBOX");
    let all = a.ok("SEARCH ALL").len();
    assert_eq!(all, 1);
    let before = a.ok("STATUS INBOX (MESSAGES)");
    // RFC 9051, 6.3.6
    a.ok("RENAME inbox INBOX/old");
    assert_eq!(
        texts(&a.ok("STATUS INBOX/old (MESSAGES)"))[0],
        texts(&before)[0].replace("INBOX", "INBOX/old")
    );
    let empty = a.ok("STATUS INBOX (MESSAGES)");
    assert_eq!(texts(&empty), ["* STATUS INBOX (MESSAGES 0)"]);
    append(&mut a, "INBOX", "");
    a.ok("RENAME INBOX INBOX/old/older");
    refused(&mut a, "RENAME INBOX INBOX/old", "ALREADYEXISTS");
    let old = a.ok("STATUS INBOX/old/older (MESSAGES)");
    assert_eq!(texts(&old), ["* STATUS INBOX/old/older (MESSAGES 1)"]);
}

#[test]
fn no_mailbox_moves_into_itself_or_over_another() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for name in ["s", "s/s", "s/s/deep", "t", "u/v"] {
        a.ok(&format!("CREATE {name}"));
    }
    append(&mut a, "s", "");
    append(&mut a, "s/s", "");
    a.ok("DELETE u");
    let before = names(&mut a);
    refused(&mut a, "RENAME s/s s", "ALREADYEXISTS");
    refused(&mut a, "RENAME s s", "ALREADYEXISTS");
    refused(&mut a, "RENAME s s/x", "CANNOT");
    refused(&mut a, "RENAME s s/s/x", "CANNOT");
    refused(&mut a, "RENAME s t", "ALREADYEXISTS");
    refused(&mut a, "RENAME u u/v/w", "CANNOT");
    refused(&mut a, "RENAME nothing else", "NONEXISTENT");
    assert_eq!(names(&mut a), before);
    for name in ["s", "s/s"] {
        let lines = a.ok(&format!("STATUS {name} (MESSAGES)"));
        assert_eq!(texts(&lines), [format!("* STATUS {name} (MESSAGES 1)")]);
    }
    // A parent that is only a name is a free place.
    a.ok("RENAME u/v u");
    a.ok("SELECT u");
}

#[test]
fn a_special_use_is_given_once() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let before = names(&mut a);
    // RFC 6154, 3
    refused(&mut a, "CREATE second (USE (\\Trash))", "USEATTR");
    refused(&mut a, "CREATE second (USE (\\Flagged))", "USEATTR");
    assert_eq!(names(&mut a), before);
}

#[test]
fn only_parents_with_hidden_children_are_listed_for_them() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    // The example 9 of RFC 5258, 5.
    for name in [
        "foo2",
        "foo2/bar1",
        "foo2/bar2",
        "baz2",
        "baz2/bar2",
        "eps2",
        "eps2/mamba",
    ] {
        a.ok(&format!("CREATE {name}"));
    }
    for name in [
        "foo2/bar1",
        "foo2/bar2",
        "baz2/bar2",
        "eps2",
        "eps2/mamba",
        "qux2/bar2",
    ] {
        a.ok(&format!("SUBSCRIBE {name}"));
    }
    let listed = |a: &mut Imap, pattern: &str| -> Vec<String> {
        let lines = a.ok(&format!("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" {pattern}"));
        let short = |l: &str| {
            let child = l.contains("(CHILDINFO (\"SUBSCRIBED\"))");
            let name = l.split(" \"/\" ").nth(1)?.split(' ').next()?;
            // Not what came with the account.
            let name = Some(name).filter(|name| name.contains('2'))?;
            Some(format!("{name}{}", if child { " +" } else { "" }))
        };
        texts(&lines).into_iter().filter_map(short).collect()
    };
    assert_eq!(
        listed(&mut a, "*2"),
        ["baz2/bar2", "eps2 +", "foo2 +", "foo2/bar2", "qux2/bar2"]
    );
    assert_eq!(
        listed(&mut a, "*"),
        [
            "baz2/bar2",
            "eps2 +",
            "eps2/mamba",
            "foo2/bar1",
            "foo2/bar2",
            "qux2/bar2"
        ]
    );
    assert_eq!(
        listed(&mut a, "%"),
        ["baz2 +", "eps2 +", "foo2 +", "qux2 +"]
    );
}

#[test]
fn a_pattern_may_cut_an_encoded_name() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE Entw&APw-rfe");
    a.ok("SUBSCRIBE Entw&APw-rfe");
    for command in ["LIST", "LSUB"] {
        for (reference, pattern, found) in [
            ("\"\"", "Entw&APw-*", true),
            ("\"\"", "Entw&APw*", true),
            ("\"\"", "Entw&A%", true),
            ("\"\"", "Entw&B%", false),
            ("Entw&AP", "w-rfe", true),
            ("\"\"", "&", false),
        ] {
            let lines = a.ok(&format!("{command} {reference} {pattern}"));
            assert_eq!(lines.len(), usize::from(found), "{command} {pattern}");
        }
    }
    a.ok("ENABLE IMAP4rev2");
    assert_eq!(a.ok("LIST \"\" Entw&A%").len(), 0);
}

#[test]
fn what_can_not_be_deleted_or_made_is_said_so() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE p/c");
    a.ok("DELETE p");
    // RFC 9051, 6.3.5
    refused(&mut a, "DELETE p", "HASCHILDREN");
    refused(&mut a, "DELETE nothing", "NONEXISTENT");
    append(&mut a, "INBOX", "");
    a.ok("SELECT INBOX");
    let long = "x".repeat(1001);
    for name in ["a//b", "/a", long.as_str()] {
        for command in [
            format!("COPY 1 {name}"),
            format!("UID MOVE 1 {name}"),
            format!("CREATE {name}"),
        ] {
            refused(&mut a, &command, "CANNOT");
        }
        let tagged = append(&mut a, name, "");
        assert!(tagged.starts_with("NO [CANNOT]"), "{tagged}");
    }
    for name in ["p", "new/er"] {
        refused(&mut a, &format!("COPY 1 {name}"), "TRYCREATE");
        let tagged = append(&mut a, name, "");
        assert!(tagged.starts_with("NO [TRYCREATE]"), "{tagged}");
        a.ok(&format!("CREATE {name}"));
        a.ok(&format!("COPY 1 {name}"));
    }
}

/// RFC 9051, 5.1 and 6.3.9.7
#[test]
fn a_name_is_the_same_in_every_unicode_form() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let mut b = server.imap(ALICE);
    a.ok("ENABLE IMAP4rev2");
    let (long, short) = ("Entwu\u{308}rfe", "Entw\u{fc}rfe");
    let untagged = |imap: &mut Imap, command: &str| -> Vec<String> {
        let lines = imap.ok(command);
        texts(&lines).into_iter().map(str::to_owned).collect()
    };
    let renamed = |attributes: &str, name: &str, old: &str| {
        format!("* LIST ({attributes}) \"/\" \"{name}\" (\"OLDNAME\" (\"{old}\"))")
    };
    assert_eq!(
        untagged(&mut a, &format!("CREATE \"{long}/x\"")),
        [renamed(
            "\\HasNoChildren",
            &format!("{short}/x"),
            &format!("{long}/x")
        )]
    );
    refused(&mut a, &format!("CREATE \"{short}/x\""), "ALREADYEXISTS");
    refused(&mut a, &format!("CREATE \"{long}\""), "ALREADYEXISTS");
    // In IMAP4rev1 too, in modified UTF-7.
    append(&mut b, "Entwu&Awg-rfe", "");
    for name in ["Entwu&Awg-rfe", "Entw&APw-rfe"] {
        let status = untagged(&mut b, &format!("STATUS {name} (MESSAGES)"));
        assert_eq!(status, ["* STATUS \"Entw&APw-rfe\" (MESSAGES 1)"]);
    }
    for (pattern, found) in [(long, 1), (short, 1), ("Entwu\u{308}%", 1), ("Entw*/%", 1)] {
        let lines = untagged(&mut a, &format!("LIST \"\" \"{pattern}\""));
        assert_eq!(lines.len(), found, "{pattern}");
    }
    assert_eq!(untagged(&mut a, &format!("LIST \"{long}\" *")).len(), 2);
    let list = |a: &mut Imap, command: String| -> Vec<String> {
        let mut lines = untagged(a, &command);
        lines.retain(|l| l.starts_with("* LIST"));
        lines
    };
    assert_eq!(
        list(&mut a, format!("SELECT \"{long}\"")),
        [renamed("\\HasChildren", short, long)]
    );
    a.ok(&format!("COPY 1 \"{long}/x\""));
    a.ok(&format!("SUBSCRIBE \"{long}\""));
    let lines = untagged(&mut a, "LIST (SUBSCRIBED) \"\" Entw*");
    assert_eq!(
        lines,
        [format!(
            "* LIST (\\HasChildren \\Subscribed) \"/\" \"{short}\""
        )]
    );
    a.ok(&format!("UNSUBSCRIBE \"{long}\""));
    a.ok("UNSELECT");
    assert_eq!(
        list(&mut a, format!("RENAME \"{long}/x\" \"u\u{308}\"")),
        [renamed("\\HasNoChildren", "\u{fc}", &format!("{long}/x"))]
    );
    assert_eq!(
        list(&mut a, format!("DELETE \"{long}\"")),
        [renamed("\\NonExistent", short, long)]
    );
    // What was sent as it is needs no such answer.
    assert_eq!(list(&mut a, format!("CREATE \"{short}\"")).len(), 0);
    assert_eq!(list(&mut a, format!("DELETE \"{short}\"")).len(), 0);
}
