//! EMAILID, THREADID, SAVEDATE and PREVIEW (RFC 8474, 8514, 8970).

use super::common::Imap;
use super::{ALICE, server, texts};

fn append(imap: &mut Imap, mailbox: &str, text: &str) {
    imap.send(format!("x APPEND {mailbox} {{{}+}}\r\n{text}\r\n", text.len()).as_bytes());
    let tagged = imap.until("x").1;
    assert!(tagged.starts_with("OK"), "{tagged}");
}

/// The words in parentheses behind each of the names.
fn ids(line: &str) -> Vec<String> {
    let after = |name: &str| {
        let rest = line.split(name).nth(1).expect(line);
        let inner = rest.split(['(', ')']).nth(1).expect(line);
        inner.to_owned()
    };
    vec![after("EMAILID "), after("THREADID ")]
}

#[test]
fn rfc8474_examples() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    for name in ["box", "foo"] {
        a.ok(&format!("CREATE {name}"));
    }
    for text in [
        "Subject: Message A\r\nMessage-ID: <fake.1521475657.54797@example.com>\r\n\r\na\r\n",
        "Subject: Re: Message A\r\nMessage-ID: <fake.1521475657.21213@example.org>\r\n\
         References: <fake.1521475657.54797@example.com>\r\n\r\nb\r\n",
        "Subject: Message C\r\nMessage-ID: <fake.1521475657.60280@example.com>\r\n\r\nc\r\n",
    ] {
        append(&mut a, "box", text);
    }
    a.ok("SELECT box");
    let fetch = |a: &mut Imap| {
        let lines = a.ok("FETCH 1:* (EMAILID THREADID)");
        lines.iter().map(|l| ids(&l.text)).collect::<Vec<_>>()
    };
    let all = fetch(&mut a);
    assert_eq!(all[0][1], all[1][1]);
    assert_ne!(all[0][1], all[2][1]);
    let mut mails: Vec<&String> = all.iter().map(|ids| &ids[0]).collect();
    mails.dedup();
    assert_eq!(mails.len(), 3);
    for id in all.concat() {
        let valid = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        assert!(id.len() <= 255 && id.chars().all(valid) && !id.is_empty());
    }
    a.ok("MOVE 2 foo");
    assert_eq!(fetch(&mut a), [all[0].clone(), all[2].clone()]);
    a.ok("SELECT foo");
    assert_eq!(fetch(&mut a), [all[1].clone()]);
    // Nothing of it marks a message as read.
    let lines = a.ok("FETCH 1 FLAGS");
    assert!(!lines[0].text.contains("Seen"), "{lines:?}");
}

#[test]
fn the_save_date_is_that_of_the_mailbox() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE foo");
    a.send(b"x APPEND foo \"17-Jul-1996 02:44:25 -0700\" {14+}\r\nSubject: s\r\n\r\n\r\n");
    assert!(a.until("x").1.starts_with("OK"));
    a.ok("SELECT foo");
    let lines = a.ok("FETCH 1 (SAVEDATE INTERNALDATE)");
    let text = &lines[0].text;
    assert!(
        text.contains(" INTERNALDATE \"17-Jul-1996 02:44:25 -0700\""),
        "{text}"
    );
    assert!(
        text.starts_with("* 1 FETCH (SAVEDATE \"") && text.contains(" +0000\" "),
        "{text}"
    );
    assert!(
        !text
            .split(" INTERNALDATE")
            .next()
            .expect("a part")
            .contains("1996"),
        "{text}"
    );
}

#[test]
fn rfc8970_examples() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    append(&mut a, "box", "Subject: s\r\n\r\nPreview text!\r\n");
    append(
        &mut a,
        "box",
        "Subject: s\r\nContent-Type: image/png\r\n\r\nx\r\n",
    );
    append(
        &mut a,
        "box",
        "Subject: s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\u{fc}\u{df}e\r\n",
    );
    let large = format!(
        "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nSee below.\r\n\
         --b\r\nContent-Type: x/y\r\n\r\n{}\r\n--b--\r\n",
        "no text at all\r\n".repeat(40_000)
    );
    append(&mut a, "box", &large);
    a.ok("SELECT box");
    let lines = a.ok("FETCH 1 (RFC822.SIZE PREVIEW)");
    assert_eq!(
        texts(&lines),
        ["* 1 FETCH (RFC822.SIZE 29 PREVIEW \"Preview text!\")"]
    );
    let lines = a.ok("FETCH 1:* (PREVIEW (LAZY) UID)");
    assert_eq!(
        texts(&lines),
        [
            "* 1 FETCH (PREVIEW \"Preview text!\" UID 1)",
            "* 2 FETCH (PREVIEW \"\" UID 2)",
            "* 3 FETCH (PREVIEW {7} UID 3)",
            "* 4 FETCH (PREVIEW \"See below.\" UID 4)",
        ]
    );
    assert_eq!(lines[2].literals[0], "Gr\u{fc}\u{df}e".as_bytes());
    assert_eq!(
        texts(&a.ok("FETCH 2 PREVIEW (LAZY)")),
        ["* 2 FETCH (PREVIEW \"\")"]
    );
    for bad in [
        "FETCH 1 (PREVIEW (EAGER))",
        "FETCH 1 (PREVIEW ())",
        "FETCH 1 PREVIEW(LAZY)",
    ] {
        assert!(a.command(bad).1.starts_with("BAD"), "{bad}");
    }
    // Nothing of it marks a message as read.
    let lines = a.ok("FETCH 1 FLAGS");
    assert!(!lines[0].text.contains("Seen"), "{lines:?}");
}
