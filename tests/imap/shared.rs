//! RFC 4314, RFC 8440 and RFC 2342: mailboxes of one account as those of another.

use super::acl::{BOB, OF_ALICE, grant, hers, untagged};
use super::common::cli::Cli;
use super::common::serve::{AUTH, Serving, configuration};
use super::common::{IMAP, Imap, PASSWORD};
use super::{ALICE, answers, append, server};

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
    let mine = format!("* MYRIGHTS {} rwi", hers("box"));
    answers(&mut b, &format!("MYRIGHTS {}", hers("box")), &[&mine], "OK");
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
