//! Mail that is brought in and taken out, by the real binary on a stopped store and a running
//! server. With Dovecot: `tests/dovecot.rs`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::Server;
use common::cli::{Cli, configure};
use serde_json::Value;

const ALICE: &str = "alice@club.test";

fn store(home: &Path) -> Cli {
    let cli = configure(home);
    cli.ok(&["domain", "add", "club.test"], "");
    for who in [ALICE, "bob@club.test"] {
        cli.ok(&["account", "add", who, "--password-stdin"], "secret1234\n");
    }
    cli
}

/// As Dovecot leaves it: every kind of line end, flags, keywords, UIDs and a folder.
fn maildir(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    for folder in ["", ".Entw&APw-rfe.2026", ".Empty"] {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(dir.join(folder).join(part)).expect("mkdir");
        }
    }
    let files: [(&str, &str, &[u8]); 6] = [
        ("", "cur/100.M1P1.h,S=9:2,Sab", b"A: 1\n\nlf\n"),
        ("", "cur/101.M2P1.h:2,F", b"A: 2\r\n\r\ncrlf\r\n"),
        ("", "cur/102.M3P1.h:2,RT", b"A: 3\n\nmixed\r\nlf\n\r\r\nend"),
        ("", "new/103.M4P1.h", b"A: 4\n\nnew\n"),
        (".Entw&APw-rfe.2026", "cur/9.a.h:2,D", b"A: 5\n\nFrom x\n"),
        (".Entw&APw-rfe.2026", "cur/10.b.h:2,", b""),
    ];
    for (folder, name, bytes) in files {
        fs::write(dir.join(folder).join(name), bytes).expect("write");
    }
    fs::write(dir.join("dovecot-keywords"), "0 $Forwarded\n1 Work\n").expect("write");
    let uids = "3 V1500000000 N20 G00\n5 :100.M1P1.h,S=9\n7 :101.M2P1.h\n9 :102.M3P1.h\n";
    fs::write(dir.join("dovecot-uidlist"), uids).expect("write");
    fs::write(
        dir.join("subscriptions"),
        "V\t2\n\nEntw&APw-rfe\t2026\nGone\n",
    )
    .expect("write");
    let body = |(_, name, bytes): &(&str, &str, &[u8])| {
        let base = name[4..].split(':').next().expect("base");
        (base.to_owned(), bytes.to_vec())
    };
    files.iter().map(body).collect()
}

/// All messages of a Maildir by their content, with folder and letters of flags.
fn contents(dir: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut all = BTreeMap::new();
    for folder in fs::read_dir(dir)
        .expect("dir")
        .map(|e| e.expect("entry").path())
    {
        let parts = match folder.file_name().and_then(|n| n.to_str()) {
            Some("cur" | "new") => vec![folder.clone()],
            Some(name) if name.starts_with('.') => vec![folder.join("cur"), folder.join("new")],
            _ => continue,
        };
        for part in parts {
            for file in fs::read_dir(part)
                .expect("dir")
                .map(|e| e.expect("entry").path())
            {
                let name = file
                    .file_name()
                    .expect("name")
                    .to_string_lossy()
                    .into_owned();
                let letters = name.split(":2,").nth(1).unwrap_or("").to_owned();
                all.insert(fs::read(&file).expect("file"), letters);
            }
        }
    }
    all
}

fn import(cli: &Cli, source: &[&str]) -> Value {
    cli.ok(
        &[&["store", "import", "--account", ALICE], source].concat(),
        "",
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

#[test]
fn a_maildir_goes_in_and_comes_out_byte_for_byte() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = store(home.path());
    let source = home.path().join("Maildir");
    let files = maildir(&source);
    let report = import(&cli, &["--maildir", text(&source)]);
    assert_eq!(report["messages"], 6, "{report}");
    assert_eq!(report["failed"], 0);
    let inbox = &report["mailboxes"][0];
    assert_eq!(
        (&inbox["name"], &inbox["uids_kept"]),
        (&"INBOX".into(), &true.into())
    );
    // Again: nothing is new. Then one more, and one that got other flags.
    let again = import(&cli, &["--maildir", text(&source)]);
    assert_eq!(
        (&again["messages"], &again["known"]),
        (&0.into(), &6.into())
    );
    fs::rename(
        source.join("new/103.M4P1.h"),
        source.join("cur/103.M4P1.h:2,S"),
    )
    .expect("mv");
    fs::write(source.join("new/104.M4P1.h"), b"A: 6\n\n").expect("write");
    let again = import(&cli, &["--maildir", text(&source)]);
    assert_eq!(
        (&again["messages"], &again["known"]),
        (&1.into(), &6.into())
    );

    let target = home.path().join("out");
    let to = [
        "store",
        "export",
        "--account",
        ALICE,
        "--to-maildir",
        text(&target),
    ];
    assert_eq!(cli.ok(&to, "")["messages"], 7);
    let out = contents(&target);
    let mut want: Vec<_> = files
        .values()
        .cloned()
        .chain([b"A: 6\n\n".to_vec()])
        .collect();
    want.sort();
    assert_eq!(out.keys().cloned().collect::<Vec<_>>(), want);
    assert_eq!(out[&files["100.M1P1.h,S=9"]], "Sab");
    assert_eq!(out[&files["102.M3P1.h"]], "RT");
    assert_eq!(out[&files["9.a.h"]], "D");
    let uids = fs::read_to_string(target.join("dovecot-uidlist")).expect("uids");
    let numbers: Vec<_> = uids.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(uids.lines().next(), Some("3 V1500000000 N22"));
    assert_eq!(numbers, ["3", "5", "7", "9", "20", "21"]);
    let keywords = fs::read_to_string(target.join("dovecot-keywords")).expect("keywords");
    assert_eq!(keywords, "0 $Forwarded\n1 Work\n");
    let subscribed = fs::read_to_string(target.join("subscriptions")).expect("subscriptions");
    for name in ["Entw&APw-rfe\t2026\n", "Gone\n", "Sent\n"] {
        assert!(subscribed.contains(name), "{subscribed}");
    }
    // Never over something that is there.
    cli.fails(1, &to, "it is not empty");
    // As IMAP gives them.
    let crlf = home.path().join("crlf");
    let to = [
        "store",
        "export",
        "--all",
        "--crlf",
        "--to-maildir",
        text(&crlf),
    ];
    cli.ok(&to, "");
    let out = contents(&crlf.join(ALICE));
    assert!(out.contains_key(&b"A: 1\r\n\r\nlf\r\n"[..]));
    assert!(crlf.join("bob@club.test/cur").is_dir());
}

#[test]
fn what_cannot_be_taken_is_named_and_the_rest_is_taken() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = store(home.path());
    let source = home.path().join("Maildir");
    maildir(&source);
    fs::write(source.join("cur/50.nul.h:2,"), b"A: b\n\n\0").expect("write");
    fs::create_dir(source.join("cur/51.dir.h:2,")).expect("mkdir");
    let large = fs::File::create(source.join("cur/52.large.h:2,")).expect("file");
    large.set_len(300 * 1024 * 1024).expect("sparse");
    let args = [
        "store",
        "import",
        "--account",
        ALICE,
        "--maildir",
        text(&source),
    ];
    let answer = cli.run(&args, "");
    assert_eq!(answer.status, Some(1), "{}", answer.err);
    for (file, why) in [
        ("50.nul.h", "NUL"),
        ("51.dir.h", "no file"),
        ("52.large.h", "max_append"),
    ] {
        let named = answer
            .err
            .lines()
            .any(|l| l.contains(file) && l.contains(why));
        assert!(named, "{file}: {}", answer.err);
    }
    assert!(answer.out.contains("6 messages"), "{}", answer.out);
    assert!(
        answer.out.contains("3 could not be taken"),
        "{}",
        answer.out
    );
    let nothing = home.path().join("nothing");
    for (args, says) in [
        (&["--maildir", text(&nothing)][..], "No such file"),
        (&["--maildir", text(home.path())], "no Maildir"),
        (&["--mbox", text(&nothing)], "No such file"),
        (
            &["--maildir", text(&source), "--mailbox", "No"],
            "no mailbox No",
        ),
        (
            &["--imap", "127.0.0.1:1", "--user", "u", "--password-stdin"],
            "refused",
        ),
    ] {
        let args = [&["store", "import", "--account", ALICE], args].concat();
        cli.fails(1, &args, says);
    }
    cli.fails(
        1,
        &[
            "store",
            "import",
            "--account",
            "no@club.test",
            "--mbox",
            "x",
        ],
        "there is no account",
    );
    cli.fails(2, &["store", "import", "--account", ALICE], "");
}

#[test]
fn an_mbox_goes_in_and_comes_out_byte_for_byte() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = store(home.path());
    let file = home.path().join("old.mbox");
    let mbox = "From MAILER-DAEMON Thu Jan  1 00:00:07 1970\nA: 1\n\n>From me\n>>From you\n\n\n\
                From MAILER-DAEMON Fri Jan  2 00:00:07 1970\nA: 2\nStatus: RO\n\nx\n\n\
                From MAILER-DAEMON Fri Jan  2 00:00:07 1970\nA: 2\nStatus: RO\n\nx\n\n";
    fs::write(&file, mbox).expect("write");
    let args = ["--mbox", text(&file), "--mailbox", "Old/Mail"];
    assert_eq!(import(&cli, &args)["messages"], 3);
    let again = import(&cli, &args);
    assert_eq!(
        (&again["messages"], &again["known"]),
        (&0.into(), &3.into())
    );
    let target = home.path().join("out");
    let to = [
        "store",
        "export",
        "--account",
        ALICE,
        "--to-mbox",
        text(&target),
    ];
    cli.ok(&to, "");
    let out = fs::read_to_string(target.join("Old/Mail.mbox")).expect("mbox");
    assert_eq!(out, mbox);
    assert!(target.join("INBOX.mbox").is_file());
    // A server's own: its headers go, its UIDs stay.
    let kept = home.path().join("kept.mbox");
    let mbox = "From a Thu Jan  1 00:00:07 1970\nX-IMAPbase: 1500000000 9 Work\nX-UID: 4\n\
                Status: RO\nX-Keywords: Work\nA: 1\n\nx\n\nFrom a Thu Jan  1 00:00:07 1970\n\
                X-UID: 8\nX-Status: F\nA: 2\n\ny\n\n";
    fs::write(&kept, mbox).expect("write");
    let report = import(&cli, &["--mbox", text(&kept), "--mailbox", "Kept"]);
    assert_eq!(report["mailboxes"][0]["uids_kept"], true);
    let target = home.path().join("out2");
    let to = [
        "store",
        "export",
        "--account",
        ALICE,
        "--to-maildir",
        text(&target),
    ];
    cli.ok(&to, "");
    let uids = fs::read_to_string(target.join(".Kept/dovecot-uidlist")).expect("uids");
    let numbers: Vec<_> = uids.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["3", "4", "8"]);
    assert!(uids.starts_with("3 V1500000000 N10\n"), "{uids}");
    let all = contents(&target);
    assert_eq!(all[&b"A: 1\n\nx\n"[..]], "Sa");
    assert_eq!(all[&b"A: 2\n\ny\n"[..]], "F");
}

#[test]
fn courier_is_read_too() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = store(home.path());
    let source = home.path().join("Maildir");
    for part in ["cur", "new", "tmp", ".Sent.Old/cur", "courierimapkeywords"] {
        fs::create_dir_all(source.join(part)).expect("mkdir");
    }
    fs::write(source.join("cur/1.a.h:2,S"), b"A: 1\n\nx\n").expect("write");
    fs::write(source.join(".Sent.Old/cur/1.b.h:2,"), b"A: 2\n\nx\n").expect("write");
    fs::write(
        source.join("courierimapuiddb"),
        "1 1400000000 12\n11 1.a.h\n",
    )
    .expect("write");
    fs::write(
        source.join("courierimapsubscribed"),
        "INBOX\nINBOX.Sent.Old\n",
    )
    .expect("write");
    fs::write(
        source.join("courierimapkeywords/:list"),
        "Work\n\n1.a.h:0\n",
    )
    .expect("write");
    let report = import(&cli, &["--maildir", text(&source)]);
    assert_eq!(report["messages"], 2, "{report}");
    let target = home.path().join("out");
    let to = [
        "store",
        "export",
        "--account",
        ALICE,
        "--to-maildir",
        text(&target),
    ];
    cli.ok(&to, "");
    let uids = fs::read_to_string(target.join("dovecot-uidlist")).expect("uids");
    assert!(uids.starts_with("3 V1400000000 N12\n11 :"), "{uids}");
    assert_eq!(contents(&target)[&b"A: 1\n\nx\n"[..]], "Sa");
    let subscribed = fs::read_to_string(target.join("subscriptions")).expect("subscriptions");
    assert!(subscribed.contains("Sent\tOld\n"), "{subscribed}");
}

/// A Maildir of this many small messages.
fn many(dir: &Path, count: u32) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(dir.join(part)).expect("mkdir");
    }
    let mut uids = "3 V1500000000 N1\n".to_owned();
    for n in 1..=count {
        let base = format!("{n}.M1P1.h");
        fs::write(dir.join(format!("cur/{base}:2,")), format!("N: {n}\n\nx\n")).expect("write");
        uids.push_str(&format!("{n} :{base}\n"));
    }
    fs::write(dir.join("dovecot-uidlist"), uids).expect("write");
}

fn demo_cli(data: &Path, home: &Path) -> Cli {
    let config = home.join("posthorn.toml");
    let text = format!(
        "hostname = \"mail.posthorn.test\"\ndata_dir = {:?}\n",
        text(data)
    );
    fs::write(&config, text).expect("write");
    Cli { config }
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was() {
    const COUNT: u32 = 6000;
    let home = tempfile::tempdir().expect("tempdir");
    let (data, source) = (home.path().join("data"), home.path().join("Maildir"));
    many(&source, COUNT);
    let cli = demo_cli(&data, home.path());
    let bob = "bob@posthorn.test";
    let args = [
        "store",
        "import",
        "--account",
        bob,
        "--mailbox",
        "INBOX",
        "--maildir",
        text(&source),
    ];
    let spawn = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .arg("--config")
            .arg(&cli.config)
            .args(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it starts")
    };
    let mut server = Server::start(&data, &[]);
    let inbox = |server: &Server| -> u32 {
        let mut imap = server.imap(bob);
        let lines = imap.ok("STATUS INBOX (MESSAGES)");
        let line = lines
            .iter()
            .find(|l| l.text.contains("MESSAGES"))
            .expect("STATUS");
        let digits: String = line.text.chars().filter(char::is_ascii_digit).collect();
        digits.parse().expect("number")
    };
    // The demo has mail in it already.
    let before = inbox(&server);
    // The command is killed, then the server, each in the middle.
    for round in 0..2 {
        let had = inbox(&server);
        let mut command = spawn();
        let until = std::time::Instant::now() + common::PATIENCE;
        while inbox(&server) < had + 200 && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if round == 0 {
            command.kill().expect("kill");
        } else {
            server.kill();
            server = Server::start(&data, &[]);
        }
        command.wait().expect("wait");
        let now = inbox(&server);
        assert!(
            (had + 200..before + COUNT).contains(&now),
            "{now}: it was in the middle"
        );
    }
    let had = inbox(&server) - before;
    let report = cli.ok(&args, "");
    assert_eq!(report["known"], had);
    assert_eq!(report["messages"], COUNT - had);
    // All once, and no phone was woken for any.
    assert_eq!(inbox(&server), before + COUNT);
    let target = home.path().join("out");
    cli.ok(
        &[
            "store",
            "export",
            "--account",
            bob,
            "--to-maildir",
            text(&target),
        ],
        "",
    );
    let out = contents(&target);
    for n in 1..=COUNT {
        assert!(out.contains_key(format!("N: {n}\n\nx\n").as_bytes()), "{n}");
    }
    let metrics = server.http_get("/metrics").expect("metrics");
    let planned = metrics
        .lines()
        .find(|l| l.starts_with("posthorn_push_wakeups_total"));
    assert!(planned.is_none_or(|l| l.ends_with(" 0")), "{planned:?}");
    let status = cli.ok(&["status"], "");
    assert_eq!(status["status"]["outbox"], 0, "{status}");
}

#[test]
fn one_import_into_an_account_at_a_time_and_an_export_while_the_server_runs() {
    let home = tempfile::tempdir().expect("tempdir");
    let (data, source) = (home.path().join("data"), home.path().join("Maildir"));
    let files = maildir(&source);
    let cli = demo_cli(&data, home.path());
    let server = Server::start(&data, &[]);
    let bob = "bob@posthorn.test";
    let mut smtp = server.smtp();
    let mail = "Subject: first\r\n\r\nhello\r\n.";
    for line in [
        "MAIL FROM:<a@b.test>",
        &format!("RCPT TO:<{bob}>"),
        "DATA",
        mail,
    ] {
        smtp.command(line).expect("SMTP");
    }
    let args = [
        "store",
        "import",
        "--account",
        bob,
        "--maildir",
        text(&source),
    ];
    // Asks, and then says nothing.
    use std::io::{Read, Write};
    let mut first =
        std::os::unix::net::UnixStream::connect(data.join("admin.sock")).expect("socket");
    let request = format!("{{\"op\":\"import\",\"address\":\"{bob}\"}}\n");
    first.write_all(request.as_bytes()).expect("write");
    first.read_exact(&mut [0; 4]).expect("it begins");
    cli.fails(1, &args, "another import into this account");
    drop(first);
    let until = std::time::Instant::now() + common::PATIENCE;
    let report = loop {
        let answer = cli.run(&[&["--json"], &args[..]].concat(), "");
        if answer.status == Some(0) {
            break serde_json::from_str::<Value>(&answer.out).expect("JSON");
        }
        assert!(
            std::time::Instant::now() < until,
            "{}{}",
            answer.out,
            answer.err
        );
    };
    assert_eq!(report["messages"], 6);
    // INBOX had mail before.
    assert_eq!(report["mailboxes"][0]["uids_kept"], false);
    let target: PathBuf = home.path().join("out");
    cli.ok(
        &[
            "store",
            "export",
            "--account",
            bob,
            "--to-maildir",
            text(&target),
        ],
        "",
    );
    let out = contents(&target);
    for file in files.values() {
        assert!(
            out.contains_key(file),
            "{:?}",
            String::from_utf8_lossy(file)
        );
    }
    let mut imap = server.imap(bob);
    let lines = imap.ok("LIST \"\" \"Entw*\"");
    assert!(
        lines.iter().any(|l| l.text.contains("Entw&APw-rfe/2026")),
        "{lines:?}"
    );
}

#[test]
fn another_posthorn_gives_its_mail_over_tls_and_starttls() {
    let home = tempfile::tempdir().expect("tempdir");
    let data = home.path().join("data");
    let server = Server::start_secure(&data);
    let bob = "bob@posthorn.test";
    let source = home.path().join("Maildir");
    maildir(&source);
    let demo = demo_cli(&data, home.path());
    demo.ok(
        &[
            "store",
            "import",
            "--account",
            bob,
            "--maildir",
            text(&source),
        ],
        "",
    );
    let other = home.path().join("other");
    fs::create_dir(&other).expect("mkdir");
    let cli = store(&other);
    let ca = text(&data).to_owned() + "/tls/certificate.pem";
    let password = format!("{}\n", common::PASSWORD);
    let at = |port: u16, tls: &str, more: &[&str]| {
        let server = format!("localhost:{}", server.port(port));
        let args = [
            "--json",
            "store",
            "import",
            "--account",
            ALICE,
            "--user",
            bob,
            "--imap",
            &server,
            "--password-stdin",
            "--tls",
            tls,
        ];
        cli.run(&[&args, more].concat(), &password)
    };
    // A certificate that nobody trusts.
    let refused = at(common::IMAPS, "implicit", &[]);
    assert_eq!(refused.status, Some(1), "{}", refused.out);
    for (port, tls) in [(common::IMAPS, "implicit"), (common::IMAP, "starttls")] {
        let answer = at(port, tls, &["--ca", &ca]);
        assert_eq!(answer.status, Some(0), "{}{}", answer.out, answer.err);
        let report: Value = serde_json::from_str(&answer.out).expect("JSON");
        // Another port is another server: nothing is known of what came of the first.
        assert_eq!(report["messages"], 6, "{report}");
    }
    let target = other.join("out");
    cli.ok(
        &[
            "store",
            "export",
            "--account",
            ALICE,
            "--to-maildir",
            text(&target),
        ],
        "",
    );
    // By IMAP everything has CRLF, so what had other line ends comes out with LF.
    let out = contents(&target);
    assert_eq!(out[&b"A: 1\n\nlf\n"[..]], "Sab");
    assert_eq!(out[&b"A: 5\n\nFrom x\n"[..]], "D");
    assert!(target.join(".Entw&APw-rfe.2026/cur").is_dir());
}
