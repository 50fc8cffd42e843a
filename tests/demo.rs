//! `posthorn demo`: what it prints can be pasted, and what it leaves behind is nothing, or its own.

#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::serve::signal;
use common::{IMAP, PATIENCE, Server, Smtp};

fn printed(dir: &Path) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let log = std::fs::read_to_string(dir.with_extension("log")).expect("log");
        if log.contains("Stop with Ctrl-C.") {
            return log;
        }
        assert!(Instant::now() < until, "{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the shell makes of the commands that are printed under this title.
fn by_shell(banner: &str, title: &str, from: &str, to: &str) -> Vec<u8> {
    let (_, rest) = banner.split_once(title).expect(title);
    let start = rest.find(from).expect(from);
    let end = rest.find(to).expect(to);
    let output = Command::new("sh")
        .args(["-c", &rest[start..end]])
        .output()
        .expect("sh");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    output.stdout
}

#[test]
fn commands_can_be_pasted_whatever_the_directory_and_the_password_are() {
    for password in ["it's \"50%\" \\n $HOME", "gr\u{fc}n 'x'"] {
        let home = tempfile::tempdir().expect("tempdir");
        let dir = home.path().join("a b'c $HOME");
        let server = Server::start(&dir, &["--password", password]);
        let banner = printed(&dir);
        let login = by_shell(&banner, "Watch IMAP IDLE:", "printf", "; sleep");
        let mut imap = common::Imap::connect(server.port(IMAP)).expect("IMAP");
        imap.send(&login);
        for tag in ["a", "b"] {
            let (_, tagged) = imap.until(tag);
            assert!(tagged.starts_with("OK"), "{password}: {tagged}");
        }
        assert!(imap.line().expect("a line").text.starts_with("+ "));
        let status = by_shell(&banner, "Other commands: ", "", "\nStop with");
        let status = String::from_utf8_lossy(&status);
        assert!(status.contains("2 in 1 domain, "), "{status}");
    }
}

#[test]
fn a_password_of_an_earlier_start_is_not_promised_anew() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    assert!(
        Server::start(&dir, &["--password", "first"])
            .stop()
            .success()
    );
    assert!(printed(&dir).contains("password first\n"));
    std::fs::write(dir.with_extension("log"), "").expect("truncate");
    let server = Server::start(&dir, &["--password", "second", "--account", "carol:third"]);
    let banner = printed(&dir);
    assert!(!banner.contains("second"), "{banner}");
    assert!(
        banner.contains("alice@posthorn.test, with the password of an earlier start"),
        "{banner}"
    );
    assert!(banner.contains("; 1 more"), "{banner}");
    assert!(banner.contains("there is no demo phone"), "{banner}");
    let mut imap = common::Imap::connect(server.port(IMAP)).expect("IMAP");
    imap.ok("LOGIN alice@posthorn.test first");
    assert!(server.stop().success());
    // The one that is right is shown, also where it is alice's alone.
    std::fs::write(dir.with_extension("log"), "").expect("truncate");
    let _server = Server::start(&dir, &["--account", "alice:first"]);
    let banner = printed(&dir);
    assert!(
        banner.contains("alice@posthorn.test, password first; bob@posthorn.test, with the"),
        "{banner}"
    );
}

#[test]
fn a_file_of_somebody_else_s_is_never_written_over() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    std::fs::create_dir(&dir).expect("mkdir");
    let file = dir.join("posthorn.toml");
    for theirs in [&b"hostname = \"mine\"\n"[..], b"# \xff\xfe latin\n", b""] {
        std::fs::write(&file, theirs).expect("write");
        std::fs::write(dir.with_extension("log"), "").expect("truncate");
        let server = Server::start(&dir, &[]);
        let banner = printed(&dir);
        assert!(banner.contains("stays as it is"), "{banner}");
        assert!(!banner.contains(" --config "), "{banner}");
        assert!(server.stop().success());
        assert_eq!(std::fs::read(&file).expect("read"), theirs);
    }
    std::fs::remove_file(&file).expect("remove");
    for domain in ["posthorn.test", "other.test"] {
        let server = Server::start(&dir, &["--domain", domain]);
        let text = std::fs::read_to_string(&file).expect("read");
        assert!(
            text.contains(&format!("hostname = \"mail.{domain}\"")),
            "{text}"
        );
        assert!(server.stop().success());
    }
}

/// A demo with nothing but a place for temporary directories.
fn temporary(tmp: &Path, base: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_posthorn"))
        .args(["demo", "--port-base", &base.to_string()])
        .env("TMPDIR", tmp)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("posthorn starts")
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("dir");
    entries.map(|entry| entry.expect("entry").path()).collect()
}

fn ends(child: &mut Child) -> std::process::ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        assert!(Instant::now() < until, "the demo goes on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn ctrl_c_leaves_no_temporary_directory_behind() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().expect("tempdir");
    let base = common::free_base();
    // While it runs.
    for how in ["INT", "TERM", "HUP"] {
        let mut child = temporary(tmp.path(), base);
        let until = Instant::now() + PATIENCE;
        while Smtp::connect(base + common::SMTP).is_err() {
            assert!(Instant::now() < until, "it does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let made = entries(tmp.path());
        assert_eq!(made.len(), 1, "{made:?}");
        let mode = std::fs::metadata(&made[0]).expect("metadata").permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
        signal(&child, how);
        assert!(ends(&mut child).success());
        assert_eq!(entries(tmp.path()), Vec::<PathBuf>::new(), "{how}");
    }
    // At any moment of its start, and twice. Not with INT: whoever runs this in the background of a
    // shell has had it ignored, and so it is until the program says otherwise.
    for micros in (0..60_000).step_by(4_000) {
        let mut child = temporary(tmp.path(), base);
        std::thread::sleep(Duration::from_micros(micros));
        signal(&child, "TERM");
        if micros % 8_000 == 0 {
            signal(&child, "TERM");
        }
        ends(&mut child);
        assert_eq!(
            entries(tmp.path()),
            Vec::<PathBuf>::new(),
            "after {micros} µs"
        );
    }
}
