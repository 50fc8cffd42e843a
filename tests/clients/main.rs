//! Programs that people use, against the real binary. Each is skipped loudly where it is not
//! installed; the CI script installs them all.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod curl;
mod getmail;
mod imapflow;
mod mutt;
mod offlineimap;
mod openssl;
mod python;
mod trace;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{PASSWORD, Server, have};

const ALICE: &str = "alice@posthorn.test";

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs no longer than a disk can stall that others write to; it only keeps a broken test from
/// hanging.
fn patient(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["180", program]);
    command
}

fn demo() -> (tempfile::TempDir, Server) {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    (home, server)
}

/// For alice.
fn give_quota(home: &tempfile::TempDir) {
    let config = home.path().join("data/posthorn.toml");
    let limits = ["--bytes", "1M", "--messages", "100"];
    let command = [&["account", "quota", ALICE][..], &limits].concat();
    common::cli::Cli { config }.ok(&command, "");
}

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python_has(module: &str) -> bool {
    have("python3") && {
        let there = Command::new("python3")
            .args(["-c", &format!("import {module}")])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
        if !there {
            common::skipped(&format!("python3 has no module {module}"));
        }
        there
    }
}

/// What swaks needs for TLS.
fn perl_has(module: &str) -> bool {
    let there = Command::new("perl")
        .args([&format!("-M{module}"), "-e", "1"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !there {
        common::skipped(&format!("perl has no module {module}"));
    }
    there
}

#[test]
fn web_push_is_decrypted_by_http_ece() {
    if !python_has("http_ece") {
        return;
    }
    let (_home, server) = demo();
    run(Command::new("python3")
        .arg(script("webpush.py"))
        .args([common::HTTP, common::SMTP, common::IMAP].map(|p| server.port(p).to_string())));
}

#[test]
fn swaks_starttls_auth_pipelining() {
    if !have("swaks") || !perl_has("Net::SSLeay") {
        return;
    }
    let (_home, server) = demo();
    let swaks = |port: u16, extra: &[&str]| {
        run(Command::new("swaks")
            .args([
                "--server",
                "127.0.0.1",
                "--port",
                &server.port(port).to_string(),
            ])
            .args(["--from", "alice@posthorn.test", "--to", "bob@posthorn.test"])
            .args(extra))
    };
    let auth = [
        "--auth-user",
        "alice@posthorn.test",
        "--auth-password",
        PASSWORD,
    ];
    swaks(common::SMTP, &[]);
    swaks(common::SMTP, &["--pipeline"]);
    swaks(common::SMTP, &["-tls", "--pipeline"]);
    for mechanism in ["PLAIN", "LOGIN"] {
        swaks(
            common::SUBMISSION,
            &[&["-tls", "--auth", mechanism], &auth[..]].concat(),
        );
        swaks(
            common::SUBMISSIONS,
            &[&["-tlsc", "--auth", mechanism], &auth[..]].concat(),
        );
    }
    let mut imap = server.imap("bob@posthorn.test");
    let lines = imap.ok("SELECT INBOX");
    assert!(lines.iter().any(|l| l.text == "* 7 EXISTS"), "{lines:?}");
    let metrics = server.http_get("/metrics").expect("metrics");
    for (service, handshakes) in [("smtp", 1), ("submission", 4)] {
        let done = format!(
            "posthorn_net_tls_handshakes_total{{result=\"done\",service=\"{service}\"}} {handshakes}\n"
        );
        assert!(metrics.contains(&done), "{done}");
    }
}

#[test]
fn promtool_likes_the_metrics() {
    if !have("promtool") {
        return;
    }
    let (_home, server) = demo();
    server.smtp().command("EHLO x.test").expect("EHLO");
    server
        .smtp()
        .deliver(
            "a@example.net",
            &["alice@posthorn.test"],
            b"Subject: m\r\n\r\nm\r\n",
        )
        .expect("250");
    server.imap("alice@posthorn.test").ok("SELECT INBOX");
    let page = server.http_get("/metrics").expect("metrics");
    let (head, body) = page.split_once("\r\n\r\n").expect("head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(body.as_bytes())
        .expect("write");
    let output = child.wait_with_output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{body}"
    );
}

fn mbsync(config: &Path) -> String {
    let output = run(Command::new("mbsync").args(["-a", "-V", "-c"]).arg(config));
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn files(dir: &Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).expect("dir") {
            let entry = entry.expect("entry");
            let kind = entry.file_type().expect("type");
            let name = entry.path().display().to_string();
            if kind.is_dir() {
                todo.push(entry.path());
            } else if name.contains("/cur/") || name.contains("/new/") {
                all.push((name, entry.metadata().expect("metadata").len()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn mbsync_two_ways_500_messages_twice() {
    if !have("mbsync") {
        return;
    }
    let (home, server) = demo();
    let mut smtp = server.smtp();
    smtp.command("EHLO load.test").expect("EHLO");
    for n in 0..500 {
        let message = format!("Subject: {n}\r\nMessage-ID: <{n}@load.test>\r\n\r\nbody {n}\r\n");
        let reply = smtp.deliver(
            "a@example.net",
            &["alice@posthorn.test"],
            message.as_bytes(),
        );
        assert!(reply.expect("reply").starts_with("250"));
    }
    let maildir = home.path().join("mail");
    std::fs::create_dir(&maildir).expect("mkdir");
    let config = home.path().join("mbsyncrc");
    let text = format!(
        "IMAPStore far\nHost 127.0.0.1\nPort {}\nUser alice@posthorn.test\nPass {PASSWORD}\n\
         SSLType None\nAuthMechs LOGIN\n\nMaildirStore near\nPath {m}/\nInbox {m}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
        server.port(common::IMAP),
        m = maildir.display()
    );
    std::fs::write(&config, text).expect("write");
    mbsync(&config);
    let first = files(&maildir);
    assert_eq!(first.len(), 500);
    mbsync(&config);
    assert_eq!(files(&maildir), first, "the second run changed something");

    // The other way: a new local message, a flag, a deletion.
    let inbox = maildir.join("INBOX");
    std::fs::write(inbox.join("new/1.local.x"), "Subject: local\n\nfrom here\n").expect("write");
    let one = first
        .iter()
        .find(|(n, _)| n.contains("/INBOX/"))
        .expect("one")
        .0
        .clone();
    let name = Path::new(&one)
        .file_name()
        .expect("name")
        .to_string_lossy()
        .into_owned();
    let stem = name.split(":2,").next().expect("stem");
    std::fs::rename(&one, inbox.join("cur").join(format!("{stem}:2,FS"))).expect("rename");
    let two = first
        .iter()
        .filter(|(n, _)| n.contains("/INBOX/"))
        .nth(1)
        .expect("two")
        .0
        .clone();
    std::fs::remove_file(two).expect("remove");
    mbsync(&config);
    let mut imap = server.imap("alice@posthorn.test");
    let lines = imap.ok("STATUS INBOX (MESSAGES UNSEEN)");
    assert!(lines[0].text.contains("MESSAGES 500"), "{lines:?}");
    imap.ok("SELECT INBOX");
    let lines = imap.ok("SEARCH FLAGGED SEEN");
    assert_eq!(lines[0].text.split(' ').count(), 3, "{lines:?}");
    let lines = imap.ok("SEARCH SUBJECT local");
    assert_eq!(lines[0].text.split(' ').count(), 3, "{lines:?}");
    let before = files(&maildir);
    mbsync(&config);
    assert_eq!(files(&maildir), before, "the last run changed something");
}
