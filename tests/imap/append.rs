//! Dates and heads of APPEND.

use super::{ALICE, append, server, texts};

#[test]
fn dates_before_1970_are_kept() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    for date in [
        " 1-Feb-1964 21:52:25 -0800",
        "31-Dec-1969 23:59:59 +0000",
        " 1-Jan-1970 00:30:00 +0100",
        " 1-Jan-1900 00:00:00 +0000",
        " 1-Jan-1970 00:00:00 +0000",
        "17-Jul-1996 02:44:25 -0700",
    ] {
        let tagged = append(&mut a, "box", &format!("\"{date}\" "));
        assert!(tagged.starts_with("OK"), "{date}: {tagged}");
        a.ok("SELECT box");
        let lines = a.ok("FETCH * INTERNALDATE");
        assert!(
            lines[0]
                .text
                .ends_with(&format!("(INTERNALDATE \"{date}\")")),
            "{lines:?}"
        );
    }
    for (search, hits) in [
        ("BEFORE 1-Jan-1970", "1 2 4"),
        ("ON 1-Feb-1964", "1"),
        ("SINCE 1-Jan-1970", "3 5 6"),
        ("OLDER 3600", "1 2 3 4 5 6"),
        ("YOUNGER 3600", ""),
    ] {
        let lines = a.ok(&format!("SEARCH {search}"));
        assert_eq!(
            lines[0].text.trim_end(),
            format!("* SEARCH {hits}").trim_end()
        );
    }
}

#[test]
fn a_bad_head_is_bad_however_long_the_message() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for head in [
        "INBOX (\\Seen",
        "INBOX \"yesterday\"",
        "INBOX \\Seen",
        "\"INBOX",
    ] {
        for size in [5, 1_000_000] {
            a.send(format!("s APPEND {head} {{{size}}}\r\n").as_bytes());
            let (_, tagged) = a.until("s");
            assert!(tagged.starts_with("BAD"), "{head} {size}: {tagged}");
            let mut command = format!("l APPEND {head} {{{size}+}}\r\n").into_bytes();
            command.resize(command.len() + size, b'x');
            command.extend_from_slice(b"\r\n");
            a.send(&command);
            let (_, tagged) = a.until("l");
            assert!(tagged.starts_with("BAD"), "{head} {size}: {tagged}");
            // Forgives.
            a.ok("NOOP");
        }
    }
    // A name may come as a literal; one that is too long is that.
    a.send(b"n APPEND {5}\r\n");
    assert!(a.line().expect("a line").text.starts_with('+'));
    a.send(b"INBOX {14+}\r\nSubject: s\r\n\r\n\r\n");
    assert!(a.until("n").1.starts_with("OK"));
    a.send(b"n APPEND {1000000}\r\n");
    assert!(a.until("n").1.starts_with("NO [TOOBIG]"));
    assert_eq!(texts(&a.ok("NOOP")), [""; 0]);
}
