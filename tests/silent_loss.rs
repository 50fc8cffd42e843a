//! Records of the index that are gone without an error, as sled was seen to lose them. Whatever
//! a client asks first, it is told what is true, or to come again, and never what is wrong.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

#[path = "kill/chance.rs"]
#[allow(dead_code)]
mod chance;
#[path = "kill/client.rs"]
#[allow(dead_code)]
mod client;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chance::{Chance, LARGE, message};
use client::{Client, Failed};
use common::cli::Cli;
use common::serve::{AUTH, Serving};
use common::{SMTP, Smtp};

/// All of it, seen from outside: what was asked → what was answered.
type Picture = BTreeMap<&'static str, String>;

const ITEMS: &str = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE";
const QUESTIONS: [&str; 11] = [
    "list",
    "status",
    "select",
    "search",
    "flags",
    "envelopes",
    "bodies",
    "subscribed",
    "logins",
    "addresses",
    "devices",
];
/// So long may a temporary error last.
const MENDED: Duration = Duration::from_secs(20);

fn imap(base: u16) -> Result<Client, Failed> {
    Client::connect(base, "alice@posthorn.test")
}

fn told(client: &mut Client, command: &str) -> Result<String, Failed> {
    let lines = client.command(command)?;
    let (last, lines) = lines.split_last().expect("a tagged line");
    assert!(last.text.contains("OK"), "{}", last.text);
    let kept = lines.iter().filter(|l| !l.text.contains("RECENT"));
    Ok(kept
        .map(|l| format!("{} {:?}\n", l.text, l.literals))
        .collect())
}

fn selected(client: &mut Client, of: &str, commands: &[&str]) -> Result<String, Failed> {
    let mut all = String::new();
    client.select(of)?;
    for command in commands {
        all += &told(client, command)?;
    }
    Ok(all)
}

fn ask(base: u16, cli: &Cli, question: &str) -> Result<String, Failed> {
    match question {
        "list" => told(
            &mut imap(base)?,
            &format!("LIST \"\" \"*\" RETURN (SUBSCRIBED SPECIAL-USE STATUS ({ITEMS}))"),
        ),
        "status" => {
            let mut client = imap(base)?;
            let inbox = told(&mut client, &format!("STATUS INBOX ({ITEMS})"))?;
            Ok(inbox + &told(&mut client, &format!("STATUS Work ({ITEMS})"))?)
        }
        "select" => {
            let mut client = imap(base)?;
            Ok(told(&mut client, "SELECT INBOX")? + &told(&mut client, "SELECT Work")?)
        }
        "search" => selected(
            &mut imap(base)?,
            "INBOX",
            &[
                "UID SEARCH ALL",
                "UID SEARCH SEEN",
                "UID SEARCH KEYWORD two",
                "UID SEARCH LARGER 3000",
                "UID SEARCH SUBJECT m7",
            ],
        ),
        "flags" => {
            let mut client = imap(base)?;
            let inbox = selected(&mut client, "INBOX", &["UID FETCH 1:* (FLAGS)"])?;
            Ok(inbox + &selected(&mut client, "Work", &["UID FETCH 1:* (FLAGS)"])?)
        }
        "envelopes" => selected(
            &mut imap(base)?,
            "INBOX",
            &["UID FETCH 1:* (ENVELOPE RFC822.SIZE INTERNALDATE)"],
        ),
        "bodies" => {
            let mut client = imap(base)?;
            let fetch = "UID FETCH 1:* (BODY.PEEK[])";
            let inbox = selected(&mut client, "INBOX", &[fetch])?;
            Ok(inbox + &selected(&mut client, "Work", &[fetch])?)
        }
        "subscribed" => told(&mut imap(base)?, "LIST (SUBSCRIBED) \"\" \"*\""),
        "logins" => {
            Client::connect(base, "bob@posthorn.test")?;
            imap(base).map(|_| "alice and bob".into())
        }
        "addresses" => {
            let mut smtp = Smtp::connect(base + SMTP)?;
            let mut all = smtp.command("EHLO c.test")?;
            all += &smtp.command("MAIL FROM:<k@example.net>")?;
            for to in ["alice", "bob", "team", "Alice+x", "nobody"] {
                let reply = smtp.command(&format!("RCPT TO:<{to}@posthorn.test>"))?;
                if reply.starts_with('4') {
                    return Err(Failed::Refused(reply));
                }
                all += &reply;
            }
            Ok(all)
        }
        _ => {
            let args = ["--json", "device", "list", "bob@posthorn.test"];
            let answer = cli.run(&args, "");
            match answer.status {
                Some(0) => Ok(answer.out),
                _ => Err(Failed::Refused(answer.err)),
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("read").flatten() {
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
        }
    }
}

fn index(data: &Path) -> PathBuf {
    let entries = std::fs::read_dir(data).expect("data").flatten();
    let mut all = entries.filter(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        name.starts_with("index") && !name.contains("bad")
    });
    all.next().expect("an index").path()
}

/// Removes `count` records of a kind that lie one after the other; gives how many there were.
fn lose(data: &Path, kind: &[u8], count: usize, chance: &mut Chance) -> usize {
    let config = sled::Config::new()
        .path(index(data))
        .mode(sled::Mode::LowSpace);
    let db = config.open().expect("the index");
    let keys = db.scan_prefix(kind).keys().map(|key| key.expect("a key"));
    let keys: Vec<_> = keys.collect();
    let last = keys.len().saturating_sub(count) as u64 + 1;
    let from = chance.below(last) as usize;
    let mut lost = 0;
    for key in keys.iter().skip(from).take(count) {
        lost += usize::from(db.remove(key).expect("removed").is_some());
    }
    db.flush().expect("flushed");
    lost
}

/// A store with something of every kind in it, and the server's ports.
fn fill(home: &Path) -> (u16, Cli, Picture) {
    let more = format!(
        "max_transactions = 100000\n{AUTH}[push]\nallow_http = true\nallow_private = [\"127.0.0.1/32:*\"]\n"
    );
    let serving = Serving::start(home, &more);
    let base = serving.base;
    let cli = Cli {
        config: serving.cli.config.clone(),
    };
    // An alias whose record is so large that it lies in pieces.
    let many: Vec<String> = (0..48)
        .map(|n| format!("{}{n}@posthorn.test", "x".repeat(60)))
        .chain(["alice@posthorn.test".into(), "bob@posthorn.test".into()])
        .collect();
    let mut args = vec!["alias", "add", "team@posthorn.test"];
    args.extend(many.iter().map(String::as_str));
    cli.ok(&args, "");
    let mut smtp = Smtp::connect(base + SMTP).expect("SMTP");
    smtp.command("EHLO c.test").expect("EHLO");
    for n in 0..150 {
        let large = if n == 20 { LARGE } else { "" };
        let to: &[&str] = match n % 3 {
            0 => &["alice@posthorn.test", "bob@posthorn.test"],
            _ => &["alice@posthorn.test"],
        };
        let reply = smtp.deliver("k@example.net", to, &message(&format!("m{n}{large}")));
        assert!(reply.expect("reply").starts_with("250"));
    }
    let mut client = imap(base).expect("IMAP");
    for command in [
        "CREATE Work",
        "SUBSCRIBE Work",
        "SUBSCRIBE Missing",
        "SELECT INBOX",
        "UID STORE 1:40,90 +FLAGS.SILENT (\\Seen)",
        "UID STORE 30:70 +FLAGS.SILENT (two)",
        "UID STORE 31,75 +FLAGS.SILENT ($one \\Flagged)",
        "UID STORE 10:12 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 10",
        "UID COPY 1:80 Work",
        "SELECT Work",
        "UID STORE 5:9 +FLAGS.SILENT (\\Answered three)",
    ] {
        client.command(command).expect(command);
    }
    let picture = QUESTIONS.map(|q| (q, ask(base, &cli, q).expect(q)));
    assert!(serving.stop().success());
    (base, cli, picture.into())
}

/// Asks, and holds what is told to what is true.
fn right(base: u16, cli: &Cli, question: &'static str, picture: &Picture, case: &str) -> bool {
    match ask(base, cli, question) {
        Ok(answer) => {
            let want = &picture[question];
            let first = answer.lines().zip(want.lines()).find(|(a, b)| a != b);
            assert!(
                answer == *want,
                "{case}: {question}: {} bytes instead of {}, first {:.400}",
                answer.len(),
                want.len(),
                format!("{first:?}")
            );
            true
        }
        Err(_) => false,
    }
}

/// Whoever changes something first: it is done wholly, or not at all.
fn change(base: u16, picture: &Picture, case: &str, chance: &mut Chance) {
    let started = Instant::now();
    let fetch = |of| {
        let one = |command| imap(base).and_then(|mut c| selected(&mut c, of, &[command]));
        loop {
            if let Ok(uids) = one("UID FETCH 1:* (UID)") {
                return uids
                    .lines()
                    .filter_map(|l| client::number(l, "UID "))
                    .collect();
            }
            assert!(started.elapsed() < MENDED, "{case}: {of}: not mended");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let next = |of: usize| {
        let line = picture["status"].lines().nth(of).expect("a line");
        client::number(line, "UIDNEXT ").expect("UIDNEXT")
    };
    let known = |work: bool| -> Vec<u64> {
        let lines = picture["flags"].lines().filter(|l| l.contains("FETCH"));
        let uids: Vec<u64> = lines.filter_map(|l| client::number(l, "UID ")).collect();
        // INBOX comes first; numbers begin anew with the other one.
        let end = uids
            .windows(2)
            .position(|w| w[1] < w[0])
            .expect("two mailboxes")
            + 1;
        if work {
            uids[end..].to_vec()
        } else {
            uids[..end].to_vec()
        }
    };
    if chance.percent(50) {
        let body = message("afterwards");
        let mut smtp = Smtp::connect(base + SMTP).expect("SMTP");
        smtp.command("EHLO c.test").expect("EHLO");
        let to = ["alice@posthorn.test"];
        let reply = smtp.deliver("k@example.net", &to, &body).expect("a reply");
        let mut want = known(false);
        match reply.starts_with("250") {
            true => want.push(next(0)),
            false => assert!(reply.starts_with('4'), "{case}: {reply}"),
        }
        let uids: Vec<u64> = fetch("INBOX");
        assert_eq!(uids, want, "{case}: INBOX after mail");
        return;
    }
    let done = imap(base).and_then(|mut c| {
        c.select("INBOX")?;
        c.command("UID COPY 50:60 Work")
    });
    let mut want = known(true);
    if done.is_ok() {
        want.extend(next(1)..next(1) + 11);
    }
    let uids: Vec<u64> = fetch("Work");
    assert_eq!(uids, want, "{case}: Work after COPY");
    let mut bodies = loop {
        let fetched = imap(base).and_then(|mut c| {
            c.select("Work")?;
            c.command(&format!("UID FETCH {}:* (BODY.PEEK[])", next(1) - 11))
        });
        if let Ok(lines) = fetched {
            break lines;
        }
        assert!(started.elapsed() < MENDED, "{case}: bodies: not mended");
        std::thread::sleep(Duration::from_millis(20));
    };
    bodies.retain(|line| line.text.contains("FETCH"));
    let empty = bodies.iter().any(|line| line.literals.is_empty());
    assert!(!empty, "{case}: a copy has no body");
}

/// A check finds nothing, or what it has mended by the next time.
fn sound(cli: &Cli, case: &str) {
    let started = Instant::now();
    loop {
        let answer = cli.run(&["store", "check", "--deep"], "");
        if answer.status == Some(0) {
            return;
        }
        let late = started.elapsed() > MENDED;
        assert!(!late, "{case}: {} {}", answer.out, answer.err);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn metric(base: u16, name: &str) -> f64 {
    let text = common::http_get(base + common::HTTP, "/metrics").expect("metrics");
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no metric {name}"))
}

#[test]
fn whoever_asks_first_is_told_nothing_wrong() {
    let seed = std::env::var("POSTHORN_LOSS_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let times: usize = std::env::var("POSTHORN_LOSS_TIMES")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let mut chance = Chance::new(seed.unwrap_or(1));
    let home = tempfile::tempdir().expect("tempdir");
    let (base, cli, picture) = fill(home.path());
    let (data, whole) = (home.path().join("data"), home.path().join("whole"));
    std::fs::rename(&data, &whole).expect("rename");
    // Every kind of record, the place in the log (`k`) and a group of them (`` is all).
    let kinds: Vec<&[u8]> = "ADLNMSKUbfmgsxtck"
        .as_bytes()
        .chunks(1)
        .chain([b"".as_slice()])
        .collect();
    let mut noticed = 0;
    let mut cases = 0;
    for _ in 0..times {
        for kind in &kinds {
            for count in [1, *chance.pick(&[7, 100_000]).expect("a count")] {
                if kind.is_empty() && count == 100_000 {
                    continue;
                }
                let first = *chance.pick(&QUESTIONS).expect("a question");
                let _ = std::fs::remove_dir_all(&data);
                copy(&whole, &data);
                let lost = lose(&data, kind, count, &mut chance);
                let case = format!("{:?} x{lost}, {first} first", String::from_utf8_lossy(kind));
                if lost == 0 || (count > 1 && lost == 1) {
                    continue;
                }
                cases += 1;
                let launched = Cli {
                    config: cli.config.clone(),
                };
                let serving = Serving::launch(home.path(), base, launched, |_| {});
                let started = Instant::now();
                if chance.percent(40) {
                    change(base, &picture, &case, &mut chance);
                    sound(&cli, &case);
                    continue;
                }
                let mut all = right(base, &cli, first, &picture, &case);
                while !all {
                    assert!(started.elapsed() < MENDED, "{case}: not mended");
                    all = true;
                    for question in QUESTIONS {
                        all &= right(base, &cli, question, &picture, &case);
                    }
                }
                for question in QUESTIONS {
                    // It may be the first to meet what is missing.
                    while !right(base, &cli, question, &picture, &case) {
                        assert!(started.elapsed() < MENDED, "{case}: {question}: not mended");
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
                sound(&cli, &case);
                let rebuilds = metric(base, "posthorn_store_rebuilds_total");
                assert!(rebuilds > 0.0, "{case}: nobody noticed");
                assert_eq!(
                    metric(base, "posthorn_store_mended_mailboxes"),
                    0.0,
                    "{case}"
                );
                drop(serving);
                noticed += 1;
            }
        }
    }
    assert!(noticed > 0);
    eprintln!("{cases} cases, {noticed} with questions only");
}
