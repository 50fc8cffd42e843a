//! Stores that releases have left behind: every later one reads them.
//!
//! A new one is made with
//! `POSTHORN_MAKE=0.2 cargo test --test stores -- --ignored make_a_store`
//! which leaves `tests/stores/0.2/` with the store as `kill -9` left it, and beside it what is in
//! it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::serve::{AUTH, Serving, configuration};
use common::{Imap, Line, PASSWORD, Smtp};

fn stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores")
}

fn login(serving: &Serving, user: &str) -> Imap {
    let mut imap = Imap::connect(serving.base + common::IMAP).unwrap();
    imap.ok(&format!("LOGIN {user}@posthorn.test {PASSWORD}"));
    imap
}

/// Everything that can be seen of a store, as text. Bodies are in it by length and checksum.
/// What is told of a mailbox since the first release, and is the same each time.
fn told_of_old(line: &&Line) -> bool {
    let new = ["RECENT", "[HIGHESTMODSEQ ", "[MAILBOXID ", "[URLMECH "];
    !new.iter().any(|new| line.text.contains(new))
}

fn seen(serving: &Serving) -> String {
    let mut text = String::new();
    let commands: [&[&str]; 4] = [
        &["domain", "list"],
        &["account", "list"],
        &["alias", "list"],
        &["device", "list", "alice@posthorn.test"],
    ];
    for command in commands {
        let _ = writeln!(text, "{command:?} {}", serving.cli.ok(command, ""));
    }
    for user in ["alice", "bob"] {
        let mut imap = login(serving, user);
        let mut names = Vec::new();
        for line in imap.ok("LIST \"\" \"*\" RETURN (SUBSCRIBED SPECIAL-USE)") {
            names.push(line.text.rsplit(" \"/\" ").next().unwrap().to_owned());
            let _ = writeln!(text, "{user} {}", line.text);
        }
        for line in imap.ok("LIST (SUBSCRIBED) \"\" \"*\"") {
            let _ = writeln!(text, "{user} {}", line.text);
        }
        for name in names {
            let lines = imap.ok(&format!("EXAMINE {name}"));
            for line in lines.iter().filter(told_of_old) {
                let _ = writeln!(text, "{user} {name} {}", line.text);
            }
            let items = "UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[]";
            let (lines, _) = imap.command(&format!("UID FETCH 1:* ({items})"));
            for line in lines.iter().filter(|line| line.text.contains("FETCH")) {
                let _ = write!(
                    text,
                    "{user} {name} {}",
                    line.text.replace(" \\Recent", "").replace("\\Recent", "")
                );
                for literal in &line.literals {
                    let sum = crc32fast::hash(literal);
                    let _ = write!(text, " {} {sum:08x}", literal.len());
                }
                text.push('\n');
            }
        }
    }
    text
}

/// A body that takes more than 4 MiB in the log would take as much here: this one has a file of
/// its own for its length, and shrinks in it.
fn large() -> Vec<u8> {
    let line = format!("{}\r\n", "The same line, again and again. ".repeat(8));
    let mut text = b"From: c@example.org\r\nSubject: large\r\n\r\n".to_vec();
    while text.len() < 5 << 20 {
        text.extend_from_slice(line.as_bytes());
    }
    text
}

fn work(serving: &Serving) {
    let cli = &serving.cli;
    cli.ok(&["domain", "add", "other.test"], "");
    cli.ok(
        &[
            "alias",
            "add",
            "info@other.test",
            "alice@posthorn.test",
            "bob@posthorn.test",
        ],
        "",
    );
    let mut smtp = Smtp::connect(serving.base + common::SMTP).unwrap();
    smtp.command("EHLO client.test").unwrap();
    let mut send = |to: &str, text: &[u8]| {
        let reply = smtp.deliver("c@example.org", &[to], text).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    };
    for n in 0..12 {
        let text = format!(
            "From: Carol <c@example.org>\r\nSubject: =?utf-8?Q?m=C3=BC_{n}?=\r\n\
             Message-ID: <{n}@example.org>\r\n\r\n{}\r\n",
            "Text. ".repeat(n * n)
        );
        send("info@other.test", text.as_bytes());
    }
    send("alice@posthorn.test", &large());
    let mut imap = login(serving, "alice");
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1:3 +FLAGS (\\Seen \\Flagged)");
    imap.ok("STORE 4 +FLAGS ($Work Later)");
    imap.ok("CREATE Projects/One");
    imap.ok("COPY 2:4,13 Projects/One");
    imap.ok("MOVE 7 Archive");
    imap.ok("STORE 5:6 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.ok("SUBSCRIBE Elsewhere");
    imap.ok("UNSUBSCRIBE Junk");
    imap.ok("CREATE Gone");
    imap.ok("DELETE Gone");
    imap.ok("RENAME Projects Plans");
    let text = "Subject: kept\r\n\r\nby APPEND\r\n";
    let size = text.len();
    imap.ok(&format!(
        "APPEND Drafts (\\Draft $Mine) \"03-Feb-1999 04:05:06 -0700\" {{{size}+}}\r\n{text}"
    ));
    cli.ok(&["store", "image"], "");
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1 -FLAGS (\\Flagged)");
}

fn start(home: &Path) -> Serving {
    let base = common::free_base();
    let config = home.join("posthorn.toml");
    std::fs::write(&config, configuration(base, "data", AUTH)).unwrap();
    let cli = common::cli::Cli { config };
    Serving::launch(home, base, cli, |_| {})
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-R").args([from, to]).status();
    assert!(copied.unwrap().success());
}

#[test]
#[ignore = "makes a store of this release, for later ones"]
fn make_a_store() {
    let name = std::env::var("POSTHORN_MAKE").expect("POSTHORN_MAKE=<release>");
    let dir = stores().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let home = tempfile::tempdir().unwrap();
    let text = |base| {
        let more = "ballast_bytes = 0";
        configuration(base, "data", AUTH).replace("[store]\n", &format!("[store]\n{more}\n"))
    };
    let mut serving = Serving::start_with(home.path(), text);
    work(&serving);
    std::fs::write(dir.join("seen.txt"), seen(&serving)).unwrap();
    serving.child.kill().unwrap();
    serving.child.wait().unwrap();
    let data = home.path().join("data");
    for not_kept in ["admin.sock", "lock", "tls/key.pem"] {
        let _ = std::fs::remove_file(data.join(not_kept));
    }
    copy(&data, &dir.join("store"));
}

#[test]
fn what_earlier_releases_have_left_is_read() {
    let mut all = 0;
    for entry in std::fs::read_dir(stores()).unwrap() {
        let made = entry.unwrap().path();
        let want = std::fs::read_to_string(made.join("seen.txt")).unwrap();
        // With its index, and from log and image alone.
        for without_index in [false, true] {
            let home = tempfile::tempdir().unwrap();
            let data = home.path().join("data");
            copy(&made.join("store"), &data);
            if without_index {
                std::fs::remove_dir_all(data.join("index")).unwrap();
            }
            let serving = start(home.path());
            let got = seen(&serving);
            for (got, want) in got.lines().zip(want.lines()) {
                assert_eq!(got, want, "{}", made.display());
            }
            assert_eq!(got.lines().count(), want.lines().count());
            // An index of an older layout is built anew too.
            assert!(!without_index || serving.log().contains("the index is rebuilt"));
            let check = serving.cli.run(&["store", "check", "--deep"], "");
            assert_eq!(check.status, Some(0), "{} {}", check.out, check.err);
        }
        all += 1;
    }
    assert!(all > 0, "there is none");
}
