//! What looks after the store, on the real binary: images, compaction, checks, damaged bodies.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::Server;
use common::cli::Cli;

/// Noise in letters, which does not get much smaller.
fn message(n: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(n) + 1;
    let mut text = format!("Subject: m{n}\r\n\r\n").into_bytes();
    for at in 0..len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push(b'0' + ((state >> 40) % 75) as u8);
        if at % 70 == 69 {
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn fill(server: &Server, count: u32, len: usize) {
    let mut smtp = server.smtp();
    for n in 0..count {
        let reply = smtp
            .deliver("k@example.net", &["alice@posthorn.test"], &message(n, len))
            .expect("reply");
        assert!(reply.starts_with("250"), "{reply}");
    }
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("log")).expect("log").flatten();
    let mut files: Vec<_> = entries.map(|e| e.path()).collect();
    files.sort();
    files
}

fn log_bytes(dir: &Path) -> u64 {
    let files = log_files(dir).into_iter();
    files.map(|f| f.metadata().expect("metadata").len()).sum()
}

/// A bit in the middle of the body that holds `text`.
fn strike(dir: &Path, text: &[u8]) {
    for path in log_files(dir) {
        let bytes = std::fs::read(&path).expect("read");
        if let Some(at) = bytes.windows(text.len()).position(|w| w == text) {
            let file = std::fs::File::options()
                .write(true)
                .open(&path)
                .expect("open");
            file.write_all_at(&[text[0] ^ 1], at as u64).expect("write");
            return;
        }
    }
    panic!("no such body");
}

fn cli(dir: &Path) -> Cli {
    Cli {
        config: dir.join("posthorn.toml"),
    }
}

#[test]
fn the_room_of_expunged_mail_comes_back_while_mail_is_read() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    fill(&server, 400, 8000);
    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    for n in 1..=200 {
        imap.ok(&format!("STORE {} +FLAGS.SILENT (\\Deleted)", 2 * n));
    }
    imap.ok("EXPUNGE");
    let before = imap.ok("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])");
    let full = log_bytes(&dir);
    let cli = cli(&dir);
    let done = cli.ok(&["store", "compact"], "");
    assert!(done["compacted"]["segments"].as_u64() > Some(0), "{done}");
    assert!(
        log_bytes(&dir) * 10 < full * 7,
        "{} {full}",
        log_bytes(&dir)
    );
    let after = imap.ok("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])");
    assert_eq!(after.len(), before.len());
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(a, b)| a.literals == b.literals)
    );
    let report = cli.ok(&["store", "check", "--deep"], "");
    assert_eq!(report["report"]["ok"], true, "{report}");
    assert_eq!(report["report"]["bodies_read"], 200);
    drop(imap);
    server.kill();
    let server = Server::start(&dir, &[]);
    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    let again = imap.ok("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])");
    assert!(
        before
            .iter()
            .zip(&again)
            .all(|(a, b)| a.literals == b.literals)
    );
}

#[test]
fn a_damaged_body_is_told_and_costs_no_other() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    fill(&server, 3, 400);
    server.kill();
    let body = message(1, 400);
    strike(&dir, &body[40..100]);
    let server = Server::start(&dir, &[]);
    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    let (lines, tagged) = imap.command("FETCH 1:3 (UID BODY.PEEK[])");
    assert!(tagged.starts_with("NO [SERVERBUG]"), "{tagged}");
    let fetched: Vec<_> = lines.iter().filter(|l| l.text.contains("FETCH")).collect();
    assert_eq!(fetched.len(), 3);
    assert!(
        fetched[1].text.contains("BODY[] NIL"),
        "{}",
        fetched[1].text
    );
    for (n, line) in [(0, fetched[0]), (2, fetched[2])] {
        assert!(line.literals[0].ends_with(&message(n, 400)));
    }
    // Nobody has seen it, though it was asked for (RFC 9051, 6.4.5).
    for command in ["BODY[]", "(FLAGS BODY[TEXT])", "BODY[]<0.10>"] {
        let (lines, tagged) = imap.command(&format!("FETCH 2 {command}"));
        assert!(tagged.starts_with("NO [SERVERBUG]"), "{tagged}");
        let told = lines.iter().rfind(|l| l.text.contains("FLAGS"));
        assert!(
            told.is_none_or(|l| !l.text.contains("Seen")),
            "{command}: {lines:?}"
        );
        let seen = imap.ok("FETCH 2 FLAGS");
        assert!(!seen[0].text.contains("Seen"), "{command}: {seen:?}");
    }
    let (lines, _) = imap.command("FETCH 1:2 BODY[]");
    assert!(lines[0].text.contains("Seen"), "{lines:?}");
    assert_eq!(imap.ok("SEARCH SEEN")[0].text, "* SEARCH 1");
    // What is known without the body is told as ever.
    imap.ok("FETCH 2 (FLAGS ENVELOPE RFC822.SIZE)");
    let metrics = server.http_get("/metrics").expect("metrics");
    assert!(metrics.contains("posthorn_store_quarantined_bodies 1"));
    let cli = cli(&dir);
    let answer = cli.run(&["--json", "store", "check", "--deep"], "");
    assert_eq!(answer.status, Some(1));
    for text in ["alice@posthorn.test", "\"INBOX\"", "\"uid\":2"] {
        assert!(answer.out.contains(text), "{}", answer.out);
    }
    // Without a server as well, and it is remembered.
    server.stop();
    let answer = cli.run(&["store", "check"], "");
    assert_eq!(answer.status, Some(1), "{}", answer.out);
    assert!(answer.out.contains("INBOX UID 2"), "{}", answer.out);
}

#[test]
fn what_is_removed_is_in_no_file_any_more() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let server = Server::start(&dir, &[]);
    let mut smtp = server.smtp();
    for n in 0..40 {
        let text = format!("Subject: NEEDLE{n}XYZ\r\nFrom: NEEDLE@x.test\r\n\r\nNEEDLE\r\n");
        let reply = smtp.deliver("k@x.test", &["bob@posthorn.test"], text.as_bytes());
        assert!(reply.expect("reply").starts_with("250"));
    }
    fill(&server, 5, 400);
    let holds = || {
        let mut dirs = vec![dir.clone()];
        let mut found = Vec::new();
        while let Some(next) = dirs.pop() {
            for entry in std::fs::read_dir(next).expect("a directory").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                } else if let Ok(bytes) = std::fs::read(&path)
                    && bytes.windows(6).any(|w| w == b"NEEDLE")
                {
                    found.push(path);
                }
            }
        }
        found
    };
    assert!(!holds().is_empty());
    let cli = cli(&dir);
    cli.ok(&["account", "remove", "bob@posthorn.test", "--yes"], "");
    cli.ok(&["store", "compact"], "");
    assert_eq!(holds(), Vec::<PathBuf>::new());
    assert_eq!(
        cli.ok(&["store", "check", "--deep"], "")["report"]["ok"],
        true
    );
}
