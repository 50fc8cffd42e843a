//! A disk that somebody else fills to the last byte: mail is put off, reading, marking and
//! deleting go on, through a restart too; and with room again all is as it was.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::serve::{AUTH, Serving, configuration};
use common::{Imap, PASSWORD, Smtp};

/// A file system of its own, or none where we may not mount.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let option = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "posthorn-test"])
            .arg(at)
            .output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(Self(at.to_owned()));
        }
        common::skipped("only root can mount a small file system");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn fill(path: &Path) {
    let options = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path);
    let mut file = options.unwrap();
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![7u8; size]).is_ok() {}
    }
}

fn login(serving: &Serving) -> Imap {
    let mut imap = Imap::connect(serving.base + common::IMAP).unwrap();
    imap.ok(&format!("LOGIN alice@posthorn.test {PASSWORD}"));
    imap.ok("SELECT INBOX");
    imap
}

/// It may be refused for a moment while the server makes room; never is it left without an answer.
fn soon(imap: &mut Imap, command: &str) {
    let start = Instant::now();
    loop {
        let sent = Instant::now();
        let (_, tagged) = imap.command(command);
        assert!(
            sent.elapsed() < Duration::from_secs(30),
            "{command}: no answer for long"
        );
        if tagged.starts_with("OK") {
            return;
        }
        assert!(tagged.starts_with("NO"), "{command}: {tagged}");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{command}: {tagged}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn append(imap: &mut Imap, text: &str) -> String {
    imap.command(&format!("APPEND INBOX {{{}+}}\r\n{text}", text.len()))
        .1
}

/// Subjects and flags, in order.
fn mail(imap: &mut Imap) -> Vec<String> {
    let lines = imap.ok("UID FETCH 1:* (UID FLAGS BODY.PEEK[])");
    let lines = lines.into_iter().filter(|line| line.text.contains("FETCH"));
    lines
        .map(|line| {
            let text = String::from_utf8_lossy(&line.literals[0]).into_owned();
            let subject = text
                .split("Subject: ")
                .nth(1)
                .unwrap()
                .lines()
                .next()
                .unwrap();
            let flagged = line.text.contains("Flagged");
            format!("{subject} {flagged}")
        })
        .collect()
}

fn deliver(serving: &Serving, subject: &str) -> String {
    let mut smtp = Smtp::connect(serving.base + common::SMTP).unwrap();
    smtp.command("EHLO client.test").unwrap();
    let from = smtp.command("MAIL FROM:<c@example.org> SIZE=2000").unwrap();
    if !from.starts_with("250") {
        return from;
    }
    let text = format!("Subject: {subject}\r\n\r\n{}\r\n", "x".repeat(900));
    smtp.command("RSET").unwrap();
    smtp.deliver("c@example.org", &["alice@posthorn.test"], text.as_bytes())
        .unwrap()
}

fn ready(serving: &Serving) -> bool {
    common::http_get(serving.base + common::HTTP, "/readyz").is_some_and(|r| r.contains(" 200 "))
}

#[test]
fn reading_marking_and_deleting_go_on_where_nothing_is_free() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("disk");
    let Some(_mounted) = Mounted::new(&at, "96m") else {
        return;
    };
    let data = at.join("data");
    let filler = at.join("filler");
    let text = |base| {
        let limits = "reserve_bytes = 16777216\nreserve_percent = 100\nballast_bytes = 8388608";
        configuration(base, data.to_str().unwrap(), AUTH).replace("reserve_bytes = 0", limits)
    };
    let mut serving = Serving::start_with(home.path(), text);
    for n in 0..20 {
        let reply = deliver(&serving, &format!("m{n}"));
        assert!(reply.starts_with("250"), "{reply}");
    }
    let until = Instant::now() + common::PATIENCE;
    while !data.join("ballast").exists() {
        assert!(Instant::now() < until, "no ballast");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(ready(&serving));

    fill(&filler);
    let reply = deliver(&serving, "too late");
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    let mut imap = login(&serving);
    let refused = append(&mut imap, "Subject: no\r\n\r\nno\r\n");
    assert!(refused.starts_with("NO ["), "{refused}");
    assert_eq!(mail(&mut imap).len(), 20);
    soon(&mut imap, "STORE 1:5 +FLAGS (\\Flagged)");
    soon(&mut imap, "STORE 20 +FLAGS.SILENT (\\Deleted)");
    soon(&mut imap, "EXPUNGE");
    assert_eq!(mail(&mut imap).len(), 19);
    assert!(!ready(&serving));
    assert!(!data.join("ballast").exists(), "it was given up");
    let want = mail(&mut imap);
    drop(imap);

    serving.child.kill().unwrap();
    serving.child.wait().unwrap();
    let (base, config) = (serving.base, serving.cli.config.clone());
    let cli = common::cli::Cli { config };
    let serving = Serving::launch(home.path(), base, cli, |_| {});
    let mut imap = login(&serving);
    assert_eq!(mail(&mut imap), want);
    soon(&mut imap, "STORE 19 +FLAGS.SILENT (\\Deleted)");
    soon(&mut imap, "EXPUNGE");
    // What the ballast gave is taken too: reading goes on all the same.
    fill(&filler);
    assert_eq!(mail(&mut imap), want[..18]);
    let (_, tagged) = imap.command("STORE 18 +FLAGS (\\Flagged)");
    assert!(
        tagged.starts_with("OK") || tagged.starts_with("NO"),
        "{tagged}"
    );
    let want = mail(&mut imap);
    assert_eq!(want.len(), 18);
    assert_eq!(
        want[17].contains("true"),
        tagged.starts_with("OK"),
        "told as it is"
    );

    std::fs::remove_file(&filler).unwrap();
    let until = Instant::now() + common::PATIENCE;
    while !(ready(&serving) && data.join("ballast").exists()) {
        assert!(Instant::now() < until, "not ready again: {}", serving.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let reply = deliver(&serving, "at last");
    assert!(reply.starts_with("250"), "{reply}");
    soon(&mut imap, "NOOP");
    let now = mail(&mut imap);
    assert_eq!(now[..18], want);
    assert_eq!(now[18..], ["at last false"]);
    let spare = std::fs::read_dir(&data).unwrap().flatten();
    let spare = spare.filter(|e| e.file_name().to_string_lossy().starts_with("index"));
    assert_eq!(spare.count(), 1, "no index is left over");
}

/// Without a ballast nothing can be changed then; but all is answered, and goes on by itself.
#[test]
fn without_a_ballast_it_goes_on_as_soon_as_there_is_room() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("disk");
    let Some(_mounted) = Mounted::new(&at, "64m") else {
        return;
    };
    let data = at.join("data");
    let filler = at.join("filler");
    let text = |base| {
        let limits = "reserve_bytes = 4194304\nreserve_percent = 100\nballast_bytes = 0";
        configuration(base, data.to_str().unwrap(), AUTH).replace("reserve_bytes = 0", limits)
    };
    let serving = Serving::start_with(home.path(), text);
    let mut flagged = 0;
    for round in 0..3 {
        for n in 0..20 {
            let reply = deliver(&serving, &format!("r{round}m{n}"));
            assert!(reply.starts_with("250"), "{reply}");
        }
        let mut imap = login(&serving);
        fill(&filler);
        assert_eq!(mail(&mut imap).len(), 20 * (round + 1));
        // Into what is left of blocks, and then into nothing.
        for n in 0..100 {
            let sent = Instant::now();
            let sign = if n % 2 == 0 { '+' } else { '-' };
            let (_, tagged) = imap.command(&format!("STORE 1:* {sign}FLAGS.SILENT (\\Flagged)"));
            assert!(
                sent.elapsed() < Duration::from_secs(30),
                "no answer for long"
            );
            match tagged.starts_with("OK") {
                true => flagged = if n % 2 == 0 { 20 * (round + 1) } else { 0 },
                false => assert!(tagged.starts_with("NO"), "{tagged}"),
            }
        }
        std::fs::remove_file(&filler).unwrap();
        let until = Instant::now() + common::PATIENCE;
        while !ready(&serving) {
            assert!(Instant::now() < until, "not ready again: {}", serving.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        soon(&mut imap, "NOOP");
        let now = mail(&mut imap);
        assert_eq!(now.len(), 20 * (round + 1));
        let shown = now.iter().filter(|line| line.ends_with("true")).count();
        assert_eq!(shown, flagged, "what was answered is what is there");
        soon(&mut imap, "STORE 1:* -FLAGS.SILENT (\\Flagged)");
        flagged = 0;
    }
    let spare = std::fs::read_dir(&data).unwrap().flatten();
    let spare = spare.filter(|e| e.file_name().to_string_lossy().starts_with("index"));
    assert_eq!(spare.count(), 1, "no index is left over");
}
