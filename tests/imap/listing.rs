//! The examples of RFC 5258, 5 (but those of other servers, and 9, which is in `names`), with
//! RFC 5819 and RFC 6154 beside them. Attributes are sorted; INBOX and what comes with an account
//! is left out.

use super::common::Imap;
use super::{ALICE, server};

fn listed(imap: &mut Imap, command: &str) -> Vec<String> {
    let lines = imap.ok(command);
    let own = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"];
    let tidy = |text: &str| {
        let rest = text.strip_prefix("* LIST (")?;
        let (attributes, rest) = rest.split_once(") \"/\" ")?;
        let mut attributes: Vec<&str> = attributes.split(' ').collect();
        attributes.sort_unstable();
        let known = own.contains(&rest.split(' ').next()?);
        (!known).then(|| format!("({}) {rest}", attributes.join(" ")))
    };
    let other = |text: &str| match text.starts_with("* LIST ") {
        true => tidy(text),
        false => Some(text.to_owned()),
    };
    lines.iter().filter_map(|line| other(&line.text)).collect()
}

const LEAF: &str = "\\HasNoChildren";
const PARENT: &str = "\\HasChildren";
const CHILD: &str = "(CHILDINFO (\"SUBSCRIBED\"))";

#[test]
fn examples_1_to_3_and_6() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for name in [
        "Fruit",
        "Fruit/Apple",
        "Fruit/Banana",
        "Tofu",
        "Vegetable",
        "Vegetable/Broccoli",
        "Vegetable/Corn",
    ] {
        a.ok(&format!("CREATE {name}"));
    }
    for name in [
        "Fruit/Banana",
        "Fruit/Peach",
        "Vegetable",
        "Vegetable/Broccoli",
    ] {
        a.ok(&format!("SUBSCRIBE {name}"));
    }
    let all = |sub: &str| {
        let leaf = |name: &str| format!("({LEAF}) {name}");
        [
            format!("({PARENT}) Fruit"),
            leaf("Fruit/Apple"),
            format!("({LEAF}{sub}) Fruit/Banana"),
            leaf("Tofu"),
            format!("({PARENT}{sub}) Vegetable"),
            format!("({LEAF}{sub}) Vegetable/Broccoli"),
            leaf("Vegetable/Corn"),
        ]
    };
    assert_eq!(listed(&mut a, "LIST \"\" \"*\""), all(""));
    let subscribed = [
        format!("({LEAF} \\Subscribed) Fruit/Banana"),
        format!("({LEAF} \\NonExistent \\Subscribed) Fruit/Peach"),
        format!("({PARENT} \\Subscribed) Vegetable"),
        format!("({LEAF} \\Subscribed) Vegetable/Broccoli"),
    ];
    for command in [
        "LIST (SUBSCRIBED) \"\" \"*\"",
        "LIST (REMOTE SUBSCRIBED) \"\" \"*\"",
    ] {
        assert_eq!(listed(&mut a, command), subscribed, "{command}");
    }
    let top = [
        format!("({PARENT}) Fruit"),
        format!("({LEAF}) Tofu"),
        format!("({PARENT}) Vegetable"),
    ];
    for command in [
        "LIST () \"\" \"%\" RETURN (CHILDREN)",
        "LIST (REMOTE) \"\" \"%\" RETURN (CHILDREN)",
    ] {
        assert_eq!(listed(&mut a, command), top, "{command}");
    }
    assert_eq!(
        listed(&mut a, "LIST (REMOTE) \"\" \"*\" RETURN (SUBSCRIBED)"),
        all(" \\Subscribed")
    );
    // RFC 5819, 3: no STATUS where there is no mailbox.
    assert_eq!(
        listed(
            &mut a,
            "LIST (SUBSCRIBED) \"\" Fruit/% RETURN (STATUS (MESSAGES UNSEEN))"
        ),
        [
            subscribed[0].as_str(),
            "* STATUS Fruit/Banana (MESSAGES 0 UNSEEN 0)",
            &subscribed[1],
        ]
    );
}

#[test]
fn example_8() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for name in ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"] {
        a.ok(&format!("UNSUBSCRIBE {name}"));
    }
    for name in ["Foo", "Foo/Bar", "Foo/Baz", "Moo"] {
        a.ok(&format!("CREATE {name}"));
    }
    let (top, recursive) = (
        "LIST (SUBSCRIBED) \"\" \"%\"",
        "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"%\"",
    );
    let none: [String; 0] = [];
    // B
    assert_eq!(listed(&mut a, recursive), none);
    a.ok("SUBSCRIBE Foo/Baz");
    assert_eq!(
        listed(&mut a, "LIST (SUBSCRIBED) \"\" \"*\""),
        [format!("({LEAF} \\Subscribed) Foo/Baz")]
    );
    assert_eq!(listed(&mut a, top), none);
    assert_eq!(
        listed(&mut a, recursive),
        [format!("({PARENT}) Foo {CHILD}")]
    );
    // A1
    a.ok("SUBSCRIBE Foo");
    assert_eq!(
        listed(&mut a, recursive),
        [format!("({PARENT} \\Subscribed) Foo {CHILD}")]
    );
    // C
    a.ok("UNSUBSCRIBE Foo/Baz");
    a.ok("SUBSCRIBE Moo");
    assert_eq!(
        listed(&mut a, &format!("{recursive} RETURN (CHILDREN)")),
        [
            format!("({PARENT} \\Subscribed) Foo"),
            format!("({LEAF} \\Subscribed) Moo"),
        ]
    );
    // A2
    for command in [
        "UNSUBSCRIBE Moo",
        "UNSUBSCRIBE Foo",
        "SUBSCRIBE Foo/Baz",
        "DELETE Foo",
    ] {
        a.ok(command);
    }
    assert_eq!(
        listed(&mut a, recursive),
        [format!("({PARENT} \\NonExistent) Foo {CHILD}")]
    );
    // 3.1: it modifies another option.
    for options in [
        "RECURSIVEMATCH",
        "RECURSIVEMATCH REMOTE",
        // An independent option too (RFC 6154, 6).
        "RECURSIVEMATCH SPECIAL-USE",
        "SPECIAL-USE REMOTE RECURSIVEMATCH",
    ] {
        let (_, tagged) = a.command(&format!("LIST ({options}) \"\" *"));
        assert!(tagged.starts_with("BAD"), "{options}: {tagged}");
    }
    // 6: one pattern at least.
    for command in ["LIST \"\" ()", "LIST () \"\" ()"] {
        let (_, tagged) = a.command(command);
        assert!(tagged.starts_with("BAD"), "{command}: {tagged}");
    }
}

#[test]
fn examples_10_and_11() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE foo");
    a.ok("SUBSCRIBE foo/bar");
    a.ok("CREATE music/rock");
    a.ok("DELETE music");
    assert_eq!(
        listed(&mut a, "LIST \"\" (\"foo\" \"foo/*\")"),
        [format!("({LEAF}) foo")]
    );
    assert_eq!(
        listed(&mut a, "LIST (SUBSCRIBED) \"\" \"foo/*\""),
        [format!("({LEAF} \\NonExistent \\Subscribed) foo/bar")]
    );
    assert_eq!(
        listed(
            &mut a,
            "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" foo RETURN (CHILDREN)"
        ),
        [format!("({LEAF}) foo {CHILD}")]
    );
    assert_eq!(
        listed(&mut a, "LIST () \"\" m%"),
        [format!("({PARENT} \\NonExistent) music")]
    );
    assert_eq!(
        listed(&mut a, "LIST \"\" (m% music/rock)"),
        [
            format!("({PARENT} \\NonExistent) music"),
            format!("({LEAF}) music/rock"),
        ]
    );
    // Without the extended syntax it can't be told why.
    assert_eq!(
        listed(&mut a, "LIST \"\" m%"),
        [format!("({PARENT} \\Noselect) music")]
    );
}

/// RFC 6154, 5.2 and 5.3, with all that LIST can be asked at once.
#[test]
fn special_uses_are_listed() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("DELETE Sent");
    a.ok("CREATE \"Sent Mail\" (USE (\\Sent))");
    a.ok("CREATE \"Sent Mail/2024\"");
    assert_eq!(
        listed(&mut a, "LIST (SPECIAL-USE) \"\" \"S*\""),
        [format!("({PARENT} \\Sent) \"Sent Mail\"")]
    );
    a.ok("SUBSCRIBE \"Sent Mail/2024\"");
    let lines = a.ok(
        "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"Sent M%\" RETURN (SPECIAL-USE SUBSCRIBED CHILDREN \
         STATUS (MESSAGES SIZE UNSEEN) MYRIGHTS METADATA (/private/specialuse))",
    );
    let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        lines,
        [
            &*format!("* LIST ({PARENT} \\Sent) \"/\" \"Sent Mail\" {CHILD}"),
            "* STATUS \"Sent Mail\" (MESSAGES 0 SIZE 0 UNSEEN 0)",
            "* MYRIGHTS \"Sent Mail\" lrswipkxteacd",
            "* METADATA \"Sent Mail\" (/private/specialuse \"\\\\Sent\")",
        ]
    );
}
