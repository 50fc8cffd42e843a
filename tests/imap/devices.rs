//! A phone and a desktop on one mailbox, doing what their programs do all day.

use super::common::{Imap, Line};
use super::{ALICE, server, texts};

/// The next lines that an idling client is told.
fn next(imap: &mut Imap, count: usize) -> Vec<String> {
    let lines = (0..count).map(|_| imap.line().expect("a line").text);
    lines.collect()
}

fn put(imap: &mut Imap, mailbox: &str, words: &str) -> (Vec<Line>, String) {
    let mail = "Subject: s\r\n\r\n\r\n";
    imap.send(
        format!(
            "x APPEND {mailbox} {words}{{{}+}}\r\n{mail}\r\n",
            mail.len()
        )
        .as_bytes(),
    );
    imap.until("x")
}

#[test]
fn what_one_device_does_the_other_hears() {
    let (_home, server) = server();
    let mut desk = server.imap(ALICE);
    let mut phone = server.imap(ALICE);
    desk.ok("ID (\"name\" \"Mail\" \"vendor\" \"A \\\"quoted\\\" one\" \"os\" NIL)");
    assert_eq!(
        texts(&desk.ok("ENABLE CONDSTORE QRESYNC")),
        ["* ENABLED CONDSTORE QRESYNC"]
    );
    desk.ok("CREATE box");
    for _ in 0..3 {
        put(&mut desk, "box", "");
    }
    desk.ok("SELECT box");
    phone.ok("ENABLE IMAP4rev2");
    phone.ok("SELECT box");
    phone.send(b"i IDLE\r\n");
    assert!(next(&mut phone, 1)[0].starts_with('+'));

    let lines = desk.ok(
        "UID FETCH 2 (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE \
                         BODY.PEEK[HEADER.FIELDS (Subject X-Priority)] BODY.PEEK[TEXT]<0.10>)",
    );
    let line = &lines[0];
    assert!(
        line.text.starts_with("* 2 FETCH (UID 2 FLAGS ("),
        "{line:?}"
    );
    assert_eq!(line.literals, [b"Subject: s\r\n\r\n".as_slice(), b"\r\n"]);
    desk.ok("UID FETCH 2 BODY[]");
    assert_eq!(next(&mut phone, 1), ["* 2 FETCH (UID 2 FLAGS (\\Seen))"]);

    // A copy of what was sent changes nothing here.
    let (lines, tagged) = put(&mut desk, "Sent", "(\\Seen) ");
    assert!(
        lines.is_empty() && tagged.starts_with("OK [APPENDUID "),
        "{lines:?} {tagged}"
    );
    let sent = desk.ok("STATUS Sent (MESSAGES UNSEEN)");
    assert_eq!(texts(&sent), ["* STATUS Sent (MESSAGES 1 UNSEEN 0)"]);

    let lines = desk.ok("UID MOVE 2 Trash");
    let lines = texts(&lines);
    assert!(lines[0].starts_with("* OK [COPYUID "), "{lines:?}");
    assert_eq!(lines[1..], ["* VANISHED 2"]);
    assert_eq!(next(&mut phone, 1), ["* 2 EXPUNGE"]);
    // Of the mailbox that is selected too.
    let status = desk.ok("STATUS box (MESSAGES UNSEEN UIDNEXT)");
    assert_eq!(
        texts(&status),
        ["* STATUS box (MESSAGES 2 UNSEEN 2 UIDNEXT 4)"]
    );

    desk.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)");
    desk.ok("UID EXPUNGE 3");
    put(&mut desk, "box", "(\\Draft) ");
    let told = next(&mut phone, 1);
    // Told one by one or, if the phone was slow, together.
    let told = if told[0].ends_with("EXPUNGE") {
        told
    } else {
        next(&mut phone, 1)
    };
    assert_eq!(told, ["* 2 EXPUNGE"]);
    assert_eq!(next(&mut phone, 1), ["* 2 EXISTS"]);
    phone.send(b"DONE\r\nf FETCH 1:* (UID FLAGS)\r\n");
    assert!(phone.until("i").0.is_empty());
    let (lines, _) = phone.until("f");
    assert_eq!(
        texts(&lines),
        [
            "* 1 FETCH (UID 1 FLAGS ())",
            "* 2 FETCH (UID 4 FLAGS (\\Draft))"
        ]
    );
}
