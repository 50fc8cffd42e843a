//! Backups with the real binary: while mail comes in, cut off, as an archive through a pipe; and
//! what comes back.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::cli::{Cli, configure};
use common::{Imap, PATIENCE, Server};
use serde_json::Value;

const ALICE: &str = "alice@posthorn.test";

fn cli_of(dir: &Path) -> Cli {
    Cli {
        config: dir.join("posthorn.toml"),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

fn message(n: u32) -> Vec<u8> {
    let lines = [1, 30, 900][n as usize % 3];
    let mut text = format!("From: k@example.net\r\nSubject: {n}\r\n\r\n");
    for line in 0..lines {
        text.push_str(&format!("line {line} of {n}: {:x}\r\n", line * n));
    }
    text.into_bytes()
}

fn deliver(server: &Server, numbers: impl Iterator<Item = u32>) {
    let mut smtp = server.smtp();
    for n in numbers {
        let reply = smtp.deliver("k@example.net", &[ALICE], &message(n));
        assert!(reply.expect("reply").starts_with("250"));
    }
}

/// All that a client sees of all mailboxes.
fn seen(imap: &mut Imap) -> Vec<String> {
    let mut all = Vec::new();
    let mut names = Vec::new();
    for line in imap.ok("LIST \"\" *") {
        names.extend(line.text.rsplit(' ').next().map(str::to_owned));
        all.push(line.text);
    }
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        let status = format!("STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)");
        all.extend(imap.ok(&status).into_iter().map(|line| line.text));
        imap.ok(&format!("EXAMINE {name}"));
        for line in imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])") {
            // What is recent is so since the server runs.
            let text = line.text.replace(" \\Recent", "").replace("\\Recent", "");
            if text.contains("FETCH") {
                let body = line.literals.concat();
                all.push(format!("{name} {text} {}", String::from_utf8_lossy(&body)));
            }
        }
    }
    all
}

/// What commands tell of everything else.
fn told(cli: &Cli) -> Vec<Value> {
    [
        ["account", "list", ""],
        ["alias", "list", ""],
        ["domain", "list", ""],
        ["account", "show", "carol@posthorn.test"],
        ["device", "list", "bob@posthorn.test"],
    ]
    .iter()
    .map(|args| {
        let args: Vec<_> = args.iter().copied().filter(|arg| !arg.is_empty()).collect();
        let mut answer = cli.ok(&args, "");
        // Its code is pushed again now and then.
        for device in answer["devices"].as_array_mut().into_iter().flatten() {
            for field in ["failures", "last_failure", "last_error"] {
                device[field].take();
            }
        }
        answer
    })
    .collect()
}

/// Restores into a directory of its own; its command line.
fn restored(home: &Path, from: &Path) -> Cli {
    std::fs::create_dir(home).expect("directory");
    let cli = configure(home);
    let answer = cli.ok(&["store", "restore", text(from)], "");
    assert!(
        answer["restored"]["accounts"].as_u64() >= Some(2),
        "{answer}"
    );
    cli
}

#[test]
fn what_comes_back_is_what_was_there() {
    let home = tempfile::tempdir().expect("tempdir");
    let home = home.path();
    let data = home.join("data");
    let server = Server::start(&data, &[]);
    let cli = cli_of(&data);
    let carol = ["account", "add", "carol@posthorn.test", "--password-stdin"];
    cli.ok(&carol, "secret\n");
    cli.ok(&["alias", "add", "all@posthorn.test", ALICE], "");
    cli.ok(
        &[
            "device",
            "add",
            "bob@posthorn.test",
            "--name",
            "phone",
            "--endpoint",
            "https://127.0.0.1:9/push",
            "--p256dh",
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "--auth",
            "BTBZMqHH6r4Tts7J_aSIgg",
        ],
        "",
    );
    deliver(&server, 0..30);
    let backup = home.join("backup");
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU32::new(30));
    let sender = {
        let (stop, sent) = (stop.clone(), sent.clone());
        let mut smtp = server.smtp();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let n = sent.fetch_add(1, Ordering::Relaxed);
                let reply = smtp.deliver("k@example.net", &[ALICE], &message(n));
                assert!(reply.expect("reply").starts_with("250"));
            }
        })
    };
    let reader = {
        let stop = stop.clone();
        let mut imap = server.imap(ALICE);
        std::thread::spawn(move || {
            imap.ok("SELECT INBOX");
            for n in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                imap.ok(&format!("UID STORE {n}:{} +FLAGS (\\Seen $Work)", n + 3));
                imap.ok(&format!("UID STORE {} +FLAGS (\\Deleted)", n * 3));
                imap.ok("EXPUNGE");
                imap.ok(&format!("UID COPY {} Archive", n * 5 + 1));
            }
        })
    };
    for n in 0..4 {
        let made = cli.ok(&["store", "backup", text(&backup)], "");
        let kept = made["backup"]["kept"]["bytes"].as_u64();
        assert!(n == 0 || kept.is_some(), "{made}");
        let checked = cli.ok(&["store", "check", text(&backup), "--deep"], "");
        assert_eq!(checked["report"]["ok"], true);
        // Of one moment: all of it adds up.
        let other = restored(&home.join(format!("moment{n}")), &backup);
        let checked = other.ok(&["store", "check", "--deep"], "");
        assert_eq!(checked["report"]["problems"], serde_json::json!([]));
        // And the archive of another one.
        let archive = home.join("archive.tar");
        cli.ok(&["store", "backup", "--to", text(&archive)], "");
        cli.ok(&["store", "check", text(&archive), "--deep"], "");
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().expect("sender");
    reader.join().expect("reader");
    assert!(sent.load(Ordering::Relaxed) > 50);
    let metrics = server.http_get("/metrics").expect("metrics");
    let running = "posthorn_store_backups_running 0";
    assert!(metrics.contains(running), "{metrics}");

    let before = (seen(&mut server.imap(ALICE)), told(&cli));
    cli.ok(&["store", "backup", text(&backup), "--copy"], "");
    let key = |server: &Server| server.http_get("/api/v1/push/vapid-key").expect("answer");
    let vapid = key(&server);
    assert!(server.stop().success());
    let other = restored(&home.join("other"), &backup);
    assert_eq!(told(&other), before.1);
    let server = Server::start(&home.join("other/data"), &[]);
    assert_eq!(seen(&mut server.imap(ALICE)), before.0);
    assert_eq!(key(&server).lines().last(), vapid.lines().last());
    // It goes on: no UID is given twice, and it is backed up into the same directory.
    deliver(&server, 5000..5003);
    let made = other.ok(&["store", "backup", text(&backup)], "");
    assert!(made["backup"]["all"]["files"].as_u64() > Some(2), "{made}");
    other.ok(&["store", "check", text(&backup)], "");
    assert!(server.stop().success());
    // Without a server too.
    let second = home.join("second");
    other.ok(&["store", "backup", text(&second)], "");
    let checked = other.ok(&["store", "check", text(&second), "--deep"], "");
    assert_eq!(checked["report"]["problems"], serde_json::json!([]));
}

#[test]
fn a_second_backup_copies_little() {
    let home = tempfile::tempdir().expect("tempdir");
    let data = home.path().join("data");
    let server = Server::start(&data, &[]);
    let cli = cli_of(&data);
    deliver(&server, 0..150);
    let backup = home.path().join("backup");
    let first = cli.ok(&["store", "backup", text(&backup), "--copy"], "");
    let bytes = |made: &Value, what: &str| made["backup"][what]["bytes"].as_u64().expect("bytes");
    assert!(bytes(&first, "copied") > 100_000, "{first}");
    deliver(&server, 150..152);
    let next = cli.ok(&["store", "backup", text(&backup), "--copy"], "");
    assert!(bytes(&next, "kept") > 5 * bytes(&next, "copied"), "{next}");
    let checked = cli.ok(&["store", "check", text(&backup), "--deep"], "");
    assert_eq!(checked["report"]["messages"], 152);
}

#[test]
fn killed_in_the_middle() {
    let home = tempfile::tempdir().expect("tempdir");
    let data = home.path().join("data");
    let server = Server::start(&data, &[]);
    let cli = cli_of(&data);
    let backup = home.path().join("backup");
    deliver(&server, 0..60);
    cli.ok(&["store", "backup", text(&backup), "--copy"], "");
    for round in 0..6 {
        deliver(&server, 100 + round * 20..120 + round * 20);
        let mut child = Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .arg("--config")
            .arg(&cli.config)
            .args(["store", "backup", text(&backup), "--copy", "--rate", "300K"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("posthorn");
        let until = Instant::now() + PATIENCE;
        let running = |want: u64| {
            let status = cli.ok(&["status"], "");
            status["status"]["backups_running"].as_u64() == Some(want)
        };
        while !running(1) {
            assert!(Instant::now() < until, "it does not hold the files");
        }
        std::thread::sleep(Duration::from_millis(u64::from(round) * 40));
        child.kill().expect("kill");
        child.wait().expect("wait");
        while !running(0) {
            assert!(Instant::now() < until, "the files are still held");
        }
        let checked = cli.ok(&["store", "check", text(&backup), "--deep"], "");
        assert_eq!(checked["report"]["ok"], true);
    }
    cli.ok(&["store", "backup", text(&backup)], "");
    let checked = cli.ok(&["store", "check", text(&backup), "--deep"], "");
    assert_eq!(checked["report"]["messages"], 180);
    let left: Vec<_> = std::fs::read_dir(backup.join("log"))
        .expect("log")
        .map(|entry| entry.expect("entry").file_name())
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn through_a_pipe() {
    let home = tempfile::tempdir().expect("tempdir");
    let data = home.path().join("data");
    let server = Server::start(&data, &[]);
    deliver(&server, 0..40);
    let before = seen(&mut server.imap(ALICE));
    let cli = cli_of(&data);
    let other = home.path().join("other");
    std::fs::create_dir(&other).expect("directory");
    let there = configure(&other);
    let pipe = |writer: &str, reader: &str| {
        let posthorn = env!("CARGO_BIN_EXE_posthorn");
        let line = format!(
            "set -o pipefail; {posthorn} --config {} {writer} | {}",
            text(&cli.config),
            reader.replace(
                "POSTHORN",
                &format!("{posthorn} --config {}", text(&there.config))
            )
        );
        let output = Command::new("bash").args(["-c", &line]).output();
        let output = output.expect("bash");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), err)
    };
    if !common::have("bash") {
        return;
    }
    // Cut off on its way: both ends say so, and nothing is restored.
    let (well, err) = pipe(
        "store backup --to -",
        "head -c 20000 | POSTHORN store restore -",
    );
    assert!(!well && err.contains("cut off"), "{err}");
    assert!(!other.join("data/log").exists());
    let (well, err) = pipe("store backup --to -", "POSTHORN store restore --from -");
    assert!(well, "{err}");
    assert!(err.contains("a backup of"), "{err}");
    let restored = Server::start(&other.join("data"), &[]);
    assert_eq!(seen(&mut restored.imap(ALICE)), before);
    // Where a server runs, or a store is.
    let archive = home.path().join("archive");
    cli.ok(&["store", "backup", "--to", text(&archive)], "");
    there.fails(1, &["store", "restore", text(&archive)], "already");
    let running = ["store", "restore", text(&archive), "--set-aside"];
    there.fails(1, &running, "in use");
    assert!(restored.stop().success());
    there.ok(&running, "");
    assert!(other.join("data/set-aside-1/log").exists());
    // An archive that was changed.
    let mut bytes = std::fs::read(&archive).expect("read");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&archive, bytes).expect("write");
    there.fails(1, &running, "archive: ");
    let checked = there.run(&["store", "check", text(&archive), "--deep"], "");
    assert_eq!(checked.status, Some(1));
    there.fails(2, &["store", "restore"], "FROM");
    there.fails(2, &["store", "backup"], "DIR");
}
