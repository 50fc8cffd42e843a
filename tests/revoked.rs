//! Whoever is removed, or has a new password, is logged out at once; everybody else stays.

#![allow(clippy::expect_used, clippy::panic)]

mod common;

use common::cli::Cli;
use common::{Imap, PASSWORD, SUBMISSION, Server, Smtp};

fn start(home: &std::path::Path) -> (Server, Cli) {
    let dir = home.join("data");
    let server = Server::start(&dir, &[]);
    let config = dir.join("posthorn.toml");
    (server, Cli { config })
}

fn submission(server: &Server, user: &str) -> Smtp {
    use base64::Engine;
    let mut smtp = Smtp::connect(server.port(SUBMISSION)).expect("submission");
    smtp.command("EHLO client.test").expect("EHLO");
    let plain = format!("\0{user}@posthorn.test\0{PASSWORD}");
    let plain = base64::engine::general_purpose::STANDARD.encode(plain);
    let reply = smtp.command(&format!("AUTH PLAIN {plain}")).expect("AUTH");
    assert!(reply.starts_with("235"), "{reply}");
    smtp
}

/// The next line is BYE, and then the connection ends.
fn says_bye(imap: &mut Imap) {
    let line = imap.line().expect("a line").text;
    assert!(line.starts_with("* BYE"), "{line}");
    assert!(imap.line().is_err(), "more behind BYE");
}

/// However far a session of `alice` is, it ends; one of bob's goes on.
fn all_end(server: &Server, change: impl FnOnce()) {
    let alice = "alice@posthorn.test";
    let mut idle = server.imap(alice);
    idle.ok("SELECT INBOX");
    idle.send(b"i IDLE\r\n");
    assert!(idle.line().expect("a line").text.starts_with('+'));
    let mut quiet = server.imap(alice);
    quiet.ok("SELECT INBOX");
    let mut appending = server.imap(alice);
    appending.send(b"a APPEND INBOX {100}\r\n");
    assert!(appending.line().expect("a line").text.starts_with('+'));
    appending.send(b"Subject: half\r\n");
    let mut other = server.imap("bob@posthorn.test");
    other.ok("SELECT INBOX");

    let mut silent = submission(server, "alice");
    let mut sending = submission(server, "alice");
    for line in [
        "MAIL FROM:<alice@posthorn.test>",
        "RCPT TO:<bob@posthorn.test>",
    ] {
        assert!(sending.command(line).expect("reply").starts_with("250"));
    }
    assert!(sending.command("DATA").expect("reply").starts_with("354"));
    sending.send(b"Subject: too late\r\n").expect("write");
    let mut others = submission(server, "bob");

    change();

    says_bye(&mut idle);
    says_bye(&mut quiet);
    says_bye(&mut appending);
    let reply = silent.reply().expect("reply");
    assert!(reply.starts_with("421 4.7.0"), "{reply}");
    assert!(silent.reply().is_err());
    sending.send(b"\r\nx\r\n.\r\n").expect("write");
    let reply = sending.reply().expect("reply");
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    let reply = sending.reply().expect("reply");
    assert!(reply.starts_with("421 4.7.0"), "{reply}");

    other.ok("NOOP");
    let reply = others.deliver(
        "bob@posthorn.test",
        &["bob@posthorn.test"],
        b"Subject: mine\r\n\r\nx\r\n",
    );
    assert!(reply.expect("reply").starts_with("250"));
    let lines = other.ok("NOOP");
    assert_eq!(lines[0].text, "* 1 EXISTS", "only bob's own mail came");
}

#[test]
fn sessions_end_with_their_account() {
    let home = tempfile::tempdir().expect("tempdir");
    let (server, cli) = start(home.path());
    all_end(&server, || {
        cli.ok(&["account", "remove", "alice@posthorn.test", "--yes"], "");
    });
}

#[test]
fn sessions_end_with_their_password() {
    let home = tempfile::tempdir().expect("tempdir");
    let (server, cli) = start(home.path());
    let passwd = [
        "account",
        "passwd",
        "alice@posthorn.test",
        "--password-stdin",
    ];
    all_end(&server, || {
        cli.ok(&passwd, "new\n");
    });
    let mut again = Imap::connect(server.port(common::IMAP)).expect("IMAP");
    again.ok("LOGIN alice@posthorn.test new");
    again.ok("SELECT INBOX");
    // Other changes of the directory are nobody's end.
    cli.ok(&["domain", "add", "club.test"], "");
    cli.ok(
        &["alias", "add", "all@club.test", "alice@posthorn.test"],
        "",
    );
    again.ok("NOOP");
}
