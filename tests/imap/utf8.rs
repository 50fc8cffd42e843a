//! UTF8=ACCEPT (RFC 6855), and what those get who have not enabled it (RFC 6858).

use super::common::Imap;
use super::{ALICE, server, texts};

const MAIL: &str = "From: J\u{fc}rgen X <j\u{fc}rgen@b\u{fc}cher.example>\r\n\
To: Bob <bob@b\u{fc}cher.example>\r\n\
Subject: Gr\u{fc}\u{df}e\r\n\
Content-Type: text/plain; charset=utf-8; name=\"\u{fc}.txt\"\r\n\
\r\n\
Text\r\n";

/// The text of an answer with its literals in it.
fn whole(imap: &mut Imap, command: &str) -> String {
    let lines = imap.ok(command);
    let mut out = String::new();
    let mut literals = lines[0].literals.iter();
    let mut rest = lines[0].text.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let (_, after) = after.split_once('}').expect("a literal");
        out.push_str(before);
        let literal = literals.next().expect("a literal");
        out.push_str(&format!("{{{}}}", String::from_utf8_lossy(literal)));
        rest = after;
    }
    out + rest
}

#[test]
fn headers_and_names_in_utf8() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    assert!(texts(&a.ok("CAPABILITY"))[0].contains(" UTF8=ACCEPT"));
    a.ok("CREATE \"Entw&APw-rfe\"");
    let append = format!(
        "x APPEND \"Entw&APw-rfe\" UTF8 (~{{{}+}}\r\n{MAIL})\r\n",
        MAIL.len()
    );
    // RFC 6855, 4: not before it is enabled.
    a.send(append.as_bytes());
    assert!(a.until("x").1.starts_with("NO"));
    assert_eq!(
        texts(&a.ok("ENABLE UTF8=ACCEPT")),
        ["* ENABLED UTF8=ACCEPT"]
    );
    a.send(append.replace("&APw-", "\u{fc}").as_bytes());
    let tagged = a.until("x").1;
    assert!(tagged.starts_with("OK [APPENDUID"), "{tagged}");
    assert!(
        texts(&a.ok("LIST \"\" Entw%"))
            .concat()
            .ends_with("\"Entw\u{fc}rfe\"")
    );
    a.ok("SELECT \"Entw\u{fc}rfe\"");
    a.ok("CREATE \"&-\"");
    assert!(texts(&a.ok("LIST \"\" &%")).concat().ends_with("\"&-\""));
    // RFC 6855, 3
    assert!(
        a.command("SEARCH CHARSET UTF-8 TEXT \"\u{fc}\"")
            .1
            .starts_with("BAD")
    );
    // SORT and THREAD have no form without one (RFC 5256, 3).
    for charset in ["UTF-8", "US-ASCII"] {
        let sorted = a.ok(&format!("SORT (SUBJECT) {charset} ALL"));
        assert_eq!(texts(&sorted), ["* SORT 1"]);
        let threads = a.ok(&format!("THREAD REFERENCES {charset} ALL"));
        assert_eq!(texts(&threads), ["* THREAD (1)"]);
    }
    let counted = a.ok("UID SORT RETURN (COUNT) (DATE) UTF-8 SUBJECT \"\u{fc}\"");
    assert!(texts(&counted)[0].ends_with(" COUNT 1"), "{counted:?}");
    let (_, tagged) = a.command("SORT (DATE) KOI8-R ALL");
    assert!(tagged.starts_with("NO [BADCHARSET"), "{tagged}");
    assert_eq!(
        texts(&a.ok("SEARCH SUBJECT \"Gr\u{fc}\u{df}e\"")),
        ["* SEARCH 1"]
    );
    assert!(a.command("SEARCH SUBJECT \"\u{fc}").1.starts_with("BAD"));
    a.send(b"y SEARCH SUBJECT \"\xff\"\r\n");
    assert!(a.until("y").1.starts_with("BAD"));
    let envelope = whole(&mut a, "FETCH 1 ENVELOPE");
    assert!(envelope.contains("{Gr\u{fc}\u{df}e}"), "{envelope}");
    assert!(
        envelope.contains("{j\u{fc}rgen} {b\u{fc}cher.example}"),
        "{envelope}"
    );
    let size = MAIL.len();
    for (section, text) in [
        ("", MAIL),
        ("HEADER", &MAIL[..size - 6]),
        ("TEXT", "Text\r\n"),
    ] {
        let lines = a.ok(&format!("FETCH 1 BODY.PEEK[{section}]"));
        assert_eq!(lines[0].literals[0], text.as_bytes(), "{section}");
    }
    // The parts of a message too.
    let head = "Subject: \u{fc}\r\n\r\n";
    a.send(
        format!("z APPEND \"Entw\u{fc}rfe\" CATENATE (UTF8 (~{{{}+}}\r\n{head}) URL /;UID=1/;SECTION=TEXT)\r\n", head.len())
            .as_bytes(),
    );
    assert!(a.until("z").1.starts_with("OK"));
    let lines = a.ok("FETCH 2 BODY.PEEK[]");
    assert_eq!(lines[0].literals[0], format!("{head}Text\r\n").as_bytes());

    // Another client, which has not enabled it.
    let mut b = server.imap(ALICE);
    b.ok("SELECT \"Entw&APw-rfe\"");
    let envelope = whole(&mut b, "FETCH 1 ENVELOPE");
    assert_eq!(
        envelope,
        "* 1 FETCH (ENVELOPE (NIL \"=?utf-8?B?R3LDvMOfZQ==?=\" \
         ((\"=?utf-8?B?SsO8cmdlbiBY?=\" NIL \"invalid\" \"internationalized-address.invalid\")) \
         ((\"=?utf-8?B?SsO8cmdlbiBY?=\" NIL \"invalid\" \"internationalized-address.invalid\")) \
         ((\"=?utf-8?B?SsO8cmdlbiBY?=\" NIL \"invalid\" \"internationalized-address.invalid\")) \
         ((\"Bob\" NIL \"bob\" \"xn--bcher-kva.example\")) NIL NIL NIL NIL))"
    );
    for item in ["BODYSTRUCTURE", "BODY"] {
        let structure = whole(&mut b, &format!("FETCH 1 {item}"));
        assert!(
            structure.contains("(\"charset\" \"utf-8\" \"name*\" \"utf-8''%C3%BC.txt\")"),
            "{structure}"
        );
    }
    // What it copies elsewhere must not be another message: texts stay.
    let lines = b.ok("FETCH 1 (RFC822.SIZE BODY.PEEK[])");
    assert!(
        lines[0].text.contains(&format!("RFC822.SIZE {size} ")),
        "{lines:?}"
    );
    assert_eq!(lines[0].literals[0], MAIL.as_bytes());
}

/// RFC 6855, 4 says NO; but clients that move old mail never enable it (docs/imap.md).
#[test]
fn mail_of_clients_that_do_not_enable_it_is_kept_as_it_is() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for mail in [MAIL.as_bytes(), b"Subject: Gr\xfc\xdfe\r\n\r\nText\r\n"] {
        a.send(format!("x APPEND Archive {{{}+}}\r\n", mail.len()).as_bytes());
        a.send(&[mail, b"\r\n"].concat());
        let tagged = a.until("x").1;
        assert!(tagged.starts_with("OK [APPENDUID"), "{tagged}");
        a.ok("SELECT Archive");
        let lines = a.ok("FETCH * BODY.PEEK[]");
        assert_eq!(lines[0].literals[0], mail);
        let envelope = whole(&mut a, "FETCH * ENVELOPE");
        // What is no UTF-8 has no other form.
        let downgraded = std::str::from_utf8(mail).is_ok();
        assert_eq!(envelope.is_ascii(), downgraded, "{envelope}");
    }
}

/// RFC 3501, 9, knows message/rfc822 alone; RFC 9051, 9, message/global too.
#[test]
fn a_message_of_another_kind_is_a_part_to_who_does_not_know_it() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let text = "Content-Type: message/global\r\n\r\nSubject: i\r\n\r\nx\r\n";
    a.ok(&format!("APPEND INBOX {{{}+}}\r\n{text}", text.len()));
    a.ok("SELECT INBOX");
    let plain = "* 1 FETCH (BODYSTRUCTURE (\"message\" \"global\" NIL NIL NIL \"7bit\" 17 NIL NIL NIL NIL))";
    assert_eq!(texts(&a.ok("FETCH 1 BODYSTRUCTURE")), [plain]);
    let plain = "* 1 FETCH (BODY (\"message\" \"global\" NIL NIL NIL \"7bit\" 17))";
    assert_eq!(texts(&a.ok("FETCH 1 BODY")), [plain]);
    a.ok("ENABLE IMAP4rev2");
    let whole = a.ok("FETCH 1 BODYSTRUCTURE");
    assert!(
        texts(&whole)[0].contains("\"7bit\" 17 (NIL \"i\" NIL "),
        "{whole:?}"
    );
}
