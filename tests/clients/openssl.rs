//! `openssl s_client`, with which people look whether a server is there.

use std::io::Write;
use std::process::Stdio;

use super::common::{IMAP, IMAPS, PASSWORD, have};
use super::{ALICE, demo, patient};

/// What the server says to these lines.
fn say(port: u16, arguments: &[&str], lines: &[&str]) -> String {
    let mut child = patient("openssl")
        .args(["s_client", "-quiet", "-crlf"])
        .args(["-connect", &format!("127.0.0.1:{port}")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let text = lines.join("\n") + "\n";
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(text.as_bytes()).expect("write");
    drop(stdin);
    let output = child.wait_with_output().expect("openssl");
    String::from_utf8(output.stdout).expect("utf-8")
}

#[test]
fn openssl_s_client_logs_in_over_tls() {
    if !have("openssl") {
        return;
    }
    let (_home, server) = demo();
    let login = format!("a LOGIN {ALICE} {PASSWORD}");
    let lines = [&login, "b SELECT INBOX", "c UID SEARCH ALL", "d LOGOUT"];
    for version in ["-tls1_2", "-tls1_3"] {
        for (port, starttls) in [(IMAP, &["-starttls", "imap"][..]), (IMAPS, &[])] {
            let arguments = [&[version], starttls].concat();
            let said = say(server.port(port), &arguments, &lines);
            let mut rest = said.as_str();
            for answer in [
                "a OK [CAPABILITY IMAP4rev1 ",
                "* 0 EXISTS\r\n",
                "b OK [READ-WRITE] ",
                "* SEARCH\r\nc OK ",
                "* BYE ",
                "d OK ",
            ] {
                let at = rest.find(answer);
                let at = at.unwrap_or_else(|| panic!("no {answer:?} in {said}"));
                rest = &rest[at..];
            }
            // Over TLS nothing of STARTTLS is offered, and no password is refused.
            assert!(!said.contains("LOGINDISABLED"), "{said}");
            assert!(!said.contains(" STARTTLS"), "{said}");
        }
    }
}
