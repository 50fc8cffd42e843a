//! curl, which speaks SMTP and IMAP.

use std::process::Command;

use super::common::{IMAP, IMAPS, PASSWORD, SMTP, have};
use super::trace::{Trace, has};
use super::{ALICE, demo, run};

#[test]
fn curl_smtp_and_imap() {
    if !have("curl") {
        return;
    }
    let (home, server) = demo();
    let mail = home.path().join("mail");
    std::fs::write(&mail, "Subject: by curl\r\n\r\nhello\r\n").expect("write");
    run(Command::new("curl")
        .args([
            "-sS",
            "--url",
            &format!("smtp://127.0.0.1:{}/client.test", server.port(SMTP)),
        ])
        .args(["--mail-from", "c@example.net", "--mail-rcpt", ALICE, "-T"])
        .arg(&mail));
    let output = run(Command::new("curl")
        .args(["-sSk", "--user", &format!("{ALICE}:{PASSWORD}")])
        .arg(format!(
            "imaps://127.0.0.1:{}/INBOX;UID=1",
            server.port(IMAPS)
        )));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.ends_with("Subject: by curl\r\n\r\nhello\r\n"),
        "{text}"
    );
    assert!(text.contains("Received: from client.test"), "{text}");
}

#[test]
fn curl_uploads_searches_and_asks() {
    if !have("curl") {
        return;
    }
    let (home, server) = demo();
    let trace = Trace::before(server.port(IMAP));
    let plain = format!("imap://127.0.0.1:{}", trace.port);
    let curl = |path: &str, arguments: &[&str]| {
        let output = run(Command::new("curl")
            .args(["-sSk", "--user", &format!("{ALICE}:{PASSWORD}")])
            .args(arguments)
            .arg(path));
        String::from_utf8(output.stdout).expect("utf-8")
    };
    let ask = |path: &str, arguments: &[&str]| curl(&format!("{plain}{path}"), arguments);
    for n in 1..=3 {
        let mail = home.path().join("mail");
        let text = format!("Subject: number {n}\r\nMessage-ID: <{n}@c.test>\r\n\r\nbody {n}\r\n");
        std::fs::write(&mail, text).expect("write");
        ask("/Drafts", &["-T", mail.to_str().expect("utf-8")]);
    }
    let list = ask("/", &[]);
    for line in [
        "* LIST (\\HasNoChildren) \"/\" INBOX\r\n",
        "* LIST (\\HasNoChildren \\Drafts) \"/\" Drafts\r\n",
    ] {
        assert!(list.contains(line), "{list}");
    }
    for (path, answer) in [
        ("/Drafts?ALL", "* SEARCH 1 2 3\r\n"),
        (
            "/Drafts?SUBJECT%20%22number%202%22%20UNSEEN",
            "* SEARCH\r\n",
        ),
        (
            "/Drafts?SUBJECT%20%22number%202%22%20SEEN",
            "* SEARCH 2\r\n",
        ),
        ("/Drafts;MAILINDEX=2;SECTION=TEXT", "body 2\r\n"),
        (
            "/Drafts;UID=3;SECTION=HEADER.FIELDS%20(SUBJECT)",
            "Subject: number 3\r\n\r\n",
        ),
        ("/Drafts;UID=*;PARTIAL=9.8", "number 3"),
    ] {
        assert_eq!(ask(path, &[]), answer, "{path}");
    }
    for (path, command, answer) in [
        (
            "/",
            "STATUS Drafts (MESSAGES UIDNEXT)",
            "* STATUS Drafts (MESSAGES 3 UIDNEXT 4)\r\n",
        ),
        (
            "/Drafts",
            "FETCH 1 (UID FLAGS RFC822.SIZE)",
            "* 1 FETCH (UID 1 FLAGS (\\Seen) RFC822.SIZE 53)\r\n",
        ),
        (
            "/Drafts",
            "STORE 1 +FLAGS (\\Deleted)",
            "* 1 FETCH (FLAGS (\\Deleted \\Seen))\r\n",
        ),
        ("/Drafts", "EXPUNGE", "* 1 EXPUNGE\r\n"),
        (
            "/Drafts",
            "SEARCH RETURN (COUNT) ALL",
            "* ESEARCH (TAG \"A004\") COUNT 2\r\n",
        ),
    ] {
        assert_eq!(ask(path, &["-X", command]), answer, "{command}");
    }
    has(&trace.take(), " AUTHENTICATE PLAIN ");

    // Over TLS, from the start and by STARTTLS, with each mechanism that it has.
    let imaps = format!("imaps://127.0.0.1:{}/Drafts?ALL", server.port(IMAPS));
    for mechanism in ["AUTH=PLAIN", "AUTH=LOGIN"] {
        let options = ["--login-options", mechanism];
        assert_eq!(curl(&imaps, &options), "* SEARCH 1 2\r\n", "{mechanism}");
        let options = [&options[..], &["--ssl-reqd", "--sasl-ir"]].concat();
        assert_eq!(
            ask("/Drafts?ALL", &options),
            "* SEARCH 1 2\r\n",
            "{mechanism}"
        );
    }
}
