//! A mailbox has room for 64 keywords (RFC 9051, 2.3.2 and 7.1): only those in use count, and one
//! more is refused aloud.

use super::common::{Imap, Line};
use super::{ALICE, append, refused, server, texts};

fn numbered(range: std::ops::Range<usize>) -> String {
    let names: Vec<String> = range.map(|n| format!("k{n}")).collect();
    names.join(" ")
}

fn line<'a>(lines: &'a [Line], head: &str) -> &'a str {
    let found = lines.iter().find(|l| l.text.starts_with(head));
    &found.unwrap_or_else(|| panic!("{head}: {lines:?}")).text
}

fn flags(imap: &mut Imap, n: u32) -> String {
    let lines = imap.ok(&format!("FETCH {n} FLAGS"));
    line(&lines, &format!("* {n} FETCH")).to_owned()
}

#[test]
fn a_store_of_no_message_takes_no_room() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    append(&mut a, "box", "");
    a.ok("SELECT box");
    a.ok(&format!("UID STORE 77 +FLAGS ({})", numbered(0..64)));
    a.ok(&format!("UID STORE 1 -FLAGS ({})", numbered(0..64)));
    let lines = a.ok("SELECT box");
    assert!(!line(&lines, "* FLAGS").contains("k1"), "{lines:?}");
    a.ok("STORE 1 +FLAGS (other)");
    assert!(flags(&mut a, 1).contains("other"));
}

#[test]
fn a_keyword_of_no_message_gives_up_its_place() {
    let (home, server) = server();
    let mut a = server.imap(ALICE);
    let mut b = server.imap(ALICE);
    a.ok("CREATE box");
    append(&mut a, "box", "");
    append(&mut a, "box", "");
    a.ok("SELECT box");
    b.ok("SELECT box");
    let lines = a.ok(&format!("STORE 1 +FLAGS ({})", numbered(0..64)));
    // RFC 9051, 7.1: no \* where no keyword can be made.
    assert!(!line(&lines, "* OK [PERMANENTFLAGS").contains("\\*"));
    refused(&mut a, "STORE 2 +FLAGS (more \\Seen)", "LIMIT");
    assert!(!flags(&mut a, 2).contains("\\Seen"), "nothing was changed");
    let lines = b.ok("NOOP");
    assert!(!line(&lines, "* OK [PERMANENTFLAGS").contains("\\*"));

    a.ok("STORE 1 -FLAGS (k7)");
    let lines = b.ok("NOOP");
    assert!(line(&lines, "* OK [PERMANENTFLAGS").contains("\\*"));
    let lines = a.ok("SELECT box");
    assert!(line(&lines, "* OK [PERMANENTFLAGS").contains("\\*"));
    let lines = a.ok("STORE 1:2 +FLAGS (more)");
    let told = line(&lines, "* FLAGS");
    assert!(told.contains(" more ") && !told.contains(" k7 "), "{told}");
    assert!(!line(&lines, "* OK [PERMANENTFLAGS").contains("\\*"));

    // Who did not do it hears the names before they are used.
    let lines = b.ok("NOOP");
    let lists = lines.iter().position(|l| l.text.starts_with("* FLAGS"));
    let used = lines.iter().position(|l| l.text.starts_with("* 2 FETCH"));
    assert!(lists.expect("lists") < used.expect("used"), "{lines:?}");
    assert!(lines[used.unwrap()].text.contains("(more"), "{lines:?}");

    // Without words of what was called so before.
    assert_eq!(texts(&b.ok("SEARCH KEYWORD k7")), ["* SEARCH"]);
    assert_eq!(texts(&b.ok("SEARCH KEYWORD more")), ["* SEARCH 1 2"]);
    let before = (flags(&mut a, 1), flags(&mut a, 2));
    let dir = home.path().join("data");
    server.stop();
    let server = super::Server::start(&dir, &[]);
    let mut a = server.imap(ALICE);
    // \Recent is for the first.
    a.ok("SELECT box");
    a.ok("SELECT box");
    assert_eq!((flags(&mut a, 1), flags(&mut a, 2)), before);
}

#[test]
fn a_silent_store_hides_no_keyword_whose_place_was_taken() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let mut b = server.imap(ALICE);
    a.ok("CREATE box");
    append(&mut a, "box", "");
    append(&mut a, "box", "");
    a.ok("SELECT box");
    a.ok(&format!("STORE 1 +FLAGS ({})", numbered(0..63)));
    a.ok("STORE 2 +FLAGS (old)");
    b.ok("SELECT box");
    b.ok("STORE 2 -FLAGS (old)");
    // For its client, message 2 has `old` still: it must hear that this is over.
    let lines = a.ok("STORE 2 +FLAGS.SILENT (new)");
    assert!(
        line(&lines, "* 2 FETCH").contains("FLAGS (new"),
        "{lines:?}"
    );
}

#[test]
fn messages_that_come_bring_their_keywords_or_do_not_come() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    a.ok("CREATE full");
    let tagged = append(&mut a, "full", &format!("({}) ", numbered(0..64)));
    assert!(tagged.starts_with("OK"), "{tagged}");
    let tagged = append(&mut a, "full", "(more) ");
    assert!(tagged.starts_with("NO [LIMIT]"), "{tagged}");
    append(&mut a, "box", "");
    append(&mut a, "box", "(more) ");
    a.ok("SELECT box");
    refused(&mut a, "COPY 1:2 full", "LIMIT");
    refused(&mut a, "MOVE 1:2 full", "LIMIT");
    let lines = a.ok("STATUS full (MESSAGES)");
    assert_eq!(texts(&lines), ["* STATUS full (MESSAGES 1)"]);
    assert_eq!(texts(&a.ok("SEARCH ALL")), ["* SEARCH 1 2"]);
    let tagged = append(&mut a, "full", "(K3) ");
    assert!(tagged.starts_with("OK"), "{tagged}");

    // Two of one command do not share the place that one keyword left.
    a.ok("SELECT full");
    a.ok("STORE 1 -FLAGS (k5)");
    a.ok("SELECT box");
    a.ok("STORE 1 +FLAGS (another)");
    refused(&mut a, "COPY 1:2 full", "LIMIT");
    a.ok("COPY 2 full");
    a.ok("SELECT full");
    assert!(flags(&mut a, 3).contains("(more"));
    assert_eq!(texts(&a.ok("SEARCH KEYWORD more")), ["* SEARCH 3"]);
}

/// RFC 6851, 3.3 and 4.3
#[test]
fn a_large_move_that_fails_in_the_middle_says_what_was_moved() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    a.ok("CREATE full");
    append(&mut a, "full", &format!("({}) ", numbered(0..64)));
    append(&mut a, "box", "");
    a.ok("SELECT box");
    for _ in 0..14 {
        a.ok("COPY 1:* box");
    }
    a.ok("STORE 10048 +FLAGS (more)");
    let (lines, tagged) = a.command("MOVE 1:* full");
    assert!(tagged.starts_with("NO [LIMIT]"), "{tagged}");
    let lines = texts(&lines);
    assert!(
        lines[0].starts_with("* OK [COPYUID ") && lines[0].contains(" 1:10000 2:10001]"),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines.iter().filter(|l| l.ends_with(" EXPUNGE")).count(),
        10_000
    );
    assert_eq!(texts(&a.ok("UID SEARCH UID 1:10001")), ["* SEARCH 10001"]);
    let lines = a.ok("STATUS full (MESSAGES)");
    assert_eq!(texts(&lines), ["* STATUS full (MESSAGES 10001)"]);
}
