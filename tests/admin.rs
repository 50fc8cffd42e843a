//! The administrator's commands on the real binary: with a server and without one.

#![allow(clippy::expect_used, clippy::panic)]

mod common;

use common::Server;
use common::cli::{Cli, configure};
use serde_json::{Value, json};

/// The same with a server and without.
fn works(cli: &Cli) {
    cli.ok(&["domain", "add", "Club.test"], "");
    cli.fails(1, &["domain", "add", "club.test"], "exists");
    cli.fails(2, &["domain", "add", "a b"], "not a mail domain");
    cli.fails(
        1,
        &["account", "add", "x@nowhere.test", "--password-stdin"],
        "posthorn domain add nowhere.test",
    );
    cli.fails(
        2,
        &["account", "add", "nonsense", "--password-stdin"],
        "not a mail address",
    );
    cli.ok(
        &["account", "add", "carol@club.test", "--password-stdin"],
        "secret\n",
    );
    cli.fails(
        1,
        &["account", "add", "CAROL@club.test", "--password-stdin"],
        "exists",
    );
    cli.ok(
        &["account", "passwd", "carol@club.test", "--password-stdin"],
        "other\n",
    );
    cli.fails(1, &["account", "show", "dave@club.test"], "no account");
    cli.ok(&["alias", "add", "board@club.test", "carol@club.test"], "");
    cli.fails(1, &["domain", "remove", "club.test"], "club.test");

    let list = cli.ok(&["account", "list"], "");
    let carol = list["accounts"]
        .as_array()
        .expect("accounts")
        .iter()
        .find(|a| a["address"] == "carol@club.test")
        .expect("carol");
    assert_eq!(carol["disabled"], false);
    let shown = cli.ok(&["account", "show", "carol@club.test"], "");
    assert_eq!(shown["account"]["aliases"], json!(["board@club.test"]));
    let mailboxes: Vec<&str> = shown["account"]["mailboxes"]
        .as_array()
        .expect("mailboxes")
        .iter()
        .filter_map(|m| m["name"].as_str())
        .collect();
    assert!(
        mailboxes.contains(&"INBOX") && mailboxes.contains(&"Sent"),
        "{mailboxes:?}"
    );
    assert_eq!(
        cli.ok(&["device", "list", "carol@club.test"], "")["devices"],
        json!([])
    );
    cli.fails(
        1,
        &["device", "remove", "carol@club.test", "7"],
        "no such device",
    );
    cli.fails(
        1,
        &["device", "test", "carol@club.test", "7"],
        "no such device",
    );

    // For people.
    let text = cli.run(&["alias", "list"], "").out;
    assert!(text.starts_with("ALIAS"), "{text}");
    assert!(text.contains("board@club.test  carol@club.test"), "{text}");

    // Removing asks, unless told not to; without a terminal it can't ask.
    cli.fails(2, &["account", "remove", "carol@club.test"], "--yes");
    cli.ok(&["alias", "remove", "board@club.test"], "");
    cli.fails(1, &["alias", "remove", "board@club.test"], "alias");
    cli.ok(&["account", "remove", "carol@club.test", "--yes"], "");
    cli.ok(&["domain", "remove", "club.test"], "");
    let error = cli.run(&["--json", "domain", "remove", "club.test"], "");
    assert_eq!(error.status, Some(1));
    let error: Value = serde_json::from_str(&error.out).expect("JSON");
    assert!(error["error"].as_str().expect("text").contains("club.test"));
}

#[test]
fn without_a_server() {
    let dir = tempfile::tempdir().expect("tempdir");
    let cli = configure(dir.path());
    works(&cli);
    let status = cli.ok(&["status"], "");
    assert_eq!(status["status"]["running"], false);
    assert_eq!(status["status"]["accounts"], 0);
}

#[test]
fn with_a_running_server() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    let cli = Cli {
        config: dir.join("posthorn.toml"),
    };
    let socket = std::fs::metadata(dir.join("admin.sock")).expect("admin.sock");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    works(&cli);
    let status = cli.ok(&["status"], "");
    assert_eq!(status["status"]["running"], true);
    assert_eq!(status["status"]["accounts"], 2);
    // What the command changed holds at once: a new password, the old one no more.
    cli.ok(
        &["account", "passwd", "bob@posthorn.test", "--password-stdin"],
        "new\n",
    );
    let mut imap = common::Imap::connect(server.port(common::IMAP)).expect("IMAP");
    let refused = imap.command("LOGIN bob@posthorn.test posthorn-demo").1;
    assert!(refused.starts_with("NO"), "{refused}");
    imap.ok("LOGIN bob@posthorn.test new");
    assert!(server.stop().success());
    assert!(!dir.join("admin.sock").exists());
    // The socket's absence is no obstacle.
    assert_eq!(cli.ok(&["status"], "")["status"]["running"], false);
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = taken.local_addr().expect("address");
    let cli = configure(dir.path());
    let mut text = std::fs::read_to_string(&cli.config).expect("read");
    text.push_str(&format!("[imap]\nlisten = [\"{addr}\"]\n"));
    std::fs::write(&cli.config, text).expect("write");
    cli.fails(
        1,
        &["serve"],
        &format!("imap.listen: can't listen on {addr}"),
    );
}
