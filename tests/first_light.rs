//! The main job, end to end, on the real binary: mail comes in, is kept, is read, and the
//! phone is told.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Imap, PASSWORD, Server};

#[test]
fn mail_appears_in_an_idling_client_and_survives_a_restart() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    let base = server.base;

    let mut idle = server.imap("alice@posthorn.test");
    let lines = idle.ok("SELECT INBOX");
    assert!(lines.iter().any(|l| l.text == "* 0 EXISTS"), "{lines:?}");
    let validity = |lines: &[common::Line]| {
        lines
            .iter()
            .find(|l| l.text.contains("UIDVALIDITY"))
            .map(|l| l.text.clone())
            .expect("UIDVALIDITY")
    };
    let before = validity(&lines);
    idle.send(b"i IDLE\r\n");
    assert!(idle.line().expect("+").text.starts_with('+'));

    let message = b"From: Carol <carol@example.net>\r\nSubject: First light\r\n\r\n.dot\r\n..two\r\n\r\nend\r\n";
    let mut smtp = server.smtp();
    smtp.command("EHLO client.test").expect("EHLO");
    let reply = smtp
        .deliver("carol@example.net", &["alice@posthorn.test"], message)
        .expect("reply");
    assert!(reply.starts_with("250 2."), "{reply}");
    loop {
        let line = idle.line().expect("line").text;
        if line == "* 1 EXISTS" {
            break;
        }
        assert!(line.starts_with("* "), "{line}");
    }
    // DONE in pieces, in lower case, with a command behind it.
    idle.send(b"do");
    idle.send(b"ne\r\nj NOOP\r\n");
    assert!(idle.until("i").1.starts_with("OK"));
    assert!(idle.until("j").1.starts_with("OK"));

    assert!(server.stop().success());
    let server = Server::start_at(&dir, base, &[]);
    let mut imap = server.imap("alice@posthorn.test");
    let lines = imap.ok("SELECT INBOX");
    assert_eq!(validity(&lines), before);
    let lines = imap.ok("FETCH 1 (UID BODY.PEEK[])");
    assert!(lines[0].text.contains("UID 1"), "{lines:?}");
    let raw = &lines[0].literals[0];
    assert!(raw.ends_with(message), "{}", String::from_utf8_lossy(raw));
    let text = String::from_utf8_lossy(raw);
    assert!(
        text.starts_with("Return-Path: <carol@example.net>\r\n"),
        "{text}"
    );
    assert!(
        text.contains("\r\nDelivered-To: alice@posthorn.test\r\n"),
        "{text}"
    );
    assert!(text.contains("\r\nReceived: from client.test"), "{text}");
}

#[test]
fn mail_that_came_between_select_and_idle_is_announced_at_once() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut imap = server.imap("bob@posthorn.test");
    imap.ok("SELECT INBOX");
    server
        .smtp()
        .deliver("a@example.net", &["bob@posthorn.test"], b"\r\nx\r\n")
        .expect("250");
    imap.send(b"i IDLE\r\n");
    let mut seen = Vec::new();
    while !seen.contains(&"* 1 EXISTS".to_owned()) {
        seen.push(imap.line().expect("line").text);
    }
    imap.send(b"DONE\r\n");
    assert!(imap.until("i").1.starts_with("OK"));
}

#[test]
fn the_demo_phone_rings() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    let message = b"From: Carol <carol@example.net>\r\nSubject: Ring\r\n\r\nring\r\n";
    let until = std::time::Instant::now() + common::PATIENCE;
    server
        .smtp()
        .deliver("carol@example.net", &["alice@posthorn.test"], message)
        .expect("250");
    loop {
        let log = std::fs::read_to_string(dir.with_extension("log")).expect("log");
        if log.lines().any(|l| {
            l.contains("woke")
                && l.contains("Carol")
                && l.contains("INBOX, ")
                && l.ends_with("ms after 250")
        }) {
            break;
        }
        assert!(
            std::time::Instant::now() < until,
            "the phone did not ring:\n{log}"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn imap_over_starttls_only_where_login_is_not_allowed_before() {
    // Without --insecure-login: no password in the clear.
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start_secure(&home.path().join("data"));
    let mut imap = Imap::connect(server.port(common::IMAP)).expect("IMAP");
    let caps = imap.ok("CAPABILITY");
    assert!(
        caps[0].text.contains("LOGINDISABLED") && caps[0].text.contains("STARTTLS"),
        "{caps:?}"
    );
    let (_, tagged) = imap.command(&format!("LOGIN alice@posthorn.test {PASSWORD}"));
    assert!(tagged.starts_with("NO [PRIVACYREQUIRED]"), "{tagged}");
    let mut smtp = common::Smtp::connect(server.port(common::SUBMISSION)).expect("submission");
    let ehlo = smtp.command("EHLO x.test").expect("EHLO");
    assert!(
        !ehlo.contains("AUTH") && ehlo.contains("STARTTLS"),
        "{ehlo}"
    );
    // CVE-2011-0411: what came in the clear behind STARTTLS is never answered after it.
    smtp.send(b"STARTTLS\r\nNOOP\r\nNOOP\r\n").expect("write");
    assert!(smtp.reply().expect("220").starts_with("220"));
    smtp.stream
        .get_ref()
        .set_read_timeout(Some(std::time::Duration::from_millis(300)))
        .expect("timeout");
    assert!(
        smtp.reply().is_err(),
        "an answer in the clear after STARTTLS"
    );
}
