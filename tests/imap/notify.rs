//! NOTIFY (RFC 5465): one connection that hears of many mailboxes, whether a command is under way
//! or not.

use std::io::Read as _;
use std::time::{Duration, Instant};

use super::common::serve::{AUTH, Serving, configuration};
use super::common::{HTTP, IMAP, Imap, PASSWORD, PATIENCE, http_get};
use super::{ALICE, append, refused, server, texts};

const BOTH: &str = "MessageNew MessageExpunge";

/// The next line, whether a command is under way or not.
fn next(imap: &mut Imap) -> String {
    imap.line().expect("a line").text
}

/// A server with these keys in `[imap]`.
fn with_limits(limits: &str) -> (tempfile::TempDir, Serving) {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start_with(home.path(), |base| {
        let text = configuration(base, "data", AUTH);
        text.replacen("[http]", &format!("{limits}\n[http]"), 1)
    });
    (home, server)
}

fn login(server: &Serving) -> Imap {
    let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN {ALICE} {PASSWORD}"));
    imap
}

fn append_text(imap: &mut Imap, mailbox: &str, text: &str) {
    let command = format!("x APPEND {mailbox} {{{}+}}\r\n{text}\r\n", text.len());
    imap.send(command.as_bytes());
    assert!(imap.until("x").1.starts_with("OK"));
}

/// Numbers that differ from run to run.
fn plain(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 1..words.len() {
        if words[at - 1].ends_with("UIDVALIDITY") {
            words[at] = if words[at].ends_with(')') { "v)" } else { "v" };
        }
    }
    words.join(" ")
}

#[test]
fn the_example_of_rfc_5465_3_1() {
    let (_home, server) = server();
    let mut bob = server.imap(ALICE);
    for name in ["Lists/Lemonade", "Lists/Im2000", "misc"] {
        bob.ok(&format!("CREATE {name}"));
    }
    append(&mut bob, "Lists/Lemonade", "");
    let mut imap = server.imap(ALICE);
    let capability = imap.ok("CAPABILITY");
    assert!(capability[0].text.contains(" NOTIFY"), "{capability:?}");
    let told = imap.ok(
        "notify set status (selected (MessageNew (uid body.peek[header.fields (from to \
         subject)]) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))",
    );
    let told: Vec<String> = texts(&told).into_iter().map(plain).collect();
    assert_eq!(
        told,
        [
            "* STATUS Lists (MESSAGES 0 UIDNEXT 1 UIDVALIDITY v)",
            "* STATUS Lists/Im2000 (MESSAGES 0 UIDNEXT 1 UIDVALIDITY v)",
            "* STATUS Lists/Lemonade (MESSAGES 1 UIDNEXT 2 UIDVALIDITY v)",
        ]
    );
    imap.ok("SELECT INBOX");
    append(&mut bob, "Lists/Lemonade", "");
    assert_eq!(
        plain(&next(&mut imap)),
        "* STATUS Lists/Lemonade (MESSAGES 2 UIDNEXT 3 UIDVALIDITY v)"
    );
    let text =
        "Subject: Re: good morning\r\nFrom: alice@example.org\r\nTo: bob@example.org\r\n\r\nx";
    append_text(&mut bob, "INBOX", text);
    assert_eq!(next(&mut imap), "* 1 EXISTS");
    assert_eq!(next(&mut imap), "* 1 RECENT");
    let line = imap.line().expect("a line");
    assert!(
        line.text
            .starts_with("* 1 FETCH (UID 1 BODY[HEADER.FIELDS ("),
        "{line:?}"
    );
    let header = String::from_utf8_lossy(&line.literals[0]);
    assert!(header.contains("Subject: Re: good morning"), "{header}");
    // One mailbox more, without STATUS.
    append(&mut bob, "misc", "");
    assert!(
        imap.ok(
            "notify set (selected (MessageNew (uid) MessageExpunge)) (subtree Lists \
                 (MessageNew MessageExpunge)) (mailboxes misc (MessageNew MessageExpunge))"
        )
        .is_empty()
    );
    append(&mut bob, "misc", "");
    assert!(next(&mut imap).starts_with("* STATUS misc (MESSAGES 2 UIDNEXT 3 "));
}

#[test]
fn flags_and_expunges_of_other_mailboxes() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    for _ in 0..3 {
        append(&mut b, "Archive", "");
    }
    a.ok(&format!("NOTIFY SET (personal ({BOTH} FlagChange))"));
    b.ok("SELECT Archive");
    b.ok("STORE 1 +FLAGS (\\Seen)");
    let flags = plain(&next(&mut a));
    assert!(
        flags.starts_with("* STATUS Archive (UIDVALIDITY v UNSEEN 2"),
        "{flags}"
    );
    b.ok("STORE 2 +FLAGS.SILENT (\\Deleted)");
    b.ok("EXPUNGE");
    let mut expunged = plain(&next(&mut a));
    if !expunged.contains("MESSAGES") {
        // \Deleted itself, where modseqs are told.
        expunged = plain(&next(&mut a));
    }
    assert!(
        expunged.starts_with("* STATUS Archive (MESSAGES 2 UIDNEXT 4 UIDVALIDITY v UNSEEN 1"),
        "{expunged}"
    );
    // Without FlagChange nothing is told of flags.
    a.ok(&format!("NOTIFY SET (personal ({BOTH}))"));
    b.ok("STORE 1:* +FLAGS (\\Seen)");
    append(&mut b, "Archive", "");
    assert_eq!(
        plain(&next(&mut a)),
        "* STATUS Archive (MESSAGES 3 UIDNEXT 5 UIDVALIDITY v)"
    );
}

/// RFC 5465, 3.1 and 5.1 to 5.3
#[test]
fn mod_sequences_where_they_are_used() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    for _ in 0..2 {
        append(&mut b, "Archive", "");
    }
    b.ok("SELECT Archive");
    // Whoever watches flags is told where they stand, even who has not asked for mod-sequences.
    let told = a.ok(&format!(
        "NOTIFY SET STATUS (mailboxes Archive ({BOTH} FlagChange))"
    ));
    let begin = "* STATUS Archive (HIGHESTMODSEQ ";
    assert!(texts(&told)[0].starts_with(begin), "{told:?}");
    a.ok("ENABLE QRESYNC");
    // A change that moves no count.
    b.ok("STORE 1 +FLAGS (\\Flagged)");
    let line = next(&mut a);
    assert!(
        line.starts_with(begin) && !line.contains("MESSAGES"),
        "{line}"
    );
    append(&mut b, "Archive", "");
    let line = next(&mut a);
    assert!(
        line.starts_with(begin) && line.contains(" MESSAGES 3 UIDNEXT 4 "),
        "{line}"
    );
    // Delayed, the mod-sequence up to which all was told stays before the expunge.
    let selected = a.ok("SELECT Archive (CONDSTORE)");
    let modseq = |line: &str| -> u64 {
        let (_, rest) = line.split_once("HIGHESTMODSEQ ").expect("HIGHESTMODSEQ");
        rest.split([']', ' ', ')'])
            .next()
            .expect("a word")
            .parse()
            .expect("a number")
    };
    let line = texts(&selected)
        .into_iter()
        .find(|l| l.contains("HIGHESTMODSEQ"));
    let before = modseq(line.expect("HIGHESTMODSEQ"));
    a.ok(&format!(
        "NOTIFY SET (selected-delayed ({BOTH} FlagChange))"
    ));
    b.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert!(next(&mut a).starts_with("* 1 FETCH (UID 1 MODSEQ ("));
    b.ok("EXPUNGE");
    append(&mut b, "Archive", "");
    let mut lines = vec![next(&mut a)];
    while !lines.iter().any(|l| l.ends_with(" EXISTS")) {
        lines.push(next(&mut a));
    }
    // By number: the expunge still waits.
    lines.extend(a.ok("FETCH 2 UID").into_iter().map(|l| l.text));
    assert!(!lines.iter().any(|l| l.contains("VANISHED")), "{lines:?}");
    let waits = lines.iter().filter(|l| l.contains("HIGHESTMODSEQ"));
    for line in waits {
        assert!(modseq(line) <= before + 1, "{before} {lines:?}");
    }
    let (told, tagged) = a.command("NOOP");
    assert!(texts(&told).contains(&"* VANISHED 1"), "{told:?}");
    assert!(modseq(&tagged) > before + 1, "{tagged}");
    // At once, as one.
    a.ok(&format!("NOTIFY SET (selected ({BOTH} FlagChange))"));
    b.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)");
    b.ok("EXPUNGE");
    let mut line = next(&mut a);
    while !line.starts_with("* VANISHED") {
        line = next(&mut a);
    }
    assert_eq!(line, "* VANISHED 2:3");
}

#[test]
fn names_and_subscriptions() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    a.ok("NOTIFY SET (personal (MailboxName SubscriptionChange))");
    b.ok("CREATE NewMailbox");
    assert_eq!(next(&mut a), "* LIST (\\HasNoChildren) \"/\" NewMailbox");
    b.ok("SUBSCRIBE NewMailbox");
    assert_eq!(
        next(&mut a),
        "* LIST (\\HasNoChildren \\Subscribed) \"/\" NewMailbox"
    );
    // RFC 5465, 5.4: its direct parent is affected too.
    b.ok("CREATE NewMailbox/child");
    assert_eq!(
        next(&mut a),
        "* LIST (\\HasChildren \\Subscribed) \"/\" NewMailbox"
    );
    assert_eq!(
        next(&mut a),
        "* LIST (\\HasNoChildren) \"/\" NewMailbox/child"
    );
    b.ok("UNSUBSCRIBE NewMailbox");
    assert_eq!(next(&mut a), "* LIST (\\HasChildren) \"/\" NewMailbox");
    b.ok("RENAME NewMailbox Other");
    assert_eq!(
        next(&mut a),
        "* LIST (\\HasChildren) \"/\" Other (\"OLDNAME\" (NewMailbox))"
    );
    b.ok("DELETE Other/child");
    assert_eq!(next(&mut a), "* LIST (\\HasNoChildren) \"/\" Other");
    assert_eq!(next(&mut a), "* LIST (\\NonExistent) \"/\" Other/child");
    // A mailbox that is made is watched from then on.
    a.ok(&format!("NOTIFY SET (subtree Box ({BOTH} MailboxName))"));
    b.ok("CREATE Elsewhere");
    b.ok("CREATE Box/deep");
    append(&mut b, "Box/deep", "");
    assert_eq!(next(&mut a), "* LIST (\\HasChildren) \"/\" Box");
    assert_eq!(next(&mut a), "* LIST (\\HasNoChildren) \"/\" Box/deep");
    assert_eq!(
        plain(&next(&mut a)),
        "* STATUS Box/deep (MESSAGES 1 UIDNEXT 2 UIDVALIDITY v)"
    );
    // RFC 5465, 6.4: with the subscriptions the set changes.
    a.ok(&format!("NOTIFY SET (subscribed ({BOTH}))"));
    append(&mut b, "Elsewhere", "");
    b.ok("SUBSCRIBE Elsewhere");
    append(&mut b, "Elsewhere", "");
    assert_eq!(
        plain(&next(&mut a)),
        "* STATUS Elsewhere (MESSAGES 2 UIDNEXT 3 UIDVALIDITY v)"
    );
}

/// RFC 5465, 5.4, and RFC 9051, 6.3.6: it is renamed, and a new one is there; of that nothing is
/// told.
#[test]
fn what_inbox_is_renamed_to_has_its_old_name() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    append(&mut b, "INBOX", "");
    a.ok("NOTIFY SET (personal (MailboxName))");
    for name in ["old", "old/older"] {
        b.ok(&format!("RENAME INBOX {name}"));
        if name == "old/older" {
            assert_eq!(next(&mut a), "* LIST (\\HasChildren) \"/\" old");
        }
        assert_eq!(
            next(&mut a),
            format!("* LIST (\\HasNoChildren) \"/\" {name} (\"OLDNAME\" (INBOX))")
        );
        assert!(a.ok("NOOP").is_empty(), "nothing of INBOX");
    }
    b.ok("CREATE other");
    assert_eq!(next(&mut a), "* LIST (\\HasNoChildren) \"/\" other");
    // With messages too: they went from one to the other.
    a.ok(&format!("NOTIFY SET (personal ({BOTH} MailboxName))"));
    append(&mut b, "INBOX", "");
    assert!(next(&mut a).starts_with("* STATUS INBOX (MESSAGES 1 "));
    b.ok("RENAME INBOX last");
    let mut told: Vec<String> = (0..3).map(|_| plain(&next(&mut a))).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "* LIST (\\HasNoChildren) \"/\" last (\"OLDNAME\" (INBOX))",
            "* STATUS INBOX (MESSAGES 0 UIDNEXT 3 UIDVALIDITY v)",
            "* STATUS last (MESSAGES 1 UIDNEXT 2 UIDVALIDITY v)",
        ]
    );
    // Its own is not told to it.
    assert!(a.ok("RENAME INBOX mine").is_empty());
    // Where INBOX alone is watched, there is nothing to tell.
    a.ok("NOTIFY SET (mailboxes INBOX (MailboxName))");
    b.ok("RENAME INBOX elsewhere");
    assert!(a.ok("NOOP").is_empty());
}

#[test]
fn what_a_session_does_itself_is_not_told_to_it() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    a.ok(&format!(
        "NOTIFY SET (selected ({BOTH} FlagChange)) (personal ({BOTH} FlagChange MailboxName \
         SubscriptionChange))"
    ));
    for command in [
        "CREATE own/box",
        "SUBSCRIBE own/box",
        "RENAME own/box own/other",
        "UNSUBSCRIBE own/box",
    ] {
        assert_eq!(texts(&a.ok(command)), [""; 0], "{command}");
    }
    append(&mut a, "Archive", "");
    append(&mut a, "Sent", "");
    a.ok("SELECT Archive");
    assert_eq!(texts(&a.ok("COPY 1 Drafts")), [""; 0]);
    let moved = a.ok("MOVE 1 Junk");
    assert_eq!(moved.len(), 2, "{moved:?}");
    assert_eq!(texts(&a.ok("UNSELECT")), [""; 0]);
    assert_eq!(texts(&a.ok("DELETE own/other")), [""; 0]);
    // The next that it hears of is another's.
    append(&mut b, "Drafts", "");
    assert!(next(&mut a).starts_with("* STATUS Drafts (MESSAGES 2 UIDNEXT 3 "));
    // Both at once: the other's must not be lost.
    for n in 0..30 {
        b.send(b"y APPEND Trash {14+}\r\nSubject: s\r\n\r\n\r\n");
        append(&mut a, "Trash", "");
        b.until("y");
        let want = format!("* STATUS Trash (MESSAGES {} ", 2 * n + 2);
        let mut last = String::new();
        a.send(b"n NOOP\r\n");
        for line in a.until("n").0 {
            last = line.text;
        }
        if last.is_empty() {
            // Told already, within the APPEND's answer.
            let status = a.ok("STATUS Trash (MESSAGES)");
            last = status[0].text.replace(')', " ");
        }
        assert!(last.starts_with(&want), "{n}: {last}");
    }
}

#[test]
fn the_selected_mailbox_at_once_or_delayed() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    for _ in 0..4 {
        append(&mut b, "Archive", "");
    }
    b.ok("SELECT Archive");
    a.ok("SELECT Archive");
    a.ok(&format!("NOTIFY SET (selected ({BOTH}))"));
    b.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    b.ok("EXPUNGE");
    assert_eq!(next(&mut a), "* 1 EXPUNGE");
    a.ok(&format!(
        "NOTIFY SET (selected-delayed ({BOTH} FlagChange))"
    ));
    b.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(next(&mut a), "* 1 FETCH (UID 2 FLAGS (\\Deleted))");
    b.ok("EXPUNGE");
    append(&mut b, "Archive", "");
    // What is new comes at once, with the number that it has while the expunge waits.
    assert_eq!(next(&mut a), "* 4 EXISTS");
    // Whoever hears of it first has it as \Recent.
    assert!(next(&mut a).ends_with(" RECENT"));
    b.ok("NOOP");
    b.ok("STORE 3 +FLAGS (\\Flagged)");
    assert!(next(&mut a).starts_with("* 4 FETCH (UID 5 FLAGS (\\Flagged"));
    assert_eq!(
        texts(&a.ok("FETCH 2:4 UID")),
        [
            "* 2 FETCH (UID 3)",
            "* 3 FETCH (UID 4)",
            "* 4 FETCH (UID 5)"
        ]
    );
    assert_eq!(texts(&a.ok("NOOP")), ["* 1 EXPUNGE"]);
    assert_eq!(texts(&a.ok("FETCH 3 UID")), ["* 3 FETCH (UID 5)"]);
    // IDLE allows it, so there it comes at once (RFC 5465, 6.1.2).
    a.send(b"i IDLE\r\n");
    assert_eq!(next(&mut a), "+ idling");
    b.ok("STORE 1 +FLAGS (\\Deleted)");
    assert!(next(&mut a).starts_with("* 1 FETCH (UID 3 "));
    b.ok("EXPUNGE");
    assert_eq!(next(&mut a), "* 1 EXPUNGE");
    a.send(b"DONE\r\n");
    assert_eq!(next(&mut a), "i OK IDLE terminated");
}

#[test]
fn nothing_that_is_not_wanted() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    for _ in 0..2 {
        append(&mut b, "Archive", "");
    }
    b.ok("SELECT Archive");
    a.ok("SELECT Archive");
    append(&mut b, "Archive", "");
    // RFC 5465, 3.1: what was gathered is told, whatever will be wanted.
    let told = a.ok(&format!("NOTIFY SET (mailboxes misc ({BOTH}))"));
    assert_eq!(texts(&told), ["* 3 EXISTS", "* 0 RECENT"]);
    // Without SELECTED nothing is told of it: the client has a snapshot.
    b.ok("STORE 1 +FLAGS (\\Flagged \\Deleted)");
    b.ok("EXPUNGE");
    append(&mut b, "Archive", "");
    for command in ["NOOP", "IDLE\r\nDONE"] {
        let lines = a.ok(command);
        assert!(lines.iter().all(|l| l.text == "+ idling"), "{lines:?}");
    }
    // Its own command tells numbers, so it tells all of them.
    a.ok("STORE 2 +FLAGS.SILENT (\\Deleted)");
    let lines = a.ok("EXPUNGE");
    assert_eq!(
        texts(&lines),
        ["* 2 EXPUNGE", "* 1 EXPUNGE", "* 2 EXISTS", "* 0 RECENT"]
    );
    // When it leaves the mailbox, what it did not hear of is a change like any other.
    a.ok(&format!("NOTIFY SET (personal ({BOTH}))"));
    append(&mut b, "Archive", "");
    let lines = a.ok("UNSELECT");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0]
            .text
            .starts_with("* STATUS Archive (MESSAGES 3 UIDNEXT 6 ")
    );
    // After NONE nothing at all.
    a.ok("NOTIFY NONE");
    append(&mut b, "Archive", "");
    assert!(a.ok("NOOP").is_empty());
    // Messages, but not flags.
    a.ok("SELECT Archive");
    a.ok(&format!("NOTIFY SET (selected ({BOTH}))"));
    b.ok("STORE 1:* +FLAGS (\\Seen)");
    assert!(a.ok("NOOP").is_empty());
    assert!(a.ok("STORE 1 +FLAGS.SILENT (\\Answered)").is_empty());
}

/// RFC 5465, 5.6 and 5.7
#[test]
fn annotations() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    a.ok("NOTIFY SET (mailboxes (INBOX Sent) (MailboxMetadataChange)) (personal (ServerMetadataChange))");
    b.ok("SETMETADATA INBOX (/private/comment \"x\" /shared/comment \"y\")");
    assert_eq!(
        next(&mut a),
        "* METADATA INBOX /private/comment /shared/comment"
    );
    // One that is removed is told too; another mailbox is not.
    b.ok("SETMETADATA Archive (/shared/comment \"y\")");
    b.ok("SETMETADATA INBOX (/shared/comment NIL)");
    assert_eq!(next(&mut a), "* METADATA INBOX /shared/comment");
    b.ok("SETMETADATA \"\" (/private/comment \"mine\")");
    assert_eq!(next(&mut a), "* METADATA \"\" /private/comment");
    b.ok("SETMETADATA Sent (/private/specialuse NIL)");
    assert_eq!(next(&mut a), "* METADATA Sent /private/specialuse");
    // Its own are not told to it.
    assert!(
        a.ok("SETMETADATA INBOX (/private/comment \"z\")")
            .is_empty()
    );
    b.ok("SETMETADATA INBOX (/private/comment \"w\")");
    assert_eq!(next(&mut a), "* METADATA INBOX /private/comment");
}

#[test]
fn what_is_refused() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let events = "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange \
                  MailboxMetadataChange ServerMetadataChange";
    for event in ["AnnotationChange", "Nonsense"] {
        let (_, tagged) = a.command(&format!("NOTIFY SET (personal ({BOTH} {event}))"));
        let list = tagged
            .strip_prefix("NO [BADEVENT (")
            .and_then(|t| t.split_once(")]"));
        assert!(
            list.is_some_and(|(list, _)| list.starts_with(events)),
            "{tagged}"
        );
    }
    for bad in [
        "NOTIFY",
        "NOTIFY SET",
        "NOTIFY MAYBE",
        "NOTIFY SET STATUS",
        "NOTIFY SET (personal)",
        "NOTIFY SET (personal ())",
        "NOTIFY SET (everywhere NONE)",
        "NOTIFY SET (subtree () NONE)",
        "NOTIFY SET (personal (MessageNew))",
        "NOTIFY SET (personal (FlagChange))",
        "NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
        "NOTIFY SET (selected (MailboxName))",
        "NOTIFY SET (selected NONE) (selected-delayed NONE)",
    ] {
        let (_, tagged) = a.command(bad);
        assert!(tagged.starts_with("BAD"), "{bad}: {tagged}");
        a.ok("NOOP");
    }
    // Names that are not there are ignored (RFC 5465, 3.1).
    assert!(
        a.ok(&format!(
            "NOTIFY SET STATUS (mailboxes (no \"no more\") ({BOTH}))"
        ))
        .is_empty()
    );
    assert!(a.ok("notify set (selected none) (inboxes none)").is_empty());
}

#[test]
fn too_much_ends_it_and_says_so() {
    let (_home, server) = with_limits("notify_mailboxes = 7\nnotify_events = 5");
    let (mut a, mut b) = (login(&server), login(&server));
    for n in 0..2 {
        b.ok(&format!("CREATE box{n}"));
    }
    // Eight mailboxes are too many.
    refused(
        &mut a,
        &format!("NOTIFY SET (personal ({BOTH}))"),
        "NOTIFICATIONOVERFLOW",
    );
    a.ok(&format!("NOTIFY SET (subtree box0 ({BOTH}))"));
    append(&mut b, "box0", "");
    assert!(next(&mut a).starts_with("* STATUS box0 (MESSAGES 1 "));
    let children = |b: &mut Imap, from: u32, to: u32| {
        for n in from..to {
            b.ok(&format!("CREATE box0/{n}"));
        }
    };
    children(&mut b, 0, 6);
    append(&mut b, "box0", "");
    assert!(next(&mut a).starts_with("* STATUS box0 (MESSAGES 2 "));
    children(&mut b, 6, 7);
    assert!(next(&mut a).starts_with("* OK [NOTIFICATIONOVERFLOW] "));
    append(&mut b, "box0", "");
    assert!(a.ok("NOOP").is_empty(), "it is as after NOTIFY NONE");

    // More new messages at once than may be told of.
    b.ok("CREATE source");
    for _ in 0..6 {
        append(&mut b, "source", "");
    }
    b.ok("SELECT source");
    a.ok("SELECT INBOX");
    a.ok(&format!(
        "NOTIFY SET (selected (MessageNew (FLAGS) MessageExpunge)) (inboxes ({BOTH}))"
    ));
    b.ok("COPY 1:5 INBOX");
    assert_eq!(next(&mut a), "* 5 EXISTS");
    next(&mut a);
    for n in 1..=5 {
        assert!(next(&mut a).starts_with(&format!("* {n} FETCH (UID {n} FLAGS (")));
    }
    b.ok("COPY 1:6 INBOX");
    assert_eq!(next(&mut a), "* 11 EXISTS");
    next(&mut a);
    assert!(next(&mut a).starts_with("* OK [NOTIFICATIONOVERFLOW] "));
    a.ok("NOOP");
}

#[test]
fn nothing_is_lost_between_commands() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for n in 0..20 {
        a.ok(&format!("CREATE box{n}"));
    }
    a.ok("SELECT INBOX");
    a.ok(&format!(
        "NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (personal ({BOTH}))"
    ));
    let writers: Vec<_> = (0..3)
        .map(|seat| {
            let mut b = server.imap(ALICE);
            std::thread::spawn(move || {
                for n in 0..40 {
                    append(&mut b, &format!("box{}", (seat * 7 + n) % 20), "");
                    append(&mut b, "INBOX", "");
                }
            })
        })
        .collect();
    let mut counts = [0_u32; 20];
    let (mut exists, mut fetched) = (0, 0);
    let until = Instant::now() + PATIENCE;
    let mut commands = 0;
    while counts.iter().sum::<u32>() < 120 || fetched < 120 {
        assert!(Instant::now() < until, "{counts:?} {exists} {fetched}");
        // Some of it comes in the middle of commands.
        commands += 1;
        if commands % 3 == 0 {
            a.send(format!("c{commands} UID FETCH 1 FLAGS\r\n").as_bytes());
        }
        let line = next(&mut a);
        let words: Vec<&str> = line.split([' ', '(', ')']).collect();
        match words[..] {
            ["*", "STATUS", name, _, "MESSAGES", n, ..] => {
                let at: usize = name.strip_prefix("box").expect("a box").parse().expect("n");
                let n: u32 = n.parse().expect("a number");
                assert!(n > counts[at], "{line}");
                counts[at] = n;
            }
            ["*", n, "EXISTS"] => exists = n.parse().expect("a number"),
            ["*", n, "FETCH", _, "UID", uid, ""] => {
                assert_eq!(n, uid);
                fetched += 1;
                assert_eq!(uid.parse(), Ok(fetched), "in order, once each");
                assert!(fetched <= exists);
            }
            _ => {}
        }
    }
    for writer in writers {
        writer.join().expect("no panic");
    }
}

#[test]
fn it_is_told_within_a_tenth_of_a_second() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(ALICE));
    a.ok(&format!("NOTIFY SET (personal ({BOTH}))"));
    let mut best = Duration::MAX;
    for _ in 0..20 {
        append(&mut b, "Archive", "");
        let done = Instant::now();
        next(&mut a);
        best = best.min(done.elapsed());
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[test]
fn who_does_not_read_is_dropped() {
    let (_home, server) = with_limits("write_timeout_secs = 1");
    let (mut a, mut b) = (login(&server), login(&server));
    let text = format!("Subject: s\r\n\r\n{}", "some words\r\n".repeat(80_000));
    a.ok("SELECT INBOX");
    a.ok("NOTIFY SET (selected (MessageNew (BODY.PEEK[]) MessageExpunge))");
    // More than the buffers of both ends hold.
    for _ in 0..20 {
        append_text(&mut b, "INBOX", &text);
    }
    let until = Instant::now() + PATIENCE;
    let stalled = || {
        let metrics = http_get(server.base + HTTP, "/metrics").expect("metrics");
        let line = metrics
            .lines()
            .find(|l| l.contains("imap") && l.contains("stalled"));
        line.is_some_and(|line| !line.ends_with(" 0"))
    };
    while !stalled() {
        assert!(Instant::now() < until, "it was not dropped");
        std::thread::sleep(Duration::from_millis(50));
    }
    b.ok("NOOP");
    let mut rest = Vec::new();
    let _ = a.stream.read_to_end(&mut rest);
}
