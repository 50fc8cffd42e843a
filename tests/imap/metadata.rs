//! RFC 5464, RFC 9590 and RFC 6154, 4: what clients note about mailboxes and the server is there
//! again, for those whom it concerns, as long as the mailbox is.

use super::common::serve::{AUTH, Serving, configuration};
use super::common::{IMAP, Imap, PASSWORD};
use super::{ALICE, answers, append, server, texts};

const BOB: &str = "bob@posthorn.test";

fn login(server: &Serving, user: &str) -> Imap {
    let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN {user} {PASSWORD}"));
    imap
}

fn serving(home: &std::path::Path, imap: &str, store: &str) -> Serving {
    Serving::start_with(home, |base| {
        configuration(base, "data", AUTH)
            .replace("[http]", &format!("{imap}\n[http]"))
            .replace("[store]", &format!("[store]\n{store}"))
    })
}

/// The examples of 4.2 to 4.4.
#[test]
fn mailboxes_have_annotations() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.send(b"x SETMETADATA INBOX (/private/comment {33}\r\n");
    assert!(a.line().unwrap().text.starts_with('+'));
    a.send(b"My new comment across\r\ntwo lines.)\r\n");
    assert!(a.until("x").1.starts_with("OK"));
    let lines = a.ok("GETMETADATA INBOX /private/comment");
    assert_eq!(lines[0].literals, [b"My new comment across\r\ntwo lines."]);
    let nil = ["* METADATA INBOX (/private/comment NIL)"];
    answers(
        &mut a,
        "SETMETADATA INBOX (/private/comment NIL)",
        &[],
        "OK",
    );
    answers(&mut a, "GETMETADATA INBOX /private/comment", &nil, "OK");
    answers(
        &mut a,
        "SETMETADATA INBOX (/private/comment \"My own comment\" /shared/comment \"Shared comment\")",
        &[],
        "OK",
    );
    let both = ["* METADATA INBOX (/shared/comment \"Shared comment\" \
                 /private/comment \"My own comment\")"];
    for command in [
        "GETMETADATA \"INBOX\" (/shared/comment /private/comment)",
        "GETMETADATA \"INBOX\" /shared/comment /private/comment",
    ] {
        answers(&mut a, command, &both, "OK");
    }
    // Names are the same in any case, and answered as they were asked.
    let upper = ["* METADATA INBOX (/Private/COMMENT \"My own comment\")"];
    answers(&mut a, "GETMETADATA inbox /Private/COMMENT", &upper, "OK");
    let short = ["* METADATA INBOX (/private/comment \"My own comment\")"];
    a.ok(&format!(
        "SETMETADATA INBOX (/shared/comment \"{}\")",
        "x".repeat(2199)
    ));
    for command in [
        "GETMETADATA \"INBOX\" (MAXSIZE 1024) (/shared/comment /private/comment)",
        "GETMETADATA (MAXSIZE 1024) INBOX (/shared/comment /private/comment)",
    ] {
        answers(&mut a, command, &short, "OK [METADATA LONGENTRIES 2199]");
    }
    a.ok(
        "SETMETADATA INBOX (/private/filters/values/small \"SMALLER 5000\" \
         /private/filters/values/boss \"FROM \\\"boss@example.com\\\"\" \
         /private/filters/values/boss/deeper {1+}\r\nx /private/filters/valuesnot y)"
            .replace("not y", "not \"y\"")
            .as_str(),
    );
    let one = ["* METADATA INBOX (/private/filters/values/boss \
                \"FROM \\\"boss@example.com\\\"\" /private/filters/values/small \"SMALLER 5000\")"];
    answers(
        &mut a,
        "GETMETADATA INBOX (DEPTH 1) (/private/filters/values)",
        &one,
        "OK",
    );
    answers(
        &mut a,
        "GETMETADATA (DEPTH 1) INBOX /private/filters/values",
        &one,
        "OK",
    );
    let none = ["* METADATA INBOX (/private/filters/values NIL)"];
    answers(
        &mut a,
        "GETMETADATA INBOX (DEPTH 0) /private/filters/values",
        &none,
        "OK",
    );
    let lines = a.ok("GETMETADATA (DEPTH infinity MAXSIZE 100) INBOX /private");
    let names: Vec<&str> = lines[0]
        .text
        .split(' ')
        .map(|word| word.trim_start_matches('('))
        .filter(|w| w.starts_with('/'))
        .collect();
    assert_eq!(
        names,
        [
            "/private/comment",
            "/private/filters/values/boss",
            "/private/filters/values/boss/deeper",
            "/private/filters/values/small",
            "/private/filters/valuesnot"
        ]
    );
}

#[test]
fn values_are_any_bytes() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.send(b"x SETMETADATA INBOX (/private/a ~{3+}\r\n\0\r\n /private/b {0+}\r\n)\r\n");
    assert!(a.until("x").1.starts_with("OK"));
    let lines = a.ok("GETMETADATA INBOX (/private/a /private/b)");
    assert_eq!(lines[0].literals, [b"\0\r\n"]);
    assert_eq!(
        lines[0].text,
        "* METADATA INBOX (/private/a ~{3} /private/b \"\")"
    );
}

#[test]
fn wrong_names_and_forms_are_bad() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for entry in [
        "comment",
        "/comment",
        "/sharedx/comment",
        "/shared//comment",
        "/shared/comment/",
        "\"/shared/a*b\"",
        "\"/shared/a%b\"",
        "\"/shared/\u{fc}\"",
    ] {
        for command in [
            format!("GETMETADATA INBOX {entry}"),
            format!("SETMETADATA INBOX ({entry} \"x\")"),
        ] {
            let (_, tagged) = a.command(&command);
            assert!(tagged.starts_with("BAD"), "{command}: {tagged}");
            a.ok("NOOP");
        }
    }
    answers(&mut a, "SETMETADATA INBOX (/shared \"x\")", &[], "BAD");
    answers(&mut a, "GETMETADATA INBOX (DEPTH 2) /shared/x", &[], "BAD");
    answers(
        &mut a,
        "GETMETADATA nothing /shared/x",
        &[],
        "NO [NONEXISTENT]",
    );
    answers(
        &mut a,
        "SETMETADATA nothing (/shared/x NIL)",
        &[],
        "NO [NONEXISTENT]",
    );
}

#[test]
fn annotations_go_where_their_mailbox_goes() {
    let (home, server) = server();
    let mut a = server.imap(ALICE);
    for name in ["box", "box/child", "INBOX"] {
        if name != "INBOX" {
            a.ok(&format!("CREATE {name}"));
        }
        a.ok(&format!(
            "SETMETADATA {name} (/private/comment \"{name}\" /shared/x \"y\")"
        ));
    }
    a.ok("RENAME box other");
    let told = ["* METADATA other/child (/private/comment \"box/child\")"];
    answers(
        &mut a,
        "GETMETADATA other/child /private/comment",
        &told,
        "OK",
    );
    // RFC 5464, 4.1: both have them.
    append(&mut a, "INBOX", "");
    a.ok("RENAME INBOX kept");
    for name in ["INBOX", "kept"] {
        let told = [&*format!(
            "* METADATA {name} (/private/comment \"INBOX\" /shared/x \"y\")"
        )];
        let command = format!("GETMETADATA {name} (/private/comment /shared/x)");
        answers(&mut a, &command, &told, "OK");
    }
    a.ok("DELETE other");
    a.ok("CREATE other");
    let nil = ["* METADATA other (/private/comment NIL /shared/x NIL)"];
    answers(
        &mut a,
        "GETMETADATA other (/private/comment /shared/x)",
        &nil,
        "OK",
    );
    server.stop();
    let server = super::Server::start(&home.path().join("data"), &[]);
    let mut a = server.imap(ALICE);
    answers(
        &mut a,
        "GETMETADATA other/child /private/comment",
        &told,
        "OK",
    );
    answers(
        &mut a,
        "GETMETADATA other (/private/comment /shared/x)",
        &nil,
        "OK",
    );
}

#[test]
fn the_server_has_annotations_for_all_and_for_each() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = serving(
        home.path(),
        "administrators = [\"Alice@posthorn.test\"]\nmetadata_admin = \"mailto:p@posthorn.test\"",
        "",
    );
    let (mut a, mut b) = (login(&server, ALICE), login(&server, BOB));
    let admin = "* METADATA \"\" (/shared/admin \"mailto:p@posthorn.test\" /shared/comment NIL \
                 /shared/vendor/deltachat/irohrelay NIL)";
    let ask = "GETMETADATA \"\" (/shared/admin /shared/comment /shared/vendor/deltachat/irohrelay)";
    answers(&mut b, ask, &[admin], "OK");
    let set = "SETMETADATA \"\" (/shared/vendor/deltachat/irohrelay \"https://relay.test\")";
    answers(&mut b, set, &[], "NO [NOPERM]");
    answers(
        &mut b,
        "SETMETADATA \"\" (/private/x NIL /shared/x NIL)",
        &[],
        "NO [NOPERM]",
    );
    answers(
        &mut a,
        "SETMETADATA \"\" (/shared/admin \"x\")",
        &[],
        "NO [NOPERM]",
    );
    answers(&mut a, set, &[], "OK");
    answers(
        &mut a,
        "SETMETADATA \"\" (/shared/comment \"Hello\")",
        &[],
        "OK",
    );
    let all = ["* METADATA \"\" (/shared/admin \"mailto:p@posthorn.test\" \
                /shared/comment \"Hello\" /shared/vendor/deltachat/irohrelay \"https://relay.test\")"];
    answers(
        &mut b,
        "GETMETADATA (DEPTH infinity) \"\" /shared",
        &all,
        "OK",
    );
    answers(&mut a, "SETMETADATA \"\" (/private/x \"mine\")", &[], "OK");
    let mine = ["* METADATA \"\" (/private/x \"mine\")"];
    answers(&mut a, "GETMETADATA \"\" /private/x", &mine, "OK");
    let nil = ["* METADATA \"\" (/private/x NIL)"];
    answers(&mut b, "GETMETADATA \"\" /private/x", &nil, "OK");
    // Not those of an account before it of the same address.
    let address = "alice@posthorn.test";
    server.cli.ok(&["account", "remove", address, "--yes"], "");
    server
        .cli
        .ok(&["account", "add", address, "--password-stdin"], PASSWORD);
    let mut a = login(&server, ALICE);
    answers(&mut a, "GETMETADATA \"\" /private/x", &nil, "OK");
}

/// Delta Chat keeps the token of its push service so.
#[test]
fn delta_chat_keeps_its_device_token() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let (_, tagged) = a.command("CAPABILITY");
    assert!(tagged.starts_with("OK"));
    a.ok("SETMETADATA INBOX (/private/devicetoken \"fcm-chat.delta:abc\")");
    let told = ["* METADATA INBOX (/private/devicetoken \"fcm-chat.delta:abc\")"];
    answers(
        &mut a,
        "GETMETADATA INBOX /private/devicetoken",
        &told,
        "OK",
    );
}

#[test]
fn annotations_are_bounded() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = serving(
        home.path(),
        "",
        "max_annotation_bytes = 1024\nmax_annotations_per_mailbox = 10\n\
         max_annotations_per_account = 12",
    );
    let mut a = login(&server, ALICE);
    let set = |count: usize, value: &str| {
        let all: Vec<String> = (0..count)
            .map(|n| format!("/private/x{n} {value}"))
            .collect();
        format!("SETMETADATA INBOX ({})", all.join(" "))
    };
    let long = format!("\"{}\"", "x".repeat(1025));
    answers(&mut a, &set(1, &long), &[], "NO [METADATA MAXSIZE 1024]");
    answers(&mut a, &set(11, "\"1\""), &[], "NO [METADATA TOOMANY]");
    let nil = ["* METADATA INBOX (/private/x0 NIL)"];
    answers(&mut a, "GETMETADATA INBOX /private/x0", &nil, "OK");
    answers(&mut a, &set(10, &long.replacen('x', "", 1)), &[], "OK");
    answers(&mut a, &set(10, "\"2\""), &[], "OK");
    answers(
        &mut a,
        "SETMETADATA INBOX (/private/x0 NIL /private/y \"3\")",
        &[],
        "OK",
    );
    answers(
        &mut a,
        "SETMETADATA INBOX (/private/x1 \"4\" /private/z \"3\")",
        &[],
        "NO [METADATA TOOMANY]",
    );
    let old = ["* METADATA INBOX (/private/x1 \"2\")"];
    answers(&mut a, "GETMETADATA INBOX /private/x1", &old, "OK");
    // All mailboxes of an account together.
    answers(
        &mut a,
        "SETMETADATA Sent (/private/a \"1\" /private/b \"2\")",
        &[],
        "OK",
    );
    answers(
        &mut a,
        "SETMETADATA Trash (/private/a \"1\")",
        &[],
        "NO [METADATA TOOMANY]",
    );
    answers(
        &mut a,
        "SETMETADATA \"\" (/private/a \"1\")",
        &[],
        "NO [METADATA TOOMANY]",
    );
    a.ok("DELETE Sent");
    answers(&mut a, "SETMETADATA Trash (/private/a \"1\")", &[], "OK");
    let mut b = login(&server, BOB);
    answers(&mut b, "SETMETADATA Trash (/private/a \"1\")", &[], "OK");
    let many: Vec<String> = (0..65).map(|n| format!("/private/x{n}")).collect();
    let many = many.join(" ");
    answers(
        &mut b,
        &format!("GETMETADATA INBOX ({many})"),
        &[],
        "NO [LIMIT]",
    );
    answers(
        &mut b,
        &format!("LIST \"\" * RETURN (METADATA ({many}))"),
        &[],
        "NO [LIMIT]",
    );
}

/// The example of RFC 9590, 3.
#[test]
fn list_returns_annotations() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for name in ["foo", "bar/child"] {
        a.ok(&format!("CREATE {name}"));
    }
    a.ok("DELETE bar");
    let color = "/shared/vendor/cmu/cyrus-imapd/color";
    a.ok(&format!("SETMETADATA INBOX ({color} \"#b71c1c\")"));
    answers(
        &mut a,
        &format!("LIST \"\" (INBOX foo bar) RETURN (METADATA ({color}) STATUS (MESSAGES))"),
        &[
            "* LIST (\\HasNoChildren) \"/\" INBOX",
            "* STATUS INBOX (MESSAGES 0)",
            &format!("* METADATA INBOX ({color} \"#b71c1c\")"),
            "* LIST (\\NonExistent \\HasChildren) \"/\" bar",
            "* LIST (\\HasNoChildren) \"/\" foo",
            "* STATUS foo (MESSAGES 0)",
            &format!("* METADATA foo ({color} NIL)"),
        ],
        "OK",
    );
}

/// The example of RFC 6154, 5.4, and what 4 wants to be checked.
#[test]
fn a_special_use_is_an_annotation() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE SavedDrafts");
    let of = |name: &str, value: &str| format!("* METADATA {name} (/private/specialuse {value})");
    let get = |name: &str| format!("GETMETADATA {name} /private/specialuse");
    let set = |name: &str, value: &str| format!("SETMETADATA {name} (/private/specialuse {value})");
    answers(
        &mut a,
        &get("Drafts"),
        &[&of("Drafts", "\"\\\\Drafts\"")],
        "OK",
    );
    answers(
        &mut a,
        &get("SavedDrafts"),
        &[&of("SavedDrafts", "NIL")],
        "OK",
    );
    let drafts = "\"\\\\Drafts\"";
    answers(&mut a, &set("SavedDrafts", drafts), &[], "NO [USEATTR]");
    answers(
        &mut a,
        &set("SavedDrafts", "\"\\\\All\""),
        &[],
        "NO [USEATTR]",
    );
    answers(
        &mut a,
        &set("SavedDrafts", "\"nonsense\""),
        &[],
        "NO [USEATTR]",
    );
    answers(&mut a, &set("Drafts", "NIL"), &[], "OK");
    answers(&mut a, &set("SavedDrafts", drafts), &[], "OK");
    let lines = a.ok("LIST (SPECIAL-USE) \"\" *rafts");
    assert_eq!(
        texts(&lines),
        ["* LIST (\\HasNoChildren \\Drafts) \"/\" SavedDrafts"]
    );
    answers(
        &mut a,
        &get("SavedDrafts"),
        &[&of("SavedDrafts", drafts)],
        "OK",
    );
}
