//! NOTIFY over mailboxes of others (RFC 5465, 3.1, 5.4 and 5.9; RFC 4314).

use super::acl::BOB;
use super::common::Imap;
use super::{ALICE, append, server, texts};

const OF_ALICE: &str = "Other Users/alice@posthorn.test";
const MESSAGES: &str = "MessageNew MessageExpunge";

fn grant(alice: &mut Imap, mailbox: &str, rights: &str) {
    alice.ok(&format!("SETACL {mailbox} {BOB} \"{rights}\""));
}

/// The next line, with no numbers that differ from run to run.
fn next(imap: &mut Imap) -> String {
    plain(&imap.line().expect("a line").text)
}

fn plain(line: &str) -> String {
    match line.split_once(" UIDVALIDITY ") {
        Some((head, tail)) => {
            let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{head}{rest}")
        }
        None => line.to_owned(),
    }
}

fn told(imap: &mut Imap, command: &str) -> Vec<String> {
    let lines = imap.ok(command);
    texts(&lines).into_iter().map(plain).collect()
}

/// Nothing waits to be told but the answer to this.
fn quiet(imap: &mut Imap) {
    assert_eq!(told(imap, "NOOP"), [""; 0]);
}

/// Told of messages in this mailbox of alice.
fn status(name: &str, messages: u32) -> String {
    let next = messages + 1;
    format!("* STATUS \"{OF_ALICE}/{name}\" (MESSAGES {messages} UIDNEXT {next})")
}

#[test]
fn mailboxes_of_others_are_watched_where_they_are_named() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap(BOB));
    for name in ["box", "box/in", "hidden", "closed"] {
        alice.ok(&format!("CREATE {name}"));
        append(&mut alice, name, "");
    }
    grant(&mut alice, "box", "lr");
    grant(&mut alice, "box/in", "lr");
    grant(&mut alice, "closed", "l");
    // What can't be seen is ignored; what can't be read is told to be so.
    let set = format!(
        "NOTIFY SET STATUS (mailboxes (\"{OF_ALICE}/box\" \"{OF_ALICE}/hidden\" \
         \"{OF_ALICE}/closed\" \"{OF_ALICE}/none\") ({MESSAGES}))"
    );
    assert_eq!(
        told(&mut bob, &set),
        [
            format!("* LIST (\\HasNoChildren \\NoAccess) \"/\" \"{OF_ALICE}/closed\""),
            status("box", 1)
        ]
    );
    for name in ["hidden", "closed", "box/in", "box"] {
        append(&mut alice, name, "");
    }
    assert_eq!(next(&mut bob), status("box", 2));
    quiet(&mut bob);
    // Whoever it is written to, it is one account.
    let subtree = "Other Users/Alice@Posthorn.test/box";
    let set = format!("NOTIFY SET STATUS (subtree \"{subtree}\" ({MESSAGES}))");
    let both = [status("box", 2), status("box/in", 2)];
    assert_eq!(told(&mut bob, &set), both);
    append(&mut alice, "box/in", "");
    assert_eq!(next(&mut bob), status("box/in", 3));
    let set = format!("NOTIFY SET STATUS (subtree \"Other Users\" ({MESSAGES}))");
    assert_eq!(told(&mut bob, &set).len(), 3);
    // Their owner's own are no others'.
    assert!(told(&mut alice, &set).is_empty());
    // PERSONAL and INBOXES are one's own (6.2, 6.3), SUBSCRIBED is what is subscribed to (6.4).
    bob.ok(&format!("SUBSCRIBE \"{OF_ALICE}/box/in\""));
    for (filter, watched) in [
        ("personal", false),
        ("inboxes", false),
        ("subscribed", true),
    ] {
        let lines = told(
            &mut bob,
            &format!("NOTIFY SET STATUS ({filter} ({MESSAGES}))"),
        );
        let named = lines.iter().any(|line| line.contains("Other Users"));
        assert_eq!(named, watched, "{filter}: {lines:?}");
    }
    append(&mut alice, "box", "");
    append(&mut alice, "box/in", "");
    assert_eq!(next(&mut bob), status("box/in", 4));
    quiet(&mut bob);
    // The list of subscriptions is looked at again when it changes.
    let mut other = server.imap(BOB);
    other.ok(&format!("UNSUBSCRIBE \"{OF_ALICE}/box/in\""));
    other.ok(&format!("SUBSCRIBE \"{OF_ALICE}/box\""));
    quiet(&mut bob);
    append(&mut alice, "box/in", "");
    append(&mut alice, "box", "");
    assert_eq!(next(&mut bob), status("box", 4));
    quiet(&mut bob);
}

#[test]
fn rights_that_are_lost_and_given_again() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap(BOB));
    alice.ok("CREATE box");
    append(&mut alice, "box", "");
    grant(&mut alice, "box", "lr");
    let name = format!("\"{OF_ALICE}/box\"");
    let set = format!("NOTIFY SET (mailboxes {name} ({MESSAGES} FlagChange))");
    assert!(told(&mut bob, &set).is_empty());
    // Not `r`, so nothing of its messages.
    grant(&mut alice, "box", "l");
    let closed = format!("* LIST (\\HasNoChildren \\NoAccess) \"/\" {name}");
    assert_eq!(next(&mut bob), closed);
    append(&mut alice, "box", "");
    quiet(&mut bob);
    grant(&mut alice, "box", "lr");
    let open = format!("* LIST (\\HasNoChildren) \"/\" {name}");
    assert_eq!(next(&mut bob), open);
    assert_eq!(
        next(&mut bob),
        format!("* STATUS {name} (MESSAGES 2 UIDNEXT 3 UNSEEN 2)")
    );
    // Not `l`, and it is as if it were gone.
    alice.ok(&format!("DELETEACL box {BOB}"));
    let gone = format!("* LIST (\\NonExistent \\NoAccess) \"/\" {name}");
    assert_eq!(next(&mut bob), gone);
    append(&mut alice, "box", "");
    alice.ok("SELECT box");
    alice.ok("STORE 1 +FLAGS (\\Seen)");
    quiet(&mut bob);
    // `anyone` includes bob; and what is there then is told as if it were new.
    alice.ok("SETACL box anyone lr");
    assert_eq!(next(&mut bob), open);
    assert_eq!(
        next(&mut bob),
        format!("* STATUS {name} (MESSAGES 3 UIDNEXT 4 UNSEEN 2)")
    );
    alice.ok(&format!("SETACL box -{BOB} r"));
    assert_eq!(next(&mut bob), closed);
    append(&mut alice, "box", "");
    quiet(&mut bob);
}

#[test]
fn names_of_others_mailboxes() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap(BOB));
    let set = format!("NOTIFY SET (subtree \"{OF_ALICE}\" (MailboxName SubscriptionChange))");
    assert!(told(&mut bob, &set).is_empty());
    let is = |name: &str, attributes: &str| {
        let name = format!("{OF_ALICE}/{name}");
        format!(
            "* LIST ({attributes}) \"/\" \"{}\"",
            name.trim_end_matches('/')
        )
    };
    // To be given `l` is as if it were made, with its direct parent (5.4).
    alice.ok("CREATE box");
    quiet(&mut bob);
    grant(&mut alice, "box", "lrk");
    assert_eq!(next(&mut bob), is("", "\\NonExistent"));
    assert_eq!(next(&mut bob), is("box", "\\HasNoChildren"));
    // It has its parent's rights.
    alice.ok("CREATE box/in");
    assert_eq!(next(&mut bob), is("box", "\\HasChildren"));
    assert_eq!(next(&mut bob), is("box/in", "\\HasNoChildren"));
    alice.ok("RENAME box/in box/out");
    let renamed = is("box/out", "\\HasNoChildren");
    assert_eq!(
        next(&mut bob),
        format!("{renamed} (\"OLDNAME\" (\"{OF_ALICE}/box/in\"))")
    );
    // What this session does itself it knows (5).
    bob.ok(&format!("CREATE \"{OF_ALICE}/box/mine\""));
    bob.ok(&format!("SUBSCRIBE \"{OF_ALICE}/box\""));
    quiet(&mut bob);
    let mut other = server.imap(BOB);
    other.ok(&format!("UNSUBSCRIBE \"{OF_ALICE}/box\""));
    assert_eq!(next(&mut bob), is("box", "\\HasChildren"));
    alice.ok("DELETE box/mine");
    assert_eq!(next(&mut bob), is("box", "\\HasChildren"));
    assert_eq!(next(&mut bob), is("box/mine", "\\NonExistent"));
    grant(&mut alice, "box/out", "");
    assert_eq!(next(&mut bob), is("box", "\\HasNoChildren"));
    assert_eq!(next(&mut bob), is("box/out", "\\NonExistent \\NoAccess"));
    quiet(&mut bob);
}

#[test]
fn annotations_of_others_are_told_as_far_as_they_are_shared() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap(BOB));
    for name in ["box", "hidden"] {
        alice.ok(&format!("CREATE {name}"));
    }
    grant(&mut alice, "box", "lrw");
    let name = format!("\"{OF_ALICE}/box\"");
    bob.ok(
        "NOTIFY SET (subtree \"Other Users\" (MailboxMetadataChange)) \
         (personal (ServerMetadataChange))",
    );
    alice.ok("SETMETADATA box (/private/comment \"secret\")");
    alice.ok("SETMETADATA hidden (/shared/comment \"secret\")");
    alice.ok("SETMETADATA \"\" (/private/comment \"secret\")");
    alice.ok("SETMETADATA box (/shared/comment \"for all\")");
    assert_eq!(next(&mut bob), format!("* METADATA {name} /shared/comment"));
    bob.ok(&format!("SETMETADATA {name} (/shared/comment \"changed\")"));
    quiet(&mut bob);
    grant(&mut alice, "box", "l");
    assert!(next(&mut bob).contains("\\NoAccess"));
    alice.ok("SETMETADATA box (/shared/comment \"not for bob\")");
    quiet(&mut bob);
}

#[test]
fn an_owner_that_goes_takes_its_mailboxes_along() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap(BOB));
    alice.ok("CREATE box");
    grant(&mut alice, "box", "lr");
    let events = format!("MailboxName {MESSAGES}");
    let set = format!("NOTIFY SET (selected ({MESSAGES})) (subtree \"{OF_ALICE}\" ({events}))");
    assert!(told(&mut bob, &set).is_empty());
    // As one that was selected, it is among others again afterwards.
    bob.ok(&format!("SELECT \"{OF_ALICE}/box\""));
    append(&mut alice, "box", "");
    assert_eq!(next(&mut bob), "* 1 EXISTS");
    assert_eq!(next(&mut bob), "* 1 RECENT");
    bob.ok("UNSELECT");
    append(&mut alice, "box", "");
    assert_eq!(next(&mut bob), status("box", 2));
    alice.ok("DELETE box");
    let gone = format!("* LIST (\\NonExistent) \"/\" \"{OF_ALICE}");
    assert_eq!(next(&mut bob), format!("{gone}\""));
    assert_eq!(next(&mut bob), format!("{gone}/box\""));
    quiet(&mut bob);
}
