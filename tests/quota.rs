//! Quotas and removals that wait, from outside: what SMTP, IMAP and the commands answer, and what
//! a crash leaves of it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::serve::{AUTH, Serving};
use common::{HTTP, IMAP, Imap, PASSWORD, PATIENCE, SMTP, Smtp, http_get};
use posthorn::config::Config;
use posthorn::store::{Options, Store};
use posthorn::telemetry::Telemetry;
use posthorn::types::{Address, UnixMillis};
use serde_json::{Value, json};

const ALICE: &str = "alice@posthorn.test";
const BOB: &str = "bob@posthorn.test";
const SENDER: &str = "c@example.net";

fn smtp(server: &Serving) -> Smtp {
    let mut smtp = Smtp::connect(server.base + SMTP).expect("SMTP");
    smtp.command("EHLO client.test").expect("EHLO");
    smtp
}

fn imap(server: &Serving, user: &str) -> Imap {
    let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN {user} {PASSWORD}"));
    imap
}

fn says(smtp: &mut Smtp, line: &str, code: &str) {
    let reply = smtp.command(line).expect("reply");
    assert!(reply.starts_with(code), "{line}: {reply}");
}

fn message(lines: usize) -> Vec<u8> {
    let body = format!("{}\r\n", "x".repeat(98)).repeat(lines);
    format!("Subject: s\r\n\r\n{body}").into_bytes()
}

fn append(imap: &mut Imap, lines: usize) -> String {
    let message = message(lines);
    imap.send(format!("x APPEND INBOX {{{}+}}\r\n", message.len()).as_bytes());
    imap.send(&message);
    imap.send(b"\r\n");
    imap.until("x").1
}

fn quota(server: &Serving, user: &str, args: &[&str]) -> Value {
    let all = [&["account", "quota", user], args].concat();
    server.cli.ok(&all, "")
}

/// `kill -9`, and up again.
fn crash(home: &std::path::Path, mut server: Serving) -> Serving {
    server.child.kill().expect("kill");
    server.child.wait().expect("wait");
    let (base, config) = (server.base, server.cli.config.clone());
    drop(server);
    Serving::launch(home, base, common::cli::Cli { config }, |_| {})
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn metric(server: &Serving, name: &str) -> f64 {
    let page = http_get(server.base + HTTP, "/metrics").expect("metrics");
    let line = page.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn imap_answers_as_rfc_9208_says() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start(home.path(), AUTH);
    let mut a = imap(&server, ALICE);
    let told = a.ok("CAPABILITY");
    assert!(
        told[0]
            .text
            .contains(" QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE")
    );
    assert!(!told[0].text.contains("QUOTASET"));
    let texts = |lines: Vec<common::Line>| -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    };
    // 4.2.1: an empty list means that there are no limits.
    let none = texts(a.ok("GETQUOTAROOT INBOX"));
    assert_eq!(none, ["* QUOTAROOT INBOX \"\"", "* QUOTA \"\" ()"]);
    quota(&server, ALICE, &["--bytes", "100K", "--messages", "3"]);
    assert!(append(&mut a, 15).starts_with("OK"));
    for (command, answer) in [
        (
            "GETQUOTA \"\"",
            vec!["* QUOTA \"\" (STORAGE 2 100 MESSAGE 1 3)"],
        ),
        (
            "getquotaroot inbox",
            vec![
                "* QUOTAROOT INBOX \"\"",
                "* QUOTA \"\" (STORAGE 2 100 MESSAGE 1 3)",
            ],
        ),
        // 4.1.2: it need not exist.
        (
            "GETQUOTAROOT \"not there\"",
            vec![
                "* QUOTAROOT \"not there\" \"\"",
                "* QUOTA \"\" (STORAGE 2 100 MESSAGE 1 3)",
            ],
        ),
    ] {
        assert_eq!(texts(a.ok(command)), answer, "{command}");
    }
    for (command, answer) in [
        ("GETQUOTA \"#user/alice\"", "NO [NOPERM]"),
        ("SETQUOTA \"\" (STORAGE 510)", "NO [NOPERM]"),
        ("SETQUOTA \"\" ()", "NO [NOPERM]"),
        ("SETQUOTA \"\" (STORAGE)", "BAD"),
        ("GETQUOTA", "BAD"),
        ("GETQUOTAROOT", "BAD"),
    ] {
        let (_, tagged) = a.command(command);
        assert!(tagged.starts_with(answer), "{command}: {tagged}");
    }
    // 4.1.4
    a.ok("SELECT INBOX");
    let size = "STATUS INBOX (MESSAGES DELETED DELETED-STORAGE)";
    let before = texts(a.ok(size));
    assert_eq!(
        before[0],
        "* STATUS INBOX (MESSAGES 1 DELETED 0 DELETED-STORAGE 0)"
    );
    a.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    let bytes = message(15).len();
    let want = format!("* STATUS INBOX (MESSAGES 1 DELETED 1 DELETED-STORAGE {bytes})");
    assert_eq!(texts(a.ok(size))[0], want);
    a.ok("STORE 1 FLAGS.SILENT ()");
    // 4.3.1: two more fit, by number.
    a.ok("COPY 1 Trash");
    a.ok("COPY 1 Trash");
    // The mail that warns of it comes all the same.
    until("no warning", || {
        texts(a.ok("GETQUOTA \"\""))[0].ends_with("MESSAGE 4 3)")
    });
    let over = |a: &mut Imap, command: &str| {
        let (_, tagged) = a.command(command);
        assert!(tagged.starts_with("NO [OVERQUOTA]"), "{command}: {tagged}");
    };
    over(&mut a, "COPY 1 Trash");
    over(&mut a, "UID COPY 1 Archive");
    assert!(append(&mut a, 1).starts_with("NO [OVERQUOTA]"));
    // With a literal that waits, before the message.
    over(&mut a, "APPEND INBOX {5}");
    a.ok("MOVE 1 Trash");
    a.ok("RENAME Trash Bin");
    a.ok("DELETE Bin");
    assert_eq!(
        texts(a.ok("GETQUOTA \"\""))[0],
        "* QUOTA \"\" (STORAGE 1 100 MESSAGE 1 3)"
    );
    // By size.
    assert!(append(&mut a, 1100).starts_with("NO [OVERQUOTA]"));
    assert!(append(&mut a, 900).starts_with("OK"));
    assert!(append(&mut a, 200).starts_with("NO [OVERQUOTA]"));
    let refused = metric(
        &server,
        "posthorn_store_quota_refusals_total{what=\"append\"}",
    );
    assert!(refused >= 4.0, "{refused}");
}

#[test]
fn smtp_refuses_one_and_delivers_to_the_others_also_after_a_crash() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut server = Serving::start(home.path(), AUTH);
    quota(&server, ALICE, &["--bytes", "20K"]);
    let mut s = smtp(&server);
    // 100 KiB are too much for alice before they come, and not for bob.
    says(&mut s, &format!("MAIL FROM:<{SENDER}> SIZE=102400"), "250");
    says(&mut s, &format!("RCPT TO:<{ALICE}>"), "552 5.2.2");
    says(&mut s, &format!("RCPT TO:<{BOB}>"), "250");
    says(&mut s, "RSET", "250");
    // Said to be small: that has room, and is still held to the limit when it is here.
    says(&mut s, &format!("MAIL FROM:<{SENDER}> SIZE=1000"), "250");
    says(&mut s, &format!("RCPT TO:<{ALICE}>"), "250");
    says(&mut s, "DATA", "354");
    s.send(&[&message(400)[..], b".\r\n"].concat()).unwrap();
    assert!(s.reply().unwrap().starts_with("552 5.2.2"));
    // Nothing was said: who may be full comes alone, and the next right behind.
    says(&mut s, &format!("MAIL FROM:<{SENDER}>"), "250");
    says(&mut s, &format!("RCPT TO:<{ALICE}>"), "250");
    says(&mut s, &format!("RCPT TO:<{BOB}>"), "452 4.5.3");
    says(&mut s, "DATA", "354");
    s.send(&[&message(150)[..], b".\r\n"].concat()).unwrap();
    assert!(s.reply().unwrap().starts_with("250"));
    quota(&server, ALICE, &["--messages", "1"]);
    server.logged("near its quota");
    let server = crash(home.path(), server);
    let mut s = smtp(&server);
    says(&mut s, &format!("MAIL FROM:<{SENDER}>"), "250");
    says(&mut s, &format!("RCPT TO:<{BOB}>"), "250");
    says(&mut s, &format!("RCPT TO:<{ALICE}>"), "552 5.2.2");
    says(&mut s, "DATA", "354");
    s.send(&[&message(1)[..], b".\r\n"].concat()).unwrap();
    assert!(s.reply().unwrap().starts_with("250"));
    let shown = quota(&server, BOB, &[]);
    assert_eq!(
        (&shown["messages"], &shown["bytes_limit"]),
        (&json!(1), &Value::Null)
    );
    // She is told once, though that takes her over the limit; also after another crash.
    let warnings = |server: &Serving| {
        let mut a = imap(server, ALICE);
        a.ok("EXAMINE INBOX");
        let found = a.ok("SEARCH FROM postmaster@posthorn.test SUBJECT full");
        found[0].text.matches(char::is_numeric).count()
    };
    until("no warning", || warnings(&server) == 1);
    assert!(metric(&server, "posthorn_store_accounts_near_quota") == 1.0);
    assert!(metric(&server, "posthorn_store_accounts_over_quota") == 1.0);
    let server = crash(home.path(), server);
    let mut s = smtp(&server);
    says(&mut s, &format!("MAIL FROM:<{SENDER}>"), "250");
    says(&mut s, &format!("RCPT TO:<{ALICE}>"), "552 5.2.2");
    assert_eq!(warnings(&server), 1);
    // The commands show the same with a server and without.
    let running = quota(&server, ALICE, &[]);
    assert_eq!(
        (&running["messages"], &running["messages_limit"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(running["bytes_default"], false);
    let list = server.cli.ok(&["account", "list"], "");
    assert_eq!(list["accounts"][0]["bytes_limit"], 20 * 1024);
    let config = server.cli.config.clone();
    assert!(server.stop().success());
    let cli = common::cli::Cli { config };
    assert_eq!(cli.ok(&["account", "quota", ALICE], ""), running);
    cli.fails(2, &["account", "quota", ALICE, "--bytes", "0"], "none");
    let all = [
        "account",
        "quota",
        ALICE,
        "--bytes",
        "none",
        "--messages",
        "default",
    ];
    let set = cli.ok(&all, "");
    assert_eq!(
        (&set["bytes_limit"], &set["messages_default"]),
        (&Value::Null, &json!(true))
    );
}

#[test]
fn of_many_deliveries_at_once_one_finds_room() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start(home.path(), AUTH);
    quota(&server, ALICE, &["--messages", "1"]);
    // All are let in, and come to their end together.
    let ready: Vec<Smtp> = (0..8)
        .map(|n| {
            let mut s = smtp(&server);
            says(&mut s, &format!("MAIL FROM:<{SENDER}> SIZE=100"), "250");
            says(&mut s, &format!("RCPT TO:<{ALICE}>"), "250");
            if n % 2 == 1 {
                says(&mut s, &format!("RCPT TO:<{BOB}>"), "250");
            }
            says(&mut s, "DATA", "354");
            s
        })
        .collect();
    let threads: Vec<_> = ready
        .into_iter()
        .map(|mut s| {
            std::thread::spawn(move || {
                s.send(b"Subject: s\r\n\r\nx\r\n.\r\n").unwrap();
                s.reply().unwrap()
            })
        })
        .collect();
    let replies: Vec<String> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let taken = replies.iter().filter(|r| r.starts_with("250")).count();
    assert_eq!(taken, 1, "{replies:?}");
    // Who has others too comes again, and is told which one is full.
    let wrong = |r: &&String| {
        !["250", "552 5.2.2", "452 4.2.2"]
            .iter()
            .any(|c| r.starts_with(c))
    };
    assert_eq!(replies.iter().find(wrong), None);
    for (n, reply) in replies
        .iter()
        .enumerate()
        .filter(|(_, r)| !r.starts_with("250"))
    {
        let code = if n % 2 == 1 { "452 4.2.2" } else { "552 5.2.2" };
        assert!(reply.starts_with(code), "{n}: {reply}");
    }
    // The warning is one more.
    until("no warning", || quota(&server, ALICE, &[])["messages"] == 2);
}

#[test]
fn a_removal_waits_is_taken_back_and_comes_by_itself() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start(home.path(), AUTH);
    let mut s = smtp(&server);
    let kept = s.deliver(SENDER, &[ALICE], &message(1)).unwrap();
    assert!(kept.starts_with("250"), "{kept}");
    let mut open = imap(&server, ALICE);
    open.ok("SELECT INBOX");
    let remove = ["account", "remove", ALICE, "--yes", "--keep-days", "2"];
    server.cli.ok(&remove, "");
    let bye = open.line().expect("a line").text;
    assert!(bye.starts_with("* BYE"), "{bye}");
    let refuses = |server: &Serving| {
        let mut s = smtp(server);
        says(&mut s, &format!("MAIL FROM:<{SENDER}>"), "250");
        says(&mut s, &format!("RCPT TO:<{ALICE}>"), "550 5.1.1");
        let mut a = Imap::connect(server.base + IMAP).unwrap();
        let (_, tagged) = a.command(&format!("LOGIN {ALICE} {PASSWORD}"));
        assert!(tagged.starts_with("NO"), "{tagged}");
    };
    refuses(&server);
    let add = ["account", "add", ALICE, "--password-stdin"];
    for says in ["posthorn account restore", "without --keep-days"] {
        server.cli.fails(1, &add, says);
    }
    let server = crash(home.path(), server);
    refuses(&server);
    let shown = server.cli.ok(&["account", "show", ALICE], "");
    assert_eq!(shown["account"]["disabled"], true);
    assert!(shown["account"]["remove_at"].is_string(), "{shown}");
    let listed = server.cli.run(&["account", "list"], "").out;
    assert!(listed.contains("disabled, removed at 2"), "{listed}");
    server.cli.ok(&["account", "restore", ALICE], "");
    server
        .cli
        .fails(1, &["account", "restore", ALICE], "not to be removed");
    let mut a = imap(&server, ALICE);
    let uids = a.ok("SELECT INBOX");
    assert!(
        uids.iter().any(|l| l.text.contains("UIDNEXT 2")),
        "{uids:?}"
    );
    let again = smtp(&server)
        .deliver(SENDER, &[ALICE], &message(1))
        .unwrap();
    assert!(again.starts_with("250"), "{again}");

    // What is due while no server runs goes at the start; what is due soon goes while it runs.
    let (base, config) = (server.base, server.cli.config.clone());
    assert!(server.stop().success());
    let late = |name: &str, millis: i64| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let config = Config::load(&config).unwrap().0;
            let mut options = Options {
                subaddress_separator: '+',
                dir: config.data_dir.clone(),
                config: config.store.clone(),
            };
            options.config.reserve_bytes = 0;
            let store = Store::open(options, Telemetry::new().unwrap()).unwrap();
            let address = Address::parse(name).unwrap();
            let id = store.directory().account_by_address(&address).unwrap().id;
            let due = UnixMillis(store.now().0.saturating_add_signed(millis));
            store.account_remove_at(id, due).await.unwrap();
            store.close().await;
        });
    };
    late(ALICE, -1);
    late(BOB, 3000);
    let cli = common::cli::Cli {
        config: config.clone(),
    };
    let server = Serving::launch(home.path(), base, cli, |_| {});
    let there = |name: &str| {
        let list = server.cli.ok(&["account", "list"], "");
        let all = list["accounts"].as_array().unwrap();
        all.iter().any(|account| account["address"] == name)
    };
    until("alice is still there", || !there(ALICE));
    until("bob is still there", || !there(BOB));
    server.cli.ok(&add, PASSWORD);
    let mut a = imap(&server, ALICE);
    let empty = a.ok("SELECT INBOX");
    assert!(empty.iter().any(|l| l.text == "* 0 EXISTS"));
    // Scheduled, and then now.
    server.cli.ok(&remove, "");
    server.cli.ok(&["account", "remove", ALICE, "--yes"], "");
    assert!(!there(ALICE));
}

/// RFC 3502 and RFC 8508, 3.4: all or none, and what is replaced makes room.
#[test]
fn many_at_once_and_in_place_of_another() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start(home.path(), AUTH);
    let mut a = imap(&server, ALICE);
    quota(&server, ALICE, &["--messages", "2"]);
    let count = |a: &mut Imap| a.ok("STATUS INBOX (MESSAGES)")[0].text.clone();
    a.send(b"x APPEND INBOX {1+}\r\na {1+}\r\nb {1+}\r\nc\r\n");
    let tagged = a.until("x").1;
    assert!(tagged.starts_with("NO [OVERQUOTA]"), "{tagged}");
    assert_eq!(count(&mut a), "* STATUS INBOX (MESSAGES 0)");
    a.send(b"x APPEND INBOX {1+}\r\na {1+}\r\nb\r\n");
    assert!(a.until("x").1.starts_with("OK"));
    a.ok("SELECT INBOX");
    a.send(b"x APPEND INBOX {1+}\r\na\r\n");
    assert!(a.until("x").1.starts_with("NO [OVERQUOTA]"));
    a.send(b"x REPLACE 1 INBOX {1+}\r\nc\r\n");
    let tagged = a.until("x").1;
    assert!(tagged.starts_with("OK"), "{tagged}");
    // And the mail that warns, when it has come.
    let there = count(&mut a);
    let right = ["2)", "3)"].map(|n| format!("* STATUS INBOX (MESSAGES {n}"));
    assert!(right.contains(&there), "{there}");
}
