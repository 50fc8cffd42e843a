//! SMTP as other servers and users meet it: headers of all sizes and none, who is at home, and
//! what is counted.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PASSWORD, PATIENCE, Server, Smtp};

/// A header that is longer than what stays in memory while a message comes in.
fn long_header() -> Vec<u8> {
    format!("X-Pad: {}\r\n", "x".repeat(990))
        .repeat(400)
        .into_bytes()
}

/// EHLO and AUTH PLAIN.
fn submission(server: &Server, user: &str) -> Smtp {
    use base64::Engine;
    let mut smtp = Smtp::connect(server.port(common::SUBMISSION)).expect("submission");
    smtp.command("EHLO client.test").expect("EHLO");
    let plain = format!("\0{user}\0{PASSWORD}");
    let plain = base64::engine::general_purpose::STANDARD.encode(plain);
    let reply = smtp.command(&format!("AUTH PLAIN {plain}")).expect("AUTH");
    assert!(reply.starts_with("235"), "{reply}");
    smtp
}

/// The only message in alice's INBOX.
fn only_message(server: &Server) -> String {
    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    let lines = imap.ok("FETCH 1:* BODY.PEEK[]");
    assert_eq!(lines.len(), 1);
    String::from_utf8_lossy(&lines[0].literals[0]).into_owned()
}

#[test]
fn a_loop_is_found_behind_a_long_header() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = server.smtp();
    for (hops, expected) in [(51, "554 5.4.6"), (50, "250")] {
        let mut message = long_header();
        message.extend(b"Received: from a by b; x\r\n".repeat(hops));
        message.extend_from_slice(b"\r\nReceived: in the body\r\n");
        let reply = smtp.deliver("a@x.test", &["alice@posthorn.test"], &message);
        let reply = reply.expect("reply");
        assert!(reply.starts_with(expected), "{hops}: {reply}");
    }
}

#[test]
fn what_stands_behind_a_long_header_is_not_added_again() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut message = long_header();
    message.extend_from_slice(b"date: Fri, 21 Nov 1997 09:55:06 +0000\r\nMESSAGE-ID : <a@b>\r\n");
    message.extend_from_slice(b"\r\nx\r\n");
    let mut smtp = submission(&server, "alice@posthorn.test");
    let reply = smtp.deliver("alice@posthorn.test", &["alice@posthorn.test"], &message);
    assert!(reply.expect("reply").starts_with("250"));
    let kept = only_message(&server).to_ascii_lowercase();
    assert_eq!(kept.matches("\r\ndate:").count(), 1);
    assert_eq!(kept.matches("\r\nmessage-id").count(), 1);
}

#[test]
fn a_body_without_a_header_stays_a_body() {
    // Behind our own lines: what was sent, with a blank line in front where it has no header.
    for (sent, blank) in [
        ("Hello Alice\r\nno: header\r\n", true),
        (" folded\r\nSubject: x\r\n\r\nx\r\n", true),
        ("\tfolded\r\n", true),
        ("a b: c\r\n", true),
        (": c\r\n", true),
        ("gr\u{fc}n: c\r\n", true),
        ("https\r\n://x.test\r\n", true),
        ("\r\nbody\r\n", false),
        ("\r\n folded\r\n", false),
        ("Subject : x\r\n\r\nx\r\n", false),
        // What a mailbox file put in front is passed over; the header behind it is one.
        ("From a Mon Jan 01\r\nTo: x\r\n\r\nx\r\n", false),
        ("From me to you\r\n\r\nx\r\n", true),
    ] {
        let home = tempfile::tempdir().expect("tempdir");
        let server = Server::start(&home.path().join("data"), &[]);
        let mut smtp = server.smtp();
        let reply = smtp.deliver("a@x.test", &["alice@posthorn.test"], sent.as_bytes());
        assert!(reply.expect("reply").starts_with("250"), "{sent:?}");
        let kept = only_message(&server);
        let trace = kept.strip_suffix(sent).expect("what was sent");
        assert_eq!(trace.ends_with("\r\n\r\n"), blank, "{sent:?} in {kept:?}");
        assert_eq!(trace.matches("\r\n\r\n").count(), usize::from(blank));
    }
}

#[test]
fn a_submitted_body_gets_a_header() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = submission(&server, "alice@posthorn.test");
    let message = b"Hello\r\nDate: none\r\n";
    let reply = smtp.deliver("alice@posthorn.test", &["alice@posthorn.test"], message);
    assert!(reply.expect("reply").starts_with("250"));
    let kept = only_message(&server);
    let (header, body) = kept.split_once("\r\n\r\n").expect("a header");
    assert_eq!(body, "Hello\r\nDate: none\r\n");
    assert!(header.contains("\r\nDate: ") && header.contains("\r\nMessage-ID: <"));
}

#[test]
fn postmaster_is_at_home_in_all_forms() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = server.smtp();
    for to in [
        "postmaster",
        "POSTMASTER",
        "Postmaster@posthorn.test",
        "postmaster@POSTHORN.Test",
        "\"Postmaster\"@posthorn.test",
    ] {
        let reply = smtp.deliver("", &[to], b"Subject: x\r\n\r\nx\r\n");
        let reply = reply.expect("reply");
        assert!(reply.starts_with("250"), "{to}: {reply}");
    }
    smtp.command("MAIL FROM:<>").expect("MAIL");
    let reply = smtp.command("RCPT TO:<postmaster@elsewhere.test>");
    assert!(reply.expect("reply").starts_with("550 5.7.1"));
}

/// Told why, or closed already.
fn ended(reply: &std::io::Result<String>) -> bool {
    let told = ["421 4.7.0", "530 5.7.0"];
    reply
        .as_ref()
        .map_or(true, |reply| told.iter().any(|t| reply.starts_with(t)))
}

#[test]
fn a_removed_account_sends_no_more() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    let transaction = [
        ("MAIL FROM:<bob@posthorn.test>", "250"),
        ("RCPT TO:<alice@posthorn.test>", "250"),
        ("DATA", "354"),
    ];
    // One between messages, one within a transaction, one whose message is coming in.
    let [mut between, mut within, mut sending] = [0, 2, 3].map(|steps| {
        let mut smtp = submission(&server, "bob@posthorn.test");
        for (line, expected) in &transaction[..steps] {
            let reply = smtp.command(line).expect("reply");
            assert!(reply.starts_with(expected), "{line}: {reply}");
        }
        smtp
    });
    let removed = Command::new(env!("CARGO_BIN_EXE_posthorn"))
        .arg("--config")
        .arg(dir.join("posthorn.toml"))
        .args(["account", "remove", "--yes", "bob@posthorn.test"])
        .status();
    assert!(removed.expect("posthorn runs").success());
    let message = "Subject: x\r\n\r\nx\r\n.";
    let reply = sending.command(message).expect("reply");
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    for smtp in [&mut between, &mut sending] {
        let reply = smtp.command("MAIL FROM:<bob@posthorn.test>");
        assert!(ended(&reply), "{reply:?}");
    }
    // Its session may hear of it before DATA or after.
    let reply = within.command("DATA");
    if reply.as_ref().is_ok_and(|reply| reply.starts_with("354")) {
        let reply = within.command(message).expect("reply");
        assert!(reply.starts_with("550 5.7.1"), "{reply}");
    } else {
        assert!(ended(&reply), "{reply:?}");
    }
    let lines = server
        .imap("alice@posthorn.test")
        .ok("STATUS INBOX (MESSAGES)");
    assert!(lines[0].text.contains("MESSAGES 0"), "{lines:?}");
}

fn metrics(server: &Server) -> String {
    server.http_get("/metrics").expect("metrics")
}

#[test]
fn refused_messages_and_failed_handshakes_are_counted() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = server.smtp();
    for message in [
        &b"a\nb\r\n"[..],
        b"a\0b\r\n",
        &b"Received: x\r\n".repeat(51),
    ] {
        let reply = smtp.deliver("a@x.test", &["alice@posthorn.test"], message);
        let reply = reply.expect("reply");
        assert!(reply.starts_with("55"), "{reply}");
    }
    let reply = smtp.deliver("a@x.test", &["alice@posthorn.test"], b"\r\nx\r\n");
    assert!(reply.expect("reply").starts_with("250"));
    let counted = metrics(&server);
    for line in [
        "posthorn_smtp_messages_total{result=\"refused\",role=\"mx\"} 3\n",
        "posthorn_smtp_messages_total{result=\"accepted\",role=\"mx\"} 1\n",
    ] {
        assert!(counted.contains(line), "{line}");
    }
    let failed = "posthorn_net_tls_handshakes_total{result=\"failed\",service=\"smtp\"}";
    assert!(counted.contains(&format!("{failed} 0\n")));
    let reply = smtp.command("STARTTLS").expect("STARTTLS");
    assert!(reply.starts_with("220"), "{reply}");
    smtp.send(b"NOOP\r\nNOOP\r\nNOOP\r\n").expect("write");
    // Whatever comes, it is no reply; then it is closed.
    let _ = smtp.reply();
    until(|| metrics(&server).contains(&format!("{failed} 1\n")));
}

#[test]
fn refused_commands_are_counted_by_reason() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = server.smtp();
    for (command, code) in [
        ("RCPT TO:<alice@posthorn.test>", "503"),
        ("MAIL FROM:<a@x.test> SIZE=99999999999", "552 5.3.4"),
        ("MAIL FROM:<a@x.test> NONSENSE=1", "55"),
        ("MAIL FROM:<a@x.test>", "250"),
        ("RCPT TO:<nobody@posthorn.test>", "550 5.1.1"),
        ("RCPT TO:<a@elsewhere.test>", "550 5.7.1"),
        ("RCPT TO:<b@elsewhere.test>", "550 5.7.1"),
    ] {
        let reply = smtp.command(command).expect("reply");
        assert!(reply.starts_with(code), "{command}: {reply}");
    }
    let mut smtp = Smtp::connect(server.port(common::SUBMISSION)).expect("submission");
    smtp.command("EHLO x.test").expect("reply");
    let reply = smtp.command("MAIL FROM:<a@x.test>").expect("reply");
    assert!(reply.starts_with("530"), "{reply}");
    let counted = metrics(&server);
    for (reason, role, count) in [
        ("sequence", "mx", 1),
        ("too_large", "mx", 1),
        ("syntax", "mx", 1),
        ("unknown_user", "mx", 1),
        ("relay", "mx", 2),
        ("login_required", "mx", 0),
        ("login_required", "submission", 1),
    ] {
        let line = format!(
            "posthorn_smtp_refusals_total{{reason=\"{reason}\",role=\"{role}\"}} {count}\n"
        );
        assert!(counted.contains(&line), "{line}");
    }
}

/// `protocol`, `state`, how many.
fn count(server: &Server, protocol: &str, state: &str) -> u32 {
    let name = format!("posthorn_connections{{protocol=\"{protocol}\",state=\"{state}\"}} ");
    let metrics = metrics(server);
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    let value = value.unwrap_or_else(|| panic!("{name} is not there"));
    value.parse().expect("a number")
}

fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < end, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_are_counted_by_protocol_and_state() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let greeted = Smtp::connect(server.port(common::SMTP)).expect("SMTP");
    let mut ready = server.smtp();
    let mut receiving = server.smtp();
    receiving.command("MAIL FROM:<>").expect("MAIL");
    receiving
        .command("RCPT TO:<alice@posthorn.test>")
        .expect("RCPT");
    let mut transaction = server.smtp();
    transaction.command("MAIL FROM:<>").expect("MAIL");
    receiving.command("DATA").expect("DATA");
    let user = submission(&server, "alice@posthorn.test");
    let mut reader = server.imap("alice@posthorn.test");
    reader.ok("SELECT INBOX");
    let silent = std::net::TcpStream::connect(("127.0.0.1", server.port(common::HTTP)));
    let silent = silent.expect("HTTP");
    let states = [
        ("imap", "not_authenticated", 0),
        ("imap", "idle", 0),
        ("smtp", "greeting", 1),
        ("smtp", "ready", 1),
        ("smtp", "transaction", 1),
        ("smtp", "message", 1),
        ("submission", "greeting", 0),
        ("submission", "authenticated", 1),
        ("submission", "message", 0),
        ("imap", "authenticated", 0),
        ("imap", "selected", 1),
        ("http", "idle", 1),
        // The one that asks.
        ("http", "active", 1),
    ];
    for (protocol, state, expected) in &states {
        until(|| count(&server, protocol, state) == *expected);
    }
    receiving.send(b"x\r\n.\r\n").expect("write");
    receiving.reply().expect("250");
    ready.command("QUIT").expect("QUIT");
    until(|| count(&server, "smtp", "ready") == 1 && count(&server, "smtp", "message") == 0);
    drop((greeted, receiving, transaction, user, reader, silent));
    for (protocol, state, _) in states {
        let left = u32::from((protocol, state) == ("http", "active"));
        until(|| count(&server, protocol, state) == left);
    }
}

#[test]
fn the_reply_to_a_chunk_that_is_too_large_arrives() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut smtp = server.smtp();
    // Its first part is under way before the answer can be.
    let mut chunk = b"BDAT 4000000000 LAST\r\n".to_vec();
    chunk.resize(2 << 20, b'x');
    smtp.send(&chunk).expect("somebody reads it");
    let reply = smtp.reply().expect("reply");
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    // An end, not a reset that takes away what was not read yet.
    let mut rest = Vec::new();
    smtp.stream.read_to_end(&mut rest).expect("end of stream");
    assert!(rest.is_empty());
}

#[test]
fn names_that_are_none_do_not_stand_in_received() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let names = [
        (":", "[127.0.0.1]"),
        ("[", "[127.0.0.1]"),
        ("[]", "[127.0.0.1]"),
        ("[x]y]", "[127.0.0.1]"),
        ("a..b", "[127.0.0.1]"),
        ("x:y", "[127.0.0.1]"),
        ("my_host", "my_host"),
        ("Client.test.", "Client.test"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ];
    for (n, (name, shown)) in names.into_iter().enumerate() {
        let mut smtp = Smtp::connect(server.port(common::SMTP)).expect("SMTP");
        let reply = smtp.command(&format!("EHLO {name}")).expect("reply");
        assert!(reply.starts_with("250"), "{name}: {reply}");
        let reply = smtp.deliver("a@x.test", &["alice@posthorn.test"], b"Subject: x\r\n\r\n");
        assert!(reply.expect("reply").starts_with("250"), "{name}");
        let mut imap = server.imap("alice@posthorn.test");
        imap.ok("SELECT INBOX");
        let lines = imap.ok(&format!("FETCH {} BODY.PEEK[]", n + 1));
        let message = String::from_utf8_lossy(&lines[0].literals[0]).into_owned();
        let from = format!("\r\nReceived: from {shown} ([127.0.0.1])\r\n");
        assert!(
            message.to_lowercase().contains(&from.to_lowercase()),
            "{name}: {message}"
        );
    }
}
