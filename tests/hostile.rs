//! Peers that mean harm, and mail that is a weapon: a clear error or a closed connection, and
//! nobody else notices.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Imap, PATIENCE, Server, Smtp};

/// Others are served: a mail goes through, and is seen.
fn works(server: &Server) {
    let mut smtp = server.smtp();
    let reply = smtp.deliver(
        "a@example.net",
        &["bob@posthorn.test"],
        b"Subject: ok\r\n\r\nok\r\n",
    );
    let reply = reply.expect("reply");
    assert!(reply.starts_with("250"), "{reply}");
    server.imap("bob@posthorn.test").ok("SELECT INBOX");
}

fn nested(levels: usize) -> Vec<u8> {
    let mut mail = b"Subject: doll\r\n".to_vec();
    for _ in 0..levels {
        mail.extend_from_slice(b"Content-Type: message/rfc822\r\n\r\n");
    }
    mail.extend_from_slice(b"\r\nend\r\n");
    mail
}

fn nested_in_base64(levels: usize) -> Vec<u8> {
    use base64::Engine;
    let inner = base64::engine::general_purpose::STANDARD.encode(nested(levels));
    let mut mail =
        b"Subject: b64\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n".to_vec();
    for line in inner.as_bytes().chunks(76) {
        mail.extend_from_slice(line);
        mail.extend_from_slice(b"\r\n");
    }
    mail
}

fn empty_parts(parts: usize) -> Vec<u8> {
    let mut mail = b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
    for _ in 0..parts {
        mail.extend_from_slice(b"--b\r\n\r\n");
    }
    mail.extend_from_slice(b"--b--\r\n");
    mail
}

fn long_header() -> Vec<u8> {
    let mut mail = vec![b'X'; 64 * 1024];
    mail.extend_from_slice(b": y\r\nSubject: long\r\n\r\nend\r\n");
    mail
}

#[test]
fn mail_that_is_a_weapon() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut many = b"Subject: params\r\nContent-Type: text/plain".to_vec();
    for n in 0..20_000 {
        many.extend_from_slice(format!(";\r\n p{n}*0*=utf-8''a").as_bytes());
    }
    many.extend_from_slice(b"\r\n\r\nx\r\n");
    let mut addresses = b"Subject: to\r\nTo: ".to_vec();
    for n in 0..20_000 {
        addresses.extend_from_slice(format!("((((a{n}@x.test,\r\n ").as_bytes());
    }
    addresses.extend_from_slice(b"\r\n\r\nx\r\n");
    let weapons = [
        nested(100_000),
        nested_in_base64(5_000),
        empty_parts(1_000_000),
        long_header(),
        many,
        addresses,
        b"".to_vec(),
        b"\r\n".to_vec(),
        b"..x\r\n".to_vec(),
        [b"Subject: 8bit \xff\xfe\r\nFrom: \xe4 <\xf6@\xfc>\r\n\r\n\xff\r\n".to_vec()].concat(),
        b"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nx\r\n----\r\n".to_vec(),
    ];
    for (n, weapon) in weapons.iter().enumerate() {
        let mut smtp = server.smtp();
        let reply = smtp
            .deliver("w@example.net", &["alice@posthorn.test"], weapon)
            .expect("an answer");
        assert!(
            reply.starts_with("250") || reply.starts_with('5'),
            "{n}: {reply}"
        );
        works(&server);
    }
    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    imap.ok("FETCH 1:* (FLAGS UID ENVELOPE INTERNALDATE RFC822.SIZE BODYSTRUCTURE)");
    imap.ok("FETCH 1:* (BODY BODY.PEEK[HEADER] BODY.PEEK[1] BODY.PEEK[1.1.1.MIME])");
    imap.ok("SEARCH OR TEXT nowhere BODY \"end\"");
    imap.ok("SEARCH HEADER Subject parts SENTSINCE 1-Jan-2020");
    works(&server);
}

#[test]
fn empty_message_and_double_dot() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = server.smtp();
    for raw in [b".\r\n".as_slice(), b"..x\r\n.\r\n", b"...\r\n.\r\n"] {
        smtp.command("MAIL FROM:<>").expect("MAIL");
        smtp.command("RCPT TO:<alice@posthorn.test>").expect("RCPT");
        smtp.command("DATA").expect("DATA");
        smtp.send(raw).expect("write");
        let reply = smtp.reply().expect("reply");
        assert!(reply.starts_with("250"), "{reply}");
    }
    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    let ends = [b"\r\n".as_slice(), b"\r\n.x\r\n", b"\r\n..\r\n"];
    for (line, end) in imap.ok("FETCH 1:3 BODY.PEEK[]").iter().zip(ends) {
        assert!(
            line.literals[0].ends_with(end),
            "{:?}",
            String::from_utf8_lossy(&line.literals[0])
        );
    }
}

#[test]
fn bare_line_endings_are_no_way_out_of_data() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    for end in [
        "\n.\r\n",
        "\r\n.\n",
        "\n.\n",
        "\r.\r",
        "\r\n\x00.\r\n",
        "\r.\r\n",
    ] {
        let mut smtp = server.smtp();
        smtp.command("MAIL FROM:<a@example.net>").expect("MAIL");
        smtp.command("RCPT TO:<alice@posthorn.test>").expect("RCPT");
        smtp.command("DATA").expect("DATA");
        smtp.send(
            format!("Subject: x\r\n\r\nx{end}MAIL FROM:<evil@example.net>\r\n.\r\n").as_bytes(),
        )
        .expect("write");
        let reply = smtp.reply().expect("reply");
        assert!(
            reply.starts_with("550 5.6.") || reply.starts_with("550-5.6."),
            "{end:?}: {reply}"
        );
        assert!(smtp.command("NOOP").expect("NOOP").starts_with("250"));
    }
    let lines = server
        .imap("alice@posthorn.test")
        .ok("STATUS INBOX (MESSAGES)");
    assert!(lines[0].text.contains("MESSAGES 0"), "{lines:?}");
}

/// Writes as much as the other side takes; gives what it answered until it closed.
fn shout(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    let mut reader = stream.try_clone().expect("clone");
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        // A reset by the peer ends it as well as an end of file.
        while let Ok(n @ 1..) = reader.read(&mut piece) {
            text.extend_from_slice(&piece[..n]);
            assert!(text.len() < 10 << 20, "it never ends");
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    reading.join().expect("reader")
}

#[test]
fn lines_literals_and_nests_without_end() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let long = vec![b'a'; 10 << 20];
    let said = shout(
        server.port(common::SMTP),
        &[b"EHLO ", &long[..], b"\r\nNOOP\r\n"].concat(),
    );
    assert!(said.contains("\r\n5") || said.contains("\r\n4"), "{said}");
    let said = shout(
        server.port(common::IMAP),
        &[b"a LOGIN ", &long[..], b"\r\n"].concat(),
    );
    assert!(said.contains("BAD") || said.contains("BYE"), "{said}");

    // A synchronising literal is refused before its bytes come; a LITERAL+ one ends the talk.
    let said = shout(server.port(common::IMAP), b"a LOGIN {1000000000}\r\n");
    assert!(!said.contains("\r\n+"), "{said}");
    assert!(
        said.contains("a NO") || said.contains("a BAD") || said.contains("BYE"),
        "{said}"
    );
    let said = shout(server.port(common::IMAP), b"a LOGIN {1000000000+}\r\nxxxx");
    assert!(
        said.contains("a NO") || said.contains("a BAD") || said.contains("BYE"),
        "{said}"
    );

    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    let deep = format!("SEARCH {}ALL{}", "(".repeat(1000), ")".repeat(1000));
    assert!(imap.command(&deep).1.starts_with("BAD"));
    let deep = format!("SEARCH {}ALL", "NOT ".repeat(10_000));
    assert!(imap.command(&deep).1.starts_with("BAD"));
    let (_, tagged) = imap.command("NOSUCH thing");
    assert!(tagged.starts_with("BAD"), "{tagged}");
    imap.send(b"z NOOP\0\r\n");
    assert!(imap.line().expect("line").text.contains("BAD"));
    imap.ok("NOOP");

    let mut nonsense = Imap::connect(server.port(common::IMAP)).expect("IMAP");
    nonsense.send("\u{1}\u{2} \u{3}\r\n".repeat(1000).as_bytes());
    let mut last = String::new();
    while let Ok(line) = nonsense.line() {
        last = line.text;
    }
    assert!(last.starts_with("* BYE"), "{last}");

    let mut nonsense = Smtp::connect(server.port(common::SMTP)).expect("SMTP");
    nonsense
        .send("XYZZY\r\n".repeat(1000).as_bytes())
        .expect("write");
    let mut last = String::new();
    while let Ok(reply) = nonsense.reply() {
        last = reply;
    }
    assert!(last.starts_with("421"), "{last}");
    works(&server);
}

#[test]
fn limits_of_a_transaction() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = server.smtp();
    let ehlo = smtp.command("EHLO x.test").expect("EHLO");
    let size: u64 = ehlo
        .lines()
        .find_map(|l| l[4..].strip_prefix("SIZE "))
        .and_then(|n| n.trim().parse().ok())
        .expect("SIZE");
    let reply = smtp
        .command(&format!("MAIL FROM:<a@x.test> SIZE={}", size + 1))
        .expect("MAIL");
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    let reply = smtp
        .command(&format!("MAIL FROM:<a@x.test> SIZE={size}"))
        .expect("MAIL");
    assert!(reply.starts_with("250"), "{reply}");
    smtp.command("RCPT TO:<alice@posthorn.test>").expect("RCPT");
    smtp.command("DATA").expect("DATA");
    let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
    for _ in 0..=size / line.len() as u64 {
        smtp.send(&line).expect("write");
    }
    smtp.send(b".\r\n").expect("write");
    let reply = smtp.reply().expect("reply");
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    works(&server);

    // More than 50 hops are a loop.
    let mut looped = b"Received: from a by b; x\r\n".repeat(51);
    looped.extend_from_slice(b"\r\nx\r\n");
    let reply = smtp
        .deliver("a@x.test", &["alice@posthorn.test"], &looped)
        .expect("reply");
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
}

#[test]
fn those_who_wait_harm_nobody() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let silent: Vec<TcpStream> = [
        common::SMTP,
        common::SUBMISSIONS,
        common::IMAP,
        common::IMAPS,
        common::HTTP,
    ]
    .iter()
    .cycle()
    .take(200)
    .map(|p| TcpStream::connect(("127.0.0.1", server.port(*p))).expect("connect"))
    .collect();
    // One that asks for much and never reads.
    let body = [
        b"Subject: big\r\n\r\n".to_vec(),
        b"0123456789abcdef\r\n".repeat(50_000),
    ]
    .concat();
    server
        .smtp()
        .deliver("a@x.test", &["alice@posthorn.test"], &body)
        .expect("250");
    let mut deaf = server.imap("alice@posthorn.test");
    deaf.ok("SELECT INBOX");
    for n in 0..200 {
        deaf.send(format!("d{n} FETCH 1 BODY.PEEK[]\r\n").as_bytes());
    }
    works(&server);
    drop(silent);
    drop(deaf);
    works(&server);
}
